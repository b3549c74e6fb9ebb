#!/usr/bin/python3
"""Writes the task suites from held-out text.

    make_tasks.py DATA TASKS [load]

The format is described in tasks/FORMAT.md.  The same data and seeds give the
same files. With "load": more contexts with fewer queries each, for measuring
a filesystem under many of them.
"""

import os
import sys

import numpy as np

import vocab as V
from data import Text, line_start
from evaluate import plain, recall_context

CONTEXT = 1500
ENDS = [(0.0, 0.1), (0.9, 1.0)]
WHERE = {"everywhere": None, "ends": ENDS}

LOAD = sys.argv[3:] == ["load"]
RECALL_CONTEXTS, RECALL_QUERIES = (120, 4) if LOAD else (30, 12)
PASSAGE_CONTEXTS, PASSAGE_QUERIES = (100, 3) if LOAD else (40, 6)
SEED = 200 if LOAD else 100
CODE_PROMPT, CODE_ANSWER = 24, 48
TEXT_PROMPT, TEXT_ANSWER = 24, 64


def record(f, *fields):
    print(*fields, file=f)


def write_context(f, i, place, tokens):
    record(f, "context", i, place, len(tokens), *tokens)


def write_query(f, i, at, prompt, answer):
    record(f, "query", i, at, len(prompt), *prompt)
    record(f, "answer", len(answer), *answer)


def header(f, name):
    record(f, "# kvlm task suite; see FORMAT.md. Text from held-out files of")
    record(f, "# the packages named in ../train/README.md, under their terms.")
    record(f, "suite", name)


def in_ends(at, size=0):
    return at + size <= CONTEXT // 10 or at >= CONTEXT - CONTEXT // 10


def recall_suite(f, texts, rng):
    header(f, "recall")
    for i in range(RECALL_CONTEXTS):
        place = ("everywhere", "ends")[i % 2]
        n_facts = int(rng.integers(RECALL_QUERIES, 41)) if not i % 2 else \
            RECALL_QUERIES
        while True:
            # the text is shorter than the context: look where facts
            # ended up
            tok, keys, vals, pos = recall_context(
                rng, texts, CONTEXT, n_facts, i // 2 % 2, WHERE[place])
            if place == "everywhere" or all(in_ends(p, 5) for p in pos):
                break
        write_context(f, i, place, tok)
        asked = rng.permutation(n_facts)[:RECALL_QUERIES]
        for j, k in enumerate(asked):
            write_query(f, j, pos[k], [V.QUERY, *keys[k]], vals[k])


def repeated(rng, context, place, n_prompt, n_answer):
    """The beginning of a word in the context whose next n_prompt bytes occur
    once; none if there is none."""
    size = n_prompt + n_answer
    raw = bytes(context[2:].astype(np.uint8))
    starts = [p + 1 for p in range(len(raw) - size) if raw[p] in b" \n"
              and raw[p + 1] not in b" \n\t"]
    for p in rng.permutation(starts):
        if place == "ends" and not in_ends(p + 2, size):
            continue
        prompt = raw[p:p + n_prompt]
        if raw.count(prompt) == 1 and len(set(raw[p:p + size])) > 12:
            return int(p) + 2, [V.MORE, *prompt], \
                list(raw[p + n_prompt:p + size])
    return None


def elsewhere(rng, data, lo, hi, n_prompt, n_answer):
    """A passage of the same file outside lo..hi; its prompt is longer, its
    answer is new."""
    size = 2 * n_prompt + n_answer
    for _ in range(1000):
        p = line_start(data, int(rng.integers(len(data) - size)))
        if (p + size <= lo or p >= hi) and len(set(data[p:p + size])) > 12:
            cut = p + 2 * n_prompt
            return -1, [V.MORE, *data[p:cut]], data[cut:p + size]
    raise SystemExit("no passage found")


def passage_suite(f, name, text, kind, rng, n_prompt, n_answer):
    """Queries: one goes straight on behind the context; in contexts marked
    `ends` the others repeat passages of its first and last tenth, in the
    others three repeat passages from anywhere and the rest is new text from
    elsewhere in the file."""
    header(f, name)
    tag = (V.CODE, V.PROSE)[kind]
    i = 0
    while i < PASSAGE_CONTEXTS:
        place = ("everywhere", "ends")[i % 2]
        data = text.file(rng, 4 * CONTEXT)
        size = CONTEXT - 2
        at = line_start(data, int(rng.integers(len(data) - size - 200)))
        context = np.concatenate([[V.BOS, tag], data[at:at + size]])
        rest = data[at + size:at + size + 1 + n_answer]
        # straight on: the first byte is the prompt
        queries = [(CONTEXT - 1, rest[:1], rest[1:])]
        for j in range(1, PASSAGE_QUERIES):
            if place == "ends" or j <= PASSAGE_QUERIES // 2:
                queries.append(repeated(rng, context, place, n_prompt,
                                        n_answer))
            else:
                queries.append(elsewhere(rng, data, at, at + size, n_prompt,
                                         n_answer))
        if not plain(context[2:]) or None in queries:
            continue
        if len({q[0] for q in queries}) < min(5, PASSAGE_QUERIES):
            continue            # the same passage twice
        write_context(f, i, place, context)
        for j, q in enumerate(queries):
            write_query(f, j, *q)
        i += 1


def main():
    texts = [Text(sys.argv[1], k, "held") for k in ("code", "prose")]
    out = sys.argv[2]
    os.makedirs(out, exist_ok=True)
    with open(os.path.join(out, "recall.txt"), "w") as f:
        recall_suite(f, texts, np.random.default_rng(SEED + 1))
    with open(os.path.join(out, "code.txt"), "w") as f:
        passage_suite(f, "code", texts[0], 0, np.random.default_rng(SEED + 2),
                      CODE_PROMPT, CODE_ANSWER)
    with open(os.path.join(out, "text.txt"), "w") as f:
        passage_suite(f, "text", texts[1], 1, np.random.default_rng(SEED + 3),
                      TEXT_PROMPT, TEXT_ANSWER)


if __name__ == "__main__":
    main()
