"""What a run comes to, in plain words: what to use, what it gains and costs, or why nothing, and what to try next.

    verdict = verdict_of(judge(open_run("runs/refusal")))
    verdict.kind, verdict.headline        # "use", "Use strength +0.375 of the residual norm at layers 5-6."

The rule that decides is `recommend` in statistics/recommend.py; here its outcome gets one of a few names:

    use            a strength is recommended
    unproved       there is a candidate, or a gain that seems to cost little, but too few items to prove it
    costs          the vector works but costs more than the budget, or so does the smallest strength already
    nothing        it is not certain that it raises B, or no more than other directions of its size
    unmeasurable   the helpfulness items tell nothing of this model
    partial        behavior, helpfulness or strengths of the wanted sign were not measured
    unfinished     the run goes on with the same command
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

import numpy as np

from steercpp.runs.judgement import Judgement
from steercpp.runs.manifest import Manifest
from steercpp.runs.needed_items import MOST_MORE, about, needed_for_gain, needed_for_loss, whole_items
from steercpp.runs.scope import ITEM_NAMES
from steercpp.runs.scores import Control, Controls
from steercpp.runs.showcase import ShownRequest, read_showcase
from steercpp.statistics.curves import Curves, dealt
from steercpp.statistics.intervals import FEWEST_ITEMS, resample
from steercpp.statistics.losses import loss_bound, loss_of
from steercpp.statistics.recommend import Evidence, Indices, Recommendation
from steercpp.statistics.rounded import at_most, chosen_percent, percent, plus
from steercpp.statistics.scores import measured

VerdictKind: TypeAlias = Literal["use", "unproved", "costs", "nothing", "unmeasurable", "partial", "unfinished"]


@dataclass(frozen=True, slots=True)
class MeasureWords:
    """What a measure of helpfulness is called.

    Attributes:
        name: of the number that is lost.
        items: what it is measured on.
    """

    name: str
    items: str


MEASURE_WORDS: Mapping[str, MeasureWords] = {  # by kind of item, see `Curves.kind`
    "choice": MeasureWords("P(correct)", "questions"),
    "answer": MeasureWords("P of answers", "answers"),
    "code": MeasureWords("pass@1", "programs"),
    "own": MeasureWords("P of everyday answers", "everyday answers"),
    "beyond": MeasureWords("P of everyday answers beyond the prompt baseline", "everyday answers"),
}
OWN_TASK = "own"  # the task that every model can be measured on, and that takes the fewest items
NOTHING_TO_TRY: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Gain:
    """How much B rises at a strength, and at least; `at_0` and `at_strength` are the means that it lies between."""

    value: float
    low: float
    at_0: float
    at_strength: float
    n_items: int


@dataclass(frozen=True, slots=True)
class Cost:
    """Which share of helpfulness is lost at a strength, and at most; `kind` is a key of `MEASURE_WORDS`.

    `whole` is what of everyday answers is lost in all, where `value` is beyond the prompt baseline; else None.
    """

    value: float
    high: float
    budget: float
    kind: str
    n_items: int
    whole: float | None = None


@dataclass(frozen=True, slots=True)
class Beside:
    """What something else does to the same items, all of them: the change of mean B, and the share of helpfulness lost.

    Of several directions `b` is the mean change and `b_most` the largest; `cost` is then None, and
    where the cost is what is beyond the prompt baseline. `whole` is as of `Cost`.
    """

    n: int
    b: float
    b_most: float
    cost: float | None = None
    whole: float | None = None


# What these are called in JSON, as everywhere else
_BESIDE: Mapping[str, str] = {"b": "gain", "b_most": "gain_most", "cost": "loss", "whole": "loss_whole"}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a run comes to.

    Attributes:
        kind: see above.
        strength: the recommended one; None where there is none.
        at: the strength that gain, cost and example are of: the recommended one, the candidate, or where most is
            gained; None where nothing is compared.
        headline: one sentence.
        reason: why nothing is recommended, in a sentence; "" where something is.
        gain, cost: at that strength; None where they were not measured.
        prompt: the instruction before every prompt; random: other directions of the vector's size, at `at`.
        example: a request whose text differs there, see `Showcase.example`.
        example_at: the strength of the example's text; `at`, or where there is none the strongest on the wanted side.
        next: parameters of another sweep to try, by name, with their values; empty where there is nothing to do.
        next_why: what it is for.
        scope: what of a full sweep was left out and what that costs, in a sentence; "" where nothing was.
    """

    kind: VerdictKind
    headline: str
    strength: float | None = None
    at: float | None = None
    reason: str = ""
    gain: Gain | None = None
    cost: Cost | None = None
    prompt: Beside | None = None
    random: Beside | None = None
    example: ShownRequest | None = None
    example_at: float | None = None
    next: Mapping[str, str] = field(default_factory=dict)
    next_why: str = ""
    scope: str = ""

    @property
    def facts(self) -> list[tuple[str, str]]:
        """Gain and cost with their bounds, and what stands beside them: a name and a sentence each."""
        is_named = self.at is None or f"{self.at:+.10g}" in self.headline
        at = "" if is_named else f" at {self.at:+.10g}"
        facts = []
        if (gain := self.gain) is not None:
            means = f"from {plus(gain.at_0, 2)} to {plus(gain.at_strength, 2)}"
            facts.append(("gain", f"{plus(gain.value, 2)} in B{at}, at least {plus(gain.low, 2)} ({means})"))
        if (cost := self.cost) is not None:
            words = MEASURE_WORDS[cost.kind]
            of = f"{cost.n_items} {words.items}; budget {chosen_percent(cost.budget)}"
            whole = "" if cost.whole is None else f"; {percent(cost.whole)} in all"
            facts.append(("cost", f"{percent(cost.value)} of {words.name}, {at_most(cost.high)} ({of}){whole}"))
        beside = []
        if (prompt := self.prompt) is not None:
            lost = "" if prompt.whole is None else f", {percent(prompt.whole)} lost in all"
            if prompt.cost is not None:
                lost = f" at a cost of {percent(prompt.cost)}" if prompt.cost >= 0.0005 else " at no cost"
            beside.append(f"prompt baseline: {plus(prompt.b, 2)} in B{lost}")
        if (random := self.random) is not None:
            ones = f"{random.n} random direction{'s' if random.n > 1 else ''}"
            beside.append(f"{ones}: {plus(random.b, 2)} in B on average, {plus(random.b_most, 2)} at most")
        return [*facts, *(("beside" if not i else "", line) for i, line in enumerate(beside))]

    def record(self) -> dict[str, Any]:
        """Plain data for JSON."""
        record = {name: getattr(self, name) for name in ("kind", "headline", "strength", "at", "reason")}
        for name in ("gain", "cost", "prompt", "random"):
            part = getattr(self, name)
            names = _BESIDE if isinstance(part, Beside) else {}
            record[_BESIDE.get(name, name)] = (
                None if part is None else {names.get(key, key): value for key, value in asdict(part).items()}
            )
        example = None if self.example is None else self.example.record()
        return {
            **record, "example": example, "example_at": self.example_at, "next": dict(self.next),
            "next_why": self.next_why, "scope": self.scope,
        }  # fmt: skip


