"""What two halves of the items say about each strength; read this for what is chosen on which items, and what is told.

Both measures come from samples of items, so both the gain and the loss are bounded one-sidedly by resampling items
(`intervals`). Strengths are taken in order from 0 outwards and the walk ends at the first whose loss may exceed the
budget: a stronger one that looks harmless again is beyond a place that was not. The best of many noisy gains looks
better than it is, so one half of the items chooses and the other half, which had no say, gives the reported figures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from steercpp.errors import ShapeError, StrengthError
from steercpp.statistics.intervals import FEWEST_ITEMS, RESAMPLES, resample
from steercpp.statistics.scores import BehaviorScores, ChoiceScores, Floats
from steercpp.statistics.sequence_scores import AnswerScores

Measure: TypeAlias = Literal["p_free", "p_restricted", "correct", "p_token"]
Indices: TypeAlias = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Evidence:
    """What one half of the items says about one strength.

    gain is mean raw B(s) - mean raw B(0), gain_low its lower bound; loss is 1 - mean P(s)/mean P(0), loss_high its
    upper bound. n_behavior and n_choice count the items of the half. invalid is the share of said texts that are
    invalid, NaN where none were said.
    """

    n_behavior: int
    n_choice: int
    gain: float
    gain_low: float
    loss: float
    loss_high: float
    invalid: float = float("nan")


@dataclass(frozen=True, slots=True)
class Weighed:
    """The surest strength within a budget, on both halves of the items.

    Attributes:
        strength: of the highest lower bound of raw gain within the budget; None if nothing is within it.
        reason: why that one, or why none.
        sure: that lower bound is above 0.
        chosen_on, reported_on: the two halves' evidence there; None without a strength.
        b_normalized_at_0, b_normalized: mean normalised B of the half that did not choose; NaN without a strength.
        b_gain_low: lower bound of their difference.
        end: the weakest strength of the wanted sign that may cost more than the budget; None if no measured one may.
    """

    strength: float | None
    reason: str
    sure: bool = False
    chosen_on: Evidence | None = None
    reported_on: Evidence | None = None
    b_normalized_at_0: float = float("nan")
    b_normalized: float = float("nan")
    b_gain_low: float = float("nan")
    end: float | None = None


@dataclass(frozen=True, slots=True)
class Curves:
    """All measures at the same strengths, ascending.

    raw and normalised B (n_s, n_items), P (n_s, n_choice_items); invalid (n_s, n_items) the share of each behavior
    item's said texts that are invalid, None where none were said.
    """

    strengths: Floats
    raw: Floats
    normalized: Floats
    p: Floats
    invalid: Floats | None = None

    @classmethod
    def of(
        cls,
        behavior: BehaviorScores,
        choice: ChoiceScores | AnswerScores,
        measure: Measure = "p_free",
        *,
        invalid: Floats | None = None,
    ) -> Curves:
        """The measures put together; `invalid` in the order of the behavior scores.

        Raises:
            ShapeError: they were not measured at the same strengths, or invalid shares are not of these items.
            StrengthError: 0 is not among them.
        """
        b, c = np.argsort(behavior.strengths), np.argsort(choice.strengths)
        strengths = behavior.strengths[b]
        if not np.array_equal(strengths, choice.strengths[c]):
            raise ShapeError(f"behavior was measured at {strengths.tolist()}, choice at {choice.strengths[c].tolist()}")
        if 0.0 not in strengths:
            raise StrengthError(
                f"strength 0 is missing from {strengths.tolist()}; gain and loss are measured against it"
            )
        p = np.asarray(getattr(choice, measure), np.float64)
        if invalid is not None and invalid.shape != behavior.raw.shape:
            raise ShapeError(f"invalid shares are {invalid.shape}, the behavior scores {behavior.raw.shape}")
        return cls(strengths, behavior.raw[b], behavior.normalized[b], p[c], None if invalid is None else invalid[b])

    @property
    def at_0(self) -> int:
        """Row of strength 0."""
        return int(np.flatnonzero(self.strengths == 0.0)[0])

    def outwards(self, direction: int) -> Indices:
        """Rows of the strengths of that sign, weakest first."""
        rows = np.flatnonzero(self.strengths * direction > 0)
        return rows[np.argsort(np.abs(self.strengths[rows]))]

    def halves(self, rng: np.random.Generator) -> tuple[Curves, Curves]:
        """The items of each measure, dealt at random into two halves."""
        b, p = (rng.permutation(n) for n in (self.raw.shape[1], self.p.shape[1]))
        return self._take(b[::2], p[::2]), self._take(b[1::2], p[1::2])

    def _take(self, b: Indices, p: Indices) -> Curves:
        invalid = None if self.invalid is None else self.invalid[:, b]
        return Curves(self.strengths, self.raw[:, b], self.normalized[:, b], self.p[:, p], invalid)


def weigh(
    curves: Curves,
    *,
    direction: int,
    max_loss: float,
    max_invalid: float | None = None,
    rng: np.random.Generator,
    resamples: int = RESAMPLES,
    confidence: float = 0.95,
) -> Weighed:
    """The strength with the highest lower bound of raw B gain among those within the budget.

    Args:
        curves: what was measured.
        direction: 1 or -1, the sign of the strengths to consider.
        max_loss: budget; the upper bound of the loss may not exceed it.
        max_invalid: budget of the share of said texts that are invalid; None: no such budget. The share itself counts:
            a few dozen texts without any still have an upper bound of several percent.
        rng: deals the items into halves, then draws them. The same seed deals equally many items in the same way, so
            runs over the same items are chosen and reported on the same halves.
        resamples: samples of items for the bounds.
        confidence: of each one-sided bound.
    """
    chooser, reporter = curves.halves(rng)
    rows = curves.outwards(direction)
    if reason := _unusable(curves, rows, direction, max_invalid):
        return Weighed(None, reason)
    evidence = _evidence(chooser, rows, rng, resamples, confidence)
    strengths = curves.strengths[rows]
    over = next((i for i, each in enumerate(evidence) if exceeds(each, max_loss, max_invalid)), None)
    end = None if over is None else float(strengths[over])
    best, reason = _choose(strengths, evidence, over, max_loss, max_invalid)
    if best is None:
        return Weighed(None, reason, end=end)
    reported = _evidence(reporter, rows[[best]], rng, resamples, confidence)[0]
    b, row = reporter.normalized, rows[best]
    means = b.mean(axis=1)
    low = resample(
        (b[row] - b[curves.at_0])[None], lambda m: m, rng=rng, resamples=resamples, confidence=confidence,
        side="greater",
    ).low  # fmt: skip
    return Weighed(
        strength=float(strengths[best]),
        reason=reason,
        sure=evidence[best].gain_low > 0,
        chosen_on=evidence[best],
        reported_on=reported,
        b_normalized_at_0=float(means[curves.at_0]),
        b_normalized=float(means[row]),
        b_gain_low=float(low[0]),
        end=end,
    )


def exceeds(each: Evidence, max_loss: float, max_invalid: float | None) -> str:
    """Which budget a strength is over, in words, or ""."""
    if each.loss_high > max_loss:
        return f"the loss may be {each.loss_high:.1%}, over the budget of {max_loss:.1%}"
    if max_invalid is not None and each.invalid > max_invalid:
        return f"{each.invalid:.1%} of the texts are invalid, over the budget of {max_invalid:.1%}"
    return ""


def _unusable(curves: Curves, rows: Indices, direction: int, max_invalid: float | None) -> str:
    """Why nothing can be chosen from these at all, or ""."""
    if not len(rows):
        return f"no {'positive' if direction > 0 else 'negative'} strength was measured"
    for kind, items in (("behavior", curves.raw), ("choice", curves.p)):
        if items.shape[1] < 2 * FEWEST_ITEMS:
            return f"too few {kind} items: {items.shape[1]}, two halves that can bound anything need {2 * FEWEST_ITEMS}"
    if not curves.p[curves.at_0].any():
        return "P(correct) is 0 without steering, so there is nothing to lose and a loss has no meaning"
    if max_invalid is not None and curves.invalid is None:
        return "no texts were said, so that nobody knows how many would be invalid"
    return ""


def _evidence(
    half: Curves, rows: Indices, rng: np.random.Generator, resamples: int, confidence: float
) -> list[Evidence]:
    """What the half says about each strength of these rows."""

    def loss(means: Floats) -> Floats:
        p, p_0 = means[:, :-1], means[:, -1:]
        return np.where(p_0 > 0, 1.0 - p / np.where(p_0 > 0, p_0, 1.0), 1.0)  # nothing left to lose: all is lost

    gains, p = half.raw[rows] - half.raw[half.at_0], half.p[[*rows, half.at_0]]
    low = resample(gains, lambda m: m, rng=rng, resamples=resamples, confidence=confidence, side="greater").low
    high = resample(p, loss, rng=rng, resamples=resamples, confidence=confidence, side="less").high
    gain, lost = gains.mean(axis=1), loss(p.mean(axis=1)[None])[0]
    invalid = np.full(len(rows), np.nan) if half.invalid is None else half.invalid[rows].mean(axis=1)
    return [
        Evidence(gains.shape[1], p.shape[1], *(float(column[i]) for column in (gain, low, lost, high, invalid)))
        for i in range(len(rows))
    ]


def _choose(
    strengths: Floats, evidence: list[Evidence], over: int | None, max_loss: float, max_invalid: float | None
) -> tuple[int | None, str]:
    """Index of the surest strength within the budget or None, and why; strengths go outwards from 0."""
    end = len(evidence) if over is None else over
    beyond = "" if over is None else f"at {strengths[over]:+g} {exceeds(evidence[over], max_loss, max_invalid)}"
    if end == 0:
        return None, f"already {beyond}"
    best = max(range(end), key=lambda i: evidence[i].gain_low)
    surest = f"the lower bound of the gain is {evidence[best].gain_low:+.3f}, at {strengths[best]:+g}"
    reach = f"; {beyond}" if beyond else ""
    if evidence[best].gain_low <= 0:
        return best, f"no strength up to {strengths[end - 1]:+g} is sure to gain: at best {surest}{reach}"
    return best, f"of strengths up to {strengths[end - 1]:+g}, at best {surest}{reach}"
