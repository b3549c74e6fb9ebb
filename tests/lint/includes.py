#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Includes go one way: base <- {layouts, codecs, tiers, policy} <- store <- fs.

The four in the middle never see each other. include/kvcachefs stands alone.
Tools see include/, base, layouts and codecs, where they must parse; kvcachebench
also tiers and the policy's arithmetic; fsck also the object format, which is parsing. Never store or fs.
"""
import re

import tree

PEERS = {"layouts", "codecs", "tiers", "policy"}
MODULES = PEERS | {"base", "store", "fs", "kvcachefs"}
LOW = {"base", "kvcachefs"}
ALLOWED = {
    "include": {"kvcachefs"},
    "base": {"base"},
    **{m: LOW | {m} for m in PEERS},
    "store": LOW | PEERS | {"store"},
    "fs": LOW | PEERS | {"store", "fs"},
    "tools": LOW | {"layouts", "codecs"},
}
# Parsing of objects, records and stand-ins alone, without the store: for checkers.
FORMAT_HEADERS = {"store/object_format.h", "store/object.h", "store/record.h",
                  "store/standin.h"}
# fs/ops*.c translate for the store and nothing below it; who may go deeper
PER_FILE = {
    "tools/kvcachebench/": {"tiers", "policy"},
    # policy/quality.h: they calibrate the estimate
    "tools/kvlm/": {"policy"},
    "tools/kvcachectl/": {"policy"},
    "tools/recorded/": {"policy"},  # the policies over recorded accesses, for both
}


def module_of(name):
    top, _, rest = name.partition("/")
    if top == "src":
        return rest.split("/")[0] if "/" in rest else None  # src/main.c sees all
    return top if top in ("include", "tools") else None


problems = []
for name in tree.files(".c", ".h"):
    module = module_of(name)
    if module not in ALLOWED:
        continue
    allowed = set(ALLOWED[module])
    for prefix, more in PER_FILE.items():
        if name.startswith(prefix):
            allowed |= more
    for n, line in enumerate(tree.text(name).splitlines(), 1):
        m = re.match(r'\s*#\s*include\s*["<](([a-z_]+)/[^">]+)[">]', line)
        if not m or m[2] not in MODULES or m[2] in allowed:
            continue
        if name.startswith("tools/fsck/") and m[1] in FORMAT_HEADERS:
            continue
        problems.append(f"{name}:{n}: {module} must not include {m[1]}")
tree.finish("includes", problems)
