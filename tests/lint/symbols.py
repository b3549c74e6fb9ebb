#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""No symbol leaves a file of src/ without a prefix of its module.

    symbols.py BUILDDIR

A symbol must begin with a word of the name of a file of its directory (seal_ of
store/seal.c), with the directory's name, or with a prefix that the directory owns.
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
    "store": {"store", "file", "gate", "load", "move", "overlay", "reader", "recover", "scrub", "unseal"},
    "fs": {"fs", "op", "ops", "option", "options", "handles", "scratch", "notifier"},
}
SAME = {"le", "kvfs", "main"}
SANITIZER = re.compile(r"^_|^asan|^tsan|^DW\.")


def module_words(module):
    words = OWNED[module] | SAME | {module}
    for name in tree.files(".c", ".h", under=f"src/{module}/"):
        stem = os.path.basename(name)[:-2]
        words |= {stem, *stem.split("_")}
    # one of what the file is about: replica_put in replicas.c
    return words | {w.rstrip("s") for w in words}


build = sys.argv[1]
words = {m: module_words(m) for m in OWNED}
objects = {}  # path: (module, stem)
for top, _, names in os.walk(os.path.join(build, "src")):
    module = os.path.relpath(top, os.path.join(build, "src")).split(os.sep)[0]
    for obj in names:
        if not obj.endswith(".c.o") or module not in OWNED:
            continue
        stem = obj[:-4].replace("simd_", "")
        # left over from a file that is gone, otherwise
        if any(os.path.exists(os.path.join(tree.ROOT, "src", module, d, stem + ".c")) for d in ("", "simd")):
            objects[os.path.join(top, obj)] = (module, stem)
problems, seen = [], 0
out = subprocess.run(["nm", "-A", "-g", "--defined-only", *objects], text=True, capture_output=True).stdout
for line in out.splitlines():
    module, stem = objects[line.split(":")[0]]
    sym = line.split()[-1]
    seen += 1
    if not SANITIZER.match(sym) and not any(sym == w or sym.startswith(w + "_") for w in words[module]):
        problems.append(f"src/{module}/{stem}.c: {sym} carries no prefix of its module")
print(f"{seen} symbols")
tree.finish("symbols", problems)
