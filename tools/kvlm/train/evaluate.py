#!/usr/bin/python3
"""How good a checkpoint is: recall, and held-out text in bits per byte.

    evaluate.py CHECKPOINT DATA [--ngrams]
"""

import json
import math
import sys

import numpy as np
import torch
import torch.nn.functional as F

import vocab as V
from data import Text
from model import Config, Model
from sequences import PLANT, new_facts


def plain(body):
    """Mostly words: no tables of numbers or pictures of letters."""
    word = ((body | 32) >= 97) & ((body | 32) <= 122) | (body == 32)
    return word.mean() > 0.65


def recall_context(rng, texts, n, n_facts, kind, where=None):
    """A context of n tokens: held-out text with facts planted at the ends of
    words.  where: fractions of the text that facts may be in.  Returns
    tokens, keys, values, and the positions of the facts."""
    size = n - 2 - n_facts * PLANT
    body = np.zeros(0, np.uint8)
    while len(body) < size or not plain(body):
        body, _ = texts[kind].window(rng, size)
    keys, vals = new_facts(rng, n_facts)
    places = np.flatnonzero((body == 32) | (body == 10)) + 1
    if where:
        f = places / size
        places = places[np.logical_or.reduce(
            [(f >= lo) & (f < hi) for lo, hi in where])]
    places = np.sort(rng.choice(places, size=n_facts, replace=False))
    out = [[V.BOS, (V.CODE, V.PROSE)[kind]]]
    at, pos, length = 0, [], 2
    for p, k, v in zip(places, keys, vals):
        length += p - at
        pos.append(length)
        length += PLANT
        out += [body[at:p], [V.FACT, *k, *v]]
        at = p
    out.append(body[at:])
    return np.concatenate(out).astype(np.int64), keys, vals, pos


@torch.no_grad()
def recall(model, texts, n_contexts, n=1500, seed=7, per_context=32):
    """Share of exactly right values over facts planted anywhere; all queries
    of a context are asked in a row behind it, in a random order, each seeing
    the queries before (as in a chat), the answers being the true ones."""
    rng = np.random.default_rng(seed)
    right = total = 0
    by_place = np.zeros((10, 2))
    for i in range(n_contexts):
        n_facts = int(rng.integers(4, 49))
        tok, keys, vals, pos = recall_context(rng, texts, n, n_facts, i % 2)
        ask = rng.permutation(n_facts)[:per_context]
        # one row: the queries follow each other
        row = np.concatenate([tok] + [[V.QUERY, *keys[f], *vals[f]]
                                      for f in ask])
        logits = model(torch.from_numpy(row)[None].to(model.head.device))[0]
        best = logits.float().argmax(-1).cpu().numpy()
        for j, f in enumerate(ask):
            at = len(tok) + PLANT * j + V.KEY_LEN
            ok = all(best[at + d] == vals[f][d] for d in range(V.VALUE_LEN))
            right += ok
            total += 1
            d = min(9, pos[f] * 10 // n)
            by_place[d] += [ok, 1]
    return right / total, by_place


@torch.no_grad()
def text_loss(model, text, kind, n_windows, n=2047, seed=5):
    """Mean nats per byte over windows of held-out files, and the same for
    the last quarter of the windows (with at least 1,500 bytes of context)."""
    rng = np.random.default_rng(seed)
    losses = []
    while len(losses) < n_windows:
        body, _ = text.window(rng, n)
        if len(body) < n:
            continue
        row = np.concatenate([[V.BOS, (V.CODE, V.PROSE)[kind]], body])
        row = torch.from_numpy(row.astype(np.int64)).to(model.head.device)
        logits = model(row[None, :-1])[0].float()
        losses.append(F.cross_entropy(logits[1:], row[2:],
                                      reduction="none").cpu().numpy())
    losses = np.stack(losses)
    return float(losses.mean()), float(losses[:, -n // 4:].mean())


def evaluate(model, data_dir, quick=False):
    texts = [Text(data_dir, k, "held") for k in ("code", "prose")]
    model.eval()
    acc, by_place = recall(model, texts, 8 if quick else 64)
    out = {"recall_percent": round(100 * acc, 2)}
    if not quick:
        out["recall_percent_by_tenth"] = [
            round(100 * a / max(1, b), 1) for a, b in by_place]
        out["recall_queries"] = int(by_place[:, 1].sum())
    for kind, name in enumerate(("code", "prose")):
        a, b = text_loss(model, texts[kind], kind, 8 if quick else 48)
        out[name + "_bits_per_byte"] = round(a / math.log(2), 4)
        out[name + "_bits_per_byte_last_quarter"] = round(b / math.log(2), 4)
    model.train()
    return out


def ngrams(data_dir):
    """Bits per byte of unigram, bigram and trigram models, counted on the
    training text and smoothed with the next lower order (weight 1, 4), on
    all held-out text."""
    out = {}
    for name in ("code", "prose"):
        t = Text(data_dir, name, "train").data.astype(np.int64)
        h = Text(data_dir, name, "held").data.astype(np.int64)
        c1 = np.bincount(t, minlength=256) + 0.01
        p1 = c1 / c1.sum()
        c2 = np.bincount(t[:-1] * 256 + t[1:],
                         minlength=65536).reshape(256, 256)
        p2 = (c2 + p1) / (c2.sum(1, keepdims=True) + 1)
        c3 = np.bincount(t[:-2] * 65536 + t[1:-1] * 256 + t[2:],
                         minlength=1 << 24).reshape(65536, 256)
        i3 = h[:-2] * 256 + h[1:-1]
        n3 = c3.sum(1)
        q3 = (c3[i3, h[2:]] + 4 * p2[h[1:-1], h[2:]]) / (n3[i3] + 4)
        out[name] = {
            "unigram": round(float(-np.log2(p1[h]).mean()), 4),
            "bigram": round(float(-np.log2(p2[h[:-1], h[1:]]).mean()), 4),
            "trigram": round(float(-np.log2(q3).mean()), 4)}
    return out


def main():
    model = Model(Config())
    c = torch.load(sys.argv[1], map_location="cpu")
    model.load_state_dict(c["model"])
    out = evaluate(model, sys.argv[2])
    out["step"], out["tokens"] = c["step"], c["tokens"]
    if "--ngrams" in sys.argv:
        out["ngrams"] = ngrams(sys.argv[2])
    print(json.dumps(out, indent=1))


if __name__ == "__main__":
    main()
