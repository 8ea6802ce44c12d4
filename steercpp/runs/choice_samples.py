"""Choice items to look at: at each strength some that were right before and are not any more."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from steercpp.data.tasks import LETTERS, ChoiceItem
from steercpp.runs.folder import STORE
from steercpp.runs.result import SweepResult
from steercpp.runs.store import Store
from steercpp.runs.stored_scores import likeliest_choices
from steercpp.statistics.failures import RIGHT, WORDS, ChoiceFailures


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
        is_: what it is now, "wrong" or "format"; see failures.py.
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
        return {key.rstrip("_"): value for key, value in asdict(self).items()}


def sample_choices(result: SweepResult, found: ChoiceFailures, *, n: int) -> tuple[LostChoice, ...]:
    """Up to n items at each strength, the first ones.

    Args:
        result: a run with choice items.
        found: what became of them.
        n: how many.

    Raises:
        RunError: the store cannot be read.
    """
    scores = result.choice
    assert scores is not None
    items = [item for item in result.items("choice") if isinstance(item, ChoiceItem)]
    with Store.read(result.folder / STORE, settled=result.finished) as store:
        taken = likeliest_choices(store, found.strengths.tolist())
    at_0 = int(np.flatnonzero(found.strengths == 0)[0])
    samples = []
    for row, s in enumerate(found.strengths):
        lost = np.flatnonzero((found.codes[at_0] == RIGHT) & (found.codes[row] != RIGHT))
        for i in lost[:n]:
            right, likeliest = (Choice(LETTERS[k], items[i].choices[k]) for k in (items[i].answer, int(taken[row, i])))
            samples.append(LostChoice(
                float(s), items[i].id, items[i].question, WORDS[found.codes[row, i]], right, likeliest,
                float(scores.p_free[at_0, i]), float(scores.p_free[row, i]),
            ))  # fmt: skip
    return tuple(samples)
