#!/bin/bash
# SPDX-License-Identifier: MIT
# trace=: accesses are recorded, within the bound, and plan and replay make sense of them.
. "$(dirname "$0")/../lib/case.sh"
case_begin
need_root
TRACE=$STORE/trace
counter() { awk -v n="kvcachefs_$1_total" '$1 == n { print $2 }' "$MNT/.kvcachefs/metrics"; }

mount_fs -o dram=64M,settle=1h,policy=lru,trace=1M
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

# plan, by the mount and by the file; more memory never gives less
CTL=$BUILD/tools/kvcachectl/kvcachectl
need_built "$CTL"
"$CTL" plan "$MNT" >"$T/out" || fail "plan"
grep -q '^6 reads of 3 files' "$T/out" || fail "plan says $(cat "$T/out")"
expect_eq "$(grep -cE '^(lru|adaptive) +[0-9.]+ [MG]iB' "$T/out")" 10 "rows of plan"
cp "$TRACE" "$T/trace"
echo "open time=7 inode=what" >>"$T/trace"
"$CTL" plan --json --dram=1M,16M,64M,1G --ssd=1G --policy=lru,adaptive,fixed:0 --alpha=1 --warm=0 "$T/trace" >"$T/json" ||
	fail "plan --json"
python3 - "$T/json" <<'E' || fail "plan --json says $(cat "$T/json")"
import json, sys
j = json.load(open(sys.argv[1]))
assert j["recorded"]["unreadable"] == 1 and j["recorded"]["reads"] == 6 and len(j["plans"]) == 12
for policy in ("lru", "adaptive", "fixed:0"):
    rows = [p for p in j["plans"] if p["policy"] == policy]
    for a, b in zip(rows, rows[1:]):
        assert a["dram"] < b["dram"] and a["hit_share"] <= b["hit_share"]
        assert a["steady"]["hit_share"] <= b["steady"]["hit_share"] + 1e-9
        assert a["steady"]["delay_mean_s"] >= b["steady"]["delay_mean_s"] - 1e-9 or policy != "adaptive"
    assert all(p["reads"] == 6 and 0 < p["delay_p50_s"] <= p["delay_p99_s"] and p["quality"] == 1 for p in rows)
    assert rows[-1]["steady"]["hit_share"] == 1 and rows[0]["hit_share"] == 0
E
plan_fails() { # PATTERN ARG...
	local pattern=$1
	shift
	! "$CTL" plan "$@" >"$T/out" 2>&1 || fail "plan $* succeeds"
	grep -q "$pattern" "$T/out" || fail "plan $* says $(cat "$T/out")"
}
plan_fails 'No such file' "$T/none"
: >"$T/empty"
plan_fails 'no reads of sealed files' "$T/empty"
plan_fails 'not a trace of kvcachefs' "$LOG"
grep -v '^state' "$T/trace" >"$T/stateless"
plan_fails 'speeds' "$T/stateless"
# rates and sizes that nobody has
sed 's/ storage=[^ ]*/ storage=1e-18,1e9/; s/ dram=[0-9]*/ dram=18446744073709551615/; s/ recode=[^ ]*/ recode=1e-300/' \
	"$T/trace" >"$T/huge"
for policy in lru adaptive; do
	"$CTL" plan --json --policy=$policy "$T/huge" | python3 -c 'import json, math, sys
assert all(math.isfinite(p["delay_mean_s"]) for p in json.load(sys.stdin)["plans"])' || fail "plan of huge numbers"
done
plan_fails "dram: '4Q' is not allowed" --dram=4Q "$T/trace"
plan_fails "policy: 'best' is not allowed" --policy=best "$T/trace"
plan_fails usage "$T/trace" "$T/trace"

# replay: the simulator alone says what plan says; on a mount, both
BENCH=$BUILD/tools/kvcachebench/kvcachebench
need_built "$BENCH" "$BUILD/tools/kvlm/kvlm"
"$BENCH" replay --simulate --dram=16M,64M --ssd=1G --alpha=1 --json "$T/trace" >"$T/sim" 2>"$T/err" ||
	fail "replay --simulate: $(cat "$T/err")"
"$BENCH" replay --dir="$T" --no-quiet --speed=0 --readers=2 --scale=0.5 --policy=lru,adaptive --reads=5 --json \
	"$T/trace" >"$T/replay" 2>"$T/err" || fail "replay: $(cat "$T/err")"
python3 - "$T/json" "$T/sim" "$T/replay" <<'E' || fail "replay says $(cat "$T/sim" "$T/replay")"
import json, sys
plan, sim, replay = (json.load(open(f)) for f in sys.argv[1:])
assert [r["simulated"] for r in sim["rows"]] == plan["plans"][1:3]
assert [r["simulated"]["policy"] for r in replay["rows"]] == ["lru", "adaptive"]
for r in replay["rows"]:
    m = r["mount"]
    assert m["reads"] == 5 == r["simulated"]["reads"], r
    assert 0 < m["delay_p50_s"] <= m["delay_p99_s"] and m["quality"] == 1 and m["removed_share"] == 0
    assert r["ratio"] > 0 < r["daemon_delay_mean_s"] and r["simulated"]["dram"] == 32 << 20
E
[ -z "$(ls -d "$T"/run.* 2>/dev/null)" ] || fail "left behind: $(ls "$T")"
for bad in "$T/none" "$T/empty" "$T/stateless" "$T/trace --policy=best" "$T/trace --speed=-1" ""; do
	expect_fail "$BENCH" replay --simulate $bad
done

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
expect_between "$(grep -c '^state .*policy=lru' "$TRACE")" 1 20 "states of a file"
expect_eq "$(counter trace_dropped)" 0 "dropped"

# what computing anew takes, by tokens where the format tells them, unless the file says
remount_fs -o dram=64M,settle=1h,policy=lru,full=evict,recompute_token=0.5,trace=1M
setfattr -n user.kvcache.layout -v "dtype=bf16 order=2LTHD layers=4 heads=8 dim=64" "$MNT"
for i in tokens says owner much; do kvdata bf16 $((200 * 8192)) 1 "$MNT/$i"; done
kvdata bf16 1638401 1 "$MNT/size"
setfattr -n user.kvcache.recompute -v 7 "$MNT/says"
for i in owner much; do
	chown 10001 "$MNT/$i"
	setfattr -n user.kvcache.recompute -v $([ $i = owner ] && echo 9 || echo 1e9) "$MNT/$i"
done
for i in tokens says owner much size; do
	setfattr -n user.kvcache.seal -v 1 "$MNT/$i"
	echo "$i $(stat -c %i "$MNT/$i")"
done >"$T/inodes"
sleep 0.5
while read -r name ino; do
	case $name in tokens) s=100 ;; says) s=7 ;; owner) s=9 ;; much) s=10000 ;; size) s=-1 ;; esac
	grep -q "^seal .* inode=$ino .* recompute=$s " "$TRACE" || fail "$name: $(grep " inode=$ino " "$TRACE")"
done <"$T/inodes"
umount_fs
mount_fails 'trace= takes 0, or at least 1 MiB' -o trace=4k
case_end
