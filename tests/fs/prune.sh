#!/bin/bash
# SPDX-License-Identifier: MIT
# More names than memory may hold: lookups stall while names are given up, the
# daemon grows past its limit, or it holds a descriptor for each.
# TIMEOUT: 120
. "$(dirname "$0")/../lib/case.sh"
names=80000 dram=16
case_begin
need python3

# long names, so that fewer do: from dram/2 + 16 MiB on names are given up
cat >"$T/names.py" <<'PY'
import os, sys, time
what, path, first, last = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
d = os.open(path, os.O_RDONLY)
worst = 0
for i in range(first, last):
    name = f"{i:06d}" + "n" * 240
    if what == "make":
        os.mknod(name, 0o100644, dir_fd=d)
        continue
    t = time.monotonic()
    assert os.stat(name, dir_fd=d).st_size == 0
    worst = max(worst, time.monotonic() - t)
print(f"{worst * 1000:.0f}")
PY
mount_fs
mkdir "$MNT/names"
umount_fs
python3 "$T/names.py" make "$STORE/tree/names" 0 $names >/dev/null || fail "making names"
mount_fs -o "dram=${dram}M,settle=1h,log=warn"
metric() { awk -v n="kvcachefs_$1" '$1 == n { print $2 }' "$MNT/.kvcachefs/metrics"; }

: >"$T/sampling"
python3 "$ROOT/tests/lib/memory.py" "$FS_PID" $((dram + 64)) "$T/sampling" >"$T/top" &
watch=$!
# again when the kernel itself dropped names meanwhile
for _ in 1 2 3; do
	for i in 0 1; do
		timeout 60 python3 "$T/names.py" look "$MNT/names" $((i * names / 2)) $(((i + 1) * names / 2)) >"$T/worst$i" &
		look[i]=$!
		CASE_PIDS+=("$!")
	done
	for i in 0 1; do
		wait "${look[i]}" || fail "lookups: status $?"
		case_forget "${look[i]}"
	done
	pruned=$(metric pruned_total)
	[ "$pruned" -lt 1000 ] || break
done
fds=$(ls "/proc/$FS_PID/fd" | wc -l)
rm "$T/sampling"
wait "$watch" || fail "over $((dram + 64)) MiB (sum, anonymous, tmpfs): $(cat "$T/top")"
note "$names names: at most $(cat "$T/top") MiB, $fds descriptors, $pruned given up," \
	"slowest lookup $(cat "$T"/worst? | tr '\n' ' ')ms"
expect_between "$pruned" 1000 100000000 "names given up"
expect_between "$fds" 1 300 descriptors
for i in 0 1; do expect_between "$(cat "$T/worst$i")" 0 2000 "slowest lookup, ms"; done
# what was given up is found again
expect python3 "$T/names.py" look "$MNT/names" 0 500 >/dev/null
case_end
