# SPDX-License-Identifier: MIT
# Library of mount-level test cases. A case is an executable file in tests/fs,
# tests/crash or tests/clients:
#
#	#!/bin/bash
#	# One sentence: what breaks when this fails.
#	# TIMEOUT: 60		seconds (default 120)
#	# ALONE			not beside other cases (timing, memory, page cache)
#	# SLOW			left out by tests/run --quick
#	# ASAN			run by a full tests/run under ASan+UBSan as well
#	# HELPER		(executable, but not a case: left alone)
#	. "$(dirname "$0")/../lib/case.sh"
#	case_begin
#	mount_fs -o dram=64M
#	echo hello >"$MNT/f"
#	remount_fs
#	expect_eq "$(cat "$MNT/f")" hello
#	case_end
#
# It runs under tests/run or by hand (BUILD=builddir tests/fs/x.sh). Exit 0 is
# a pass, 77 a skip, the rest a failure. Whatever happens, an EXIT trap kills the
# daemons started here, unmounts what lies below $T and removes it (KEEP=1
# keeps the files). Variables:
#
#	ROOT	the source tree		BUILD	the build directory
#	T	temporary directory	STORE, MNT	$T/store, $T/mnt
#	LOG	the daemon's log	FS_PID		the daemon
#	KVCACHEFS  the program (set it before case_begin to run another)

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
BUILD=${BUILD:-$ROOT/build/normal}
KVCACHEFS=${KVCACHEFS:-$BUILD/src/kvcachefs}
FS_PID=
FS_OPTS=()
CASE_PIDS=()
CASE_ENDED=
CASE_LOOPS=0
. "$ROOT/tests/lib/mounts.sh"

note() { echo "$*" >&2; }

skip() {
	note "SKIP: $*"
	CASE_ENDED=skip
	exit 77
}

fail() {
	note "FAIL: $* ($(case_where))"
	CASE_ENDED=fail
	exit 1
}

