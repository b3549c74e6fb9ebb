#!/bin/bash
# HELPER
# Prints a directory whose node_modules holds node-llama-cpp (llama.cpp, built
# for this processor, no GPU), installing it on first use: 85 MB in
# ${XDG_CACHE_HOME:-/var/tmp}/kvcachefs-npm. Exit 77 with the reason where it
# cannot be had.
cache=${XDG_CACHE_HOME:-/var/tmp}/kvcachefs-npm

skip() {
	echo "$*" >&2
	exit 77
}

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
	mkdir -p "$cache" && cd "$cache" || skip "cannot create $cache"
	exec 8>.lock && flock 8 # two cases may want it at once
fi
if ! have; then
	[ -e package.json ] || echo '{"private": true}' >package.json
	install node-llama-cpp@3 || skip "npm cannot install node-llama-cpp"
	version=$(node -p 'require("./node_modules/node-llama-cpp/package.json").version')
	install "@node-llama-cpp/linux-$arch@$version" || skip "npm cannot install llama.cpp"
fi
echo "$cache"
