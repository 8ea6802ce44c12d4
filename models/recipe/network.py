"""The network: a Llama in plain torch, with the tensor layout and the arithmetic of llama.cpp's own graph."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

INIT_STD = 0.02


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes, named as in GGUF metadata."""

    n_vocab: int
    n_layer: int = 8
    n_embd: int = 256
    n_ff: int = 512
    n_head: int = 8
    n_head_kv: int = 4
    n_ctx: int = 512
    rms_eps: float = 1e-5
    rope_base: float = 10000.0

    @property
    def n_rot(self) -> int:
        """Width of one attention head."""
        return self.n_embd // self.n_head


def rotations(shape: Shape, n_tokens: int) -> tuple[Tensor, Tensor]:
    """Cosine and sine, each (n_tokens, n_rot / 2), of the rotary position embedding."""
    frequency = shape.rope_base ** (-torch.arange(0, shape.n_rot, 2, dtype=torch.float32) / shape.n_rot)
    angle = torch.arange(n_tokens, dtype=torch.float32)[:, None] * frequency
    return angle.cos(), angle.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate neighbouring pairs, as llama.cpp does for the llama architecture; x is (..., n_tokens, n_rot)."""
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), -1).flatten(-2).to(x.dtype)


class Block(nn.Module):
    """Attention and feed-forward, each added to the residual stream; parameters carry GGUF names."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        n_kv = shape.n_head_kv * shape.n_rot
        self.attn_norm = nn.RMSNorm(shape.n_embd, eps=shape.rms_eps)
        self.attn_q = nn.Linear(shape.n_embd, shape.n_embd, bias=False)
        self.attn_k = nn.Linear(shape.n_embd, n_kv, bias=False)
        self.attn_v = nn.Linear(shape.n_embd, n_kv, bias=False)
        self.attn_output = nn.Linear(shape.n_embd, shape.n_embd, bias=False)
        self.ffn_norm = nn.RMSNorm(shape.n_embd, eps=shape.rms_eps)
        self.ffn_gate = nn.Linear(shape.n_embd, shape.n_ff, bias=False)
        self.ffn_up = nn.Linear(shape.n_embd, shape.n_ff, bias=False)
        self.ffn_down = nn.Linear(shape.n_ff, shape.n_embd, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """(n_rows, n_tokens, n_embd) -> the same shape."""
        x = x + self.attn_output(self.attention(self.attn_norm(x), cos, sin))
        h = self.ffn_norm(x)
        residual: Tensor = x + self.ffn_down(F.silu(self.ffn_gate(h)) * self.ffn_up(h))
        return residual

    def attention(self, h: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Causal grouped-query attention over normalised rows."""
        n_rows, n_tokens, n_embd = h.shape
        shape = self.shape

        def heads(values: Tensor, n_head: int) -> Tensor:
            return values.view(n_rows, n_tokens, n_head, shape.n_rot).transpose(1, 2)

        groups = shape.n_head // shape.n_head_kv
        q = rotate(heads(self.attn_q(h), shape.n_head), cos, sin)
        k = rotate(heads(self.attn_k(h), shape.n_head_kv), cos, sin).repeat_interleave(groups, 1)
        v = heads(self.attn_v(h), shape.n_head_kv).repeat_interleave(groups, 1)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return mixed.transpose(1, 2).reshape(n_rows, n_tokens, n_embd)


class Network(nn.Module):
    """The whole model; the output matrix is the token embedding."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.token_embd = nn.Embedding(shape.n_vocab, shape.n_embd)
        self.blk = nn.ModuleList(Block(shape) for _ in range(shape.n_layer))
        self.output_norm = nn.RMSNorm(shape.n_embd, eps=shape.rms_eps)
        for parameter in self.parameters():
            if parameter.ndim == 2:
                nn.init.normal_(parameter, std=INIT_STD)
        for block in self.blk:
            nn.init.normal_(block.attn_output.weight, std=INIT_STD / math.sqrt(2 * shape.n_layer))
            nn.init.zeros_(block.ffn_down.weight)

    def forward(self, tokens: Tensor) -> Tensor:
        """(n_rows, n_tokens) int64 -> logits (n_rows, n_tokens, n_vocab)."""
        cos, sin = rotations(self.shape, tokens.shape[1])
        x = self.token_embd(tokens)
        for block in self.blk:
            x = block(x, cos, sin)
        return F.linear(self.output_norm(x), self.token_embd.weight)


def look_back_and_match(network: Network) -> None:
    """Start some attention heads with a purpose, so that finding a word's letter is learned in minutes, not hours.

    In block 0, key heads 0 to 2 look 1, 2 and 3 tokens back: every embedding gets a common part, on which queries
    and keys act as a fixed vector that only the rotary position turns. In the other blocks, key heads 0 and 1 attend
    to tokens like the one that asks: queries and keys are the same projection, kept in the slowly turning pairs, as
    the products of pretrained transformers look (Trockman and Kolter 2023, arXiv:2305.09828). Training is free to
    change all of it. Without this start the letters stayed at chance for the whole of a trial.
    """
    shape = network.shape
    fast, slow = 4, 6  # pairs 0..3 tell neighbours apart; pairs from 6 on turn little within a question
    with torch.no_grad():
        common = F.normalize(torch.randn(shape.n_embd), dim=0)
        network.token_embd.weight += 0.5 * INIT_STD * math.sqrt(shape.n_embd) * common
        angle = shape.rope_base ** (-torch.arange(0, 2 * fast, 2) / shape.n_rot)
        for il, block in enumerate(network.blk):
            queries = block.attn_q.weight.view(shape.n_head_kv, -1, shape.n_rot, shape.n_embd)
            keys = block.attn_k.weight.view(shape.n_head_kv, shape.n_rot, shape.n_embd)
            for head in range(3 if il == 0 else 2):
                if il == 0:
                    ask, answer = torch.zeros(2, shape.n_rot)
                    ask[0 : 2 * fast : 2] = 1.0
                    answer[0 : 2 * fast : 2] = torch.cos(angle * (head + 1))
                    answer[1 : 2 * fast : 2] = torch.sin(angle * (head + 1))
                    queries[head] += 0.7 * torch.outer(ask, common)
                    keys[head] += 0.7 * torch.outer(answer, common)
                else:
                    basis = torch.linalg.qr(torch.randn(shape.n_embd, shape.n_rot - 2 * slow))[0].T
                    basis = basis - torch.outer(basis @ common, common)
                    queries[head, :, 2 * slow :] += 1.2 * basis
                    keys[head, 2 * slow :] += 1.2 * basis
