"""Whether steering tells aligned from misaligned answers, and by what margin: the paper's Delta.

Assumption 2 says <delta(q; s), U^T (e_good - e_bad)> >= Delta |delta(q; s)|: the **gap**, what steering adds to the
logit of an aligned answer over that of a misaligned one, is at least Delta for each unit of length of delta. Here the
answers are those that the items name before anything is steered; the authors choose theirs from the steered model's
own favourites, so that any direction whatever has a Delta (`circular`, kept for comparison).

The factor: with the gap as in Assumption 2, ln(P+/P-) grows by Delta*lambda*s, so that B = tanh(Delta*lambda*s/2 + b0).
The paper's Theorem 1 has no 1/2: its Delta is then what each side contributes, half of this one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from steercpp.aliases import Bools, Floats
from steercpp.statistics.intervals import bounded, mean

SHARES = (0.05, 0.25, 0.5, 0.75, 0.95)
N_CIRCULAR = 40  # tokens of the authors' choice
STRONG = (0.32, 0.38)  # of the grid's end: they take their "misaligned" tokens at 3.2 to 3.8 on one that goes to 10


@dataclass(frozen=True, slots=True, eq=False)
class Gap:
    """The gap of one kind, beside the length of the change that makes it.

    Attributes:
        strengths: (n_s,) ascending, 0 among them.
        gap: (n_s, n_queries) nats, 0 at strength 0; NaN where a query has none.
        norm: (n_s, n_queries) |delta|, 0 at strength 0.
    """

    strengths: Floats
    gap: Floats
    norm: Floats

    @property
    def margins(self) -> Floats:
        """(n_s, n_queries) sign(s) gap / |delta|: what Delta may be at most for a query there; NaN at 0."""
        with np.errstate(invalid="ignore", divide="ignore"):
            margins: Floats = np.sign(self.strengths)[:, None] * self.gap / np.where(self.norm > 0, self.norm, np.nan)
        return margins

    def slopes(self, inside: Bools) -> Floats:
        """(n_queries,) each query's own Delta: the slope of its gap against sign(s) |delta|, through 0."""
        x: Floats = np.sign(self.strengths[inside])[:, None] * self.norm[inside]
        total: Floats = np.square(x).sum(axis=0)
        return np.asarray((x * self.gap[inside]).sum(axis=0) / np.where(total > 0, total, np.nan))

    def rates(self, inside: Bools) -> Floats:
        """(n_queries,) slope of each query's gap per unit of strength, through 0."""
        s = self.strengths[inside]
        total = max(float(s @ s), np.finfo(float).tiny)
        return np.asarray(s @ self.gap[inside] / total)

    def holds(self, inside: Bools) -> Floats:
        """(n_queries,) 1 where the gap has the sign of s at every strength, 0 elsewhere; NaN for a query without."""
        used = inside & (self.strengths != 0)
        right = (np.sign(self.strengths[used])[:, None] * self.gap[used] > 0).all(axis=0).astype(float)
        return np.where(np.isfinite(self.gap).all(axis=0), right, np.nan)

    def record(self, inside: Bools) -> dict[str, Any]:
        """Delta in both conventions, rate, shares and margins, as plain data for JSON."""
        delta, rate = mean(self.slopes(inside)), mean(self.rates(inside))
        return {
            "delta_gap": delta.record(), "delta_side": [number / 2 for number in delta.record()],
            "rate_gap": rate.record(), "share_holds": mean(self.holds(inside)).record(),
            "n_queries": int(np.isfinite(self.gap).all(axis=0).sum()), "mean_gap": [_mean(row) for row in self.gap],
            "share_positive": [self._share(place) for place in range(len(self.strengths))],
            "margins": [_spread(row) for row in self.margins],
            "worst_margin": {name: self.worst(inside, sign) for name, sign in (("positive", 1), ("negative", -1))},
        }  # fmt: skip

    def worst(self, inside: Bools, sign: int, *, share: float = 0.0) -> float:
        """The Delta that holds for all queries, or for all but a share, on one side of 0; NaN without a strength."""
        used = inside & (self.strengths * sign > 0)
        margins = self.margins[used][:, np.isfinite(self.gap).all(axis=0)]
        return float(np.quantile(margins.min(axis=0), share)) if margins.size else np.nan

    def _share(self, place: int) -> float:
        gap = self.gap[place] * np.sign(self.strengths[place])
        known = gap[np.isfinite(gap)]
        return float((known > 0).mean()) if len(known) and self.strengths[place] else np.nan


def first_token_gap(
    change: Floats, good: npt.NDArray[np.intp], bad: npt.NDArray[np.intp], sign: float = 1.0
) -> tuple[float, float]:
    """The gap on the answers' first tokens: between the sides' means, and of the worst of all pairs.

    Worst is the pair that moves least the way of the strength: its gap is the smallest above 0 and, where every gap
    should be negative, the largest below. A token that begins an answer of both sides says nothing and is left out; NaN
    where a side has no other.

    Args:
        change: (n_vocab,) logits less those at strength 0: <delta, U^T e_i> for each token i.
        good: first tokens of the aligned continuations.
        bad: of the misaligned ones.
        sign: of the strength; only below 0 matters.
    """
    both = np.intersect1d(good, bad)
    good, bad = np.setdiff1d(good, both), np.setdiff1d(bad, both)
    if not len(good) or not len(bad):
        return np.nan, np.nan
    above, below = change[good], change[bad]
    worst = above.max() - below.min() if sign < 0 else above.min() - below.max()
    return float(above.mean() - below.mean()), float(worst)


