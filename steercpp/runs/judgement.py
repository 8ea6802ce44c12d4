"""Everything that follows from a run's measurements, judged in one way; read this to judge it in another.

    judgement = judge(open_run("runs/refusal"), Judging(max_loss=0.1, weight=2.0))
    judgement.recommendation, judgement.slopes, judgement.optimum, judgement.record()

No model is needed: budgets, weights, the wanted sign and the matcher of said texts are all applied when a run is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from steercpp.aliases import Floats
from steercpp.data.items import HARMFUL, BehaviorItem, ChoiceItem
from steercpp.judging.matchers import AUTO, Outcome, chosen_matcher
from steercpp.judging.programs import WAYS, Way
from steercpp.runs.code import failure_reasons
from steercpp.runs.folder import STORE
from steercpp.runs.result import SweepResult
from steercpp.runs.samples import Sample, sample_choices, sample_texts
from steercpp.runs.store import Store
from steercpp.statistics.code_scores import CodeScores
from steercpp.statistics.couples import Coupled, coupled
from steercpp.statistics.failures import ChoiceFailures, TextCounts, choice_failures, text_counts
from steercpp.statistics.fits import Window
from steercpp.statistics.optimum import Optimum, optimum
from steercpp.statistics.over_refusal import Sides, sides, text_sides
from steercpp.statistics.recommend import Curves, Measure, Recommendation, recommend
from steercpp.statistics.scores import AnswerScores, ChoiceScores
from steercpp.statistics.slopes import Slopes, slopes
from steercpp.statistics.text_scores import TextScores

# FOLD: What a report tells of generated code: a record and a table of pass@k over strength.
_NAN = float("nan")


def ways_of(result: SweepResult) -> dict[Way, CodeScores]:
    """The scores by each way in which the programs were taken out of the answers."""
    found = {way: result.code_by(way) for way in WAYS}
    return {way: scores for way, scores in found.items() if scores is not None}


def largest_k(scores: CodeScores) -> int:
    """The k of pass@k that is told beside pass@1: half of the answers, since all of them leave nothing to average."""
    return max(1, scores.n_samples // 2)


def bounds(result: SweepResult, scores: CodeScores, k: int) -> tuple[Floats, Floats]:
    """95 % interval of pass@k at each strength; NaN for fewer than 5 problems."""
    found = scores.interval(k, rng=np.random.default_rng(result.manifest["plan"]["seed"]))
    missing = np.full(len(scores.strengths), _NAN)
    return (missing, missing) if found is None else (found.low, found.high)


def code_record(result: SweepResult) -> dict[str, Any] | None:
    """Plain data for JSON; None where there is no code, or not all of it was run."""
    ways = ways_of(result)
    if not ways:
        return None
    first = next(iter(ways.values()))
    record: dict[str, Any] = {"n_items": first.passed.shape[1], "n_samples": first.n_samples, "ways": {}}
    with Store.read(result.folder / STORE, settled=result.finished) as store:
        reasons = {way: failure_reasons(store, way=way) for way in ways}
    for way, scores in ways.items():
        k = largest_k(scores)
        low, high = bounds(result, scores, 1)
        record["ways"][way] = [
            {
                "strength": float(s), "pass_at_1": float(p), "low": float(a), "high": float(b), "se": float(error),
                f"pass_at_{k}": float(more), "failed": reasons[way].get(float(s), {}),
            }
            for s, p, a, b, error, more in zip(
                scores.strengths, scores.mean_pass_at(1), low, high, scores.standard_error(), scores.mean_pass_at(k),
                strict=True,
            )
        ]  # fmt: skip
    return record


def code_columns(result: SweepResult) -> Mapping[str, Floats]:
    """The table code.csv: at each strength pass@1 with its interval and the study's standard error, and pass@k."""
    columns: dict[str, Floats] = {}
    for way, scores in ways_of(result).items():
        end = "" if way == WAYS[0] else f"_{way}"
        k = largest_k(scores)
        low, high = bounds(result, scores, 1)
        columns |= {
            "strength": scores.strengths, f"pass_at_1{end}": scores.mean_pass_at(1), f"pass_at_1_low{end}": low,
            f"pass_at_1_high{end}": high, f"pass_at_1_se{end}": scores.standard_error(),
        }  # fmt: skip
        if k > 1:
            columns[f"pass_at_{k}{end}"] = scores.mean_pass_at(k)
    return columns


