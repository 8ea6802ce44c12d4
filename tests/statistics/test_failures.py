"""What failed: lost form and lost knowledge told apart, item by item."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from steercpp.errors import StrengthError
from steercpp.statistics.failures import choice_failures, letters_total, text_counts
from steercpp.statistics.scores import ChoiceScores, choice_scores
from steercpp.statistics.text_scores import TextScores

S = np.array([-1.0, 0.0, 1.0])
# P over the vocabulary of four letters, the first one correct: an item for each way to end
LETTERS = {
    "kept": ([0.6, 0.2, 0.1, 0.05], [0.6, 0.2, 0.1, 0.05]),
    "wrong": ([0.6, 0.2, 0.1, 0.05], [0.2, 0.6, 0.1, 0.05]),
    "format": ([0.6, 0.2, 0.1, 0.05], [0.2, 0.1, 0.1, 0.05]),
    "gained": ([0.2, 0.6, 0.1, 0.05], [0.6, 0.2, 0.1, 0.05]),
    "never": ([0.2, 0.6, 0.1, 0.05], [0.2, 0.6, 0.1, 0.05]),
    "shapeless": ([0.1, 0.01, 0.01, 0.01], [0.6, 0.2, 0.1, 0.05]),
}


def scores_of(codes: Any) -> TextScores:
    """Scores of texts with these outcomes: (n_s, n_items) or, of several samples, (n_s, n_items, n_samples)."""
    codes = np.asarray(codes, np.float64)
    codes = codes[:, :, None] if codes.ndim == 2 else codes
    blank = np.zeros(codes.shape[:2])
    invalid = (codes == 0).mean(axis=2)
    return TextScores(
        "planted", S, codes.mean(axis=2), invalid, blank, blank, blank, blank, blank, blank, codes.shape[2]
    )


def scores() -> ChoiceScores:
    p = np.array([[one[0] for one in LETTERS.values()]] * 2 + [[one[1] for one in LETTERS.values()]])
    return choice_scores(S, np.log(p)[..., None], np.zeros(len(LETTERS), np.intp))


def test_every_way_to_end_is_counted() -> None:
    found = choice_failures(scores())
    steered = found.counts[2]
    assert (steered.right, steered.wrong, steered.format) == (3, 2, 1)
    assert (steered.right_before, steered.kept, steered.lost_to_wrong, steered.lost_to_format) == (3, 1, 1, 1)
    assert steered.gained == 2  # one that was wrong, and one whose form was not there before
    base = found.counts[1]
    assert (base.right, base.wrong, base.format, base.kept, base.gained) == (3, 2, 1, 3, 0)
    names = list(LETTERS)
    assert [names[i] for i in found.items(1.0, "format")] == ["format"]
    assert [names[i] for i in found.items(1.0, "wrong")] == ["wrong"]
    assert [names[i] for i in found.items(1.0, "right")] == ["kept"]


def test_the_letters_total_is_their_sum() -> None:
    sums = [[sum(one[0]) for one in LETTERS.values()]] * 2 + [[sum(one[1]) for one in LETTERS.values()]]
    np.testing.assert_allclose(letters_total(scores()), sums, rtol=1e-12)


def test_choices_scored_as_texts_have_no_form_to_lose() -> None:
    found = choice_failures(replace(scores(), by_text=np.ones(len(LETTERS), bool)))
    assert all(row.format == 0 for row in found.counts)
    assert found.counts[2].right_before == 4  # "shapeless" names the right text


def test_an_answer_without_any_probability_has_lost_its_form() -> None:
    nothing = ChoiceScores(np.array([0.0]), np.zeros((1, 2)), np.zeros((1, 2)), np.ones((1, 2), bool))
    assert choice_failures(nothing).counts[0].format == 2


def test_it_is_told_against_strength_0() -> None:
    with pytest.raises(StrengthError, match="strength 0 is not among"):
        choice_failures(ChoiceScores(np.array([1.0]), np.ones((1, 1)), np.ones((1, 1)), np.ones((1, 1), bool)))
    with pytest.raises(StrengthError, match=r"strength 0\.5 is not among"):
        choice_failures(scores()).items(0.5, "wrong")


def test_texts_are_counted_by_outcome() -> None:
    outcomes = np.array([[1, 1, -1, 0], [0, 0, 0, -1], [1, 1, 1, 1]])
    found = [(row.strength, row.aligned, row.misaligned, row.invalid) for row in text_counts(scores_of(outcomes))]
    assert found == [(-1.0, 2, 1, 1), (0.0, 0, 1, 3), (1.0, 4, 0, 0)]
    several = text_counts(scores_of(np.stack([outcomes, outcomes], axis=2)))  # two samples of each
    assert several[1].invalid == 6
