"""Types of a model file's weights, and how fast this CPU multiplies with each; read this where a model is slow.

llama.cpp lays the weights of some types out anew for kernels of their own, or multiplies them in tiles; which types
these are depends on the CPU and the build. With others the same model takes several times as long.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import steercpp.engine.model  # noqa: F401, before _native: it loads llama.cpp, and keeps its log
from steercpp import _native

N_TOKENS = 256  # of the products, as many as a batch has by default
_N_ROUNDS = 7
_MOST_WEIGHTS = 2**22  # of the products: as many take milliseconds, and more of them not longer for each


@dataclass(frozen=True, slots=True)
class Matrices:
    """Matrices of a model's blocks that have one type.

    Attributes:
        type: as ggml names it, "q4_1".
        share: of all weights of the blocks' matrices.
        n_in, n_out: values of a row, and rows, of most of them.
    """

    type: str
    share: float
    n_in: int
    n_out: int


@dataclass(frozen=True, slots=True)
class Speed:
    """How fast products with weights of a type are.

    Attributes:
        type: as ggml names it.
        bits: of a weight in the file.
        seconds: of a product, the fastest of several: other programs disturb what takes milliseconds.
        is_repacked: whether llama.cpp lays such weights out anew for kernels of their own.
    """

    type: str
    bits: float
    seconds: float
    is_repacked: bool


def block_matrices(path: Path) -> tuple[Matrices, ...]:
    """The types of a model's blocks, of most weights first; what each prompt token is multiplied with.

    Args:
        path: a GGUF file. Empty where llama.cpp cannot read it, or it has no blocks.
    """
    sizes: Counter[tuple[str, int, int]] = Counter()
    for name, type_, n_in, n_out in _native.tensors(os.fsencode(path)):
        if name.startswith(b"blk.") and n_out > 1:
            sizes[type_, n_in, n_out] += n_in * n_out
    by_type: Counter[str] = Counter()
    for (type_, _, _), n_weights in sizes.items():
        by_type[type_] += n_weights
    found = []
    for type_, n_weights in by_type.most_common():
        _, n_in, n_out = max((key for key in sizes if key[0] == type_), key=lambda key: sizes[key])
        found.append(Matrices(type_, n_weights / by_type.total(), n_in, n_out))
    return tuple(found)


def time_types(types: Iterable[str], *, n_in: int, n_out: int, threads: int) -> dict[str, Speed]:
    """Time products of 256 tokens with matrices of each type on this CPU; the types take turns.

    Args:
        types: as ggml names them.
        n_in: values of a row.
        n_out: rows, of which no more are taken than needed.
        threads: CPU threads.

    Raises:
        ValueError: ggml does not know a type, or cannot cut rows of n_in values into its blocks.

    >>> speeds = time_types(["q4_0", "q4_1"], n_in=2048, n_out=2048, threads=1)
    >>> sorted(speeds), speeds["q4_1"].bits
    (['q4_0', 'q4_1'], 5.0)
    """
    n_rows = max(min(n_out, _MOST_WEIGHTS // n_in) // 64, 1) * 64  # whole tiles of every kernel
    timed = _native.weight_speeds(
        list(types), n_in=n_in, n_out=n_rows, n_tokens=N_TOKENS, n_threads=threads, n_rounds=_N_ROUNDS
    )
    return {
        type_: Speed(type_, bits, min(seconds), is_repacked="REPACK" in buffer)
        for type_, bits, buffer, seconds in timed
    }
