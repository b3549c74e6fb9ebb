# SPDX-License-Identifier: MIT
# The machinery of tests/run: installing, starting and ending what runs side by side,
# counting. Uses its ROOT, BUILDS, JOBS, RUN, PASSED, FAILED, SKIPPED, FAILURES, BUSY,
# pattern; builds and tests as such are in run_jobs.sh.

SAID=0
say() {
	SAID=$SECONDS
	printf '%s\n' "$*"
}

# --- start and end ---

run_begin() {
	trap 'run_stop 130' INT
	trap 'run_stop 143' TERM HUP
	trap run_cleanup EXIT
	STARTED=$SECONDS
	RUN=$(mktemp -d "${TMPDIR:-/var/tmp}/kvcachefs-run-XXXXXX") || exit 2
	chmod 755 "$RUN"
	mkdir -p "$BUILDS" || exit 2
	exec 9>"$BUILDS/.lock"
	flock -n 9 || { say "tests/run: another run uses $BUILDS; waiting"; flock 9; }
	CASE_DIR=$RUN
	[ -n "$list" ] || CASE_DIR=$(quick_dir "$RUN" || backing_dir "$RUN" 12G) || {
		CASE_DIR=$RUN
		say "note: $RUN is on $(stat -f -c %T "$RUN") and loop devices do not work;"
		say "      set TMPDIR to a directory on ext4 or xfs, or many cases will be skipped"
	}
}

# An ext4 of our own on a loop device that does not wait for the disk at every fsync:
# no case cuts off the power of the whole machine. Fails where there cannot be one.
quick_dir() {
	[ "$(id -u)" = 0 ] && [ "$(stat -f -c '%a * %S / 1073741824' "$1" | xargs expr)" -ge 16 ] 2>/dev/null &&
		mkdir "$1/quick" && truncate -s 12G "$1/quick.img" &&
		mkfs.ext4 -q -F "$1/quick.img" 2>/dev/null &&
		mount -o loop,nobarrier,discard "$1/quick.img" "$1/quick" 2>/dev/null &&
		chmod 755 "$1/quick" && echo "$1/quick"
}

