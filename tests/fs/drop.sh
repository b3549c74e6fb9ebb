#!/bin/bash
# SPDX-License-Identifier: MIT
# Tokens are dropped for who asked for it, of nothing else, whole or not at all; what is
# left is the file that kvlm makes of the same tokens.
. "$(dirname "$0")/../lib/case.sh"
case_begin
need_root
need setfattr python3
kvlm=$BUILD/tools/kvlm/kvlm
need_built "$kvlm"
opts=policy=lru,dram=64M,settle=1h,allow_other
mount_fs -o $opts
get() { getfattr --absolute-names --only-values -n "user.kvcache.$1" "$2" 2>/dev/null; }
put() { setfattr -n "user.kvcache.$1" -v "$2" "$3"; }
model=$ROOT/tools/kvlm/model/kvlm.gguf
for f in llama safetensors; do
	expect "$kvlm" corpus "$model" --tasks "$ROOT/tools/kvlm/tasks" --out "$T/$f" --contexts 1 --tokens 200 \
		--format $f --threads 1 >/dev/null
done
ref=$(echo "$T"/llama/context-*) st=$(echo "$T"/safetensors/context-*)
# a llama.cpp state names no heads: a row counts as one
for m in keydiff:0.5 knorm:0.25 window:0.125; do
	"$kvlm" quant "$ref" --heads 1 --method $m --save "$T/$m" >/dev/null || fail "kvlm quant $m"
done
"$kvlm" quant "$st" --method keydiff:0.5 --save "$T/st" >/dev/null || fail "kvlm quant of safetensors"

# what readers accept is inherited as grants are; nothing is dropped without both
mkdir "$MNT/g" "$MNT/foreign"
expect_errno EINVAL put accept gaps "$MNT/g"
expect put quality 0 "$MNT/g"
cp "$ref" "$MNT/g/early"
expect put accept drop "$MNT/g"
chown 10001 "$MNT/foreign"
expect put accept drop "$MNT/foreign"
expect put quality 0 "$MNT/foreign"
cp "$ref" "$MNT/foreign/a"
cp "$ref" "$MNT/g/a"
expect_eq "$(get accept "$MNT/g/a")" drop "inherited from root"
expect_eq "$(get accept "$MNT/g/early")$(get accept "$MNT/foreign/a")" "" "not inherited later, nor from others"
a=$MNT/g/a
refused() { # ERRNO WORDS FILE [LEVEL]
	sleep 0.11 # one line of the log in so long
	expect_errno "$1" put level "${4:-drop:keydiff:0.5}" "$3"
	grep -q "$2" "$LOG" || fail "the log does not say '$2'"
	expect_same "$ref" "$3"
}
refused EPERM 'user.kvcache.accept is not drop' "$MNT/g/early"
refused EINVAL 'takes drop:METHOD:SHARE' "$a" drop:snapkv:0.5
refused EINVAL 'takes drop:METHOD:SHARE' "$a" drop:keydiff:2
expect put quality 1 "$a"
refused EPERM 'no quality below 1' "$a"
expect put quality 0.5 "$a"
refused EPERM 'quality is below' "$a"
expect put quality 0 "$a"
expect setfattr -n user.vllm.kv_crc32c -v 12 "$a"
refused EOPNOTSUPP 'must stay exact' "$a"
expect setfattr -x user.vllm.kv_crc32c "$a"
exec 5<"$a"
expect_errno EBUSY put level drop:keydiff:0.5 "$a"
exec 5<&-
refused EOPNOTSUPP 'no token would go' "$a" drop:window:0.999999
case "$(get reason "$a")" in *'no token would go'*) ;; *) fail "reason: $(get reason "$a")" ;; esac
kvdata st 300000 1 "$MNT/g/other"
expect_errno EOPNOTSUPP put level drop:keydiff:0.5 "$MNT/g/other"
chmod 666 "$a"
AS_UID=10002 expect_errno EPERM as_user setfattr -n user.kvcache.level -v drop:keydiff:0.5 "$a"
expect_eq "$(get positions "$a")" 0-199 "positions of a whole file"
expect_fail getfattr --only-values -n user.kvcache.positions "$MNT/g/other"

