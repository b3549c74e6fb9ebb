#!/bin/bash
# SPDX-License-Identifier: MIT
# Random operations against a model, with sealing, tiers and every way of serving
# in between; the exerciser itself must pass on the filesystem below.
# EXERCISE_OPS=N and EXERCISE_SEED=N make longer or other runs.
# TIMEOUT: 240
# ASAN
. "$(dirname "$0")/../lib/case.sh"
case_begin
need_root
need_built "$BUILD/tests/fs/exercise"
ops=${EXERCISE_OPS:-1200} seed=${EXERCISE_SEED:-$((RANDOM + 1))}
note "seed $seed, $ops operations"
mkdir "$T/reference"
expect "$BUILD/tests/fs/exercise" --plain --seed "$seed" --ops 500 "$T/reference"
for paths in auto stream cached passthrough; do
	mount_fs -o settle=1s,dram=256M,paths=$paths
	note "paths=$paths"
	expect "$BUILD/tests/fs/exercise" --seed "$seed" --ops "$ops" "$MNT"
	remount_fs -o settle=1s,dram=256M,paths=$paths
	expect_eq "$(ls "$MNT" | wc -l)" 3 "files after a remount"
	rm "$MNT"/*
	umount_fs
done
case_end
