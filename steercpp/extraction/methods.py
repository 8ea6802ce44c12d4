"""Directions from contrast pairs, one function for each method; read this to choose or add one.

A method of the table `METHODS` takes the activations of the positive and of the negative prompts at one layer, both
(n_pairs, n_embd) float32 with row i of one belonging to row i of the other, and returns a unit vector (n_embd,) float32
that points from negative to positive. `ON_ROWS` holds the same methods as functions of rows that are checked already,
returning a vector of any length; these functions carry the documentation. All compute in float64, and the same
activations give the same direction. All but `random` commute with rotations: in other orthonormal coordinates, more or
fewer as long as they hold the rows, they give the same direction.

docs/methods.md tells them apart by example.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from scipy.linalg import cho_factor, cho_solve, eigh
from scipy.special import expit

from steercpp.aliases import FloatArray
from steercpp.errors import DegenerateError
from steercpp.extraction.pair_rows import Doubles, PairRows, blocks, checked

# FOLD: Directions that a classifier finds between positive and negative activations; read this for what they minim  # noqa
PENALTY = 0.01  # of the logistic probe
SHRINKAGE = 5.0  # of the whitened mean difference
_GRADIENT = 1e-8  # of the logistic objective where it counts as minimised; rounding leaves some 1e-12


def logistic_direction(rows: PairRows) -> Doubles:
    """Weights of a logistic regression that tells positive from negative activations: see `logistic_probe`.

    Raises:
        DegenerateError: the means of both sides are equal, so that all weights are 0.
    """
    return _probe(rows)[0]


def logistic_probe(positive: FloatArray, negative: FloatArray) -> tuple[Doubles, float]:
    """Weights w (n_embd,) and intercept b of the logistic regression that the method `logistic` takes w from.

    They minimise

        J(w, b) = mean over all 2 n_pairs rows x of ln(1 + exp(-y (w.z + b)))  +  PENALTY/2 |w|^2,   z = (x - m) / r

    where y is +1 for positive and -1 for negative rows, m is the mean of all rows and r the root of the mean of
    |x - m|^2: the common scale makes the penalty a pure number. The intercept is not penalised. The gradient is under
    1e-6, and w.(mean of the positive - mean of the negative) > 0.

    Raises:
        ShapeError, InputError, DegenerateError: as `checked` and `logistic_direction`.
    """
    return _probe(checked(positive, negative))


def whitened_mean_difference(rows: PairRows) -> Doubles:
    """Mean difference divided by the covariance within the sides: the axis of linear discriminant analysis.

        w = (S + rho I)^-1 (mean of the positive - mean of the negative),   rho = SHRINKAGE tr(S) / (2 n_pairs - 2)

    S is the pooled covariance: of the rows less the mean of their side, over 2 n_pairs - 2. With fewer rows than
    n_embd, rho is SHRINKAGE times the mean of S's nonzero eigenvalues; with many rows it goes to 0. Where S is 0, as
    with one pair, w is the mean difference.

    Raises:
        DegenerateError: the means are equal.
    """
    basis = None
    if 2 * rows.n_pairs < rows.n_embd:
        rows, basis = rows.in_basis()
    difference = _separation(rows)
    n_free = 2 * rows.n_pairs - 2
    scatter = np.zeros((rows.n_embd, rows.n_embd))
    for side in rows.sides:
        mean = sum(block.sum(axis=0) for block in blocks(side)) / rows.n_pairs
        for block in blocks(side):
            scatter += (block - mean).T @ (block - mean)
    if np.trace(scatter) > n_free * rows.noise**2:
        scatter[np.diag_indices_from(scatter)] += SHRINKAGE * np.trace(scatter) / n_free
        difference = cho_solve(cho_factor(scatter, overwrite_a=True, check_finite=False), difference)
    return difference if basis is None else basis @ difference


def _separation(rows: PairRows) -> Doubles:
    difference = rows.mean_difference()
    if np.linalg.norm(difference) <= rows.noise:
        raise DegenerateError("the means of both sides are equal, so nothing tells them apart; check the pairs' sides")
    return difference


def _probe(rows: PairRows) -> tuple[Doubles, float]:
    basis = None
    if 2 * rows.n_pairs < rows.n_embd:
        rows, basis = rows.in_basis()
    _separation(rows)
    from scipy.optimize import minimize  # which takes as long to import as many an extraction

    objective = _Objective(rows)
    start = np.zeros(rows.n_embd + 1)
    found = minimize(
        objective.value_and_gradient, start, jac=True, hessp=objective.hessian_times, method="trust-ncg",
        options={"gtol": _GRADIENT, "maxiter": 1000},
    )  # fmt: skip
    assert np.linalg.norm(found.jac) < 1e-6, found.message  # the objective is smooth and strictly convex
    weights = found.x[:-1]
    return (weights if basis is None else basis @ weights), float(found.x[-1])


class _Objective:
    """J of `logistic_probe` as a function of w and b together, (n_embd + 1,)."""

    def __init__(self, rows: PairRows) -> None:
        self._sides = rows.sides
        self._n = 2 * rows.n_pairs
        self._labels = np.repeat([1.0, -1.0], rows.n_pairs)
        self._mean: Doubles = sum(block.sum(axis=0) for side in self._sides for block in blocks(side)) / self._n
        squares = (np.square(block - self._mean).sum() for side in self._sides for block in blocks(side))
        self._scale = float(np.sqrt(sum(squares) / self._n))

    def value_and_gradient(self, at: Doubles) -> tuple[float, Doubles]:
        margins = self._labels * self._times(at)
        gradient = self._transposed_times(-self._labels * expit(-margins) / self._n)
        gradient[:-1] += PENALTY * at[:-1]
        return float(np.logaddexp(0, -margins).mean() + PENALTY / 2 * (at[:-1] @ at[:-1])), gradient

    def hessian_times(self, at: Doubles, direction: Doubles) -> Doubles:
        p = expit(self._times(at))
        product = self._transposed_times(p * (1 - p) / self._n * self._times(direction))
        product[:-1] += PENALTY * direction[:-1]
        return product

    def _times(self, at: Doubles) -> Doubles:
        """w.z + b for every row."""
        along = np.concatenate([block @ at[:-1] for side in self._sides for block in blocks(side)])
        margins: Doubles = (along - self._mean @ at[:-1]) / self._scale + at[-1]
        return margins

    def _transposed_times(self, of_rows: Doubles) -> Doubles:
        """Sum over the rows of (z, 1) times a number each."""
        total, start = np.zeros(len(self._mean) + 1), 0
        for side in self._sides:
            for block in blocks(side):
                total[:-1] += of_rows[start : start + len(block)] @ block
                start += len(block)
        total[-1] = of_rows.sum()
        total[:-1] = (total[:-1] - total[-1] * self._mean) / self._scale
        return total


Method: TypeAlias = Callable[[FloatArray, FloatArray], FloatArray]
RowMethod: TypeAlias = Callable[[PairRows], Doubles]


def mean_difference(rows: PairRows) -> Doubles:
    """Mean of the positive minus mean of the negative activations.

    Raises:
        DegenerateError: the means are equal.
    Source: after Rimsky et al. 2024, arXiv:2312.06681 (CAA).
    """
    mean = rows.mean_difference()
    if np.linalg.norm(mean) <= rows.noise:
        raise DegenerateError("the pair differences cancel out, so their mean has no direction; check the pairs' sides")
    return mean


def principal_direction(rows: PairRows) -> Doubles:
    """First principal axis of the pair differences, not centred, pointing so that their mean projection is positive.

    Raises:
        DegenerateError: all pairs have identical activations.
    Source: after Zou et al. 2023, arXiv:2310.01405. Ours: no centring, because the mean difference is the signal.
    """
    axis = _first_axis(rows)
    return -axis if rows.mean_difference() @ axis < 0 else axis


def centred_principal_direction(rows: PairRows) -> Doubles:
    """First principal axis of the centred pair differences, pointing to the positive side of most pairs.

    This is the extraction of the paper (Wolf et al. 2024, arXiv:2401.16332). Centring takes the mean difference away:
    where all pairs differ equally strongly nothing of the behaviour is left, and the axis is that of the noise. Where
    as many pairs point one way as the other, which the paper leaves to chance, the mean of their projections decides.

    Raises:
        DegenerateError: all differences are equal, or there is one pair only.
    """
    return _towards_most(_first_axis(rows, rows.mean_difference()), rows)


def pair_centred_principal_direction(rows: PairRows) -> Doubles:
    """First principal axis of all activations less the midpoint of their pair, to the positive side of most pairs.

    These 2 n_pairs rows are plus and minus half of each difference. Their mean is 0, and so their principal axis is
    that of `principal_direction`; only its sign is found in another way.

    Raises:
        DegenerateError: all pairs have identical activations.
    Source: the pca_center of repeng 0.5, repeng/extract.py.
    """
    return _towards_most(_first_axis(rows), rows)


def random_direction(rows: PairRows) -> Doubles:
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


def _plain(method: RowMethod) -> Method:
    def direction(positive: FloatArray, negative: FloatArray) -> FloatArray:
        found = method(checked(positive, negative))
        unit: FloatArray = (found / np.linalg.norm(found)).astype(np.float32)
        return unit

    direction.__name__, direction.__doc__ = method.__name__, method.__doc__
    return direction


# Each raises what `checked` raises, and the DegenerateError that its function on rows tells of.
METHODS: dict[str, Method] = {name: _plain(method) for name, method in ON_ROWS.items()}


def _first_axis(rows: PairRows, centre: Doubles | None = None) -> Doubles:
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
    axis: Doubles = differences.T @ top if rows.n_pairs <= rows.n_embd else top
    return axis if axis[np.argmax(np.abs(axis))] > 0 else -axis


def _towards_most(axis: Doubles, rows: PairRows) -> Doubles:
    """The axis, turned so that most differences have a positive projection; where as many have not, their mean."""
    balance = sum(float(np.sign(block @ axis).sum()) for block in rows.difference_blocks())
    return -axis if (balance or rows.mean_difference() @ axis) < 0 else axis


def _sha256(side: FloatArray | Doubles) -> bytes:
    digest = hashlib.sha256()
    for block in blocks(side):
        digest.update(block.astype("<f4").tobytes())
    return digest.digest()
