"""How single items respond: the slope of each, how they scatter, how many go the wrong way.

Theorem 1 of the paper speaks of one query: half of ln(P+/P-) rises by at least Delta*lambda per unit of strength. A
curve averaged over queries does not show that. Items that switch at different strengths blur the switch, so the mean
curve is flatter than the items are, and a steep item looks like a shallow one. `Slopes` sets both beside each other.

Far from 0 the log-odds of a real model stop rising (the residual stream is normalized), while B is at its end and shows
nothing of it. So slopes are taken where the mean B still tells strengths apart, see `telling`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from steercpp.aliases import NAN, Bools, Floats
from steercpp.statistics.fits import EDGE, Window, fit_one, least_squares
from steercpp.statistics.forms import TANH
from steercpp.statistics.intervals import CONFIDENCE, FEWEST_ITEMS, RESAMPLES, Interval, resample
from steercpp.statistics.scores import BehaviorScores
from steercpp.statistics.shares import share_bounds

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
SATURATED = 0.95  # of |mean B|: beyond, a fit of B sees no slope
SURE = 1.0 - 1e-12  # the largest |B| whose arctanh is taken


@dataclass(frozen=True, slots=True)
class Share(Interval):
    """A share of counted things, n of `of`, and where the share of all such things lies."""

    n: int = field(kw_only=True)
    of: int = field(kw_only=True)

    def named(self) -> dict[str, Any]:
        """By name, as judgements are written."""
        return {"n": self.n, "of": self.of, "share": self.value, "low": self.low, "high": self.high}


@dataclass(frozen=True, slots=True, eq=False)
class Slopes:
    """Slopes of half ln(P+/P-) per unit of strength, least squares over the strengths of the window.

    Attributes:
        items: (n_items,) of each item: its own Delta*lambda.
        quantiles: of the items, at QUANTILES.
        mean: mean of the items.
        of_mean: slope of arctanh of the mean B: what the average of the items looks like.
        fitted: delta_lambda of the tanh through the mean curve at all strengths; NaN if the curve is flat.
        kept: fitted / mean: what averaging leaves of the items' slopes, 1 where items are alike. NaN where the mean
            slope is not told from 0.
        anti: items of a slope below 0 (anti-steerable).
        window: lowest and highest strength used.
        confidence: of the intervals.
    """

    items: Floats
    quantiles: tuple[float, ...]
    mean: Interval
    of_mean: Interval
    fitted: Interval
    kept: Interval
    anti: Share
    window: Window
    confidence: float

    def record(self) -> dict[str, Any]:
        """Plain data for JSON."""
        quantiles = {f"{q:g}": value for q, value in zip(QUANTILES, self.quantiles, strict=True)}
        return {
            "items": self.items.tolist(), "quantiles": quantiles, "mean": self.mean.named(),
            "of_mean": self.of_mean.named(), "fitted": self.fitted.named(), "kept": self.kept.named(),
            "anti": self.anti.named(), "window": list(self.window), "confidence": self.confidence,
        }  # fmt: skip


def share(n: int, of: int, *, confidence: float = CONFIDENCE) -> Share:
    """A share with its interval, see `share_bounds`."""
    if not of:
        return Share(NAN, NAN, NAN, confidence, n=0, of=0)
    low, high = share_bounds(np.array([n / of]), np.array([float(of)]), tail=(1 - confidence) / 2)
    return Share(n / of, float(low[0]), float(high[0]), confidence, n=n, of=of)


def slopes(
    scores: BehaviorScores,
    *,
    direction: int = 1,
    window: Window | None = None,
    rng: np.random.Generator | None = None,
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
) -> Slopes:
    """Slopes of the items and of their mean.

    Args:
        scores: what was measured.
        direction: 1, or -1 where the vector is used with negative strengths: an item is then anti-steerable whose slope
            is above 0.
        window: strengths to use, both ends included; None: where the mean B tells strengths apart, and all for the fit.
        rng: draws the items; None: seeded with 0.
        resamples: samples of items.
        confidence: of the intervals.

    Raises:
        DegenerateError: fewer than two strengths in the window.
    """
    order = np.argsort(scores.strengths)
    s, b = scores.strengths[order], scores.normalized[order]
    low, high = window or telling(s, b.mean(axis=1))
    items = scores.item_slopes(window=(low - EDGE, high + EDGE))
    inside = (s >= low - EDGE) & (s <= high + EDGE)
    fitted = inside if window else np.ones(len(s), bool)
    mean, of_mean, fit, kept = _numbers(
        s, b, items, inside, fitted, rng or np.random.default_rng(0), resamples, confidence
    )
    wrong = int((items * direction < 0).sum())
    return Slopes(
        items, tuple(float(q) for q in np.quantile(items, QUANTILES)), mean, of_mean, fit, kept,
        share(wrong, len(items), confidence=confidence), (low, high), confidence,
    )  # fmt: skip


def telling(s: Floats, mean_b: Floats) -> Window:
    """Lowest and highest strength of those at which |mean B| is below 0.95; of three in any case, if there are three.

    Args:
        s: (n_s,) strengths, ascending.
        mean_b: (n_s,) mean B there.
    """
    rows = np.flatnonzero(np.abs(mean_b) <= SATURATED)
    low, high = (int(rows[0]), int(rows[-1])) if len(rows) else (int(np.argmin(np.abs(mean_b))),) * 2
    while high - low < 2 and high - low < len(s) - 1:
        low, high = max(low - 1, 0), min(high + 1, len(s) - 1)
    return float(s[low]), float(s[high])


def _numbers(
    s: Floats,
    b: Floats,
    items: Floats,
    inside: Bools,
    fitted: Bools,
    rng: np.random.Generator,
    resamples: int,
    confidence: float,
) -> Sequence[Interval]:
    """Mean slope, slope of the mean, fitted slope and what averaging keeps, with intervals."""
    y = b.mean(axis=1)[fitted]
    u = fit_one(TANH, s[fitted], y)[0] if len(y) > 2 and np.ptp(y) > 0 else np.zeros(2)
    centred = (s[inside] - s[inside].mean()) / ((s[inside] - s[inside].mean()) ** 2).sum()

    def numbers(means: Floats) -> Floats:
        mean, curves = means[:, 0], means[:, 1:]
        of_mean = np.arctanh(np.clip(curves[:, inside], -SURE, SURE)) @ centred
        slope = least_squares(TANH, s[fitted], curves[:, fitted], np.tile(u, (len(curves), 1)))[0][:, 0]
        return np.column_stack([mean, of_mean, slope, slope / np.where(mean == 0.0, 1.0, mean)])

    rows = np.vstack([items, b])
    values, low, high = numbers(rows.mean(axis=1)[None])[0], np.full(4, NAN), np.full(4, NAN)
    if len(items) >= FEWEST_ITEMS:
        drawn = resample(rows, numbers, rng=rng, resamples=resamples, confidence=confidence)
        low, high = drawn.low, drawn.high
    if not u.any():
        values[2:], low[2:], high[2:] = NAN, NAN, NAN
    if len(items) >= FEWEST_ITEMS and low[0] <= 0.0 <= high[0]:  # a ratio to what may be 0 says nothing
        values[3], low[3], high[3] = NAN, NAN, NAN
    ends = zip(values.tolist(), low.tolist(), high.tolist(), strict=True)
    return [Interval(value, bottom, top, confidence) for value, bottom, top in ends]
