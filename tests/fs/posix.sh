#!/bin/bash
# SPDX-License-Identifier: MIT
# POSIX semantics, as root and as two ordinary users, on every way of serving;
# the cases themselves must pass on the filesystem below.
# POSIX_ENTRIES=N makes larger directories (5000; up to 100000).
# TIMEOUT: 300
# SLOW
. "$(dirname "$0")/../lib/case.sh"
case_begin
need_root
need_built "$BUILD/tests/fs/posix"
export POSIX_ENTRIES=${POSIX_ENTRIES:-5000}
mkdir "$T/reference"
expect "$BUILD/tests/fs/posix" "$T/reference"
for paths in auto cached stream passthrough; do
	mount_fs -o allow_other,settle=0s,paths=$paths
	chmod 777 "$MNT"
	note "paths=$paths"
	expect "$BUILD/tests/fs/posix" "$MNT"
	umount_fs
done
case_end
