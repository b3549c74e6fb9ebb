#!/usr/bin/python3
"""Writes contexts to calibrate the quality estimate with (kvlm calibrate).

    make_calibration.py DATA OUT.txt train|held SEED CONTEXTS

A task file of the suite `text`: contexts of 300 to 1,500 bytes of one file and
nine questions each, of 120 tokens: the text that goes on, and passages of the
same file, every other one from within the context. The curve in
src/policy/quality_curve.c is from `train 601 24`; it was checked on
`held 602 24`.
"""

import sys

import numpy as np

import vocab as V
from data import Text, line_start
from evaluate import plain
from make_tasks import header, write_context, write_query

PROMPT, ANSWER, QUERIES = 24, 120, 9


def passage(rng, data, at, size, inside):
    if inside:
        p = int(rng.integers(at, at + max(1, size - ANSWER - PROMPT)))
    else:
        p = int(rng.integers(len(data) - ANSWER - 64))
    p = line_start(data, p)
    if len(data) - p < PROMPT + ANSWER:
        p = 0
    return data[p:p + PROMPT + ANSWER]


def context(f, i, text, kind, rng):
    """Writes context i of one file; False when the draw was no good."""
    size = int(np.exp(rng.uniform(np.log(300), np.log(1500))))
    need = size + QUERIES * ANSWER + 200
    data = text.file(rng, size + 4 * ANSWER + 8000 if rng.random() < .5
                     else need)
    if len(data) <= need:
        return False
    at = line_start(data, int(rng.integers(len(data) - need)))
    body = np.concatenate([[V.BOS, (V.CODE, V.PROSE)[kind]],
                           data[at:at + size]])
    rest = data[at + size:at + size + 1 + ANSWER]
    if not plain(body[2:]):
        return False
    write_context(f, i, "everywhere", body)
    write_query(f, 0, size + 1, rest[:1], rest[1:])
    for q in range(1, QUERIES):
        piece = passage(rng, data, at, size, q % 2)
        write_query(f, q, -1, [V.MORE, *piece[:PROMPT]], piece[PROMPT:])
    return True


def main():
    data, out, split, seed, n = sys.argv[1:6]
    texts = [Text(data, k, split) for k in ("code", "prose")]
    rng = np.random.default_rng(int(seed))
    with open(out, "w") as f:
        header(f, "text")
        i = 0
        while i < int(n):
            i += context(f, i, texts[i % 2], i % 2, rng)


if __name__ == "__main__":
    main()
