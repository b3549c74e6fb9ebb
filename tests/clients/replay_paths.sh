#!/bin/bash
# SPDX-License-Identifier: MIT
# The same as replay.sh with each way of serving forced, by an unprivileged
# mount's means too, and with little memory.
#   replay_paths.sh [--full]    each engine in all of these ways, not in two of them
# TIMEOUT: 300
# SLOW
. "$(dirname "$0")/../lib/case.sh"
. "$(dirname "$0")/replay_lib.sh"
case_begin
need setfattr getfattr
need_built "$REPLAY"
half=$((RANDOM % 2))
[ "${1:-}" != --full ] || half=
for o in paths=cached paths=stream paths=passthrough dram=48M,settle=0s; do
	if [ -n "$half" ]; then
		REPLAY_ONLY=$half half=$((1 - half))
		[ "$o" != paths=stream ] || half=$((RANDOM % 2)) # another pairing each time
	fi
	note "-o $o${REPLAY_ONLY:+, half $REPLAY_ONLY}"
	replay_all -o "$o"
	rm -rf "$STORE" && mkdir -m 700 "$STORE"
done
case_end
