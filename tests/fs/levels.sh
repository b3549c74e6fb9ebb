#!/bin/bash
# SPDX-License-Identifier: MIT
# Levels: who may lose what, that a level holds from the first open to the last use, what
# a level costs to read and to go down to, that there is no way up.
#
#	levels.sh --full	also prints how long 1 GiB takes to go down
. "$(dirname "$0")/../lib/case.sh"
case_begin
need_root
need setfattr python3
opts=policy=lru,dram=256M,settle=1h,allow_other
mount_fs -o $opts
get() { getfattr --absolute-names --only-values -n "user.kvcache.$1" "$2" 2>/dev/null; }
put() { setfattr -n "user.kvcache.$1" -v "$2" "$3"; }
counter() { awk -v n="kvcachefs_$1_total" '$1 == n { print $2 }' "$MNT/.kvcachefs/metrics"; }
# bytes LEVEL FILE: on storage, by the list of levels
bytes() { get levels "$2" | tr ' ' '\n' | sed -n "s/^$1://p"; }
# stored FILE LEVEL_BYTES WHAT: it occupies that; its other attributes have a block
stored() { expect_between "$(get stored_bytes "$1")" "$2" $(($2 + 8192)) "$3"; }
kvdata st 6000000 1 "$T/ref"
ref=$T/ref

# nothing is granted: one layer, and no way down
cp "$ref" "$MNT/exact"
expect put seal 1 "$MNT/exact"
expect_eq "$(get levels "$MNT/exact")" "exact:$(get stored_bytes "$MNT/exact")" "levels without a grant"
expect_eq "$(get level "$MNT/exact")" exact
expect_errno EPERM put level 0 "$MNT/exact"
expect put level exact "$MNT/exact"
expect_errno EINVAL put level 9 "$MNT/exact"
expect_errno EINVAL put level low "$MNT/exact"

# grants come from directories of root and of the file's owner, when the file is made
mkdir "$MNT/g" "$MNT/foreign"
expect put quality 0 "$MNT/g"
mkdir "$MNT/g/sub"
chown 10001 "$MNT/foreign"
chmod 777 "$MNT/g/sub" "$MNT/foreign"
expect put quality 0 "$MNT/foreign"
cp "$ref" "$MNT/g/sub/a"
cp "$ref" "$MNT/foreign/root"
AS_UID=10001 as_user cp "$ref" "$MNT/foreign/own"
AS_UID=10001 as_user cp "$ref" "$MNT/g/sub/b"
expect_eq "$(get quality "$MNT/g/sub/a")" 0 "inherited from root"
expect_eq "$(get quality "$MNT/g/sub/b")" 0 "inherited from root by a user"
expect_eq "$(get quality "$MNT/foreign/own")" 0 "inherited from the owner"
expect_eq "$(get quality "$MNT/foreign/root")" 1 "not inherited from others"
expect setfattr -x user.kvcache.quality "$MNT/g"
cp "$ref" "$MNT/g/sub/late"
expect_eq "$(get quality "$MNT/g/sub/a")" 0 "what was inherited stays"
expect_eq "$(get quality "$MNT/g/sub/late")" 1 "nothing to inherit any more"
expect put quality 0 "$MNT/g"

# sealed with a grant: layers, all of them, exact; readers get all by default
a=$MNT/g/sub/a
expect put seal 1 "$a"
case "$(get codec "$a")" in ladder*) ;; *) fail "codec $(get codec "$a")" ;; esac
expect_eq "$(get level "$a")" exact
stored "$a" "$(bytes exact "$a")" "bytes of all layers"
[ "$(bytes 0 "$a")" -lt "$(bytes 1 "$a")" ] || fail "levels: $(get levels "$a")"
expect_same "$ref" "$a"
# what each level is expected to keep, better from one to the next; measured anew it is the same
python3 - "$(get estimate "$a")" <<'PY' || fail "estimate: $(get estimate "$a")"
import sys
q = [float(w.split(":")[1]) for w in sys.argv[1].split()]
assert len(q) == 4 and q == sorted(q) and 0 < q[0] < q[1] <= 1 and q[3] == 1, q
PY

