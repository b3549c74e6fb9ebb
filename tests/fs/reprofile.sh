#!/bin/bash
# SPDX-License-Identifier: MIT
# Re-profiling: estimates get further samples while nobody uses the mount, and keep them;
# what readers measured of one context holds for others of its model and owner, and placement
# follows.
. "$(dirname "$0")/../lib/case.sh"
case_begin
need_root
need setfattr python3
opts=policy=adaptive,dram=128M,settle=1h,allow_other,alpha=0
mount_fs -o $opts
get() { getfattr --absolute-names --only-values -n "user.kvcache.$1" "$2" 2>/dev/null; }
put() { setfattr -n "user.kvcache.$1" -v "$2" "$3"; }
counter() { awk -v n="kvcachefs_$1_total" '$1 == n { print $2 }' "$MNT/.kvcachefs/metrics"; }
contexts() { # COLUMN PATH
	awk -F '\t' -v c="$1" -v p="$2" 'NR == 1 { for (i = 1; i <= NF; i++) n[$i] = i } $NF == p { print $n[c] }' \
		"$MNT/.kvcachefs/contexts"
}
estimates() { for f in a b foreign; do get estimate "$MNT/g/$f"; echo; done; }
# at LEVEL FILE: its estimated quality
at() { get estimate "$2" | tr ' ' '\n' | sed -n "s/^$1://p"; }
mkdir "$MNT/g"
expect put quality 0.9 "$MNT/g"
# one of which no sample can be had, as it was written to; it keeps nobody from others
kvdata st 1000000 7 "$T/w"
cp "$T/w" "$MNT/g/w"
expect put seal 1 "$MNT/g/w"
printf new | dd of="$MNT/g/w" bs=1 seek=500000 conv=notrunc status=none
for f in a b foreign; do
	kvdata st 6000000 "$(cksum <<<$f | cut -c1-4)" "$T/$f"
	cp "$T/$f" "$MNT/g/$f"
	expect put seal 1 "$MNT/g/$f"
done
chown 10001 "$MNT/g/foreign"
first=$(estimates)
expect_eq "$(wc -w <<<"$first")" 12 "each level of each file has an estimate"

# nothing is sampled while files are read
for i in $(seq 25); do
	cat "$MNT/g/$([ $((i % 2)) = 0 ] && echo a || echo b)" >/dev/null
	sleep 0.1
done
expect_eq "$(counter resampled)" 0 "samples taken while files were read"

# then three more of each: other numbers, in order, not far away
all() { [ "$(counter resampled)" = 9 ]; }
wait_for 60 all
second=$(estimates)
python3 - "$first" "$second" <<'PY' || fail "estimates were $first and are $second"
import sys
a, b = ([[float(w.split(":")[1]) for w in l.split()] for l in t.splitlines()] for t in sys.argv[1:])
assert len(a) == len(b) == 3 and sum(x != y for x, y in zip(a, b)) >= 2
for x, y in zip(a, b):
    assert y == sorted(y) and y[-1] == 1, (x, y)
    for p, q in zip(x[:-1], y[:-1]):
        assert 0.4 * (1 - p) <= 1 - q <= 2.5 * (1 - p), (p, q)
PY
sleep 2.5
expect_eq "$(counter resampled)" 9 "no more than that"
for f in a b; do expect put level exact "$MNT/g/$f"; expect_eq "$(get levels "$MNT/g/$f" | wc -w)" 4 "layers"; done

# they are kept
remount_fs -o $opts
expect_eq "$(estimates)" "$second" "estimates after another mount"
known() { grep -q "^plans .* of 4 contexts" "$MNT/.kvcachefs/status"; }
wait_for 20 known
# nothing is left to be sampled but what is new
kvdata st 6000000 77 "$T/c"
cp "$T/c" "$MNT/g/c"
expect put seal 1 "$MNT/g/c"
c1=$(get estimate "$MNT/g/c")
wait_for 30 eval '[ "$(counter resampled)" = 3 ]'
[ "$(get estimate "$MNT/g/c")" != "$c1" ] || fail "new content is not sampled"
rm "$MNT/g/c"

# quality is worth nothing here, so what is allowed is read with least
second=$(estimates)
expect put move ssd "$MNT/g/b"
expect put move ssd "$MNT/g/foreign"
expect_eq "$(get level "$MNT/g/b")" 0 "before anybody complains"

# a reader found one worse than it was said to be: so are the others of its owner
utility() { contexts utility "g/$1"; }
u=$(utility b)
expect put feedback 0:0.1,1:0.2 "$MNT/g/a"
case $(get estimate "$MNT/g/a") in 0:0.1000' '1:0.2000' '2:0.99*) ;; *) fail "of the file itself: $(get estimate "$MNT/g/a")" ;; esac
for l in 0 1 2; do
	python3 -c "import sys; b, was = map(float, sys.argv[1:]); sys.exit(not 1 - b > 2 * (1 - was))" "$(at $l "$MNT/g/b")" \
		"$(sed -n 2p <<<"$second" | tr ' ' '\n' | sed -n "s/^$l://p")" || fail "level $l of b has $(at $l "$MNT/g/b")"
done
expect_eq "$(get estimate "$MNT/g/foreign")" "$(sed -n 3p <<<"$second")" "another owner's"
grep -q "readers measured 1 contexts of 1 models" "$MNT/.kvcachefs/status" || fail "status: $(grep ^estimates "$MNT/.kvcachefs/status")"
# its lowest level is no longer what was granted
expect_eq "$(get level "$MNT/g/b")" 2 "what the next reader gets"
expect_eq "$(get level "$MNT/g/foreign")" 0 "of another owner"
why() { get why "$MNT/g/$1"; }
wait_for 20 eval 'why b | grep -q "level 2"'
expect_errno EPERM put level 0 "$MNT/g/b"

# it is with the file, and can be taken back
remount_fs -o $opts
wait_for 20 eval '[ "$(get level "$MNT/g/b")" = 2 ]'
expect setfattr -x user.kvcache.feedback "$MNT/g/a"
expect_eq "$(estimates)" "$second" "taken back"
wait_for 20 eval '[ "$(get level "$MNT/g/b")" = 0 ]'
# it goes with the file
expect put feedback 0:0.1,1:0.2 "$MNT/g/a"
expect_eq "$(get level "$MNT/g/b")" 2
rm "$MNT/g/a"
wait_for 20 eval '[ "$(get level "$MNT/g/b")" = 0 ]'
case_end
