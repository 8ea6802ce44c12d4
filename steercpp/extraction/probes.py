"""Directions that a classifier finds between positive and negative activations; read this for what they minimise.

Both look at the activations themselves, not at the differences of pairs: what is common to the two sides of a pair but
varies between pairs is noise that they turn away from. Where 2 n_pairs < n_embd they are solved in the 2 n_pairs
coordinates of the space that the rows span, outside of which neither has a component.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.special import expit

from steercpp.errors import DegenerateError
from steercpp.extraction.pair_rows import Doubles, PairRows, blocks, checked
from steercpp.vectors.control_vector import FloatArray

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
