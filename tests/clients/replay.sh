#!/bin/bash
# SPDX-License-Identifier: MIT
# The call sequences of the engines that keep KV caches as files, each with its
# contents checked: plain, sealed, after a restart and after a kill. Under ASan half of the
# engines, another half each time.
# TIMEOUT: 600
# ASAN
. "$(dirname "$0")/../lib/case.sh"
. "$(dirname "$0")/replay_lib.sh"
case_begin
need setfattr getfattr
need_built "$REPLAY"
[ "$(basename "$BUILD")" != asan ] || REPLAY_ONLY=$((RANDOM % 2))
replay_all
case_end
