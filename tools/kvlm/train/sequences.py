"""Training sequences: text, recall, and recall inside text.

Every sequence is BOS and then T - 1 more tokens.  Beside the tokens goes a
weight for each of them: 0 where nobody could predict it (a planted key, the
value of a fact), 1 elsewhere.
"""

import numpy as np

import vocab as V
from data import line_start

def text_tokens(rng, texts, n):
    """n tokens of text: one file, or the end of one and others behind it."""
    out = []
    left = n
    while left > 0:
        kind = int(rng.integers(len(texts)))
        out.append(np.array([(V.CODE, V.PROSE)[kind]]))
        left -= 1
        if left <= 0:
            break
        data, ended = texts[kind].window(rng, left)
        out.append(data.astype(np.int64))
        left -= len(data)
        if ended and left > 0:
            out.append(np.array([V.EOS]))
            left -= 1
    return np.concatenate(out)[:n]


def passages(rng, texts, n, repeats):
    """A window of a file, then other passages of the same file, each behind
    MORE.  A share of the passages repeats what the window had."""
    kind = int(rng.integers(len(texts)))
    size = int(n * rng.uniform(0.4, 0.85))
    data = texts[kind].file(rng, size + 64)
    at = line_start(data, int(rng.integers(len(data) - size + 1)))
    out = [np.array([(V.CODE, V.PROSE)[kind]]), data[at:at + size]]
    left = n - 1 - size
    while left > 1:
        if rng.random() < repeats:
            p = int(rng.integers(at, at + size))
        else:
            p = int(rng.integers(len(data)))
        p = line_start(data, p)
        piece = data[p:p + min(left - 1, int(rng.integers(60, 260)))]
        out += [np.array([V.MORE]), piece]
        left -= 1 + len(piece)
    out.append(np.array([V.EOS]))
    return np.concatenate(out).astype(np.int64)[:n]