# Ends the process groups started here: politely, then not.
kill_busy() {
	local g i
	[ ${#BUSY[@]} -gt 0 ] || return 0
	if [ -n "${INSTALLING:-}" ]; then # half an installation is worse than a wait
		say "waiting until apt-get has finished"
		wait "${BUSY[@]}"
	fi
	for g in "${BUSY[@]}"; do kill -TERM -- "-$g" 2>/dev/null; done
	for ((i = 0; i < 100; i++)); do
		for g in "${BUSY[@]}"; do
			kill -0 -- "-$g" 2>/dev/null && { sleep 0.1; continue 2; }
		done
		break
	done
	for g in "${BUSY[@]}"; do kill -KILL -- "-$g" 2>/dev/null; done
	wait 2>/dev/null
	BUSY=()
}

run_stop() {
	trap '' INT TERM HUP
	tick_clear
	say "stopping"
	exit "$1"
}

run_cleanup() {
	trap '' INT TERM HUP
	kill_busy
	[ -n "$RUN" ] || return
	sweep_mounts "$RUN"
	rm -rf --one-file-system "$RUN"
}

run_end() {
	local f
	if [ ${#FAILURES[@]} -gt 0 ]; then
		say "failed:"
		for f in "${FAILURES[@]}"; do say "  $f"; done
	fi
	[ $((PASSED + FAILED)) -gt 0 ] || { say "nothing was run"; FAILED=1; }
	say "took $((SECONDS - STARTED)) s"
	say "$PASSED passed, $FAILED failed, $SKIPPED skipped"
	[ $FAILED = 0 ]
	exit
}

# --- counting ---

# count pass|fail|skip NAME [TEXT]; a vertical tab in TEXT is a line break
count() {
	tick_clear
	case $1 in
	pass) PASSED=$((PASSED + 1)); say "ok    $2${3:+  $3}" ;;
	skip) SKIPPED=$((SKIPPED + 1)); say "skip  $2${3:+: $3}" ;;
	*) FAILED=$((FAILED + 1)); FAILURES+=("$2"); say "FAIL  $2${3:+  ${3//$'\v'/$'\n'}}" ;;
	esac
}

# --- progress: what is being waited for, from two seconds on ---

# tick LABEL START [DETAIL]: called several times a second. A terminal has one
# line rewritten, a log gets one at two seconds and then every thirty.
tick() {
	local s=$((SECONDS - $2))
	[ $s -ge 2 ] || return 0
	if [ -t 1 ]; then
		printf '\r\033[K      %s ... %s%d s' "$1" "${3:+$3, }" "$s"
	elif [ "${TICK_LABEL:-}" != "$1" ] || [ $s -ge "$TICK_NEXT" ]; then
		say "      $1 ... ${3:+$3, }$s s"
		TICK_LABEL=$1 TICK_NEXT=$((s / 30 * 30 + 30))
	fi
}

tick_clear() { [ -t 1 ] && printf '\r\033[K'; return 0; }

# How far the ninja or meson with this log is.
progress_of() { tail -c 4000 "$1" | grep -aoE '^ *\[?[0-9]+/[0-9]+\]?' | tail -n 1 | tr -d ' []'; }

# quietly LABEL LOG CMD...: runs CMD in a process group of its own with its
# output in LOG, showing progress; its status.
quietly() {
	local label=$1 log=$2 start=$SECONDS rc
	shift 2
	setsid "$@" >"$log" 2>&1 </dev/null 9>&- &
	BUSY=("$!")
	while kill -0 "${BUSY[0]}" 2>/dev/null; do
		tick "$label" "$start"
		sleep 0.25
	done
	wait "${BUSY[0]}"
	rc=$?
	BUSY=()
	tick_clear
	return $rc
}

# --- installing ---

install_missing() {
	local p missing=()
	# shellcheck disable=SC2086 # a list
	set -- "$@" ${KVFS_EXTRA_PACKAGES:-}
	command -v dpkg-query >/dev/null || return 0 # not Debian: meson will tell
	for p; do
		dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing+=("$p")
	done
	[ ${#missing[@]} -gt 0 ] || return 0
	if [ "$(id -u)" != 0 ]; then
		say "not installed: ${missing[*]}"
		say "run it as root (sudo tests/run) to have them installed"
		return 0
	fi
	say "installing: ${missing[*]}"
	export DEBIAN_FRONTEND=noninteractive
	local apt=(apt-get -y -qq --no-install-recommends -o DPkg::Lock::Timeout=120 -o Acquire::Retries=3)
	quietly "apt-get update" "$RUN/apt.log" "${apt[@]}" update
	INSTALLING=yes
	quietly "apt-get install" "$RUN/apt.log" "${apt[@]}" install "${missing[@]}" ||
		{ tail -n 15 "$RUN/apt.log"; say "apt-get install failed; going on with what is there"; }
	INSTALLING=
}

# promtool alone, once, for fs/control: its package would start a server and bring
# 300 MB of others. Without it that case looks at the text by itself.
fetch_promtool() {
	local dir=$BUILDS/promtool
	matches fs/control && ! command -v promtool >/dev/null || return 0
	if [ ! -x "$dir/promtool" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
		mkdir -p "$dir" && chmod 755 "$dir" && quietly "getting promtool" "$RUN/apt.log" \
			env -C "$dir" apt-get -qq -o Acquire::http::Timeout=20 download prometheus &&
			dpkg-deb --fsys-tarfile "$dir"/prometheus_*.deb | tar -xOf - ./usr/bin/promtool >"$RUN/promtool" &&
			install -m 755 "$RUN/promtool" "$dir/promtool"
		rm -f "$dir"/*.deb
	fi
	[ ! -x "$dir/promtool" ] || PATH=$PATH:$dir
}
