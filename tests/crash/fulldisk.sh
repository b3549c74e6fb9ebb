#!/bin/bash
# SPDX-License-Identifier: MIT
# The store's filesystem runs full at any step of writing, sealing, overlay,
# unsealing and index: ENOSPC to the caller, nothing lost, all well afterwards.
#   fulldisk.sh [--rounds N]    (3)
# TIMEOUT: 120
. "$(dirname "$0")/../lib/case.sh"
. "$(dirname "$0")/../lib/torn.sh"
rounds=3
[ "${1:-}" != --rounds ] || rounds=$2
case_begin
need_root
need python3 losetup fallocate setfattr
loop_ext4 48M -m 0
STORE=$LOOP_DIR/store
opts=(-o dram=64M,settle=0,log=error)

ballast() { # leaves $1 KiB free
	local free
	free=$(($(stat -f -c '%a * %S' "$LOOP_DIR") / 1024 - $1))
	[ $free -le 0 ] || fallocate -l ${free}K "$LOOP_DIR/ballast" 2>/dev/null ||
		dd if=/dev/zero of="$LOOP_DIR/ballast" bs=64K 2>/dev/null
}

for ((round = 0; round < rounds; round++)); do
	mount_fs "${opts[@]}$([ $((round % 2)) = 0 ] && echo ,strictwrite)"
	for ((w = 0; w < WORKERS; w++)); do mkdir -p "$MNT/w$w"; done # while there is room
	torn_start $((round + 100)) 3
	for left in 0 4 40 300 1500 0; do
		ballast $((left + round * 8))
		sleep 0.35
		rm -f "$LOOP_DIR/ballast"
		sleep 0.1
	done
	torn_join
	torn_check kill "the disk was full, mounted (round $round)"
	umount_fs
	torn_store "$STORE" "the disk was full (round $round)"
	mount_fs "${opts[@]}"
	torn_check kill "the disk was full, mounted again (round $round)"
	umount_fs
done
note "$(awk '/without space/ { n += $3 } END { print n }' "$T/workers") operations refused"
! grep -q 'Errno' "$T/workers" || fail "another error: $(grep -m3 Errno "$T/workers")"

case_end
