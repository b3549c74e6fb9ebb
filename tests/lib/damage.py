# SPDX-License-Identifier: MIT
"""Hurts a store in every way that a disk, an operator or a bug can.

    damage.py make STORE MNT BASE    files under MNT, sealed (mounted)
    damage.py hurt STORE MNT BASE    one way of hurting per file (unmounted)
    damage.py check STORE MNT BASE [hide]   (mounted) EIO or exact data, never others

BASE is a safetensors file; each file is BASE with its own bytes in the tensors.
"""
import errno
import mmap
import os
import struct
import sys

XATTR = "trusted.kvcf"
HEADER = struct.Struct("<8sII16sIIQQQIIQQQQQQQ")


def content(base, i):
    body = bytearray(base)
    for at in range(8192, len(body), 65536):
        body[at:at + 32] = struct.pack("<Q", 0x3f803f81 + i) * 4
    return bytes(body)


def record(path):
    return os.getxattr(path, XATTR)


def object_of(store, rec):
    ident = rec[8:24].hex()
    generation = struct.unpack("<I", rec[4:8])[0]
    return f"{store}/objects/{ident[:2]}/{ident}.{generation}"


def parts(obj):
    """(what, offset, length) of everything in an object."""
    with open(obj, "rb") as f:
        raw = f.read()
    h = HEADER.unpack(raw[:HEADER.size])
    n_chunks = h[9]
    layout_off, layout_len, index_off, index_len = h[11], h[12], h[14], h[15]
    out = [("header", 0, 512), ("layout", layout_off, layout_len), ("index", index_off, index_len)]
    at = index_off
    for _ in range(n_chunks):
        layers = raw[at + 15]
        at += 40
        for _ in range(layers):
            off, length, codec = struct.unpack("<QIH", raw[at:at + 14])
            at += 24
            if length:
                out.append(("chunk", off, length))
    return out, raw


def flip(path, off, mask=0x10):
    with open(path, "r+b") as f:
        f.seek(off)
        b = f.read(1)
        f.seek(off)
        f.write(bytes([b[0] ^ mask]))


def place(obj, off, hit):
    """The same place in this object, whose chunks may be some bytes longer or shorter."""
    spans = [(o, o + n) for _, o, n in parts(obj)[0]]
    inside = [end for begin, end in spans if begin <= off < end]
    if hit and not inside:
        return max(end - 1 for _, end in spans if end <= off)
    if not hit and inside:
        return inside[0]
    return off


