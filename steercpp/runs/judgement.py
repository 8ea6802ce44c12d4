"""Everything that follows from a run's measurements, judged in one way; read this to judge it in another.

    judgement = judge(open_run("runs/refusal"), Judging(max_loss=0.1, weight=2.0))
    judgement.recommendation, judgement.slopes, judgement.optimum, judgement.record()

No model is needed: budgets, weights, the wanted sign and the matcher of generated texts are applied when a run is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from steercpp.aliases import Floats
from steercpp.data.items import HARMFUL, BehaviorItem, ChoiceItem, Kind, TextItem
from steercpp.judging.matchers import AUTO, Outcome
from steercpp.runs.code_report import code_record
from steercpp.runs.folder import STORE
from steercpp.runs.likelihood import LIKELIHOOD, LikelihoodJudge, likelihood_judge
from steercpp.runs.result import RunRecord, SweepResult
from steercpp.runs.samples import Sample, sample_choices, sample_programs, sample_texts
from steercpp.runs.showcase import read_showcase
from steercpp.runs.store import Store
from steercpp.runs.stored_scores import likeliest_choices
from steercpp.statistics.bias import BiasScores, bias_scores
from steercpp.statistics.couples import Coupled, coupled
from steercpp.statistics.failures import ChoiceFailures, TextCounts, choice_failures, text_counts
from steercpp.statistics.fits import Window
from steercpp.statistics.optimum import Optimum, optimum
from steercpp.statistics.over_refusal import Sides, sides, text_sides
from steercpp.statistics.recommend import Recommendation, recommend
from steercpp.statistics.scores import HelpfulScores, Measure, measured
from steercpp.statistics.slopes import Slopes, slopes
from steercpp.statistics.text_pairs import TextPairScores, text_pair_scores
from steercpp.statistics.text_scores import TextScores

TWO_SIDES = "the items have two sides that a vector may move oppositely, so no one tanh is their mean B"


@dataclass(frozen=True, slots=True)
class Judging:
    """How a run is judged.

    Attributes:
        max_loss: budget of P(correct); None: the plan's.
        max_invalid: budget of the share of generated texts that are broken; None: there is none.
        direction: wanted sign of strength; None: the plan's.
        weight: what a unit of P(correct) is worth in units of B, for the optimum and the break-even point.
        matcher: by name or path, judges generated texts; "auto": the one that knows the items' answers.
        window: strengths that the slopes of single items are taken over; None: all.
    """

    max_loss: float | None = None
    max_invalid: float | None = None
    direction: int | None = None
    weight: float = 1.0
    matcher: str = AUTO
    window: Window | None = None


class JudgementRecord(RunRecord):
    """What `Judgement.record` gives: plain data; None where a run has nothing of the kind."""

    judging: dict[str, Any]
    per_item: dict[str, Any] | None
    optimum: dict[str, Any] | None
    sides: dict[str, Any] | None
    text_sides: dict[str, Any] | None
    coupled: dict[str, Any] | None
    by_side: dict[str, Any] | None
    failures: dict[str, list[dict[str, Any]] | None]
    code: dict[str, Any] | None
    numbers: dict[str, Any] | None
    bias: list[dict[str, Any]] | None
    text_pairs: dict[str, Any] | None
    likelihood: dict[str, Any] | None
    texts: dict[str, Any] | None
    showcase: dict[str, Any] | None


class Judgement:
    """What a run says, judged in one way; each part is worked out when it is first asked for.

    Attributes:
        result: the run.
        how: the way it is judged.
        max_loss, direction: those of `how`, or the plan's.
    """

    def __init__(self, result: SweepResult, how: Judging | None = None) -> None:
        plan = result.manifest.plan
        self.result = result
        self.how = how or Judging()
        self.max_loss: float = plan.max_loss if self.how.max_loss is None else self.how.max_loss
        self.direction: int = 1 if (self.how.direction or plan.direction) > 0 else -1

    def rng(self) -> np.random.Generator:
        """A generator of the run's own seed, new each time."""
        return self.result.rng()

    @property
    def notes(self) -> tuple[str, ...]:
        """The run's notes but for what its verdict says anyway: that helpfulness is no better than guessing."""
        curves = self.result.curves()
        return tuple(note for note in self.result.notes if curves is None or note != curves.guessing)

    @property
    def helpful(self) -> HelpfulScores | None:
        """What helpfulness is measured by: choice items, without them answers, then code, then own answers, or None."""
        return self.result.helpful

    @property
    def measure(self) -> Measure:
        """Which number of those."""
        return self.result.measure

    @property
    def helpful_items(self) -> Floats | None:
        """(n_s, n_items) that number, None without any."""
        return None if self.helpful is None else measured(self.helpful, self.measure)

    @property
    def behavior_items(self) -> tuple[BehaviorItem, ...]:
        """The behavior items, in the order of their scores."""
        return tuple(item for item in self.result.items(Kind.BEHAVIOR) if isinstance(item, BehaviorItem))

    @property
    def choice_items(self) -> tuple[ChoiceItem, ...]:
        """The choice items, in the order of their scores."""
        return tuple(item for item in self.result.items(Kind.CHOICE) if isinstance(item, ChoiceItem))

    @property
    def text_scores(self) -> TextScores | None:
        """The generated texts of the behavior items, judged; None where there are none, or the judge is refused.

        Raises:
            InputError: there is no such matcher, or "likelihood" has no readings.
        """
        return None if self.refused_judge else self.result.text_scores(self.how.matcher)

    @cached_property
    def likelihood(self) -> LikelihoodJudge | None:
        """The texts as the unsteered model reads them; None where it was not asked to."""
        return likelihood_judge(self.result)

    @property
    def refused_judge(self) -> str:
        """Why the model's own judgement, where it is asked for, is not believed; else ""."""
        is_asked = self.how.matcher == LIKELIHOOD and self.likelihood is not None
        return self.likelihood.refused if is_asked and self.likelihood is not None else ""

    def samples(self, n: int, *, wanted: Outcome | None = "aligned") -> tuple[Sample, ...]:
        """Up to n texts at each strength that failed, see `sample_texts`."""
        if self.text_scores is None:
            return ()
        texts = [text for strength in self.text_scores.strengths for text in self.result.texts(float(strength))]
        matcher = self.result.matcher(self.how.matcher)
        return sample_texts(texts, self.behavior_items, matcher, n=n, wanted=wanted)

    def failed(self, n: int) -> dict[str, list[dict[str, Any]]]:
        """Up to n failures at each strength, as plain data: texts, programs, choice items that were right before."""
        texts = [sample.record() for sample in self.samples(n)]
        lost = () if self.failures is None else sample_choices(self.result, self.failures, n=n)
        programs = [sample.record() for sample in sample_programs(self.result, n=n)]
        return {"texts": texts, "choices": [sample.record() for sample in lost], "programs": programs}

    @property
    def broken(self) -> Floats | None:
        """(n_s, n_items) share of each behavior item's texts that is broken; None where there are none."""
        scores = self.result.text_scores(self.how.matcher)  # whoever judges, and is believed or not
        if scores is None or not np.array_equal(scores.strengths, self.result.strengths):
            return None
        return scores.broken

    @cached_property
    def recommendation(self) -> Recommendation | None:
        """The strength to use, or None where there is nothing to decide by."""
        curves = self.result.curves(invalid=self.broken)
        if curves is None:
            return None
        return recommend(
            curves, direction=self.direction, max_loss=self.max_loss, max_invalid=self.how.max_invalid,
            weight=self.how.weight, rng=self.rng(),
        )  # fmt: skip

    @cached_property
    def optimum(self) -> Optimum | None:
        """The strength of the largest B + w P, measured and predicted."""
        curves = self.result.curves()
        if curves is None:
            return None
        fits = self.result.fit()
        return optimum(
            curves, weight=self.how.weight, direction=self.direction, alignment=fits["alignment"][0],
            helpfulness=fits.get("helpfulness", ()), rng=self.rng(), unpredicted=TWO_SIDES if self.by_side else "",
        )  # fmt: skip

    @cached_property
    def slopes(self) -> Slopes | None:
        """How single behavior items respond, of two sides the harmful; None without any, or at one strength only."""
        if self.by_side:
            return self.by_side[HARMFUL]
        if self.result.behavior is None or len(self.result.strengths) < 2:
            return None
        return slopes(self.result.behavior, direction=self.direction, window=self.how.window, rng=self.rng())

    @cached_property
    def by_side(self) -> Mapping[str, Slopes]:
        """How the harmful and the harmless items respond, each where their own mean B tells strengths apart.

        Empty where the items are not of these two sides.
        """
        scores, places = self.result.behavior, self.result.side_items
        if scores is None or places is None or len(self.result.strengths) < 2:
            return {}
        window = self.how.window
        return {
            side: slopes(scores.take(indices), direction=self.direction, window=window, rng=self.rng())
            for side, indices in places.items()
        }

    @property
    def item_slopes(self) -> Floats | None:
        """(n_items,) slope of every behavior item, each taken within its side where there are two; None as `slopes`."""
        if self.slopes is None or not self.by_side:
            return None if self.slopes is None else self.slopes.items
        assert self.result.side_items is not None
        item_slopes = np.empty(len(self.behavior_items))
        for side, indices in self.result.side_items.items():
            item_slopes[indices] = self.by_side[side].items
        return item_slopes

    @cached_property
    def failures(self) -> ChoiceFailures | None:
        """What became of the choice items."""
        return None if self.result.choice is None else choice_failures(self.result.choice)

    @cached_property
    def bias(self) -> tuple[BiasScores, ...]:
        """BBQ's bias score in either kind of context; none where no choice item is such a question."""
        if self.result.choice is None or not any(item.context for item in self.choice_items):
            return ()
        with Store.read(self.result.folder / STORE, settled=self.result.finished) as store:
            answers = likeliest_choices(store, self.result.strengths.tolist())
        return bias_scores(self.result.strengths, answers, self.choice_items, rng=self.rng())

    @cached_property
    def text_pairs(self) -> TextPairScores | None:
        """Pairs of texts whose ln P are compared; None where there are none."""
        if self.result.text is None:
            return None
        items = [item for item in self.result.items(Kind.TEXT) if isinstance(item, TextItem)]
        return text_pair_scores(self.result.text, items)

    @cached_property
    def texts(self) -> tuple[TextCounts, ...]:
        """Generated texts by outcome, a row for each strength."""
        return () if self.text_scores is None else text_counts(self.text_scores)

    @cached_property
    def sides(self) -> Sides | None:
        """Over-refusal and compliance, where the behavior items are harmless and harmful requests."""
        if self.result.behavior is None:
            return None
        return sides(self.result.behavior, self.behavior_items, rng=self.rng())

    @cached_property
    def text_sides(self) -> Sides | None:
        """The same of the generated texts."""
        return None if self.text_scores is None else text_sides(self.text_scores, self.behavior_items, rng=self.rng())

    @cached_property
    def coupled(self) -> Coupled | None:
        """Whether items that move more lose more, where items are coupled."""
        if self.result.behavior is None:
            return None
        return coupled(self.result.behavior, self.behavior_items, self.result.choice, self.choice_items, rng=self.rng())

    def record(self) -> JudgementRecord:
        """Plain data for JSON: what `SweepResult.to_json` has, and everything above."""
        fits, texts = self.result.side_fits, self.text_scores
        by_side = {
            side: {"n_items": of_side.anti.of, "alignment": fits[side].record(), "per_item": of_side.record()}
            for side, of_side in self.by_side.items()
        }
        failures = {
            "choice": [asdict(row) for row in self.failures.counts] if self.failures else None,
            "texts": [_counts(row) for row in self.texts] if self.texts else None,
        }
        return {
            **self.result.to_json(max_loss=self.max_loss, direction=self.direction),
            "judging": asdict(self.how) | {"max_loss": self.max_loss, "direction": self.direction},
            "per_item": _recorded(self.slopes),
            "optimum": _recorded(self.optimum),
            "sides": _recorded(self.sides),
            "text_sides": None if self.text_sides is None else self.text_sides.record("_texts"),
            "coupled": _recorded(self.coupled),
            "recommendation": _recorded(self.recommendation),
            "by_side": by_side or None,
            "failures": failures,
            "code": code_record(self.result),
            "numbers": _recorded(self.result.numbers),
            "text_pairs": _recorded(self.text_pairs),
            "bias": [scores.record() for scores in self.bias] or None,
            "likelihood": _recorded(self.likelihood),
            "texts": None if texts is None else texts.record(texts.bounds(rng=self.rng())),
            "showcase": _recorded(read_showcase(self.result)),
        }


def _counts(row: TextCounts) -> dict[str, Any]:
    """Texts at a strength by outcome, with the names of the table of failures."""
    return {name if name == "strength" else f"texts_{name}": value for name, value in asdict(row).items()}


class _HasRecord(Protocol):
    def record(self) -> dict[str, Any]: ...


def _recorded(part: _HasRecord | None) -> dict[str, Any] | None:
    return None if part is None else part.record()


def judge(result: SweepResult, how: Judging | None = None) -> Judgement:
    """Judge a run; see `Judging`."""
    return Judgement(result, how)
