#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Caches as PyTorch programs keep them: torch_client.py write|check DIR

A past_key_values of bf16 tensors by torch.save, to a name and to an open file,
zip and older form; mapped storage by torch.from_file.
"""
import sys

import torch

LAYERS, SHAPE = 4, (1, 4, 256, 64)  # batch, head, token, element
COUNT = LAYERS * 2 * 4 * 256 * 64


def cache():
    g = torch.Generator().manual_seed(5)
    return tuple(tuple(torch.randn(SHAPE, generator=g).to(torch.bfloat16) for _ in "kv") for _ in range(LAYERS))


def flat(c):
    return torch.cat([t.reshape(-1) for kv in c for t in kv])


def write(d, c):
    torch.save(c, f"{d}/name.pt")
    with open(f"{d}/file.pt", "wb") as f:
        torch.save({"past_key_values": c, "tokens": list(range(256))}, f)
    torch.save(c, f"{d}/old.pt", _use_new_zipfile_serialization=False)
    m = torch.from_file(f"{d}/mapped.bin", shared=True, size=COUNT, dtype=torch.bfloat16)
    m[:] = flat(c)


def same(got, want, what):
    if len(got) != len(want) or not all(torch.equal(a, b) for x, y in zip(got, want) for a, b in zip(x, y)):
        sys.exit(f"{what}: other values")


def check(d, c):
    same(torch.load(f"{d}/name.pt"), c, "torch.load by name")
    with open(f"{d}/file.pt", "rb") as f:
        got = torch.load(f)
    same(got["past_key_values"], c, "torch.load from a file")
    if got["tokens"] != list(range(256)):
        sys.exit("torch.load: other tokens")
    same(torch.load(f"{d}/old.pt"), c, "torch.load of the older form")
    for shared in (True, False):
        m = torch.from_file(f"{d}/mapped.bin", shared=shared, size=COUNT, dtype=torch.bfloat16)
        if not torch.equal(m, flat(c)):
            sys.exit(f"from_file, shared={shared}: other values")


torch.set_num_threads(1)
if sys.argv[1] == "write":
    write(sys.argv[2], cache())
check(sys.argv[2], cache())
