#!/bin/bash
# SPDX-License-Identifier: MIT
# Each edge of the table of modes: files open and mapped in every way while they
# are written, cut, sealed, moved and removed show their own bytes, all of them.
# TIMEOUT: 120
. "$(dirname "$0")/../lib/case.sh"
case_begin
need_root
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
