#!/bin/bash
# SPDX-License-Identifier: MIT
# policy=adaptive on a mount: contexts that are read come to memory and stay within both
# budgets, exact ones exact; layers go only where they were granted and room is needed.
. "$(dirname "$0")/../lib/case.sh"
case_begin
need_root
need setfattr python3
opts=policy=adaptive,alpha=0.5,dram=64M,settle=1h,allow_other
mount_fs -o $opts
get() { getfattr --absolute-names --only-values -n "user.kvcache.$1" "$2" 2>/dev/null; }
put() { setfattr -n "user.kvcache.$1" -v "$2" "$3"; }
counter() { awk -v n="kvcachefs_$1_total" '$1 == n { print $2 }' "$MNT/.kvcachefs/metrics"; }
gauge() { awk -v n="kvcachefs_$1" '$1 == n { print $2 }' "$MNT/.kvcachefs/metrics"; }
in_memory() { [ "$(get tier "$1")" != ssd ]; }
kvdata st 6000000 1 "$T/ref"

# a context that was sealed or is read has memory when there is room
mkdir "$MNT/e" "$MNT/g"
cp "$T/ref" "$MNT/e/0"
expect put seal 1 "$MNT/e/0"
wait_for 10 in_memory "$MNT/e/0"
expect_same "$T/ref" "$MNT/e/0"
expect put move ssd "$MNT/e/0"
cat "$MNT/e/0" >/dev/null
wait_for 10 in_memory "$MNT/e/0"
why=$("$BUILD/tools/kvcachectl/kvcachectl" why "$MNT/e/0") || fail "why"
case $why in *"a read takes"*"Last move, to"* | *"a read takes"*"open has decoded it"*) ;; *) fail "why: $why" ;; esac
case $why in *"read exactly"*) ;; *) fail "why: $why" ;; esac
contexts() { # COLUMN PATH
	awk -F '\t' -v c="$1" -v p="$2" 'NR == 1 { for (i = 1; i <= NF; i++) n[$i] = i } $NF == p { print $n[c] }' \
		"$MNT/.kvcachefs/contexts"
}
expect_eq "$(contexts level e/0)" exact "level of an exact file"
expect_eq "$(contexts estimate e/0)" 1 "its quality"
[ "$(contexts utility e/0)" != - ] || fail "no utility in contexts"
case $(contexts reason e/0) in room | earns | *" made") ;; *) fail "reason: $(contexts reason e/0)" ;; esac
# what is sent away by hand stays away until it is used
expect put move ssd "$MNT/e/0"
cp "$T/ref" "$MNT/e/x"
expect put seal 1 "$MNT/e/x"
rm "$MNT/e/x"
sleep 2.2
expect_eq "$(get tier "$MNT/e/0")" ssd "sent away by hand"
# hits count less as time goes by, also without another one
[ "$(get frequency "$MNT/e/0")" != "$(get hits "$MNT/e/0")" ] || fail "$(get hits "$MNT/e/0") hits as often as at first"
case $(get why "$MNT/e/0") in *"by hand"*) ;; *) fail "why: $(get why "$MNT/e/0")" ;; esac
cat "$MNT/e/0" >/dev/null
wait_for 10 in_memory "$MNT/e/0"
[ -n "$(get utility "$MNT/e/0")" ] || fail "no utility"
grep -q "a MiB of memory earns" "$MNT/.kvcachefs/status" || fail "no plan in status"

# more than fits: the limit holds, everything reads right, the hot one keeps its place
for i in $(seq 1 20); do
	cp "$T/ref" "$MNT/e/$i"
	expect put seal 1 "$MNT/e/$i"
	cat "$MNT/e/0" >/dev/null
	expect_between "$(gauge dram_used_bytes)" 0 $((68 << 20)) "memory in use"
done
for i in $(seq 0 20); do expect_same "$T/ref" "$MNT/e/$i"; done
for i in 1 2 3 4; do cat "$MNT/e/0" >/dev/null; done
wait_for 10 in_memory "$MNT/e/0"
held() { [ $(($(gauge replicas) + $(gauge copies))) -ge 2 ]; } # what pays depends on the rates
wait_for 10 held

# the limit changes while mounted
expect put dram 40M "$MNT"
expect_between "$(gauge dram_used_bytes)" 0 $((44 << 20)) "memory in use"
for i in $(seq 0 20); do expect_same "$T/ref" "$MNT/e/$i"; done
expect put dram 64M "$MNT"

# granted: levels by what quality is worth; a floor and a veto are hard
expect put quality 0.5 "$MNT/g"
expect put profile 0:0.6,1:0.9,2:0.99 "$MNT/g"
cp "$T/ref" "$MNT/g/a"
expect put seal 1 "$MNT/g/a"
expect_eq "$(get levels "$MNT/g/a" | wc -w)" 4 "all layers are there"
cat "$MNT/g/a" >/dev/null
expect put feedback 2:0.3 "$MNT/g/a" # of levels with less, too
expect_eq "$(get level "$MNT/g/a")" exact "all but exact is below the floor"
as_allowed() { [ "$(contexts level g/a) $(contexts estimate g/a)" = "exact 1" ]; }
wait_for 10 as_allowed
expect_same "$T/ref" "$MNT/g/a"
expect_errno EINVAL put feedback bad "$MNT/g/a"
expect setfattr -x user.kvcache.feedback "$MNT/g/a"

# all at once: readers, writers, removals and limits that change
pids=()
for k in 1 2 3; do
	(for n in $(seq 1 12); do
		for i in $k $((k + 3)) 0; do
			cmp "$T/ref" "$MNT/e/$i" >>"$T/bad" 2>&1 || echo "$k: e/$i" >>"$T/bad"
		done
		cat "$MNT/g/a" 2>>"$T/bad" >/dev/null || echo "$k: g/a" >>"$T/bad"
	done
	: >"$T/ended$k") &
	pids+=($!)
