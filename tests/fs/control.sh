#!/bin/bash
# SPDX-License-Identifier: MIT
# .kvcachefs and the steering names: what they show, who may set what, and that
# a bad value is refused with its reason in the log.
. "$(dirname "$0")/../lib/case.sh"
case_begin
need_root
need setfattr
mount_fs -o allow_other,dram=128M,settle=1h
chmod 777 "$MNT"
kvdata bf16 4000000 1 "$MNT/f"
chown 10001:10001 "$MNT/f"
mkdir "$MNT/d"
AS_UID=10001

# reachable by name, left out of listings, cannot be touched
expect_eq "$(ls -A "$MNT")" "$(printf 'd\nf')" listing
expect_eq "$(ls "$MNT/.kvcachefs" | tr '\n' ' ')" "config contexts metrics status "
expect_fail rmdir "$MNT/.kvcachefs"
expect_fail mkdir "$MNT/.kvcachefs"
expect_fail mv "$MNT/.kvcachefs" "$MNT/x"
expect_fail mv "$MNT/d" "$MNT/.kvcachefs"
expect_fail touch "$MNT/.kvcachefs/new"
expect_fail sh -c "echo x > $MNT/.kvcachefs/config"
expect_fail ln "$MNT/.kvcachefs/status" "$MNT/l"
expect_fail setfattr -n user.a -v 1 "$MNT/.kvcachefs/status"
expect as_user cat "$MNT/.kvcachefs/status" "$MNT/.kvcachefs/metrics" "$MNT/.kvcachefs/config" >/dev/null
expect_fail as_user cat "$MNT/.kvcachefs/contexts"
grep -q '^#state' "$MNT/.kvcachefs/contexts" || fail "contexts has no head line"

# metrics: each has one HELP and one TYPE before its values; promtool if there
awk '/^# TYPE/ { if (seen[$3]++) { print "twice: " $3; bad = 1 } }
	/^# HELP/ && NF < 4 { print "no help: " $3; bad = 1 }
	/^kvcachefs_/ { n = $1; sub(/\{.*/, "", n); if (!seen[n]) { print "no TYPE: " n; bad = 1 }
		if ($2 !~ /^[-+0-9.e]+$/) { print "no number: " $0; bad = 1 } }
	END { exit bad }' "$MNT/.kvcachefs/metrics" >&2 || fail "metrics are malformed"
if command -v promtool >/dev/null; then
	promtool check metrics <"$MNT/.kvcachefs/metrics" >&2 || fail "promtool"
fi

get() { getfattr --absolute-names --only-values -n "user.kvcache.$1" "$2" 2>/dev/null; }
expect_eq "$(get state "$MNT/f")" plain
expect_eq "$(get logical_bytes "$MNT/f")" 4000000
expect_eq "$(get pin "$MNT/f")" 0
expect_eq "$(get quality "$MNT/f")" 1
expect_eq "$(get dram "$MNT")" $((128 << 20))
expect_fail getfattr -n user.kvcache.state "$MNT/d"
expect_fail getfattr -n user.kvcache.nonsense "$MNT/f"
expect_eq "$(getfattr -d "$MNT/f" 2>/dev/null)" "" "nothing is listed that nobody set"

# the owner and root set, others do not; readers see
expect as_user setfattr -n user.kvcache.quality -v 0.5 "$MNT/f"
expect_eq "$(get quality "$MNT/f")" 0.5
expect_eq "$(getfattr --absolute-names -d "$MNT/f" | grep -c "^user.kvcache")" 1
chmod 666 "$MNT/f"
AS_UID=10002
expect_errno EPERM as_user setfattr -n user.kvcache.quality -v 0.1 "$MNT/f"
expect_errno EPERM as_user setfattr -x user.kvcache.quality "$MNT/f"
expect_errno EPERM as_user setfattr -n user.kvcache.evict -v 1 "$MNT/f"
expect_errno EPERM as_user setfattr -n user.kvcache.dram -v 1G "$MNT"
expect_eq "$(as_user getfattr --absolute-names --only-values -n user.kvcache.quality "$MNT/f")" 0.5
# who owns the root of the mount does not command the daemon
chown 10002 "$MNT"
expect_errno EPERM as_user setfattr -n user.kvcache.dram -v 1G "$MNT"
expect_errno EPERM as_user setfattr -n user.kvcache.ssd -v 1M "$MNT"
expect_errno EPERM as_user setfattr -n user.kvcache.scrub -v 1 "$MNT"
chown 0 "$MNT"
AS_UID=10001
# removing a name takes permission on its directory, not only the file
chmod 755 "$MNT"
expect_errno EACCES as_user setfattr -n user.kvcache.evict -v 1 "$MNT/f"
chmod 777 "$MNT"
expect as_user setfattr -x user.kvcache.quality "$MNT/f"
expect_eq "$(get quality "$MNT/f")" 1

# bad values
bad() { expect_errno "$1" setfattr -n "user.kvcache.$2" -v "$3" "$4"; }
bad EINVAL quality 1.5 "$MNT/f"
bad EINVAL quality abc "$MNT/f"
bad EINVAL quality 1.00000000000000000000000000000000 "$MNT/f"
bad EINVAL feedback "$(printf '0:0.5,%.0s' {1..60})1:0.5" "$MNT/f"
bad EINVAL pin maybe "$MNT/f"
bad EINVAL move tape "$MNT/f"
bad EINVAL layout "dtype=int99" "$MNT/f"
bad EINVAL recompute -1 "$MNT/f"
bad EINVAL pin 1 "$MNT/d"
bad EINVAL dram 1G "$MNT/f"
bad EINVAL dram lots "$MNT"
bad EPERM state sealed "$MNT/f"
bad EOPNOTSUPP nonsense 1 "$MNT/f"
sleep 0.2 # refusals are logged ten times a second at most
bad EINVAL dram 15M "$MNT"
grep -q 'dram=15M refused: takes a size of at least 16' "$LOG" || fail "the log does not say how much"
grep -q 'user.kvcache.*refused: ' "$LOG" || fail "the log does not say why"

# settings last, and go with the file
setfattr -n user.kvcache.layout -v "dtype=bf16 order=2LTHD layers=32 heads=8 dim=128" "$MNT/d"
setfattr -n user.kvcache.pin -v 1 "$MNT/f"
cp -a "$MNT/f" "$MNT/copy"
expect_eq "$(get pin "$MNT/copy")" 1 "pin of the copy"
remount_fs
expect_eq "$(get pin "$MNT/f")" 1 "pin after a restart"
case "$(get layout "$MNT/d")" in dtype=bf16*) ;; *) fail "layout after a restart" ;; esac
expect_errno EBUSY setfattr -n user.kvcache.evict -v 1 "$MNT/f"
# pins hold half of the store at most, except root's
limit=$(get ssd "$MNT")
setfattr -n user.kvcache.ssd -v 12M "$MNT"
kvdata random 3000000 2 "$MNT/pinned"
chown 10001 "$MNT/pinned"
expect_errno EDQUOT as_user setfattr -n user.kvcache.pin -v 1 "$MNT/pinned"
expect_eq "$(get pin "$MNT/pinned")" 0 "pin refused"
expect setfattr -n user.kvcache.pin -v 1 "$MNT/pinned"
rm "$MNT/pinned"
setfattr -n user.kvcache.ssd -v "$limit" "$MNT"
setfattr -x user.kvcache.pin "$MNT/f"
expect_eq "$(get pin "$MNT/f")" 0 "pin taken away"

