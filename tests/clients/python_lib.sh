# SPDX-License-Identifier: MIT
# For cases of Python programs, sourced by numpy.sh and torch.sh.

# find_python MODULE: sets PY to an interpreter that has it (Debian's packages
# are seen by /usr/bin/python3 only).
find_python() {
	for PY in python3 /usr/bin/python3; do
		"$PY" -c "import $1" 2>/dev/null && return
	done
	return 1
}

py_get() { getfattr --absolute-names --only-values -n "user.kvcache.$1" "$2"; }

# py_sealed FILE LAYOUT PERCENT: seals it, finds LAYOUT in what was recognised and
# it at least that much smaller.
py_sealed() {
	local layout size stored
	setfattr -n user.kvcache.seal -v 1 "$1" || fail "cannot seal $1"
	expect_eq "$(py_get state "$1")" sealed "state of $1"
	layout=$(py_get recognised "$1") size=$(stat -c %s "$1") stored=$(py_get stored_bytes "$1")
	note "${1##*/}: $layout: $size bytes in $stored by $(py_get codec "$1")"
	[[ $layout == $2* ]] || fail "$1: recognised as '$layout'"
	[ $((size * 100)) -ge $((stored * $3)) ] || fail "$1: $stored of $size bytes stored"
}