def verdict_of(judgement: Judgement) -> Verdict:
    """What a judged run comes to.

    Raises:
        RunError: its store cannot be read.
    """
    verdict = _verdict(judgement)
    found = judgement.result.preparation
    if found is None or not found.scope.is_trimmed:
        return verdict
    verdict = replace(verdict, scope=found.scope.sentence)
    finds_too_little = verdict.kind == "unproved" or (verdict.kind == "nothing" and "direction" not in verdict.next)
    if finds_too_little and found.scope.items:
        how = "`quick`" if found.scope.budget_s is None else "`budget_s`"
        verdict = replace(
            verdict, next={}, next_why=f"The same command without {how} measures "
            f"{' and '.join(f'{full} {ITEM_NAMES[kind]}' for kind, (_, full) in found.scope.items.items())}.",
        )  # fmt: skip
    return verdict


def _verdict(judgement: Judgement) -> Verdict:
    """What it comes to, whatever was left out."""
    result, recommendation = judgement.result, judgement.recommendation
    if not result.finished:
        n_measured, n_planned = len(result.strengths), len(result.manifest.plan.strengths)
        return Verdict(
            "unfinished", f"This run is unfinished: {n_measured} of {n_planned} strengths are measured.",
            next_why="The same command again goes on from there.",
        )  # fmt: skip
    if recommendation is None:
        return _partial(judgement)
    curves = result.curves(invalid=judgement.broken)
    assert curves is not None
    return _Case(judgement, recommendation, curves).verdict()


