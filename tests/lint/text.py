#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""No blanks at line ends, no marks of unfinished work, no C lines over 120 columns (aim: 100).

Every C file, header, script and build file says its licence or is short.
"""
import re

import tree

COLUMNS, TAB = 120, 8
# written so that this file passes
MARKS = re.compile(r"\b(" + "|".join(["TO" + "DO", "FIX" + "ME", "X" + "XX", "HA" + "CK"]) + r")\b")
MACHINE = re.compile(r"(?<![\w.])/(w" + "ork|f" + r"arm)/")
SOURCE = (".c", ".h", ".py", ".sh", ".mjs", ".build", ".md", ".1", ".5", ".7", ".8", "/run", "/quickstart")


def width(line):
    return len(line.expandtabs(TAB))


problems = []
for name in tree.files(*SOURCE):
    body = tree.text(name)
    is_c = name.endswith((".c", ".h"))
    if body and not body.endswith("\n"):
        problems.append(f"{name}: no newline at the end")
    for n, line in enumerate(body.split("\n"), 1):
        if line != line.rstrip() and not name.endswith(".md"):
            problems.append(f"{name}:{n}: blanks at the end of the line")
        if MARKS.search(line):
            problems.append(f"{name}:{n}: unfinished: {line.strip()[:60]}")
        if MACHINE.search(line):
            problems.append(f"{name}:{n}: a path of one machine: {line.strip()[:60]}")
        if is_c and width(line) > COLUMNS:
            problems.append(f"{name}:{n}: {width(line)} columns, at most {COLUMNS}")
    if is_c and "SPDX-License-Identifier: MIT" not in body[:200]:
        problems.append(f"{name}: no SPDX line")
tree.finish("text", problems)