done
for n in 1 2 3 4 5 6; do
	expect put dram $((24 + n * 6))M "$MNT"
	cp "$T/ref" "$MNT/e/t$n"
	expect put seal 1 "$MNT/e/t$n"
	exec 5<"$MNT/e/t$n"
	rm "$MNT/e/t$n"
	expect_same "$T/ref" /dev/fd/5
	exec 5<&-
	expect put pin $((n % 2)) "$MNT/e/1"
done
for p in "${pids[@]}"; do wait "$p" || fail "reader $p: status $?"; done
[ -e "$T/ended1" ] && [ -e "$T/ended2" ] && [ -e "$T/ended3" ] || fail "a reader did not end"
[ ! -s "$T/bad" ] || fail "read wrongly: $(cat "$T/bad")"
expect put pin 0 "$MNT/e/1"
expect put dram 64M "$MNT"

# storage is short: layers of the granted go, what is exact stays exact
rm "$MNT"/e/1? "$MNT/e/20"
for i in $(seq 1 6); do
	cp "$T/ref" "$MNT/g/$i"
	expect put seal 1 "$MNT/g/$i"
done
used=$(gauge ssd_used_bytes)
expect put ssd $((used - 6000000)) "$MNT"
[ "$(counter levels_dropped)" -gt 0 ] || fail "no layers went"
expect_between "$(gauge ssd_used_bytes)" 0 $((used - 6000000)) "storage in use"
for i in $(seq 0 9); do expect_same "$T/ref" "$MNT/e/$i"; done
for i in $(seq 1 6); do
	cat "$MNT/g/$i" >/dev/null || fail "reading g/$i"
done

# nothing goes for what does not fit anyway
: >"$MNT/e/big" # for which room for seals is made
lost=
settled() { # layers of files that were open go later
	local before=$lost
	lost=$(counter levels_dropped)
	sleep 0.5
	[ "$lost" = "$before" ]
}
wait_for 20 settled
expect_errno ENOSPC fallocate -l $((used / 2)) "$MNT/e/big"
expect_eq "$(counter levels_dropped)" "$lost" "layers that went for nothing"
rm "$MNT/e/big"

# after a restart what nobody opened is known, and places are kept within the limits
remount_fs -o $opts
known() { grep -q "^plans .* of 1[67] contexts" "$MNT/.kvcachefs/status"; }
wait_for 20 known
for i in $(seq 0 9); do expect_same "$T/ref" "$MNT/e/$i"; done

# damage found on the way to memory: that file gives EIO, nothing else is touched
: >"$T/stamp"
cp "$T/ref" "$MNT/e/bad"
expect put seal 1 "$MNT/e/bad"
object=$(find "$STORE/objects" -type f -newer "$T/stamp" -size +1M)
expect_eq "$(wc -l <<<"$object")" 1 "new objects"
for i in $(seq 20); do cat "$MNT/e/bad" >/dev/null; done
umount_fs
printf 'not what was there' | dd of="$object" bs=1 seek=1000000 conv=notrunc status=none
mount_fs -o $opts
damaged() { [ "$(contexts damaged e/bad)" = 1 ]; }
wait_for 20 damaged
expect_errno EIO cat "$MNT/e/bad"
for i in $(seq 0 9); do expect_same "$T/ref" "$MNT/e/$i"; done
rm "$MNT/e/bad"

# with full=evict, too, layers go before files when the limit is lowered by much
mkdir "$MNT/h"
expect put quality 0 "$MNT/h"
for i in $(seq 1 6); do
	cp "$T/ref" "$MNT/h/$i"
	expect put seal 1 "$MNT/h/$i"
	for k in 1 2 3; do cat "$MNT/h/$i" >/dev/null; done # unread they are worth nothing
done
remount_fs -o $opts,full=evict,recompute=0.1
wait_for 20 grep -q "^plans .* of [12][0-9] contexts" "$MNT/.kvcachefs/status"
expect put ssd $(($(gauge ssd_used_bytes) - 10000000)) "$MNT"
expect_eq "$(counter evicted)" 0 "files removed"
[ "$(counter levels_dropped)" -gt 0 ] || fail "no layers went for a lower limit"

# nor when it is lower at the next mount, also after an unclean end: it is known first what there is
less=$(($(gauge ssd_used_bytes) - 3000000))
kill_fs
mount_fs -o $opts,full=evict,recompute=0.1,ssd=$less
wait_for 20 grep -q "^plans .* of [12][0-9] contexts" "$MNT/.kvcachefs/status"
within() { [ "$(gauge ssd_used_bytes)" -le $less ]; }
wait_for 10 within
expect_eq "$(counter evicted)" 0 "files removed for a mount with less"
[ "$(counter levels_dropped)" -gt 0 ] || fail "no layers went for a mount with less"
rm -r "$MNT/h"

# full=evict: files that earn least go, new ones that nobody read among them; those that
# are read stay
rm "$MNT"/g/*
remount_fs -o $opts,full=evict,ssd=64M
wait_for 20 grep -q "^plans .* of 10 contexts" "$MNT/.kvcachefs/status"
for k in 1 2 3; do cat "$MNT/e/0" >/dev/null; done
for i in $(seq 1 14); do
	cp "$T/ref" "$MNT/e/n$i"
	setfattr -n user.kvcache.seal -v 1 "$MNT/e/n$i" # may be gone already
	expect_between "$(gauge ssd_used_bytes)" 0 $((64 << 20)) "storage in use"
done
[ "$(counter evicted)" -gt 0 ] || fail "nothing was removed"
expect_same "$T/ref" "$MNT/e/0"
case_end
