#!/bin/bash
# SPDX-License-Identifier: MIT
# du, cp -a, rsync -aX, tar --xattrs, getfattr, ls or cat through the mount do not do
# what an operator expects of them, into it and out of it; fsck shows no progress.
# TIMEOUT: 60
. "$(dirname "$0")/../lib/case.sh"
case_begin
need_root
need rsync tar setfattr getfattr python3
FSCK=$BUILD/tools/fsck/fsck.kvcachefs
need_built "$FSCK"
mount_fs -o allow_other,dram=64M,settle=1h

# a tree as engines leave it: K and V, text, a link, a second name, a sparse file
tree=$T/tree
mkdir -p "$tree/sub" "$T/x"
kvdata bf16 4000000 1 "$tree/kv.bin"
kvdata st 1000000 2 "$tree/sub/model.safetensors"
kvdata text 200000 3 "$tree/note"
truncate -s 3M "$tree/sparse" && printf end >>"$tree/sparse"
ln -s kv.bin "$tree/link"
ln "$tree/kv.bin" "$tree/sub/second"
: >"$tree/empty"
setfattr -n user.checksum -v 0x00ff10 "$tree/kv.bin"
setfattr -n user.owner -v them "$tree/sub"
chmod 640 "$tree/note"; chmod 2750 "$tree/sub"; chown -R 10001:10002 "$tree"; chmod 640 "$tree/note"; chmod 2750 "$tree/sub"
touch -d '2021-03-04 05:06:07.123456789' "$tree"/{kv.bin,note,sub/model.safetensors} "$tree/sub"

# everything that a copy should keep, in one text
described() {
	(cd "$1" && find . -mindepth 1 -printf '%P %y %m %U:%G %n %l' \( -type f -printf ' %s %T@' -o -printf ' ' \) -printf '\n' | sort &&
		getfattr -R -h -d -m 'user\.(checksum|owner)' -e hex . 2>/dev/null | sed 's/^# file: //' | sort &&
		find . -type f | sort | xargs sha256sum)
}
described "$tree" >"$T/want"
same() {
	described "$1" >"$T/got"
	diff "$T/want" "$T/got" >&2 || fail "$2"
}
cp -a "$tree" "$MNT/cp" && same "$MNT/cp" "cp -a into the mount"
rsync -aXHS "$tree/" "$MNT/rsync" && same "$MNT/rsync" "rsync -aX into the mount"
tar -C "$tree" --xattrs -cf - . | (mkdir "$MNT/tar" && tar -C "$MNT/tar" --xattrs --xattrs-include='user.*' -xpf -)
same "$MNT/tar" "tar --xattrs into the mount"

# sealed, and with a setting: nothing else changes
for f in cp/kv.bin cp/sub/model.safetensors; do
	setfattr -n user.kvcache.seal -v 1 "$MNT/$f" || fail "seal $f"
done
same "$MNT/cp" "what is seen of sealed files"
expect_eq "$(getfattr --absolute-names -d "$MNT/cp/kv.bin" | grep -c =)" 1 "xattrs listed of a sealed file"
setfattr -n user.kvcache.pin -v 1 "$MNT/cp/kv.bin"
cp -a "$MNT/cp" "$T/x/cp" && same "$T/x/cp" "cp -a out of the mount"
expect_eq "$(getfattr --absolute-names --only-values -n user.kvcache.pin "$T/x/cp/kv.bin")" 1 "the setting goes along"
rsync -aXHS "$MNT/cp/" "$T/x/rsync" && same "$T/x/rsync" "rsync -aX out of the mount"
expect_eq "$(rsync -aXHSi "$MNT/cp/" "$T/x/rsync")" "" "a second rsync has nothing to do"
expect_eq "$(rsync -aXHSic "$T/x/rsync/" "$MNT/cp")" "" "nor has one back, by checksum"
tar -C "$MNT/cp" --xattrs -cf "$T/x/tar.tar" . && mkdir "$T/x/tar" &&
	tar -C "$T/x/tar" --xattrs --xattrs-include='user.*' -xpf "$T/x/tar.tar"
same "$T/x/tar" "tar --xattrs out of the mount"
expect tar -C "$MNT/cp" --xattrs -df "$T/x/tar.tar"
cat "$MNT/cp/kv.bin" "$MNT/cp/note" | cmp - <(cat "$tree/kv.bin" "$tree/note") || fail "cat"
expect_eq "$(ls "$MNT/cp")" "$(ls "$tree")" ls
expect_eq "$(ls -l "$MNT/cp/kv.bin" | awk '{ print $1, $2, $5 }')" "-rw-r--r-- 2 4000000" "ls -l"

# du: what is stored, and as written; each inode once
stored=$(getfattr --absolute-names --only-values -n user.kvcache.stored_bytes "$MNT/cp/kv.bin")
expect_between "$stored" 1000000 3600000 "stored bytes"
expect_between "$(du -B1 "$MNT/cp/kv.bin" | cut -f1)" $((stored - 4096)) $((stored + 65536)) du
expect_eq "$(du -b "$MNT/cp/kv.bin" | cut -f1)" 4000000 "du -b"
expect_between "$(du -B1 -s "$MNT/cp" | cut -f1)" "$stored" 4400000 "du -s"
umount_fs

# fsck's bar: stopped in the middle for so long that it is worth one
expect "$FSCK" -n --verify "$STORE" >"$T/out"
cat >"$T/bar.py" <<'PY'
import os, pty, signal, sys, time
pid, fd = pty.fork()
if pid == 0:
    os.environ["KVCACHEFS_FAULT"] = "fsck.verify:2=stop"
    os.execv(sys.argv[1], sys.argv[1:])
_, status = os.waitpid(pid, os.WUNTRACED)
if not os.WIFSTOPPED(status):
    sys.exit(77)
time.sleep(1.1)
os.kill(pid, signal.SIGCONT)
seen = b""
try:
    while part := os.read(fd, 65536):
        seen += part
except OSError:
    pass
_, status = os.waitpid(pid, 0)
sys.stdout.buffer.write(seen)
sys.exit(os.waitstatus_to_exitcode(status))
PY
python3 "$T/bar.py" "$FSCK" -n --verify "$STORE" >"$T/out" 2>&1
case $? in
0) grep -qE 'verifying \[[#.]+\] [0-9.]+ of [0-9.]+ GB' "$T/out" || fail "no progress: $(cat "$T/out")" ;;
77) note "built without faults: fsck's bar is not looked at" ;;
*) fail "fsck on a terminal: $(cat "$T/out")" ;;
esac
! "$FSCK" -n --verify "$STORE" 2>&1 | grep -q 'verifying' || fail "a bar without a terminal"
case_end
