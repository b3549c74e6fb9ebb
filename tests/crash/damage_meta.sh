#!/bin/bash
# SPDX-License-Identifier: MIT
# meta/ and format damaged, cut or replaced: the mount survives and every file
# reads as written, or the mount is refused with the reason.
# TIMEOUT: 180
. "$(dirname "$0")/../lib/case.sh"
case_begin
need_root
need python3 setfattr
opts=(-o dram=64M,settle=0,log=warn)
flip() { # FILE OFFSET
	python3 - "$1" "$2" <<'PY'
import sys
with open(sys.argv[1], "r+b") as f:
    f.seek(int(sys.argv[2]))
    b = f.read(1)
    f.seek(int(sys.argv[2]))
    f.write(bytes([b[0] ^ 0x21]))
PY
}
check() {
	expect sha256sum --quiet -c "$T/sums" >&2
	expect_eq "$(awk '$1 == "kvcachefs_evicted_total" { print $2 }' "$MNT/.kvcachefs/metrics")" 0
}

mount_fs "${opts[@]}"
mkdir "$MNT/d"
for i in 1 2 3 4 5 6; do
	kvdata st 200000 $i "$MNT/d/s$i"
	kvdata random 30000 $i "$MNT/p$i"
	setfattr -n user.kvcache.seal -v 1 "$MNT/d/s$i"
done
(cd "$MNT" && sha256sum d/* p*) | sed "s| \([dp]\)| $MNT/\1|" >"$T/sums"
check
cp -a --sparse=always "$STORE" "$T/unclean"
umount_fs
cp -a --sparse=always "$STORE" "$T/clean"

again() { # WHICH STORE
	rm -rf "$STORE"
	cp -a --sparse=always "$T/$1" "$STORE"
}

# whole stores are not taken for damaged ones, copies neither
for which in clean unclean; do
	again $which
	mount_fs "${opts[@]}"
	check
	umount_fs
done
grep -q "damaged" "$LOG" && fail "a whole store is taken for damaged"

# every page of the database: its head, and somewhere inside
size=$(stat -c %s "$T/clean/meta/data.mdb")
n=0
for ((off = 0; off < size; off += 4096)); do
	for in in 10 2000; do
		[ $((n++ % ${EVERY:-5})) = 0 ] || continue
		again "$([ $((n % 4)) = 1 ] && echo clean || echo unclean)"
		flip "$STORE/meta/data.mdb" $((off + in + n % 8))
		mount_fs "${opts[@]}"
		check
		umount_fs
	done
done
note "$size bytes of database"

for way in "truncate -s 0" "truncate -s 4096" "truncate -s 20000" "rm -f" "cp /bin/ls"; do
	again clean
	expect $way "$STORE/meta/data.mdb"
	mount_fs "${opts[@]}"
	check
	umount_fs
done
for way in mkfifo mkdir "ln -s /etc/passwd"; do
	again clean
	rm "$STORE/meta/data.mdb"
	expect $way "$STORE/meta/data.mdb"
	mount_fs "${opts[@]}"
	check
	umount_fs
done

# format: refused with a reason, or exact
size=$(stat -c %s "$T/clean/format")
for ((off = 0; off < size; off += 7)); do
	again clean
	flip "$STORE/format" $off
	start_fs "$STORE" "$MNT" "${opts[@]}"
	for ((i = 0; i < 200; i++)); do
		if is_mounted "$MNT"; then
			check
			umount_fs
			break
		fi
		kill -0 "$FS_PID" 2>/dev/null || break
		sleep 0.02
	done
	[ -z "$FS_PID" ] || wait_fs 10
done
for way in "truncate -s 0" "cp /bin/true"; do
	again clean
	expect $way "$STORE/format"
	mount_fails "format"
done
again clean
rm "$STORE/format"
mount_fails "neither empty nor a kvcachefs store"
mkfifo "$STORE/format"
mount_fails "format"
sed 's/^version=.*/version=99/' "$T/clean/format" >"$STORE/format.new"
mv "$STORE/format.new" "$STORE/format"
mount_fails "version 99"
again clean
mount_fs "${opts[@]}"
check

case_end
