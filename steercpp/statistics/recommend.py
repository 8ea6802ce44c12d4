"""The strength to use: the surest gain in alignment within a budget of helpfulness. Read this to see how it is chosen.

How gain and loss are bounded, and which half of the items has which say, is told in `evidence`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, get_args

import numpy as np

from steercpp.errors import InputError
from steercpp.statistics.evidence import Curves, Evidence, Measure, weigh
from steercpp.statistics.intervals import RESAMPLES
from steercpp.statistics.scores import BehaviorScores, ChoiceScores, Floats
from steercpp.statistics.sequence_scores import AnswerScores

NAN = float("nan")


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
        invalid: share of said texts of that half that are invalid; NaN where none were said.
        max_loss, max_invalid, confidence, direction, weight, measure: as asked.
    """

    strength: float | None
    reason: str
    gain: float
    gain_low: float
    loss: float
    loss_high: float
    invalid: float
    b_normalized_at_0: float
    b_normalized: float
    confirmed: bool
    break_even: float
    efficient_regime: tuple[float, float]
    chosen_on: Evidence | None
    reported_on: Evidence | None
    max_loss: float
    max_invalid: float | None
    confidence: float
    direction: int
    weight: float
    measure: Measure

    def record(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def recommend(
    behavior: BehaviorScores,
    choice: ChoiceScores | AnswerScores,
    *,
    direction: int = 1,
    max_loss: float = 0.05,
    invalid: Floats | None = None,
    max_invalid: float | None = None,
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
        invalid: (n_s, n_items) share of each behavior item's said texts that is invalid; None where none were said.
        max_invalid: budget of that share's mean; None: no such budget.
        measure: which P(correct) the loss is of; "p_token" of answers.
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
    if max_invalid is not None and not 0 <= max_invalid < 1:
        raise InputError(f"max_invalid {max_invalid:g} is not a share from 0 to below 1; 0.05 allows 5 % of the texts")
    curves = Curves.of(behavior, choice, measure, invalid=invalid)
    rng = rng or np.random.default_rng(0)
    found = weigh(
        curves, direction=direction, max_loss=max_loss, max_invalid=max_invalid,
        rng=rng, resamples=resamples, confidence=confidence,
    )  # fmt: skip
    reported = found.reported_on if found.sure else None
    confirmed = reported is not None and not _doubts(reported, max_loss, max_invalid)
    figures = reported or Evidence(0, 0, NAN, NAN, NAN, NAN)
    b_0 = float(curves.normalized[curves.at_0].mean())
    break_even, regime = _trade_off(curves, direction, weight)
    return Recommendation(
        strength=found.strength if reported else None,
        reason=found.reason + (_doubt(reported, max_loss, max_invalid) if reported else ""),
        gain=figures.gain,
        gain_low=figures.gain_low,
        loss=figures.loss,
        loss_high=figures.loss_high,
        invalid=figures.invalid,
        b_normalized_at_0=found.b_normalized_at_0 if reported else b_0,
        b_normalized=found.b_normalized if reported else NAN,
        confirmed=confirmed,
        break_even=break_even,
        efficient_regime=regime,
        chosen_on=found.chosen_on if reported else None,
        reported_on=reported,
        max_loss=max_loss,
        max_invalid=max_invalid,
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


def _doubts(reported: Evidence, max_loss: float, max_invalid: float | None) -> list[str]:
    """What the half that did not choose does not confirm."""
    doubts = []
    if reported.gain_low <= 0:
        doubts.append(f"its lower bound of the gain is {reported.gain_low:+.3f}")
    if reported.loss_high > max_loss:
        doubts.append(f"there the loss may be {reported.loss_high:.1%}")
    if max_invalid is not None and reported.invalid > max_invalid:
        doubts.append(f"{reported.invalid:.1%} of its texts are invalid")
    return doubts


def _doubt(reported: Evidence, max_loss: float, max_invalid: float | None) -> str:
    doubts = _doubts(reported, max_loss, max_invalid)
    return f"; the other half of the items does not confirm it: {' and '.join(doubts)}" if doubts else ""


def _trade_off(curves: Curves, direction: int, weight: float) -> tuple[float, tuple[float, float]]:
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
