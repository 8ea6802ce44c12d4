"""A number with its interval, and intervals by resampling items; read this to see what an interval covers.

The items are the sample: another set of questions would have given other curves, and every item is measured at every
strength, so an item is drawn with its whole row of strengths (paired). Bias-corrected and accelerated intervals
(BCa, Efron 1987), at a level widened for few items (Hesterberg 2015, "What Teachers Should Know About the
Bootstrap", section 5.3: the level at which the interval of a mean equals Student's). In our trials with 12 to 300
items, alike and unlike, this covered the truth in 92 to 98% of studies, where plain percentiles fell to 85%. Strong
skew is covered less: means of lognormal numbers (sigma 1.5) in 82% of samples of 20 items and in 90% of 300. Rare
shares have intervals of their own, shares.py.

All numbers follow from means over items. So the means of a resample, and those without one item, are found without
copying items; the intervals are those of SciPy's `bootstrap`, whose time is quadratic in the number of items. More than
4,000 items are first averaged in 4,000 groups that are drawn at random: these vary as the items do, and the width of an
interval is uncertain by 1% more.

`resample` gives the bounds of many numbers as arrays, drawn by the caller's generator; `bounded`, `mean` and `means`
give numbers as `Interval`, seeded, for the measured constants, whose items are queries.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from scipy import special, stats

from steercpp.aliases import Floats

FEWEST_ITEMS = 5  # fewer than these can all lie on one side by chance, more often than one time in twenty
RESAMPLES = 1000
CONFIDENCE = 0.95
SEED = 0  # of intervals that are drawn without a caller's generator
MEMORY = 4_000_000  # draws in one block of resamples
_ROUNDING = 1e-12  # of sums over thousands of items, relative
MOST_ITEMS = 4000  # that are resampled one by one

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
    assert items.shape[1] >= FEWEST_ITEMS
    used = _grouped(items)
    least, most = items.min(axis=1), items.max(axis=1)  # which the mean of groups could leave

    def of(means: Floats) -> Floats:
        with np.errstate(invalid="ignore", divide="ignore"):  # a ratio of what few items have
            return statistic(np.clip(means, least, most))

    draws = of(_means_of_resamples(used, rng, resamples)).T
    estimate = statistic(items.mean(axis=1)[None])[0]

    # the level that is asked for, moved by the draws' bias and by how the spread changes with the number itself
    alpha = 1.0 - level(confidence, items.shape[1], alternative)
    shares = {"two-sided": (alpha / 2, 1.0 - alpha / 2), "greater": (alpha, None), "less": (None, 1.0 - alpha)}
    bias = special.ndtri(_share_below(draws, estimate))
    acceleration = _acceleration(of(_means_without_one(used)))

    def bound(share: float | None, open_end: float) -> Floats:
        if share is None:
            return np.full(len(draws), open_end)
        with np.errstate(invalid="ignore", divide="ignore"):
            shifted = bias + special.ndtri(share)
            moved = special.ndtr(bias + shifted / (1.0 - acceleration * shifted))
        # no spread, or every draw on one side of the estimate: plain percentiles
        return _quantiles(draws, np.where(np.isfinite(moved), moved, share))

    low, high = shares[alternative]
    return Resampled(bound(low, -np.inf), bound(high, np.inf), draws)


def _grouped(items: Floats) -> Floats:
    """At most MOST_ITEMS columns that have the items' mean and vary as they do, drawn always alike.

    A group's column is its sum's distance from what the mean would give, as large as it counts among so few.
    """
    n_items = items.shape[1]
    if n_items <= MOST_ITEMS:
        return items
    order = np.random.default_rng(SEED).permutation(n_items)
    starts = np.arange(MOST_ITEMS) * n_items // MOST_ITEMS
    mean = items.mean(axis=1, keepdims=True)
    return np.asarray(mean + np.add.reduceat((items - mean)[:, order], starts, axis=1) * (MOST_ITEMS / n_items))


def _means_of_resamples(items: Floats, rng: np.random.Generator, resamples: int) -> Floats:
    """(resamples, n_rows) means of the rows over items drawn with replacement."""
    n_items = items.shape[1]
    mean = items.mean(axis=1)
    around = items.T - mean
    around[:, np.ptp(items, axis=1) == 0] = 0.0  # nor does rounding move a mean of equal items
    means = np.empty((resamples, len(items)))
    at_once = max(1, MEMORY // n_items)
    for start in range(0, resamples, at_once):
        n = min(at_once, resamples - start)
        drawn = rng.integers(0, n_items, (n, n_items)) + n_items * np.arange(n)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=n * n_items).reshape(n, n_items)
        means[start : start + n] = mean + counts.astype(np.float64) @ around / n_items
    return means


def _means_without_one(items: Floats) -> Floats:
    """(n_items, n_rows) means of the rows over all items but one."""
    n_items = items.shape[1]
    return np.asarray((n_items * items.mean(axis=1) - items.T) / (n_items - 1))


def _share_below(draws: Floats, estimate: Floats) -> Floats:
    """(k,) share of the draws of each number that are below its estimate; those equal but for rounding count half."""
    above = draws - estimate[:, None]
    rounding = _ROUNDING * np.abs(draws).max(axis=1, keepdims=True)
    return np.asarray(((above < -rounding).mean(axis=1) + (above <= rounding).mean(axis=1)) / 2)


def _acceleration(without_one: Floats) -> Floats:
    """(k,) of numbers without each of n items, (n, k): a sixth of their skewness over the root of n, as of a mean."""
    distances = without_one.mean(axis=0) - without_one
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((distances**3).sum(axis=0) / (6.0 * ((distances**2).sum(axis=0)) ** 1.5))


def _quantiles(draws: Floats, shares: Floats) -> Floats:
    """(k,) of the draws of each number (k, resamples) the quantile at its own share."""
    return np.array([np.quantile(of_number, share) for of_number, share in zip(draws, shares, strict=True)])


def same(means: Floats) -> Floats:
    """The statistic of `resample` that is the means themselves."""
    return means


def level(confidence: float, n_items: int, alternative: Alternative) -> float:
    """The level at which a bootstrap of n_items covers with chance `confidence`, after Hesterberg 2015."""
    tails = 2 if alternative == "two-sided" else 1
    student = stats.t.isf((1.0 - confidence) / tails, n_items - 1)
    return float(1.0 - tails * stats.norm.sf(np.sqrt(n_items / (n_items - 1)) * student))


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
