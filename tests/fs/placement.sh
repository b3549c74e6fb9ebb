#!/bin/bash
# SPDX-License-Identifier: MIT
# kvcachebench placement: every kind of system runs on a real mount, its bytes are
# known ones, and the report says what they lose.
# TIMEOUT: 120
. "$(dirname "$0")/../lib/case.sh"
case_begin
need_root
need python3
BENCH=$BUILD/tools/kvcachebench/kvcachebench
need_built "$BENCH" "$BUILD/tools/kvlm/kvlm"
[ -r "$ROOT/tools/kvlm/model/kvlm.gguf" ] || skip "no model"

bench() {
	"$BENCH" placement --dir="$T" --contexts=1 --bytes=1M --throttle=no --zipf=0.9 --requests=12 \
		--warmup=4 --rate=1000 --repeats=1 --no-quiet "$@" 2>"$T/err" || fail "placement $*: $(cat "$T/err")"
}
bench --dram=60 --only=exact,level:0 --prepare >"$T/out"
[ ! -s "$T/out" ] && [ -d "$T/stores/level:0.store/objects" ] || fail "prepared: $(cat "$T/out"; ls "$T/stores")"
bench --dram=60 --history=20 --only=uncompressed,exact,level:0,kivi:2,recompute,adaptive:1 --json >"$T/json"
python3 - "$T/json" <<'E' || fail "what it says: $(cat "$T/json")"
import json, sys
j = json.load(open(sys.argv[1]))
rows = {r["system"]: r for r in j["rows"]}
for name in ("uncompressed", "exact", "level:0", "kivi:2", "recompute"):
    r = rows[name]
    assert len(r["runs"]) == 1 and r["runs"][0]["valid"], name
    assert 0 < r["delay_p50_s"] <= r["delay_p99_s"], name
for name in ("uncompressed", "exact", "recompute"):
    assert rows[name]["quality"] == 1 == rows[name]["agreement"], name
assert rows["level:0"]["agreement"] < 1 > rows["kivi:2"]["agreement"]
assert "adaptive:1" in rows and j["contexts"] == 3
assert all(c["value"] <= c["bound"] + 1e-9 and c["delay_s"] > 0 for c in j["ceiling"]), j["ceiling"]
E
# what is kept from one run to the next, and is not believed when the bytes are others
awk '{ print $1 }' "$T"/contexts-*/scores | sort | uniq -c | grep -qx ' *3 kivi:2' || fail "no scores are kept"
sed -i 's/^\(exact [^ ]* \)[0-9a-f]*/\10123456789abcdef/' "$T"/contexts-*/scores
! "$BENCH" placement --dir="$T" --contexts=1 --bytes=1M --throttle=no --zipf=0.9 --dram=100 --requests=2 \
	--warmup=0 --repeats=1 --no-quiet --only=exact >"$T/out" 2>"$T/err" || fail "foreign bytes are counted"
grep -q 'none of its forms' "$T/err" || fail "said: $(cat "$T/err")"
[ ! -e "$T/stores/level:0.store" ] || fail "a store that was used stays"
[ -z "$(ls -d "$T"/run.* 2>/dev/null)" ] || fail "left behind: $(ls "$T")"
case_end