def new_facts(rng, n):
    """n different keys and their values.  The keys are made of as few symbols
    as a draw says, so that many of them share one of theirs."""
    least = int(np.ceil(np.sqrt(n))) + 1
    pool = int(np.exp(rng.uniform(np.log(least), np.log(V.N_KEYS + 1))))
    pool = min(max(pool, least), V.N_KEYS)
    symbols = V.KEY0 + rng.permutation(V.N_KEYS)[:pool]
    pairs = rng.choice(pool * pool, size=n, replace=False)
    keys = np.stack([symbols[pairs // pool], symbols[pairs % pool]], 1)
    vals = V.VAL0 + rng.integers(V.N_VALS, size=(n, V.VALUE_LEN))
    return keys, vals


PLANT = 1 + V.KEY_LEN + V.VALUE_LEN     # tokens of a fact, or of a query
                                        # with its answer


def plants(rng, n, n_facts):
    """The order of n facts and queries of n_facts facts: list of (is_query,
    fact).  The first is a fact, a query asks any fact that came before."""
    left = n_facts
    seen = 0
    out = []
    for i in range(n):
        if seen == 0 or (left > 0 and rng.random() < left / (n - i) * 1.5):
            out.append((False, seen))
            seen += 1
            left -= 1
        else:
            out.append((True, int(rng.integers(seen))))
    return out


def plant_tokens(plan, keys, vals):
    tok = np.empty((len(plan), PLANT), np.int64)
    wgt = np.zeros((len(plan), PLANT), np.float32)
    for i, (ask, f) in enumerate(plan):
        tok[i] = [V.QUERY if ask else V.FACT, *keys[f], *vals[f]]
        if ask:
            wgt[i, 1 + V.KEY_LEN:] = 1
    return tok, wgt


def dense(rng, n):
    """Facts and queries without anything between them."""
    m = (n + PLANT - 1) // PLANT
    top = max(2, min(V.N_KEYS, m // 3))
    n_facts = int(rng.integers(2, top + 1))
    keys, vals = new_facts(rng, n_facts)
    tok, wgt = plant_tokens(plants(rng, m, n_facts), keys, vals)
    return tok.reshape(-1)[:n], wgt.reshape(-1)[:n]


def mixed(rng, texts, n, share):
    """Text with about share of its tokens taken by facts and queries, put in
    at the ends of words."""
    m = max(2, int(n * share / PLANT))
    if rng.random() < 0.1:      # noise instead of text
        body = rng.integers(32, 127, size=n - m * PLANT)
        body[0] = V.NOISE
        bw = np.zeros(len(body), np.float32)
    else:
        body = text_tokens(rng, texts, n - m * PLANT)
        bw = np.ones(len(body), np.float32)
    n_facts = int(rng.integers(1, max(2, min(V.N_KEYS // 2, m // 2)) + 1))
    keys, vals = new_facts(rng, n_facts)
    tok, wgt = plant_tokens(plants(rng, m, n_facts), keys, vals)
    places = np.flatnonzero((body == 32) | (body == 10)) + 1
    if len(places) < m:
        places = np.arange(1, len(body) + 1)
    places = np.sort(rng.choice(places, size=m, replace=len(places) < m))
    out, ow = [], []
    at = 0
    for i, p in enumerate(places):
        out += [body[at:p], tok[i]]
        ow += [bw[at:p], wgt[i]]
        at = p
    out.append(body[at:])
    ow.append(bw[at:])
    return np.concatenate(out)[:n], np.concatenate(ow)[:n]


LATE_WEIGHT = 4.0


def late(rng, texts, n):
    """Facts in text, most of them early, and then many queries in a row:
    answers that are far behind."""
    n_facts = int(rng.integers(8, 65))
    m = min(2 * n_facts, 100)
    body = text_tokens(rng, texts, n - (n_facts + m) * PLANT)
    keys, vals = new_facts(rng, n_facts)
    tok, _ = plant_tokens([(False, i) for i in range(n_facts)], keys, vals)
    places = np.flatnonzero((body == 32) | (body == 10)) + 1
    u = rng.random(n_facts) ** 2
    places = np.sort(places[(u * len(places)).astype(int)])
    out = [x for p, q, t in zip([0, *places], places, tok)
           for x in (body[p:q], t)] + [body[places[-1]:]]
    ow = [x for p, q in zip([0, *places], places)
          for x in (np.ones(q - p), np.zeros(PLANT))] + \
        [np.ones(len(body) - places[-1])]
    asked = [i for _ in range(2) for i in rng.permutation(n_facts)][:m]
    tok, wgt = plant_tokens([(True, i) for i in asked], keys, vals)
    out.append(tok.reshape(-1))
    ow.append(wgt.reshape(-1) * LATE_WEIGHT)
    return np.concatenate(out), np.concatenate(ow)


def batch(seed, step, texts, T, B, shares):
    """tokens [B, T + 1] and the weights of tokens 1.. [B, T] of one step.
    shares: how many of 100 sequences are dense recall, recall in text, and
    passages, the others being text; how many of 100 passages repeat; and how many of
    100 sequences with recall in text ask late."""
    rng = np.random.default_rng([seed, step])
    tok = np.empty((B, T + 1), np.int64)
    wgt = np.ones((B, T), np.float32)
    bounds = np.cumsum(shares[:3]) / 100
    for i in range(B):
        # many sequences are counted out, few are drawn
        u = (i + 0.5) / B if B >= 8 else rng.random()
        tok[i, 0] = V.BOS
        if u < bounds[0]:
            tok[i, 1:], wgt[i] = dense(rng, T)
        elif u < bounds[1] and shares[4] and rng.random() * 100 < shares[4]:
            tok[i, 1:], wgt[i] = late(rng, texts, T)
        elif u < bounds[1]:
            share = float(np.exp(rng.uniform(np.log(0.03), np.log(0.5))))
            tok[i, 1:], wgt[i] = mixed(rng, texts, T, share)
        elif u < bounds[2]:
            tok[i, 1:] = passages(rng, texts, T, shares[3] / 100)
        else:
            tok[i, 1:] = text_tokens(rng, texts, T)
    return tok, wgt
