#!/bin/bash
# SPDX-License-Identifier: MIT
# Memory stays under dram= plus 64 MiB, whatever is read and looked up.
#   budget_dram.sh [--full]    8 GB under 8 readers and a million names
# TIMEOUT: 120
. "$(dirname "$0")/../lib/case.sh"
dram=96 files=7 mb=32 readers=3 names=50000 rounds=1
if [ "${1:-}" = --full ]; then
	dram=256 files=256 mb=32 readers=8 names=1000000 rounds=1
fi
KVLM=${KVLM:-$BUILD/tools/kvlm/kvlm}
case_begin
need_root
need python3 setfattr
model=$ROOT/tools/kvlm/model/kvlm.gguf
limit=$((dram + 64))

# real caches: a few contexts of the shipped model, packed; copies differ
if [ -x "$KVLM" ] && [ -s "$model" ]; then
	"$KVLM" corpus "$model" --out "$T/corpus" --contexts 2 --tokens 300 --pack $((mb << 20)) \
		>"$T/corpus.log" 2>&1 || fail "kvlm corpus: $(tail -n 3 "$T/corpus.log")"
	base=($(ls -S "$T"/corpus/* | head -n 2))
else
	kvdata st $((mb << 20)) 1 "$T/base"
	base=("$T/base")
fi
cat >"$T/change.py" <<'PY'
import sys
src, dst, n = sys.argv[1], sys.argv[2], int(sys.argv[3])
b = bytearray(open(src, "rb").read())
for at in range(65536, len(b), 65536):
    b[at] ^= n & 15
    b[at + 2] ^= n >> 4 & 15
open(dst, "wb").write(b)
PY

watch() { # begins sampling; watch_end prints and checks
	: >"$T/sampling"
	python3 "$ROOT/tests/lib/memory.py" "$FS_PID" "$limit" "$T/sampling" >"$T/top" &
	WATCH=$!
}
watch_end() {
	rm "$T/sampling"
	wait "$WATCH" || fail "$1: over $limit MiB (sum, anonymous, tmpfs): $(cat "$T/top")"
	note "$1: at most $(cat "$T/top") MiB (sum, anonymous, tmpfs) of $limit"
}

mkdir "$T/sums"
mount_fs -o "dram=${dram}M,settle=0,log=warn"
watch
for ((i = 0; i < files; i++)); do
	python3 "$T/change.py" "${base[i % ${#base[@]}]}" "$MNT/f$i" $i || fail "writing f$i"
done
for ((i = 0; i < files; i++)); do setfattr -n user.kvcache.seal -v 1 "$MNT/f$i" 2>/dev/null; done
watch_end "writing and sealing"
# the truth, from what a second daemon's memory cannot have touched
for ((i = 0; i < files; i++)); do
	python3 "$T/change.py" "${base[i % ${#base[@]}]}" "$T/x" $i
	sha256sum <"$T/x" >"$T/sums/$i"
done
expect_between "$(awk '$1 == "kvcachefs_sealed_total" { print $2 }' "$MNT/.kvcachefs/metrics")" "$files" $((files * 2)) sealed

reader() { # own order; every kind of reading
	local i k
	for ((k = 0; k < files * rounds; k++)); do
		i=$(((k * 7 + $1 * 3) % files))
		[ $((k % 5)) = 4 ] && setfattr -n user.kvcache.move -v copy "$MNT/f$i" 2>/dev/null
		[ "$(sha256sum <"$MNT/f$i")" = "$(cat "$T/sums/$i")" ] || { echo "f$i" >>"$T/wrong"; }
	done
}
watch
pids=()
for ((r = 0; r < readers; r++)); do
	reader $r &
	pids+=("$!")
done
wait "${pids[@]}"
[ ! -e "$T/wrong" ] || fail "wrong bytes: $(tr '\n' ' ' <"$T/wrong")"
watch_end "$readers readers of $((files * mb)) MB"

# a limit that is raised while it is mounted is there for all kinds of memory
tier() { getfattr --absolute-names --only-values -n user.kvcache.tier "$1"; }
setfattr -n user.kvcache.dram -v $((dram * 3))M "$MNT" || fail "raising the limit"
if grep -q '^ways in use.*passthrough reads' "$MNT/.kvcachefs/status"; then # else there are no copies
	most=$((dram * 2 / mb)) copies=0
	for ((i = 0; i < most; i++)); do
		setfattr -n user.kvcache.move -v copy "$MNT/f$i" || fail "no copy of f$i"
	done
	for ((i = 0; i < most; i++)); do [ "$(tier "$MNT/f$i")" != copy ] || copies=$((copies + 1)); done
	expect_eq $copies $most "decoded copies, of twice the limit at the mount"
fi
umount_fs

# names: plain empty files need no record, so they can be made quickly
python3 - "$STORE/tree/names" $names <<'PY'
import os, sys
os.mkdir(sys.argv[1])
d = os.open(sys.argv[1], os.O_RDONLY)
for i in range(int(sys.argv[2])):
    os.mknod(f"a-name-as-long-as-a-hash-{i:016x}", 0o100644, dir_fd=d)
PY
mount_fs -o "dram=${dram}M,settle=1h,log=warn"
watch
[ "$(ls -U "$MNT/names" | wc -l)" = $names ] || fail "names are missing"
python3 - "$MNT/names" $names <<'PY' || fail "lookups"
import os, sys
d = os.open(sys.argv[1], os.O_RDONLY)
for i in range(int(sys.argv[2])):
    os.stat(f"a-name-as-long-as-a-hash-{i:016x}", dir_fd=d)
PY
watch_end "$names names looked up"
umount_fs

case_end