# file:line of the innermost caller that is not in this library.
case_where() {
	local i
	for ((i = 1; i < ${#BASH_SOURCE[@]}; i++)); do
		[ "${BASH_SOURCE[i]##*/}" = case.sh ] && continue
		echo "${BASH_SOURCE[i]##*/}:${BASH_LINENO[i - 1]}"
		return
	done
}

need_root() { [ "$(id -u)" = 0 ] || skip "needs root"; }

# Skips unless all commands are there.
need() {
	local c
	for c; do command -v "$c" >/dev/null || skip "$c is not installed"; done
}

# Paths $1... must exist, in the form "this build has no X".
need_built() {
	local f
	for f; do [ -x "$f" ] || skip "this build has no ${f#"$BUILD"/}"; done
}

case_begin() {
	set -u
	need_built "$KVCACHEFS"
	[ -e /dev/fuse ] || skip "no /dev/fuse"
	command -v fusermount3 >/dev/null || skip "fusermount3 is not installed"
	T=$(mktemp -d "${TMPDIR:-/var/tmp}/kvcachefs-case-XXXXXX") || exit 2
	chmod 755 "$T" # other users are part of some cases
	STORE=$T/store MNT=$T/mnt LOG=$T/log
	trap case_cleanup EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM HUP
	mkdir "$STORE" "$MNT" || exit 2
	chmod 700 "$STORE"
	: >"$LOG"
}

# The last line of a case: unmounts and says that it got here.
case_end() {
	[ -z "$FS_PID" ] || umount_fs
	CASE_ENDED=pass
	exit 0
}

case_cleanup() {
	local rc=$? pid
	trap '' INT TERM HUP PIPE
	trap - EXIT
	cd /
	if [ "$rc" != 0 ] && [ "$rc" != 77 ]; then
		[ -n "$CASE_ENDED" ] || note "FAIL: the case stopped with status $rc"
		if [ -s "$LOG" ]; then
			note "--- the daemon's log (last 40 lines):"
			tail -n 40 "$LOG" >&2
		fi
	elif [ -z "$CASE_ENDED" ]; then
		note "FAIL: the case ended without case_end"
		rc=1
	fi
	for pid in "${CASE_PIDS[@]}"; do kill -KILL "$pid" 2>/dev/null; done
	abort_mounts "$T"
	wait 2>/dev/null
	sweep_mounts "$T"
	if [ -n "${KEEP:-}" ]; then note "kept: $T"; else rm -rf --one-file-system "$T"; fi
	exit "$rc"
}

# A sanitizer's or an assertion's words in the daemon's log fail the case.
case_check_log() {
	! grep -E -m1 'ERROR: (Address|Leak)Sanitizer|WARNING: ThreadSanitizer|runtime error:|Assertion .* failed' "$LOG" >&2 ||
		fail "the daemon's log has a report"
}

# Starts a daemon in the background: start_fs STORE MNT [args]; sets FS_PID.
start_fs() {
	local store=$1 mnt=$2
	shift 2
	# of all programs the daemon is the one that must not leak
	ASAN_OPTIONS=detect_leaks=1 "$KVCACHEFS" "$store" "$mnt" -f "$@" >>"$LOG" 2>&1 </dev/null &
	FS_PID=$!
	CASE_PIDS+=("$FS_PID")
}

# Waits until MNT is served by FS_PID. Long, because recovery is part of it.
wait_mounted() {
	local i
	for ((i = 0; i < 600; i++)); do
		kill -0 "$FS_PID" 2>/dev/null || fail "the daemon ended at start"
		if is_mounted "$1"; then
			timeout 60 stat "$1" >/dev/null || fail "the mount does not answer"
			return 0
		fi
		sleep 0.05
	done
	fail "not mounted after 30 s"
}

# Mounts STORE at MNT with the arguments given.
mount_fs() {
	[ -z "$FS_PID" ] || fail "mount_fs: mounted already"
	FS_OPTS=("$@")
	start_fs "$STORE" "$MNT" "$@"
	wait_mounted "$MNT"
}

# A reaped process is nobody's to kill: its number may belong to another one.
case_forget() {
	local pid left=()
	for pid in "${CASE_PIDS[@]}"; do [ "$pid" = "$1" ] || left+=("$pid"); done
	CASE_PIDS=("${left[@]}")
}

# Waits for FS_PID to end; its status. 124 after $1 seconds. The shell's own
# word about a daemon that was killed goes nowhere.
wait_fs() {
	local i rc
	{
		for ((i = 0; i < $1 * 20; i++)); do
			kill -0 "$FS_PID" || break
			sleep 0.05
		done
		kill -0 "$FS_PID" && return 124
		wait "$FS_PID"
		rc=$?
	} 2>/dev/null
	case_forget "$FS_PID"
	FS_PID=
	return $rc
}

# Unmounts as a user would and waits for the daemon to finish, with success.
umount_fs() {
	local i rc
	[ -n "$FS_PID" ] || fail "umount_fs: not mounted"
	for ((i = 0; ; i++)); do
		fusermount3 -u "$MNT" 2>"$T/umount.err" && break
		# a file just closed may still be busy for a moment
		[ $i -lt 20 ] || fail "cannot unmount: $(cat "$T/umount.err")"
		sleep 0.1
	done
	wait_fs 90
	rc=$?
	[ $rc = 0 ] || fail "the daemon ended with status $rc"
	case_check_log
}

# SIGKILL, and the dead mount taken away.
kill_fs() {
	[ -n "$FS_PID" ] || fail "kill_fs: not mounted"
	kill -KILL "$FS_PID" 2>/dev/null
	clear_fs
}

# After the daemon died (or was made to): reap it, take the dead mount away.
clear_fs() {
	wait_fs 30
	[ -z "$FS_PID" ] || fail "the daemon does not die"
	fusermount3 -u -q -z "$MNT" 2>/dev/null
	! is_mounted "$MNT" || sweep_mounts "$MNT"
	case_check_log
}

# Unmounts and mounts again, with new arguments or those of before.
remount_fs() {
	[ $# -gt 0 ] || set -- "${FS_OPTS[@]}"
	umount_fs
	mount_fs "$@"
}

# mount_fails PATTERN [args]: must not mount, must say PATTERN (grep -E).
mount_fails() {
	local pattern=$1 rc
	shift
	timeout 60 "$KVCACHEFS" "$STORE" "$MNT" -f "$@" >"$T/refused" 2>&1 </dev/null
	rc=$?
	! is_mounted "$MNT" || fail "mounted, but should have refused: $*"
	[ $rc != 0 ] && [ $rc -lt 124 ] || fail "status $rc instead of a refusal: $(cat "$T/refused")"
	grep -qE -- "$pattern" "$T/refused" || fail "refused without saying '$pattern': $(cat "$T/refused")"
}

expect() {
	"$@" || fail "expected to succeed: $*"
}

expect_fail() {
	! "$@" 2>/dev/null || fail "expected to fail: $*"
}

# expect_eq GOT WANT [WHAT]
expect_eq() {
	[ "$1" = "$2" ] || fail "${3:-value}: got '$1', want '$2'"
}

# expect_between GOT MIN MAX [WHAT]; integers
expect_between() {
	[ "$1" -ge "$2" ] && [ "$1" -le "$3" ] || fail "${4:-value}: got $1, want $2 to $3"
}

expect_same() {
	cmp "$1" "$2" >&2 || fail "contents differ: $1 $2"
}

# expect_errno NAME CMD...: must fail with the text of that errno (C locale).
expect_errno() {
	local name=$1 text
	shift
	text=$(python3 -c "import errno, os; print(os.strerror(errno.$name))")
	! LC_ALL=C "$@" >"$T/errno.out" 2>&1 || fail "expected $name: $*"
	grep -qF -- "$text" "$T/errno.out" || fail "expected $name from: $*; got: $(cat "$T/errno.out")"
}

# wait_for SECONDS CMD...: until it succeeds.
wait_for() {
	local end=$((SECONDS + $1))
	shift
	until "$@" >/dev/null 2>&1; do
		[ $SECONDS -lt $end ] || fail "still not: $*"
		sleep 0.1
	done
}

# Runs a command as an unprivileged user; $AS_UID to choose which (65534).
as_user() {
	need setpriv
	setpriv --reuid="${AS_UID:-65534}" --regid="${AS_UID:-65534}" --clear-groups "$@"
}

# kvdata KIND BYTES SEED FILE: reproducible content. KIND: random, zero, text,
# bf16, f16 (like K and V elements), st (safetensors with such tensors).
kvdata() {
	need_built "$BUILD/tests/lib/kvdata"
	"$BUILD/tests/lib/kvdata" "$1" "$2" "$3" >"$4" || fail "kvdata $*"
}

# loop_fs TYPE SIZE [mkfs args]: a filesystem on a loop device; sets LOOP_DIR.
loop_fs() {
	local type=$1 size=$2 img
	shift 2
	need_root
	need "mkfs.$type" losetup
	CASE_LOOPS=$((CASE_LOOPS + 1))
	img=$T/loop$CASE_LOOPS.img
	LOOP_DIR=$T/loop$CASE_LOOPS
	truncate -s "$size" "$img" && mkdir "$LOOP_DIR" || fail "cannot make $img"
	"mkfs.$type" -q "$@" "$img" >"$T/mkfs.out" 2>&1 || fail "mkfs.$type: $(cat "$T/mkfs.out")"
	mount -o loop "$img" "$LOOP_DIR" 2>"$T/mount.err" || skip "no loop mounts here: $(cat "$T/mount.err")"
}

loop_ext4() { loop_fs ext4 "$@"; }

# Cuts a filesystem off as a power failure would (EXT4_IOC_SHUTDOWN): $2 is 2
# for nothing flushed (default), 1 for the journal flushed, 0 for all.
fs_shutdown() {
	python3 - "$1" "${2:-2}" <<'PY' || fail "shutdown of $1"
import fcntl, os, struct, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
fcntl.ioctl(fd, 0x8004587D, struct.pack("I", int(sys.argv[2])))
PY
}

# Remounts a filesystem of loop_fs after fs_shutdown; its journal is replayed.
loop_remount() {
	local img=$1.img
	umount "$1" || fail "cannot unmount $1: somebody is in there"
	mount -o loop "$img" "$1" || fail "cannot mount $img again"
}
