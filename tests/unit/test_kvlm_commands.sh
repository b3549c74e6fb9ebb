#!/bin/bash
# kvlm's commands from outside: what they promise each other and the shell.
#   test_kvlm_commands.sh KVLM MODEL TASKS
# Exit 77 without the trained model.
set -u
kvlm=$(realpath "$1") model=$2 tasks=$3
[ -r "$model" ] && [ -r "$tasks/text.txt" ] || { echo "no model or no tasks"; exit 77; }
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
cp "$model" "$work/m" && cd "$work" || exit 2

fail() {
	echo "FAIL: $*" >&2
	exit 1
}
# NAME of one number in kvlm's JSON
field() {
	sed -n "s/.*\"$1\": \\([-0-9.e]*\\).*/\\1/p"
}
# The command fails with exit 1 and one line that contains the text.
refuses() {
	local text=$1 out
	shift
	out=$("$@" 2>&1 >/dev/null)
	[ $? = 1 ] || fail "$*: not refused"
	[ "$(printf '%s\n' "$out" | wc -l)" = 1 ] || fail "$*: says more than one line: $out"
	case $out in *"$text"*) ;; *) fail "$*: '$out' lacks '$text'" ;; esac
}

for c in prefill generate compare quant eval calibrate corpus info; do
	"$kvlm" $c --help | grep -q "^usage: kvlm $c" || fail "$c --help"
done
awk '$1 == "context" { for (i = 5; i < 405; i++) print $i; exit }' "$tasks/text.txt" >ids
printf 'the ' >prompt

# a saved cache continues like none
for f in llama safetensors; do
	for d in bf16 f16 f32; do
		"$kvlm" prefill m --ids --prompt ids --save c.$f.$d --format $f --dtype $d >/dev/null ||
			fail "prefill $f $d"
		"$kvlm" generate m --load c.$f.$d --prompt prompt -n 16 --print-ids >text.$f.$d 2>/dev/null ||
			fail "generate $f $d"
	done
done
cmp -s text.llama.bf16 text.safetensors.bf16 || fail "formats continue differently"
{ cat ids; printf '116\n104\n101\n32\n'; } >all
"$kvlm" generate m --ids --prompt all -n 16 --print-ids 2>/dev/null | cmp -s - text.llama.bf16 ||
	fail "a loaded cache continues differently from a computed one"
"$kvlm" generate m --load c.llama.bf16 --prompt prompt -n 8 --save grown >/dev/null 2>&1 || fail "--save"
[ "$("$kvlm" info grown --json | field cells)" = 412 ] || fail "the grown cache has not 412 cells"

# one result, whatever computes it
head -n 100 ids >few
"$kvlm" prefill m --ids --prompt few --save one --threads 1 --kernels portable >/dev/null || fail "prefill portable"
for n in 2 3; do
	"$kvlm" prefill m --ids --prompt few --save many --threads $n >/dev/null || fail "prefill --threads $n"
	cmp -s one many || fail "$n threads compute another cache than one with portable kernels"
done

# exact is exact; a quantiser is worse; its file says what it did
j=$("$kvlm" compare m --exact c.llama.bf16 --lossy c.safetensors.bf16 -n 32 --json) || fail compare
[ "$(echo "$j" | field agreement)" = 1.000000 ] || fail "exact caches disagree: $j"
case $j in *'[0, 0, '*) ;; *) fail "exact caches differ in attention: $j" ;; esac
"$kvlm" quant c.safetensors.bf16 --method kivi:2 --save q >/dev/null || fail quant
grep -a -q '"note":"kivi:2"' q || fail "the lossy cache does not say what it is"
j=$("$kvlm" compare m --exact c.llama.bf16 --lossy q -n 32 --json) || fail "compare lossy"
case $j in *'[0, 0, '*) fail "2 bits without an error: $j" ;; esac

# a method applied in memory and one that went through files are judged alike
mkdir exact lossy
"$kvlm" eval m --tasks "$tasks/recall.txt" --limit 1 --cache-dir exact >/dev/null || fail "eval --cache-dir"
for method in kivi:3 ladder:0 keydiff:0.25; do
	"$kvlm" eval m --tasks "$tasks/recall.txt" --limit 1 --method $method --json >mem || fail "eval in memory"
	"$kvlm" quant exact/recall-000.bin --heads 2 --method $method --save lossy/recall-000.bin >/dev/null
	"$kvlm" eval m --tasks "$tasks/recall.txt" --limit 1 --cache-dir lossy --json >file || fail "eval lossy"
	for k in kl_nats agreement attention_error; do
		a=$(sed "s/.*\"everywhere\": {//; s/}.*//" mem | field $k)
		b=$(sed "s/.*\"everywhere\": {//; s/}.*//" file | field $k)
		[ -n "$a" ] && [ "$a" = "$b" ] || fail "$method: $k is $a in memory and $b through a file"
	done
