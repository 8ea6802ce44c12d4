"""Confidence intervals by resampling items; read this to see what an interval covers.

The items are the sample: another set of questions would have given other curves, and every item is measured at every
strength, so an item is drawn with its whole row of strengths (paired). Bias-corrected and accelerated intervals
(BCa, Efron 1987) from SciPy, at a level widened for few items (Hesterberg 2015, "What Teachers Should Know About the
Bootstrap", section 5.3: the level at which the interval of a mean equals Student's). In our trials with 12 to 300
items, alike and unlike, this covered the truth in 92 to 98 % of studies, where plain percentiles fell to 85 %.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import stats

from steercpp.aliases import Floats

FEWEST_ITEMS = 5  # fewer than these can all lie on one side by chance, more often than one time in twenty
RESAMPLES = 1000
MEMORY = 4_000_000  # numbers in one block of resampled items

Side: TypeAlias = Literal["two-sided", "greater", "less"]


@dataclass(frozen=True, slots=True)
class Resampled:
    """Bounds of k numbers: low, high (k,), and draws (k, resamples). An open side is infinite."""

    low: Floats
    high: Floats
    draws: Floats


def resample(
    items: Floats,
    statistic: Callable[[Floats], Floats],
    *,
    rng: np.random.Generator,
    resamples: int = RESAMPLES,
    confidence: float = 0.95,
    side: Side = "two-sided",
) -> Resampled:
    """Bounds of numbers computed from a sample of items.

    Args:
        items: (n_rows, n_items), n_items >= FEWEST_ITEMS; an item's column stays together.
        statistic: takes means of the rows over items, (m, n_rows), and returns k numbers of each, (m, k).
        rng: draws the items.
        resamples: how many samples to draw.
        confidence: chance of covering the truth.
        side: "greater" gives a lower bound only, "less" an upper bound only.
    """
    n_items = items.shape[1]
    assert n_items >= FEWEST_ITEMS

    def of_samples(*sample: Floats, axis: int) -> Floats:
        means = sample[0].mean(axis=axis)
        numbers: Floats = statistic(np.atleast_2d(means.T)).T
        return numbers if means.ndim > 1 else numbers[:, 0]

    with warnings.catch_warnings():
        # numbers that are the same in every resample have no BCa interval; `_filled` gives them one
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        warnings.filterwarnings("ignore", "invalid value|divide by zero", RuntimeWarning)
        result = stats.bootstrap(
            (items,), of_samples, axis=-1, vectorized=True, n_resamples=resamples,
            batch=max(1, MEMORY // items.size), confidence_level=level(confidence, n_items, side),
            alternative=side, method="BCa", rng=rng,
        )  # fmt: skip
    draws = np.asarray(result.bootstrap_distribution, np.float64)
    tail = (1.0 - level(confidence, n_items, side)) / (2 if side == "two-sided" else 1)
    interval = result.confidence_interval
    return Resampled(_filled(interval.low, draws, tail), _filled(interval.high, draws, 1.0 - tail), draws)


def level(confidence: float, n_items: int, side: Side) -> float:
    """The level at which a bootstrap of n_items covers with chance `confidence`, after Hesterberg 2015."""
    tails = 2 if side == "two-sided" else 1
    student = stats.t.isf((1.0 - confidence) / tails, n_items - 1)
    return float(1.0 - tails * stats.norm.sf(np.sqrt(n_items / (n_items - 1)) * student))


def _filled(bound: npt.ArrayLike, draws: Floats, share: float) -> Floats:
    """Plain percentiles where there is no BCa bound: no spread, or every draw on one side of the estimate."""
    found = np.asarray(bound, np.float64)
    return np.where(np.isnan(found), np.quantile(draws, share, axis=1), found)


# FOLD: Numbers with their intervals over queries; read this to see how the measured constants get theirs. | Querie  # noqa
SEED = 0


@dataclass(frozen=True, slots=True)
class Bounded:
    """A number and its 95 % interval; the bounds are NaN where there are too few queries for one."""

    value: float
    low: float
    high: float

    def record(self) -> list[float]:
        """[value, low, high] for JSON."""
        return [self.value, self.low, self.high]


NOTHING = Bounded(np.nan, np.nan, np.nan)


def bounded(rows: Floats, statistic: Callable[[Floats], Floats], *, resamples: int = 1000) -> tuple[Bounded, ...]:
    """Numbers of the queries' means, with intervals by resampling queries; the same rows give the same intervals.

    Args:
        rows: (n_rows, n_queries); a query with a number that is not finite is left out.
        statistic: from means of the rows, (m, n_rows), to k numbers of each, (m, k).
        resamples: samples of queries to draw.

    Returns:
        k numbers; all NaN without a query.
    """
    rows = np.asarray(rows, np.float64)
    rows = rows[:, np.isfinite(rows).all(axis=0)]
    if not rows.shape[1]:
        return (NOTHING,) * int(statistic(np.ones((1, len(rows)))).shape[1])
    values = statistic(rows.mean(axis=1)[None])[0]
    if rows.shape[1] < FEWEST_ITEMS:
        return tuple(Bounded(float(value), np.nan, np.nan) for value in values.tolist())
    found = resample(rows, statistic, rng=np.random.default_rng(SEED), resamples=resamples)
    return tuple(Bounded(*map(float, row)) for row in zip(values, found.low, found.high, strict=True))


def mean(values: Floats) -> Bounded:
    """The mean over queries of (n_queries,)."""
    return bounded(np.asarray(values, np.float64)[None], lambda means: means)[0]


def means(rows: Floats) -> tuple[Bounded, ...]:
    """The mean over queries of each row of (n_rows, n_queries)."""
    found: tuple[Bounded, ...] = bounded(rows, lambda averages: averages)
    return found


def standard_error(values: Floats) -> Floats:
    """(n_s,) standard error of the mean over items of (n_s, n_items); 0 for a single item."""
    n_items = values.shape[1]
    spread: Floats = values.std(axis=1, ddof=1) / np.sqrt(n_items) if n_items > 1 else np.zeros(len(values))
    return spread
