#!/bin/bash
# kvlm and llama.cpp read one model and one file format differently: other next
# tokens, or a state saved by one that the other does not continue.
# TIMEOUT: 900
# SLOW
#
#   llama_agree.sh [KVLM [MODEL [TASKS]]]
#
# llama.cpp comes from the npm package node-llama-cpp (llama_npm.sh). Exit 77
# where npm or the package cannot be had.
set -u
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
kvlm=${1:-${BUILD:-$root/build/normal}/tools/kvlm/kvlm}
model=${2:-$root/tools/kvlm/model/kvlm.gguf}
tasks=${3:-$root/tools/kvlm/tasks}

[ -x "$kvlm" ] || { echo "no program at $kvlm"; exit 2; }
[ -r "$model" ] || { echo "no model at $model"; exit 77; }
cache=$("$here/llama_npm.sh") || exit $?

work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
cp "$here/llama_agree.mjs" "$work/" && ln -s "$cache/node_modules" "$work/node_modules" || exit 2
# the model may be replaced while it is being trained: everybody reads one copy
cp "$model" "$work/model.gguf" || exit 2
cd "$work" && timeout --foreground 800 node llama_agree.mjs "$kvlm" "$work/model.gguf" "$tasks"
