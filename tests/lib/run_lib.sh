# SPDX-License-Identifier: MIT
# The machinery of tests/run: installing, building, running, counting. Uses its
# ROOT, BUILDS, JOBS, RUN, PASSED, FAILED, SKIPPED, FAILURES, BUSY, pattern.

say() { printf '%s\n' "$*"; }

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
	[ -n "$list" ] || CASE_DIR=$(backing_dir "$RUN" 12G) || {
		CASE_DIR=$RUN
		say "note: $RUN is on $(stat -f -c %T "$RUN") and loop devices do not work;"
		say "      set TMPDIR to a directory on ext4 or xfs, or many cases will be skipped"
	}
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

# quietly LABEL LOG CMD...: runs CMD in a process group of its own with its
# output in LOG, showing progress; its status.
quietly() {
	local label=$1 log=$2 start=$SECONDS rc
	shift 2
	setsid "$@" >"$log" 2>&1 </dev/null 9>&- &
	BUSY=("$!")
	while kill -0 "${BUSY[0]}" 2>/dev/null; do
		# how far ninja or meson is
		tick "$label" "$start" "$(tail -c 4000 "$log" | grep -aoE '^ *\[?[0-9]+/[0-9]+\]?' | tail -n 1 | tr -d ' ')"
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

# --- building ---

# build NAME [meson options]: configures when needed, builds; a failure counts.
# With ONLY set, builds just the programs of these suites.
build() {
	local name=$1 dir=$BUILDS/$1 start=$SECONDS
	shift
	PROGRAMS=()
	if [ ! -f "$dir/build.ninja" ] || [ "$(cat "$dir/.options" 2>/dev/null)" != "$*" ]; then
		rm -rf "$dir"
		quietly "configuring $name" "$RUN/build.log" meson setup "$dir" "$ROOT" "$@" || {
			tail -n 25 "$RUN/build.log"
			count fail "build/$name" "meson setup"
			return 1
		}
		printf '%s\n' "$*" >"$dir/.options"
	fi
	[ -z "${ONLY:-}" ] || select_suites "$name" "$ONLY"
	quietly "building $name" "$RUN/build.log" ninja -C "$dir" "${PROGRAMS[@]}" || {
		grep -E -A 12 'FAILED|error:|ERROR' "$RUN/build.log" | head -n 60
		count fail "build/$name"
		return 1
	}
	say "built $name in $((SECONDS - start)) s"
}

# Everything optional left out, optimised: must build without a warning.
build_minimal() {
	matches build/minimal || return 0
	build minimal --auto-features=disabled --buildtype=release && count pass build/minimal
}

# clang sees what gcc does not, above all wrong locking.
build_clang() {
	matches build/clang || return 0
	command -v clang >/dev/null || { count skip build/clang "clang is not installed"; return; }
	CC=clang build clang --auto-features=auto -Dtests=disabled -Dc_args=-Werror=thread-safety &&
		count pass build/clang
}

# --- meson suites ---

matches() { [ -z "$pattern" ] || [[ $1 == *"$pattern"* ]]; }

# "SUITE/NAME PROGRAM SUITE..." of each test that meson knows in build $1
list_suites() {
	meson introspect --tests "$BUILDS/$1" | python3 -c '
import json, os, sys
for t in json.load(sys.stdin):
    suites = [s.split(":")[-1] for s in t["suite"]]
    exe = os.path.relpath(t["cmd"][0], sys.argv[1]) if t["cmd"][0].startswith(sys.argv[1]) else "-"
    print(suites[0] + "/" + t["name"], exe, *suites)' "$(realpath "$BUILDS/$1")" | sort -u
}

# select_suites BUILD "SUITE..." (empty: all): sets WANT and PROGRAMS.
select_suites() {
	local t exe all s
	WANT=() PROGRAMS=()
	while read -r t exe all; do
		for s in ${2:-$all}; do
			[[ " $all " == *" $s "* ]] || continue
			matches "$t" || break
			WANT+=("$t")
			[ "$exe" = - ] || PROGRAMS+=("$exe")
			break
		done
	done < <(list_suites "$1")
}

# run_suites BUILD "SUITE..." (empty: all)
run_suites() {
	local dir=$BUILDS/$1 suites=$2 t s args=() mult=1 wrap=()
	select_suites "$1" "$2"
	[ ${#WANT[@]} -gt 0 ] || return 0
	mapfile -t args < <(printf '%s\n' "${WANT[@]#*/}" | sort -u)
	for s in $suites; do args+=(--suite "$s"); done
	[ "$1" = normal ] || mult=4
	if [ "$1" = tsan ] && setarch -R true 2>/dev/null; then
		wrap=(--wrap "setarch -R") # its shadow memory wants fixed addresses
	fi
	rm -f "$dir"/meson-logs/testlog*.json
	mkdir -p "$RUN/san"
	quietly "running ${#WANT[@]} tests of $1" "$RUN/suites.log" env TMPDIR="$CASE_DIR" BUILD="$dir" \
		ASAN_OPTIONS="log_path=$RUN/san/$1" \
		UBSAN_OPTIONS="print_stacktrace=1:log_path=$RUN/san/$1" TSAN_OPTIONS=halt_on_error=1 \
		meson test -C "$dir" --no-rebuild --print-errorlogs -t "$mult" --num-processes "$JOBS" \
		"${wrap[@]}" "${args[@]}"
	report_suites "$1" "$dir/meson-logs/testlog"*.json
	report_sanitizers "$1"
}

report_suites() {
	local name=$1 result test time n=0
	shift
	while IFS=$'\t' read -r result test time; do
		[[ " ${WANT[*]} " == *" $test "* ]] || continue
		n=$((n + 1))
		[ "$name" = normal ] || test="$test [$name]"
		count "$result" "$test" "$time"
	done < <(python3 - "$@" <<'PY'
import json, sys
kinds = {"OK": "pass", "EXPECTEDFAIL": "pass", "SKIP": "skip"}
for line in (l for f in sys.argv[1:] for l in open(f)):
    t = json.loads(line)
    suite, _, name = t["name"].rpartition(" / ")
    kind = kinds.get(t["result"], "fail")
    text = (t.get("stdout", "") + t.get("stderr", "")).strip().splitlines()
    note = "(%.1f s)" % t["duration"]
    if kind == "skip":
        note = text[-1] if text else ""
    elif kind == "fail":
        note = "%s %s\n%s" % (note, t["result"], "\n".join("        " + l for l in text[-40:]))
        note = note.replace("\n", "\v")
    print(kind, suite.split(":")[-1].split("+")[0] + "/" + name, note.replace("\t", " "), sep="\t")
PY
	)
	[ $n -gt 0 ] || { tail -n 20 "$RUN/suites.log"; count fail "suites [$name]" "meson test"; }
}

# Criterion passes a test that leaks, so the reports themselves are a failure.
report_sanitizers() {
	local f
	for f in "$RUN/san/$1".*; do
		[ -s "$f" ] || continue
		count fail "sanitizer report [$1]"
		head -n 40 "$f" | sed 's/^/        /'
		rm -f "$f"
	done
}

# --- mount-level cases ---

# header FILE WORD: what follows "# WORD" or "# WORD:" in its first lines, "yes"
# when that is nothing; empty when there is no such line.
header() {
	awk -v w="$2" 'NR > 30 { exit }
		$1 == "#" && ($2 == w || $2 == w ":") { print $3 == "" ? "yes" : $3; exit }' "$1"
}

# list_cases all|quick|asan: "NAME FILE" each
list_cases() {
	local dir f name
	for dir in fs crash clients; do
		for f in "$ROOT/tests/$dir"/*; do
			[ -f "$f" ] && [ -x "$f" ] && [ -z "$(header "$f" HELPER)" ] || continue
			name=$dir/$(basename "${f%.sh}")
			matches "$name" || continue
			[ "$1" = quick ] && [ -n "$(header "$f" SLOW)" ] && continue
			[ "$1" = asan ] && [ -z "$(header "$f" ASAN)" ] && continue
			echo "$name $f"
		done
	done
}

# Starts one case in its own process group and directory.
case_start() { # BUILD NAME FILE
	local dir=$CASE_DIR/${2//\//-} limit
	limit=$(header "$3" TIMEOUT)
	[[ $limit =~ ^[0-9]+$ ]] || limit=120
	[ "$1" = normal ] || limit=$((limit * 3))
	mkdir -p "$dir"
	chmod 755 "$dir"
	setsid env TMPDIR="$dir" BUILD="$BUILDS/$1" ROOT="$ROOT" KVLM="$BUILDS/$1/tools/kvlm/kvlm" \
		ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 LC_ALL=C.UTF-8 \
		timeout --kill-after=15 "$limit" "$3" \
		>"$dir.log" 2>&1 </dev/null 9>&- &
	BUSY+=("$!")
	CASE_OF[$!]="$1 $2 $SECONDS $limit"
}

# One that ended: count it, and remove what it left.
case_finish() { # PID STATUS
	local b name start limit dir rc=$2 note t g left=()
	read -r b name start limit <<<"${CASE_OF[$1]}"
	unset "CASE_OF[$1]"
	dir=$CASE_DIR/${name//\//-}
	t="($((SECONDS - start)) s)"
	note=$name
	[ "$b" = normal ] || note="$name [$b]"
	kill -KILL -- "-$1" 2>/dev/null # what it left running in its group
	for g in "${BUSY[@]}"; do [ "$g" = "$1" ] || left+=("$g"); done
	BUSY=("${left[@]}")
	case $rc in
	0) count pass "$note" "$t" ;;
	77) count skip "$note" "$(sed -n '$s/^SKIP: //;$p' "$dir.log")" ;;
	*)
		[ $rc != 124 ] && [ $rc != 137 ] || t="$t timeout after $limit s"
		count fail "$note" "$t"
		tail -n 60 "$dir.log" | sed 's/^/        /'
		;;
	esac
	[ -z "$(mounts_below "$dir")" ] || sweep_mounts "$dir"
	rm -rf --one-file-system "$dir" "$dir.log"
}

# Waits until fewer than $1 cases run.
case_wait() {
	local pid rc label
	while [ ${#CASE_OF[@]} -ge "$1" ] && [ ${#CASE_OF[@]} -gt 0 ]; do
		for pid in "${!CASE_OF[@]}"; do
			kill -0 "$pid" 2>/dev/null && continue
			wait "$pid"
			rc=$?
			case_finish "$pid" $rc
			continue 2
		done
		label=
		for pid in "${!CASE_OF[@]}"; do
			set -- "$1" ${CASE_OF[$pid]}
			label="$label${label:+, }$3"
		done
		tick "$label" "$4"
		sleep 0.1
	done
}

# run_cases BUILD all|quick|asan: side by side, then those that must be alone.
run_cases() {
	local name file alone
	declare -gA CASE_OF=()
	[ -e "$BUILDS/$1/src/kvcachefs" ] || say "note: this build has no kvcachefs: cases that mount are skipped"
	for alone in "" yes; do
		while read -r name file; do
			[ "${alone:+x}" = "$([ -z "$(header "$file" ALONE)" ] || echo x)" ] || continue
			case_wait "$([ -n "$alone" ] && echo 1 || echo "$JOBS")"
			case_start "$1" "$name" "$file"
		done < <(list_cases "$2")
		case_wait 1
	done
}
