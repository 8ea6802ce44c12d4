"""The strength to use: the largest certain gain within a budget of helpfulness. Read this to see how it is chosen.

    curves = Curves.of(behavior_scores, choice_scores)
    recommend(curves, max_loss=0.05).strength

The strength with the best of many noisy figures looks better than it is. So the items are dealt into two halves. The
choosing half proposes one candidate: going outwards from 0 until a budget may be exceeded, the strength with the
highest lower bound of the gain. The telling half, which had no say, tests that one candidate, and no other strength is
tried on it. It is recommended if on the testing items all of these hold:

- the lower bound of the gain in normalized B is above 0;
- the lower bound of the typical P+(s)/P+(0) is above 1: the aligned continuations became likelier, nonsense earns
  nothing;
- the lower bound of the listed mass(s)/mass(0) is at least 1/2;
- the upper bound of the loss is within the budget (losses.py), and so is the share of broken texts;
- the lower bound of the gain less the mean gain of random directions of the same lengths is above 0, and the gain is
  above that of every single one and of the orthogonal direction.

Where helpfulness is of the model's own answers, those of every third request choose and those of the others tell, at 0
and at the candidate alone (docs/own-answers.md). A third has wider bounds than what is left, so that what the choosing
items propose is what they expect to be confirmed: their bounds are taken as near to the estimate as those of as many
items as tell would be.

The loss has a one-sided bound of 95%. The gain's bounds are the lower ends of two-sided intervals of 95%, by
resampling items with their whole row of strengths.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from steercpp.aliases import NAN, Floats
from steercpp.errors import InputError
from steercpp.statistics.curves import LEAST_MASS, Curves, check_preference, regime_of, typical_ratio
from steercpp.statistics.intervals import CONFIDENCE, FEWEST_ITEMS, RESAMPLES, resample
from steercpp.statistics.losses import items_to_prove, loss_bound, loss_of
from steercpp.statistics.names import renamed, today
from steercpp.statistics.rounded import plus
from steercpp.statistics.scores import Measure

Indices: TypeAlias = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Evidence:
    """What one half of the items says about one strength.

    Attributes:
        n_behavior, n_choice: items of the half.
        gain, gain_low: mean normalized B(s) - mean B(0), and its lower bound.
        loss, loss_high: `loss_of` helpfulness, and its upper bound.
        invalid: share of generated texts that are broken, NaN where there are none.
        aligned_ratio, aligned_ratio_low: P+(s)/P+(0) of a typical item, see `curves.changes` and `typical_ratio`; NaN
            where no item has any P+ at 0.
        mass_ratio, mass_ratio_low: mean share of P+ + P- that is left, of what is there at 0.
        over_random, over_random_low: the gain less the mean gain of the random directions; NaN where none is compared.
    """

    n_behavior: int
    n_choice: int
    gain: float
    gain_low: float
    loss: float
    loss_high: float
    invalid: float = NAN
    aligned_ratio: float = NAN
    aligned_ratio_low: float = NAN
    mass_ratio: float = NAN
    mass_ratio_low: float = NAN
    over_random: float = NAN
    over_random_low: float = NAN

    def record(self) -> dict[str, Any]:
        """Plain data for JSON, by the names of docs/measures.md."""
        return renamed(asdict(self))


@dataclass(frozen=True, slots=True)
class Recommendation:
    """A strength, or None with the reason; figures that do not exist are NaN.

    Attributes:
        strength: where to steer; None unless the telling half confirms the candidate.
        candidate: what the choosing half proposes; None if it proposes nothing.
        reason: why that one, or why none.
        gain, gain_low, loss, loss_high: see `Evidence`; of the candidate, on the telling half.
        b_normalized_at_0, b_normalized: mean normalized B there, of the same half (of all items if no candidate).
        confirmed: whether the candidate is recommended.
        break_even: strength at which the earned gain in B + weight P is back at its unsteered value; NaN if not in the
            grid, or without a recommended strength.
        efficient_regime: (low, high) strengths from 0 to the largest such worth: the range in which more steering still
            buys more alignment than it costs helpfulness (paper 1.6). Of all items; NaN without a recommended strength.
        chosen_on, reported_on: evidence of the choosing and of the telling half.
        invalid: share of the generated texts of the telling half that are broken; NaN where there are none.
        doubts: what the testing half does not confirm of the candidate, in words; none of a recommended one.
        max_loss, max_invalid, confidence, direction, weight, measure: as asked.
        kind: which items the loss is of, see `Curves`.
    """

    strength: float | None
    candidate: float | None
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
    kind: str = "choice"
    doubts: tuple[str, ...] = ()

    def record(self) -> dict[str, Any]:
        """Plain data for JSON, by the names of docs/measures.md."""
        halves = {name: half and half.record() for name, half in
                  (("chosen_on", self.chosen_on), ("reported_on", self.reported_on))}  # fmt: skip
        return renamed(asdict(self) | halves | {"measure": today(self.measure)})


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
    """Choose the strength with the largest certain gain in B within the budgets, and have the other items confirm it.

    Args:
        curves: what was measured.
        direction: 1 or -1, the sign of the strengths to consider. The gain is towards the aligned answers either way:
            a vector that points to the misaligned ones is used with -1.
        max_loss: budget; the upper bound of the loss may not exceed it.
        max_invalid: budget of the mean share of broken texts; None: no such budget.
        weight: of P beside B, for break_even and efficient_regime only.
        resamples: samples of items for the bounds of the gain.
        rng: splits and draws the items; None: seeded with 0.
        confidence: that the loss is within its bound; of the two-sided interval whose lower end the gain has.

    Raises:
        InputError: a direction, budget, weight or confidence that does not exist.
    """
    check_preference(direction, weight)
    if not 0 < max_loss < 1:
        raise InputError(f"max_loss {max_loss:g} is not a share between 0 and 1; 0.05 allows a loss of 5%")
    if not 0.5 < confidence < 1:
        raise InputError(f"confidence {confidence:g} is not between 0.5 and 1")
    if max_invalid is not None and not 0 <= max_invalid < 1:
        raise InputError(f"max_invalid {max_invalid:g} is not a share from 0 to below 1; 0.05 allows 5% of the texts")
    choice = weigh(
        curves, direction=direction, max_loss=max_loss, max_invalid=max_invalid,
        rng=rng or np.random.default_rng(0), resamples=resamples, confidence=confidence,
    )  # fmt: skip
    reported_on = choice.reported_on if choice.sure else None
    told = reported_on or Evidence(0, 0, NAN, NAN, NAN, NAN)
    confirmed = reported_on is not None and not choice.doubts
    reason = choice.reason
    if confirmed and (curves.others is None or not len(curves.others.random)):
        reason += "; it was not compared with random directions"
    elif choice.sure and not confirmed:
        n_told = f"{told.n_behavior} behavior and {told.n_choice} {curves.kind} items that had no part in the choice"
        reason = (
            f"the candidate {choice.strength:+g} is not confirmed by the {n_told}: {'; '.join(choice.doubts)}. On "
            f"those that choose, {reason}"
        )
    regime = _regime(curves, direction, weight) if confirmed else None
    return Recommendation(
        strength=choice.strength if confirmed else None, candidate=choice.strength if choice.sure else None,
        reason=reason, gain=told.gain, gain_low=told.gain_low, loss=told.loss, loss_high=told.loss_high,
        invalid=told.invalid,
        b_normalized_at_0=choice.b_normalized_at_0 if choice.sure else float(curves.normalized[curves.at_0].mean()),
        b_normalized=choice.b_normalized if choice.sure else NAN, confirmed=confirmed,
        break_even=NAN if regime is None else regime[0], efficient_regime=(NAN, NAN) if regime is None else regime[1],
        chosen_on=choice.chosen_on if choice.sure else None, reported_on=reported_on, max_loss=max_loss,
        max_invalid=max_invalid, confidence=confidence, direction=direction, weight=weight, measure=curves.measure,
        kind=curves.kind, doubts=choice.doubts if choice.sure else (),
    )  # fmt: skip


def _regime(curves: Curves, direction: int, weight: float) -> tuple[float, tuple[float, float]]:
    """Break-even strength and efficient regime of the earned gain in B + weight times that in P, of all items."""
    rows = np.concatenate([[curves.at_0], curves.outwards(direction)])
    p = curves.p.mean(axis=1)
    regime = regime_of(curves.strengths[rows], (curves.earned + weight * (p - p[curves.at_0]))[rows])
    return regime.break_even, regime.ends


@dataclass(frozen=True, slots=True)
class Weighed:
    """The candidate within the budgets, on both halves of the items.

    Attributes:
        strength: of the highest lower bound of the gain within the budgets; None if nothing is within them.
        reason: why that one, or why none.
        sure: whether the choosing half is sure that it gains: then it is the candidate.
        doubts: what the telling half does not confirm, a phrase each; empty where it confirms all.
        chosen_on, reported_on: the two halves' evidence there; None without a candidate.
        b_normalized_at_0, b_normalized: mean normalized B of the telling half; without a strength of all items, and
            NaN.
        end: the weakest strength of the wanted sign that may cost more than a budget; None if no measured one may.
    """

    strength: float | None
    reason: str
    b_normalized_at_0: float
    b_normalized: float = NAN
    sure: bool = False
    doubts: tuple[str, ...] = ()
    chosen_on: Evidence | None = None
    reported_on: Evidence | None = None
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
    """The candidate of the choosing half, and what the telling half says of it.

    Args:
        curves: what was measured.
        direction: 1 or -1, the sign of the strengths to consider.
        max_loss: budget; the upper bound of the loss may not exceed it.
        max_invalid: budget of the share of generated texts that are broken; None: no such budget. The share itself
            counts: a few dozen texts without any still have an upper bound of several percent.
        rng: deals the items into halves, then draws them. The same seed deals equally many items in the same way, so
            runs over the same items are chosen and told on the same halves.
        resamples: samples of items for the bounds of the gain.
        confidence: see `recommend`.
    """
    b_0 = float(curves.normalized[curves.at_0].mean())
    rows = curves.outwards(direction)
    if reason := _unusable(curves, rows, direction, max_invalid):
        return Weighed(None, reason, b_0)
    chooser, teller = curves.halves(rng)
    strengths, budgets = curves.strengths[rows], _Budgets(max_loss, max_invalid)
    evidence = _evidence(chooser, rows, rng, resamples, confidence)
    provable = budgets.n_to_prove(chooser, confidence) <= chooser.p.shape[1]
    over = next((i for i, at_s in enumerate(evidence) if budgets.exceeded(at_s, provable=provable)), len(evidence))
    beyond = (
        f"at {strengths[over]:+g} {budgets.exceeded(evidence[over], provable=provable)}" if over < len(rows) else ""
    )
    end = float(strengths[over]) if beyond else None
    if not over:
        return Weighed(None, f"already {beyond}", b_0, end=end)
    reach = f"; {beyond}" if beyond else ""
    expected = [_of_as_many(at_s, teller.normalized.shape[1]) for at_s in evidence[:over]]
    sure = [i for i, at_s in enumerate(expected) if not _no_gain(at_s)]
    best = max(sure or range(over), key=lambda i: expected[i].gain_low)
    candidate, farthest = float(strengths[best]), f"{strengths[over - 1]:+g}"
    if sure:
        gain = f"the highest lower bound of the gain, {plus(expected[best].gain_low)}"
        reason = f"{candidate:+g} has {gain}, of the strengths up to {farthest}{reach}"
    else:
        why = f"at best, at {candidate:+g}, {_no_gain(expected[best])}"
        reason = f"no strength up to {farthest} is sure to gain: {why}{reach}"
    told = _evidence(teller, rows[[best]], rng, resamples, confidence, candidate)[0]
    means = teller.normalized.mean(axis=1)
    return Weighed(
        candidate, reason, float(means[curves.at_0]), float(means[rows[best]]), bool(sure),
        tuple(_doubts(teller, told, budgets, candidate, confidence)), evidence[best], told, end,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Budgets:
    max_loss: float
    max_invalid: float | None

    def exceeded(self, evidence: Evidence, *, provable: bool = True) -> str:
        """Which budget a strength is over, in words, or "".

        Where so few items cannot prove the budget whatever they say, the loss itself counts: there may be a candidate.
        """
        if provable and np.isinf(evidence.loss_high):
            return "so few items cannot exclude that there is nothing to lose, as all may be chance without steering"
        if provable and evidence.loss_high > self.max_loss:
            return f"the loss may be {evidence.loss_high:.1%}, over the budget of {self.max_loss:.1%}"
        if not provable and evidence.loss > self.max_loss:
            return f"the loss is {evidence.loss:.1%}, over the budget of {self.max_loss:.1%}"
        if self.max_invalid is not None and evidence.invalid > self.max_invalid:
            return f"{evidence.invalid:.1%} of the texts are broken, over the budget of {self.max_invalid:.1%}"
        return ""

    def n_to_prove(self, half: Curves, confidence: float) -> int:
        """How many items that lose nothing prove the budget of loss."""
        p_0, chance = float(half.p[half.at_0].mean()), float(half.chance.mean())
        return items_to_prove(self.max_loss, p_0, chance=chance, confidence=confidence) if p_0 > chance else 2**62


def _unusable(curves: Curves, rows: Indices, direction: int, max_invalid: float | None) -> str:
    """Why nothing can be chosen from these at all, or ""."""
    if not len(rows):
        return f"no {'positive' if direction > 0 else 'negative'} strength was measured"
    for kind, items in (("behavior", curves.normalized), (curves.kind, curves.p)):
        if kind == "own" and items.shape[1] < FEWEST_ITEMS:
            return (
                f"too few own answers: {items.shape[1]} of every third request, to bound anything takes {FEWEST_ITEMS}"
            )
        if curves.kind == "own" and kind == "behavior" and items.shape[1] < 3 * FEWEST_ITEMS:
            return f"too few behavior items: {items.shape[1]}, a third that can bound anything takes {3 * FEWEST_ITEMS}"
        if kind != "own" and items.shape[1] < 2 * FEWEST_ITEMS:
            return f"too few {kind} items: {items.shape[1]}, two halves that can bound anything need {2 * FEWEST_ITEMS}"
    if curves.guessing:
        return curves.guessing
    p_0, chance = float(curves.p[curves.at_0].mean()), float(curves.chance.mean())
    if not p_0:
        return "P(correct) is 0 without steering, so there is nothing to lose and a loss has no meaning"
    if p_0 <= chance:
        return f"P(correct) is {p_0:.3f} without steering and chance {chance:.3f}, so there is nothing to lose"
    if max_invalid is not None and curves.invalid is None:
        return "no texts were generated, so that nobody knows how many would be broken"
    return ""


def _evidence(
    half: Curves,
    rows: Indices,
    rng: np.random.Generator,
    resamples: int,
    confidence: float,
    candidate: float | None = None,
) -> list[Evidence]:
    """What the half says about each strength of these rows; for a candidate also beside other directions."""
    at_0, n_s = half.at_0, len(rows)
    b, likelier, mass = half.alignment
    gains = b[rows] - b[at_0]
    others = half.others if half.others is not None and half.others.strength == candidate else None
    if others is not None and len(others.random):
        gains = np.vstack([gains, b[rows] - others.random.mean(axis=0)])

    def figures(means: Floats) -> Floats:
        """Gains, then the typical P+(s)/P+(0), then mass(s)/mass(0); a draw's ratio to no mass is 0."""
        n_gains, held = len(gains), means[:, -1:]
        left = np.where(held > 0, means[:, n_gains + n_s : -1] / np.where(held > 0, held, 1.0), 0.0)
        return np.hstack([means[:, :n_gains], typical_ratio(means[:, n_gains : n_gains + n_s]), left])

    items = np.vstack([gains, likelier[rows], mass[[*rows, at_0]]])
    low = resample(
        items, figures, rng=rng, resamples=resamples, confidence=(1 + confidence) / 2, alternative="greater"
    ).low  # fmt: skip
    means = items.mean(axis=1)
    n_gains, has_any = len(gains), bool(half.behavior.p_aligned[at_0].any())
    no_ratio = np.repeat([False, not has_any, not means[-1] > 0], [n_gains, n_s, n_s])  # no item has any at 0
    values, low = (np.where(no_ratio, NAN, numbers) for numbers in (figures(means[None])[0], low))
    p, p_0 = half.p[rows], half.p[at_0]
    lost = lost_high = np.full(n_s, NAN)
    if p.size and np.isfinite(p).all():
        lost = loss_of(p.mean(axis=1), p_0.mean(), half.chance.mean())
        lost_high = loss_bound(p, p_0, half.chance, rng=rng, confidence=confidence)
    invalid = np.full(n_s, NAN) if half.invalid is None else half.invalid[rows].mean(axis=1)
    over = (values[n_gains - 1], low[n_gains - 1]) if n_gains > n_s else (NAN, NAN)
    return [
        Evidence(
            gains.shape[1], p.shape[1], *(float(column[i]) for column in (values, low, lost, lost_high, invalid)),
            *(float(column[n_gains + i]) for column in (values, low)),
            *(float(column[n_gains + n_s + i]) for column in (values, low)), *map(float, over),
        )
        for i in range(n_s)
    ]  # fmt: skip


