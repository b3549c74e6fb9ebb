#!/usr/bin/python3
"""Writes a checkpoint as a GGUF v3 file of llama.cpp's "llama" architecture.

    export_gguf.py CHECKPOINT OUT.gguf [--bf16] [--name NAME]

Matrices are F16 (or BF16), norms F32.  No GGUF library is needed.
"""

import argparse
import struct

import torch

import vocab as V
from model import Config

U32, F32, BOOL, STRING, ARRAY, I32 = 4, 6, 7, 8, 9, 5
GGML_F32, GGML_F16, GGML_BF16 = 0, 1, 30
ALIGN = 32

# llama.cpp's token types
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6


def string(s):
    b = s.encode()
    return struct.pack("<Q", len(b)) + b


def scalar(kind, v):
    if kind == STRING:
        return string(v)
    return struct.pack({U32: "<I", I32: "<i", F32: "<f", BOOL: "<?"}[kind], v)


def entry(key, kind, v):
    return string(key) + struct.pack("<I", kind) + scalar(kind, v)


def array(key, kind, vs):
    return string(key) + struct.pack("<IIQ", ARRAY, kind, len(vs)) + \
        b"".join(scalar(kind, v) for v in vs)


def token_type(i):
    if i == 0x20:
        return NORMAL
    if i < V.N_BYTES:
        return BYTE
    if i == V.UNK:
        return UNKNOWN
    if i < V.KEY0:
        return UNUSED if "reserved" in V.token_name(i) else CONTROL
    return USER_DEFINED


def metadata(c, name, file_type):
    tokens = [V.token_name(i) for i in range(V.N_VOCAB)]
    return [
        entry("general.architecture", STRING, "llama"),
        entry("general.name", STRING, name),
        entry("general.license", STRING, "gpl-2.0"),
        entry("general.file_type", U32, file_type),
        entry("general.alignment", U32, ALIGN),
        entry("llama.vocab_size", U32, c.n_vocab),
        entry("llama.context_length", U32, c.n_ctx),
        entry("llama.embedding_length", U32, c.n_embd),
        entry("llama.block_count", U32, c.n_layer),
        entry("llama.feed_forward_length", U32, c.n_ff),
        entry("llama.attention.head_count", U32, c.n_head),
        entry("llama.attention.head_count_kv", U32, c.n_kv),
        entry("llama.attention.key_length", U32, c.d_head),
        entry("llama.attention.value_length", U32, c.d_head),
        entry("llama.attention.layer_norm_rms_epsilon", F32, c.eps),
        entry("llama.rope.dimension_count", U32, c.d_head),
        entry("llama.rope.freq_base", F32, c.rope_base),
        entry("tokenizer.ggml.model", STRING, "llama"),
        array("tokenizer.ggml.tokens", STRING, tokens),
        array("tokenizer.ggml.scores", F32, [0.0] * c.n_vocab),
        array("tokenizer.ggml.token_type", I32,
              [token_type(i) for i in range(c.n_vocab)]),
        entry("tokenizer.ggml.bos_token_id", U32, V.BOS),
        entry("tokenizer.ggml.eos_token_id", U32, V.EOS),
        entry("tokenizer.ggml.unknown_token_id", U32, V.UNK),
        entry("tokenizer.ggml.add_bos_token", BOOL, True),
        entry("tokenizer.ggml.add_eos_token", BOOL, False),
        entry("tokenizer.ggml.add_space_prefix", BOOL, False),
    ]


def meta_order(w, heads):
    """Rows of q or k from rotary pairs (i, i + D/2) to (2i, 2i + 1)."""
    rows, cols = w.shape
    return w.view(heads, 2, rows // heads // 2, cols).transpose(1, 2) \
        .reshape(rows, cols)


def tensors(state, c):
    """(name, matrix) in the file's order."""
    ones = torch.ones(c.n_embd)
    yield "token_embd.weight", state["embd"]
    yield "output_norm.weight", ones
    yield "output.weight", state["head"]
    for i in range(c.n_layer):
        s = {k: state["blocks.%d.%s" % (i, k)]
             for k in ("q", "k", "v", "o", "gate", "up", "down")}
        b = "blk.%d." % i
        yield b + "attn_norm.weight", ones
        yield b + "attn_q.weight", meta_order(s["q"], c.n_head)
        yield b + "attn_k.weight", meta_order(s["k"], c.n_kv)
        yield b + "attn_v.weight", s["v"]
        yield b + "attn_output.weight", s["o"]
        yield b + "ffn_norm.weight", ones
        yield b + "ffn_gate.weight", s["gate"]
        yield b + "ffn_up.weight", s["up"]
        yield b + "ffn_down.weight", s["down"]


def encode(t, half, half_type):
    if t.dim() == 1:
        return GGML_F32, t.float().numpy().astype("<f4").tobytes()
    t = t.float().contiguous()
    if half_type == GGML_F16:
        return half_type, t.half().numpy().tobytes()
    return half_type, t.to(half).view(torch.int16).numpy().tobytes()


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("checkpoint")
    ap.add_argument("out")
    ap.add_argument("--bf16", action="store_true")
    ap.add_argument("--name", default="kvlm-5m")
    a = ap.parse_args()
    c = Config()
    state = torch.load(a.checkpoint, map_location="cpu")["model"]
    half, half_type = (torch.bfloat16, GGML_BF16) if a.bf16 else \
        (torch.float16, GGML_F16)
    # llama.cpp's numbers for "mostly F16" and "mostly BF16"
    meta = metadata(c, a.name, 32 if a.bf16 else 1)

    infos, blobs, at = [], [], 0
    for name, t in tensors(state, c):
        kind, data = encode(t, half, half_type)
        dims = list(reversed(t.shape))
        infos.append(string(name) + struct.pack("<I", len(dims)) +
                     struct.pack("<%dQ" % len(dims), *dims) +
                     struct.pack("<IQ", kind, at))
        data += b"\0" * (-len(data) % ALIGN)
        blobs.append(data)
        at += len(data)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(infos), len(meta)) + \
        b"".join(meta) + b"".join(infos)
    with open(a.out, "wb") as f:
        f.write(head + b"\0" * (-len(head) % ALIGN))
        for b in blobs:
            f.write(b)


if __name__ == "__main__":
    main()
