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
    """silu(gate) * up for the two halves of one tensor."""
    @staticmethod
    def forward(ctx, gu):
        gate, up = gu.chunk(2, -1)
        s = F.silu(gate)
        ctx.save_for_backward(gu, s)
        return s * up

    @staticmethod
    def backward(ctx, g):
        gu, s = ctx.saved_tensors
        gate, up = gu.chunk(2, -1)
        out = torch.empty_like(gu)
        dgate, dup = out.chunk(2, -1)
        torch.mul(g, s, out=dup)
        dgate.copy_(torch.ops.aten.silu_backward(g * up, gate))
        return out


class SplitRope(torch.autograd.Function):
    """Cuts [B,T,(H+2G)*D] into q [B,H,T,D], k and v [B,G,T,D], and turns q
    and k by their positions."""
    @staticmethod
    def forward(ctx, qkv, cos, sin, n_q, n_kv):
        B, T, C = qkv.shape
        D = C // (n_q + 2 * n_kv)
        ctx.save_for_backward(cos, sin)
        ctx.n_q, ctx.n_kv = n_q, n_kv
        x = qkv.view(B, T, -1, D).transpose(1, 2)
        qk = torch.empty(B, n_q + n_kv, T, D, dtype=qkv.dtype,
                         device=qkv.device)
        turn(x[:, :n_q + n_kv], cos, sin, qk)
        return (qk[:, :n_q].contiguous(), qk[:, n_q:].contiguous(),
                x[:, n_q + n_kv:].contiguous())

    @staticmethod
    def backward(ctx, dq, dk, dv):
        cos, sin = ctx.saved_tensors
        B, H, T, D = dq.shape
        G = ctx.n_kv
        out = torch.empty(B, T, H + 2 * G, D, dtype=dq.dtype, device=dq.device)
        o = out.transpose(1, 2)
        turn(dq, cos, -sin, o[:, :H])
        turn(dk, cos, -sin, o[:, H:H + G])
        o[:, H + G:].copy_(dv)
        return out.view(B, T, -1), None, None, None, None


def turn(x, cos, sin, out):
    """Rotates the pairs (i, i + D/2) of x [B,H,T,D] by cos, sin [T,D/2]."""
    h = x.shape[-1] // 2
    a, b = x[..., :h], x[..., h:]
    torch.mul(a, cos, out=out[..., :h]).addcmul_(b, sin, value=-1)
    torch.mul(b, cos, out=out[..., h:]).addcmul_(a, sin)


class Attention(torch.autograd.Function):
    """Causal; q [B,H,T,D], k and v [B,G,T,D].  Works in blocks of queries, so
    that keys behind a block are never touched."""
    @staticmethod
    def forward(ctx, q, k, v, block):
        B, H, T, D = q.shape
        G = k.shape[1]
        n = H // G
        k, v = k.view(B * G, T, D), v.view(B * G, T, D)
        kt = k.transpose(1, 2)
        out = torch.empty(B, T, H, D, dtype=q.dtype, device=q.device)
        mask = torch.full((block, block), float("-inf"), dtype=q.dtype,
                          device=q.device).triu_(1)
        probs = []
        for s in range(0, T, block):
            e = min(s + block, T)
            w = e - s
            a = torch.bmm(q[:, :, s:e].reshape(B * G, n * w, D), kt[:, :, :e])
            a.view(B, H, w, e)[..., s:] += mask[:w, :w]
            a = torch.softmax(a, -1)
            o = torch.bmm(a, v[:, :e])
            out[:, s:e].copy_(o.view(B, H, w, D).transpose(1, 2))
            probs.append(a)
        ctx.save_for_backward(q, k, v, *probs)
        ctx.block = block
        return out.view(B, T, H * D)

    @staticmethod
    def backward(ctx, g):
        q, k, v, *probs = ctx.saved_tensors
        block = ctx.block
        B, H, T, D = q.shape
        G = k.shape[0] // B
        n = H // G
        g = g.view(B, T, H, D).transpose(1, 2)
        dq, dk, dv = (torch.empty_like(q), torch.zeros_like(k),
                      torch.zeros_like(v))
        vt = v.transpose(1, 2)
        for i, a in enumerate(probs):
            s = i * block
            e = min(s + block, T)
            w = e - s
            gb = g[:, :, s:e].reshape(B * G, n * w, D)
            qb = q[:, :, s:e].reshape(B * G, n * w, D)
            dv[:, :e].baddbmm_(a.transpose(1, 2), gb)
            da = torch.bmm(gb, vt[:, :, :e])
            da = torch._softmax_backward_data(da, a, -1, a.dtype)
            dq[:, :, s:e].copy_(torch.bmm(da, k[:, :e]).view(B, H, w, D))
            dk[:, :e].baddbmm_(da.transpose(1, 2), qb)
        return dq, dk.view(B, G, T, D), dv.view(B, G, T, D), None


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
        h = norm(x, c.eps)
        qkv = F.linear(h, torch.cat(
            [self.q * c.d_head ** -0.5, self.k, self.v]).to(dt))
        q, k, v = SplitRope.apply(qkv, cos, sin, c.n_head, c.n_kv)
        a = Attention.apply(q, k, v, block)
        x = x + F.linear(a, self.o.to(dt))
        h = norm(x, c.eps)
        gu = F.linear(h, torch.cat([self.gate, self.up]).to(dt))
        h = SwiGLU.apply(gu)
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
        self.register_buffer("cos", t.cos().float(), persistent=False)
        self.register_buffer("sin", t.sin().float(), persistent=False)

    def forward(self, tokens, dtype=torch.bfloat16, block=256):
        """Logits [B,T,V] in dtype for tokens [B,T]."""
        c, T = self.c, tokens.shape[1]
        x = F.embedding(tokens, self.embd).to(dtype)
        cos, sin = self.cos[:T].to(dtype), self.sin[:T].to(dtype)
        for b in self.blocks:
            x = b(x, cos, sin, block)
        return F.linear(norm(x, c.eps), self.head.to(dtype))
