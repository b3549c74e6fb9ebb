#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Golden NumPy, safetensors, LMCache and raw page files: make_files.py DIR.

.npy by NumPy's own writer; the others byte by byte after what their writers do
(safetensors: format 0.4; LMCache: protocol.py, gds_backend.py; vLLM's
ExampleConnector, oMLX and mlx-lm: their tensor names).
"""
import json
import struct
import sys

import numpy as np

rng = np.random.default_rng(2)
out = sys.argv[1]


def floats(shape, dtype):
    a = rng.standard_normal(shape).astype(np.float32)
    if dtype == "BF16":
        return (a.view(np.uint32) >> 16).astype(np.uint16)
    return a.astype({"F16": np.float16, "F32": np.float32}[dtype])


def save(name, *parts):
    with open(f"{out}/{name}", "wb") as f:
        for p in parts:
            f.write(p if isinstance(p, bytes) else p.tobytes())


def safetensors(name, tensors, metadata=None):
    """tensors: {name: (dtype, array)}; biggest alignment first, then by name, as the real writer sorts."""
    head, at = {}, 0
    if metadata:
        head["__metadata__"] = metadata
    data = []
    for n, (dtype, a) in sorted(tensors.items(), key=lambda t: (-t[1][1].itemsize, t[0])):
        head[n] = {"dtype": dtype, "shape": list(a.shape), "data_offsets": [at, at + a.nbytes]}
        at += a.nbytes
        data.append(a)
    text = json.dumps(head, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    save(name, struct.pack("<Q", len(text)), text, *data)


def per_layer(names, shape, dtype, layers):
    return {n.format(i): (dtype, floats(shape, dtype)) for i in range(layers) for n in names}


def lmcache_fs(name, fmt, dtype_code, dtype, shape):
    a = floats(shape, dtype)
    dims = list(shape) + [0] * (4 - len(shape))
    save(name, struct.pack("<iiiiiii", a.nbytes, fmt, dtype_code, *dims), a)


def lmcache_gds(name, fmt, dtype, shape):
    a = floats(shape, dtype)
    meta = {"kvcache": {"dtype": dtype, "shape": list(shape), "data_offsets": [0, a.nbytes], "fmt": fmt,
                        "__metadata__": {"lmcache_version": "1"}}}
    text = json.dumps(meta).encode()
    save(name, struct.pack("<Q", 4088), text + b" " * (4088 - len(text)), a)


np.save(f"{out}/f16.npy", floats((2, 3, 8, 2, 16), "F16"))
np.save(f"{out}/f32-fortran.npy", np.asfortranarray(floats((4, 32), "F32")))
np.save(f"{out}/int64.npy", np.arange(100))
np.savez(f"{out}/two.npz", a=np.arange(10), b=floats((4, 4), "F32"))
safetensors("vllm-example.safetensors", {"kv_cache": ("BF16", floats((2, 16, 2, 16), "BF16"))})
safetensors("omlx.safetensors", per_layer(["layer_{}_state_0", "layer_{}_state_1"], (1, 2, 16, 16), "BF16", 3),
            {"version": "3", "block_hash": "ab", "model": "m"})
safetensors("mlx-lm.safetensors", per_layer(["{}.0", "{}.1"], (1, 2, 16, 16), "F16", 2),
            {"0.0": "16", "0.1": "16", "2.0": "KVCache", "2.1": "KVCache"})
safetensors("weights.safetensors", {"model.layers.0.self_attn.k_proj.weight": ("BF16", floats((32, 32), "BF16"))})
lmcache_fs("lmcache-2ltd.data", 1, 3, "BF16", (2, 3, 16, 32))
lmcache_fs("lmcache-t2d.data", 2, 2, "F16", (16, 2, 32))
lmcache_gds("lmcache.kvcache.safetensors", 1, "BF16", (2, 3, 16, 32))
save("page.bin", floats((2, 4, 16, 2, 128), "BF16"))
