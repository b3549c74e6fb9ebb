#!/bin/bash
# SPDX-License-Identifier: MIT
# Every byte region of objects and records damaged, cut, swapped or replaced:
# EIO or exact data, never other bytes; with damage=hide the name is gone.
# ASAN
# TIMEOUT: 180
. "$(dirname "$0")/../lib/case.sh"
case_begin
need_root
need python3 setfattr
PY="python3 $ROOT/tests/lib/damage.py"
kvdata st 300000 1 "$T/base"
opts=(-o dram=64M,settle=1h,log=error)
metric() { awk -v n="kvcachefs_$1_total" '$1 == n { print $2 }' "$MNT/.kvcachefs/metrics"; }

mount_fs "${opts[@]}"
expect $PY make "$STORE" "$MNT" "$T/base"
umount_fs
cp -a --sparse=always "$STORE" "$T/whole"
expect $PY hurt "$STORE" "$MNT" "$T/base"
cp -a --sparse=always "$STORE" "$T/hurt"

# damage=eio, by each way of serving
for paths in auto stream cached; do
	mount_fs "${opts[@]},paths=$paths"
	n=$($PY check "$STORE" "$MNT" "$T/base") || fail "damage with paths=$paths"
	expect_between "$(metric damage)" "$n" 100000 "damage counted"
	expect_eq "$(find "$STORE/damaged" -mindepth 1 | wc -l)" 0 "nothing is hidden"
	umount_fs
done

# damage=hide: nothing left to find, nothing deleted
objects=$(find "$STORE/objects" -mindepth 2 -maxdepth 2 | wc -l)
mount_fs "${opts[@]},damage=hide"
# the plan is read from the store as it was: the last file stays whole
n=$($PY check "$STORE" "$MNT" "$T/base" hide) || fail "damage=hide"
expect_eq "$(metric hidden)" "$n" "files hidden"
expect_eq "$(find "$STORE/damaged" -mindepth 1 -maxdepth 1 -name '*.f' | wc -l)" "$n" "names kept"
umount_fs
expect_eq $(($(find "$STORE/objects" -mindepth 2 -maxdepth 2 | wc -l) +
	$(find "$STORE/damaged" -maxdepth 1 -regextype egrep -regex '.*/[0-9a-f]{32}\.[0-9]+' | wc -l))) \
	"$objects" "objects kept"
mount_fs "${opts[@]},damage=hide"
expect_eq "$(find "$MNT" -name f -size +4k | wc -l)" $((190 - n)) "whole files"
kvdata bf16 4000000 7 "$T/once"
cp "$T/once" "$MNT/once"
expect setfattr -n user.kvcache.seal -v 1 "$MNT/once"
umount_fs

# what the device fails once, in the middle of a request, is no error to anybody
KVCACHEFS_FAULT=read.chunk:2=eio mount_fs "${opts[@]},paths=stream"
expect dd if="$MNT/once" of="$T/back" bs=1M status=none
expect_same "$T/once" "$T/back"
expect_eq "$(metric damage)" 0 "damage counted"
umount_fs

case_end
