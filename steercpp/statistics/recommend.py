"""The strength to use: the surest gain in alignment within a budget of helpfulness. Read this to see how it is chosen.

    curves = Curves.of(behavior_scores, choice_scores)
    recommend(curves, max_loss=0.05).strength

The strength with the best of many noisy figures looks better than it is. So the items are dealt into two halves: one
half chooses, going outwards from 0 until the upper bound of the loss is over the budget and taking the highest lower
bound of the gain on the way; the other half, which had no say, gives the figures that are reported (`Evidence`). Both
bounds are one-sided, by resampling items with their whole row of strengths.

`weigh` is that choice alone; `recommend` adds whether the reporting half confirms it, the break-even point and the
efficient regime.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from steercpp.aliases import NAN, Floats
from steercpp.errors import InputError, ShapeError, StrengthError
from steercpp.statistics.intervals import CONFIDENCE, FEWEST_ITEMS, RESAMPLES, resample, same
from steercpp.statistics.scores import AnswerScores, BehaviorScores, ChoiceScores, Measure, measured

Indices: TypeAlias = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Evidence:
    """What one half of the items says about one strength.

    gain is mean raw B(s) - mean raw B(0), gain_low its lower bound; loss is 1 - mean P(s)/mean P(0), loss_high its
    upper bound. n_behavior and n_choice count the items of the half. invalid is the share of generated texts that are
    invalid, NaN where there are none.
    """

    n_behavior: int
    n_choice: int
    gain: float
    gain_low: float
    loss: float
    loss_high: float
    invalid: float = NAN


@dataclass(frozen=True, slots=True)
class Curves:
    """Alignment and helpfulness at the same strengths.

    Attributes:
        strengths: (n_s,) ascending, 0 among them.
        raw, normalized: (n_s, n_items) B of the behavior items.
        p: (n_s, n_choice_items) helpfulness.
        measure: which measure of helpfulness that is.
        invalid: (n_s, n_items) share of each behavior item's generated texts that is invalid; None without texts.
    """

    strengths: Floats
    raw: Floats
    normalized: Floats
    p: Floats
    measure: Measure = "p_free"
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
        """The scores put together.

        Args:
            behavior: alignment of every item at every strength.
            choice: helpfulness, at the same strengths.
            measure: which P(correct); "p_token" of answers.
            invalid: (n_s, n_items) in the order of the behavior scores, see `Curves`.

        Raises:
            ShapeError: they were not measured at the same strengths, or invalid shares are not of these items.
            StrengthError: 0 is not among them.
            InputError: a measure that does not exist.
        """
        p = measured(choice, measure)
        b, c = np.argsort(behavior.strengths), np.argsort(choice.strengths)
        strengths = behavior.strengths[b]
        if not np.array_equal(strengths, choice.strengths[c]):
            raise ShapeError(f"behavior was measured at {strengths.tolist()}, choice at {choice.strengths[c].tolist()}")
        if 0.0 not in strengths:
            raise StrengthError(
                f"strength 0 is missing from {strengths.tolist()}; gain and loss are measured against it"
            )
        if invalid is not None and invalid.shape != behavior.raw.shape:
            raise ShapeError(f"invalid shares are {invalid.shape}, the behavior scores {behavior.raw.shape}")
        invalid = None if invalid is None else invalid[b]
        return cls(strengths, behavior.raw[b], behavior.normalized[b], p[c], measure, invalid)

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
        """These behavior items and these of helpfulness only."""
        invalid = None if self.invalid is None else self.invalid[:, b]
        return Curves(self.strengths, self.raw[:, b], self.normalized[:, b], self.p[:, p], self.measure, invalid)


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
        invalid: share of the generated texts of that half that are invalid; NaN where there are none.
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
    curves: Curves,
    *,
    direction: int = 1,
    max_loss: float = 0.05,
    max_invalid: float | None = None,
    weight: float = 1.0,
    resamples: int = RESAMPLES,
    rng: np.random.Generator | None = None,
    confidence: float = CONFIDENCE,
) -> Recommendation:
    """Choose the strength with the highest lower bound of raw B gain among those within the budget.

    Args:
        curves: what was measured.
        direction: 1 or -1, the sign of the strengths to consider. The gain is towards the aligned answers either way:
            a vector that points to the misaligned ones is used with -1.
        max_loss: budget; the upper bound of the loss may not exceed it.
        max_invalid: budget of the mean share of invalid texts; None: no such budget.
        weight: of P beside B, for break_even and efficient_regime only.
        resamples: samples of items for the bounds.
        rng: splits and draws the items; None: seeded with 0.
        confidence: of each one-sided bound.

    Raises:
        InputError: a direction, budget, weight or confidence that does not exist.
    """
    check_preference(direction, weight)
    if not 0 < max_loss < 1:
        raise InputError(f"max_loss {max_loss:g} is not a share between 0 and 1; 0.05 allows a loss of 5 %")
    if not 0.5 < confidence < 1:
        raise InputError(f"confidence {confidence:g} is not between 0.5 and 1")
    if max_invalid is not None and not 0 <= max_invalid < 1:
        raise InputError(f"max_invalid {max_invalid:g} is not a share from 0 to below 1; 0.05 allows 5 % of the texts")
    rng = rng or np.random.default_rng(0)
    choice = weigh(
        curves, direction=direction, max_loss=max_loss, max_invalid=max_invalid,
        rng=rng, resamples=resamples, confidence=confidence,
    )  # fmt: skip
    reported = choice.reported_on if choice.sure else None
    doubts = _doubts(reported, max_loss, max_invalid) if reported else []
    doubt = f"; the other half of the items does not confirm it: {' and '.join(doubts)}" if doubts else ""
    figures = reported or Evidence(0, 0, NAN, NAN, NAN, NAN)
    b_0 = float(curves.normalized[curves.at_0].mean())
    back_at_0, regime = _trade_off(curves, direction, weight)
    return Recommendation(
        strength=choice.strength if reported else None,
        reason=choice.reason + doubt, gain=figures.gain, gain_low=figures.gain_low, loss=figures.loss,
        loss_high=figures.loss_high, invalid=figures.invalid,
        b_normalized_at_0=choice.b_normalized_at_0 if reported else b_0,
        b_normalized=choice.b_normalized if reported else NAN, confirmed=reported is not None and not doubts,
        break_even=back_at_0, efficient_regime=regime, chosen_on=choice.chosen_on if reported else None,
        reported_on=reported, max_loss=max_loss, max_invalid=max_invalid, confidence=confidence, direction=direction,
        weight=weight, measure=curves.measure,
    )  # fmt: skip


def check_preference(direction: int, weight: float) -> None:
    """Raise InputError for a direction or a weight of P beside B that does not exist."""
    if direction not in (1, -1):
        raise InputError(f"direction {direction} is neither 1 nor -1")
    if not (weight >= 0 and np.isfinite(weight)):
        raise InputError(f"weight {weight:g} is not a number of at least 0")


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


def _trade_off(curves: Curves, direction: int, weight: float) -> tuple[float, tuple[float, float]]:
    """Break-even strength and efficient regime of the utility mean raw B + weight mean P, see `Recommendation`."""
    rows = np.concatenate([[curves.at_0], curves.outwards(direction)])
    s = curves.strengths[rows]
    utility = curves.raw[rows].mean(axis=1) + weight * curves.p[rows].mean(axis=1)
    worth = utility - utility[0]
    lost = np.flatnonzero(worth[1:] <= 0) + 1
    end = int(lost[0]) if len(lost) else len(s)
    peak = int(np.argmax(worth[:end]))
    regime = (min(float(s[peak]), 0.0), max(float(s[peak]), 0.0))
    return break_even(s, worth, peak) if len(s) > 1 else NAN, regime


def break_even(s: Floats, worth: Floats, peak: int) -> float:
    """Strength beyond the peak at which worth (n,), 0 at s[0], is back at 0: between two points on their line."""
    lost = np.flatnonzero(worth[peak + 1 :] <= 0) + peak + 1
    if not peak:
        return 0.0
    if not len(lost):
        return NAN
    end = int(lost[0])
    share = worth[end - 1] / (worth[end - 1] - worth[end])
    return float(s[end - 1] + share * (s[end] - s[end - 1]))


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
    b_normalized_at_0: float = NAN
    b_normalized: float = NAN
    b_gain_low: float = NAN
    end: float | None = None


def weigh(
    curves: Curves,
    *,
    direction: int,
    max_loss: float,
    max_invalid: float | None = None,
    rng: np.random.Generator,
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
) -> Weighed:
    """The strength with the highest lower bound of raw B gain among those within the budget.

    Args:
        curves: what was measured.
        direction: 1 or -1, the sign of the strengths to consider.
        max_loss: budget; the upper bound of the loss may not exceed it.
        max_invalid: budget of the share of generated texts that are invalid; None: no such budget. The share itself
            counts: a few dozen texts without any still have an upper bound of several percent.
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
    over = next((i for i, at_one in enumerate(evidence) if exceeds(at_one, max_loss, max_invalid)), None)
    end = None if over is None else float(strengths[over])
    best, reason = _choose(strengths, evidence, over, max_loss, max_invalid)
    if best is None:
        return Weighed(None, reason, end=end)
    reported = _evidence(reporter, rows[[best]], rng, resamples, confidence)[0]
    b, row = reporter.normalized, rows[best]
    means = b.mean(axis=1)
    low = resample(
        (b[row] - b[curves.at_0])[None], same, rng=rng, resamples=resamples, confidence=confidence,
        alternative="greater",
    ).low  # fmt: skip
    return Weighed(
        strength=float(strengths[best]), reason=reason, sure=evidence[best].gain_low > 0, chosen_on=evidence[best],
        reported_on=reported, b_normalized_at_0=float(means[curves.at_0]), b_normalized=float(means[row]),
        b_gain_low=float(low[0]), end=end,
    )  # fmt: skip