# a grant after sealing: in layers by seal, or when a level is asked for; read all the while
b=$MNT/exact
expect put quality 0 "$b"
exec 5<"$b"
expect put seal 1 "$b"
expect_eq "$(counter relayered)" 1 "files encoded anew"
expect_same "$ref" /dev/fd/5
exec 5<&-
expect_same "$ref" "$b"
expect_eq "$(bytes 0 "$b")" "$(bytes 0 "$a")" "the same layers"
expect_eq "$(get estimate "$b")" "$(get estimate "$a")" "the same estimate"
remount_fs
expect_same "$ref" "$b"

# down while it is open and mapped: who has it keeps it; no byte is encoded
move=(ssd dram copy)
for i in 0 1 2; do
	f=$MNT/g/sub/f$i
	cp "$ref" "$f"
	expect put seal 1 "$f"
	expect put move "${move[i]}" "$f"
done
before=$(counter encoded_bytes)
python3 - "$ref" "$MNT/g/sub" <<'PY' || fail "a level changed under a reader"
import mmap, os, sys, time
ref, d = open(sys.argv[1], "rb").read(), sys.argv[2]
half = len(ref) // 2
def blocks(p): return os.stat(p).st_blocks
for i in range(3):
    p = f"{d}/f{i}"
    fd = os.open(p, os.O_RDONLY)
    assert os.pread(fd, half, 0) == ref[:half], "first half"
    m = mmap.mmap(fd, 0, prot=mmap.PROT_READ)
    was = blocks(p)
    os.setxattr(p, "user.kvcache.level", b"1")
    assert os.pread(fd, len(ref), half) == ref[half:], "second half"
    with open(p, "rb") as g:
        assert g.read() == ref, "opened beside it"
    assert blocks(p) == was, "dropped under a reader"
    os.close(fd)
    assert m[:] == ref, "mapping"
    with open(p, "rb") as g:
        assert g.read() == ref, "opened beside a mapping"
    assert blocks(p) == was, "dropped under a mapping"
    m.close()
    end = time.time() + 5
    while blocks(p) == was and time.time() < end:
        time.sleep(0.05)
    assert blocks(p) < was, "nothing was freed"
    with open(p, "rb") as g:
        low = g.read()
    assert low != ref and len(low) == len(ref), "still exact"
    n = 8 + int.from_bytes(ref[:8], "little")
    assert low[:n] == ref[:n], "the header is not for losing"
    with open(p, "rb") as g:
        assert mmap.mmap(g.fileno(), 0, prot=mmap.PROT_READ)[:] == low, "mapped anew"
PY
expect_eq "$(counter encoded_bytes)" "$before" "bytes encoded to go down"
for i in 0 1 2; do
	f=$MNT/g/sub/f$i
	expect_eq "$(get level "$f")" 1
	expect_same "$MNT/g/sub/f0" "$f"
	stored "$f" "$(bytes 1 "$a")" "bytes of level 1"
	expect_eq "$(bytes 1 "$f")" "$(bytes 1 "$a")" "bytes of level 1 by the list"
done
cp "$MNT/g/sub/f0" "$T/low"

# no way up, and a file that lost bytes cannot be told to keep them
f=$MNT/g/sub/f0
expect_errno EOPNOTSUPP put level exact "$f"
grep -q 'level=exact refused: the layers for that were dropped' "$LOG" || fail "the log does not say why"
expect_errno EOPNOTSUPP put quality 1 "$f"
expect_errno EOPNOTSUPP setfattr -x user.kvcache.quality "$f"
expect_errno EOPNOTSUPP setfattr -n user.vllm.kv_crc32c -v 12 "$f"
expect_eq "$(get quality "$f")" 0
expect put level 1 "$f"

