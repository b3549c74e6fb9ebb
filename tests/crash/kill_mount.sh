#!/bin/bash
# SPDX-License-Identifier: MIT
# The daemon killed at every step under a client's workload, and again while it
# recovers: what was written and closed is there, whatever was synced or not.
#   kill_mount.sh [--all] [POINT...]    (each tenth point, others each time)
# TIMEOUT: 240
. "$(dirname "$0")/../lib/case.sh"
. "$(dirname "$0")/../lib/torn.sh"
every=10 points=() again=(recover.trash recover.punched recover.intent)
for a; do
	case $a in
	--all) every=1 ;;
	*) points+=("$a") every=1 ;;
	esac
done
case_begin
need_root
need python3 setfattr
opts=(-o dram=64M,settle=0,log=error)
runs=0 killed=0 twice=0

# Mounts with a fault; the daemon may die at once, or later, or not at all.
mount_dying() {
	local i
	KVCACHEFS_FAULT=$1 start_fs "$STORE" "$MNT" "${opts[@]}"
	for ((i = 0; i < 400; i++)); do
		! is_mounted "$MNT" || return 0
		kill -0 "$FS_PID" 2>/dev/null || return 1
		sleep 0.02
	done
	fail "neither mounted nor dead: $1"
}

one() { # POINT N
	local fault="$1:$2=kill" second
	runs=$((runs + 1))
	if mount_dying "$fault"; then
		torn_start $((runs * 7 + $2)) 1.2
		torn_join
	fi
	kill -0 "$FS_PID" 2>/dev/null && kill -KILL "$FS_PID" || killed=$((killed + 1))
	clear_fs
	second=${again[$((runs % ${#again[@]}))]}
	mount_dying "$second:1=kill" || true
	kill -0 "$FS_PID" 2>/dev/null && kill -KILL "$FS_PID" || twice=$((twice + 1))
	clear_fs
	mount_fs "${opts[@]}"
	torn_check kill "$fault, then $second"
	umount_fs
	torn_store "$STORE" "$fault, then $second"
}

# what there is: the points that a run passes
if [ ${#points[@]} = 0 ]; then
	KVCACHEFS_FAULT_LIST=$T/points mount_fs "${opts[@]}"
	torn_start 1 2
	torn_join
	umount_fs
	mapfile -t points < <(sort -u "$T/points" | grep -v '^recover')
	[ ${#points[@]} -gt 15 ] || skip "built without -Dfaults=true"
fi

# An fsync that failed says so again, also to who opens the file later, until the
# content is given up.
KVCACHEFS_FAULT=fsync.before:1=eio mount_fs "${opts[@]}"
expect python3 - "$MNT" <<'PY'
import errno, os, sys
os.chdir(sys.argv[1])
def sync(flags, data=b"", name="lost"):
    fd = os.open(name, flags)
    try:
        assert os.write(fd, data) == len(data) if data else True
        os.fsync(fd)
        return 0
    except OSError as e:
        return e.errno
    finally:
        os.close(fd)
def want(got, what, e=errno.EIO):
    assert got == e, f"{what}: {got}"
want(sync(os.O_RDWR | os.O_CREAT, b"x" * 100000), "fsync")
want(sync(os.O_RDWR), "after close and open")
want(sync(os.O_RDONLY), "read-only")
want(sync(os.O_RDWR | os.O_CREAT, b"y", "other"), "another file", 0)
os.rename("lost", "renamed")
want(sync(os.O_RDWR, name="renamed"), "renamed")
want(sync(os.O_RDWR | os.O_TRUNC, b"new", name="renamed"), "cut to nothing and written", 0)
want(sync(os.O_RDWR, name="renamed"), "and opened again", 0)
for n in "renamed", "other":
    os.unlink(n)
PY
umount_fs

i=$((RANDOM % every))
for point in "${points[@]}"; do
	[ $((i++ % every)) = 0 ] || continue
	one "$point" 1
	one "$point" $((2 + RANDOM % 20))
done
note "$runs runs over ${#points[@]} points: $killed killed at the point, $twice again in recovery"

case_end
