#!/bin/bash
# SPDX-License-Identifier: MIT
# Random operations against a model, with sealing, tiers and every way of serving
# in between; the exerciser itself must pass on the filesystem below.
# EXERCISE_OPS=N and EXERCISE_SEED=N make longer or other runs.
# TIMEOUT: 240
# ASAN
. "$(dirname "$0")/../lib/case.sh"
case_begin
need_root
need_built "$BUILD/tests/fs/exercise"
ops=${EXERCISE_OPS:-600} seed=${EXERCISE_SEED:-$((RANDOM + 1))}
note "seed $seed, $ops operations"
mkdir "$T/reference"
expect "$BUILD/tests/fs/exercise" --plain --seed "$seed" --ops 500 "$T/reference"
# a sealed file grown without bytes, written to and turned plain: nothing of that
# depends on its size
need fallocate setfattr
mount_fs -o settle=1h,dram=64M,ssd=1G
f=$MNT/long
kvdata st 3000000 1 "$T/want"
cp "$T/want" "$f"
setfattr -n user.kvcache.seal -v 1 "$f"
for at in 5 100 700; do
	dd if=/dev/urandom bs=4096 count=1 2>/dev/null | tee "$T/block" | dd of="$f" bs=4096 seek=$at conv=notrunc status=none
	dd if="$T/block" of="$T/want" bs=4096 seek=$at conv=notrunc status=none
done
dd if=/dev/zero of="$f" bs=4096 seek=101 count=1 conv=notrunc status=none
dd if=/dev/zero of="$T/want" bs=4096 seek=101 count=1 conv=notrunc status=none
truncate -s 2000000000000 "$f" && echo end >>"$f" || fail "growing"
expect timeout 20 fallocate -n -o 0 -l 8192 "$f"
expect_eq "$(getfattr --absolute-names --only-values -n user.kvcache.state "$f")" plain
expect_same <(head -c 3000000 "$f") "$T/want"
expect_eq "$(tail -c 4 "$f")" end
remount_fs
expect_same <(head -c 3000000 "$f") "$T/want"
expect_between "$(du -k "$f" | cut -f1)" 2900 3200 "KiB of a plain file with a long hole"
rm "$f"
umount_fs
for paths in auto stream cached passthrough; do
	mount_fs -o settle=1s,dram=256M,paths=$paths
	note "paths=$paths"
	expect "$BUILD/tests/fs/exercise" --seed "$seed" --ops "$ops" "$MNT"
	remount_fs -o settle=1s,dram=256M,paths=$paths
	expect_eq "$(ls "$MNT" | wc -l)" 3 "files after a remount"
	rm "$MNT"/*
	umount_fs
done
case_end
