"""The strength to use: the surest gain in alignment within a budget of helpfulness. Read this to see how it is chosen.

Both measures come from samples of items, so both the gain and the loss are bounded one-sidedly by resampling items
(`intervals`). Strengths are taken in order from 0 outwards and the walk ends at the first whose loss may exceed the
budget: a stronger one that looks harmless again is beyond a place that was not. The best of many noisy gains looks
better than it is, so one half of the items chooses and the other half, which had no say, gives the reported figures.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from steercpp.errors import InputError, ShapeError, StrengthError
from steercpp.intervals import FEWEST_ITEMS, RESAMPLES, resample
from steercpp.scoring import BehaviorScores, ChoiceScores, Floats

Measure: TypeAlias = Literal["p_free", "p_restricted", "correct"]
Indices: TypeAlias = npt.NDArray[np.intp]
NAN = float("nan")


@dataclass(frozen=True, slots=True)
class Evidence:
    """What one half of the items says about one strength.

    gain is mean raw B(s) - mean raw B(0), gain_low its lower bound; loss is 1 - mean P(s)/mean P(0), loss_high its
    upper bound. n_behavior and n_choice count the items of the half.
    """

    n_behavior: int
    n_choice: int
    gain: float
    gain_low: float
    loss: float
    loss_high: float


@dataclass(frozen=True, slots=True)
class Recommendation:
    """A strength, or None with the reason; figures that do not exist are NaN.

    Attributes:
        strength: where to steer, None if no strength qualifies.
        reason: why that one, or why none.
        gain, gain_low, loss, loss_high: see `Evidence`; of the half that did not choose.
        b_normalized_at_0, b_normalized: mean normalised B there, of the same half (of all items if none).
        confirmed: the half that did not choose bounds gain above 0 and loss within the budget as well.
        break_even: strength at which mean raw B + weight P is back at its unsteered value; NaN if not in the grid.
        efficient_regime: (low, high) strengths from 0 to the largest mean raw B + weight P before that point: the range
            in which more steering still buys more alignment than it costs helpfulness (paper 1.6). Of all items.
        chosen_on, reported_on: the two halves' evidence.
        max_loss, confidence, direction, weight, measure: as asked.
    """

    strength: float | None
    reason: str
    gain: float
    gain_low: float
    loss: float
    loss_high: float
    b_normalized_at_0: float
    b_normalized: float
    confirmed: bool
    break_even: float
    efficient_regime: tuple[float, float]
    chosen_on: Evidence | None
    reported_on: Evidence | None
    max_loss: float
    confidence: float
    direction: int
    weight: float
    measure: Measure

    def record(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class _Curves:
    """Both measures at the same strengths, ascending: raw and normalised B (n_s, n_items), P (n_s, n_choice_items)."""

    strengths: Floats
    raw: Floats
    normalized: Floats
    p: Floats

    @property
    def at_0(self) -> int:
        """Row of strength 0."""
        return int(np.flatnonzero(self.strengths == 0.0)[0])

    def outwards(self, direction: int) -> Indices:
        """Rows of the strengths of that sign, weakest first."""
        rows = np.flatnonzero(self.strengths * direction > 0)
        return rows[np.argsort(np.abs(self.strengths[rows]))]

    def halves(self, rng: np.random.Generator) -> tuple[_Curves, _Curves]:
        """The items of each measure, dealt at random into two halves."""
        b, p = (rng.permutation(n) for n in (self.raw.shape[1], self.p.shape[1]))
        return self._take(b[::2], p[::2]), self._take(b[1::2], p[1::2])

    def _take(self, b: Indices, p: Indices) -> _Curves:
        return _Curves(self.strengths, self.raw[:, b], self.normalized[:, b], self.p[:, p])


def recommend(
    behavior: BehaviorScores,
    choice: ChoiceScores,
    *,
    direction: int = 1,
    max_loss: float = 0.05,
    measure: Measure = "p_free",
    weight: float = 1.0,
    resamples: int = RESAMPLES,
    rng: np.random.Generator | None = None,
    confidence: float = 0.95,
) -> Recommendation:
    """Choose the strength with the highest lower bound of raw B gain among those within the budget.

    Args:
        behavior: alignment of every item at every strength.
        choice: helpfulness, at the same strengths.
        direction: 1 or -1, the sign of the strengths to consider. The gain is towards the aligned answers either way:
            a vector that points to the misaligned ones is used with -1.
        max_loss: budget; the upper bound of the loss may not exceed it.
        measure: which P(correct) the loss is of.
        weight: of P beside B, for break_even and efficient_regime only.
        resamples: samples of items for the bounds.
        rng: splits and draws the items; None: seeded with 0.
        confidence: of each one-sided bound.

    Raises:
        ShapeError: the two were not measured at the same strengths.
        StrengthError: 0 is not among them.
        InputError: a direction, budget, measure, weight or confidence that does not exist.
    """
    _check_options(direction, max_loss, measure, weight, confidence)
    curves = _curves(behavior, choice, measure)
    rng = rng or np.random.default_rng(0)
    chooser, reporter = curves.halves(rng)
    rows = curves.outwards(direction)
    reason = _unusable(curves, rows, direction)
    chosen = reported = None
    if not reason:
        evidence = _evidence(chooser, rows, rng, resamples, confidence)
        best, reason = _choose(curves.strengths[rows], evidence, max_loss)
        if best is not None:
            rows, chosen = rows[[best]], evidence[best]
            reported = _evidence(reporter, rows, rng, resamples, confidence)[0]
    confirmed = reported is not None and reported.gain_low > 0 and reported.loss_high <= max_loss
    if reported and not confirmed:
        reason += _doubt(reported, max_loss)
    b = (reporter if reported else curves).normalized.mean(axis=1)
    figures = reported or Evidence(0, 0, NAN, NAN, NAN, NAN)
    break_even, regime = _trade_off(curves, direction, weight)
    return Recommendation(
        strength=float(curves.strengths[rows[0]]) if reported else None,
        reason=reason,
        gain=figures.gain,
        gain_low=figures.gain_low,
        loss=figures.loss,
        loss_high=figures.loss_high,
        b_normalized_at_0=float(b[curves.at_0]),
        b_normalized=float(b[rows[0]]) if reported else NAN,
        confirmed=confirmed,
        break_even=break_even,
        efficient_regime=regime,
        chosen_on=chosen,
        reported_on=reported,
        max_loss=max_loss,
        confidence=confidence,
        direction=direction,
        weight=weight,
        measure=measure,
    )


def _check_options(direction: int, max_loss: float, measure: str, weight: float, confidence: float) -> None:
    if direction not in (1, -1):
        raise InputError(f"direction {direction} is neither 1 nor -1")
    if not 0 < max_loss < 1:
        raise InputError(f"max_loss {max_loss:g} is not a share between 0 and 1; 0.05 allows a loss of 5 %")
    if measure not in get_args(Measure):
        raise InputError(f"measure {measure!r} is unknown; use one of {', '.join(get_args(Measure))}")
    if not (weight >= 0 and np.isfinite(weight)):
        raise InputError(f"weight {weight:g} is not a number of at least 0")
    if not 0.5 < confidence < 1:
        raise InputError(f"confidence {confidence:g} is not between 0.5 and 1")


def _curves(behavior: BehaviorScores, choice: ChoiceScores, measure: Measure) -> _Curves:
    b, c = np.argsort(behavior.strengths), np.argsort(choice.strengths)
    strengths = behavior.strengths[b]
    if not np.array_equal(strengths, choice.strengths[c]):
        raise ShapeError(f"behavior was measured at {strengths.tolist()}, choice at {choice.strengths[c].tolist()}")
    if 0.0 not in strengths:
        raise StrengthError(f"strength 0 is missing from {strengths.tolist()}; gain and loss are measured against it")
    p = np.asarray(getattr(choice, measure), np.float64)
    return _Curves(strengths, behavior.raw[b], behavior.normalized[b], p[c])


def _unusable(curves: _Curves, rows: Indices, direction: int) -> str:
    """Why nothing can be chosen from these at all, or ""."""
    if not len(rows):
        return f"no {'positive' if direction > 0 else 'negative'} strength was measured"
    for kind, items in (("behavior", curves.raw), ("choice", curves.p)):
        if items.shape[1] < 2 * FEWEST_ITEMS:
            return f"too few {kind} items: {items.shape[1]}, two halves that can bound anything need {2 * FEWEST_ITEMS}"
    if not curves.p[curves.at_0].any():
        return "P(correct) is 0 without steering, so there is nothing to lose and a loss has no meaning"
    return ""


def _evidence(
    half: _Curves, rows: Indices, rng: np.random.Generator, resamples: int, confidence: float
) -> list[Evidence]:
    """What the half says about each strength of these rows."""

    def loss(means: Floats) -> Floats:
        p, p_0 = means[:, :-1], means[:, -1:]
        return np.where(p_0 > 0, 1.0 - p / np.where(p_0 > 0, p_0, 1.0), 1.0)  # nothing left to lose: all is lost

    gains, p = half.raw[rows] - half.raw[half.at_0], half.p[[*rows, half.at_0]]
    low = resample(gains, lambda m: m, rng=rng, resamples=resamples, confidence=confidence, side="greater").low
    high = resample(p, loss, rng=rng, resamples=resamples, confidence=confidence, side="less").high
    gain, lost = gains.mean(axis=1), loss(p.mean(axis=1)[None])[0]
    return [
        Evidence(gains.shape[1], p.shape[1], *(float(column[i]) for column in (gain, low, lost, high)))
        for i in range(len(rows))
    ]


def _choose(strengths: Floats, evidence: list[Evidence], max_loss: float) -> tuple[int | None, str]:
    """Index of the strength to use or None, and why; strengths go outwards from 0."""
    over = [i for i, each in enumerate(evidence) if each.loss_high > max_loss]
    end = over[0] if over else len(evidence)
    beyond = f"at {strengths[end]:+g} the loss may be {evidence[end].loss_high:.1%}" if over else ""
    if end == 0:
        return None, f"already {beyond}, over the budget of {max_loss:.1%}"
    best = max(range(end), key=lambda i: evidence[i].gain_low)
    surest = f"the lower bound of the gain is {evidence[best].gain_low:+.3f}, at {strengths[best]:+g}"
    reach = f"; {beyond}, over the budget of {max_loss:.1%}" if over else ""
    if evidence[best].gain_low <= 0:
        return None, f"no strength up to {strengths[end - 1]:+g} is sure to gain: at best {surest}{reach}"
    return best, f"of strengths up to {strengths[end - 1]:+g}, at best {surest}{reach}"


def _doubt(reported: Evidence, max_loss: float) -> str:
    """What the half that did not choose does not confirm."""
    doubts = []
    if reported.gain_low <= 0:
        doubts.append(f"its lower bound of the gain is {reported.gain_low:+.3f}")
    if reported.loss_high > max_loss:
        doubts.append(f"there the loss may be {reported.loss_high:.1%}")
    return f"; the other half of the items does not confirm it: {' and '.join(doubts)}"


def _trade_off(curves: _Curves, direction: int, weight: float) -> tuple[float, tuple[float, float]]:
    """Break-even strength and efficient regime of the utility mean raw B + weight mean P, see `Recommendation`."""
    rows = np.concatenate([[curves.at_0], curves.outwards(direction)])
    s = curves.strengths[rows]
    utility = curves.raw[rows].mean(axis=1) + weight * curves.p[rows].mean(axis=1)
    worth = utility - utility[0]
    lost = np.flatnonzero(worth[1:] <= 0) + 1
    end = int(lost[0]) if len(lost) else len(s)
    peak = float(s[:end][np.argmax(worth[:end])])
    regime = (min(peak, 0.0), max(peak, 0.0))
    if end == len(s):
        return NAN, regime
    if end == 1:
        return 0.0, regime
    share = worth[end - 1] / (worth[end - 1] - worth[end])
    return float(s[end - 1] + share * (s[end] - s[end - 1])), regime
