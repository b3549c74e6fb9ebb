#!/bin/bash
# SPDX-License-Identifier: MIT
# The store's filesystem cut off at a random moment: what fsync acknowledged is
# there bit for bit, everything else is an earlier or later state or absent.
#   powercut.sh [--rounds N] [--fs ext4|xfs] [--seed N]    (4 rounds)
# TIMEOUT: 150
. "$(dirname "$0")/../lib/case.sh"
. "$(dirname "$0")/../lib/torn.sh"
rounds=4 fs=ext4 seed=$((RANDOM + 1))
while [ $# -gt 0 ]; do
	case $1 in
	--rounds) rounds=$2 ;;
	--fs) fs=$2 ;;
	--seed) seed=$2 ;;
	esac
	shift 2
done
case_begin
need_root
need python3 losetup setfattr
loop_fs $fs 700M
STORE=$LOOP_DIR/store
opts=(-o dram=64M,settle=0,log=warn)
note "seed $seed"

for ((round = 1; round <= rounds; round++)); do
	# half of the time all writes are seen by the daemon
	mount_fs "${opts[@]}$([ $((round % 2)) = 0 ] && echo ,strictwrite)"
	torn_start $((seed * 1000 + round)) 20
	sleep "$(python3 -c "import random; print(random.Random($seed * 100 + $round).uniform(0.4, 2))")"
	cut=$(torn_now)
	fs_shutdown "$LOOP_DIR" 2
	torn_join
	# the daemon may not even notice, or die with the machine
	kill -KILL "$FS_PID"
	clear_fs
	loop_remount "$LOOP_DIR"
	mount_fs "${opts[@]}"
	torn_check cut "round $round, seed $seed" "$cut"
	umount_fs
	torn_store "$STORE" "round $round, seed $seed"
done
note "$(grep -c steps "$T/workers") workers cut off in $rounds rounds"

case_end
