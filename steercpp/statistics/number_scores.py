"""Generated texts whose last number is the right one, as GSM8K is scored; read this for what its accuracy means.

    scores = score_numbers(store.texts("vector", "answer"), items)
    scores.accuracy, scores.interval()

A text without a number is wrong, and counted besides. Of several samples an item has their share.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from steercpp.aliases import Floats
from steercpp.data.items import AnswerItem
from steercpp.errors import InputError
from steercpp.judging.answers import answer_of
from steercpp.judging.numbers import last_number, says_number
from steercpp.judging.texts import GeneratedText
from steercpp.statistics.intervals import CONFIDENCE
from steercpp.statistics.shares import mean_bounds


@dataclass(frozen=True, slots=True, eq=False)
class NumberScores:
    """Numbers in generated texts at every strength.

    Attributes:
        strengths: (n_s,), ascending.
        right: (n_s, n_items) share of an item's texts that end in its number.
        without: (n_s, n_items) share of its texts that have no number.
        n_samples: texts of each item at each strength.
    """

    strengths: Floats
    right: Floats
    without: Floats
    n_samples: int

    @property
    def accuracy(self) -> Floats:
        """(n_s,) mean of `right` over items."""
        return np.asarray(self.right.mean(axis=1))

    def interval(self, *, confidence: float = CONFIDENCE) -> tuple[Floats, Floats]:
        """(n_s,) lower and upper bounds of `accuracy`, see shares.py."""
        return mean_bounds(self.right, tail=(1 - confidence) / 2, cases=self.n_samples)

    def record(self) -> dict[str, Any]:
        """Plain data for JSON: columns over the strengths."""
        low, high = self.interval()
        return {
            "n_items": int(self.right.shape[1]), "n_samples": self.n_samples, "strengths": self.strengths.tolist(),
            "right_number": self.accuracy.tolist(), "right_number_low": low.tolist(),
            "right_number_high": high.tolist(),
            "without_number": self.without.mean(axis=1).tolist(),
        }  # fmt: skip


def score_numbers(texts: Sequence[GeneratedText], items: Sequence[AnswerItem]) -> NumberScores:
    """Scores of the texts that were generated for answer items; those of items without a number are left out.

    Raises:
        InputError: no texts, no item with a number, or an item that has not as many texts as the others.
    """
    numbered = [place for place, item in enumerate(items) if item.number]
    if not texts or not numbered:
        raise InputError("no texts of items with a number; sweep such items with `max_tokens`")
    column = {place: i for i, place in enumerate(numbered)}
    strengths = sorted({text.strength for text in texts})
    right, without, count = (np.zeros((len(strengths), len(numbered))) for _ in range(3))
    for text in texts:
        if text.item in column:
            place = strengths.index(text.strength), column[text.item]
            right[place] += says_number(text.whole, items[text.item].number)
            without[place] += last_number(answer_of(text.whole)) is None
            count[place] += 1
    n_samples = int(count.max())
    if (count != n_samples).any():
        raise InputError("some items have fewer texts than others; run the same sweep again to go on")
    return NumberScores(np.array(strengths), right / count, without / count, n_samples)
