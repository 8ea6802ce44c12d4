"""Scores against hand-computed values and against a whole enumerated language."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from steercpp.errors import DegenerateError, InputError, ShapeError, SteerError, StrengthError
from steercpp.statistics.scores import (
    BehaviorScores,
    ChoiceScores,
    chance_level,
    choice_scores,
    drop_extensions,
    length_normalized,
    total_logprob,
)


def test_behavior_measures_by_hand() -> None:
    scores = BehaviorScores(
        np.array([0.0, 1.0]), np.array([[0.2, 0.1], [0.6, 0.0]]), np.array([[0.6, 0.1], [0.2, 0.5]])
    )
    np.testing.assert_allclose(scores.normalized, [[-0.5, 0.0], [0.5, -1.0]], atol=1e-15)  # rounding of tanh and log
    np.testing.assert_allclose(scores.raw, [[-0.4, 0.0], [0.4, -0.5]], atol=1e-15)
    np.testing.assert_allclose(scores.mass, [[0.8, 0.2], [0.8, 0.5]], atol=1e-15)
    np.testing.assert_allclose(scores.mean_normalized, [-0.25, -0.25], atol=1e-15)
    np.testing.assert_allclose(scores.mean_raw, [-0.2, -0.05], atol=1e-15)
    np.testing.assert_allclose(scores.mean_mass, [0.5, 0.65], atol=1e-15)


def test_nonsense_is_never_aligned() -> None:
    """Where the model says neither, normalized B may stand but raw B earns nothing."""
    scores = BehaviorScores.from_logprobs(np.array([0.0]), np.array([[-40.0]]), np.array([[-50.0]]))
    assert scores.normalized[0, 0] == pytest.approx(np.tanh(5.0))
    assert scores.raw[0, 0] < 1e-17


def test_continuations_below_the_smallest_float_keep_their_odds() -> None:
    scores = BehaviorScores.from_logprobs(np.array([0.0]), np.array([[-1000.0]]), np.array([[-1001.0]]))
    assert scores.p_aligned[0, 0] == 0.0
    assert scores.normalized[0, 0] == pytest.approx(np.tanh(0.5))


def test_no_probability_on_either_side_is_undecided_and_on_one_side_is_certain() -> None:
    scores = BehaviorScores(np.array([0.0]), np.array([[0.0, 0.3, 0.0]]), np.array([[0.0, 0.0, 0.3]]))
    np.testing.assert_array_equal(scores.normalized, [[0.0, 1.0, -1.0]])
    assert np.isfinite(scores.log_odds).all()


def test_item_slopes_are_each_items_own_delta_lambda() -> None:
    s, slopes = np.linspace(-2, 2, 9), np.array([0.7, -0.2, 1.5])
    p = (1 + np.tanh(slopes * s[:, None] + 0.4)) / 2
    scores = BehaviorScores(s, 0.9 * p, 0.9 * (1 - p))
    np.testing.assert_allclose(scores.item_slopes(), slopes, rtol=1e-12)  # exact lines, up to rounding
    np.testing.assert_allclose(scores.item_slopes(window=(0, 1)), slopes, rtol=1e-12)
    np.testing.assert_allclose(scores.take(np.array([2, 0])).item_slopes(), slopes[[2, 0]], rtol=1e-12)
    with pytest.raises(DegenerateError, match="1 strengths in the window"):
        scores.item_slopes(window=(0.4, 0.6))


@pytest.mark.parametrize(
    ("aligned", "misaligned", "error", "words"),
    [
        ([[0.5]], [[0.5], [0.5]], ShapeError, "p_misaligned: expected"),
        ([[0.5, 0.1]], [[0.5]], ShapeError, "for every item"),
        ([[0.7]], [[0.4]], InputError, "above 1"),
        ([[np.nan]], [[0.1]], InputError, "found nan"),
        ([[-0.1]], [[0.1]], InputError, "found -0.1"),
        ([[]], [[]], ShapeError, "n_items >= 1"),
    ],
)
def test_behavior_scores_refuse_what_is_no_probability(
    aligned: list[list[float]], misaligned: list[list[float]], error: type[SteerError], words: str
) -> None:
    with pytest.raises(error, match=words.replace("+", r"\+")):
        BehaviorScores(np.array([0.0]), np.array(aligned), np.array(misaligned))


@pytest.mark.parametrize("strengths", [[0.0, 0.0], [0.0, np.inf]])
def test_strengths_are_finite_and_distinct(strengths: list[float]) -> None:
    with pytest.raises(StrengthError, match="each given once"):
        BehaviorScores(np.array(strengths), np.full((2, 1), 0.1), np.full((2, 1), 0.1))


def test_choice_scores_by_hand() -> None:
    """The likeliest spelling of a letter counts, not their sum (paper 2.4)."""
    p = np.array([[[0.1, 0.3], [0.2, 0.0]], [[0.05, 0.01], [0.1, 0.15]]])[None]  # 1 strength, 2 items, 2 choices
    with np.errstate(divide="ignore"):
        scores = choice_scores(np.array([0.0]), np.log(p), np.array([0, 0]))
    np.testing.assert_allclose(scores.p_free, [[0.3, 0.05]], rtol=1e-12)
    np.testing.assert_allclose(scores.p_restricted, [[0.6, 0.25]], rtol=1e-12)
    np.testing.assert_array_equal(scores.correct, [[True, False]])
    assert (scores.mean_p_free[0], scores.accuracy[0]) == (pytest.approx(0.175), 0.5)
    np.testing.assert_allclose(scores.take(np.array([1])).mean_p_restricted, [0.25], rtol=1e-12)


def test_choice_scores_with_fewer_choices_and_missing_spellings() -> None:
    logs = np.full((1, 2, 3, 2), -np.inf)
    logs[0, 0, :, 0] = np.log([0.2, 0.2, 0.4])
    logs[0, 1, :2, 1] = np.log([0.1, 0.3])  # two choices only, spelled the other way
    scores = choice_scores(np.array([1.0]), logs, np.array([2, 1]))
    np.testing.assert_allclose(scores.p_restricted, [[0.5, 0.75]], rtol=1e-12)


def test_length_normalized_choices_by_hand() -> None:
    """Of 2 and 6 characters with -2 and -3 nats: -1 and -0.5 a character, and 4 characters are the mean length."""
    logs = np.array([[-2.0, -3.0, -np.inf], [-1.0, -2.0, -4.0]])[None, :, :, None]
    lengths = np.array([[2, 6, 1], [1, 1, 1]])  # the first has two choices, the second letters
    np.testing.assert_allclose(length_normalized(logs[..., 0], lengths)[0, 0], [-4, -2, -np.inf], rtol=1e-15)
    scores = choice_scores(np.array([0.0]), logs, np.array([0, 0]), by_text=[True, False], lengths=lengths)
    np.testing.assert_allclose(scores.p_restricted_norm[0, 0], 1 / (1 + np.exp(2)), rtol=1e-12)
    np.testing.assert_array_equal(scores.correct, [[True, True]])
    np.testing.assert_array_equal(scores.correct_norm, [[False, True]])
    np.testing.assert_array_equal(scores.p_restricted_norm[:, 1], scores.p_restricted[:, 1])
    np.testing.assert_array_equal(chance_level(scores, "p_restricted_norm"), [1 / 2, 1 / 3])
    assert scores.take(np.array([0])).accuracy_norm == 0.0
    with pytest.raises(ShapeError, match="from 1 on"):
        length_normalized(logs[..., 0], lengths[:1])


def test_equally_long_choices_score_the_same_length_normalized(rng: np.random.Generator) -> None:
    logs = -rng.exponential(5.0, (3, 8, 4, 1))
    scores = choice_scores(np.arange(3.0), logs, np.arange(8) % 4, lengths=np.full((8, 4), 7))
    np.testing.assert_array_equal(scores.p_restricted_norm, scores.p_restricted)
    np.testing.assert_array_equal(scores.correct_norm, scores.correct)


def test_choice_scores_refuse_answers_that_cannot_be_scored() -> None:
    logs = np.full((1, 1, 2, 1), -1.0)
    with pytest.raises(ShapeError, match="indices of 2 choices"):
        choice_scores(np.array([0.0]), logs, np.array([2]))
    with pytest.raises(ShapeError, match="logprobs: expected"):
        choice_scores(np.array([0.0]), logs, np.array([0, 1]))
    logs[0, 0, 1] = -np.inf
    with pytest.raises(DegenerateError, match="choice item 0"):
        choice_scores(np.array([0.0]), logs, np.array([1]))
    with pytest.raises(ShapeError, match="differ"):
        ChoiceScores(np.array([0.0]), np.full((1, 2), 0.5), np.full((1, 2), 0.5), np.full((1, 1), True))


def test_an_extension_is_counted_once() -> None:
    assert drop_extensions([(5, 6), (5,), (7, 8), (5, 9), (7,), (3,)]) == (1, 4, 5)
    assert drop_extensions([(5,), (5,)]) == (0,)
    assert drop_extensions([(1, 2), (1, 3)]) == (0, 1)
    assert drop_extensions([]) == ()
    with pytest.raises(InputError, match="continuation 1 has no tokens"):
        drop_extensions([(1,), ()])


def test_kept_continuations_hold_exactly_the_probability_of_all() -> None:
    """Enumerated: every text of 4 tokens under a random language; the event is to begin with one of the list."""
    rng = np.random.default_rng(5)
    chain = rng.dirichlet(np.ones(3), size=4)  # rows: the token before (3: start)
    texts = list(itertools.product(range(3), repeat=4))
    p = {text: np.prod([chain[before, t] for before, t in zip((3, *text), text, strict=False)]) for text in texts}
    for _ in range(50):
        parts = [tuple(rng.integers(0, 3, rng.integers(1, 5)).tolist()) for _ in range(6)]
        truth = sum(p[text] for text in texts if any(text[: len(part)] == part for part in parts))
        kept = [parts[i] for i in drop_extensions(parts)]
        logs = np.log([sum(p[text] for text in texts if text[: len(part)] == part) for part in kept])
        assert np.exp(total_logprob(logs)) == pytest.approx(truth, rel=1e-12)  # sums in another order
