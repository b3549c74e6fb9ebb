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
# encoded anew in layers, then a level dropped: each there when it returned, and whole
cut_off() {
	fs_shutdown "$LOOP_DIR" 2
	exec 5<&-
	kill -KILL "$FS_PID"
	clear_fs
	loop_remount "$LOOP_DIR"
	mount_fs -o dram=64M,settle=1h,log=warn
}
level() { getfattr --only-values --absolute-names -n user.kvcache.level "$MNT/level" 2>/dev/null; }
mount_fs -o dram=64M,settle=1h,log=warn
kvdata st 3000000 1 "$T/ref"
cp "$T/ref" "$MNT/level"
sync "$MNT/level"
expect setfattr -n user.kvcache.seal -v 1 "$MNT/level"
expect setfattr -n user.kvcache.quality -v 0 "$MNT/level"
sync "$MNT/level" "$MNT"
expect setfattr -n user.kvcache.seal -v 1 "$MNT/level"
cut_off
expect_same "$T/ref" "$MNT/level"
for l in 1 0; do
	exec 5<"$MNT/level" # what is dropped stays until this is closed
	expect setfattr -n user.kvcache.level -v $l "$MNT/level"
	[ $l = 1 ] || exec 5<&-
	cut_off
	expect_eq "$(level)" $l "level after a cut"
	expect cat "$MNT/level" >"$T/low$l"
done
! cmp -s "$T/low0" "$T/low1" || fail "two levels read the same"
umount_fs
torn_store "$STORE" "levels"

note "$(grep -c steps "$T/workers") workers cut off in $rounds rounds"

case_end
