#!/bin/sh
# SPDX-License-Identifier: MIT
# Makes the golden layout files anew: make.sh LLAMA_SOURCE LLAMA_LIBDIR KVLM
#   LLAMA_SOURCE  a checkout of llama.cpp (v0.5.0), for its headers
#   LLAMA_LIBDIR  its shared libraries; the npm package node-llama-cpp has them in
#                 node_modules/@node-llama-cpp/linux-x64/bins/linux-x64
#   KVLM          the built kvlm program
# What is checked in stays: new writers' files are added beside it.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
src=$1 lib=$2 kvlm=$3
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT INT TERM
mkdir -p "$here/files"
python3 "$here/make_files.py" "$here/files"
python3 "$here/make_models.py" "$tmp"
cc -o "$tmp/make" "$here/make_llama.c" -I"$src/include" -I"$src/ggml/include" -L"$lib" \
	-l:libllama.v0.5.0.so -l:libggml.v0.5.0.so -l:libggml-base.so \
	-Wl,-rpath,"$lib" -Wl,--allow-shlib-undefined
llama() { # MODEL seq|session TYPE_K TYPE_V FLASH TOKENS [SEQUENCES]
	"$tmp/make" "$lib" "$tmp/$1.gguf" \
		"$here/files/llama-$1-$2-$3-$4-fa$5${7:+-n$7}.bin" "$2" "$3" "$4" "$5" "$6" ${7:-} \
		2>"$tmp/log" >&2 || { cat "$tmp/log"; exit 1; }
}
for t in f16 bf16 f32; do
	llama llama seq $t $t 1 20
	llama llama session $t $t 1 20
done
llama llama seq f16 f16 0 20
llama llama session f16 f16 0 20
llama llama session f16 f16 0 10 3
llama llama_wide seq q8_0 q8_0 1 20
llama llama_wide seq q4_0 f16 0 20
for m in gemma2 lfm2 mamba qwen2vl deepseek2; do
	llama $m seq f16 f16 1 20
	llama $m session f16 f16 0 20
done
printf 'A context of few words.' >"$tmp/prompt"
for f in llama safetensors; do
	"$kvlm" prefill "$here/../../../tools/kvlm/model/kvlm.gguf" --prompt "$tmp/prompt" \
		--save "$here/files/kvlm.$f" --format $f >/dev/null
	"$kvlm" quant "$here/files/kvlm.$f" --heads 2 --method keydiff:0.4+2+3 \
		--save "$here/files/kvlm-thin.$f" >/dev/null
done
