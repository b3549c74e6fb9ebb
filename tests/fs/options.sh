#!/bin/bash
# SPDX-License-Identifier: MIT
# Wrong command lines, stores and mountpoints: each is refused with a sentence
# that names it and says what is allowed; good ones are accepted.
. "$(dirname "$0")/../lib/case.sh"
case_begin

# usage_error PATTERN ARGS...: exit 2 and the pattern
usage_error() {
	local pattern=$1 rc
	shift
	"$KVCACHEFS" "$@" >"$T/out" 2>&1 </dev/null
	rc=$?
	expect_eq $rc 2 "status of: $*"
	grep -qE -- "$pattern" "$T/out" || fail "no '$pattern' for: $*; got $(cat "$T/out")"
}
usage_error 'STORE and MOUNTPOINT are missing'
usage_error 'MOUNTPOINT is missing' "$STORE"
usage_error "one argument too many: 'x'" "$STORE" "$MNT" x
usage_error "unknown switch '-q'" "$STORE" "$MNT" -q
usage_error "unknown option 'dramm'.*dram" "$STORE" "$MNT" -o dramm=8G
usage_error 'dram=8X.*a size such as 8G' "$STORE" "$MNT" -o dram=8X
usage_error 'dram=1K.*at least 16' "$STORE" "$MNT" -o dram=1K
usage_error 'dram=150%' "$STORE" "$MNT" -o dram=150%
usage_error 'dram=-1' "$STORE" "$MNT" -o dram=-1
usage_error 'dram needs a value' "$STORE" "$MNT" -o dram
usage_error 'ssd=.*a size' "$STORE" "$MNT" -o ssd=
usage_error 'quality=2.*0 to 1' "$STORE" "$MNT" -o quality=2
usage_error 'quality=nan' "$STORE" "$MNT" -o quality=nan
usage_error 'full=maybe.*enospc\|evict' "$STORE" "$MNT" -o full=maybe
usage_error 'threads=99999.*0 to 1024' "$STORE" "$MNT" -o threads=99999
usage_error 'settle=soon.*a time' "$STORE" "$MNT" -o settle=soon
usage_error 'strictwrite=2.*yes' "$STORE" "$MNT" -o strictwrite=2
usage_error 'log=loud' "$STORE" "$MNT" -o log=loud
usage_error '-o needs a value' "$STORE" "$MNT" -o

# refused PATTERN STORE MNT [ARGS]: exit 1 and the pattern, nothing mounted
refused() {
	local pattern=$1 rc
	shift
	timeout 30 "$KVCACHEFS" "$@" >"$T/out" 2>&1 </dev/null
	rc=$?
	expect_eq $rc 1 "status of: $*"
	grep -qE -- "$pattern" "$T/out" || fail "no '$pattern' for: $*; got $(cat "$T/out")"
}
refused 'mountpoint .*/none: No such file.*mkdir' "$STORE" "$T/none"
: >"$T/file"
refused 'mountpoint .*/file is not a directory' "$STORE" "$T/file"
refused 'store .*/file is not a directory' "$T/file" "$MNT"
refused 'store .*/none/store: .*must exist' "$T/none/store" "$MNT"
mkdir "$STORE/inside" "$MNT/inside"
refused 'outside the store' "$STORE" "$STORE/inside"
refused 'outside the store' "$MNT/inside" "$MNT"
refused 'outside the store' "$STORE" "$STORE/../store"
rmdir "$STORE/inside" "$MNT/inside"
ln -s "$STORE" "$T/link"
refused 'outside the store' "$T/link" "$STORE"

"$KVCACHEFS" --help >"$T/help" || fail "--help"
grep -q -- 'dram .*memory' "$T/help" || fail "--help does not explain dram"
"$KVCACHEFS" --version | grep -q '^kvcachefs [0-9]' || fail "--version"

# What mount(8), fstab and systemd add is accepted.
mount_fs -o rw,nosuid,nodev,dev,suid,noatime,auto,user,_netdev,nofail,x-systemd.automount,relatime,dram=64M,ssd=1.5G,settle=250ms,quality=1.0,strictwrite
opts=$(awk -v m="$MNT" '$5 == m { print $6 }' /proc/self/mountinfo)
case ,$opts, in *,nosuid,*) ;; *) fail "not nosuid: $opts" ;; esac
case ,$opts, in *,nodev,*) ;; *) fail "not nodev: $opts" ;; esac
grep -qx 'dram=67108864' "$MNT/.kvcachefs/config" || fail "dram is not in force"
grep -qx 'settle=0.25s' "$MNT/.kvcachefs/config" || fail "settle is not in force"
# the mountpoint and the store are taken now
mkdir "$T/mnt2"
refused 'mountpoint .* is in use' "$T/store2" "$MNT"
refused "$FS_PID" "$STORE" "$T/mnt2"
umount_fs

