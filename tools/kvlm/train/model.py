"""The network: llama.cpp's "llama" architecture, in PyTorch.

RMSNorm, rotary positions, grouped queries, SwiGLU, no biases, untied head.
Two liberties are taken for speed on a CPU, and undone by export_gguf.py:

 - norms have no gain while training; a gain would only scale the columns of
   the matrices behind it.  The file says 1.0.
 - rotary pairs are (i, i + 32) here and (2i, 2i + 1) in the file; the rows of
   the q and k matrices are reordered accordingly.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F


@dataclass
class Config:
    n_vocab: int = 464
    n_layer: int = 8
    n_embd: int = 256
    n_head: int = 4
    n_kv: int = 2
    d_head: int = 64
    n_ff: int = 512
    n_ctx: int = 2560
    rope_base: float = 10000.0
    eps: float = 1e-5


class RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, eps):
        r = torch.rsqrt(torch.linalg.vector_norm(
            x, dim=-1, keepdim=True, dtype=torch.float32).square_()
            .div_(x.shape[-1]).add_(eps)).to(x.dtype)
        y = x * r
        ctx.save_for_backward(y, r)
        return y

    @staticmethod
    def backward(ctx, g):
        y, r = ctx.saved_tensors
        m = (g * y).mean(-1, keepdim=True)
        return torch.addcmul(g, y, m, value=-1).mul_(r), None


def norm(x, eps):
    return RMSNorm.apply(x, eps)


class SwiGLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx, gate, up):
        s = F.silu(gate)
        ctx.save_for_backward(gate, up, s)
        return s * up

    @staticmethod
    def backward(ctx, g):
        gate, up, s = ctx.saved_tensors
        return torch.ops.aten.silu_backward(g * up, gate), g * s


class Rope(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, cos, sin):
        ctx.save_for_backward(cos, sin)
        return Rope.turn(x, cos, sin)

    @staticmethod
    def backward(ctx, g):
        cos, sin = ctx.saved_tensors
        return Rope.turn(g, cos, -sin), None, None

    @staticmethod
    def turn(x, cos, sin):
        """x [B,T,H,D], cos and sin [T,1,D/2]"""
        h = x.shape[-1] // 2
        a, b = x[..., :h], x[..., h:]
        y = torch.empty_like(x)
        torch.mul(a, cos, out=y[..., :h]).addcmul_(b, sin, value=-1)
        torch.mul(b, cos, out=y[..., h:]).addcmul_(a, sin)
        return y


def attention(q, k, v, block):
    """Causal; q [B,H,T,D], k and v [B,G,T,D]; in blocks of queries so that
    the keys after a block are never touched."""
    B, H, T, D = q.shape
    G = k.shape[1]
    n = H // G
    outs = []
    mask = torch.full((block, block), float("-inf"), dtype=q.dtype,
                      device=q.device).triu_(1)
    kt = k.reshape(B * G, T, D).transpose(1, 2)
    vv = v.reshape(B * G, T, D)
    for s in range(0, T, block):
        e = min(s + block, T)
        w = e - s
        qb = q[:, :, s:e].reshape(B * G, n * w, D)
        a = torch.bmm(qb, kt[:, :, :e]).view(B * G, n, w, e)
        a[..., s:e] += mask[:w, :w]
        a = torch.softmax(a, -1).view(B * G, n * w, e)
        outs.append(torch.bmm(a, vv[:, :e]).view(B, H, w, D))
    return torch.cat(outs, 2) if len(outs) > 1 else outs[0]


class Block(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c = c

        def mat(rows, cols, zero=False):
            w = torch.zeros(rows, cols) if zero else \
                torch.randn(rows, cols) / math.sqrt(cols)
            return nn.Parameter(w)
        d, kv = c.n_embd, c.n_kv * c.d_head
        self.q = mat(c.n_head * c.d_head, d)
        self.k = mat(kv, d)
        self.v = mat(kv, d)
        self.o = mat(d, c.n_head * c.d_head, zero=True)
        self.gate = mat(c.n_ff, d)
        self.up = mat(c.n_ff, d)
        self.down = mat(d, c.n_ff, zero=True)

    def forward(self, x, cos, sin, block):
        c, dt = self.c, x.dtype
        B, T, _ = x.shape
        h = norm(x, c.eps)
        qkv = F.linear(h, torch.cat(
            [self.q * c.d_head ** -0.5, self.k, self.v]).to(dt))
        nq, nk = c.n_head * c.d_head, c.n_kv * c.d_head
        qk = qkv[..., :nq + nk].view(B, T, c.n_head + c.n_kv, c.d_head)
        qk = Rope.apply(qk, cos, sin)
        q = qk[:, :, :c.n_head].transpose(1, 2)
        k = qk[:, :, c.n_head:].transpose(1, 2)
        v = qkv[..., nq + nk:].view(B, T, c.n_kv, c.d_head).transpose(1, 2)
        a = attention(q, k, v, block)
        a = a.transpose(1, 2).reshape(B, T, nq)
        x = x + F.linear(a, self.o.to(dt))
        h = norm(x, c.eps)
        gu = F.linear(h, torch.cat([self.gate, self.up]).to(dt))
        h = SwiGLU.apply(*gu.chunk(2, -1))
        return x + F.linear(h, self.down.to(dt))


class Model(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c = c
        self.embd = nn.Parameter(torch.randn(c.n_vocab, c.n_embd))
        self.blocks = nn.ModuleList([Block(c) for _ in range(c.n_layer)])
        self.head = nn.Parameter(torch.zeros(c.n_vocab, c.n_embd))
        f = c.rope_base ** (-torch.arange(0, c.d_head, 2).double() / c.d_head)
        t = torch.arange(c.n_ctx).double()[:, None] * f
        self.register_buffer("cos", t.cos().float()[:, None], persistent=False)
        self.register_buffer("sin", t.sin().float()[:, None], persistent=False)

    def forward(self, tokens, dtype=torch.bfloat16, block=256):
        """Logits [B,T,V] in dtype for tokens [B,T]."""
        c, T = self.c, tokens.shape[1]
        x = F.embedding(tokens, self.embd).to(dtype)
        cos, sin = self.cos[:T].to(dtype), self.sin[:T].to(dtype)
        for b in self.blocks:
            x = b(x, cos, sin, block)
        return F.linear(norm(x, c.eps), self.head.to(dtype))
