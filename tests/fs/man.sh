#!/bin/bash
# SPDX-License-Identifier: MIT
# Options, xattrs and commands are each one table: the man pages and the
# contexts' head line must know every entry.
. "$(dirname "$0")/../lib/case.sh"
case_begin
CTL=$BUILD/tools/kvcachectl/kvcachectl
MAN=$ROOT/man
# roff without its markup
plain() { sed -e 's/\\f.//g' -e 's/\\-/-/g' -e 's/\\ / /g' -e 's/\\(..//g' "$1"; }

"$KVCACHEFS" --help | awk '/^Options/ { on = 1; next } /^$/ { on = 0 } on && $1 != "takes" { print $1 }' >"$T/options"
expect_between "$(wc -l <"$T/options")" 15 100 options
while read -r name; do
	plain "$MAN/kvcachefs.8" | grep -qE -- "-o $name\b" || fail "kvcachefs(8) lacks option $name"
done <"$T/options"
plain "$MAN/kvcachefs.8" | grep -oE -- '^\.B[IR]* -o [a-z_]+' | awk '{ print $3 }' | while read -r name; do
	grep -qx "$name" "$T/options" || fail "kvcachefs(8) has option $name, the program has not"
done || exit 1

sed -n 's/^\tX([A-Z_]*, "\([a-z_]*\)".*/\1/p' "$ROOT/include/kvcachefs/xattr.h" >"$T/xattrs"
expect_between "$(wc -l <"$T/xattrs")" 25 100 xattrs
while read -r name; do
	grep -qE "user\.kvcache\.$name\b" "$MAN/kvcachefs-xattr.7" || fail "kvcachefs-xattr(7) lacks $name"
done <"$T/xattrs"

need_built "$CTL"
"$CTL" --help | awk '/^  [a-z]/ { print $1 }' >"$T/commands"
expect_between "$(wc -l <"$T/commands")" 15 100 commands
while read -r name; do
	plain "$MAN/kvcachectl.1" | grep -qE "^$name( |$)" || fail "kvcachectl(1) lacks $name"
done <"$T/commands"

KVLM=$BUILD/tools/kvlm/kvlm
need_built "$KVLM"
"$KVLM" --help | awk '/^  [a-z]/ { print $1 }' >"$T/commands"
expect_between "$(wc -l <"$T/commands")" 7 100 "commands of kvlm"
while read -r name; do
	plain "$MAN/kvlm.1" | grep -qx "\.SS $name" || fail "kvlm(1) lacks $name"
	"$KVLM" "$name" --help | awk '/^  -/ { print $1 }' >"$T/options"
	while read -r opt; do
		plain "$MAN/kvlm.1" | awk -v c="$name" -v o="$opt" '/^\.S[SH]/ { on = $2 == c || $2 == "COMMON" }
			on && /^\.B/ && $2 == o { found = 1 } END { exit !found }' ||
			fail "kvlm(1) lacks $opt of $name"
	done <"$T/options"
done <"$T/commands"

BENCH=$BUILD/tools/kvcachebench/kvcachebench
if [ -x "$BENCH" ]; then
	"$BENCH" replay --help | grep -oE -- '--[a-z-]+' | sort -u >"$T/options"
	plain "$MAN/kvcachebench.1" | sed -n '/^.SH OPTIONS OF REPLAY/,/^.SH OPTIONS OF CODEC/p' >"$T/page"
	while read -r opt; do
		grep -qE -- "$opt\b" "$T/page" || fail "kvcachebench(1) lacks $opt of replay"
	done <"$T/options"
	"$BENCH" placement --help | grep -oE -- '--[a-z-]+' | sort -u >"$T/options"
	plain "$MAN/kvcachebench.1" | sed -n '/^.SH OPTIONS OF PLACEMENT/,/^.SH OPTIONS OF CODEC/p' >"$T/page"
	while read -r opt; do
		grep -qE -- "$opt\b" "$T/page" || fail "kvcachebench(1) lacks $opt of placement"
	done <"$T/options"
fi

need man
for page in kvcachefs.8 kvcachectl.1 kvcachefs-xattr.7 kvlm.1 kvcachebench.1 fsck.kvcachefs.8 kvcachefs-format.5; do
	LC_ALL=C.UTF-8 MANROFFSEQ='' man --warnings -E UTF-8 -l -Tutf8 -Z "$MAN/$page" 2>"$T/warn" >/dev/null
	[ ! -s "$T/warn" ] || fail "$page: $(cat "$T/warn")"
done
case_end