def _of_as_many(evidence: Evidence, n_tell: int) -> Evidence:
    """The evidence with bounds of the gain as near as those of so many items that look alike, where they are more."""
    nearer = min(math.sqrt(evidence.n_behavior / n_tell), 1.0)

    def low(value: float, of_few: float) -> float:
        return value - nearer * (value - of_few)

    return replace(
        evidence, gain_low=low(evidence.gain, evidence.gain_low),
        aligned_ratio_low=low(evidence.aligned_ratio, evidence.aligned_ratio_low),
        mass_ratio_low=low(evidence.mass_ratio, evidence.mass_ratio_low),
    )  # fmt: skip


def _no_gain(evidence: Evidence) -> str:
    """Why a strength is not sure to gain alignment, in words, or ""."""
    if not evidence.gain_low > 0:
        return f"the lower bound of the gain is {plus(evidence.gain_low)}"
    if np.isnan(evidence.aligned_ratio):
        return "no aligned answer has any probability without steering, so no rise can be measured"
    if not evidence.aligned_ratio_low > 1:
        return (
            f"P+ is typically {evidence.aligned_ratio:.2f} of what it is without steering, and may be "
            f"{evidence.aligned_ratio_low:.2f}: it is not certain that the aligned answers become likelier"
        )
    if not evidence.mass_ratio_low >= LEAST_MASS:
        return (
            f"the listed answers hold {evidence.mass_ratio:.2f} of the probability that they hold without steering, "
            f"and may hold {evidence.mass_ratio_low:.2f}: the model leaves them"
        )
    return ""


