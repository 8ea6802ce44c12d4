"""The curves that the theory predicts from measured constants; read this for what stands beside the measured ones.

Nothing is fitted to the curve that is predicted. Alignment: each query's own tanh(m s + artanh B0), B0 its B at
strength 0 and m half the slope of its ln(P+/P-) over the two strengths next to 0 on each side; and Theorem 1's bound
from Delta and lambda. Helpfulness: 1 / (1 + a (1 + b^2 s^2 / 2)) of Theorem 2 and its Gaussian form, with each query's
own a = (1 - P0)/P0 and b = lambda*sigma as measured on the logits (beta = 1, alpha(1 - epsilon) = 1); and the Gaussian
form with the measured mean of the noise, which the theory takes to be 0. All are means over queries of their curves.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from steercpp.aliases import Bools, Floats
from steercpp.statistics.intervals import NOTHING, means

DEVIATIONS = ("r2", "largest", "largest_at", "largest_near")
N_NEAR = 2  # strengths on each side of 0 that the slope is taken from
Law: TypeAlias = Callable[[Floats], Floats]


def near(strengths: Floats) -> Bools:
    """(n_s,) the N_NEAR strengths next to 0 on each side, and 0.

    Args:
        strengths: (n_s,) ascending, 0 among them.
    """
    at_0 = int(np.flatnonzero(strengths == 0)[0])
    return np.abs(np.arange(len(strengths)) - at_0) <= N_NEAR


def alignment_curves(strengths: Floats, log_odds_0: Floats, rates: Floats) -> Floats:
    """Each query's B at each strength, (n_s, n_queries), from ln(P+/P-) at 0 and its slope, each (n_queries,)."""
    return np.tanh(0.5 * (np.outer(strengths, rates) + log_odds_0))


def bound_curves(strengths: Floats, log_odds_0: Floats, delta: tuple[float, float], slopes: Floats) -> Floats:
    """Theorem 1's bound: B is at least this above 0 and at most this below; (n_s, n_queries).

    Where Delta is not above 0, some query is steered the wrong way, and the theorem bounds nothing: NaN.

    Args:
        strengths: (n_s,).
        log_odds_0: (n_queries,) ln(P+/P-) at strength 0.
        delta: the least gap per unit of |delta|, below and above 0.
        slopes: (n_queries, 2) lambda of each query below and above 0.
    """
    above = strengths > 0
    delta = (delta[0] if delta[0] > 0 else np.nan, delta[1] if delta[1] > 0 else np.nan)
    grown = np.where(above[:, None], delta[1] * slopes[:, 1], delta[0] * slopes[:, 0]) * strengths[:, None]
    grown[strengths == 0] = 0.0
    return np.tanh(0.5 * (grown + log_odds_0))


def quadratic(b: float) -> Law:
    """What the odds against the correct answer grow by, at each strength: Theorem 2."""
    return lambda s: 1 + np.square(b * s) / 2


def gaussian(b: float, bias: Floats | None = None) -> Law:
    """The same for normal noise, whose mean is `bias` (n_s,), by default 0."""
    return lambda s: np.exp(np.square(b * s) / 2 + (0.0 if bias is None else bias))


def helpfulness_curves(strengths: Floats, p_0: Floats, law: Law) -> Floats:
    """Each query's P(correct), (n_s, n_queries), from that at strength 0, (n_queries,), and a law of its odds."""
    with np.errstate(divide="ignore", over="ignore"):
        odds = (1 - p_0) / p_0
        p: Floats = 1 / (1 + np.outer(law(strengths), odds))
    return p


def deviation(strengths: Floats, measured: Floats, predicted: Floats, used: Bools) -> dict[str, float]:
    """How far a predicted curve is off the measured one.

    Args:
        strengths: (n_s,).
        measured: (n_s,) means over queries.
        predicted: (n_s,) likewise.
        used: (n_s,) strengths that went into the prediction.

    Returns:
        r2: 1 - SSE/SST over all strengths; largest: the greatest distance, and at which strength; largest_near: that
        within `used`.
    """
    off = np.abs(measured - predicted)
    total = np.square(measured - measured.mean()).sum()
    return {
        "r2": float(1 - np.square(off).sum() / total) if total > 0 else np.nan,
        "largest": float(off.max()),
        "largest_at": float(strengths[off.argmax()]),
        "largest_near": float(off[used].max()),
    }


def curve_record(strengths: Floats, items: Floats, measured: Floats, used: Bools) -> dict[str, Any]:
    """A predicted curve with its band over queries and its deviation, as plain data for JSON.

    Args:
        strengths: (n_s,).
        items: (n_s, n_queries) each query's own curve; NaN at strengths where nothing is predicted.
        measured: (n_s, n_queries).
        used: as in `deviation`.
    """
    known: Bools = np.asarray(np.isfinite(items).all(axis=1))
    if not known.any():
        nothing = [np.nan] * len(items)
        return {name: nothing for name in ("mean", "low", "high")} | {name: np.nan for name in DEVIATIONS}
    rows = iter(means(items[known]))
    averages = [next(rows) if is_known else NOTHING for is_known in known]
    return {
        "mean": [average.value for average in averages],
        "low": [average.low for average in averages],
        "high": [average.high for average in averages],
        **deviation(strengths[known], measured[known].mean(axis=1), items[known].mean(axis=1), used[known]),
    }
