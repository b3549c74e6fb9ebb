#!/bin/bash
# SPDX-License-Identifier: MIT
# NumPy's files on the mount: shared mappings that read, write and are flushed, and
# what np.save and tofile made, differ when plain, sealed, rewritten in places, after
# a restart or after a kill; or a file that is mapped gets sealed.
. "$(dirname "$0")/../lib/case.sh"
. "$(dirname "$0")/python_lib.sh"
case_begin
need setfattr getfattr
find_python numpy || skip "NumPy is not installed (Debian: python3-numpy)"

numpy() { "$PY" "$ROOT/tests/clients/numpy_client.py" "$1" "$MNT/np" "$2" || fail "numpy: $*"; }

mount_fs -o dram=128M,settle=1h
mkdir "$MNT/np"
# what the axes of a .npy are has to be said; a bare array's type too
setfattr -n user.kvcache.layout -v "dtype=f16 order=2LTHD layers=4 heads=4 dim=64" "$MNT/np" || fail "layout"
numpy write 0
numpy change 1
numpy mapped 1
py_sealed "$MNT/np/map.npy" "npy layers=4 heads=4 dim=64 dtype=f16" 105
py_sealed "$MNT/np/map.raw" "declared layers=4 heads=4 dim=64 dtype=f16" 105
py_sealed "$MNT/np/saved.raw" "declared layers=4 heads=4 dim=64 dtype=f16" 105
numpy check 1
numpy change 2 # of sealed files
numpy check 2
remount_fs
numpy check 2
numpy change 3 # flushed, so on disk
kill_fs
mount_fs "${FS_OPTS[@]}"
numpy check 3
case_end
