#!/bin/bash
# GROUP: clients
# TIMEOUT: 900
#
# kvlm and llama.cpp must be two readings of one model and one file format:
# the same next tokens, and each continues from the state the other saved.
#
#   llama_agree.sh KVLM [MODEL [TASKS]]
#
# llama.cpp comes from the npm package node-llama-cpp (llama_npm.sh). Exit 77
# where npm or the package cannot be had.
set -u
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
kvlm=${1:-${KVLM:-}}
model=${2:-$root/tools/kvlm/model/kvlm.gguf}
tasks=${3:-$root/tools/kvlm/tasks}

skip() {
	echo "SKIP: $*"
	exit 77
}

[ -n "$kvlm" ] && [ -x "$kvlm" ] || { echo "usage: llama_agree.sh KVLM [MODEL [TASKS]]"; exit 2; }
[ -r "$model" ] || skip "no model at $model"
cache=$("$here/llama_npm.sh") || exit $?

work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
cp "$here/llama_agree.mjs" "$work/" && ln -s "$cache/node_modules" "$work/node_modules" || exit 2
# the model may be replaced while it is being trained: everybody reads one copy
cp "$model" "$work/model.gguf" || exit 2
cd "$work" && timeout 800 node llama_agree.mjs "$kvlm" "$work/model.gguf" "$tasks"
