#!/bin/bash
# SPDX-License-Identifier: MIT
# The call sequences of the engines that keep KV caches as files, each with its
# contents checked: plain, sealed, after a restart and after a kill.
# TIMEOUT: 600
# ASAN
. "$(dirname "$0")/../lib/case.sh"
. "$(dirname "$0")/replay_lib.sh"
case_begin
need setfattr getfattr
need_built "$REPLAY"
replay_all
case_end
