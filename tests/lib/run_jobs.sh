# SPDX-License-Identifier: MIT
# What tests/run runs side by side: builds, meson's suites, mount-level cases.
# Sourced after run_lib.sh, whose variables it uses.
#
# QUEUE holds what is to be run, "KIND BUILD NAME LIMIT FILE" each; a line is taken
# when its build is there and a slot is free, the one with the longest limit first.
# BUILDING holds the builds still to be made: the first one with the whole machine,
# the others one after another, behind everything else, while tests run. Cases wait
# for the disk and for the daemon more than they compute, so there is one slot more
# than processors.

matches() { [ -z "$pattern" ] || [[ $1 == *"$pattern"* ]]; }

# --- building ---

# Configures build $1 when needed and builds it; in a process of its own. With ONLY
# set, just the programs of these suites.
build_steps() {
	local dir=$BUILDS/$1 name=$1
	shift
	PROGRAMS=()
	if [ ! -f "$dir/build.ninja" ] || [ "$(cat "$dir/.options" 2>/dev/null)" != "$*" ]; then
		rm -rf "$dir"
		meson setup "$dir" "$ROOT" "$@" || exit 1
		printf '%s\n' "$*" >"$dir/.options"
	fi
	[ -z "${ONLY:-}" ] || select_suites "$name" "$ONLY"
	exec ninja -C "$dir" "${PROGRAMS[@]}"
}

# The options of each build. The sanitizers' are made to be compiled quickly.
build_start() { # BUILD NICENESS
	local opts=() set=() lib=$ROOT/tests/lib
	case $1 in
	normal) opts=(-Dfaults=true) ;;
	asan) opts=(-Dfaults=true -Db_sanitize=address,undefined -Db_lundef=false -Doptimization=1 -Dc_args=-g1) ;;
	tsan)
		opts=(-Dfaults=true -Db_sanitize=thread -Db_lundef=false -Doptimization=1 -Dc_args=-g1)
		set=("ONLY=$TSAN_SUITES")
		;;
	# everything optional left out, optimised: must build without a warning
	minimal) opts=(--auto-features=disabled --buildtype=release -Dtests=disabled) ;;
	# clang sees what gcc does not, above all wrong locking
	clang)
		opts=(--auto-features=auto -Dtests=disabled -Doptimization=0 '-Dc_args=-g1 -Werror=thread-safety')
		set=(CC=clang)
		;;
	esac
	job_start build "$1" "building $1" 0 "$RUN/build-$1.log" nice -n "$2" \
		env ROOT="$ROOT" BUILDS="$BUILDS" pattern="$pattern" "${set[@]}" \
		bash -c '. "$1/run_jobs.sh"; shift; build_steps "$@"' bash "$lib" "$1" "${opts[@]}"
}

build_finish() { # BUILD SECONDS STATUS
	tick_clear
	BUILT[$1]=$([ "$3" = 0 ] && echo yes || echo no)
	if [ "$3" != 0 ]; then
		grep -E -A 12 'FAILED|error:|ERROR' "$RUN/build-$1.log" | head -n 60 | grep . ||
			tail -n 25 "$RUN/build-$1.log"
		count fail "build/$1"
		return
	fi
	case $1 in
	minimal | clang) count pass "build/$1" "($2 s)" ;;
	*) say "built $1 in $2 s" ;;
	esac
}

# --- meson suites ---

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

suites_start() { # BUILD "SUITE..." (empty: all)
	local dir=$BUILDS/$1 s args=() mult=1 wrap=()
	select_suites "$1" "$2"
	[ ${#WANT[@]} -gt 0 ] || return 0
	WANTED[$1]=" ${WANT[*]} "
	mapfile -t args < <(printf '%s\n' "${WANT[@]#*/}" | sort -u)
	for s in $2; do args+=(--suite "$s"); done
	[ "$1" = normal ] || mult=4
	if [ "$1" = tsan ] && setarch -R true 2>/dev/null; then
		wrap=(--wrap "setarch -R") # its shadow memory wants fixed addresses
	fi
	rm -f "$dir"/meson-logs/testlog*.json
	mkdir -p "$RUN/san"
	job_start suites "$1" "${#WANT[@]} tests of $1" 0 "$RUN/suites-$1.log" \
		env TMPDIR="$CASE_DIR" BUILD="$dir" ASAN_OPTIONS="log_path=$RUN/san/$1" \
		UBSAN_OPTIONS="print_stacktrace=1:log_path=$RUN/san/$1" TSAN_OPTIONS=halt_on_error=1 \
		meson test -C "$dir" --no-rebuild --print-errorlogs -t "$mult" --num-processes "$JOBS" \
		"${wrap[@]}" "${args[@]}"
}

suites_finish() { # BUILD
	report_suites "$1" "$BUILDS/$1/meson-logs/testlog"*.json
	report_sanitizers "$1"
}

report_suites() {
	local name=$1 result test time n=0
	shift
	while IFS=$'\t' read -r result test time; do
		[[ ${WANTED[$name]} == *" $test "* ]] || continue
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
	[ $n -gt 0 ] || { tail -n 20 "$RUN/suites-$name.log"; count fail "suites [$name]" "meson test"; }
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

case_start() { # BUILD NAME LIMIT FILE
	local dir=$CASE_DIR/${2//\//-}-$1
	mkdir -p "$dir"
	chmod 755 "$dir"
	job_start case "$1" "$2" "$3" "$dir.log" env TMPDIR="$dir" BUILD="$BUILDS/$1" ROOT="$ROOT" \
		KVLM="$BUILDS/$1/tools/kvlm/kvlm" ASAN_OPTIONS=detect_leaks=0 \
		UBSAN_OPTIONS=print_stacktrace=1 LC_ALL=C.UTF-8 timeout --kill-after=15 "$3" "$4"
}

# One that ended: count it, and remove what it left.
case_finish() { # BUILD NAME SECONDS STATUS LIMIT
	local dir=$CASE_DIR/${2//\//-}-$1 t="($3 s)" note=$2
	[ "$1" = normal ] || note="$2 [$1]"
	case $4 in
	0) count pass "$note" "$t" ;;
	77) count skip "$note" "$(sed -n '$s/^SKIP: //;$p' "$dir.log")" ;;
	*)
		[ $4 != 124 ] && [ $4 != 137 ] || t="$t timeout after $5 s"
		count fail "$note" "$t"
		tail -n 60 "$dir.log" | sed 's/^/        /'
		;;
	esac
	[ -z "$(mounts_below "$dir")" ] || sweep_mounts "$dir"
	rm -rf --one-file-system "$dir" "$dir.log"
}

# --- side by side ---

# job_start KIND BUILD NAME LIMIT LOG CMD...: in a process group of its own.
job_start() {
	setsid "${@:6}" >"$5" 2>&1 </dev/null 9>&- &
	BUSY+=("$!")
	JOB_OF[$!]="$1|$2|$3|$4|$5|$SECONDS"
}

job_finish() { # PID STATUS
	local kind b name limit log start g left=()
	IFS='|' read -r kind b name limit log start <<<"${JOB_OF[$1]}"
	unset "JOB_OF[$1]"
	kill -KILL -- "-$1" 2>/dev/null # what it left running in its group
	for g in "${BUSY[@]}"; do [ "$g" = "$1" ] || left+=("$g"); done
	BUSY=("${left[@]}")
	case $kind in
	build) build_finish "$b" $((SECONDS - start)) "$2" ;;
	suites) suites_finish "$b" ;;
	case) case_finish "$b" "$name" $((SECONDS - start)) "$2" "$limit" ;;
	esac
}

