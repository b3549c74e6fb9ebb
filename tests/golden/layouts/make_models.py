#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Tiny GGUF models with random weights, one per kind of llama.cpp memory.

make_models.py DIR writes DIR/ARCH.gguf; make_llama.c saves states with them.
Needs NumPy. The vocabulary is 'none': only token numbers go in.
"""
import struct
import sys

import numpy as np

E, V, FF = 64, 64, 64  # embedding, vocabulary, feed-forward


def u32(v):
    return struct.pack("<II", 4, v)


def i32(v):
    return struct.pack("<Ii", 5, v)


def f32(v):
    return struct.pack("<If", 6, v)


def string(s):
    b = s.encode()
    return struct.pack("<Q", len(b)) + b


def text(s):
    return struct.pack("<I", 8) + string(s)


def array(values):
    return struct.pack("<IIQ", 9, 5, len(values)) + b"".join(struct.pack("<i", v) for v in values)


def write(path, arch, keys, tensors):
    rng = np.random.default_rng(1)
    head = {"general.architecture": text(arch), "tokenizer.ggml.model": text("none")}
    head.update({f"{arch}.{k}": v for k, v in keys.items()})
    out = bytearray(struct.pack("<IIQQ", 0x46554747, 3, len(tensors), len(head)))
    for k, v in head.items():
        out += string(k) + v
    data = bytearray()
    for name, shape in tensors.items():
        a = rng.standard_normal(int(np.prod(shape))).astype(np.float32) * 0.2
        if name.endswith("norm.weight") or name.endswith("ssm_d"):
            a = np.abs(a) + 1
        if name.endswith("ssm_a"):
            a = -np.abs(a) - 0.1
        out += string(name) + struct.pack("<I", len(shape))
        out += b"".join(struct.pack("<Q", d) for d in shape) + struct.pack("<IQ", 0, len(data))
        data += a.tobytes()
        data += bytes(-len(data) % 32)
    out += bytes(-len(out) % 32)
    with open(path, "wb") as f:
        f.write(out + data)


def common(layers, heads, kv, **more):
    keys = {
        "context_length": u32(512), "embedding_length": u32(E), "block_count": u32(layers),
        "feed_forward_length": u32(FF), "attention.head_count": u32(heads),
        "attention.head_count_kv": kv if isinstance(kv, bytes) else u32(kv),
        "attention.layer_norm_rms_epsilon": f32(1e-5), "vocab_size": u32(V),
    }
    keys.update(more)
    return keys


def outer():
    return {"token_embd.weight": (E, V), "output_norm.weight": (E,)}


def attention(i, kv_dim):
    b = f"blk.{i}."
    return {b + "attn_norm.weight": (E,), b + "attn_q.weight": (E, E), b + "attn_k.weight": (E, kv_dim),
            b + "attn_v.weight": (E, kv_dim), b + "attn_output.weight": (E, E)}


def feed(i):
    b = f"blk.{i}."
    return {b + "ffn_norm.weight": (E,), b + "ffn_gate.weight": (E, FF), b + "ffn_up.weight": (E, FF),
            b + "ffn_down.weight": (FF, E)}


def llama(d):
    t = outer()
    for i in range(3):
        t.update(attention(i, 32) | feed(i))
    write(f"{d}/llama.gguf", "llama", common(3, 4, 2, **{"rope.dimension_count": u32(16)}), t)


def llama_wide(d):  # heads wide enough for quantised caches
    t = outer()
    for i in range(2):
        t.update(attention(i, 32) | feed(i))
    write(f"{d}/llama_wide.gguf", "llama", common(2, 2, 1, **{"rope.dimension_count": u32(32)}), t)


def gemma2(d):  # every other layer has a sliding window
    t = outer()
    for i in range(4):
        t.update(attention(i, 32) | feed(i))
        t[f"blk.{i}.post_attention_norm.weight"] = (E,)
        t[f"blk.{i}.post_ffw_norm.weight"] = (E,)
    keys = common(4, 4, 2, **{"rope.dimension_count": u32(16), "attention.sliding_window": u32(8),
                              "attention.key_length": u32(16), "attention.value_length": u32(16)})
    write(f"{d}/gemma2.gguf", "gemma2", keys, t)


def lfm2(d):  # hybrid: attention in layers 1 and 3, short convolutions elsewhere
    t = {"token_embd.weight": (E, V), "token_embd_norm.weight": (E,)}
    for i in range(4):
        b = f"blk.{i}."
        t.update(feed(i))
        t[b + "attn_norm.weight"] = (E,)
        if i % 2:
            t.update(attention(i, 32))
            t[b + "attn_q_norm.weight"] = (16,)
            t[b + "attn_k_norm.weight"] = (16,)
        else:
            t[b + "shortconv.conv.weight"] = (3, E)
            t[b + "shortconv.in_proj.weight"] = (E, 3 * E)
            t[b + "shortconv.out_proj.weight"] = (E, E)
    keys = common(4, 4, array([0, 2, 0, 2]), **{"shortconv.l_cache": u32(3), "rope.dimension_count": u32(16)})
    write(f"{d}/lfm2.gguf", "lfm2", keys, t)


def mamba(d):  # nothing but recurrent state
    t = outer()
    inner, state, conv, rank = 2 * E, 8, 4, 4
    for i in range(2):
        b = f"blk.{i}."
        t.update({b + "attn_norm.weight": (E,), b + "ssm_in.weight": (E, 2 * inner),
                  b + "ssm_conv1d.weight": (conv, inner), b + "ssm_conv1d.bias": (inner,),
                  b + "ssm_x.weight": (inner, rank + 2 * state), b + "ssm_dt.weight": (rank, inner),
                  b + "ssm_dt.bias": (inner,), b + "ssm_a": (state, inner), b + "ssm_d": (inner,),
                  b + "ssm_out.weight": (inner, E)})
    keys = common(2, 0, 0, **{"ssm.conv_kernel": u32(conv), "ssm.inner_size": u32(inner),
                              "ssm.state_size": u32(state), "ssm.time_step_rank": u32(rank)})
    write(f"{d}/mamba.gguf", "mamba", keys, t)


def qwen2vl(d):  # M-RoPE: cells with an extension
    t = outer()
    for i in range(2):
        t.update(attention(i, 32) | feed(i))
    keys = common(2, 4, 2, **{"rope.dimension_count": u32(16), "rope.dimension_sections": array([2, 3, 3, 0])})
    write(f"{d}/qwen2vl.gguf", "qwen2vl", keys, t)


def deepseek2(d):  # latent attention: K only
    t = outer()
    heads, rope, nope, lora, v = 4, 8, 8, 32, 16
    for i in range(2):
        b = f"blk.{i}."
        t.update(feed(i))
        t.update({b + "attn_norm.weight": (E,), b + "attn_kv_a_norm.weight": (lora,),
                  b + "attn_q_a_norm.weight": (32,), b + "attn_q_a.weight": (E, 32),
                  b + "attn_q_b.weight": (32, heads * (rope + nope)),
                  b + "attn_kv_a_mqa.weight": (E, lora + rope), b + "attn_k_b.weight": (nope, lora, heads),
                  b + "attn_v_b.weight": (lora, v, heads), b + "attn_output.weight": (heads * v, E)})
    keys = common(2, heads, 1, **{
        "rope.dimension_count": u32(rope), "attention.kv_lora_rank": u32(lora), "attention.q_lora_rank": u32(32),
        "attention.key_length": u32(lora + rope), "attention.value_length": u32(lora),
        "attention.key_length_mla": u32(rope + nope), "attention.value_length_mla": u32(v),
        "leading_dense_block_count": u32(2), "expert_feed_forward_length": u32(16),
        "expert_shared_count": u32(1), "expert_count": u32(2), "expert_used_count": u32(1)})
    write(f"{d}/deepseek2.gguf", "deepseek2", keys, t)


for make in (llama, llama_wide, gemma2, lfm2, mamba, qwen2vl, deepseek2):
    make(sys.argv[1])
