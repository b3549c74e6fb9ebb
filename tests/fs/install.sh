#!/bin/bash
# SPDX-License-Identifier: MIT
# What meson installs is not all there, does not mount by mount(8) and an fstab line,
# or the unit file is wrong; unmounting and SIGTERM leave unsealed what is quick.
# TIMEOUT: 60
. "$(dirname "$0")/../lib/case.sh"
need_root
need meson setfattr unshare
# mount(8) looks in the system's directories only: ours is put there, for us alone
if [ -z "${IN_NAMESPACE:-}" ]; then
	IN_NAMESPACE=1 exec unshare -m --propagation private "$0" "$@"
fi
case_begin
[ -f "$BUILD/build.ninja" ] || skip "not a build directory: $BUILD"
meson install -C "$BUILD" --no-rebuild --quiet --destdir "$T/dest" >"$T/out" 2>&1 ||
	fail "meson install: $(tail -n 5 "$T/out")"
cd "$T/dest/usr/local" || fail "nothing in the default prefix"
for f in bin/kvcachefs bin/kvcachectl bin/kvcachebench bin/kvlm sbin/fsck.kvcachefs \
	include/kvcachefs/xattr.h share/man/man{1/kvcachectl.1,1/kvcachebench.1,1/kvlm.1} \
	share/man/man{5/kvcachefs-format.5,7/kvcachefs-xattr.7,8/kvcachefs.8,8/fsck.kvcachefs.8}; do
	[ -s "$f" ] || fail "not installed: $f"
done
for f in "$ROOT"/man/*.[1-8]; do [ -s share/man/*/"${f##*/}" ] || fail "not installed: $f"; done
cd /
mount --bind "$T/dest/usr/local/bin" /usr/local/bin || skip "no bind mounts here"
export PATH=/usr/local/bin:$PATH
expect_eq "$(kvcachefs --version)" "$("$KVCACHEFS" --version)" "installed version"

daemon_pid() { sed -n 's/^kvcachefs [^,]*, pid \([0-9]*\),.*/\1/p' "$1/.kvcachefs/status"; }
ended() { ! kill -0 "$1" 2>/dev/null || grep -q '^State:.Z' "/proc/$1/status" 2>/dev/null; }
state() { getfattr --absolute-names --only-values -n user.kvcache.state "$1"; }

# settle=1h: nobody seals before the end
kvdata bf16 3000000 1 "$T/data"
echo "$STORE $MNT fuse.kvcachefs dram=64M,settle=1h,nofail,_netdev,x-systemd.automount 0 0" >"$T/fstab"
for round in umount term; do
	mount -T "$T/fstab" "$MNT" 2>"$T/err" || fail "mount by fstab: $(cat "$T/err")"
	grep -q " $MNT fuse.kvcachefs " /proc/mounts || fail "not of type fuse.kvcachefs"
	grep -qx 'settle=3600s' "$MNT/.kvcachefs/config" || fail "fstab's options are not in force"
	pid=$(daemon_pid "$MNT")
	cp "$T/data" "$MNT/$round"
	expect_eq "$(state "$MNT/$round")" plain "state before the end"
	if [ $round = umount ]; then
		fusermount3 -u "$MNT" || fail "fusermount3 -u"
	else
		kill -TERM "$pid"
	fi
	wait_for 30 ended "$pid"
	! is_mounted "$MNT" || fail "still mounted after $round"
done
mount -t fuse.kvcachefs "$STORE" "$MNT" -o ro,dram=64M 2>"$T/err" || fail "mount -t fuse.kvcachefs"
pid=$(daemon_pid "$MNT")
for f in umount term; do
	expect_eq "$(state "$MNT/$f")" sealed "state after the end by $f"
	expect_same "$T/data" "$MNT/$f"
done
umount "$MNT" || fail "umount"
wait_for 30 ended "$pid"

if command -v systemd-analyze >/dev/null; then
	sed "s|^ExecStart=kvcachefs|ExecStart=$(command -v kvcachefs)|" "$ROOT/tools/kvcachefs@.service" \
		>"$T/kvcachefs@test.service"
	systemd-analyze verify --man=no "$T/kvcachefs@test.service" >"$T/out" 2>&1 ||
		fail "systemd-analyze: $(cat "$T/out")"
fi
case_end
