#!/bin/bash
# SPDX-License-Identifier: MIT
# trace=: accesses are recorded, within the bound.
. "$(dirname "$0")/../lib/case.sh"
case_begin
need_root
TRACE=$STORE/trace
counter() { awk -v n="kvcachefs_$1_total" '$1 == n { print $2 }' "$MNT/.kvcachefs/metrics"; }

mount_fs -o dram=64M,settle=1h,trace=1M
for i in 1 2 3; do kvdata st 3000000 $i "$MNT/$i.safetensors"; done
for i in 1 2 3; do setfattr -n user.kvcache.seal -v 1 "$MNT/$i.safetensors"; done
for i in 1 2 3 1 1; do cat "$MNT/$i.safetensors" >/dev/null; done
ino=$(stat -c %i "$MNT/1.safetensors")
size=$(stat -c %s "$MNT/1.safetensors")
setfattr -n user.kvcache.move -v ssd "$MNT/2.safetensors"
dd if="$MNT/2.safetensors" bs=1M of=/dev/null status=none
rm "$MNT/3.safetensors"
sleep 0.5
expect_eq "$(head -1 "$TRACE")" "kvcachefs-trace 1"
expect_eq "$(grep -c '^seal ' "$TRACE")" 3 seals
expect_eq "$(grep '^open ' "$TRACE" | grep -c 'write=0')" 6 reads
expect_eq "$(grep "^open .* inode=$ino " "$TRACE" | grep -c "write=0.* class=exact")" 3 "reads of one"
expect_eq "$(grep "^open .* inode=$ino " "$TRACE" | grep -c " size=$size ")" 3 "size of one"
expect_eq "$(grep -c '^open .* found=ssd .*delay=0\.[0-9]*' "$TRACE")" 1 "found on SSD"
expect_eq "$(grep -c '^remove ' "$TRACE")" 1 removals
expect_eq "$(counter traced)" "$(grep -cE '^(open|seal|remove) ' "$TRACE")" "records counted"
expect_eq "$(stat -c %a "$TRACE")" 600

# the bound, at 200 bytes or more a record; goes on where it was after a mount
remount_fs
for ((k = 0; k < 80; k++)); do
	for ((i = 0; i < 100; i++)); do : <"$MNT/1.safetensors"; done
	sleep 0.05
done
sleep 0.5
expect_between "$(stat -c %s "$TRACE")" 100 $((512 << 10)) "bytes of trace"
expect_between "$(stat -c %s "$TRACE.1")" $((200 << 10)) $((512 << 10)) "bytes of trace.1"
expect_eq "$(head -1 "$TRACE.1")" "kvcachefs-trace 1"
expect_eq "$(grep -c '^state .*policy=lru' "$TRACE")" 1 "states of a file"
expect_eq "$(counter trace_dropped)" 0 "dropped"
umount_fs
mount_fails 'trace= takes 0, or at least 1 MiB' -o trace=4k
case_end