TWO_SIDES = "the items have two sides that a vector may move oppositely, so no one tanh is their mean B"


@dataclass(frozen=True, slots=True)
class Judging:
    """How a run is judged.

    Attributes:
        max_loss: budget of P(correct); None: the plan's.
        max_invalid: budget of the share of said texts that are invalid; None: there is none.
        direction: wanted sign of strength; None: the plan's.
        weight: what a unit of P(correct) is worth in units of B, for the optimum and the break-even point.
        matcher: by name or path, judges said texts; "auto": the one that knows the items' answers.
        window: strengths that the slopes of single items are taken over; None: all.
    """

    max_loss: float | None = None
    max_invalid: float | None = None
    direction: int | None = None
    weight: float = 1.0
    matcher: str = AUTO
    window: Window | None = None


class Judgement:
    """What a run says, judged in one way; each part is worked out when it is first asked for.

    Attributes:
        result: the run.
        how: the way it is judged.
        max_loss, direction: those of `how`, or the plan's.
    """

    def __init__(self, result: SweepResult, how: Judging | None = None) -> None:
        plan = result.manifest["plan"]
        self.result = result
        self.how = how or Judging()
        self.max_loss: float = plan["max_loss"] if self.how.max_loss is None else self.how.max_loss
        self.direction: int = 1 if (self.how.direction or plan["direction"]) > 0 else -1

    def rng(self) -> np.random.Generator:
        """A generator of the run's own seed, new each time."""
        return np.random.default_rng(self.result.manifest["plan"]["seed"])

    @property
    def helpful(self) -> ChoiceScores | AnswerScores | None:
        """What helpfulness is measured by: choice items, without them answers, without these code, or None."""
        return self.result.helpful

    @property
    def measure(self) -> Measure:
        """Which number of those."""
        return self.result.measure

    @property
    def helpful_items(self) -> Floats | None:
        """(n_s, n_items) that number, None without any."""
        return None if self.helpful is None else np.asarray(getattr(self.helpful, self.measure), np.float64)

    @property
    def behavior_items(self) -> tuple[BehaviorItem, ...]:
        """The behavior items, in the order of their scores."""
        return tuple(item for item in self.result.items("behavior") if isinstance(item, BehaviorItem))

    @property
    def choice_items(self) -> tuple[ChoiceItem, ...]:
        """The choice items, in the order of their scores."""
        return tuple(item for item in self.result.items("choice") if isinstance(item, ChoiceItem))

    @property
    def said(self) -> TextScores | None:
        """What was said, judged; None where nothing was.

        Raises:
            InputError: there is no such matcher.
        """
        return self.result.said(self.how.matcher)

    def samples(self, n: int, *, wanted: Outcome | None = "aligned") -> tuple[Sample, ...]:
        """Up to n texts at each strength that failed, see `sample_texts`."""
        if self.said is None:
            return ()
        texts = [text for strength in self.said.strengths for text in self.result.texts(float(strength))]
        matcher = chosen_matcher(self.how.matcher, self.behavior_items)
        return sample_texts(texts, self.behavior_items, matcher, n=n, wanted=wanted)

    def failed(self, n: int) -> dict[str, list[dict[str, Any]]]:
        """Up to n failures at each strength, as plain data: texts, and choice items that were right before."""
        texts = [sample.record() for sample in self.samples(n)]
        lost = () if self.failures is None else sample_choices(self.result, self.failures, n=n)
        return {"texts": texts, "choices": [sample.record() for sample in lost]}

    @property
    def invalid(self) -> Floats | None:
        """(n_s, n_items) share of each behavior item's texts that is invalid; None where none were said."""
        if self.said is None or not np.array_equal(self.said.strengths, self.result.strengths):
            return None
        return self.said.invalid

    @cached_property
    def recommendation(self) -> Recommendation | None:
        """The strength to use, or None where there is nothing to decide by."""
        if self.result.behavior is None or self.helpful is None:
            return None
        return recommend(
            self.result.behavior, self.helpful, direction=self.direction, max_loss=self.max_loss, measure=self.measure,
            invalid=self.invalid, max_invalid=self.how.max_invalid, weight=self.how.weight, rng=self.rng(),
        )  # fmt: skip

    @cached_property
    def optimum(self) -> Optimum | None:
        """The strength of the largest B + w P, measured and predicted."""
        if self.result.behavior is None or self.helpful is None:
            return None
        fits, curves = self.result.fit(), Curves.of(self.result.behavior, self.helpful, self.measure)
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
            name: slopes(scores.take(own), direction=self.direction, window=window, rng=self.rng())
            for name, own in places.items()
        }

    @property
    def item_slopes(self) -> Floats | None:
        """(n_items,) slope of every behavior item, of two sides each within that of its own; None as `slopes`."""
        if self.slopes is None or not self.by_side:
            return None if self.slopes is None else self.slopes.items
        assert self.result.side_items is not None
        found = np.empty(len(self.behavior_items))
        for name, places in self.result.side_items.items():
            found[places] = self.by_side[name].items
        return found

    @cached_property
    def failures(self) -> ChoiceFailures | None:
        """What became of the choice items."""
        if self.result.choice is None:
            return None
        by_letter = np.array([item.by == "letter" for item in self.choice_items])
        return choice_failures(self.result.choice, by_letter=by_letter)

    @cached_property
    def texts(self) -> tuple[TextCounts, ...]:
        """Said texts by outcome, a row for each strength."""
        return () if self.said is None else text_counts(self.said)

    @cached_property
    def sides(self) -> Sides | None:
        """Over-refusal and compliance, where the behavior items are harmless and harmful requests."""
        if self.result.behavior is None:
            return None
        return sides(self.result.behavior, self.behavior_items, rng=self.rng())

    @cached_property
    def text_sides(self) -> Sides | None:
        """The same of said texts."""
        return None if self.said is None else text_sides(self.said, self.behavior_items, rng=self.rng())

    @cached_property
    def coupled(self) -> Coupled | None:
        """Whether items that move more lose more, where items are coupled."""
        if self.result.behavior is None:
            return None
        return coupled(self.result.behavior, self.behavior_items, self.result.choice, self.choice_items, rng=self.rng())

    def record(self) -> dict[str, Any]:
        """Plain data for JSON: what `SweepResult.to_json` has, and everything above."""
        parts = {
            "per_item": self.slopes, "optimum": self.optimum, "sides": self.sides, "text_sides": self.text_sides,
            "coupled": self.coupled, "recommendation": self.recommendation,
        }  # fmt: skip
        fits = self.result.side_fits
        by_side = {
            name: {"n_items": found.anti.of, "alignment": fits[name].record(), "per_item": found.record()}
            for name, found in self.by_side.items()
        }
        return {
            **self.result.to_json(max_loss=self.max_loss, direction=self.direction),
            "judging": asdict(self.how) | {"max_loss": self.max_loss, "direction": self.direction},
            **{name: None if part is None else part.record() for name, part in parts.items()},
            "by_side": by_side or None,
            "failures": {
                "choice": [asdict(row) for row in self.failures.counts] if self.failures else None,
                "texts": [asdict(row) for row in self.texts] if self.texts else None,
            },
            "code": code_record(self.result),
            "said": None if self.said is None else self.said.record(self.said.bounds(rng=self.rng())),
        }


def judge(result: SweepResult, how: Judging | None = None) -> Judgement:
    """Judge a run; see `Judging`."""
    return Judgement(result, how)
