"""Items to look at, at each strength: texts and programs that failed, and choice items that were right before.

Of texts and programs one of every way of failing comes first.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import numpy as np

from steercpp.choices import CODE_WAYS
from steercpp.data.choice_form import LETTERS
from steercpp.data.items import BehaviorItem, ChoiceItem, CodeItem, Kind
from steercpp.judging.matchers import NO_ANSWER, Matcher, Outcome, broken, judgments, question_of
from steercpp.judging.texts import GeneratedText
from steercpp.runs.code import stored_verdicts
from steercpp.runs.folder import STORE
from steercpp.runs.labels import Label
from steercpp.runs.result import SweepResult
from steercpp.runs.store import Store
from steercpp.runs.stored_scores import likeliest_choices
from steercpp.statistics.failures import RIGHT, WORDS, ChoiceFailures

NOT_FINITE = "not finite"
_Each = TypeVar("_Each")


@dataclass(frozen=True, slots=True)
class Sample:
    """A text with what a matcher makes of it.

    Attributes:
        strength: of the vector.
        item: id of the item.
        asked: what its prompt asks, without template.
        text: what was generated, whole.
        outcome: "aligned", "misaligned", "neither" or "broken".
        why: of a broken text: "says nothing", "not made of words", "repeats itself", "another script" or "not finite";
            "ended inside its thoughts" of one that is neither for that; else "".
        perplexity: under the unsteered model; None of an empty text.
        thoughts, answer: the parts of the text, see judging/answers.py.
    """

    strength: float
    item: str
    asked: str
    text: str
    outcome: Outcome
    why: str
    perplexity: float | None
    thoughts: str = ""
    answer: str = ""

    def record(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def sample_texts(
    texts: Sequence[GeneratedText],
    items: Sequence[BehaviorItem],
    matcher: Matcher,
    *,
    n: int = 3,
    wanted: Outcome | None = "aligned",
) -> tuple[Sample, ...]:
    """Up to n texts at each strength that are not as wanted; the same call gives the same ones.

    Args:
        texts: generated texts of the items.
        items: in the order of their numbers.
        matcher: judges.
        n: how many at each strength.
        wanted: what is left out; None for nothing.

    Returns:
        by strength; within one, each kind of failure once in the order in which it first occurs, then each again.
    """
    failed = [
        _sample(text, items[text.item], outcome)
        for text, outcome in zip(texts, judgments(texts, items, matcher), strict=True)
        if outcome != wanted
    ]
    return _of_each([(sample.strength, (sample.outcome, sample.why), sample) for sample in failed], n)


def _of_each(failed: Sequence[tuple[float, Hashable, _Each]], n: int) -> tuple[_Each, ...]:
    """Up to n at each strength, out of (strength, kind of failure, sample)."""
    by_strength: dict[float, dict[Hashable, list[_Each]]] = {}
    for strength, kind, sample in failed:
        by_strength.setdefault(strength, {}).setdefault(kind, []).append(sample)
    return tuple(
        sample for strength in sorted(by_strength) for sample in _in_turn(list(by_strength[strength].values()))[:n]
    )


def _in_turn(groups: Sequence[Sequence[_Each]]) -> list[_Each]:
    longest = max(map(len, groups), default=0)
    return [group[turn] for turn in range(longest) for group in groups if turn < len(group)]


def _sample(text: GeneratedText, item: BehaviorItem, outcome: Outcome) -> Sample:
    reply, why = text.reply, ""
    if outcome == "broken":
        why = NOT_FINITE if text.finish == "nonfinite" else broken(text.whole, item)
    elif outcome == "neither" and reply.unfinished:
        why = NO_ANSWER
    perplexity = None if text.nats is None else float(np.exp(-text.nats / text.n_tokens))
    return Sample(
        text.strength,
        item.id,
        question_of(item.prompt),
        text.text,
        outcome,
        why,
        perplexity,
        reply.thoughts,
        reply.answer,
    )


@dataclass(frozen=True, slots=True)
class FailedProgram:
    """A program that did not pass its tests.

    Attributes:
        strength: of the vector.
        item: id of the problem.
        asked: its prompt, the head of the function.
        text: what was generated.
        why: the error, as Python names it.
    """

    strength: float
    item: str
    asked: str
    text: str
    why: str

    def record(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def sample_programs(result: SweepResult, *, n: int) -> tuple[FailedProgram, ...]:
    """Up to n programs at each strength that failed, one of each kind of error first.

    Args:
        result: a run; programs that were not run yet have not failed.
        n: how many at each strength.

    Raises:
        RunError: the store cannot be read.
    """
    items = [item for item in result.items(Kind.CODE) if isinstance(item, CodeItem)]
    if not items:
        return ()
    with Store.read(result.folder / STORE, settled=result.finished) as store:
        texts = {(text.strength, text.item, text.sample): text for text in store.texts(Label.VECTOR, Kind.CODE)}
        verdicts = stored_verdicts(store, Label.VECTOR, CODE_WAYS[0])
    failed = []
    for verdict in verdicts:
        text = texts.get((verdict.strength, verdict.item, verdict.sample))
        if not verdict.passed and text is not None:
            item = items[verdict.item]
            sample = FailedProgram(verdict.strength, item.id, item.prompt, text.text, verdict.reason)
            failed.append((verdict.strength, verdict.reason.partition(":")[0], sample))
    return _of_each(failed, n)


@dataclass(frozen=True, slots=True)
class Choice:
    """One of an item's choices."""

    letter: str
    text: str


@dataclass(frozen=True, slots=True)
class LostChoice:
    """An item that was right at strength 0 and is not at another.

    Attributes:
        strength: of the vector.
        item, question: the item's id and question.
        is_: what it is now, "wrong" or "format"; see statistics/failures.py.
        right: the correct choice.
        taken: the likeliest one; where the form is lost it may be the correct one still.
        p_at_0, p: P(correct) over the vocabulary, at strength 0 and at this one.
    """

    strength: float
    item: str
    question: str
    is_: str
    right: Choice
    taken: Choice
    p_at_0: float
    p: float

    def record(self) -> dict[str, Any]:
        """Plain data for JSON."""
        names = {"is_": "is", "p_at_0": "p_correct_at_0", "p": "p_correct"}
        return {names.get(name, name): value for name, value in asdict(self).items()}


def sample_choices(result: SweepResult, failures: ChoiceFailures, *, n: int) -> tuple[LostChoice, ...]:
    """Up to n choice items at each strength that were right at 0 and are not any more, the first ones.

    Args:
        result: a run with choice items.
        failures: what became of them.
        n: how many.

    Raises:
        RunError: the store cannot be read.
    """
    scores = result.choice
    assert scores is not None
    items = [item for item in result.items(Kind.CHOICE) if isinstance(item, ChoiceItem)]
    with Store.read(result.folder / STORE, settled=result.finished) as store:
        taken = likeliest_choices(store, failures.strengths.tolist())
    at_0 = int(np.flatnonzero(failures.strengths == 0)[0])
    samples = []
    for row, s in enumerate(failures.strengths):
        lost = np.flatnonzero((failures.codes[at_0] == RIGHT) & (failures.codes[row] != RIGHT))
        for i in lost[:n]:
            right, likeliest = (Choice(LETTERS[k], items[i].choices[k]) for k in (items[i].answer, int(taken[row, i])))
            samples.append(LostChoice(
                float(s), items[i].id, items[i].question, WORDS[failures.codes[row, i]], right, likeliest,
                float(scores.p_free[at_0, i]), float(scores.p_free[row, i]),
            ))  # fmt: skip
    return tuple(samples)
