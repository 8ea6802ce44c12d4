"""What failed: the form of an answer, the choice, or the sense of a text; read this for what is counted as what.

A choice item at a strength is

    format   the letters together have less than half of the probability: the model would not name a choice at all
    wrong    another choice is likeliest
    right    the correct one is

in this order, so that lost knowledge and lost form are told apart. An item was **right before** if it is right at
strength 0. Items whose choices are scored as texts have no letters and so no format to lose. A generated text is
aligned, misaligned, neither or **broken**: nonsense is no answer. The last two together are the invalid ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from steercpp.aliases import Floats
from steercpp.errors import StrengthError
from steercpp.statistics.scores import ChoiceScores
from steercpp.statistics.text_scores import TextScores

FORMAT, WRONG, RIGHT = 0, 1, 2
WORDS = ("format", "wrong", "right")
FORM = 0.5  # the letters' total probability below which the form is lost

Codes = npt.NDArray[np.int8]


@dataclass(frozen=True, slots=True)
class ChoiceCounts:
    """Choice items at one strength.

    Attributes:
        strength: where.
        right, wrong, format: all items, by what they are there.
        right_before: items that are right at strength 0.
        kept, lost_to_wrong, lost_to_format: what became of those.
        gained: right here, not at strength 0.
    """

    strength: float
    right: int
    wrong: int
    format: int
    right_before: int
    kept: int
    lost_to_wrong: int
    lost_to_format: int
    gained: int


@dataclass(frozen=True, slots=True)
class TextCounts:
    """Generated texts at one strength, by what a matcher made of them."""

    strength: float
    aligned: int
    misaligned: int
    invalid: int
    neither: int
    broken: int


@dataclass(frozen=True, slots=True, eq=False)
class ChoiceFailures:
    """Every choice item at every strength.

    Attributes:
        strengths: (n_s,).
        codes: (n_s, n_items) FORMAT, WRONG or RIGHT.
        counts: a row for each strength.
    """

    strengths: Floats
    codes: Codes
    counts: tuple[ChoiceCounts, ...]

    def items(self, strength: float, what: str) -> tuple[int, ...]:
        """Indices of the items that were right before and are `what` ("format", "wrong" or "right") at a strength.

        Raises:
            StrengthError: it was not measured.
        """
        row, base = _row(self.strengths, strength), _row(self.strengths, 0.0)
        lost = (self.codes[base] == RIGHT) & (self.codes[row] == WORDS.index(what))
        return tuple(int(i) for i in np.flatnonzero(lost))


def choice_failures(scores: ChoiceScores) -> ChoiceFailures:
    """What became of every choice item.

    Args:
        scores: what was measured, strength 0 among it.

    Raises:
        StrengthError: strength 0 was not measured.
    """
    base = _row(scores.strengths, 0.0)
    codes = np.where(scores.correct, RIGHT, WRONG).astype(np.int8)
    codes[(letters_total(scores) < FORM) & ~scores.by_text] = FORMAT
    before = codes[base] == RIGHT
    counts = []
    for s, now in zip(scores.strengths, codes, strict=True):
        right, wrong, form = (int((now == code).sum()) for code in (RIGHT, WRONG, FORMAT))
        kept, to_wrong, to_form = (int((now[before] == code).sum()) for code in (RIGHT, WRONG, FORMAT))
        counts.append(
            ChoiceCounts(float(s), right, wrong, form, int(before.sum()), kept, to_wrong, to_form, right - kept)
        )
    return ChoiceFailures(scores.strengths, codes, tuple(counts))


def letters_total(scores: ChoiceScores) -> Floats:
    """(n_s, n_items) probability of all choices together: P over the vocabulary / P over the choices."""
    with np.errstate(divide="ignore", invalid="ignore"):
        total = scores.p_free / scores.p_restricted
    return np.asarray(np.where(np.isfinite(total), total, 0.0))


def text_counts(scores: TextScores) -> tuple[TextCounts, ...]:
    """Generated texts by outcome, a row for each strength."""
    n = scores.outcomes.shape[1] * scores.n_samples
    invalid, b = scores.invalid_share, scores.b  # aligned + misaligned = 1 - invalid, aligned - misaligned = b
    broken, neither = scores.broken_share, scores.neither_share
    shares = np.column_stack([(1 - invalid + b) / 2, (1 - invalid - b) / 2, invalid, neither, broken])
    return tuple(
        TextCounts(float(s), *(round(float(share) * n) for share in row))
        for s, row in zip(scores.strengths, shares, strict=True)
    )


def _row(strengths: Floats, strength: float) -> int:
    rows = np.flatnonzero(strengths == strength)
    if not len(rows):
        raise StrengthError(f"strength {strength:g} is not among {strengths.tolist()}; failures are counted against it")
    return int(rows[0])