# actions
setfattr -n user.kvcache.seal -v 1 "$MNT/f" || fail "seal"
expect_eq "$(get state "$MNT/f")" sealed
expect_between "$(get stored_bytes "$MNT/f")" 1 3500000 stored_bytes
setfattr -n user.kvcache.move -v dram "$MNT/f" || fail "move dram"
expect_eq "$(get tier "$MNT/f")" dram
setfattr -n user.kvcache.move -v ssd "$MNT/f" || fail "move ssd"
expect_eq "$(get tier "$MNT/f")" ssd
setfattr -n user.kvcache.unseal -v 1 "$MNT/f" || fail "unseal"
expect_eq "$(get state "$MNT/f")" plain
setfattr -n user.kvcache.dram -v 64M "$MNT" || fail "limit"
expect_eq "$(get dram "$MNT")" $((64 << 20))
setfattr -n user.kvcache.dram -v 16M "$MNT" || fail "the lowest limit"
all=$(get ssd "$MNT")
setfattr -n user.kvcache.ssd -v 1G "$MNT" || fail "limit of ssd"
expect_eq "$(get ssd "$MNT")" $((1 << 30))
setfattr -n user.kvcache.ssd -v 0 "$MNT" || fail "no limit of ssd"
expect_eq "$(get ssd "$MNT")" "$all" "ssd without limit"
setfattr -n user.kvcache.evict -v 1 "$MNT/f" || fail "evict"
expect_fail stat "$MNT/f"
# a quality that came beside the mount and says nothing grants nothing
umount_fs
expect setfattr -n user.kvcache.quality -v 0.000000000000000000000000000000000 "$STORE/tree/copy"
mount_fs "${FS_OPTS[@]}" -o quality=0
bad EPERM level 0 "$MNT/copy"
case_end
