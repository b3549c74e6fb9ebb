#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Every file that a document names exists.

Looked at: Markdown files of the tree and man pages. A name counts as a file of
ours when it starts with a directory of the tree, or, in a Markdown table or code
span, when it looks like src-relative source (store/seal.c).
"""
import os
import re

import tree

TOPS = sorted({n.split("/")[0] for n in tree.files() if "/" in n})
PATH = r"[\w.{},*@+-]+(?:/[\w.{},*@+-]*)*"
NAMED = re.compile(r"(?<![\w/.~$-])((?:" + "|".join(map(re.escape, TOPS)) + r")/" + PATH + ")")
SOURCE = re.compile(r"`([\w]+/[\w./{},*-]+\.(?:c|h|py|sh))`")
# what programs make or other projects have
IGNORED = re.compile(r"^(build/|tools/kvlm/model/)")


def alternatives(name):
    """a/{b,c}.h -> a/b.h, a/c.h"""
    m = re.match(r"(.*?)\{([^}]*)\}(.*)", name)
    if not m:
        return [name]
    return [r for alt in m[2].split(",") for r in alternatives(m[1] + alt + m[3])]


def exists(name):
    import glob
    return bool(glob.glob(os.path.join(tree.ROOT, name)))


problems = []
for doc in tree.files(".md", ".1", ".5", ".7", ".8"):
    if not (doc.endswith(".md") or doc.startswith("man/")):
        continue
    # groff writes a hyphen as \- and a dot at a line's start as \&.
    body = tree.text(doc).replace("\\-", "-").replace("\\&", "")
    for n, line in enumerate(body.splitlines(), 1):
        found = {m[1] for m in NAMED.finditer(line)}
        for name in sorted(found):
            name = name.rstrip(".,:;")
            if IGNORED.match(name):
                continue
            for one in alternatives(name):
                if not exists(one) and not exists(os.path.join(os.path.dirname(doc), one)):
                    problems.append(f"{doc}:{n}: names {one}, which does not exist")
        for m in SOURCE.finditer(line):
            for one in alternatives(m[1]):
                if not any(exists(os.path.join(d, one)) for d in ("", "src", "include", os.path.dirname(doc))):
                    problems.append(f"{doc}:{n}: names {one}, which does not exist")
tree.finish("docs", problems)