def unit_phrase(manifest: Manifest) -> str:
    """What strength 1 is, to stand behind a number: " of the residual norm", " long", " times the vector"."""
    plan = manifest.plan
    if plan.operator == "rotate":
        return " radians"
    if plan.operator == "ablate":
        return " of the projection"
    if plan.unit == "norm":
        return " of the residual norm"
    if plan.unit == "kl":
        return f" pushes of {plan.kl:g} nats"
    norms = manifest.vector.norms
    return " (length)" if norms and all(abs(norm - 1) < 1e-3 for norm in norms) else " times the vector"


def layers_text(layers: tuple[int, ...]) -> str:
    """Layers as a reader lists them: "5", "5-6", "3, 7"."""
    is_range = len(layers) > 1 and list(layers) == list(range(layers[0], layers[-1] + 1))
    return f"{layers[0]}-{layers[-1]}" if is_range else ", ".join(map(str, layers))


def layers_phrase(layers: tuple[int, ...]) -> str:
    """The steered layers: "layer 5", "layers 5-6", "layers 3, 7"."""
    return f"layer{'s' if len(layers) > 1 else ''} {layers_text(layers)}"


def _partial(judgement: Judgement) -> Verdict:
    if judgement.result.behavior is None:
        return Verdict(
            "partial", "No strength to recommend: it also takes behavior items.",
            next={"behavior": "B"}, next_why="Say what the vector is meant to change",
        )  # fmt: skip
    return Verdict(
        "partial", "No strength to recommend: it also takes choice, answer, code or own items.",
        next={"task": OWN_TASK}, next_why="Measure what steering costs",
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Case:
    """A finished run with behavior and helpfulness, on its way to a verdict."""

    judgement: Judgement
    recommendation: Recommendation
    curves: Curves

    def verdict(self) -> Verdict:
        best, curves = self.recommendation, self.curves
        rows = curves.outwards(best.direction)
        if best.strength is not None:
            manifest = self.judgement.result.manifest
            where = f"{unit_phrase(manifest)} at {layers_phrase(tuple(manifest.vector.layers))}"
            return self._told("use", f"Use strength {best.strength:+.10g}{where}.", at=best.strength)
        if not len(rows):
            side = "positive" if best.direction > 0 else "negative"
            return self._told("partial", f"No strength to recommend: no {side} strength was measured.",
                              next={"strengths": "A:B:STEP"}, next_why="Measure that side")  # fmt: skip
        if reason := self._unmeasurable:
            why = "Everyday answers tell the cost on every model"
            if curves.kind == OWN_TASK:
                why = "Try another model"
            headline = f"This model cannot be measured by these {self.words.items}."
            return self._told("unmeasurable", headline, reason=reason,
                              next={"task": OWN_TASK}, next_why=why)  # fmt: skip
        if (n_few := min(curves.normalized.shape[1], curves.p.shape[1])) < 2 * FEWEST_ITEMS:
            items = "behavior items" if curves.normalized.shape[1] == n_few else self.words.items
            return self._unproved(
                None, f"There are {n_few} {items}; two halves that can bound anything need {2 * FEWEST_ITEMS}.",
                2 * FEWEST_ITEMS - n_few, items,
            )  # fmt: skip
        if best.candidate is not None and best.reported_on is not None:
            return self._unconfirmed(best.candidate, best.reported_on)
        return self._without_candidate(rows)

    @property
    def _cost_kind(self) -> str:
        """Which of the `MEASURE_WORDS` name what is lost."""
        return "beyond" if self.curves.measure == "p_beyond" else self.curves.kind

    @property
    def words(self) -> MeasureWords:
        return MEASURE_WORDS.get(self._cost_kind, MeasureWords("helpfulness", f"{self.curves.kind} items"))

    @property
    def _unmeasurable(self) -> str:
        """Why helpfulness tells nothing, in plain words, or ""."""
        curves = self.curves
        p_0, chance = float(curves.p[curves.at_0].mean()), float(curves.chance.mean())
        if curves.guessing:
            choice = self.judgement.result.choice
            right = "" if choice is None else (
                f": {int(choice.correct[np.flatnonzero(choice.strengths == 0.0)[0]].sum())} of "
                f"{choice.correct.shape[1]} are right without steering"
            )  # fmt: skip
            return f"It answers the {self.words.items} no better than by guessing{right}."
        if p_0 <= chance:
            return (
                f"Without steering {self.words.name} is {p_0:.3f}, where guessing earns {chance:.3f}: there is nothing "
                "to lose."
            )
        return ""

    def _unconfirmed(self, candidate: float, told: Evidence) -> Verdict:
        """The other half of the items does not confirm the candidate: for cost, for gain, or for lack of items."""
        best, budget = self.recommendation, self.recommendation.max_loss
        if told.loss > budget:
            return self._costs(candidate)
        if best.max_invalid is not None and told.invalid > best.max_invalid:
            reason = f"{told.invalid:.1%} of the generated texts are broken at {candidate:+.10g}."
            return self._costs(candidate, reason)
        if told.gain <= 0 or not told.aligned_ratio > 1:
            return self._nothing(candidate, "On the items that had no part in the choice B does not rise.")
        others = self.curves.others
        if others is not None and others.strength != candidate:
            reason = f"Other directions were measured at {others.strength:+.10g}, not there."
            return self._told("unproved", f"Candidate {candidate:+.10g}, not proved.", at=candidate, reason=reason,
                              next={"max-loss": f"{budget:g}"}, next_why="Measures them there")  # fmt: skip
        teller = self.curves.halves(self.judgement.rng())[1]  # as `recommend` deals them
        highest, reach = _highest_of_others(teller), _reach_of_others(teller, best.confidence)
        if highest is not None and (told.over_random <= 0 or told.gain <= highest):
            return self._nothing(
                candidate, f"Other directions of the same size raise B by up to {plus(highest)}, the vector by "
                f"{plus(told.gain)}.",
            )  # fmt: skip
        if told.loss_high > budget:
            n = told.n_choice
            needed = needed_for_loss(self.curves, told.loss, told.loss_high, n, budget, best.confidence)
            reason = _bounded_loss(told.loss, told.loss_high, n, self.words).capitalize()
            return self._unproved(candidate, reason, whole_items(self._dealt * (needed - n)), self.words.items)
        if (found := needed_for_gain(told)) is None:
            reason = f"B rises by {plus(told.gain)}; one more random direction may raise it by {plus(reach or 0.0)}."
            return self._told("unproved", f"Candidate {candidate:+.10g}, not proved.", at=candidate, reason=reason,
                              next={"random": "32"}, next_why="More random directions to compare with")  # fmt: skip
        reason, needed = found
        more = whole_items(self._dealt * (needed - told.n_behavior))
        return self._unproved(candidate, reason, more, "behavior items")

    @property
    def _dealt(self) -> float:
        """How many items it takes for one more that tells: two of three tell beside own answers, else one of two."""
        return 1.5 if self.curves.kind == OWN_TASK else 2.0

    def _without_candidate(self, rows: np.ndarray) -> Verdict:
        """No strength both surely gains and keeps to the budget: which of the two is it?"""
        curves, budget, best = self.curves, self.recommendation.max_loss, self.recommendation
        losses, earned, strengths = curves.losses, curves.earned, curves.strengths
        over = next((i for i, row in enumerate(rows) if losses[row] > budget), len(rows))
        if not over:
            first, lost = float(strengths[rows[0]]), float(losses[rows[0]])
            return self._costs(
                first, f"Already the smallest strength, {first:+.10g}, costs {lost:.0%} of {self.words.name}.",
                next={"strengths": f"-{abs(first):g}:{abs(first):g}:{abs(first) / 4:g}"},
                next_why="Try smaller strengths",
            )  # fmt: skip
        top = int(max(rows, key=lambda row: earned[row]))
        inside = int(max(rows[:over], key=lambda row: earned[row]))
        n_tried = len(rows)  # the best of so many strengths may gain by chance
        for row in (inside, top):
            at = float(strengths[row])
            gain, cost = self._figures(at, n_tried=n_tried)
            if not (earned[row] > 0 and gain.low > 0):
                continue
            if not self._beats_others(at, gain.value):
                continue
            if row == inside and cost.high <= budget:  # the loss is proved, the gain of few items is not
                n_behavior = curves.normalized.shape[1]
                reason = "B rises there over all items, but on those that choose it is not certain."
                return self._unproved(at, reason, n_behavior, "behavior items")
            if row == inside:
                needed = needed_for_loss(curves, cost.value, cost.high, cost.n_items, budget, best.confidence)
                reason = f"B rises there, and {_bounded_loss(cost.value, cost.high, cost.n_items, self.words)}"
                n_all = cost.n_items * (3 if curves.kind == OWN_TASK else 1)  # of own answers these are the third
                return self._unproved(at, reason, whole_items(self._dealt * needed - n_all), self.words.items)
            if curves.others is None or curves.others.strength != at:  # then nobody knows whether the vector did it
                reason = f"At {at:+.10g}, where B rises, {percent(losses[row])} of {self.words.name} is lost."
                return self._costs(at, f"{reason} Other directions were not measured there.")
            return self._costs(at)
        opposite = strengths * best.direction < 0
        affordable = opposite & (losses <= budget)
        other = int(np.argmax(np.where(affordable if affordable.any() else opposite, earned, -np.inf)))
        if opposite[other] and earned[other] > 0:
            gain, _ = self._figures(float(strengths[other]), n_tried=int(opposite.sum()))
            if gain.low > 0 and self._beats_others(-float(strengths[top]), gain.value):
                sign = "-" if best.direction > 0 else "+"
                wanted, there = ("positive", "negative") if best.direction > 0 else ("negative", "positive")
                return self._nothing(
                    float(strengths[top]),
                    f"At {wanted} strengths, the wanted ones, B does not rise; at {there} ones, such as "
                    f"{strengths[other]:+.10g}, it does.",
                    next={"direction": sign}, next_why="Use the vector the other way round",
                )  # fmt: skip
        return self._nothing(float(strengths[inside]), "At no strength within the budget is it certain that B rises.")

    def _beats_others(self, at: float, gain: float) -> bool:
        """Whether a gain is above what other directions reach; also where none were measured at that strength."""
        others, most = self.curves.others, _reach_of_others(self.curves, self.recommendation.confidence)
        return others is None or most is None or others.strength != at or gain > most

    def _unproved(self, at: float | None, reason: str, more: int, items: str) -> Verdict:
        if more <= MOST_MORE:
            n = about(more)
            headline = f"not proved: that takes about {n:,} more {items}."
        else:
            headline = f"not proved: that takes far more {items}."
        headline = f"Candidate {at:+.10g}, {headline}" if at is not None else f"{headline[:1].upper()}{headline[1:]}"
        if items == "behavior items":
            next_, why = {"behavior": "FILE"}, "More prompts"
        elif self.curves.kind == OWN_TASK:
            next_, why = {"task": "FILE"}, "More everyday requests"
        else:
            next_, why = {"task": OWN_TASK}, "Everyday answers prove it with the fewest items"
        return self._told("unproved", headline, at=at, reason=reason, next=next_, next_why=why)

    def _costs(
        self, at: float, reason: str = "", *, next: Mapping[str, str] = NOTHING_TO_TRY, next_why: str = ""
    ) -> Verdict:
        row = int(np.flatnonzero(self.curves.strengths == at)[0])
        lost = self.curves.losses[row]
        return self._told(
            "costs", "No strength to recommend: it costs too much." if reason else
            "No strength to recommend: the vector works, but costs too much.",
            at=at, reason=reason or f"At {at:+.10g}, where B rises, {percent(lost)} of {self.words.name} is lost.",
            next=next or {"layers": "A-B"},
            next_why=next_why or "Other layers may cost less; steercpp scan compares them",
        )  # fmt: skip

    def _nothing(
        self, at: float, reason: str, *, next: Mapping[str, str] = NOTHING_TO_TRY, next_why: str = ""
    ) -> Verdict:
        return self._told(
            "nothing", "No strength to recommend: the vector does nothing that would be wanted.", at=at, reason=reason,
            next=next or {"layers": "A-B"}, next_why=next_why or "Other layers, or other pairs",
        )  # fmt: skip

    def _told(
        self,
        kind: VerdictKind,
        headline: str,
        *,
        at: float | None = None,
        reason: str = "",
        next: Mapping[str, str] = NOTHING_TO_TRY,
        next_why: str = "",
    ) -> Verdict:
        """The verdict with its figures at a strength, and what stands beside them."""
        result = self.judgement.result
        gain, cost = (None, None) if at is None else self._figures(at)
        showcase = read_showcase(result)
        shown_at = at
        if showcase is not None and (at is None or at not in showcase.strengths):
            shown_at = max(showcase.strengths, key=lambda s: s * self.recommendation.direction)
        return Verdict(
            kind, headline, strength=self.recommendation.strength if kind == "use" else None,
            at=shown_at if at is None else at, reason=reason, gain=gain, cost=cost, prompt=self._prompt(at),
            random=self._random(at), example=None if showcase is None or not shown_at else showcase.example(shown_at),
            example_at=shown_at, next=next, next_why=next_why,
        )  # fmt: skip

    def _figures(self, at: float, *, n_tried: int = 1) -> tuple[Gain, Cost]:
        """Gain and cost at a strength: of the candidate on the items that had no part in the choice, else of all.

        The bound of the gain holds for the best of `n_tried` strengths.
        """
        best, curves = self.recommendation, self.curves
        if at == best.candidate and (told := best.reported_on) is not None:
            return (
                Gain(told.gain, told.gain_low, best.b_normalized_at_0, best.b_normalized, told.n_behavior),
                Cost(
                    told.loss,
                    told.loss_high,
                    best.max_loss,
                    self._cost_kind,
                    told.n_choice,
                    self._whole(at, telling=True),
                ),
            )
        row, rng = int(np.flatnonzero(curves.strengths == at)[0]), self.judgement.rng()
        b, b_0 = curves.normalized[row], curves.normalized[curves.at_0]
        gains = (b - b_0)[None]
        low = resample(gains, lambda means: means, rng=rng, confidence=1 - (1 - best.confidence) / 2 / n_tried,
                       alternative="greater").low[0]  # fmt: skip
        high = loss_bound(curves.p[[row]], curves.p[curves.at_0], curves.chance, rng=rng, confidence=best.confidence)
        return (
            Gain(float(gains.mean()), float(low), float(b_0.mean()), float(b.mean()), len(b)),
            Cost(
                float(curves.losses[row]),
                float(high[0]),
                best.max_loss,
                self._cost_kind,
                curves.p.shape[1],
                self._whole(at, telling=False),
            ),
        )

    def _tested(self, at: float | None) -> tuple[Indices, Indices]:
        """Numbers of the behavior and of the helpfulness items that the gain at a strength is of, see `_figures`."""
        curves, best, rng = self.curves, self.recommendation, self.judgement.rng()
        n_behavior, n_helpful = curves.normalized.shape[1], curves.p.shape[1]
        if at is None or at != best.candidate or best.reported_on is None:
            return np.arange(n_behavior), np.arange(n_helpful)
        is_own = curves.kind == OWN_TASK
        behavior = dealt(n_behavior, rng, by_thirds=is_own)[1]  # as `Curves.halves` deals them
        return behavior, np.arange(n_helpful) if is_own else dealt(n_helpful, rng)[1]

    def _prompt(self, at: float | None) -> Beside | None:
        """What the prompt baseline does, on the items that the gain is of."""
        controls: Controls = self.judgement.result.controls
        asked, plain = controls.prompt, controls.unsteered
        if asked is None or plain is None or asked.behavior is None or plain.behavior is None:
            return None
        behavior, helpful = self._tested(at)
        change = float((asked.behavior.normalized[0] - plain.behavior.normalized[0])[behavior].mean())
        lost = self._lost(asked, plain, helpful)
        if self._cost_kind == "beyond":  # beyond itself it costs nothing by definition, so only the whole compares
            return Beside(1, change, change, whole=lost)
        return Beside(1, change, change, lost)

    def _whole(self, at: float, *, telling: bool) -> float | None:
        """What of everyday answers is lost in all at a strength, where the loss is beyond the prompt baseline."""
        result = self.judgement.result
        own = result.telling if telling else result.own
        if self._cost_kind != "beyond" or own is None:
            return None
        (row,) = np.flatnonzero(own.strengths == at)
        return float(1.0 - own.p_own[row].mean())

    def _lost(self, asked: Control, plain: Control, items: Indices) -> float | None:
        """Which share of these items' helpfulness a control loses; of own answers, all that choose and as a whole."""
        if self._unmeasurable:
            return None
        if asked.own is not None and plain.own is not None:
            return float(1.0 - asked.own.p_own[0].mean() / plain.own.p_own[0].mean())
        with_control, without = asked.choice or asked.answer, plain.choice or plain.answer
        if with_control is None or without is None:
            return None
        measure = self.judgement.measure
        p, p_0 = (measured(scores, measure)[0][items].mean() for scores in (with_control, without))
        return float(loss_of(p, p_0, float(self.curves.chance[items].mean())))

    def _random(self, at: float | None) -> Beside | None:
        """What random directions do on the items that the gain is of, where they were measured at that strength."""
        controls = self.judgement.result.controls
        measured_b = [control.behavior.normalized[0] for control in controls.random if control.behavior is not None]
        plain = None if controls.unsteered is None else controls.unsteered.behavior
        if at is None or controls.strength != at or not measured_b or plain is None:
            return None
        items = self._tested(at)[0]
        changes = (np.array(measured_b) - plain.normalized[0])[:, items].mean(axis=1)
        return Beside(len(changes), float(changes.mean()), float(changes.max()))


def _highest_of_others(curves: Curves) -> float | None:
    """How much other directions raise the mean B of these items at most; None where none were measured."""
    others = curves.others
    if others is None:
        return None
    means = [float(mean) for mean in others.random.mean(axis=1)] if len(others.random) else []
    means += [] if others.orthogonal is None else [float(others.orthogonal.mean())]
    return max(means) - float(curves.normalized[curves.at_0].mean()) if means else None


def _reach_of_others(curves: Curves, confidence: float) -> float | None:
    """How much one more such direction may raise it; None where none were measured."""
    highest, others = _highest_of_others(curves), curves.others
    if highest is None or others is None or not len(others.random):
        return highest
    reach = others.reach(n_compared=curves.n_compared, confidence=confidence)
    return max(highest, reach - float(curves.normalized[curves.at_0].mean()))


def _bounded_loss(loss: float, high: float, n_items: int, words: MeasureWords) -> str:
    bound = "may be anything" if math.isinf(high) else f"may be {percent(high)}"
    return f"the loss is {percent(loss)}, but as far as {n_items} {words.items} tell it {bound}."