# Says what runs, and how far it is: on a terminal all the time, in a log when nothing
# else has been said for a while.
job_tick() {
	local pid kind name log label= far
	[ $((SECONDS - SAID)) -ge $([ -t 1 ] && echo 1 || echo 20) ] || return 0
	for pid in "${!JOB_OF[@]}"; do
		IFS='|' read -r kind _ name _ log _ <<<"${JOB_OF[$pid]}"
		far=
		[ "$kind" = case ] || far=$(progress_of "$log")
		label="$label${label:+, }$name${far:+ $far}"
	done
	SAID=$SECONDS
	if [ -t 1 ]; then
		printf '\r\033[K      %s ... %d s' "$label" $((SECONDS - STARTED))
	else
		say "      $label ... $((SECONDS - STARTED)) s"
	fi
}

# Reaps what has ended. RUNNING: how many tests still run.
job_reap() {
	local pid rc
	for pid in "${!JOB_OF[@]}"; do
		kill -0 "$pid" 2>/dev/null && continue
		wait "$pid"
		rc=$?
		job_finish "$pid" $rc
	done
	RUNNING=0 BUILDER=
	for pid in "${!JOB_OF[@]}"; do
		case ${JOB_OF[$pid]} in
		build*) BUILDER=$pid ;;
		*) RUNNING=$((RUNNING + 1)) ;;
		esac
	done
}

# Starts the first of the queue that may run now; false when there is none.
queue_take() {
	local i kind b name limit file
	for i in "${!QUEUE[@]}"; do
		read -r kind b name limit file <<<"${QUEUE[i]}"
		case ${BUILT[$b]:-} in
		'') continue ;;
		no) unset "QUEUE[i]"; return 0 ;; # the build has been counted
		esac
		if [ "$kind" = alone ]; then
			[ $RUNNING = 0 ] || continue
			ALONE=yes
		fi
		unset "QUEUE[i]"
		case $kind in
		suites) suites_start "$b" "$file" ;;
		*) case_start "$b" "$name" "$limit" "$file" ;;
		esac
		return 0
	done
	return 1
}

queue_suites() { # BUILD "SUITE..." (empty: all)
	QUEUE+=("suites $1 - 9999 $2")
}

# queue_cases BUILD all|quick|asan
queue_cases() {
	local name file kind limit
	while read -r name file; do
		kind=case
		[ -z "$(header "$file" ALONE)" ] || kind=alone
		limit=$(header "$file" TIMEOUT)
		[[ $limit =~ ^[0-9]+$ ]] || limit=120
		[ "$1" = normal ] || limit=$((limit * 3))
		QUEUE+=("$kind $1 $name $limit $file")
	done < <(list_cases "$2")
}

# Builds what is in BUILDING and runs what is in QUEUE.
queue_run() {
	local nice=0
	declare -gA JOB_OF=() BUILT=() WANTED=()
	# suites before cases, what must be alone last, in the order of the builds
	mapfile -t QUEUE < <(for b in "${BUILDING[@]}"; do
		printf '%s\n' "${QUEUE[@]}" | awk -v b="$b" '$2 == b { print ($1 == "alone") "\t" $4 "\t" $0 }' |
			sort -t "$(printf '\t')" -s -k1,1n -k2,2nr | cut -f3
	done)
	while :; do
		job_reap
		[ $RUNNING -gt 0 ] || ALONE=
		if [ -z "$BUILDER" ] && [ ${#BUILDING[@]} -gt 0 ]; then
			build_start "${BUILDING[0]}" $nice
			BUILDING=("${BUILDING[@]:1}") nice=10
			continue
		fi
		if [ -z "$ALONE" ] && [ $RUNNING -le "$JOBS" ] && queue_take; then
			continue
		fi
		[ ${#JOB_OF[@]} -gt 0 ] || break
		job_tick
		sleep 0.2
	done
	tick_clear
}
