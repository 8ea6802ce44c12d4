"""A llama model in NumPy, one sequence at a time: what packing, resuming and steering must come to.

No batch, no cache, nothing shared, all in float64; steering is that of steercpp.engine.reference. The graph is that of
llama.cpp's src/models/llama.cpp.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import gguf
import numpy as np
import numpy.typing as npt

from steercpp.engine import reference
from steercpp.engine.steering import REGIONS, Steering

Floats: TypeAlias = npt.NDArray[np.float64]

# With a side these jump at a projection of 0. `ablate` does not, as it then takes away next to nothing, and neither
# does `cap` at its strength.
_JUMPS = frozenset(("add", "add-keep-norm", "clamp", "rotate"))


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """What one sequence gives.

    Attributes:
        logits: (n_tokens, n_vocab).
        activations: (n_layer, n_tokens, n_embd), what steering does to them included.
        margin: the smallest projection, in lengths of its vector, by whose sign it was decided whether a row is
            steered; infinite where none was.
    """

    logits: Floats
    activations: Floats
    margin: float


class PlainLlama:
    """The weights of a GGUF file of architecture llama, of F32 tensors."""

    def __init__(self, path: Path) -> None:
        reader = gguf.GGUFReader(path)

        def value(key: str) -> Any:
            return reader.fields[f"llama.{key}"].contents()

        self.weights: dict[str, Floats] = {tensor.name: tensor.data.astype(np.float64) for tensor in reader.tensors}
        self.n_layer: int = value("block_count")
        self.n_head: int = value("attention.head_count")
        self.n_head_kv: int = value("attention.head_count_kv")
        self.epsilon: float = value("attention.layer_norm_rms_epsilon")
        self.n_vocab, self.n_embd = self.weights["token_embd.weight"].shape
        self.n_head_dim = self.n_embd // self.n_head

    def run(self, tokens: Sequence[int], n_prompt: int, steerings: Sequence[Steering] = ()) -> Run:
        """Logits after each token of a sequence.

        Args:
            tokens: of the prompt and what continues it.
            n_prompt: how many of them are the prompt's.
            steerings: what steers it, gates decided; in this order.
        """
        x = self.weights["token_embd.weight"][list(tokens)]
        activations = np.empty((self.n_layer, *x.shape))
        margin = np.inf
        for il in range(self.n_layer):
            x = x + self._attention(self._norm(x, f"blk.{il}.attn_norm"), il)
            x = x + self._feed_forward(self._norm(x, f"blk.{il}.ffn_norm"), il)
            for region, rows in enumerate((slice(n_prompt - 1), slice(n_prompt - 1, n_prompt), slice(n_prompt, None))):
                x[rows], nearest = steered(steerings, x[rows], il, region)
                margin = min(margin, nearest)
            activations[il] = x
        output = "output" if "output.weight" in self.weights else "token_embd"
        return Run(self._product(self._norm(x, "output_norm"), output), activations, margin)

    def _attention(self, x: Floats, il: int) -> Floats:
        n_tokens = len(x)
        q = rotated(self._heads(x, f"blk.{il}.attn_q", self.n_head))
        k = rotated(self._heads(x, f"blk.{il}.attn_k", self.n_head_kv))
        v = self._heads(x, f"blk.{il}.attn_v", self.n_head_kv)
        k, v = (np.repeat(one, self.n_head // self.n_head_kv, axis=0) for one in (k, v))
        scores = q @ k.swapaxes(1, 2) / np.sqrt(self.n_head_dim)
        scores[:, ~np.tri(n_tokens, dtype=bool)] = -np.inf
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        seen = shares / shares.sum(-1, keepdims=True) @ v
        return self._product(seen.swapaxes(0, 1).reshape(n_tokens, -1), f"blk.{il}.attn_output")

    def _feed_forward(self, x: Floats, il: int) -> Floats:
        gate = self._product(x, f"blk.{il}.ffn_gate")
        hidden = gate / (1 + np.exp(-gate)) * self._product(x, f"blk.{il}.ffn_up")
        return self._product(hidden, f"blk.{il}.ffn_down")

    def _heads(self, x: Floats, name: str, n_head: int) -> Floats:
        """(n_head, n_tokens, n_head_dim)."""
        heads: Floats = self._product(x, name).reshape(len(x), n_head, self.n_head_dim).swapaxes(0, 1)
        return heads

    def _norm(self, x: Floats, name: str) -> Floats:
        scaled: Floats = x / np.sqrt((x * x).mean(-1, keepdims=True) + self.epsilon) * self.weights[f"{name}.weight"]
        return scaled

    def _product(self, x: Floats, name: str) -> Floats:
        found: Floats = x @ self.weights[f"{name}.weight"].T
        return found


def rotated(x: Floats) -> Floats:
    """Rotary positions of (n_head, n_tokens, n_head_dim): pairs of neighbors are turned, at llama.cpp's own base.

    Source: GGML_ROPE_TYPE_NORMAL, ggml/src/ggml-cpu/ops.cpp of llama.cpp 0.5.0.
    """
    n_tokens, n_dim = x.shape[1:]
    angles = np.arange(n_tokens)[:, None] * 10000.0 ** (-np.arange(0, n_dim, 2) / n_dim)
    turned = (x[..., 0::2] + 1j * x[..., 1::2]) * np.exp(1j * angles)
    return np.stack([turned.real, turned.imag], axis=-1).reshape(x.shape)


def steered(steerings: Sequence[Steering], x: Floats, il: int, region: int) -> tuple[Floats, float]:
    """Rows (n, n_embd) of a region once all have acted at a layer, and the margin as in `Run`."""
    margin = np.inf
    for one in steerings:
        if not len(x) or one.idle or region not in REGIONS[one.positions] or il not in one.vector.directions:
            continue
        t = one.vector.directions[il]
        if one.side != "both" and one.operator in _JUMPS and t.any():
            margin = min(margin, float(np.abs(reference.projection(x, t)).min()))
        x = reference.apply_all((one,), x, il, region)
    return x, margin
