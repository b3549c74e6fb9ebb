#!/usr/bin/python3
"""The task suites with a checkpoint and exact caches, teacher-forced.

    eval_tasks.py CHECKPOINT TASKS

Prints per suite and kind of query: how many, the share of answers that are
right in every token, the share of right tokens, and nats per answer token.
What is counted as `repeat` asks for something the context holds at a known
place, `new` for text that it does not hold.
"""

import os
import sys

import numpy as np
import torch
import torch.nn.functional as F

from model import Config, Model


def read_suite(path):
    """[(place, tokens, [(at, prompt, answer)])]"""
    contexts = []
    with open(path) as f:
        for line in f:
            word, *rest = line.split()
            if word == "context":
                contexts.append((rest[1], [int(x) for x in rest[3:]], []))
            elif word == "query":
                query = (int(rest[1]), [int(x) for x in rest[3:]])
            elif word == "answer":
                contexts[-1][2].append(query + ([int(x) for x in rest[1:]],))
    return contexts


@torch.no_grad()
def score(model, tokens, queries):
    """Per query: the answer's greedy tokens right or not, and its nats."""
    rows = [np.array(tokens + p + a) for _, p, a in queries]
    longest = max(map(len, rows))
    x = np.zeros((len(rows), longest), np.int64)
    for r, row in zip(x, rows):
        r[:len(row)] = row
    logits = model(torch.from_numpy(x))
    for (at, p, a), l in zip(queries, logits):
        lo = len(tokens) + len(p) - 1
        l = l[lo:lo + len(a)].float()
        a = torch.tensor(a)
        yield ((l.argmax(1) == a).numpy(),
               F.cross_entropy(l, a, reduction="none").numpy())


def main():
    model = Model(Config())
    model.load_state_dict(torch.load(sys.argv[1], map_location="cpu")["model"])
    for suite in ("recall", "code", "text"):
        sums = {}
        for place, tokens, queries in read_suite(
                os.path.join(sys.argv[2], suite + ".txt")):
            for q, (hit, nats) in zip(queries, score(model, tokens, queries)):
                kind = "straight on" if q[0] == len(tokens) - 1 else \
                    "new" if q[0] < 0 else "repeat"
                for key in ((place, kind), ("all", "all")):
                    s = sums.setdefault(key, np.zeros(4))
                    s += [1, hit.all(), hit.mean(), nats.mean()]
        for key, s in sorted(sums.items()):
            print("%-6s %-10s %-11s %4d queries  %6.2f%% exact  "
                  "%6.2f%% tokens  %.4f nats" %
                  (suite, *key, s[0], 100 * s[1] / s[0], 100 * s[2] / s[0],
                   s[3] / s[0]), flush=True)


if __name__ == "__main__":
    main()