def exceeds(evidence: Evidence, max_loss: float, max_invalid: float | None) -> str:
    """Which budget a strength is over, in words, or ""."""
    if evidence.loss_high > max_loss:
        return f"the loss may be {evidence.loss_high:.1%}, over the budget of {max_loss:.1%}"
    if max_invalid is not None and evidence.invalid > max_invalid:
        return f"{evidence.invalid:.1%} of the texts are invalid, over the budget of {max_invalid:.1%}"
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
        return "no texts were generated, so that nobody knows how many would be invalid"
    return ""


def _evidence(
    half: Curves, rows: Indices, rng: np.random.Generator, resamples: int, confidence: float
) -> list[Evidence]:
    """What the half says about each strength of these rows."""

    def loss(means: Floats) -> Floats:
        p, p_0 = means[:, :-1], means[:, -1:]
        return np.where(p_0 > 0, 1.0 - p / np.where(p_0 > 0, p_0, 1.0), 1.0)  # nothing left to lose: all is lost

    gains, p = half.raw[rows] - half.raw[half.at_0], half.p[[*rows, half.at_0]]
    low = resample(gains, same, rng=rng, resamples=resamples, confidence=confidence, alternative="greater").low
    high = resample(p, loss, rng=rng, resamples=resamples, confidence=confidence, alternative="less").high
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
