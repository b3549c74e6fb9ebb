#!/bin/bash
# SPDX-License-Identifier: MIT
# An ordinary user mounts by fusermount3: everything works without the fast
# paths, which the status says; allow_other is refused with the reason.
. "$(dirname "$0")/../lib/case.sh"
need_root
need setpriv unshare
# /dev/fuse as most systems have it: open to everybody, in a mount namespace
if [ "$(stat -c %a /dev/fuse)" != 666 ] && [ -z "${IN_NAMESPACE:-}" ]; then
	IN_NAMESPACE=1 exec unshare -m --propagation private "$0" "$@"
fi
case_begin
if [ -n "${IN_NAMESPACE:-}" ]; then
	mknod -m 666 "$T/fuse" c 10 229 && mount --bind "$T/fuse" /dev/fuse || skip "no device nodes here"
fi
[ -u "$(command -v fusermount3)" ] || skip "fusermount3 is not setuid"
AS_UID=65534 # fusermount3 wants a user that has a name
mkdir "$T/u" "$T/u/mnt"
chown -R 65534:65534 "$T/u"
as_user test -x "$KVCACHEFS" || skip "the build is not readable for others"

as_user "$KVCACHEFS" "$T/u/store" "$T/u/mnt" -o settle=0s || fail "an ordinary user cannot mount"
as_user sh -eu <<SH || fail "work as an ordinary user"
cd $T/u/mnt
grep -q '^passthrough  *off (needs root)' .kvcachefs/status
grep -q '^read-ahead .*needs root' .kvcachefs/status
echo hi >a
test "\$(cat a)" = hi
mkdir d
mv a d/b
ln d/b d/c
setfattr -n user.note -v x d/b
test "\$(getfattr --only-values -n user.note d/c)" = x
test "\$(stat -c %u d/b)" = 65534
setfattr -n user.kvcache.dram -v 64M .
head -1 .kvcachefs/contexts | grep -q '^#state'
SH
kvdata bf16 3000000 1 "$T/data"
expect as_user cp "$T/data" "$T/u/mnt/data"
wait_for 20 as_user sh -c "getfattr --absolute-names --only-values -n user.kvcache.state $T/u/mnt/data | grep -q sealed"
expect as_user cmp "$T/data" "$T/u/mnt/data"
expect as_user /usr/bin/python3 -c "import mmap; f = open('$T/u/mnt/data', 'rb'); m = mmap.mmap(f.fileno(), 0, mmap.MAP_SHARED, mmap.PROT_READ); assert m[:] == open('$T/data', 'rb').read()"
expect_fail ls "$T/u/mnt" # not even root, without allow_other
as_user fusermount3 -u "$T/u/mnt" || fail "fusermount3 -u"
for _ in $(seq 100); do
	as_user "$KVCACHEFS" "$T/u/store" "$T/u/mnt" 2>"$T/err" && break
	grep -q 'mounted already' "$T/err" || fail "$(cat "$T/err")"
	sleep 0.2
done
expect as_user cmp "$T/data" "$T/u/mnt/data"
as_user fusermount3 -u "$T/u/mnt" || fail "fusermount3 -u again"
if ! grep -qs '^user_allow_other' /etc/fuse.conf; then
	as_user timeout 20 "$KVCACHEFS" "$T/u/store2" "$T/u/mnt" -o allow_other 2>"$T/err"
	expect_eq $? 1 "status with allow_other"
	grep -q user_allow_other "$T/err" || fail "allow_other: $(cat "$T/err")"
fi
CASE_ENDED=pass
exit 0
