"""Activations of contrast pairs at one layer, checked and ready to compute with; read this to write a method.

All that is computed from them is in float64. The pairs may be many, or lie in a memory-mapped file, so what can be
computed block by block is; the probes alone need all rows together, which `stacked` makes. The pairs may also be far
fewer than the activations are wide: then they fill only a small space, and `coordinates` gives them in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg.lapack import dgeqrf

from steercpp.aliases import FloatArray, Floats
from steercpp.errors import DegenerateError, InputError, ShapeError

_EPSILON = float(np.finfo(np.float32).eps)  # activations are float32: smaller relative differences are rounding
_BLOCK_ELEMENTS = 1 << 20  # 8 MiB of float64
_LAPACK_BLOCK = 64  # columns that dgeqrf works on together, at most


@dataclass(frozen=True, slots=True, eq=False)
class PairRows:
    """Rows of pairs: row i of one side belongs to row i of the other.

    Attributes:
        positive: (n_pairs, n_embd), finite; float32 as measured, or float64 where they are coordinates.
        negative: likewise.
        noise: the length of a difference that is no more than float32 rounding of the activations.
    """

    positive: FloatArray | Floats
    negative: FloatArray | Floats
    noise: float

    @property
    def n_pairs(self) -> int:
        """Number of pairs."""
        return len(self.positive)

    @property
    def n_embd(self) -> int:
        """Width of a row."""
        return int(self.positive.shape[1])

    @property
    def sides(self) -> tuple[FloatArray | Floats, FloatArray | Floats]:
        """Positive and negative rows."""
        return self.positive, self.negative

    def differences(self) -> Floats:
        """Positive minus negative, (n_pairs, n_embd)."""
        return np.subtract(self.positive, self.negative, dtype=np.float64)

    def difference_blocks(self) -> Iterator[Floats]:
        """The differences, some rows at a time."""
        for rows in _slices(self.n_pairs, self.n_embd):
            yield np.subtract(self.positive[rows], self.negative[rows], dtype=np.float64)

    def mean_difference(self) -> Floats:
        """Mean of the differences, (n_embd,)."""
        total = np.zeros(self.n_embd)
        for block in self.difference_blocks():
            total += block.sum(axis=0)
        return total / self.n_pairs

    def take(self, places: npt.NDArray[np.intp]) -> PairRows:
        """The pairs at these places; one may be taken more than once."""
        return PairRows(self.positive[places], self.negative[places], self.noise)

    def labels(self) -> Floats:
        """+1 for each positive, then -1 for each negative row, (2 n_pairs,): what the rows of `stacked` are."""
        return np.repeat([1.0, -1.0], self.n_pairs)

    def stacked(self) -> Floats:
        """The positive and below them the negative rows, (2 n_pairs, n_embd), newly made."""
        return np.concatenate(self.sides, dtype=np.float64)

    def coordinates(self) -> PairRows:
        """The rows in an orthonormal basis of what they span: 2 n_pairs wide where n_embd is more.

        Lengths, angles and projections are those of the rows.
        """
        if 2 * self.n_pairs >= self.n_embd:
            return PairRows(self.positive.astype(np.float64), self.negative.astype(np.float64), self.noise)
        n_rows = 2 * self.n_pairs
        # As scipy's `qr` with mode="r" does, which takes 1.6 times as long because it clears n_embd rows. The columns
        # lie one after the other, as LAPACK wants them.
        factored, *_ = dgeqrf(self.stacked().T, lwork=_LAPACK_BLOCK * n_rows, overwrite_a=True)
        rows = np.ascontiguousarray(np.triu(factored[:n_rows]).T)
        return PairRows(rows[: self.n_pairs], rows[self.n_pairs :], self.noise)


def checked(positive: FloatArray, negative: FloatArray) -> PairRows:
    """The pairs of a layer, if a direction can be looked for in them.

    Args:
        positive: (n_pairs, n_embd) float32; may be memory-mapped. Not modified.
        negative: likewise.

    Raises:
        ShapeError: not two equal (n_pairs >= 1, n_embd >= 1) arrays.
        InputError: an activation is NaN or infinite.
        DegenerateError: all pairs have identical activations, but for rounding.
    """
    if positive.shape != negative.shape or positive.ndim != 2 or positive.size == 0:
        expected = "expected two equal (n_pairs >= 1, n_embd >= 1)"
        raise ShapeError(f"positive {positive.shape}, negative {negative.shape}: {expected}")
    n_pairs, n_embd = positive.shape
    squares = differences = 0.0
    for rows in _slices(n_pairs, n_embd):
        sides = [side[rows].astype(np.float64) for side in (positive, negative)]
        of_pairs = np.einsum("ij,ij->i", sides[0], sides[0]) + np.einsum("ij,ij->i", sides[1], sides[1])
        if not np.isfinite(of_pairs).all():  # squares of float32 numbers cannot overflow here
            place = rows.start + int(np.argmin(np.isfinite(of_pairs)))
            raise InputError(f"pair {place} (counted from 0): its activations are not all finite")
        squares += float(of_pairs.sum())
        differences += float(np.square(sides[0] - sides[1]).sum())
    noise = _EPSILON * float(np.sqrt(squares / (2 * n_pairs)))
    if np.sqrt(differences) <= noise * np.sqrt(n_pairs):
        raise DegenerateError(
            "all contrast pairs have identical activations; take another token or layer, or check the pairs"
        )
    return PairRows(positive, negative, noise)


def blocks(side: FloatArray | Floats) -> Iterator[Floats]:
    """The rows of a side as float64, some at a time."""
    for rows in _slices(*side.shape):
        yield side[rows].astype(np.float64, copy=False)


def _slices(n_rows: int, n_embd: int) -> Iterator[slice]:
    step = max(_BLOCK_ELEMENTS // n_embd, 1)
    for start in range(0, n_rows, step):
        yield slice(start, min(start + step, n_rows))
