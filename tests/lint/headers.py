#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Every header compiles by itself, twice, and tells what it is for.

    headers.py [CC [ARG...]]
"""
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import tree

CC = sys.argv[1:] or ["cc"]
try:  # the one library whose headers lie in a directory of their own
    CC += subprocess.run(["pkg-config", "--cflags", "fuse3"], text=True, capture_output=True).stdout.split()
except OSError:
    pass
FLAGS = ["-std=gnu11", "-D_GNU_SOURCE", "-D_FILE_OFFSET_BITS=64", "-DKVFS_FAULTS=1", "-Wall", "-Werror",
         "-Wno-unused", "-fsyntax-only", "-x", "c", "-"]


def check(name):
    body = tree.text(name)
    out = []
    if not re.search(r"^#ifndef \w+\n#define \w+|^#pragma once", body, re.M):
        out.append(f"{name}: no include guard")
    if "(" in body and "/*" not in body.split("*/", 1)[-1] and not name.startswith("tests/"):
        out.append(f"{name}: functions without a contract")
    inc = ["src", "include", "tests/lib", "tools/recorded", os.path.dirname(name)]
    args = CC + [a for d in inc for a in ("-I", os.path.join(tree.ROOT, d))] + FLAGS
    src = f'#include "{os.path.join(tree.ROOT, name)}"\n' * 2
    r = subprocess.run(args, input=src, text=True, capture_output=True)
    if r.returncode:
        out.append(f"{name}: does not stand alone:\n" + "\n".join(r.stderr.splitlines()[:8]))
    return out


def is_header(name):
    return not name.endswith(("_body.h", "_impl.h"))


with ThreadPoolExecutor(os.cpu_count()) as pool:
    problems = [p for ps in pool.map(check, filter(is_header, tree.files(".h"))) for p in ps]
tree.finish("headers", problems)
