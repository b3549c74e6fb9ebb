#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Options, xattrs and counters are described in the man pages, all of them.

Each table is a C array whose rows begin { "name", ... or an x-macro list with
rows X(id, "name", ... or X(name, ...
"""
import os
import re

import tree

# (source, regular expression with the name as group 1, man page, what)
TABLES = [
    ("src/fs/options.c", r'^\t\{ "(\w+)", OPTION_', "man/kvcachefs.8", "option"),
    ("include/kvcachefs/xattr.h", r'X\(\w+, "(?:user\.kvcache\.)?(\w+)"', "man/kvcachefs-xattr.7", "xattr"),
    ("src/fs/xattr.c", r'^\t\{ "(?:user\.kvcache\.)?(\w+)", XATTR_', "man/kvcachefs-xattr.7", "xattr"),
    ("src/store/stats.h", r'^\tX\(\w+, "(\w+)"', "man/kvcachefs.8", "counter"),
]

problems, checked = [], 0
for source, pattern, page, what in TABLES:
    if not all(os.path.exists(os.path.join(tree.ROOT, f)) for f in (source, page)):
        continue
    names = re.findall(pattern, tree.text(source), re.M)
    body = tree.text(page).replace("\\-", "-")
    checked += len(names)
    for name in names:
        if not re.search(r"(?<![\w])" + re.escape(name) + r"(?![\w])", body):
            problems.append(f"{page}: {what} {name} of {source} is not described")
print(f"{checked} names checked")
tree.finish("tables", problems)
