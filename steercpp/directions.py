"""Directions from contrast pairs, one function for each method; read this to choose or add one.

Every method takes the activations of the positive and of the negative prompts at one layer, both (n_pairs, n_embd)
float32 with row i of one belonging to row i of the other, and returns a unit vector (n_embd,) float32 that points from
negative to positive. All compute in float64 and draw nothing: the same activations give the same direction.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.linalg import eigh

from steercpp.control_vector import FloatArray
from steercpp.errors import DegenerateError, InputError, ShapeError

Doubles: TypeAlias = npt.NDArray[np.float64]
Method: TypeAlias = Callable[[FloatArray, FloatArray], FloatArray]

_EPSILON = float(np.finfo(np.float32).eps)  # activations are float32: smaller relative differences are rounding


def mean_difference(positive: FloatArray, negative: FloatArray) -> FloatArray:
    """Mean of the positive minus mean of the negative activations.

    Raises:
        ShapeError: not two equal (n_pairs >= 1, n_embd >= 1) arrays.
        DegenerateError: the means are equal.
        InputError: an activation is NaN or infinite.
    Source: after Rimsky et al. 2024, arXiv:2312.06681 (CAA).
    """
    differences, noise = _differences(positive, negative)
    mean = differences.mean(axis=0)
    if np.linalg.norm(mean) <= noise:
        raise DegenerateError("the pair differences cancel out, so their mean has no direction; check the pairs' sides")
    return _unit(mean)


def principal_direction(positive: FloatArray, negative: FloatArray) -> FloatArray:
    """First principal axis of the pair differences, not centred, pointing so that their mean projection is positive.

    Raises:
        ShapeError, InputError: as `mean_difference`.
        DegenerateError: all pairs have identical activations.
    Source: after Zou et al. 2023, arXiv:2310.01405. Ours: no centring, because the mean difference is the signal.
    """
    differences, _ = _differences(positive, negative)
    axis = _first_axis(differences)
    return _unit(-axis if differences.mean(axis=0) @ axis < 0 else axis)


def centred_principal_direction(positive: FloatArray, negative: FloatArray) -> FloatArray:
    """First principal axis of the centred pair differences, pointing to the positive side of most pairs.

    This is the extraction of the paper (Wolf et al. 2024, arXiv:2401.16332). Centring takes the mean difference away:
    where all pairs differ equally strongly nothing of the behaviour is left, and the axis is that of the noise.

    Raises:
        ShapeError, InputError: as `mean_difference`.
        DegenerateError: all differences are equal, or there is one pair only.
    """
    differences, noise = _differences(positive, negative)
    centred = differences - differences.mean(axis=0)
    if np.linalg.norm(centred) <= noise * np.sqrt(len(centred)):
        raise DegenerateError("centring leaves nothing: all pair differences are equal; use the method mean or pca")
    axis = _first_axis(centred)
    return _unit(-axis if np.sign(differences @ axis).sum() < 0 else axis)


METHODS: dict[str, Method] = {
    "mean": mean_difference,
    "pca": principal_direction,
    "pca-centered": centred_principal_direction,
}


def explained_share(positive: FloatArray, negative: FloatArray, direction: FloatArray) -> float:
    """Share of the pair differences' squared length that lies along a unit direction, 0..1.

    Raises:
        ShapeError, InputError, DegenerateError: as `principal_direction`.
    """
    differences, _ = _differences(positive, negative)
    along = differences @ direction.astype(np.float64)
    return float(min(along @ along / np.square(differences).sum(), 1.0))


def _differences(positive: FloatArray, negative: FloatArray) -> tuple[Doubles, float]:
    """Differences (n_pairs, n_embd), and the length of one that is no more than float32 rounding."""
    if positive.shape != negative.shape or positive.ndim != 2 or positive.size == 0:
        expected = "expected two equal (n_pairs >= 1, n_embd >= 1)"
        raise ShapeError(f"positive {positive.shape}, negative {negative.shape}: {expected}")
    both = np.stack([positive, negative]).astype(np.float64)
    finite = np.isfinite(both).all(axis=(0, 2))
    if not finite.all():
        raise InputError(f"pair {int(np.argmin(finite))} (counted from 0): its activations are not all finite")
    noise = _EPSILON * float(np.sqrt(np.square(both).sum(axis=2).mean()))
    differences = both[0] - both[1]
    if np.linalg.norm(differences) <= noise * np.sqrt(len(differences)):
        raise DegenerateError("all contrast pairs have identical activations; check the pair file for duplicates")
    return differences, noise


def _first_axis(rows: Doubles) -> Doubles:
    """First right singular vector of (n_pairs, n_embd) rows, its largest component positive.

    Through the smaller of the two Gram matrices, so that never more than min(n_pairs, n_embd) squared is decomposed.
    """
    n_pairs, n_embd = rows.shape
    gram = rows @ rows.T if n_pairs <= n_embd else rows.T @ rows
    last = len(gram) - 1
    top = eigh(gram, subset_by_index=(last, last))[1][:, 0]
    axis: Doubles = rows.T @ top if n_pairs <= n_embd else top
    return axis if axis[np.argmax(np.abs(axis))] > 0 else -axis


def _unit(direction: Doubles) -> FloatArray:
    unit: Doubles = direction / np.linalg.norm(direction)
    return unit.astype(np.float32)
