# SPDX-License-Identifier: MIT
# For cases that cut a workload off (torn.py): sourced after case.sh.
WORKERS=${WORKERS:-3}
TORN="python3 $ROOT/tests/lib/torn.py"

# torn_start SEED SECONDS: the workers run in the background; TORN_PIDS.
torn_start() {
	local w
	TORN_PIDS=()
	for ((w = 0; w < WORKERS; w++)); do
		$TORN run "$MNT/w$w" "$T/journal$w" $(($1 * 10 + w)) "$2" 2>>"$T/workers" &
		TORN_PIDS+=("$!")
		CASE_PIDS+=("$!")
	done
}

# Waits for the workers; a wrong read while running fails the case.
torn_join() {
	local p
	for p in "${TORN_PIDS[@]}"; do
		wait "$p" || fail "a worker found wrong bytes: $(tail -n 3 "$T/workers")"
		case_forget "$p"
	done
}

# The moment of now, as torn.py counts.
torn_now() { python3 -c 'import time; print(time.monotonic())'; }

# torn_check cut|kill WHAT [TIME OF THE CUT]
torn_check() {
	local w
	for ((w = 0; w < WORKERS; w++)); do
		[ -s "$T/journal$w" ] || continue
		$TORN check "$MNT/w$w" "$T/journal$w" "$1" ${3:-} || fail "after $2"
	done
}

# No object without a record, no record without an object, nothing in trash/;
# unmounted. $1: the store.
torn_store() {
	python3 - "$1" <<'PY' || fail "the store is not consistent: $2"
import os, struct, sys
store, used, bad = sys.argv[1], set(), 0
for d, _, names in os.walk(f"{store}/tree"):
    for n in names:
        rec = os.getxattr(f"{d}/{n}", "trusted.kvcf") if os.path.isfile(f"{d}/{n}") else bytes(64)
        if rec[1]:
            used.add(f"{rec[8:24].hex()}.{struct.unpack('<I', rec[4:8])[0]}")
there = {n for d, _, names in os.walk(f"{store}/objects") for n in names}
for what, names in (("orphan", there - used), ("missing", used - there),
                    ("trash", set(os.listdir(f"{store}/trash")))):
    if names:
        print(what, *sorted(names), file=sys.stderr)
        bad = 1
sys.exit(bad)
PY
}
