#!/bin/bash
# SPDX-License-Identifier: MIT
# kvcachectl: every command on a mount, and its errors.
. "$(dirname "$0")/../lib/case.sh"
case_begin
need_root
CTL=$BUILD/tools/kvcachectl/kvcachectl
need_built "$CTL"
mount_fs -o allow_other,dram=128M,settle=1h
requests() { awk -v n="op=\"$1\"" 'index($1, n) { print $2 }' "$MNT/.kvcachefs/metrics"; }
mkdir -p "$T/in/sub"
kvdata st 3000000 1 "$T/in/a.safetensors"
kvdata bf16 2000000 2 "$T/in/sub/b.bin"
truncate -s 50M "$T/in/sparse"
ln -s a.safetensors "$T/in/link"
setfattr -n user.note -v kept "$T/in/sub/b.bin"
touch -d '2020-02-02 02:02:02.123456789' "$T/in/a.safetensors" "$T/in/sub"
chmod 600 "$T/in/sub/b.bin"

"$CTL" import "$T/in" "$MNT/in" >"$T/out" || fail "import"
grep -q '^3 files copied' "$T/out" || fail "import says $(cat "$T/out")"
expect diff -r --no-dereference "$T/in" "$MNT/in"
# durable by itself: the kernel hands no syncfs on
expect_between "$(requests fsync)" 3 100 "files made durable by import"
expect_between "$(requests fsyncdir)" 3 100 "directories made durable by import"
expect_eq "$(stat -c '%Y %a' "$MNT/in/a.safetensors" "$MNT/in/sub" "$MNT/in/sub/b.bin")" \
	"$(stat -c '%Y %a' "$T/in/a.safetensors" "$T/in/sub" "$T/in/sub/b.bin")" "times and modes"
expect_eq "$(getfattr --absolute-names --only-values -n user.note "$MNT/in/sub/b.bin")" kept
"$CTL" import "$T/in" "$MNT/in" | grep -q '^0 files copied.* 3 were' || fail "import is not continued"
"$CTL" export "$MNT/in" "$T/out.d" >/dev/null || fail "export"
expect diff -r --no-dereference "$T/in" "$T/out.d"

F=$MNT/in/a.safetensors
"$CTL" seal -r "$MNT/in" 2>"$T/err" # the sparse one stays plain
"$CTL" ls "$MNT/in" | grep -q "^sealed .*a.safetensors" || fail "ls after seal"
"$CTL" ls -r "$MNT" | grep -q "b.bin" || fail "ls -r"
"$CTL" stat "$F" >"$T/out" || fail "stat"
grep -q '^  state *sealed' "$T/out" || fail "stat: no state"
grep -q '^  recognised *safetensors' "$T/out" || fail "stat: no layout"
expect "$CTL" pin "$F"
expect_eq "$(getfattr --absolute-names --only-values -n user.kvcache.pin "$F")" 1
expect_fail "$CTL" evict "$F"
expect "$CTL" unpin "$F"
expect "$CTL" move dram "$F"
expect "$CTL" prefetch "$F"
expect "$CTL" quality 0.9 "$MNT/in"
expect "$CTL" quality unset "$MNT/in"
expect "$CTL" quality unset "$MNT/in"
expect "$CTL" layout "dtype=bf16 order=2LTHD layers=4 heads=8 dim=64" "$MNT/in"
printf '# measured\na 0 0.4 0.93 100\na 1 0.1 0.98 100\nb 0 0.3 0.95 100\nb 1 0.11 0.99 300\n' >"$T/pairs"
expect "$CTL" calibrate "$T/pairs"
expect "$CTL" calibrate "$T/pairs" "$MNT/in" "$F"
expect_eq "$(getfattr --absolute-names --only-values -n user.kvcache.profile "$F")" 0:0.9400,1:0.9875
expect_fail "$CTL" calibrate "$T/out"
expect_fail "$CTL" calibrate "$T/none"
for bad in 'a 0 0.2 0.9 inf' 'a 0 0.2 0.9 1e308' 'a 4294967296 0.2 0.9 100' 'a 12 0.2 0.9 100'; do
	(cat "$T/pairs" && echo "$bad") >"$T/bad"
	expect_fail "$CTL" calibrate "$T/bad" >/dev/null
done
expect "$CTL" limit dram 100M "$MNT"
"$CTL" status "$MNT" | grep -q '^memory .* of 100' || fail "limit is not shown"
"$CTL" top -n 2 -d 0.2 "$MNT" | grep -q 'a.safetensors' || fail "top"
"$CTL" scrub -w "$MNT" | grep -q ' 0 damaged' || fail "scrub"
expect "$CTL" unseal "$F"
expect_same "$F" "$T/in/a.safetensors"
expect "$CTL" evict "$F"
expect_fail stat "$F"
if command -v script >/dev/null; then
	TERM=xterm script -qec "$CTL top -n 1 -d 0.1 $MNT" /dev/null </dev/null | grep -q kvcachefs ||
		fail "top on a terminal"
fi

# errors: what is wrong, and with what
says() {
	local want=$1 pattern=$2 rc
	shift 2
	"$CTL" "$@" >"$T/out" 2>&1
	rc=$?
	expect_eq $rc "$want" "status of kvcachectl $*"
	grep -qE -- "$pattern" "$T/out" || fail "no '$pattern' for $*: $(cat "$T/out")"
}
says 0 'usage: kvcachectl' --help
says 0 'usage: kvcachectl pin' pin --help
says 2 'usage'
says 2 "unknown command 'frob'" frob
says 2 'usage: kvcachectl pin' pin
says 2 'usage: kvcachectl move' move dram
says 1 'is a directory; -r' pin "$MNT/in"
says 1 'No such file' pin "$MNT/none"
says 1 'not allowed' quality 9 "$MNT/in/sub/b.bin"
says 1 'not allowed' move tape "$MNT/in/sub/b.bin"
says 1 'does not lie in a mounted' status "$T"
says 1 'does not lie in a mounted' ls "$T/in/a.safetensors"
says 1 'not a size' limit dram lots "$MNT"
says 1 'is not a directory' import "$T/in/link" "$MNT/x"
says 1 'a copy into itself' import "$MNT/in" "$MNT/in/sub/again"
says 1 'a copy into itself' export "$MNT/in" "$MNT/in"
expect_fail stat "$MNT/in/sub/again"
AS_UID=10001
chmod 755 "$MNT" "$MNT/in" "$MNT/in/sub"
expect_fail as_user "$CTL" pin "$MNT/in/sub/b.bin"
case_end
