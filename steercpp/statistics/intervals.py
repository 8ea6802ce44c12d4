"""A number with its interval, and intervals by resampling items; read this to see what an interval covers.

The items are the sample: another set of questions would have given other curves, and every item is measured at every
strength, so an item is drawn with its whole row of strengths (paired). Bias-corrected and accelerated intervals
(BCa, Efron 1987) from SciPy, at a level widened for few items (Hesterberg 2015, "What Teachers Should Know About the
Bootstrap", section 5.3: the level at which the interval of a mean equals Student's). In our trials with 12 to 300
items, alike and unlike, this covered the truth in 92 to 98% of studies, where plain percentiles fell to 85%.

`resample` gives the bounds of many numbers as arrays, drawn by the caller's generator; `bounded`, `mean` and `means`
give numbers as `Interval`, seeded, for the measured constants, whose items are queries.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import stats

from steercpp.aliases import Floats

FEWEST_ITEMS = 5  # fewer than these can all lie on one side by chance, more often than one time in twenty
RESAMPLES = 1000
CONFIDENCE = 0.95
SEED = 0  # of intervals that are drawn without a caller's generator
MEMORY = 4_000_000  # numbers in one block of resampled items

Alternative: TypeAlias = Literal["two-sided", "greater", "less"]


@dataclass(frozen=True, slots=True)
class Interval:
    """A number, and between which ends the truth lies with `confidence`; NaN where there are too few items to tell."""

    value: float
    low: float
    high: float
    confidence: float = CONFIDENCE

    def record(self) -> list[float]:
        """[value, low, high] for JSON, as the measured constants are written."""
        return [self.value, self.low, self.high]

    def named(self) -> dict[str, Any]:
        """The same by name, as judgements are written."""
        return {"value": self.value, "low": self.low, "high": self.high}


NOTHING = Interval(np.nan, np.nan, np.nan)


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
    confidence: float = CONFIDENCE,
    alternative: Alternative = "two-sided",
) -> Resampled:
    """Bounds of numbers computed from a sample of items.

    Args:
        items: (n_rows, n_items), n_items >= FEWEST_ITEMS; an item's column stays together.
        statistic: takes means of the rows over items, (m, n_rows), and returns k numbers of each, (m, k).
        rng: draws the items.
        resamples: how many samples to draw.
        confidence: chance of covering the truth.
        alternative: "greater" gives a lower bound only, "less" an upper bound only.
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
            batch=max(1, MEMORY // items.size), confidence_level=level(confidence, n_items, alternative),
            alternative=alternative, method="BCa", rng=rng,
        )  # fmt: skip
    draws = np.asarray(result.bootstrap_distribution, np.float64)
    tail = (1.0 - level(confidence, n_items, alternative)) / (2 if alternative == "two-sided" else 1)
    ends = result.confidence_interval
    return Resampled(_filled(ends.low, draws, tail), _filled(ends.high, draws, 1.0 - tail), draws)


def same(means: Floats) -> Floats:
    """The statistic of `resample` that is the means themselves."""
    return means


def level(confidence: float, n_items: int, alternative: Alternative) -> float:
    """The level at which a bootstrap of n_items covers with chance `confidence`, after Hesterberg 2015."""
    tails = 2 if alternative == "two-sided" else 1
    student = stats.t.isf((1.0 - confidence) / tails, n_items - 1)
    return float(1.0 - tails * stats.norm.sf(np.sqrt(n_items / (n_items - 1)) * student))


def _filled(bound: npt.ArrayLike, draws: Floats, share: float) -> Floats:
    """Plain percentiles where there is no BCa bound: no spread, or every draw on one side of the estimate."""
    bounds = np.asarray(bound, np.float64)
    return np.where(np.isnan(bounds), np.quantile(draws, share, axis=1), bounds)


def bounded(rows: Floats, statistic: Callable[[Floats], Floats], *, resamples: int = RESAMPLES) -> tuple[Interval, ...]:
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
        return tuple(Interval(float(value), np.nan, np.nan) for value in values.tolist())
    drawn = resample(rows, statistic, rng=np.random.default_rng(SEED), resamples=resamples)
    return tuple(Interval(*map(float, row)) for row in zip(values, drawn.low, drawn.high, strict=True))


def mean(values: Floats) -> Interval:
    """The mean over queries of (n_queries,)."""
    return bounded(np.asarray(values, np.float64)[None], same)[0]


def means(rows: Floats) -> tuple[Interval, ...]:
    """The mean over queries of each row of (n_rows, n_queries)."""
    return bounded(rows, same)


def standard_error(values: Floats) -> Floats:
    """(n_s,) standard error of the mean over items of (n_s, n_items); 0 for a single item."""
    n_items = values.shape[1]
    return np.asarray(values.std(axis=1, ddof=1) / np.sqrt(n_items) if n_items > 1 else np.zeros(len(values)))


def mean_columns(name: str, values: Floats, *, rng: np.random.Generator) -> dict[str, Floats]:
    """Columns of a table: means over items, with standard errors and intervals of 95%.

    Args:
        name: of the quantity.
        values: (n_s, n_items).
        rng: draws the items.

    Returns:
        (n_s,) each under `name`, `name_se`, `name_low` and `name_high`; bounds of fewer than 5 items are NaN.
    """
    low = high = np.full(len(values), np.nan)
    if values.shape[1] >= FEWEST_ITEMS:
        drawn = resample(values, same, rng=rng)
        low, high = drawn.low, drawn.high
    columns = {"": values.mean(axis=1), "_se": standard_error(values), "_low": low, "_high": high}
    return {f"{name}{end}": np.asarray(column, np.float64) for end, column in columns.items()}


def t_low(changes: Floats, confidence: float = CONFIDENCE) -> float:
    """Lower bound of a mean by Student's t, one-sided; -inf of a single number.

    Args:
        changes: (n,) numbers.
        confidence: that the mean is not below it.

    >>> round(t_low(np.array([1.0, 2.0, 3.0])), 3)
    0.314
    """
    n = len(changes)
    if n < 2:
        return -np.inf
    error = float(changes.std(ddof=1)) / np.sqrt(n)
    return float(changes.mean() - stats.t.isf(1.0 - confidence, n - 1) * error)