# positions that a file of kvlm holds, as ranges
ranges() {
	python3 - "$1" <<'PY'
import struct, sys
d = open(sys.argv[1], "rb").read()
n = struct.unpack_from("<I", d, 8)[0]
cells = struct.unpack_from("<I", d, 16 + 4 * n)[0]
pos, out = [struct.unpack_from("<i", d, 20 + 4 * n + 12 * i)[0] for i in range(cells)], []
for p in pos:
    if out and out[-1][1] == p - 1: out[-1][1] = p
    else: out.append([p, p])
print(",".join(f"{a}-{b}" if a != b else f"{a}" for a, b in out))
PY
}
dropped() { # FILE EXPECTED
	expect_eq "$(stat -c %s "$1")" "$(stat -c %s "$2")" "size"
	expect_same "$2" "$1"
	expect_eq "$(get level "$1")" drop "level"
	expect_eq "$(get positions "$1")" "$(ranges "$2")" "positions"
}
# of a plain file, that was read and mapped before
python3 -c 'import mmap, sys; f = open(sys.argv[1], "rb"); mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)[:]' "$a"
touch -d @1000000000.5 "$a"
expect put level drop:keydiff:0.5 "$a"
dropped "$a" "$T/keydiff:0.5"
expect_eq "$(stat -c %.9Y "$a")" 1000000000.500000000 "mtime"
expect_eq "$(get state "$a")" sealed
# of sealed ones, in memory and not, and of one that was written to since
for where in ssd dram copy; do
	f=$MNT/g/$where
	cp "$ref" "$f"
	expect put seal 1 "$f"
	expect put move $where "$f"
	cat "$f" >/dev/null
	expect put level drop:knorm:0.25 "$f"
	dropped "$f" "$T/knorm:0.25"
done
f=$MNT/g/over
cp "$ref" "$f"
expect put seal 1 "$f"
printf x | dd of="$f" bs=1 seek=$(($(stat -c %s "$ref") - 1)) conv=notrunc status=none
cp "$f" "$T/over"
expect put level drop:window:0.125 "$f"
"$kvlm" quant "$T/over" --heads 1 --method window:0.125 --save "$T/over.want" >/dev/null || fail "kvlm quant"
dropped "$f" "$T/over.want"
# safetensors: kvlm's has a note more
f=$MNT/g/st
cp "$st" "$f"
expect put level drop:keydiff:0.5 "$f"
expect python3 - "$f" "$T/st" <<'PY'
import json, sys
def parts(p):
    d = open(p, "rb").read()
    n = int.from_bytes(d[:8], "little")
    j = json.loads(d[8:8 + n])
    j["__metadata__"].pop("note", 0)
    return j, d[8 + n:]
assert parts(sys.argv[1]) == parts(sys.argv[2])
PY
expect "$kvlm" info "$f" >/dev/null

# readers that come and go meanwhile get the whole or what is left, never a mixture
cp "$ref" "$MNT/g/race"
expect put seal 1 "$MNT/g/race"
expect python3 - "$MNT/g/race" "$ref" "$T/keydiff:0.5" <<'PY'
import errno, mmap, os, random, sys, threading, time
path, whole, left = sys.argv[1], open(sys.argv[2], "rb").read(), open(sys.argv[3], "rb").read()
done, bad = False, []
def reader(pause):
    while not done:
        with open(path, "rb") as f:
            was = os.fstat(f.fileno()).st_size
            got = f.read() if pause else mmap.mmap(f.fileno(), was, prot=mmap.PROT_READ)[:]
        if got != whole and got != left or was != len(got):
            bad.append((was, len(got)))
        time.sleep(0.2 + 100 * pause * random.random())
