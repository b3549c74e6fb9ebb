# SPDX-License-Identifier: MIT
"""The source tree as the lints see it: tracked and new files, no build output."""
import os
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def files(*suffixes, under=""):
    """Paths relative to ROOT below `under` that end in one of `suffixes` (all without)."""
    try:
        out = subprocess.run(["git", "-c", "safe.directory=*", "-C", ROOT, "ls-files", "-z", "-co",
                              "--exclude-standard"], check=True, capture_output=True).stdout
        names = [os.fsdecode(n) for n in out.split(b"\0") if n]
    except (OSError, subprocess.CalledProcessError):  # a release archive
        names = [os.path.relpath(os.path.join(d, f), ROOT)
                 for d, _, fs in os.walk(ROOT) for f in fs
                 if not os.path.relpath(d, ROOT).startswith((".git", "build"))]
    return sorted(n for n in set(names)
                  if n.startswith(under) and (not suffixes or n.endswith(suffixes))
                  and os.path.isfile(os.path.join(ROOT, n)) and not os.path.islink(os.path.join(ROOT, n)))


def text(name):
    with open(os.path.join(ROOT, name), encoding="utf-8", errors="replace") as f:
        return f.read()


def finish(what, problems):
    """Prints the problems and exits as meson wants it."""
    for p in problems:
        print(p)
    print(f"{what}: {len(problems)} problem(s)" if problems else f"{what}: ok")
    sys.exit(1 if problems else 0)
