#!/bin/bash
# SPDX-License-Identifier: MIT
# Caches that PyTorch saved on the mount (torch.save in both forms, mapped storage)
# load with other values when plain, sealed, after a restart or after a kill.
# Runs where PyTorch is; tests/run does not install it (half a gigabyte).
. "$(dirname "$0")/../lib/case.sh"
. "$(dirname "$0")/python_lib.sh"
case_begin
need setfattr getfattr
find_python torch || skip "PyTorch is not installed (Debian: python3-torch)"

pytorch() { "$PY" "$ROOT/tests/clients/torch_client.py" "$1" "$MNT/pt" || fail "torch: $*"; }

mount_fs -o dram=128M,settle=1h
mkdir "$MNT/pt"
pytorch write
for f in name file old; do py_sealed "$MNT/pt/$f.pt" "" 105; done
setfattr -n user.kvcache.layout -v "dtype=bf16 order=TD dim=64" "$MNT/pt/mapped.bin" || fail "layout"
py_sealed "$MNT/pt/mapped.bin" "declared row=64 dtype=bf16" 120
pytorch check
remount_fs
pytorch check
pytorch write # over sealed files
sync "$MNT"/pt/* || fail "fsync"
kill_fs
mount_fs "${FS_OPTS[@]}"
pytorch check
case_end