# vetoes
crc=$MNT/g/sub/crc
cp "$ref" "$crc"
expect setfattr -n user.vllm.kv_crc32c -v 12 "$crc"
expect put seal 1 "$crc"
sleep 0.2 # refusals are logged ten times a second at most
expect_errno EOPNOTSUPP put level 0 "$crc"
case "$(get reason "$crc")" in *checksum*) ;; *) fail "reason: $(get reason "$crc")" ;; esac
expect_eq "$(get level "$crc")" exact
kvdata text 300000 1 "$MNT/g/sub/text"
expect_errno EOPNOTSUPP put level 0 "$MNT/g/sub/text"
grep -q 'level=0 refused: the file must stay exact' "$LOG" || fail "the log does not say why"
chmod 666 "$f"
AS_UID=10002 expect_errno EPERM as_user setfattr -n user.kvcache.level -v 0 "$f"
# below the floor, or not known to be above it
expect put quality 0.5 "$b"
expect put profile 0:0.4,1:0.6 "$b"
case "$(get estimate "$b")" in 0:0.4*' 1:0.6'*) ;; *) fail "estimate: $(get estimate "$b")" ;; esac
sleep 0.2
expect_errno EPERM put level 0 "$b"
grep -q "level=0 refused: the level's quality is below" "$LOG" || fail "the log does not say why"
expect_same "$ref" "$b"
expect_errno EINVAL put profile 0=1 "$b"

# a level for all readers, while everything stays: only its layers are read
# LEVEL: bringing $a to memory fetches its layers and no more; reading it then nothing
read_cost() {
	local was
	expect_eq "$(counter fetched_bytes)" 0 "bytes fetched by nobody"
	expect put move dram "$a"
	was=$(counter fetched_bytes)
	expect_between "$was" $(($(bytes "$1" "$a") * 97 / 100)) $(($(bytes "$1" "$a") * 105 / 100)) \
		"bytes fetched at level $1"
	cat "$a" >"$T/got"
	expect_eq "$(counter fetched_bytes)" "$was" "bytes fetched"
	expect put move ssd "$a"
	expect_same "$T/got" "$a"
}
for l in 0 1 exact; do
	p=lru
	[ $l = exact ] || p=fixed:$l
	remount_fs -o $opts,paths=stream,policy=$p
	expect_eq "$(get level "$a")" $l "level by policy"
	read_cost $l
	[ $l != 1 ] || expect_same "$T/low" "$T/got"
	[ $l = 0 ] && expect_fail cmp -s "$ref" "$T/got"
	[ $l != exact ] || expect_same "$ref" "$T/got"
	expect_eq "$(get levels "$a" | wc -w)" "$(get levels "$b" | wc -w)" "levels that are there"
	# the floor and vetoes hold for the policy too
	[ $l != 0 ] || expect_eq "$(get level "$b")" 1 "level by policy and floor"
	expect_same "$ref" "$crc"
done
# what is shown is what the next reader gets, on either side of what a level is worth
worth=$(get estimate "$a" | tr ' ' '\n' | sed -n 's/^1://p')
for d in -0.0001 0.0001; do
	remount_fs -o $opts,paths=stream,policy=fixed:0
	expect put quality "$(awk -v w="$worth" -v d=$d 'BEGIN { printf "%.6f", w + d }')" "$a"
	read_cost "$(get level "$a")"