done

# levels cost fewer bits and lose more; the last one is exact
for l in 0 1 2 3; do
	j=$("$kvlm" quant exact/recall-000.bin --heads 2 --method ladder:$l --save level$l --json) || fail "ladder:$l"
	echo "$j" | field bits_per_value
done >bits
awk 'NR > 1 && $1 <= last + 1.5 { exit 1 } { last = $1 } END { exit !(NR == 4 && last < 11) }' bits ||
	fail "bits of levels: $(tr '\n' ' ' <bits)"
"$kvlm" compare m --exact exact/recall-000.bin --lossy level3 -n 8 --json | grep -q '\[0, 0, ' ||
	fail "ladder:3 is not exact"

# estimate and measurement
"$kvlm" calibrate m --tasks "$tasks/text.txt" --limit 1 >pairs || fail calibrate
curve=$(sed -n 's/^# curve //p' pairs)
[ "$(grep -vc '^#' pairs)" = 3 ] && [ -n "$curve" ] || fail "calibrate: $(cat pairs)"
refuses "is no curve" "$kvlm" calibrate m --tasks "$tasks/text.txt" --limit 1 --curve "$curve,0:1"
refuses "pairs are no curve" "$kvlm" calibrate m --tasks "$tasks/recall.txt" --limit 1

# corpora
"$kvlm" corpus m --tasks "$tasks" --out corpus --contexts 2 --tokens 100 >/dev/null || fail corpus
cmp -s corpus/context-0000.bin corpus/context-0001.bin && fail "two contexts are equal"
"$kvlm" corpus m --tasks "$tasks" --out pack --contexts 1 --tokens 64 --pack 1M --format safetensors \
	>/dev/null || fail "corpus --pack"
grep -a -q '"note":"packed: 4 contexts' pack/packed-0000.safetensors || fail "the packed file does not say so"

# faults
head -c 5000 c.llama.bf16 >cut
refuses "ends too early" "$kvlm" generate m --load cut --prompt prompt
refuses "not a cache file" "$kvlm" generate m --load ids --prompt prompt
refuses "8 x 128" "$kvlm" generate m --load pack/packed-0000.safetensors --prompt prompt
refuses "not a regular file" "$kvlm" info /dev/null
refuses "not a GGUF" "$kvlm" prefill ids --prompt prompt
refuses "No such file" "$kvlm" prefill m --prompt nothing
refuses "unknown option" "$kvlm" prefill m --bogus
refuses "needs a value" "$kvlm" prefill m --prompt
refuses "method" "$kvlm" quant c.llama.bf16 --method kivi:99 --save q
refuses "method" "$kvlm" quant c.llama.bf16 --method ladder:4 --save q
# a file per context of the suites, filled up with others: judged as the context alone is
"$kvlm" corpus m --suites --tasks "$tasks/load" --out suites --contexts 1 --pack 7M >/dev/null ||
	fail "corpus --suites"
[ "$(ls suites)" = "$(printf 'code-000.bin\nrecall-000.bin\ntext-000.bin')" ] || fail "--suites: $(ls suites)"
[ "$(stat -c %s suites/text-000.bin)" -gt 7000000 ] || fail "--suites: not filled up"
"$kvlm" eval m --tasks "$tasks/load" --limit 1 --method kivi:2 --per-context alone >/dev/null &&
	"$kvlm" eval m --tasks "$tasks/load" --limit 1 --method kivi:2 --cache-dir suites --packed \
		--per-context packed >/dev/null || fail "eval --packed"
cmp alone packed || fail "eval --packed judges otherwise"
refuses "16 layers" "$kvlm" eval m --tasks "$tasks/load" --limit 1 --cache-dir suites
refuses "--suites takes no" "$kvlm" corpus m --suites --ids --out x
refuses "context" "$kvlm" corpus m --tasks "$tasks" --out x --tokens 999999
echo ok