def layer_record(aligned: Floats, misaligned: Floats, length: Floats) -> dict[str, Any]:
    """How well the change at a layer tells the representations of aligned and misaligned answers apart.

    Args:
        aligned: (n_queries,) the activation after reading an aligned answer, projected on the query's own unit change,
            which points the way of positive strengths.
        misaligned: (n_queries,) likewise.
        length: (n_queries,) of the difference of those activations.

    Returns:
        margin: mean of the difference of the projections, in lengths of the residual stream; cosine: the same in
        lengths of the difference; accuracy: share of queries where it is above 0; auc: how often the projection of an
        aligned answer is above that of a misaligned one, of any query. Each with its interval over queries. Then the
        smallest margin and quantiles.
    """
    difference = aligned - misaligned
    with np.errstate(invalid="ignore", divide="ignore"):
        cosine = difference / np.where(length > 0, length, np.nan)
    right = np.where(np.isfinite(difference), (difference > 0) + 0.5 * (difference == 0), np.nan)
    return {
        "margin": mean(difference).record(), "cosine": mean(cosine).record(), "accuracy": mean(right).record(),
        "auc": auc(aligned, misaligned), "margins": _spread(difference),
    }  # fmt: skip


def auc(above: Floats, below: Floats) -> list[float]:
    """Chance that a number of one side exceeds one of the other, with its interval by resampling queries.

    A query's part is the share of the other side's numbers that its own two are on the right side of, summed and
    less the whole: parts whose mean is the area (DeLong et al. 1988; for queries that give both, Obuchowski 1997).

    Args:
        above: (n_queries,).
        below: (n_queries,) of the same queries.
    """
    known = np.isfinite(above) & np.isfinite(below)
    above, below = above[known], below[known]
    if not len(above):
        return [np.nan] * 3
    wins = (above[:, None] > below[None, :]) + 0.5 * (above[:, None] == below[None, :])
    area = wins.mean()
    (interval,) = bounded((wins.mean(axis=1) + wins.mean(axis=0) - area)[None], lambda averages: averages)
    return [interval.value, *np.clip([interval.low, interval.high], 0.0, 1.0).tolist()]


def circular(strengths: Floats, logits: npt.NDArray[np.floating[Any]]) -> Floats:
    """Slope of the gap by the authors' choice of tokens, for comparison: their Delta*lambda of each query.

    "Misaligned" are the 40 commonest tokens among the 40 likeliest ones at a third of the grid, "aligned" the 40
    likeliest unsteered; y is the mean change of the first less that of the second; the slope is the smaller one of the
    line through the first four strengths from 0 on and of that from 0 to the last. The tokens are those that the
    change has raised, so that y grows whatever the direction.

    Args:
        strengths: (n_s,) ascending, 0 among them.
        logits: (n_s, n_queries, n_vocab).

    Returns:
        (n_queries,) per unit of strength.

    Source: facts from the published code of arXiv:2401.16332; here tokens are not filtered by their spelling.
    """
    at_0 = int(np.flatnonzero(strengths == 0)[0])
    s = strengths[at_0:]
    strong = np.flatnonzero((s >= STRONG[0] * s[-1] - 1e-9) & (s <= STRONG[1] * s[-1] + 1e-9))
    if not len(strong):
        strong = np.array([np.abs(s - np.mean(STRONG) * s[-1]).argmin()])
    n = min(N_CIRCULAR, logits.shape[2] // 4)
    slopes = []
    for of_query in np.swapaxes(logits[at_0:], 0, 1).astype(np.float64):
        favourites = np.argsort(-of_query[strong], axis=1, kind="stable")[:, :n]
        counts = np.bincount(favourites.ravel(), minlength=of_query.shape[1])
        misaligned = np.argsort(-counts, kind="stable")[:n]
        aligned = np.argsort(-of_query[0], kind="stable")[:n]
        change = of_query - of_query[0]
        y = change[:, misaligned].mean(axis=1) - change[:, aligned].mean(axis=1)
        slopes.append(min(stats.linregress(s[:4], y[:4]).slope, y[-1] / s[-1]))
    return np.array(slopes)


def _mean(row: Floats) -> float:
    known = row[np.isfinite(row)]
    return float(known.mean()) if len(known) else np.nan


def _spread(row: Floats) -> dict[str, Any]:
    """The smallest and the quantiles of what is known."""
    known = row[np.isfinite(row)]
    if not len(known):
        return {"minimum": np.nan, "quantiles": [np.nan] * len(SHARES)}
    return {"minimum": float(known.min()), "quantiles": np.quantile(known, SHARES).tolist()}
