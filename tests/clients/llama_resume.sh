#!/bin/bash
# SPDX-License-Identifier: MIT
# A context that llama.cpp saved through the mount (sequence state and prompt
# cache; f16, bf16 and q8_0) is not recognised, not compressed, or after a restart
# or a kill of the daemon not continued with the text that it would have had.
# TIMEOUT: 300
. "$(dirname "$0")/../lib/case.sh"
case_begin
need setfattr getfattr
SHIM=$BUILD/tests/clients/libllama_session.so
need_built "$SHIM"
npm=$("$ROOT/tests/clients/llama_npm.sh" 2>"$T/npm.err") || skip "$(tail -n 1 "$T/npm.err")"
mkdir "$T/js" && ln -s "$npm/node_modules" "$T/js/node_modules" || exit 2
cp "$ROOT/tests/clients/llama_resume.mjs" "$ROOT/tools/kvlm/model/kvlm.gguf" "$T/js/" || exit 2
TYPES="f16 f16-trans bf16 q8_0"

# llama save|resume seq|session DIR TYPE...: by a process of its own, states in
# MNT/DIR and copies in T/DIR
llama() {
	local mode=$1 kind=$2 dir=$3 preload=
	shift 3
	[ "$kind" = seq ] || preload=$SHIM
	(cd "$T/js" && LD_PRELOAD=$preload exec node llama_resume.mjs "$mode" kvlm.gguf \
		"$ROOT/tools/kvlm/tasks" "$MNT/$dir" "$T/$dir" "$@") >&2 || fail "llama.cpp: $mode $dir $*"
}

get() { getfattr --absolute-names --only-values -n "user.kvcache.$1" "$2"; }

same_bytes() { # DIR TYPE...
	local dir=$1 t
	shift
	for t; do expect_same "$T/$dir/$t.bin" "$MNT/$dir/$t.bin"; done
}

mount_fs -o dram=128M,settle=500ms
mkdir "$T"/{seq,session,kill} "$MNT"/{seq,session,kill} || exit 2
for kind in seq session; do
	# shellcheck disable=SC2086 # a list
	llama save $kind $kind $TYPES
	expect_eq "$(head -c 4 "$T/$kind/f16.bin")" "$([ $kind = seq ] && echo qsgg || echo nsgg)" magic
done

# Sealed without being asked, its rows found to the last byte, and smaller.
recognised() { # KIND TYPE LAYOUT PERCENT
	local f=$MNT/$1/$2.bin layout size stored i
	for ((i = 0; i < 300; i++)); do
		[ "$(get state "$f")" != sealed ] || break
		sleep 0.1
	done
	expect_eq "$(get state "$f")" sealed "state of $1/$2"
	layout=$(get layout "$f") size=$(stat -c %s "$f") stored=$(get stored_bytes "$f")
	note "$1/$2: $layout: $size bytes in $stored by $(get codec "$f")"
	[[ $layout == "llama-$1 layers=8 "*$3* ]] || fail "$1/$2: recognised as '$layout'"
	[ $((size * 100)) -ge $((stored * $4)) ] || fail "$1/$2: $stored of $size bytes stored"
}
for kind in seq session; do
	recognised $kind f16 "row=128 dtype=f16 tokens=500" 120
	recognised $kind f16-trans "row=128 dtype=f16 tokens=500" 110
	recognised $kind bf16 "row=128 dtype=bf16 tokens=500" 140
	recognised $kind q8_0 "tokens=500 veto=\"already quantised: rows are q8_0\"" 105
	same_bytes $kind $TYPES
done
remount_fs
for kind in seq session; do
	llama resume $kind $kind $TYPES
	same_bytes $kind $TYPES
done

# Killed when the states are on disk but not sealed; then when one has just been.
remount_fs -o dram=128M,settle=1h
llama save seq kill f16 q8_0
sync "$MNT"/kill/*.bin || fail "fsync"
expect_eq "$(get state "$MNT/kill/f16.bin")" plain state
kill_fs
mount_fs "${FS_OPTS[@]}"
same_bytes kill f16 q8_0
llama resume seq kill f16 q8_0
expect setfattr -n user.kvcache.seal -v 1 "$MNT/kill/f16.bin"
kill_fs
mount_fs "${FS_OPTS[@]}"
expect_eq "$(get state "$MNT/kill/f16.bin")" sealed state
same_bytes kill f16 q8_0
llama resume seq kill f16 q8_0
case_end
