"""Bounds of shares that are near 0 or 1; read this to see why no text met is not a share of none.

A share that no item met has no spread, and resampling items would call it certain. Here its bound is the exact one of
Clopper and Pearson 1934, and every other bound is the mid-P one (Lancaster 1961), which covers about as it says at few
cases, too, where Wilson's falls to 91% (half a case expected).

Several texts of an item are no independent cases. As many independent ones as give the mean its scatter stand in their
place, after Korn and Graubard 1998 ("Confidence intervals for proportions with small expected number of positive counts
estimated from survey data"): mean (1 - mean) / its variance, at least one for each item and at most one for each text.
The difference of two shares squares and adds the distances of their bounds (Newcombe 1998, method 10, of Zou and
Donner 2008, "Construction of confidence intervals about effect measures").
"""

from __future__ import annotations

import numpy as np
from scipy import stats
from scipy.special import betainc

from steercpp.aliases import Bools, Floats

STEPS = 50  # halvings of [0, 1]: 1e-15


def mean_bounds(values: Floats, *, tail: float, cases: float = 1.0) -> tuple[Floats, Floats]:
    """Lower and upper bounds of means of shares over items.

    Args:
        values: (n_s, n_items) in [0, 1], each item's share.
        tail: chance that the truth is below the lower bound, and that it is above the upper one.
        cases: independent cases that an item's share is of, at most: its texts; of pass@k, its answers over k.

    Returns:
        (n_s,) each.
    """
    values, n_items = np.round(values, 12), values.shape[1]  # 1 - 1/3 - 2/3 is not quite 0
    mean = values.mean(axis=1)
    off_the_end = np.minimum((values > 0).sum(axis=1), (values < 1).sum(axis=1))
    variance = values.var(axis=1, ddof=1) / n_items if n_items > 1 else np.zeros(len(values))
    # Few items off the end tell little of the scatter, and the less the more of them are off by one case of many: in
    # studies of 60 to 164 items 3 degrees of freedom each held 95% with 4 cases, and 1 with 20 cases.
    freedom = np.clip(np.clip(12 / cases, 1, 3) * off_the_end, 1, max(n_items - 1, 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        n = mean * (1 - mean) / variance * (stats.norm.isf(tail) / stats.t.isf(tail, freedom)) ** 2
    n = np.where(variance > 0, n, np.where(off_the_end > 0, n_items * cases, n_items))  # none off: all may go together
    return share_bounds(mean, np.clip(n, n_items, n_items * max(cases, 1.0)), tail=tail)


def share_columns(name: str, values: Floats, *, confidence: float = 0.95, cases: float = 1.0) -> dict[str, Floats]:
    """Columns of a table: mean shares of items with their two-sided bounds, under `name`, `name_low`, `name_high`.

    Args:
        name: of the quantity.
        values: (n_s, n_items) in [0, 1], each item's share.
        confidence: of the bounds.
        cases: as in `mean_bounds`.
    """
    values = np.asarray(values, np.float64)
    low, high = mean_bounds(values, tail=(1 - confidence) / 2, cases=cases)
    return {name: values.mean(axis=1), f"{name}_low": low, f"{name}_high": high}


def share_bounds(share: Floats, n: Floats, *, tail: float) -> tuple[Floats, Floats]:
    """Mid-P bounds of shares of n cases, exact ones for none and for all; n and share times n need not be whole."""
    none, every = share <= 0, share >= 1
    k = np.where(none | every, n / 2, share * n)
    low, high = np.zeros((2, *k.shape)), np.ones((2, *k.shape))
    for _ in range(STEPS):
        middle = (low + high) / 2
        reached = (betainc(k, n - k + 1, middle) + betainc(k + 1, n - k, middle)) / 2  # P(more) + P(as many) / 2
        beyond: Bools = np.stack([reached[0] > tail, reached[1] > 1 - tail])
        low, high = np.where(beyond, low, middle), np.where(beyond, middle, high)
    met = tail ** (1 / n)  # a share that all n cases meet with chance `tail`
    lower = np.where(none, 0.0, np.where(every, met, low[0]))
    upper = np.where(every, 1.0, np.where(none, 1 - met, high[1]))
    return lower, upper


def difference_bounds(plus: Floats, minus: Floats, *, confidence: float, cases: float = 1.0) -> tuple[Floats, Floats]:
    """Bounds of the difference of the means of two shares that exclude each other, such as aligned and misaligned.

    Args:
        plus: (n_s, n_items) each item's share of the one.
        minus: likewise of the other; together at most 1.
        confidence: of the interval.
        cases: as in `mean_bounds`.

    Returns:
        (n_s,) each.
    """
    tail = (1 - confidence) / 2
    p, m = plus.mean(axis=1), minus.mean(axis=1)
    (p_low, p_high), (m_low, m_high) = (mean_bounds(share, tail=tail, cases=cases) for share in (plus, minus))
    r = _correlation(plus, minus)
    return p - m - _added(p - p_low, m_high - m, r), p - m + _added(p_high - p, m - m_low, r)


def _correlation(plus: Floats, minus: Floats) -> Floats:
    """(n_s,) of two shares over items; where one is the same of all, -1 if there is nothing third, else 0."""
    a, b = (share - share.mean(axis=1, keepdims=True) for share in (plus, minus))
    spread = np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))
    nothing_third = np.isclose((plus + minus).min(axis=1), 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        r = (a * b).sum(axis=1) / spread
    return np.where(nothing_third, -1.0, np.where(spread > 1e-12, r, 0.0))


def _added(a: Floats, b: Floats, r: Floats) -> Floats:
    """Distances added as errors with correlation r are."""
    return np.asarray(np.sqrt(np.maximum(a**2 - 2 * r * a * b + b**2, 0)))
