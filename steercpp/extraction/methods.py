"""Directions from contrast pairs, one function for each method; read this to choose or add one.

A method of the table `METHODS` takes the activations of the positive and of the negative prompts at one layer, both
(n_pairs, n_embd) float32 with row i of one belonging to row i of the other, and returns a unit vector (n_embd,) float32
that points from negative to positive. `ON_ROWS` holds the same methods as functions of rows that are checked already,
returning a vector of any length; these functions carry the documentation. All compute in float64, and the same
activations give the same direction. All but `random` commute with rotations: in other orthonormal coordinates, more or
fewer as long as they hold the rows, they give the same direction.

The means and principal axes take differences of pairs. The two probes, `logistic` and `lda`, look for what tells
positive from negative activations, whichever pair they are of; scikit-learn fits them.

docs/methods.md tells the methods apart by example.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from scipy.linalg import eigh

from steercpp.aliases import FloatArray, Floats
from steercpp.errors import DegenerateError
from steercpp.extraction.pair_rows import PairRows, blocks, checked

Method: TypeAlias = Callable[[FloatArray, FloatArray], FloatArray]
RowMethod: TypeAlias = Callable[[PairRows], Floats]

PENALTY = 0.01  # of the logistic probe
SHRINKAGE = 5.0  # of the whitened mean difference
_GRADIENT = 1e-8  # of the logistic objective where it counts as minimised; rounding leaves some 1e-12


def mean_difference(rows: PairRows) -> Floats:
    """Mean of the positive minus mean of the negative activations.

    Raises:
        DegenerateError: the means are equal.
    Source: after Rimsky et al. 2024, arXiv:2312.06681 (CAA).
    """
    mean = rows.mean_difference()
    if np.linalg.norm(mean) <= rows.noise:
        raise DegenerateError("the pair differences cancel out, so their mean has no direction; check the pairs' sides")
    return mean


def principal_direction(rows: PairRows) -> Floats:
    """First principal axis of the pair differences, not centred, pointing so that their mean projection is positive.

    Raises:
        DegenerateError: all pairs have identical activations.
    Source: after Zou et al. 2023, arXiv:2310.01405. Ours: no centring, because the mean difference is the signal.
    """
    axis = _first_axis(rows)
    return -axis if rows.mean_difference() @ axis < 0 else axis


def centred_principal_direction(rows: PairRows) -> Floats:
    """First principal axis of the centred pair differences, pointing to the positive side of most pairs.

    This is the extraction of the paper (Wolf et al. 2024, arXiv:2401.16332). Centring takes the mean difference away:
    where all pairs differ equally strongly nothing of the behavior is left, and the axis is that of the noise. Where
    as many pairs point one way as the other, which the paper leaves to chance, the mean of their projections decides.

    Raises:
        DegenerateError: all differences are equal, or there is one pair only.
    """
    return _towards_most(_first_axis(rows, rows.mean_difference()), rows)


def pair_centred_principal_direction(rows: PairRows) -> Floats:
    """First principal axis of all activations less the midpoint of their pair, to the positive side of most pairs.

    These 2 n_pairs rows are plus and minus half of each difference. Their mean is 0, and so their principal axis is
    that of `principal_direction`; only its sign is found in another way.

    Raises:
        DegenerateError: all pairs have identical activations.
    Source: the pca_center of repeng 0.5, repeng/extract.py.
    """
    return _towards_most(_first_axis(rows), rows)


def logistic_direction(rows: PairRows) -> Floats:
    """Weights of a logistic regression that tells positive from negative activations.

    w (n_embd,) and an intercept b minimise

        J(w, b) = mean over all 2 n_pairs rows x of ln(1 + exp(-y (w.z + b)))  +  PENALTY/2 |w|^2,   z = (x - m) / r

    where y is +1 for positive and -1 for negative rows, m is the mean of all rows and r the root of the mean of
    |x - m|^2: the common scale makes the penalty a pure number. The intercept is not penalised. The gradient is under
    1e-6, and w.(mean of the positive - mean of the negative) > 0.

    Raises:
        DegenerateError: the means of both sides are equal, so that all weights are 0.
    """
    _check_separation(rows)
    from sklearn.linear_model import LogisticRegression  # which takes longer to import than many an extraction

    x = rows.stacked()
    x -= x.mean(axis=0)
    x /= np.sqrt(np.square(x).sum() / len(x))
    # scikit-learn minimises the sum of the losses times C, plus |w|^2 / 2
    probe = LogisticRegression(C=1 / (PENALTY * len(x)), solver="newton-cg", tol=_GRADIENT, max_iter=1000)
    return np.asarray(probe.fit(x, rows.labels()).coef_[0], np.float64)


def whitened_mean_difference(rows: PairRows) -> Floats:
    """Mean difference divided by the covariance within the sides: the axis of linear discriminant analysis.

        w = (S + rho I)^-1 (mean of the positive - mean of the negative),   rho = SHRINKAGE tr(S) / (2 n_pairs - 2)

    S is the pooled covariance: of the rows less the mean of their side, over 2 n_pairs - 2. With fewer rows than
    n_embd, rho is SHRINKAGE times the mean of S's nonzero eigenvalues; with many rows it goes to 0. Where S is 0, as
    with one pair, w is the mean difference.

    It is found as the ridge regression of +1 and -1 on the rows, which has the same axis and, unlike scikit-learn's
    discriminant analysis, decomposes nothing wider than there are rows.

    Raises:
        DegenerateError: the means are equal.
    """
    difference = _check_separation(rows)
    n_free = 2 * rows.n_pairs - 2
    within = 0.0  # n_free times the trace of S
    for side in rows.sides:
        mean = sum(block.sum(axis=0) for block in blocks(side)) / rows.n_pairs
        within += sum(float(np.square(block - mean).sum()) for block in blocks(side))
    if within <= n_free * rows.noise**2:
        return difference
    from sklearn.linear_model import Ridge

    ridge = Ridge(alpha=SHRINKAGE * within / n_free, solver="cholesky", copy_X=False)
    return np.asarray(ridge.fit(rows.stacked(), rows.labels()).coef_, np.float64)


def _check_separation(rows: PairRows) -> Floats:
    """The mean difference, (n_embd,), if there is one."""
    difference = rows.mean_difference()
    if np.linalg.norm(difference) <= rows.noise:
        raise DegenerateError("the means of both sides are equal, so nothing tells them apart; check the pairs' sides")
    return difference


def random_direction(rows: PairRows) -> Floats:
    """A direction that has nothing to do with the pairs but its sign: the floor that another method must beat.

    Drawn from the normal distribution, seeded by the bytes of the activations, whichever side they are on. It points
    so that the mean projection of the differences is positive.
    """
    sides = sorted(_sha256(side) for side in rows.sides)
    seed = int.from_bytes(hashlib.sha256(b"".join(sides)).digest(), "big")
    drawn = np.random.default_rng(seed).standard_normal(rows.n_embd)
    return -drawn if rows.mean_difference() @ drawn < 0 else drawn


ON_ROWS: dict[str, RowMethod] = {
    "mean": mean_difference,
    "pca": principal_direction,
    "pca-centered": centred_principal_direction,
    "pca-pairs": pair_centred_principal_direction,
    "logistic": logistic_direction,
    "lda": whitened_mean_difference,
    "random": random_direction,
}


BY_MAJORITY = ("pca-centered", "pca-pairs")  # whose sign is that of most pairs


def majority(positive: FloatArray, negative: FloatArray, direction: FloatArray) -> float:
    """Share of the pairs whose difference projects positively on a direction; one that projects to 0 is half a pair.

    Args:
        positive: (n_pairs, n_embd) float32.
        negative: likewise.
        direction: (n_embd,) float32.
    """
    rows = checked(positive, negative)
    signs = np.concatenate([np.sign(block @ direction) for block in rows.difference_blocks()])
    return float((signs.mean() + 1) / 2)


def _on_activations(method: RowMethod) -> Method:
    def direction(positive: FloatArray, negative: FloatArray) -> FloatArray:
        axis = method(checked(positive, negative))
        unit: FloatArray = (axis / np.linalg.norm(axis)).astype(np.float32)
        return unit

    direction.__name__, direction.__doc__ = method.__name__, method.__doc__
    return direction


# Each raises what `checked` raises, and the DegenerateError that its function on rows tells of.
METHODS: dict[str, Method] = {name: _on_activations(method) for name, method in ON_ROWS.items()}


def _first_axis(rows: PairRows, centre: Floats | None = None) -> Floats:
    """First right singular vector of the differences, less `centre` if there is one; its largest component positive.

    Through the smaller of the two Gram matrices, so that never more than min(n_pairs, n_embd) squared is decomposed,
    and that and one more array of min(n_pairs, n_embd) by n_embd is all the memory that it takes.
    """
    if rows.n_pairs <= rows.n_embd:
        differences = rows.differences() if centre is None else rows.differences() - centre
        gram = differences @ differences.T
    else:
        gram = np.zeros((rows.n_embd, rows.n_embd))
        for block in rows.difference_blocks():
            block = block if centre is None else block - centre
            gram += block.T @ block
    if np.trace(gram) <= rows.noise**2 * rows.n_pairs:
        raise DegenerateError(
            "all contrast pairs have identical activations; take another token or layer, or check the pairs"
            if centre is None
            else "centring leaves nothing: all pair differences are equal; use the method mean or pca"
        )
    last = len(gram) - 1
    top = eigh(gram, subset_by_index=(last, last), overwrite_a=True, check_finite=False)[1][:, 0]
    axis: Floats = differences.T @ top if rows.n_pairs <= rows.n_embd else top
    return axis if axis[np.argmax(np.abs(axis))] > 0 else -axis


def _towards_most(axis: Floats, rows: PairRows) -> Floats:
    """The axis, turned so that most differences have a positive projection; where as many have not, their mean."""
    balance = sum(float(np.sign(block @ axis).sum()) for block in rows.difference_blocks())
    return -axis if (balance or rows.mean_difference() @ axis) < 0 else axis


def _sha256(side: FloatArray | Floats) -> bytes:
    digest = hashlib.sha256()
    for block in blocks(side):
        digest.update(block.astype("<f4").tobytes())
    return digest.digest()