def flips(obj):
    """Offsets worth flipping: dense in the tables, spread in the chunks, one in padding."""
    ways = []
    spans, raw = parts(obj)
    for what, off, length in spans:
        step = {"header": 12, "layout": max(1, length // 12), "index": max(1, length // 16)}.get(
            what, max(1, length // 3))
        ways += [("flip " + what, o, True) for o in range(off, off + length, step)]
        ways.append(("flip " + what, off + length - 1, True))
    used = sorted((o, o + n) for _, o, n in spans)
    for (_, end), (begin, _) in zip(used, used[1:]):
        if begin > end:
            ways.append(("flip padding", end, False))
            break
    return ways


def replace(path, kind):
    os.unlink(path)
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        os.mkdir(path)
    elif kind == "symlink":
        os.symlink("/etc/passwd", path)
    elif kind == "loop":
        os.symlink(os.path.basename(path), path)


def put(path, data):
    with open(path, "wb") as f:
        f.write(data)


def object_ways(store):
    """Name and action(tree file, object, other tree file, other object)."""
    ways = []
    for n in (0, 1, 511, 512, 4095, 4096):
        ways.append((f"cut object to {n}", lambda t, o, t2, o2, n=n: os.truncate(o, n)))
    ways.append(("cut object by 1", lambda t, o, t2, o2: os.truncate(o, chunk_end(o) - 1)))
    ways.append(("object gone", lambda t, o, t2, o2: os.unlink(o)))
    ways.append(("object of another file", lambda t, o, t2, o2: put(o, open(o2, "rb").read())))
    ways.append(("object of zeros", lambda t, o, t2, o2: put(o, bytes(os.path.getsize(o)))))
    ways.append(("object is the plain file", lambda t, o, t2, o2: put(o, open("/bin/ls", "rb").read())))
    ways.append(("chunk of another object", swap_chunk))
    ways.append(("front of another object", swap_front))
    for kind in ("fifo", "directory", "symlink", "loop"):
        ways.append((f"object is a {kind}", lambda t, o, t2, o2, k=kind: replace(o, k)))
    for off in range(0, 64, 3):
        ways.append((f"record byte {off} flipped", lambda t, o, t2, o2, off=off: flip_record(t, off)))
    for n in (0, 1, 63, 65, 200):
        ways.append((f"record of {n} bytes", lambda t, o, t2, o2, n=n: os.setxattr(
            t, XATTR, (record(t) * 4)[:n])))
    ways.append(("record gone", lambda t, o, t2, o2: os.removexattr(t, XATTR)))
    ways.append(("record of zeros", lambda t, o, t2, o2: os.setxattr(t, XATTR, bytes(64))))
    ways.append(("record of text", lambda t, o, t2, o2: os.setxattr(t, XATTR, b"x" * 64)))
    return ways


def chunk_end(obj):
    return max(off + n for _, off, n in parts(obj)[0])


def swap_chunk(t, o, t2, o2):
    """The other object's largest chunk at the place of ours."""
    mine = max((p for p in parts(o)[0] if p[0] == "chunk"), key=lambda p: p[2])
    other = max((p for p in parts(o2)[0] if p[0] == "chunk"), key=lambda p: p[2])
    with open(o2, "rb") as f:
        f.seek(other[1])
        data = f.read(min(mine[2], other[2]))
    with open(o, "r+b") as f:
        f.seek(mine[1])
        f.write(data)


def swap_front(t, o, t2, o2):
    with open(o2, "rb") as f:
        data = f.read(4096)
    with open(o, "r+b") as f:
        f.write(data)


def flip_record(path, off):
    rec = bytearray(record(path))
    rec[off] ^= 0x01
    os.setxattr(path, XATTR, bytes(rec))


def plan(store, sample):
    ways = [(f"{what} at {off}",
             lambda t, o, t2, o2, off=off, hit=hit: flip(o, place(o, off, hit)), hit)
            for what, off, hit in flips(object_of(store, record(sample)))]
    ways += [(name, act, True) for name, act in object_ways(store)]
    return ways


COUNT = 190  # more than there are ways; the rest stays whole


def make(store, mnt, base):
    for i in range(COUNT):
        d = f"{mnt}/d{i}"
        os.mkdir(d)
        put(f"{d}/f", content(base, i))
        os.setxattr(f"{d}/f", "user.kvcache.seal", b"1")


def hurt(store, mnt, base):
    ways = plan(store, f"{store}/tree/d{COUNT - 1}/f")
    assert len(ways) < COUNT - 2, len(ways)
    last = f"{store}/tree/d{COUNT - 2}/f"
    for i, (name, act, _) in enumerate(ways):
        t = f"{store}/tree/d{i}/f"
        act(t, object_of(store, record(t)), last, object_of(store, record(last)))
    print(f"{len(ways)} ways", file=sys.stderr)


def read_all(path, flags, step):
    """Bytes at their offsets, and the errors met."""
    got, errors = [], []
    try:
        fd = os.open(path, os.O_RDONLY | flags)
    except OSError as e:
        return got, [e.errno]
    at = 0
    size = os.fstat(fd).st_size
    while at < size:
        try:
            b = os.pread(fd, step, at)
        except OSError as e:
            errors.append(e.errno)
            at += step
            continue
        if not b:
            errors.append(0)  # end of file too early
            break
        got.append((at, b))
        at += len(b)
    os.close(fd)
    return got, errors


def map_all(path, want, order):
    """In a child: mapped pages are right or SIGBUS comes. False when wrong."""
    pid = os.fork()
    if pid == 0:
        ok = True
        try:
            fd = os.open(path, os.O_RDONLY)
            m = mmap.mmap(fd, len(want), mmap.MAP_SHARED, mmap.PROT_READ)
            for at in range(0, len(want), 4096)[::order]:
                ok = ok and m[at:at + 4096] == want[at:at + 4096]
        except (OSError, ValueError):
            pass
        os._exit(0 if ok else 1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) != 1


def check_file(i, name, hit, path, want, hide):
    bad = []
    seen = set()
    for step in (1 << 20, 50000, 4096):
        got, errors = read_all(path, 0, step)
        seen |= set(errors)
        for at, b in got:
            if b != want[at:at + len(b)]:
                bad.append(f"{name}: other bytes at {at} step {step}")
        if set(errors) - ({errno.EIO, errno.ENOENT} if hide else {errno.EIO}):
            bad.append(f"{name}: {[errno.errorcode.get(e, e) for e in set(errors)]}")
    for order in (1, -1):
        if not map_all(path, want, order):
            bad.append(f"{name}: other bytes in a mapping")
    if hit != bool(seen):
        bad.append(f"{name}: {'damage not found' if hit else 'false alarm'}")
    return bad


def check(store, mnt, base, hide):
    ways = plan(store, f"{store}/tree/d{COUNT - 1}/f")
    bad = []
    for i in range(COUNT):
        name, hit = (ways[i][0], ways[i][2]) if i < len(ways) else ("whole", False)
        path = f"{mnt}/d{i}/f"
        bad += check_file(i, name, hit, path, content(base, i), hide)
        if not hit:
            continue
        if not hide:
            if os.stat(path).st_size not in (len(base), 0):
                bad.append(f"{name}: size {os.stat(path).st_size}")
            continue
        try:
            os.rmdir(f"{mnt}/d{i}")
            os.mkdir(f"{mnt}/d{i}")
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
            os.write(fd, b"new")
            os.close(fd)
            if open(path, "rb").read() != b"new":
                bad.append(f"{name}: a new file reads wrong")
        except OSError as e:
            bad.append(f"{name}: {e}")
    for line in bad:
        print(line, file=sys.stderr)
    print(sum(hit for _, _, hit in ways))
    return 1 if bad else 0


def main():
    mode, store, mnt, base = sys.argv[1:5]
    with open(base, "rb") as f:
        base = f.read()
    if mode == "make":
        make(store, mnt, base)
    elif mode == "hurt":
        hurt(store, mnt, base)
    else:
        return check(store, mnt, base, len(sys.argv) > 5)
    return 0


sys.exit(main())