done
expect put quality 0 "$a"
# sealed exactly before there was such a policy: in layers after its first reader
late=$MNT/g/sub/late
remount_fs -o $opts
expect put seal 1 "$late"
expect put quality 0 "$late"
expect_eq "$(get levels "$late" | wc -w)" 1 "levels before"
remount_fs -o $opts,policy=fixed:1
expect_same "$ref" "$late"
in_layers() { [ "$(get levels "$late" | wc -w)" -gt 1 ]; }
wait_for 10 in_layers
expect_same "$T/low" "$late"
# a copy and a replica of a level go when another one is served
remount_fs -o $opts,policy=fixed:1
expect put move dram "$a"
expect_between "$(get replica_bytes "$a")" 1 $(($(bytes 1 "$a") * 3 / 2)) "a replica of two layers"
expect_eq "$(get tier "$a")" dram "two layers in memory, two are read"
# which is not where somebody who gets all layers finds them
expect put quality 1 "$a"
expect_eq "$(get tier "$a")" ssd "two layers in memory, all are read"
dram=$(counter opens_dram) ssd=$(counter opens_ssd)
expect_same "$ref" "$a"
expect_eq "$(counter opens_dram) $(counter opens_ssd)" "$dram $((ssd + 1))" "opens found in DRAM and not"
expect put quality 0 "$a"
expect put move dram "$a"
expect_same "$T/low" "$a"
expect put move copy "$a"
expect_same "$T/low" "$a"
expect put quality 1 "$a"
expect_same "$ref" "$a"
expect put quality 0 "$a"
expect_same "$T/low" "$a"
# the kernel's own pages, too
remount_fs -o $opts,paths=cached,policy=fixed:1
expect_same "$T/low" "$a"
expect put quality 1 "$a"
expect_same "$ref" "$a"
expect put quality 0 "$a"
expect_same "$T/low" "$a"
# who may write gets all that there is, and leaves what he does not write as it was
printf changed | dd of="$a" bs=1 seek=3000000 conv=notrunc status=none
cp "$ref" "$T/new"
printf changed | dd of="$T/new" bs=1 seek=3000000 conv=notrunc status=none
expect put quality 1 "$a"
expect_same "$T/new" "$a"
# written to after it was sealed exactly: encoded anew as it is now
mixed=$MNT/g/sub/mixed
cp "$ref" "$mixed"
expect put quality 1 "$mixed"
expect put seal 1 "$mixed"
printf changed | dd of="$mixed" bs=1 seek=3000000 conv=notrunc status=none
expect_eq "$(get state "$mixed")" overlay
expect put quality 0 "$mixed"
expect put seal 1 "$mixed"
expect_eq "$(bytes 0 "$mixed")" "$(bytes 0 "$late")" "layers of what was written to"
expect put quality 1 "$mixed"
expect_same "$T/new" "$mixed"
# of a file that has lost bytes all becomes what it reads
printf changed | dd of="$f" bs=1 seek=3000000 conv=notrunc status=none
expect_eq "$(get state "$f")" plain "after a write"
printf changed | dd of="$T/low" bs=1 seek=3000000 conv=notrunc status=none
expect_same "$T/low" "$f"

# killed with layers dropped that were in use
f=$MNT/g/sub/f3
cp "$ref" "$f"
expect put seal 1 "$f"
exec 5<"$f"
expect put level 0 "$f"
held=$(get stored_bytes "$f")
grep -q 'dropped, but in use .* 1 files: .*g/sub/f3' "$MNT/.kvcachefs/status" || fail "status does not name who holds layers"
exec 5<&-
wait_for 5 test "$(get level "$f")" = 0
kill_fs
mount_fs -o $opts
[ "$(get stored_bytes "$f")" -lt "$held" ] || fail "what was dropped is still there"
expect_eq "$(get level "$f")" 0
expect cat "$f" >"$T/got"
umount_fs
expect "$BUILD/tools/fsck/fsck.kvcachefs" --verify "$STORE" >/dev/null
[ "${1:-}" != --full ] || {
	mount_fs -o $opts,quality=0
	kvdata st 1073741824 2 "$MNT/gib"
	expect put seal 1 "$MNT/gib"
	note "1 GiB: $(get levels "$MNT/gib")"
	was=$(counter encoded_bytes)
	time expect put level 0 "$MNT/gib"
	note "encoded meanwhile: $(($(counter encoded_bytes) - was)) bytes; now $(get levels "$MNT/gib")"
}
case_end
