# SPDX-License-Identifier: MIT
"""What a daemon holds: anonymous memory and what is used of its private tmpfs.

    memory.py PID LIMIT_MIB FILE    samples until the process or FILE is gone; prints
                                    the highest sum; status 1 when over the limit
"""
import os
import subprocess
import sys
import time


def anonymous(pid):
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as f:
        for line in f:
            if line.startswith("Anonymous:"):
                return int(line.split()[1]) * 1024
    return 0


def tmpfs(pid):
    fds = [f"/proc/{pid}/fd/{n}" for n in os.listdir(f"/proc/{pid}/fd")]
    out = subprocess.run(["stat", "-f", "-L", "-c", "%i %b %f %S %T", *fds],
                         stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    used = {}
    for line in out.stdout.decode().splitlines():
        ident, blocks, free, size, kind = line.split(maxsplit=4)
        if kind == "tmpfs":
            used[ident] = (int(blocks) - int(free)) * int(size)
    return sum(used.values())


pid, limit, flag = int(sys.argv[1]), int(sys.argv[2]) << 20, sys.argv[3]
top = (0, 0, 0)
try:
    while os.path.exists(flag):
        a, t = anonymous(pid), tmpfs(pid)
        top = max(top, (a + t, a, t))
        time.sleep(0.05)
except OSError:
    pass  # it ended
print(" ".join(f"{v / 2**20:.0f}" for v in top))
sys.exit(top[0] > limit)
