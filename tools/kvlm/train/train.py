#!/usr/bin/python3
"""Trains the kvlm model.

    train.py --data DIR --out DIR --plan 350x128x32:60:30:0:0:0,...

The plan lists stages: steps x tokens per sequence x sequences per step, with
:D:M:P:R:L, the percentages of dense recall, of recall in text and of passages
among them, of repetitions among passages, and of late questions in recall in
text (see sequences.py); the other sequences are plain text.

The learning rate is a factor, --lr STEP:FACTOR,..., linear between the steps
given and constant behind them, times the peaks of the three kinds of matrices.

What step s trains on depends on the seed and s alone, so a run that was
interrupted and resumed (--resume) with the same plan gives the same model as
one that was not, up to the order of floating-point sums on the machine.
"""

import argparse
import csv
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
import torch.nn.functional as F

import vocab as V
from data import Text
from evaluate import evaluate
from model import Config, Model
from sequences import batch


def newton_schulz(g):
    """The orthogonal matrix nearest to each of g [n, rows, cols], roughly."""
    x = g.bfloat16()
    flip = x.shape[1] > x.shape[2]
    if flip:
        x = x.transpose(1, 2).contiguous()
    x = x / (x.float().flatten(1).norm(dim=1)[:, None, None] + 1e-7).bfloat16()
    for _ in range(5):
        a = torch.bmm(x, x.transpose(1, 2))
        b = torch.baddbmm(a, a, a, beta=-4.7750, alpha=2.0315)
        x = torch.baddbmm(x, b, x, beta=3.4445)
    if flip:
        x = x.transpose(1, 2)
    return x.float()


class Muon:
    """Momentum whose steps are orthogonal matrices; for hidden matrices."""

    def __init__(self, params, lr, momentum=0.95, decay=0.01):
        self.groups = {}
        for p in params:
            self.groups.setdefault(tuple(p.shape), []).append(p)
        self.lr, self.momentum, self.decay = lr, momentum, decay
        self.buf = {s: torch.zeros(len(g), *s, device=g[0].device)
                    for s, g in self.groups.items()}

    def step(self, factor, pool):
        list(pool.map(lambda s: self.step_shape(s, factor), self.groups))

    @torch.no_grad()
    def step_shape(self, shape, factor):
        ps = self.groups[shape]
        g = torch.stack([p.grad for p in ps])
        m = self.buf[shape]
        m.lerp_(g, 1 - self.momentum)
        u = newton_schulz(g.lerp_(m, self.momentum))
        lr = self.lr * factor
        scale = max(1.0, shape[0] / shape[1]) ** 0.5
        for p, d in zip(ps, u):
            p.mul_(1 - lr * self.decay).add_(d, alpha=-lr * scale)


def part_gradient(model, tok, wgt, scale):
    """Gradients of scale times the sum of the losses of some sequences, and
    what they had: [text nats, texts, value nats, values, values right]."""
    x, y = tok[:, :-1], tok[:, 1:].reshape(-1)
    wgt = wgt.view(-1)
    keep = wgt.nonzero().view(-1)
    logits = model(x).view(-1, V.N_VOCAB)[keep].float()
    y = y[keep]
    loss = F.cross_entropy(logits, y, reduction="none")
    grads = torch.autograd.grad((loss * wgt[keep]).sum() * scale,
                                list(model.parameters()))
    with torch.no_grad():
        val = y >= V.VAL0
        n = int(val.sum())
        hit = (logits[val].argmax(1) == y[val]).sum()
        return grads, [loss[~val].sum().item(), len(y) - n,
                       loss[val].sum().item(), n, hit.item()]


def gradient(model, tok, wgt, part, pool):
    """Fills in the gradients of the mean loss of a batch.  The sequences are
    handed to the threads part by part, so that a busy processor slows down
    only what runs on it."""
    scale = 1.0 / float(wgt.sum())
    jobs = [pool.submit(part_gradient, model, tok[i:i + part],
                        wgt[i:i + part], scale)
            for i in range(0, len(tok), part)]
    total = [0.0] * 5
    for j in jobs:
        grads, sums = j.result()
        total = [a + b for a, b in zip(total, sums)]
        for p, g in zip(model.parameters(), grads):
            p.grad = g if p.grad is None else p.grad.add_(g)
    return total


def parse_plan(text):
    plan = []
    for item in text.split(","):
        shape, *shares = item.split(":")
        steps, T, B = (int(x) for x in shape.split("x"))
        shares = [int(x) for x in shares] + [0] * (5 - len(shares))
        plan.append((steps, T, B, shares))
    return plan


def lr_factor(text, step):
    at, factor = zip(*((float(x) for x in p.split(":"))
                       for p in text.split(",")))
    return float(np.interp(step, at, factor))


