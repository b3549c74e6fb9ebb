#!/bin/bash
# SPDX-License-Identifier: MIT
# The FUSE layer alone, over a test double of the store: what fails here is not
# the store's fault. Every way of serving, then the control files.
# TIMEOUT: 300
# ASAN
. "$(dirname "$0")/../lib/case.sh"
KVCACHEFS=$BUILD/tests/fs/kvcachefs-fake
case_begin
need_root
need_built "$BUILD/tests/fs/posix"
export POSIX_ENTRIES=3000 # the double holds a descriptor per name
ways='auto cached stream passthrough'
# the slow build: those between which the code differs
[ "$(basename "$BUILD")" != asan ] || ways='auto cached'
for paths in $ways; do
	mount_fs -o allow_other,paths=$paths
	chmod 777 "$MNT"
	note "paths=$paths"
	expect "$BUILD/tests/fs/posix" "$MNT"
	umount_fs
done

# A slow operation asked for by xattr must not hold up the rest.
mount_fs -o allow_other,serve_threads=1
echo x >"$MNT/f"
seals=()
for _ in $(seq 25); do # 2.5 s of them
	setfattr -n user.kvcache.seal -v 1 "$MNT/f" 2>/dev/null &
	seals+=($!)
done
CASE_PIDS+=("${seals[@]}")
for i in $(seq 40); do echo "$i" >"$MNT/g$i"; done
kill -0 "${seals[@]: -1}" 2>/dev/null || kill -0 "${seals[0]}" 2>/dev/null ||
	[ "$(jobs -r | grep -c setfattr)" -gt 0 ] || fail "40 creates waited for all of the sealing"
wait "${seals[@]}"
umount_fs

# A million contexts are listed in bounded memory, and closing early ends it.
# Under ASan freed memory is kept for a while, and twice of everything.
most_kb=100000
! nm "$KVCACHEFS" 2>/dev/null | grep -q __asan_init || most_kb=500000
export KVCACHEFS_FAKE_CONTEXTS=1000000
mount_fs -o allow_other
head -c 100 "$MNT/.kvcachefs/contexts" >/dev/null
expect_eq "$(wc -l <"$MNT/.kvcachefs/contexts")" 1000001 lines
expect_eq "$(tail -n 1 "$MNT/.kvcachefs/contexts" | cut -f20)" 'made/up\011999999.bin'
expect_between "$(awk '/VmHWM/ { print $2 }' "/proc/$FS_PID/status")" 0 $most_kb "peak kB"
expect_eq "$(head -n 2 "$MNT/.kvcachefs/contexts" | tail -n 1 | cut -f20)" 'made/up\0110.bin'
exec 7<"$MNT/.kvcachefs/contexts"
read -r -u 7 line
kill -TERM "$FS_PID" # with the listing and its producer alive
wait_fs 30 || fail "does not end while contexts is open"
exec 7<&-
FS_PID=
case_end
