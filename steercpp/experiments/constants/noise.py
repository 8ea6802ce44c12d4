"""How steering scatters the logits of wrong answers, and whether as a normal distribution: the paper's sigma.

For a query that has nothing to do with the behavior, x_i = d_i - d_correct is what steering adds to the logit of wrong
token i over that of the correct one. Assumption 3 takes x as random over the wrong tokens, with mean 0 and a standard
deviation lambda*sigma*|s|, and as approximately normal. The paper shows densities of pooled values and no test.

Values of one query share its correct token, and so are not independent; queries are. So everything here is made of
moments per query, averaged over queries that weigh alike, with intervals by resampling queries; and the test of
normality takes one value of each query.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from steercpp.aliases import Floats
from steercpp.statistics.intervals import Interval, bounded

N_MOMENTS = 4
N_DRAWS = 25  # of one value per query, for the test
MOST_TESTED = 5000  # beyond which Shapiro and Wilk's p-value is not tabulated
QUANTILES = np.concatenate([[0.001, 0.005], np.arange(0.01, 0.995, 0.01), [0.995, 0.999]])
CENTRED = 0.5  # a query's mean may be this share of its spread and still count as no bias


def moments(x: Floats, weights: Floats | None = None) -> Floats:
    """Means of x, x^2, x^3, x^4 over the last axis: (..., k) to (..., 4).

    Args:
        x: values; NaN where there is none.
        weights: of them, (..., k), by default alike.
    """
    weights = np.ones_like(x) if weights is None else np.broadcast_to(weights, x.shape)
    weights = np.where(np.isnan(x), 0.0, weights)
    filled = np.nan_to_num(x)
    total = weights.sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        means = [(weights * filled**power).sum(axis=-1) / total for power in range(1, N_MOMENTS + 1)]
    return np.stack(means, axis=-1)


def shape(raw: Floats) -> Floats:
    """Mean, standard deviation, skewness and excess kurtosis from raw moments: (..., 4) to (..., 4)."""
    m1, m2, m3, m4 = np.moveaxis(raw, -1, 0)
    variance = np.maximum(m2 - m1**2, 0.0)
    third = m3 - 3 * m1 * m2 + 2 * m1**3
    fourth = m4 - 4 * m1 * m3 + 6 * m1**2 * m2 - 3 * m1**4
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.stack([m1, np.sqrt(variance), third / variance**1.5, fourth / variance**2 - 3], axis=-1)


@dataclass(frozen=True, slots=True, eq=False)
class Noise:
    """The noise of one choice of wrong tokens.

    Attributes:
        raw: (n_s, n_queries, 4) each query's moments of x over its wrong tokens; 0 at strength 0.
        values: (n_s, n_queries, k) x itself, NaN where a query has fewer; None where only moments are kept.
    """

    raw: Floats
    values: Floats | None = None

    @property
    def spread(self) -> Floats:
        """(n_s, n_queries) standard deviation of each query's own values."""
        return shape(self.raw)[..., 1]

    @property
    def bias(self) -> Floats:
        """(n_s,) mean of x over queries; 0 for the theory."""
        return np.asarray(self._finite()[..., 0].mean(axis=1))

    def rate(self, strengths: Floats, inside: Any) -> tuple[Interval, float]:
        """lambda*sigma: the slope of the pooled standard deviation against |s|, through 0, and its R2.

        Args:
            strengths: (n_s,).
            inside: (n_s,) which of them to use.
        """
        x = np.abs(strengths[inside])
        rows = self.raw[inside][..., :2].transpose(0, 2, 1).reshape(2 * len(x), -1)

        def slope(averages: Floats) -> Floats:
            pairs = averages.reshape(len(averages), len(x), 2)
            spread = np.sqrt(np.maximum(pairs[..., 1] - pairs[..., 0] ** 2, 0.0))
            slopes: Floats = (spread @ x / max(x @ x, np.finfo(float).tiny))[:, None]
            return slopes

        (rate,) = bounded(rows, slope)
        spread = shape(self._finite()[inside].mean(axis=1))[:, 1]
        total = np.square(spread - spread.mean()).sum()
        r2 = 1 - np.square(spread - rate.value * x).sum() / total if total > 0 else np.nan
        return rate, float(r2)

    def shares(self, strengths: Floats, inside: Any, *, r2: float) -> tuple[float, float, float]:
        """Shares of queries whose own spread grows in proportion to |s|, whose mean is small beside it, and both.

        Args:
            strengths: (n_s,).
            inside: (n_s,) which of them to use.
            r2: the least that a query's own line through 0 must explain.
        """
        x, spread = np.abs(strengths[inside]), self.spread[inside]
        slope = x @ spread / (x @ x)
        residual = np.square(spread - np.outer(x, slope)).sum(axis=0)
        total = np.square(spread - spread.mean(axis=0)).sum(axis=0)
        bias = np.abs(self.raw[inside][..., 0]).max(axis=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            held = np.array([1 - residual / total >= r2, bias <= CENTRED * spread.max(axis=0)])
        known = held[:, np.isfinite(spread).all(axis=0)]
        if not known.size:
            return np.nan, np.nan, np.nan
        return float(known[0].mean()), float(known[1].mean()), float(known.all(axis=0).mean())

    def at(self, place: int) -> dict[str, Any]:
        """What the noise is like at one strength, as plain data for JSON."""
        mean, spread, skew, kurtosis = bounded(self.raw[place].T, shape)
        per_query = shape(self._finite()[place])
        record: dict[str, Any] = {
            "mean": mean.record(), "std": spread.record(), "skew": skew.record(), "excess_kurtosis": kurtosis.record(),
            "std_within": float(np.sqrt(np.square(per_query[:, 1]).mean())),
            "std_between": float(per_query[:, 0].std()),
        }  # fmt: skip
        if self.values is not None:
            record["test"] = shapiro(self.values[place])
            record["quantiles"] = quantiles(self.values[place])
        return record

    def _finite(self) -> Floats:
        """The moments of queries that have them at every strength; of one without any where none has."""
        finite = self.raw[:, np.isfinite(self.raw).all(axis=(0, 2))]
        return finite if finite.shape[1] else np.full((len(self.raw), 1, N_MOMENTS), np.nan)


def shapiro(x: Floats) -> dict[str, Any]:
    """Shapiro and Wilk's test of normality on one value of each query, drawn N_DRAWS times.

    Args:
        x: (n_queries, k), NaN where a query has fewer values.

    Returns:
        n: independent values of one draw; w: the median statistic; p: twice the median p-value, at most 1, which is a
        valid p-value however the draws hang together (Rueger 1978); with_p_below: share of draws with p < 0.05.
    """
    rng = np.random.default_rng(0)
    known = [row[np.isfinite(row)] for row in x]
    known = [row for row in known if len(row)][:MOST_TESTED]
    if len(known) < 3 or not np.ptp(np.concatenate(known)):
        return {"n": len(known), "w": np.nan, "p": np.nan, "share_p_below_0.05": np.nan}
    tests = np.array([stats.shapiro([rng.choice(row) for row in known]) for _ in range(N_DRAWS)])
    w, p = np.median(tests, axis=0)
    below = float((tests[:, 1] < 0.05).mean())
    return {"n": len(known), "w": float(w), "p": min(1.0, 2 * float(p)), "share_p_below_0.05": below}


def quantiles(x: Floats) -> dict[str, list[float]]:
    """Quantiles of the pooled values, standardised by their mean and spread, beside the normal distribution's."""
    pooled = x[np.isfinite(x)]
    if not len(pooled) or not np.ptp(pooled):
        return {"normal": [], "measured": []}
    spread = pooled.std()
    measured = np.quantile((pooled - pooled.mean()) / spread, QUANTILES)
    return {"normal": stats.norm.ppf(QUANTILES).tolist(), "measured": measured.tolist()}