def _untold(teller: Curves) -> str:
    """Why the testing own answers say nothing of a candidate."""
    measured = [] if teller.telling is None else [s for s in teller.telling.strengths.tolist() if s]
    if not measured:
        return "the testing own answers are not measured; run the same sweep again to go on, or give more requests"
    at = ", ".join(f"{s:+g}" for s in measured)
    return (
        f"the testing own answers were measured at {at}, not there; a new sweep with this budget and sign measures "
        "them there"
    )


def _doubts(teller: Curves, told: Evidence, budgets: _Budgets, candidate: float, confidence: float) -> list[str]:
    """What the telling half does not confirm of the candidate."""
    doubts = [no_gain] if (no_gain := _no_gain(told)) else []
    if teller.kind == "own" and not np.isfinite(told.loss):
        doubts.append(_untold(teller))
    if over := budgets.exceeded(told):
        enough = budgets.n_to_prove(teller, confidence)
        is_few = told.loss_high > budgets.max_loss and told.n_choice < enough
        doubts.append(f"{over}; {enough} testing items that lose nothing prove that budget" if is_few else over)
    if teller.pending:
        return [*doubts, teller.pending]
    others = teller.others
    if others is None:
        return doubts
    if others.strength != candidate:
        return [
            *doubts, f"{'random directions were' if len(others.random) else 'the orthogonal direction was'} "
            f"measured at {others.strength:+g}, not there; a new sweep with this budget and sign measures it there",
        ]  # fmt: skip
    b_0 = float(teller.normalized[teller.at_0].mean())
    if len(others.random):
        strongest = float(others.random.mean(axis=1).max()) - b_0
        reach = max(others.reach(n_compared=teller.n_compared, confidence=confidence) - b_0, strongest)
        if not told.over_random_low > 0 or told.gain <= reach:
            doubts.append(
                f"random directions gain {plus(told.gain - told.over_random)} on average and {plus(strongest)} at "
                f"most, another one may gain {plus(reach)}, the vector {plus(told.gain)}; the lower bound of what it "
                f"has over their average is {plus(told.over_random_low)}"
            )
    if others.orthogonal is not None and told.gain <= (of_orthogonal := float(others.orthogonal.mean()) - b_0):
        doubts.append(f"the orthogonal direction gains {plus(of_orthogonal)}, the vector {plus(told.gain)}")
    return doubts
