# SPDX-License-Identifier: MIT
# Finding and removing what a test left below a directory, without ever touching
# a file there: a dead mount would hang. Sourced by tests/run and case.sh.

# Mount points at or below $1, deepest first: "MINOR TYPE PATH" each.
mounts_below() {
	awk -v dir="$1" '
	{
		path = $5
		gsub(/\\040/, " ", path)
		if (path != dir && index(path, dir "/") != 1)
			next
		split($3, dev, ":")
		for (i = 7; $i != "-"; i++)
			;
		print length(path), dev[2], $(i + 1), path
	}' /proc/self/mountinfo | sort -rn | cut -d" " -f2-
}

is_mounted() {
	mounts_below "$1" | grep -q -F " $1"
}

# A directory for stores in the new, empty directory $1: itself, or where that is
# not on a filesystem that keeps xattrs (in most containers: an overlay) an ext4 of
# size $2 on a loop device. Prints it; fails where there is none.
backing_dir() {
	case $(stat -f -c %T "$1") in
	ext2/ext3 | xfs | btrfs) echo "$1"; return ;;
	esac
	mkdir "$1/fs" && truncate -s "$2" "$1/fs.img" && mkfs.ext4 -q -F "$1/fs.img" 2>/dev/null &&
		mount -o loop "$1/fs.img" "$1/fs" 2>/dev/null && chmod 755 "$1/fs" && echo "$1/fs"
}

# Ends the FUSE connections below $1: who waits for an answer gets an error. A
# daemon in which a thread waits for such a client could not even be killed.
abort_mounts() {
	local minor type path
	while read -r minor type path; do
		case $type in
		fuse*) umount -c -f "$path" 2>/dev/null ;;
		esac
	done < <(mounts_below "$1")
}

# Unmounts everything below $1, aborting FUSE connections nobody serves, then
# detaches the loop devices of images there. Says what it had to remove.
sweep_mounts() {
	local dir=$1 minor type path dev
	while read -r minor type path; do
		case $type in
		fuse*)
			fusermount3 -u -q -z "$path" 2>/dev/null || umount -l "$path" 2>/dev/null
			# somebody still inside would wait for an answer for ever
			[ -w "/sys/fs/fuse/connections/$minor/abort" ] &&
				echo 1 >"/sys/fs/fuse/connections/$minor/abort" 2>/dev/null
			;;
		*) umount "$path" 2>/dev/null || umount -l "$path" 2>/dev/null ;;
		esac
	done < <(mounts_below "$dir")
	[ "$(id -u)" = 0 ] && command -v losetup >/dev/null || return 0
	while read -r dev; do
		[ -n "$dev" ] && losetup -d "$dev" 2>/dev/null
	done < <(losetup -n -O NAME,BACK-FILE 2>/dev/null | awk -v d="$dir/" 'index($2, d) == 1 { print $1 }')
	return 0
}
