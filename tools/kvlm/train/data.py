#!/usr/bin/python3
"""Text for training, from files that Debian packages install.

    data.py OUT

reads the packages below from this system and writes OUT/{code,prose}.train,
OUT/{code,prose}.held (the bytes of the files one after another), the file
ends OUT/*.idx, and OUT/sources.txt (packages, versions, licences, counts).
Whether a file is held out is decided by a hash of its name alone.
"""

import hashlib
import os
import subprocess
import sys
import tarfile

import numpy as np

KERNEL = "/usr/src/linux-source-6.1.tar.xz"
CODE_DIRS = ("fs/", "kernel/", "mm/", "lib/", "block/")
HELD_PERCENT = 4

PACKAGES = [
    ("linux-source-6.1", "GPL-2.0 and compatible (Linux kernel)",
     "*.c of fs, kernel, mm, lib, block; *.rst of Documentation"),
    ("python3.11-doc", "PSF-2.0 (Python)", "html/_sources/*.txt"),
    ("git-doc", "GPL-2.0 (Git)", "*.txt"),
    ("perl-doc", "Artistic or GPL-1+ (Perl)", "*.pod"),
]


def held_out(name):
    h = hashlib.sha256(name.encode()).digest()
    return int.from_bytes(h[:4], "big") % 100 < HELD_PERCENT


def usable(data):
    """Text of some length without control characters or foreign scripts."""
    if not 512 <= len(data) <= 1 << 20 or b"\0" in data:
        return False
    return sum(b >= 128 for b in data[:65536]) * 100 < min(len(data), 65536)


def kernel_files():
    with tarfile.open(KERNEL) as tar:
        for m in tar:
            name = m.name.split("/", 1)[-1]
            if not m.isfile():
                continue
            if name.endswith(".c") and name.startswith(CODE_DIRS):
                yield "code", name, tar.extractfile(m).read()
            elif name.endswith(".rst") and name.startswith("Documentation/") \
                    and "/translations/" not in name:
                yield "prose", name, tar.extractfile(m).read()


def doc_files(package, part, suffix):
    out = subprocess.run(["dpkg", "-L", package], check=True,
                         stdout=subprocess.PIPE, text=True).stdout
    for path in sorted(set(out.split("\n"))):
        if part in path and path.endswith(suffix) and os.path.isfile(path) \
                and not os.path.islink(path):
            with open(path, "rb") as f:
                yield "prose", path, f.read()


def all_files():
    yield from kernel_files()
    yield from doc_files("python3.11-doc", "/_sources/", ".txt")
    yield from doc_files("git-doc", "/doc/", ".txt")
    yield from doc_files("perl-doc", "", ".pod")


def main():
    out = sys.argv[1]
    os.makedirs(out, exist_ok=True)
    parts = {}
    names = {}
    for kind, name, data in sorted(all_files(), key=lambda x: x[:2]):
        if usable(data):
            split = "held" if held_out(name) else "train"
            parts.setdefault((kind, split), []).append(data)
            names.setdefault((kind, split), []).append(name)
    with open(os.path.join(out, "sources.txt"), "w") as f:
        for package, licence, what in PACKAGES:
            version = subprocess.run(
                ["dpkg-query", "-W", "-f", "${Version}", package], check=True,
                stdout=subprocess.PIPE, text=True).stdout
            print(package, version, licence, what, sep="\t", file=f)
        for (kind, split), files in sorted(parts.items()):
            base = os.path.join(out, "%s.%s" % (kind, split))
            blob = b"".join(files)
            with open(base, "wb") as g:
                g.write(blob)
            np.cumsum([len(x) for x in files]).astype("<i8").tofile(
                base + ".idx")
            with open(base + ".names", "w") as g:
                g.write("\n".join(names[kind, split]) + "\n")
            print(kind, split, "%d files" % len(files),
                  "%d bytes" % len(blob), hashlib.sha256(blob).hexdigest(),
                  sep="\t", file=f)


class Text:
    """The files of one kind and split."""

    def __init__(self, data_dir, kind, split):
        base = os.path.join(data_dir, "%s.%s" % (kind, split))
        self.data = np.fromfile(base, dtype=np.uint8)
        self.ends = np.fromfile(base + ".idx", dtype="<i8")

    def window(self, rng, n):
        """Up to n bytes of one file: from its beginning (1 of 4) or from the
        beginning of a random line.  Returns bytes and whether the file ended
        there."""
        at = int(rng.integers(len(self.data)))
        f = int(np.searchsorted(self.ends, at, side="right"))
        lo = int(self.ends[f - 1]) if f else 0
        hi = int(self.ends[f])
        if rng.random() < 0.25:
            at = lo
        else:
            at = max(lo, min(at, hi - n))
            back = self.data[max(lo, at - 400):at]
            nl = np.flatnonzero(back == 10)
            at = at - len(back) + int(nl[-1]) + 1 if len(nl) else at
        return self.data[at:min(at + n, hi)], at + n >= hi

    def file(self, rng, least):
        """The bytes of a random file of at least that size, large ones more
        often."""
        while True:
            at = int(rng.integers(len(self.data)))
            f = int(np.searchsorted(self.ends, at, side="right"))
            lo = int(self.ends[f - 1]) if f else 0
            hi = int(self.ends[f])
            if hi - lo >= least:
                return self.data[lo:hi]


def line_start(data, at):
    """The beginning of the line that at is in, at most 400 bytes back."""
    nl = np.flatnonzero(data[max(0, at - 400):at] == 10)
    return at if not len(nl) else max(0, at - 400) + int(nl[-1]) + 1


if __name__ == "__main__":
    main()
