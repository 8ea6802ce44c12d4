"""Texts to look at: at each strength some that failed, one of every way of failing first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from steercpp.data.tasks import BehaviorItem
from steercpp.judging.matchers import NEITHER, Matcher, Outcome, asked, broken
from steercpp.judging.texts import SaidText
from steercpp.statistics.text_scores import judgments

NOT_FINITE = "not finite"


@dataclass(frozen=True, slots=True)
class Sample:
    """A text with what a matcher makes of it.

    Attributes:
        strength: of the vector.
        item: id of the item.
        asked: what its prompt asks, without template.
        text: what was said.
        outcome: "aligned", "misaligned" or "invalid".
        why: of an invalid text: "says nothing", "not made of words", "repeats itself", "another script", "says
            neither" or "not finite"; else "".
        perplexity: under the unsteered model; None where nothing was said.
    """

    strength: float
    item: str
    asked: str
    text: str
    outcome: Outcome
    why: str
    perplexity: float | None

    def record(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def sample_texts(
    texts: Sequence[SaidText],
    items: Sequence[BehaviorItem],
    matcher: Matcher,
    *,
    n: int = 3,
    wanted: Outcome | None = "aligned",
) -> tuple[Sample, ...]:
    """Up to n texts at each strength that are not as wanted; the same call gives the same ones.

    Args:
        texts: what was said.
        items: of which.
        matcher: judges.
        n: how many at each strength.
        wanted: what is left out; None for nothing.

    Returns:
        by strength; within one, each kind of failure once in the order in which it first occurs, then each again.
    """
    by_strength: dict[float, dict[tuple[str, str], list[Sample]]] = {}
    for text, outcome in zip(texts, judgments(texts, items, matcher), strict=True):
        kinds = by_strength.setdefault(text.strength, {})
        if outcome != wanted:
            sample = _sample(text, items[text.item], outcome)
            kinds.setdefault((sample.outcome, sample.why), []).append(sample)
    return tuple(
        sample for strength in sorted(by_strength) for sample in _in_turn(list(by_strength[strength].values()))[:n]
    )


def _in_turn(groups: Sequence[Sequence[Sample]]) -> list[Sample]:
    longest = max(map(len, groups), default=0)
    return [group[turn] for turn in range(longest) for group in groups if turn < len(group)]


def _sample(text: SaidText, item: BehaviorItem, outcome: Outcome) -> Sample:
    why = ""
    if outcome == "invalid":
        why = NOT_FINITE if text.finish == "nonfinite" else broken(text.text, item) or NEITHER
    perplexity = None if text.nats is None else float(np.exp(-text.nats / text.n_tokens))
    return Sample(text.strength, item.id, asked(item.prompt), text.text, outcome, why, perplexity)