# names with spaces
mkdir "$T/m n t"
MNT="$T/m n t" mount_fs -o "dram=64M"
refused 'mountpoint .*/m n t is in use: .*/store is' "$T/store2" "$T/m n t"
[ "$(id -u)" != 0 ] || ! grep -q 'needs root' "$T/m n t/.kvcachefs/status" || fail "the mount was not found"
MNT="$T/m n t" umount_fs

# In the background: the parent returns when the mount works, and the daemon ends.
"$KVCACHEFS" "$STORE" "$MNT" || fail "cannot mount in the background"
grep -q '^store ' "$MNT/.kvcachefs/status" || fail "no status right after the start"
pid=$(sed -n 's/^kvcachefs [^,]*, pid \([0-9]*\),.*/\1/p' "$MNT/.kvcachefs/status")
expect kill -0 "$pid"
echo data >"$MNT/kept"
fusermount3 -u "$MNT" || fail "fusermount3 -u"
for _ in $(seq 200); do kill -0 "$pid" 2>/dev/null && ! grep -q '^State:.Z' "/proc/$pid/status" 2>/dev/null || break; sleep 0.05; done
# as mount(8) and fstab call it, less the search for the program in /usr/bin
if command -v mount.fuse3 >/dev/null && [ "$(id -u)" = 0 ]; then
	mount.fuse3 "$KVCACHEFS#$STORE" "$MNT" -o rw,dram=64M,noexec || fail "mount.fuse3"
	expect_eq "$(cat "$MNT/kept")" data
	pid=$(sed -n 's/^kvcachefs [^,]*, pid \([0-9]*\),.*/\1/p' "$MNT/.kvcachefs/status")
	umount "$MNT" || fail "umount"
	for _ in $(seq 200); do kill -0 "$pid" 2>/dev/null && ! grep -q '^State:.Z' "/proc/$pid/status" 2>/dev/null || break; sleep 0.05; done
fi

# codec=raw: sealed and in memory as it is, also what could be smaller; read as it was
kvdata bf16 8000000 3 "$T/kv"
mount_fs -o dram=64M,codec=raw,settle=1h,quality=0
setfattr -n user.kvcache.layout -v "dtype=bf16 order=2LTHD layers=5 heads=10 dim=80" "$MNT"
cp "$T/kv" "$MNT/kv"
setfattr -n user.kvcache.seal -v 1 "$MNT/kv" || fail "codec=raw does not seal"
xattr() { getfattr --only-values -n "user.kvcache.$1" "$MNT/kv" 2>/dev/null; }
expect_eq "$(xattr state) $(xattr codec)" "sealed raw"
expect_between "$(xattr stored_bytes)" 8000000 8200000 "stored bytes"
expect_fail setfattr -n user.kvcache.level -v 0 "$MNT/kv"
setfattr -n user.kvcache.move -v ssd "$MNT/kv"
expect_same "$T/kv" "$MNT/kv"
setfattr -n user.kvcache.move -v dram "$MNT/kv"
expect_between "$(xattr replica_bytes)" 8000000 9200000 "replica"
expect_same "$T/kv" "$MNT/kv"
remount_fs -o dram=64M
expect_eq "$(xattr codec)" raw
expect_same "$T/kv" "$MNT/kv"
rm "$MNT/kv"
setfattr -x user.kvcache.layout "$MNT"
umount_fs

# SIGTERM with a client inside: ends in time, what was written is there.
mount_fs -o dram=64M
exec 7>"$MNT/open"
echo written >&7
kill -TERM "$FS_PID"
wait_fs 60 || fail "SIGTERM: status $?"
exec 7>&-
! is_mounted "$MNT" || fail "still mounted after SIGTERM"
mount_fs -o dram=64M,ro
expect_eq "$(cat "$MNT/open")" written
expect_errno EROFS touch "$MNT/new"
umount_fs
case_end
