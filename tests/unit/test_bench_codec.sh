#!/bin/bash
# SPDX-License-Identifier: MIT
# kvcachebench codec: rate and quality of every level, as its JSON says them.
#   test_bench_codec.sh KVCACHEBENCH KVLM MODEL TASKS
# Exit 77 without the trained model.
set -u
bench=$(realpath "$1") kvlm=$(realpath "$2") model=$3 tasks=$(realpath "$4")
[ -r "$model" ] && [ -r "$tasks/text.txt" ] || { echo "no model or no tasks"; exit 77; }
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
cp "$model" "$work/m" && cd "$work" || exit 2
fail() {
	echo "FAIL: $*" >&2
	exit 1
}

"$kvlm" corpus m --tasks "$tasks" --out in --contexts 1 --tokens 500 >list || fail "corpus"
"$bench" codec --rounds=1 --bytes=1M --json --kvlm="$kvlm" --model=m "$(cat list)" >json ||
	fail "codec of a file"
python3 - json <<'E' || fail "what it says"
import json, sys
j = json.load(open(sys.argv[1]))
q = {r['name']: r for r in j['quality']}
top = max(n for n in q if n.startswith('ladder level'))
levels = sorted(n for n in q if n.startswith('ladder level'))
assert len(levels) >= 4, levels
bits = [q[n]['ssd_bits'] for n in levels]
error = [q[n]['error'] for n in levels]
assert bits == sorted(bits) and error == sorted(error, reverse=True), (bits, error)
assert bits[0] < 3 and error[0] > 0.01 and error[-1] == 0 == q['planes']['error']
assert q[top]['agreement'] == 1 and q['kivi:4']['agreement'] > q['axis:2']['agreement']
assert abs(q['kivi:4']['ssd_bits'] - 5) < 0.1
assert any(r['codec'] == 'ladder-fix' and r['level'] == 0 for r in j['rows'])
E
# a directory, no model, no second table
mkdir d && cp "$(cat list)" d/a.bin && cp d/a.bin d/.hidden
"$bench" codec --rounds=1 --bytes=1M --json --no-quality d >json || fail "codec of a directory"
grep -q '"chunks"' json && ! grep -q '"quality"' json || fail "--no-quality"
[ "$(grep -o '"name":"d/' json | wc -l)" = 1 ] || fail "files of the directory"
# nothing at all, nothing to lose: said so
: >empty
! "$bench" codec empty 2>err && grep -q 'nothing in these files' err || fail "an empty file: $(cat err)"
head -c 200000 /dev/urandom >noise
"$bench" codec --rounds=1 --bytes=1M --codec=lz4 --quality noise >/dev/null 2>err && fail "noise has quality"
grep -q "no file has a recognised layout" err || fail "noise: $(cat err)"
"$bench" codec --rounds=1 --bytes=1M --codec=lz4 noise >/dev/null || fail "noise by default"
exit 0
