#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""No symbol leaves a file of src/ without a prefix of its module.

    symbols.py BUILDDIR

A symbol must begin with a word of its file's or directory's name (seal_ in
store/seal.c, store_, fs_, codec_ ...), or with one of the prefixes that its
directory owns.
"""
import os
import re
import subprocess
import sys

import tree

# Prefixes that belong to a whole directory. A new module takes one here.
OWNED = {
    "base": {"base", "cond", "hash64", "region"},
    "codecs": {"codec", "planes", "kernels"},
    "layouts": {"layout", "region", "st", "json", "geometry", "numeric"},
    "tiers": {"tier", "arena", "extent"},
    "policy": {"policy"},
    "store": {"store", "object", "node", "file", "dir"},
    "fs": {"fs", "op", "ops", "option", "options", "handles", "scratch", "notifier"},
}
SAME = {"le", "kvfs", "main"}
SANITIZER = re.compile(r"^_|^asan|^tsan|^DW\.")

build = sys.argv[1]
problems, seen = [], 0
for top, _, names in os.walk(os.path.join(build, "src")):
    for obj in names:
        m = re.match(r"(.*)\.c\.o$", obj)
        module = os.path.relpath(top, os.path.join(build, "src")).split(os.sep)[0]
        if not m or module not in OWNED:
            continue
        stem = m[1].replace("simd_", "")
        if not any(os.path.exists(os.path.join(tree.ROOT, "src", module, d, stem + ".c")) for d in ("", "simd")):
            continue  # left over from a file that is gone
        words = OWNED[module] | SAME | set(stem.split("_")) | {stem}
        words |= {w.rstrip("s") for w in words} | {w[:-1] + "y" for w in words if w.endswith("ie")}
        out = subprocess.run(["nm", "-g", "--defined-only", os.path.join(top, obj)], text=True, capture_output=True).stdout
        for line in out.splitlines():
            sym = line.split()[-1]
            seen += 1
            if SANITIZER.match(sym) or any(sym == w or sym.startswith(w + "_") for w in words):
                continue
            problems.append(f"src/{module}/{stem}.c: {sym} carries no prefix of its module")
print(f"{seen} symbols")
tree.finish("symbols", problems)
