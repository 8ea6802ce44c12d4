"""The strength of the largest B + w P: measured, and as the theory predicts it; read this to weigh alignment by hand.

`recommend` keeps helpfulness within a budget. Here it has a price instead: a unit of P(correct) is worth w units of B.
The paper's two theorems give the best strength by themselves (section 3 of the paper, to second order in s):

    B + w P ~ B0 + w P0 + (1 - B0²) Delta*lambda s - w P0 (1 - P0) (lambda*sigma*beta)² s²/2
    r* = (1 - B0²) Delta*lambda / (w P0 (1 - P0) (lambda*sigma*beta)²),  back at its start at 2 r*

What is measured is the earned gain in B (curves.py) and the change of P, so a model that breaks earns nothing. The
formula holds near 0 only. `Predicted` therefore also has the maximum of the fitted curves themselves. Both stand beside
the measured one; where a fit means nothing there is no prediction, and the reason stands instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from steercpp.aliases import NAN, Floats
from steercpp.statistics.curves import Curves, check_preference, earned_gain, regime_of
from steercpp.statistics.fits import FitResult
from steercpp.statistics.forms import OWN_FORMS, Fall, Kept, inner
from steercpp.statistics.intervals import CONFIDENCE, RESAMPLES, Interval
from steercpp.statistics.rounded import fixed

SMALL = 1e-12  # an error that is rounding
FINE = 401  # places on the fitted curves
LEAST_R2 = 0.9  # of a form whose constants the second-order formula takes
CENTRED = ("quadratic", "gaussian", *OWN_FORMS)  # forms that fall from 0, whose b is that of the second-order formula


@dataclass(frozen=True, slots=True)
class Measured:
    """The grid's strength that is worth most: of the largest earned gain in B + w times the change of P.

    Attributes:
        strength: its value, and the lowest and highest strength of the grid that may be the true best.
        gain: its worth. It is the best of several noisy numbers, so a little too high; `low` is what it is at least,
            for that strength.
        break_even: where the worth is back at 0, beyond the maximum; NaN if not within the grid. The rule is that of
            `Recommendation.break_even`.
    """

    strength: Interval
    gain: Interval
    break_even: float

    def record(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {"strength": self.strength.named(), "gain": self.gain.named(), "break_even": self.break_even}


@dataclass(frozen=True, slots=True)
class Predicted:
    """The same from fitted constants; NaN where they do not give it.

    Attributes:
        second_order: r* of the formula above.
        holds: whether r* lies where the formula is an approximation: |Delta*lambda r*| <= 1 and b |r*| <= 1. Beyond, B
            is at its end long before.
        second_order_break_even: 2 r*.
        curves: strength of the largest tanh + w P of the fitted curves, within the strengths measured.
        curves_break_even: where those are back at their value at 0; NaN if not within the strengths measured.
        reason: why something is not there, or "".
    """

    second_order: Interval
    holds: bool
    second_order_break_even: float
    curves: Interval
    curves_break_even: float
    reason: str

    def record(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self) | {"second_order": self.second_order.named(), "curves": self.curves.named()}


@dataclass(frozen=True, slots=True)
class Optimum:
    """Best strength for a weight.

    Attributes:
        weight: w, what a unit of P(correct) is worth in units of B.
        direction: sign of the strengths considered.
        measured: on the grid; what `predicted` is to be compared with.
        predicted: from the fits.
        confidence: of the intervals.
    """

    weight: float
    direction: int
    measured: Measured
    predicted: Predicted
    confidence: float

    def record(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self) | {"measured": self.measured.record(), "predicted": self.predicted.record()}


def optimum(
    curves: Curves,
    *,
    weight: float,
    direction: int = 1,
    alignment: FitResult | None = None,
    helpfulness: Sequence[FitResult] = (),
    resamples: int = RESAMPLES,
    rng: np.random.Generator | None = None,
    confidence: float = CONFIDENCE,
    unpredicted: str = "",
) -> Optimum:
    """The strength of the largest mean B + w P.

    Args:
        curves: what was measured, strength 0 among it.
        weight: w >= 0.
        direction: 1 or -1, the sign of the strengths to consider beside 0. B is towards the aligned answers either way.
        alignment: fit of normalized B.
        helpfulness: fits of P, best first.
        resamples: samples of items.
        rng: draws the items; None: seeded with 0.
        confidence: of the intervals.
        unpredicted: why fits of these curves mean nothing; nothing is predicted then.

    Raises:
        InputError: a weight or direction that does not exist.
    """
    check_preference(direction, weight)
    rng = rng or np.random.default_rng(0)
    rows = np.concatenate([[curves.at_0], curves.outwards(direction)])
    s = curves.strengths[rows]
    b_draws, p_draws = (_draws(n_items, resamples, rng) for n_items in (curves.normalized.shape[1], curves.p.shape[1]))
    alignment_rows, p = [values[rows] for values in curves.alignment], curves.p[rows]

    def worth(b_weights: Floats, p_weights: Floats) -> Floats:
        """(m, n) of items weighted (m, n_items)."""
        change = p_weights @ (p - p[0]).T
        return np.asarray(earned_gain(*(b_weights @ rows.T for rows in alignment_rows), at_0=0) + weight * change)

    evenly = [np.full((1, draws.shape[1]), 1.0 / draws.shape[1]) for draws in (b_draws, p_draws)]
    found = _measured(s, worth(*evenly)[0], worth(b_draws, p_draws), confidence)
    if unpredicted:
        none = Interval(NAN, NAN, NAN, confidence)
        predicted = Predicted(none, False, NAN, none, NAN, unpredicted)
    else:
        predicted = _predicted(s, weight, direction, alignment, helpfulness, confidence)
    return Optimum(weight, direction, found, predicted, confidence)


def _draws(n_items: int, resamples: int, rng: np.random.Generator) -> Floats:
    """(resamples, n_items) how often each item is drawn, as a share."""
    return np.asarray(rng.multinomial(n_items, np.full(n_items, 1.0 / n_items), resamples) / n_items)


def _measured(s: Floats, utility: Floats, draws: Floats, confidence: float) -> Measured:
    """S (n,) from 0 outwards, utility (n,), draws (resamples, n)."""
    tails = (1.0 - confidence) / 2, (1.0 + confidence) / 2
    best = int(np.argmax(utility))
    where = s[_not_surely_worse(utility, draws, confidence)]
    gains = np.quantile(draws[:, best] - draws[:, 0], tails)
    return Measured(
        Interval(float(s[best]), float(where.min()), float(where.max()), confidence),
        Interval(float(utility[best] - utility[0]), float(gains[0]), float(gains[1]), confidence),
        regime_of(s, utility - utility[0]).break_even,
    )


def _not_surely_worse(utility: Floats, draws: Floats, confidence: float) -> npt.NDArray[np.intp]:
    """Indices of the strengths that may be the best: of whose true maximum the set holds with `confidence`.

    A strength is out if another beats it by more than the largest of all such leads is, in resamples, by chance alone
    (multiple comparisons with the best, Hsu 1996, each lead in units of its own error). Where the maximum of a resample
    lies would be too sure: of two equal strengths the luckier one is drawn too often.
    """
    chance = draws - utility
    kept = []
    for j in range(len(utility)):
        lead = chance - chance[:, j : j + 1]
        error = np.maximum(lead.std(axis=0), SMALL)
        limit = np.quantile((lead / error).max(axis=1), confidence)
        if ((utility - utility[j]) / error).max() <= limit:
            kept.append(j)
    return np.array(kept)


def _predicted(
    s: Floats,
    weight: float,
    direction: int,
    alignment: FitResult | None,
    helpfulness: Sequence[FitResult],
    confidence: float,
) -> Predicted:
    none = Interval(NAN, NAN, NAN, confidence)
    if reason := _unusable(weight, direction, alignment, helpfulness):
        return Predicted(none, False, NAN, none, NAN, reason)
    assert alignment is not None
    best = next(fit for fit in helpfulness if fit.valid)
    values, draws = _on_curves(s, weight, alignment, best)
    places = np.linspace(0.0, s[-1], FINE)
    peak = int(values[0].argmax())
    curves = _interval(float(places[peak]), places[draws.argmax(axis=1)], confidence)
    back = regime_of(places, values[0] - values[0][0]).break_even
    centred = next((fit for fit in helpfulness if fit.valid and fit.form in CENTRED), None)
    if centred is None:
        why = "no form that falls from strength 0 fits P(correct), so the second-order formula has no constants"
        return Predicted(none, False, NAN, curves, back, why)
    if centred.r2 < LEAST_R2:
        why = f"no form that falls from strength 0 describes P(correct): R² {fixed(centred.r2, 2)} of the best of them"
        return Predicted(none, False, NAN, curves, back, why)
    r, r_draws = _second_order(weight, alignment, centred)
    if r * direction <= 0:
        why = f"the fitted slope is for the other sign of strength: r* would be {r:.3g}"
        return Predicted(none, False, NAN, curves, back, why)
    holds = abs(r) * max(abs(alignment.params["delta_lambda"].value), centred.params["b"].value) <= 1.0
    return Predicted(_interval(r, r_draws, confidence), holds, 2 * r, curves, back, "")


def _unusable(weight: float, direction: int, alignment: FitResult | None, helpfulness: Sequence[FitResult]) -> str:
    """Why nothing is predicted, or ""."""
    if not weight:
        return "without a weight on P(correct) nothing holds alignment back"
    if alignment is None or not alignment.valid:
        return f"no valid fit of B: {alignment.reason if alignment else 'it was not fitted'}"
    if not any(fit.valid for fit in helpfulness):
        return f"no valid fit of P(correct): {helpfulness[0].reason if helpfulness else 'it was not fitted'}"
    return ""


def _parameters(fit: FitResult) -> Floats:
    """(1, n_parameters) inner coordinates of the fit itself."""
    return inner(fit.shape, np.array([fit.params[name].value for name in fit.shape.parameters]))[None]


def _on_curves(s: Floats, weight: float, alignment: FitResult, helpful: FitResult) -> tuple[Floats, Floats]:
    """Utility of the fitted curves from 0 to the farthest strength: (1, FINE), and (n_draws, FINE) of their draws."""
    places = np.linspace(0.0, s[-1], FINE)

    def utility(u: Floats, v: Floats) -> Floats:
        return alignment.shape.value(u, places) + weight * helpful.shape.value(v, places)

    n = min(len(alignment.draws), len(helpful.draws))
    return utility(_parameters(alignment), _parameters(helpful)), utility(alignment.draws[:n], helpful.draws[:n])


def _second_order(weight: float, alignment: FitResult, helpful: FitResult) -> tuple[float, Floats]:
    """r* of the formula, and (n_draws,) of resampled fits."""
    n = min(len(alignment.draws), len(helpful.draws))
    strengths = []
    for u, v in ((_parameters(alignment), _parameters(helpful)), (alignment.draws[:n], helpful.draws[:n])):
        slope, b_0 = u[:, 0], np.tanh(u[:, 1])
        assert isinstance(helpful.shape, Fall | Kept)
        with np.errstate(divide="ignore", over="ignore"):
            strengths.append((1 - b_0**2) * slope / (weight * helpful.shape.curvature(v)))
    return float(strengths[0][0]), np.asarray(strengths[1])


def _interval(value: float, draws: Floats, confidence: float) -> Interval:
    draws = draws[np.isfinite(draws)]
    if not len(draws):
        return Interval(value, NAN, NAN, confidence)
    low, high = np.quantile(draws, [(1.0 - confidence) / 2, (1.0 + confidence) / 2])
    return Interval(value, float(low), float(high), confidence)
