# SPDX-License-Identifier: MIT
"""A workload that is cut off at any moment, and the check of what is left.

    torn.py run DIR JOURNAL SEED SECONDS    until an error or the time is over
    torn.py check DIR JOURNAL cut|kill [T]  what may be there after a power cut, or
                                            after the death of the daemon alone

Every operation is noted in JOURNAL before it begins and when it is acknowledged.
The model knows, per block of 4 KiB, which states it may have: the last one made
durable and all since. After the death of the daemon only the operation that was
under way may be half done. JOURNAL must lie on another filesystem. An fsync that
ends after T (monotonic), when the cut began, acknowledges nothing: ext4 returns 0
from those under way when it is shut down.
"""
import errno
import json
import math
import os
import random
import struct
import sys
import time

BLOCK = 4096
NAMES = 10
XATTR = "user.torn"


def block_bytes(tag, number):
    """KV-like: bytes of a narrow range beside bytes that hardly repeat."""
    r = random.Random(tag * 1000003 + number)
    low = r.randbytes(BLOCK // 2)
    out = bytearray(BLOCK)
    out[0::2] = low
    out[1::2] = bytes((0x3c + (b & 3)) for b in low)
    out[:16] = struct.pack("<QQ", tag, number)
    return bytes(out)


def data(tag, off, length):
    first, last = off // BLOCK, (off + length - 1) // BLOCK
    raw = b"".join(block_bytes(tag, n) for n in range(first, last + 1))
    return raw[off - first * BLOCK:off - first * BLOCK + length]


class Inode:
    """What an inode may hold: per block all states since it was durable."""

    def __init__(self):
        self.sizes, self.blocks, self.xattrs = [0], {}, [None]

    def states(self, n):
        return self.blocks.setdefault(n, [bytes(BLOCK)])

    def write(self, off, body):
        at = off
        while at < off + len(body):
            n, inside = divmod(at, BLOCK)
            part = body[at - off:at - off + BLOCK - inside]
            s = self.states(n)
            s.append(s[-1][:inside] + part + s[-1][inside + len(part):])
            at += len(part)
        if off + len(body) > self.sizes[-1]:
            self.sizes.append(off + len(body))

    def truncate(self, size):
        self.sizes.append(size)
        for n, s in self.blocks.items():
            if (n + 1) * BLOCK > size:
                keep = max(0, size - n * BLOCK)
                s.append(s[-1][:keep] + bytes(BLOCK - keep))

    def durable(self):
        del self.sizes[:-1]
        del self.xattrs[:-1]
        for s in self.blocks.values():
            del s[:-1]

    def load(self, body, xattr):
        self.sizes, self.xattrs = [len(body)], [xattr]
        for n in range((len(body) + BLOCK - 1) // BLOCK):
            part = body[n * BLOCK:(n + 1) * BLOCK]
            self.blocks[n] = [part + bytes(BLOCK - len(part))]

    def wrong(self, body, xattr):
        if not min(self.sizes) <= len(body) <= max(self.sizes):
            return f"size {len(body)}, may be {self.sizes}"
        for n in range((len(body) + BLOCK - 1) // BLOCK):
            part = body[n * BLOCK:(n + 1) * BLOCK]
            may = self.blocks.get(n, [bytes(BLOCK)])
            if not any(part == s[:len(part)] for s in may):
                tags = [struct.unpack("<QQ", s[:16]) for s in may]
                found = struct.unpack("<QQ", (part + bytes(16))[:16])
                return f"block {n}: {found}{' zeros' if not any(part) else ''}, may be {tags}"
        if xattr not in self.xattrs:
            return f"xattr {xattr}, may be {self.xattrs}"
        return None


class Model:
    """Names with what they may refer to, oldest first; None is no file."""

    def __init__(self):
        self.names = {}

    def of(self, name):
        return self.names.setdefault(name, [None])

    def apply(self, op):
        kind, name = op["op"], op["name"]
        now = self.of(name)[-1]
        if kind == "create":
            if now is None:
                self.of(name).append(Inode())
            else:
                now.truncate(0)
        elif kind == "write":
            now.write(op["off"], data(op["tag"], op["off"], op["len"]))
        elif kind == "truncate":
            now.truncate(op["len"])
        elif kind == "xattr":
            now.xattrs.append(op["value"])
        elif kind == "rename":
            self.of(op["to"]).append(now)
            self.of(name).append(None)
        elif kind == "unlink":
            self.of(name).append(None)
        elif kind == "fsync":
            now.durable()
        elif kind == "fsyncdir":
            for l in self.names.values():
                del l[:-1]
        elif kind == "found":
            i = Inode()
            i.load(data_of(op), op["value"])
            self.names[name] = [i]
        elif kind == "absent":
            self.names[name] = [None]

    def settle(self):
        """All acknowledged: what the death of the daemon must not undo."""
        for l in self.names.values():
            del l[:-1]
            if l[-1]:
                l[-1].durable()


def data_of(op):
    with open(op["copy"], "rb") as f:
        return f.read()


def read_file(path):
    with open(path, "rb") as f:
        body = f.read()
    try:
        x = os.getxattr(path, XATTR).decode()
    except OSError as e:
        if e.errno != errno.ENODATA:
            raise
        x = None
    return body, x


class Full(Exception):
    """An operation was refused for lack of space."""


class Run:
    def __init__(self, where, journal, seed):
        self.dir, self.r, self.tag = where, random.Random(seed), seed * 1000000
        self.journal = os.open(journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.model, self.copies = replay(journal, False, math.inf), journal + ".copies"
        os.makedirs(self.copies, exist_ok=True)

    def note(self, op):
        os.write(self.journal, json.dumps(op).encode() + b"\n")

    def do(self, act, **op):
        self.note(op)
        try:
            act()
        except OSError as e:
            if e.errno != errno.ENOSPC:
                raise
            self.model.apply(op)
            for name in {op["name"], op.get("to", op["name"])} - {"."}:
                self.refused(name, op)
            raise Full from e
        self.note({"op": "ok", "t": time.monotonic()})
        self.model.apply(op)

    def refused(self, name, op):
        """No space: as before or done in part. What is there now counts."""
        path, may = f"{self.dir}/{name}", self.model.of(name)
        body, x = read_file(path) if os.path.exists(path) else (None, None)
        why = [None if i is body else "no file" if i is None or body is None else i.wrong(body, x)
               for i in may]
        if None not in why:
            print(f"{path} after ENOSPC of {op}: {why}", file=sys.stderr)
            os._exit(1)
        op = {"op": "absent", "name": name}
        if body is not None:
            op = {"op": "found", "name": name, "copy": f"{self.copies}/{name}.{self.tag}",
                  "value": x}
            with open(op["copy"], "wb") as f:
                f.write(body)
        self.note(op)
        self.note({"op": "ok", "t": time.monotonic()})
        self.model.apply(op)

    def fsync(self, name, fd):
        self.do(lambda: os.fsync(fd), op="fsync", name=name)

    def fsyncdir(self):
        fd = os.open(self.dir, os.O_RDONLY | os.O_DIRECTORY)
        try:
            self.do(lambda: os.fsync(fd), op="fsyncdir", name=".")
        finally:
            os.close(fd)

    def write(self, name, fd, off, length):
        self.tag += 1
        tag = self.tag
        body = data(tag, off, length)

        def act():
            done = 0
            while done < length:
                done += os.pwrite(fd, body[done:], off + done)
        self.do(act, op="write", name=name, off=off, len=length, tag=tag)

    def fill(self, name, sync):
        fd = []
        self.do(lambda: fd.append(os.open(f"{self.dir}/{name}",
                                          os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)),
                op="create", name=name)
        try:
            size, at = self.r.choice([70000, 131072, 200001, 400000]), 0
            while at < size:
                step = min(65536, size - at)
                self.write(name, fd[0], at, step)
                at += step
            if sync:
                self.fsync(name, fd[0])
        finally:
            os.close(fd[0])

    def replace(self, name):
        tmp = name + ".tmp"
        self.fill(tmp, True)
        self.do(lambda: os.rename(f"{self.dir}/{tmp}", f"{self.dir}/{name}"),
                op="rename", name=tmp, to=name)
        if self.r.random() < 0.6:
            self.fsyncdir()

    def patch(self, name):
        inode = self.model.of(name)[-1]
        fd = os.open(f"{self.dir}/{name}", os.O_RDWR)
        try:
            for _ in range(self.r.choice([1, 1, 3, 20])):
                length = self.r.choice([48, 48, 4096, 5000, 20000])
                off = self.r.randrange(0, max(1, inode.sizes[-1] + 4096))
                self.write(name, fd, off - off % self.r.choice([1, 4096]), length)
            if self.r.random() < 0.6:
                self.fsync(name, fd)
            if self.r.random() < 0.3:
                size = self.r.randrange(0, inode.sizes[-1] + 10000)
                self.do(lambda: os.ftruncate(fd, size), op="truncate", name=name, len=size)
                if self.r.random() < 0.6:
                    self.fsync(name, fd)
            if self.r.random() < 0.3:
                value = str(self.r.random())
                self.do(lambda: os.setxattr(fd, XATTR, value.encode()), op="xattr", name=name,
                        value=value)
                if self.r.random() < 0.6:
                    self.fsync(name, fd)
        finally:
            os.close(fd)

    def seal(self, name):
        try:
            os.setxattr(f"{self.dir}/{name}", "user.kvcache.seal", b"1")
        except OSError:
            pass  # too small, no gain or no room

    def verify(self, name):
        body, x = read_file(f"{self.dir}/{name}")
        last = Inode()
        inode = self.model.of(name)[-1]
        last.sizes, last.xattrs = inode.sizes[-1:], inode.xattrs[-1:]
        last.blocks = {n: s[-1:] for n, s in inode.blocks.items()}
        wrong = last.wrong(body, x)
        if wrong:
            print(f"{self.dir}/{name} while running: {wrong}", file=sys.stderr)
            os._exit(1)

    def step(self):
        name = f"f{self.r.randrange(NAMES)}"
        there = self.model.of(name)[-1] is not None
        what = self.r.choice(["replace", "replace", "fill", "patch", "patch", "patch", "seal",
                              "seal", "verify", "unlink", "pause"])
        if what == "replace":
            self.replace(name)
        elif what == "fill":
            self.fill(name, False)
        elif what == "pause":
            time.sleep(self.r.random() / 20)
        elif there and what == "unlink":
            self.do(lambda: os.unlink(f"{self.dir}/{name}"), op="unlink", name=name)
            if self.r.random() < 0.5:
                self.fsyncdir()
        elif there:
            getattr(self, what)(name)


def run(where, journal, seed, seconds):
    r = Run(where, journal, seed)
    end = time.monotonic() + seconds
    steps = full = 0
    try:
        os.makedirs(where, exist_ok=True)
        while time.monotonic() < end:
            try:
                r.step()
            except Full:
                full += 1
            steps += 1
        print(f"{steps} steps, {full} without space", file=sys.stderr)
    except OSError as e:
        print(f"{steps} steps, then {e}", file=sys.stderr)
    return 0


def replay(journal, kill, cut):
    """The model after what was acknowledged; what was begun is in it as well."""
    m, pending = Model(), None
    with open(journal, encoding="utf-8") as f:
        for line in f:
            op = json.loads(line)
            if op["op"] != "ok":
                pending = op
                continue
            if op["t"] < cut or pending["op"] not in ("fsync", "fsyncdir"):
                m.apply(pending)
            pending = None
            if kill:
                m.settle()
    if pending and pending["op"] not in ("fsync", "fsyncdir"):
        m.apply(pending)
    return m


def check(where, journal, kill, cut):
    m = replay(journal, kill, cut)
    bad, found = 0, []
    there = set(os.listdir(where)) if os.path.isdir(where) else set()
    for name in sorted(there | set(m.names)):
        body, x = None, None
        if name in there:
            try:
                body, x = read_file(f"{where}/{name}")
            except OSError as e:
                print(f"{where}/{name}: {e}", file=sys.stderr)
                bad += 1
                continue
        why = []
        for inode in m.of(name):
            if (inode is None) != (body is None):
                why.append("a file" if inode else "no file")
            else:
                why.append(inode.wrong(body, x) if inode else None)
        if None not in why:
            print(f"{where}/{name}: {'there' if body is not None else 'absent'}: {why}",
                  file=sys.stderr)
            bad += 1
        elif body is not None:
            found.append((name, body, x))
    if not bad:
        begin_again(journal, found)
    return 1 if bad else 0


def begin_again(journal, found):
    """What was found is the start of the next run."""
    copies = journal + ".copies"
    os.makedirs(copies, exist_ok=True)
    with open(journal, "w", encoding="utf-8") as f:
        for name, body, x in found:
            copy = f"{copies}/{name}"
            with open(copy, "wb") as c:
                c.write(body)
            for op in ({"op": "found", "name": name, "copy": copy, "value": x},
                       {"op": "ok", "t": 0}):
                f.write(json.dumps(op) + "\n")


if sys.argv[1] == "run":
    sys.exit(run(sys.argv[2], sys.argv[3], int(sys.argv[4]), float(sys.argv[5])))
sys.exit(check(sys.argv[2], sys.argv[3], sys.argv[4] == "kill",
               float(sys.argv[5]) if len(sys.argv) > 5 else math.inf))
