# SPDX-License-Identifier: MIT
"""What a store's files occupy, sampled.

    space.py STORE LIMIT_BYTES FILE    samples until FILE is gone; prints the highest sum and how
                                       far it was over the limit, in MiB; status 1 when over it
"""
import os
import sys
import time


def occupied(top):
    total = 0
    dirs = [top]
    while dirs:
        try:
            with os.scandir(dirs.pop()) as entries:
                for e in entries:
                    if e.is_dir(follow_symlinks=False):
                        dirs.append(e.path)
                        continue
                    try:
                        total += e.stat(follow_symlinks=False).st_blocks * 512
                    except FileNotFoundError:
                        pass
        except FileNotFoundError:
            pass
    return total


store, limit, flag = sys.argv[1], int(sys.argv[2]), sys.argv[3]
most = 0
while os.path.exists(flag):
    # what grows first, what goes last: never more than there was at one moment
    most = max(most, sum(occupied(os.path.join(store, d)) for d in
                         ("tree/growing", "objects", "tree/old", "trash", "damaged")))
    time.sleep(0.005)
print(f"{most / 2**20:.1f} {max(0, most - limit) / 2**20:.1f}")
sys.exit(most > limit)
