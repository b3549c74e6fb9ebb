# SPDX-License-Identifier: MIT
# Runs every case of the replay program over a mount, sourced by replay*.sh.

REPLAY=$BUILD/tests/clients/replay

# all of them, or with REPLAY_ONLY 0 or 1 one half
REPLAY_ONLY=
replay_names() { "$REPLAY" --list | awk -v half="$REPLAY_ONLY" 'half == "" || NR % 2 == half { print $1 }'; }

# Seals every file of 64 KiB and more below $MNT and says how many there are. One
# that was rewritten in places since may keep those beside its object.
seal_all() {
	local f n=0 state
	while IFS= read -r -d '' f; do
		setfattr -n user.kvcache.seal -v 1 "$f" || fail "cannot seal $f"
		state=$(getfattr --absolute-names --only-values -n user.kvcache.state "$f")
		[ "$state" = sealed ] || [ "$state" = overlay ] || fail "$f is $state"
		n=$((n + 1))
	done < <(find "$MNT" -type f -size +64k -print0)
	echo $n
}

verify_all() {
	local c
	for c in $(replay_names); do
		"$REPLAY" --verify "$c" "$MNT" || fail "$c: wrong $1"
	done
}

# replay_all MOUNT-ARGS...: write, verify, seal, verify, restart, verify twice (the
# second read may be served another way), again after a kill.
replay_all() {
	local c n least=40
	[ -z "$REPLAY_ONLY" ] || least=12
	mount_fs "$@"
	for c in $(replay_names); do
		"$REPLAY" "$c" "$MNT" || fail "$c: wrong when just written"
	done
	n=$(seal_all) || exit 1
	[ "$n" -ge $least ] || fail "only $n files were sealed"
	verify_all "after sealing"
	remount_fs
	verify_all "after a restart"
	verify_all "when read again"
	n=$(seal_all) || exit 1
	kill_fs
	mount_fs "$@"
	verify_all "after a kill"
	umount_fs
}
