#!/bin/bash
# SPDX-License-Identifier: MIT
# The same as replay.sh with each way of serving forced, by an unprivileged
# mount's means too, and with little memory.
# TIMEOUT: 1800
# SLOW
. "$(dirname "$0")/../lib/case.sh"
. "$(dirname "$0")/replay_lib.sh"
case_begin
need setfattr getfattr
need_built "$REPLAY"
for o in paths=cached paths=stream paths=passthrough dram=48M,settle=0s; do
	note "-o $o"
	replay_all -o "$o"
	rm -rf "$STORE" && mkdir -m 700 "$STORE"
done
case_end
