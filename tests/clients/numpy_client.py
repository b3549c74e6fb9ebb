#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What Python programs do with NumPy to cache files: numpy_client.py write|change|check|mapped DIR N

write   makes the files below DIR; change N rewrites some elements of them in place,
        for the N-th time; check N compares everything after N changes, read in each
        way that NumPy has; mapped N does, and that a file mapped is not sealed.
"""
import errno
import os
import sys

import numpy as np

SHAPE = (2, 4, 512, 4, 64)  # K|V, layer, token, head, element: 2 MiB
SEED = 11


def values(seed):
    return np.random.default_rng(seed).standard_normal(SHAPE, dtype=np.float32).astype(np.float16)


def touched(n):
    """The n-th change: a few tokens of one layer, new values for them."""
    return (slice(None), n % SHAPE[1], slice(40 * n, 40 * n + 3)), np.float16(n + 0.5)


def expected(n):
    a = values(SEED)
    for i in range(1, n + 1):
        where, what = touched(i)
        a[where] = what
    return a


def write(d):
    a = values(SEED)
    m = np.lib.format.open_memmap(f"{d}/map.npy", mode="w+", dtype=a.dtype, shape=SHAPE)
    m[:] = a
    m.flush()
    raw = np.memmap(f"{d}/map.raw", mode="w+", dtype=a.dtype, shape=SHAPE)
    for layer in range(SHAPE[1]):  # as they are computed
        raw[:, layer] = a[:, layer]
    del raw  # unmapped, never flushed
    np.save(f"{d}/saved.npy", a)
    np.savez(f"{d}/saved.npz", k=a[0], v=a[1])
    a.tofile(f"{d}/saved.raw")


def change(d, n):
    where, what = touched(n)
    for m in (np.load(f"{d}/map.npy", mmap_mode="r+"),
              np.memmap(f"{d}/map.raw", mode="r+", dtype=np.float16, shape=SHAPE)):
        m[where] = what
        m.flush()


def same(got, want, what):
    if got.shape != want.shape or got.dtype != want.dtype or got.tobytes() != want.tobytes():
        sys.exit(f"{what}: other values")


def check(d, n):
    a, before = expected(n), values(SEED)
    private = np.load(f"{d}/map.npy", mmap_mode="c")
    private[:] = 0  # into our own copies of the pages
    same(np.load(f"{d}/map.npy", mmap_mode="r"), a, "npy, shared mapping")
    same(np.load(f"{d}/map.npy"), a, "npy, read")
    same(np.memmap(f"{d}/map.raw", mode="r", dtype=a.dtype, shape=SHAPE), a, "raw, shared mapping")
    same(np.fromfile(f"{d}/map.raw", dtype=a.dtype).reshape(SHAPE), a, "raw, read")
    same(np.load(f"{d}/saved.npy", mmap_mode="r+"), before, "saved npy, mapping that may write")
    tail = np.memmap(f"{d}/saved.raw", mode="r", dtype=a.dtype, offset=4098, shape=(30000,))
    same(np.asarray(tail), before.reshape(-1)[2049:32049], "raw, mapping from the middle")
    with np.load(f"{d}/saved.npz") as z:
        same(np.stack([z["k"], z["v"]]), before, "npz")


def seal(path):
    """0 or the errno of asking for it to be sealed now."""
    try:
        os.setxattr(path, "user.kvcache.seal", b"1")
    except OSError as e:
        return e.errno
    return 0


def mapped(d, n):
    m = np.load(f"{d}/map.npy", mmap_mode="r+")
    where, what = touched(n + 1)
    before = np.array(m[where])
    m[where] = what
    if seal(f"{d}/map.npy") != errno.EBUSY:
        sys.exit("sealed, or refused for another reason, while it is mapped and written")
    m[where] = before
    del m
    if seal(f"{d}/map.npy"):
        sys.exit("not sealed after it was unmapped")


mode, path, times = sys.argv[1], sys.argv[2], int(sys.argv[3])
if mode == "write":
    write(path)
elif mode == "change":
    change(path, times)
elif mode == "mapped":
    mapped(path, times)
if mode != "change":
    check(path, times)
