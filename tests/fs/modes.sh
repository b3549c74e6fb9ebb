#!/bin/bash
# SPDX-License-Identifier: MIT
# Each edge of the table of modes: files open and mapped in every way while they
# are written, cut, sealed, moved and removed show their own bytes, all of them.
# TIMEOUT: 120
. "$(dirname "$0")/../lib/case.sh"
case_begin
need_root
need setfattr mountpoint
modes=$BUILD/tests/fs/modes
need_built "$modes"

# the daemon sees each write: it was told to, or there is little room
for how in strictwrite reserve=2G; do
	mount_fs -o dram=256M,settle=1h,ssd=64M,$how
	grep -q '^ways in use.*passthrough reads' "$MNT/.kvcachefs/status" ||
		skip "no passthrough here"
	expect "$modes" "$MNT" writer_is_seen mapped_rewrite_sync
	rm "$MNT"/*
	umount_fs
done

# the kernel writes by itself where it may
mount_fs -o dram=256M,settle=1h,ssd=8G,reserve=64M
expect "$modes" "$MNT" mapped_truncate mapped_rewrite mapped_rewrite_sync mapped_unseal \
	mapped_overlay mapped_move mapped_recycle mapped_seal mapped_times \
	writer_beside_plain_reader writer_beside_copy_reader

# encoded bytes are read past the page cache, and large O_DIRECT reads in parallel
kvdata bf16 20000000 7 "$T/big"
cp "$T/big" "$MNT/big"
expect setfattr -n user.kvcache.seal -v 1 "$MNT/big"
remount_fs
big=$(find "$STORE/objects" -type f -size +8M)
expect_eq "$(wc -l <<<"$big")" 1 "objects of 8 MiB and more"
expect dd if="$big" iflag=nocache count=0 status=none
minor=$(mountpoint -d "$MNT")
ctl=/sys/fs/fuse/connections own=
if [ ! -e "$ctl/${minor#*:}/waiting" ]; then
	ctl=$T/ctl own=1
	mkdir "$ctl"
	expect mount -t fusectl none "$ctl"
fi
expect "$modes" "$ctl/${minor#*:}/waiting" flight "$MNT/big" "$FS_PID"
[ -z "$own" ] || umount "$ctl"
expect_same "$T/big" "$MNT/big"
expect setfattr -n user.kvcache.move -v dram "$MNT/big"
expect setfattr -n user.kvcache.move -v copy "$MNT/big"
expect_same "$T/big" "$MNT/big"
expect_between "$("$modes" - resident "$big" | cut -d' ' -f1)" 0 16 "cached pages of an object"

# the daemon ends while somebody has a copy open and mapped
"$modes" "$MNT" hold >"$T/hold" 2>&1 &
holder=$!
CASE_PIDS+=("$holder")
wait_for 20 grep -q ready "$T/hold"
kill -TERM "$FS_PID"
wait_fs 20 || fail "SIGTERM beside a mapped copy: status $?"
case_check_log
{ kill -KILL "$holder" && wait "$holder"; } 2>/dev/null
case_forget "$holder"
sweep_mounts "$MNT"
case_end
