#!/bin/bash
# SPDX-License-Identifier: MIT
# tools/quickstart does not end well by itself, leaves something behind after
# ctrl-C or where only a loop device can hold a store, or runs what others wrote.
# TIMEOUT: 180
# SLOW
. "$(dirname "$0")/../lib/case.sh"
case_begin
need_root
need python3 setpriv runuser
need_built "$BUILD/tools/kvlm/kvlm"
# without npm: every other command
mkdir "$T/bin" "$T/tmp"
IFS=: read -ra dirs <<<"$PATH"
for d in "${dirs[@]}"; do ln -s "$d"/* "$T/bin/" 2>/dev/null; done
rm -f "$T"/bin/{node,npm,npx}
nothing_left() {
	expect_eq "$(ls -A "$1")" "" "left behind in $1"
	expect_eq "$(mounts_below "$1" | grep -v " $1$")" "" "left mounted"
	expect_eq "$(losetup -n -O BACK-FILE 2>/dev/null | grep -F "$1/")" "" "loop devices left"
}
QUICK=$ROOT/tools/quickstart

PATH=$T/bin TMPDIR=$T/tmp "$QUICK" >"$T/out" 2>&1 || fail "quickstart: $(tail -n 5 "$T/out")"
expect_eq "$(grep -cE '^[a-z]+-[0-9] .*MB .* (copy|dram|ssd) ' "$T/out")" 4 "contexts shown"
grep -q 'llama.cpp: not run (node is not installed)' "$T/out" || fail "no word about llama.cpp"
grep -q 'To mount for real' "$T/out" || fail "quickstart does not say how to go on"
nothing_left "$T/tmp"

# ctrl-C in the middle, with the store on a loop device
mount -t tmpfs none "$T/tmp" || skip "no tmpfs"
# interrupted PATTERN: ctrl-C once its output has PATTERN
interrupted() {
	local pid
	: >"$T/out" # what the last one said is not waited for
	TMPDIR=$T/tmp python3 -c '
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL) # the shell has it ignored in the background
os.execv(sys.argv[1], sys.argv[1:])' "$QUICK" >"$T/out" 2>&1 &
	pid=$!
	CASE_PIDS+=("$pid")
	wait_for 60 grep -q "$1" "$T/out"
	sleep 0.5
	kill -INT "$pid"
	wait "$pid"
	expect_eq $? 130 "status after ctrl-C"
	case_forget "$pid"
}
PATH=$T/bin interrupted 'is mounted at'
grep -q '/fs/store is mounted' "$T/out" || fail "the store was not on a loop device"
nothing_left "$T/tmp"

# ctrl-C in the middle of an installation: it is finished, and that is said
mkdir "$T/apt"
printf '#!/bin/sh\ncase $* in *install*) sleep 4; : >"%s" ;; esac\n' "$T/installed" >"$T/apt/apt-get"
printf '#!/bin/sh\n' >"$T/apt/dpkg-query"
chmod 755 "$T/apt/"*
PATH=$T/apt:$T/bin interrupted '^installing'
grep -q 'waiting until apt-get has finished' "$T/out" || fail "no word about apt-get: $(cat "$T/out")"
[ -e "$T/installed" ] || fail "the installation was cut off"
nothing_left "$T/tmp"

# a build that another user began: said, with what to do
mkdir "$T/theirs"
SUDO_USER=nobody BUILD=$T/theirs/build TMPDIR=$T/tmp "$QUICK" >"$T/out" 2>&1
expect_eq $? 1 "status with a foreign build directory"
grep -q "$T/theirs belongs to root, but nobody is to build" "$T/out" || fail "$(tail -n 3 "$T/out")"
nothing_left "$T/tmp"

# what is run must be ours, and where we write too
cp "$ROOT/tests/clients/llama_npm.sh" "$T/npm.sh"
mkdir -p "$T/cache/kvcachefs-npm" "$T/open"
AS_UID=10001
as_user env XDG_CACHE_HOME="$T/cache" "$T/npm.sh" >"$T/out" 2>&1
expect_eq $? 77 "status with a foreign cache"
grep -q 'does not belong to' "$T/out" || fail "foreign cache: $(cat "$T/out")"
chown 10001 "$T/open" "$T/cache/kvcachefs-npm"
chmod 775 "$T/cache/kvcachefs-npm"
as_user env XDG_CACHE_HOME="$T/cache" "$T/npm.sh" >"$T/out" 2>&1
grep -q 'does not belong to' "$T/out" || fail "a cache that others write to: $(cat "$T/out")"
"$BUILD/tools/kvcachebench/kvcachebench" meta --dir="$T/open" >"$T/out" 2>&1
grep -q 'belongs to somebody else' "$T/out" || fail "foreign scratch: $(head -n 3 "$T/out")"
case_end
