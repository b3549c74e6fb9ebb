#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Files of at most 800 lines, functions of at most 100. Tables are exempt.

A function is what stands between a "{" and a "}" in the first column, the way
this tree is written; an initialiser's brace is not alone on its line.
"""
import tree

FILE_MAX, FUNCTION_MAX = 800, 100

problems = []
for name in tree.files(".c", ".h"):
    lines = tree.text(name).splitlines()
    if len(lines) > FILE_MAX:
        problems.append(f"{name}: {len(lines)} lines, at most {FILE_MAX}")
    start = None
    for n, line in enumerate(lines, 1):
        if line.rstrip() == "{":
            start = n
        elif line.startswith("}") and start:
            if n - start - 1 > FUNCTION_MAX:
                problems.append(f"{name}:{start}: a function of {n - start - 1} lines, at most {FUNCTION_MAX}")
            start = None
tree.finish("size", problems)
