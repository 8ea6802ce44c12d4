"""Numbers with their intervals over queries; read this to see how the measured constants get theirs.

Queries are the sample, as items are in `intervals`: what several tokens or strengths of one query say stays together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from steercpp.statistics.intervals import FEWEST_ITEMS, resample
from steercpp.statistics.scores import Floats

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
