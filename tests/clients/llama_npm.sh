#!/bin/bash
# HELPER
# Prints a directory whose node_modules holds node-llama-cpp (llama.cpp, built
# for this processor, no GPU), installing it on first use: 85 MB in kvcachefs-npm
# below /var/cache (as root), ${XDG_CACHE_HOME:-~/.cache} otherwise. What lies
# there is run: it must be ours alone. Exit 77 with the reason where it cannot
# be had.
skip() {
	echo "$*" >&2
	exit 77
}

if [ "$(id -u)" = 0 ]; then
	cache=/var/cache/kvcachefs-npm
else
	cache=${XDG_CACHE_HOME:-${HOME:-/nonexistent}/.cache}/kvcachefs-npm
fi
umask 022
mkdir -p "$cache" 2>/dev/null || skip "cannot create $cache"
[ ! -L "$cache" ] && [ "$(stat -c %u "$cache")" = "$(id -u)" ] && [ $((0$(stat -c %a "$cache") & 022)) = 0 ] ||
	skip "$cache does not belong to $(id -un), or others may write to it: remove it"

case $(uname -m) in
x86_64) arch=x64 ;;
aarch64) arch=arm64 ;;
*) skip "llama.cpp's ready builds are not for $(uname -m)" ;;
esac
have() {
	[ -e "$cache/node_modules/node-llama-cpp/package.json" ] &&
		[ -e "$cache/node_modules/@node-llama-cpp/linux-$arch/package.json" ]
}
install() {
	npm install --no-fund --no-audit --ignore-scripts --omit=optional --loglevel=error "$@" >&2
}

command -v node >/dev/null || skip "node is not installed"
if ! have; then
	command -v npm >/dev/null || skip "npm is not installed"
	cd "$cache" || skip "cannot enter $cache"
	exec 8>.lock && flock 8 # two cases may want it at once
fi
if ! have; then
	[ -e package.json ] || echo '{"private": true}' >package.json
	install node-llama-cpp@3 || skip "npm cannot install node-llama-cpp"
	version=$(node -p 'require("./node_modules/node-llama-cpp/package.json").version')
	install "@node-llama-cpp/linux-$arch@$version" || skip "npm cannot install llama.cpp"
fi
echo "$cache"
