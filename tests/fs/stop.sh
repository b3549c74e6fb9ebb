#!/bin/bash
# SPDX-License-Identifier: MIT
# The daemon hangs at SIGTERM: while names are invalidated in a directory in which
# clients create, or behind long operations that one user has queued.
# TIMEOUT: 120
# ASAN
. "$(dirname "$0")/../lib/case.sh"
case_begin
need_root
need setfattr python3 setpriv

# creates and evicts in one directory, so that the kernel wants the directory's
# lock for the evicted names while clients hold it and wait for an answer
cat >"$T/churn.py" <<'PY'
import os, sys
d, me = sys.argv[1], int(sys.argv[2])
i = 0
while True:
    try:
        p = f"{d}/n{me}-{i}"
        os.close(os.open(p, os.O_CREAT | os.O_WRONLY | os.O_EXCL))
        if me % 2:
            os.setxattr(p, "user.kvcache.evict", b"1")
        i += 1
    except FileNotFoundError:
        i += 1
    except OSError:
        break
PY
for round in 1 3 5; do
	mount_fs -o settle=0,log=error
	mkdir -p "$MNT/d"
	clients=()
	for i in 1 2 3 4 5; do
		python3 "$T/churn.py" "$MNT/d" $i 2>/dev/null &
		clients+=("$!")
		CASE_PIDS+=("$!")
	done
	sleep 0.$((2 + round))
	kill -TERM "$FS_PID"
	wait_fs 20 || fail "SIGTERM while names come and go: status $?"
	kill "${clients[@]}" 2>/dev/null
	wait "${clients[@]}" 2>/dev/null
	for i in "${clients[@]}"; do case_forget "$i"; done
	! is_mounted "$MNT" || fail "still mounted"
done

# long operations: one user's do not keep another's waiting, nor the end
mount_fs -o allow_other,settle=1h,log=error,dram=512M
chmod 777 "$MNT"
many=24
kvdata bf16 16000000 1 "$T/data"
for ((i = 0; i < many; i++)); do cp "$T/data" "$MNT/a$i"; done
AS_UID=10001
as_user cp "$T/data" "$MNT/b"
: >"$T/done"
for ((i = 0; i < many; i++)); do
	{ setfattr -n user.kvcache.seal -v 1 "$MNT/a$i" 2>"$T/why$i" && echo "a$i" >>"$T/done"; } &
	CASE_PIDS+=("$!")
done
expect as_user setfattr -n user.kvcache.seal -v 1 "$MNT/b"
before=$(wc -l <"$T/done")
expect_between "$before" 0 $((many / 2)) "operations of another user that went before"
kill -TERM "$FS_PID"
wait_fs 30 || fail "SIGTERM behind long operations: status $?"
wait
expect_between "$(cat "$T"/why* | grep -c 'Operation canceled')" 1 $many "cancelled operations"
mount_fs -o settle=1h
for i in 0 $((many / 2)) $((many - 1)); do expect_same "$T/data" "$MNT/a$i"; done

# what a mount left plain the next one seals, and keeps memory for what is read
remount_fs -o settle=0,log=error,dram=512M
gauge() { awk -v n="kvcachefs_$1" '$1 == n { print $2 }' "$MNT/.kvcachefs/metrics"; }
tries=300
while [ "$(getfattr --absolute-names --only-values -n user.kvcache.state "$MNT"/a* | grep -o sealed | wc -l)" -lt $many ]; do
	[ $((tries--)) -gt 0 ] || fail "not sealed"
	sleep 0.1
done
expect_eq "$(gauge replicas)" 0 "replicas"
expect_same "$T/data" "$MNT/a$((many - 1))"
case_end
