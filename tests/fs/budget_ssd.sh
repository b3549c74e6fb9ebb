#!/bin/bash
# SPDX-License-Identifier: MIT
# The store never occupies more than ssd=: a large write at the brim fails with
# ENOSPC or makes old files go, exactly with strictwrite; what writing past the
# daemon takes beyond it is shown, and goes first.
#   budget_ssd.sh [--full]    a write of 2 GB
# TIMEOUT: 120
. "$(dirname "$0")/../lib/case.sh"
limit=160 old=14 mb=8 write=96 reserve=8 kinds=strictwrite
if [ "${1:-}" = --full ]; then
	limit=4096 old=13 mb=256 write=2048 reserve=64
	kinds="strictwrite reserve=8G" # two ways of seeing every write
fi
case_begin
need_root
need python3 setfattr
bytes=$((limit << 20))

gauge() { awk -v n="kvcachefs_$1" '$1 == n { printf "%.0f", $2 }' "$MNT/.kvcachefs/metrics"; }
overshot() { [ "$(gauge ssd_overshoot_bytes)" -ge "$1" ]; }
# as many went as had to, not in any order that names could tell: what is just
# being sealed is passed over
made_room() { [ "$(ls "$MNT/old" | wc -l)" -le $((old - (old * mb + write - limit) / mb)) ]; }

# noise: nothing is gained by sealing it. $1 MiB; the same every time
head -c 1M /dev/urandom >"$T/noise"
noise() {
	local i
	for ((i = 0; i < $1; i++)); do cat "$T/noise"; done
}

# begin OPTIONS: a store that is near its limit, of closed files
begin() {
	local i
	mount_fs -o "dram=64M,ssd=${limit}M,settle=1h,log=error,$1"
	mkdir "$MNT/old" "$MNT/growing"
	for ((i = 0; i < old; i++)); do noise $mb >"$MNT/old/f$i" || fail "filling: f$i"; done
	touch "$T/sampling"
	python3 "$ROOT/tests/lib/space.py" "$STORE" $bytes "$T/sampling" >"$T/top" &
	SAMPLER=$!
}
# end exact|about: what was sampled since
end() {
	local over=0
	rm "$T/sampling"
	wait "$SAMPLER" || over=1
	read -r top beyond <"$T/top"
	[ "$1" = about ] || [ $over = 0 ] || fail "$2: $top MiB of $limit"
	note "$2: at most $top MiB of $limit, $beyond beyond"
}
finish() {
	umount_fs
	rm -rf "$STORE" && mkdir -m 700 "$STORE"
}

for kind in $kinds; do
	begin "full=enospc,$kind"
	if noise $write >"$MNT/growing/f" 2>"$T/err"; then fail "$kind: $write MiB fit"; fi
	grep -q 'No space left' "$T/err" || fail "$kind: $(head -n 1 "$T/err")"
	got=$(stat -c %s "$MNT/growing/f")
	expect_between "$got" $(((limit - old * mb - 8) << 20)) $(((limit - old * mb) << 20)) "written before ENOSPC"
	noise $write 2>/dev/null | cmp -n "$got" - "$MNT/growing/f" || fail "$kind: what was written is not there"
	expect_eq "$(gauge ssd_overshoot_bytes)" 0 overshoot
	for ((i = 0; i < old; i++)); do [ -e "$MNT/old/f$i" ] || fail "$kind: f$i went"; done
	rm "$MNT/growing/f"
	noise 1 >"$MNT/growing/g" || fail "$kind: no room after removing"
	end exact "full=enospc,$kind"
	finish

	begin "full=evict,$kind"
	noise $write >"$MNT/growing/f" || fail "$kind: not written though old files could go"
	noise $write | cmp - "$MNT/growing/f" || fail "$kind: written wrong"
	wait_for 20 made_room # the kernel hears of it a moment later
	[ -e "$MNT/old/f$((old - 1))" ] || fail "$kind: the newest went"
	expect_eq "$(gauge ssd_overshoot_bytes)" 0 overshoot
	end exact "full=evict,$kind"
	finish
done

# the kernel writes past the daemon, which looks five times a second
for full in enospc evict; do
	begin "full=$full,reserve=${reserve}M"
	noise $write >"$MNT/growing/f" || fail "$full: not past the daemon"
	end about "full=$full, past the daemon"
	if [ $full = evict ]; then
		# the overshoot is 0 at first too, until the daemon has looked
		wait_for 20 made_room
		wait_for 20 eval '[ "$(gauge ssd_overshoot_bytes)" = 0 ]'
	else
		wait_for 20 overshot $(((old * mb + write - limit) << 20))
		expect_between "$(gauge ssd_overshoot_bytes)" 1 $bytes "overshoot shown"
		! noise 1 2>/dev/null >"$MNT/growing/d" || fail "room beyond the limit"
	fi
	noise $write | cmp - "$MNT/growing/f" || fail "$full: written wrong"
	finish
done

case_end