threads = [threading.Thread(target=reader, args=(p,)) for p in (0, 0.003)]
for t in threads: t.start()
try:
    end = time.time() + 5
    while time.time() < end:
        try:
            os.setxattr(path, "user.kvcache.level", b"drop:keydiff:0.5")
            break
        except OSError as e:
            assert e.errno == errno.EBUSY, e
            time.sleep(0.1)
finally:
    time.sleep(0.1)
    done = True
    for t in threads: t.join()
assert not bad, bad
with open(path, "rb") as f:
    assert f.read() in (whole, left)
PY

# what is gone is gone, and a second drop is of what is left
expect_errno EOPNOTSUPP put level exact "$a"
expect_errno EOPNOTSUPP put quality 1 "$a"
expect_errno EOPNOTSUPP setfattr -n user.vllm.kv_crc32c -v 12 "$a"
expect put level drop:window:0.5 "$a"
"$kvlm" quant "$T/keydiff:0.5" --heads 1 --method window:0.5 --save "$T/twice" >/dev/null || fail "kvlm quant"
dropped "$a" "$T/twice"
remount_fs
dropped "$a" "$T/twice"
dropped "$MNT/g/dram" "$T/knorm:0.25"
# written anew it is whole again
cp "$ref" "$a"
expect_eq "$(get level "$a")" exact
expect_same "$ref" "$a"
umount_fs
expect "$BUILD/tools/fsck/fsck.kvcachefs" --verify "$STORE" >/dev/null

# a step that fails before the switch changes nothing; after it, nothing is lost
mount_fs -o $opts
cp "$ref" "$MNT/g/plain"
umount_fs
for fault in thin.object thin.before_switch thin.cut; do
	KVCACHEFS_FAULT=$fault:1=eio mount_fs -o $opts
	cp "$ref" "$MNT/g/plain"
	if setfattr -n user.kvcache.level -v drop:keydiff:0.5 "$MNT/g/plain" 2>/dev/null; then
		[ $fault = thin.cut ] || skip "built without -Dfaults=true"
	else
		expect_same "$ref" "$MNT/g/plain"
		expect put level drop:keydiff:0.5 "$MNT/g/plain"
	fi
	dropped "$MNT/g/plain" "$T/keydiff:0.5"
	umount_fs
done

# killed at every step, of a plain or a sealed file: the old content or the new
mount_fs -o $opts
cp "$ref" "$MNT/g/plain"
cp "$ref" "$MNT/g/sealed"
expect put seal 1 "$MNT/g/sealed"
umount_fs
cp -a "$STORE" "$T/before"
for step in thin.intent/plain thin.chunk/sealed thin.object/plain thin.before_switch/sealed \
	thin.switched/plain thin.switched/sealed thin.cut/sealed seal.punched/plain seal.done/sealed; do
	fault=${step%/*} f=${step#*/}
	rm -rf "$STORE"
	cp -a "$T/before" "$STORE"
	KVCACHEFS_FAULT=$fault:1=kill mount_fs -o $opts
	! timeout 20 setfattr -n user.kvcache.level -v drop:keydiff:0.5 "$MNT/g/$f" 2>/dev/null ||
		skip "built without -Dfaults=true"
	clear_fs
	if [ $step = thin.switched/plain ]; then # what --repair makes of it
		"$BUILD/tools/fsck/fsck.kvcachefs" --repair "$STORE" >/dev/null 2>&1
	fi
	mount_fs -o $opts
	case $fault in
	thin.switched | thin.cut | seal.*) want=$T/keydiff:0.5 ;;
	*) want=$ref ;;
	esac
	expect_eq "$(stat -c %s "$MNT/g/$f")" "$(stat -c %s "$want")" "size after $fault"
	expect_same "$want" "$MNT/g/$f"
	umount_fs
	expect "$BUILD/tools/fsck/fsck.kvcachefs" --verify "$STORE" >/dev/null
	expect_eq "$(find "$STORE/objects" -type f | wc -l)" "$(find "$STORE/tree" -type f -exec \
		getfattr --absolute-names -n trusted.kvcf -e hex {} + | grep -c '=0x..0[12]')" "objects after $fault"
done
case_end