def stage_of(plan, step):
    for steps, T, B, shares in plan:
        if step < steps:
            return T, B, shares
        step -= steps
    return None


def save(path, **what):
    torch.save(what, path + ".tmp")
    os.replace(path + ".tmp", path)


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("--data", required=True)
    ap.add_argument("--out", required=True)
    ap.add_argument("--plan", required=True)
    ap.add_argument("--lr", default="0:0.025,39:1")
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--threads", type=int, default=2)
    ap.add_argument("--part", type=int, default=2048,
                    help="tokens that one thread works on at a time")
    ap.add_argument("--muon-lr", type=float, default=0.02)
    ap.add_argument("--embd-lr", type=float, default=0.02)
    ap.add_argument("--head-lr", type=float, default=0.004)
    ap.add_argument("--save-every", type=int, default=50)
    ap.add_argument("--eval-every", type=int, default=200)
    ap.add_argument("--resume", action="store_true",
                    help="go on from OUT/last.pt, or --from FILE")
    ap.add_argument("--from", dest="start")
    a = ap.parse_args()

    os.makedirs(a.out, exist_ok=True)
    torch.set_num_threads(1)
    pool = ThreadPoolExecutor(a.threads)
    torch.manual_seed(a.seed)
    dev = "cuda" if torch.cuda.is_available() else "cpu"
    texts = [Text(a.data, k, "train") for k in ("code", "prose")]
    model = Model(Config()).to(dev)
    muon = Muon(model.blocks.parameters(), a.muon_lr)
    adam = torch.optim.Adam([{"params": [model.embd], "peak": a.embd_lr},
                             {"params": [model.head], "peak": a.head_lr}],
                            betas=(0.9, 0.97), eps=1e-10)
    plan = parse_plan(a.plan)
    total = sum(p[0] for p in plan)
    step = tokens = 0
    seconds = 0.0
    last = os.path.join(a.out, "last.pt")
    if a.resume and os.path.exists(a.start or last):
        c = torch.load(a.start or last, map_location=dev)
        model.load_state_dict(c["model"])
        adam.load_state_dict(c["adam"])
        muon.buf = c["muon"]
        step, tokens, seconds = c["step"], c["tokens"], c["seconds"]
    print("parameters", sum(p.numel() for p in model.parameters()),
          "steps", total, "from", step, "threads", a.threads, flush=True)

    # keep the lines of the curve that belong to the part resumed from
    curve_path = os.path.join(a.out, "curve.csv")
    rows = []
    if step and os.path.exists(curve_path):
        with open(curve_path) as f:
            rows = [r for r in csv.reader(f) if r and r[0].isdigit()
                    and int(r[0]) <= step]
    curve = open(curve_path, "w", newline="")
    out = csv.writer(curve)
    out.writerow(["step", "tokens", "seconds", "seq", "lr", "text_nats",
                  "answer_nats", "answer_percent"])
    out.writerows(rows)
    acc = []
    t0 = time.time()
    while step < total:
        T, B, shares = stage_of(plan, step)
        tok, wgt = batch(a.seed, step, texts, T, B, shares)
        tok = torch.from_numpy(tok).to(dev)
        wgt = torch.from_numpy(wgt).to(dev)
        factor = lr_factor(a.lr, step)
        muon.momentum = min(0.95, 0.85 + 0.1 * step / 200)
        part = max(1, a.part // T)
        acc.append(gradient(model, tok, wgt, part, pool))
        muon.step(factor, pool)
        for g in adam.param_groups:
            g["lr"] = g["peak"] * factor
        adam.step()
        model.zero_grad(set_to_none=True)
        step += 1
        tokens += T * B
        if step % 10 == 0 or step == total:
            m = [sum(col) for col in zip(*acc)]
            acc = []
            row = [step, tokens, round(seconds + time.time() - t0, 1), T,
                   round(factor, 4), round(m[0] / max(1, m[1]), 4),
                   round(m[2] / max(1, m[3]), 4),
                   round(100 * m[4] / max(1, m[3]), 2)]
            out.writerow(row)
            curve.flush()
            print(*row, flush=True)
        if step % a.save_every == 0 or step == total:
            state = dict(model=model.state_dict(), adam=adam.state_dict(),
                         muon=muon.buf, step=step, tokens=tokens,
                         seconds=seconds + time.time() - t0, args=vars(a))
            save(last, **state)
            if step % 1000 == 0:
                save(os.path.join(a.out, "step%05d.pt" % step), **state)
        if step % a.eval_every == 0 or step == total:
            r = evaluate(model, a.data, quick=step != total)
            r["step"] = step
            print("eval", json.dumps(r), flush=True)


if __name__ == "__main__":
    main()
