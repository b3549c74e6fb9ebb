#!/bin/bash
# SPDX-License-Identifier: MIT
# A mounted store copied by rsync -aX mounts elsewhere and reads bit for bit, with
# the holes or without; what cannot be told any more, as without the xattrs, gives
# EIO and never zeros. Stores that cannot
# be written or served are refused, or served read-only, with the reason. What a
# power cut left allocated in a sealed file's stand-in is not content.
# TIMEOUT: 120
. "$(dirname "$0")/../lib/case.sh"
case_begin
need_root
need rsync python3 setfattr fallocate
opts=(-o dram=64M,settle=0,log=warn)

fill() {
	mkdir "$MNT/d"
	for i in 1 2 3 4 5 6 7 8; do
		kvdata st 300000 $i "$MNT/d/s$i"
		kvdata random 20000 $i "$MNT/p$i"
		setfattr -n user.kvcache.seal -v 1 "$MNT/d/s$i"
	done
	setfattr -n user.mine -v yes "$MNT/d/s1"
	ln "$MNT/d/s2" "$MNT/link"
	# overlay, truncated
	printf changed | dd of="$MNT/d/s3" bs=1 seek=70000 conv=notrunc status=none
	truncate -s 200000 "$MNT/d/s4"
	(cd "$MNT" && sha256sum link d/* p*) >"$T/sums"
	# a client's zeros, which are no hole
	kvdata st 300000 9 "$MNT/zero"
	setfattr -n user.kvcache.seal -v 1 "$MNT/zero"
	dd if=/dev/zero of="$MNT/zero" bs=4096 seek=7 count=2 conv=notrunc status=none
	sha256sum <"$MNT/zero" >"$T/zero"
}
zeros_are_there() { expect_eq "$(sha256sum <"$MNT/zero")" "$(cat "$T/zero")" "$1"; }
check() { (cd "$MNT" && sha256sum --quiet -c "$T/sums" >&2) || fail "$1"; }
other() { STORE=$T/$1; }

mount_fs "${opts[@]}"
fill
check "as written"
MNT2=$T/mnt2 && mkdir "$MNT2" && MNT=$MNT2 mount_fails "mounted already by process $FS_PID" "${opts[@]}"
# the backup is made beside writers
(for i in $(seq 1 200); do
	kvdata st 100000 $i "$MNT/w$((i % 9))"
	mv "$MNT/w$((i % 9))" "$MNT/v$((i % 5))"
done) 2>/dev/null &
writer=$!
CASE_PIDS+=("$writer")
sleep 0.3
rsync -aX --sparse "$STORE/" "$T/with/" 2>"$T/rsync.err"
rc=$?
[ $rc = 0 ] || [ $rc = 24 ] || fail "rsync -aX: $(cat "$T/rsync.err")"
rsync -a --sparse "$STORE/" "$T/without/" 2>"$T/rsync.err"
wait $writer
umount_fs
rsync -aX "$STORE/" "$T/full/" || fail "rsync -aX"
mkdir "$T/tar"
tar -C "$STORE" --xattrs --xattrs-include='*' -S -c . | tar -C "$T/tar" --xattrs --xattrs-include='*' -xp ||
	fail "tar"

# tar with -S brings all as it was, holes and zeros
other tar
mount_fs "${opts[@]}"
check "restored from tar"
zeros_are_there "restored from tar"
umount_fs

# holes that arrive as zeros are seen, unless there is data among them
other full
sed "/s3$/d" "$T/sums" >"$T/sums.full" && mv "$T/sums" "$T/sums.all" && mv "$T/sums.full" "$T/sums"
if [ -x "$BUILD/tools/fsck/fsck.kvcachefs" ]; then
	"$BUILD/tools/fsck/fsck.kvcachefs" "$STORE" >"$T/fsck"
	expect_eq "$(grep -c 'tree/[dl].*copied without its holes; its' "$T/fsck")" 7 "files that fsck names"
	expect_eq "$(grep -c 'copied without its holes; restore' "$T/fsck")" 2 "files that fsck gives up"
fi
for o in ,ro "" ""; do
	mount_fs "${opts[@]}$o"
	check "restored without holes$o"
	expect_errno EIO cat "$MNT/d/s3"
	expect_errno EIO cat "$MNT/zero"
	umount_fs
done
expect_between "$(du -k "$STORE/tree/d/s1" | cut -f1)" 0 16 "what the zeros occupy"
mv "$T/sums.all" "$T/sums"

# restored: other inode numbers, no hard links, an index of another tree
other with
for round in 1 2; do
	mount_fs "${opts[@]}"
	for f in "$MNT"/v*; do cat "$f" >/dev/null 2>&1; done # may be torn, must not hurt
	check "restored backup, round $round"
	expect_errno EIO cat "$MNT/zero" # its zeros became holes
	expect_eq "$(getfattr --only-values -n user.mine --absolute-names "$MNT/d/s1")" yes
	sleep 1
	check "restored backup after its index was made, round $round"
	umount_fs
done

# without xattrs: what was sealed is EIO, what is small and plain is right
other without
mount_fs "${opts[@]}"
for i in 1 2 3 4 5 6 7 8; do
	expect_errno EIO cat "$MNT/d/s$i"
	kvdata random 20000 $i "$T/want"
	expect_same "$MNT/p$i" "$T/want"
done
# and may grow: it has a record from now on
kvdata random 100000 9 "$T/more"
cat "$T/more" >>"$MNT/p8" && cat "$T/more" >>"$T/want" || fail "append"
remount_fs
expect_same "$MNT/p8" "$T/want"
umount_fs

# a store of the version before becomes one of this, unless read-only
other with
sed -i 's/^version=2$/version=1/' "$STORE/format"
cp "$STORE/format" "$T/format"
mount_fs "${opts[@]},ro"
expect_same "$STORE/format" "$T/format"
remount_fs "${opts[@]}"
umount_fs
expect_eq "$(sed 's/^version=2$/version=1/' "$STORE/format")" "$(cat "$T/format")"
expect_eq "$(grep -c ^version=2 "$STORE/format")" 1

# over itself, from the backup: other inodes below the same directory
other store
mv "$STORE/tree/d" "$T/d.gone"
rsync -aX --sparse "$T/with/" "$STORE/"
mount_fs "${opts[@]}"
check "restored in place"
sleep 1
check "restored in place, walked"
umount_fs

# blocks that a power cut left allocated and unwritten are no data, even when
# somebody's reading has put them into the page cache as zeros
blank() {
	fallocate -n -o 131072 -l 131072 "$STORE/tree/d/s$1" || fail "fallocate"
	cat "$STORE/tree/d/s$1" >"$T/read"
}
blank 1
blank 3
mount_fs "${opts[@]}"
check "unwritten blocks"
umount_fs
blank 5

# read-only: by option and by the filesystem below
mount_fs "${opts[@]},ro"
check "mounted read-only"
expect_errno EROFS touch "$MNT/x"
umount_fs
loop_ext4 64M
cp -a --sparse=always "$STORE" "$LOOP_DIR/store"
mount -o remount,ro "$LOOP_DIR"
STORE=$LOOP_DIR/store
mount_fs "${opts[@]}"
check "on a read-only filesystem"
expect_errno EROFS touch "$MNT/x"
expect_errno EROFS rm "$MNT/p1"
umount_fs
mount -o remount,rw "$LOOP_DIR"

# filesystems that cannot hold a store
mkdir -p "$T/o/lower" "$T/o/upper" "$T/o/work" "$T/o/merged"
if mount -t overlay overlay -o "lowerdir=$T/o/lower,upperdir=$T/o/upper,workdir=$T/o/work" \
	"$T/o/merged" 2>/dev/null; then
	STORE=$T/o/merged/store
	mount_fails "overlayfs"
	expect_eq "$(ls -A "$T/o/merged")" "store" "nothing is left behind but the directory"
	umount "$T/o/merged"
fi
if loop_fs ext4 16M -O ^has_journal; then
	mkdir -m 755 "$LOOP_DIR/store"
	STORE=$LOOP_DIR/store
	mount_fs "${opts[@]}"
	grep -q "$STORE is on ext4 without a journal" "$LOG" || fail "no word about the missing journal"
	expect_eq "$(stat -c %a "$STORE")" 700 "mode of a store that others could enter"
	umount_fs
fi
# blocks larger than those that an overlay counts by; younger kernels have them
truncate -s 320M "$T/big.img"
mkdir "$T/big"
if mkfs.xfs -q -b size=16384 "$T/big.img" 2>/dev/null && mount -o loop "$T/big.img" "$T/big" 2>/dev/null; then
	STORE=$T/big/store
	mount_fails "blocks of 16384 bytes"
	umount "$T/big"
fi
mkdir "$T/ram"
if mount -t ramfs none "$T/ram" 2>/dev/null; then
	STORE=$T/ram/store
	mount_fails "xattrs"
	umount "$T/ram"
fi
FS_PID=

case_end
