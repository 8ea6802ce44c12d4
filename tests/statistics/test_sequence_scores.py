"""Scores of answers and texts: means and perplexities by hand, and intervals that hold planted truths."""

from __future__ import annotations

import numpy as np
import pytest

from steercpp.errors import InputError, ShapeError, StrengthError
from steercpp.statistics.scores import AnswerScores, SequenceScores, TextScores, likeliest_answer

S = np.array([0.0, 1.0])


def test_means_and_perplexities_by_hand() -> None:
    """Two answers: one token of P 1/2, and two tokens of P 1/4 and 1; at strength 1 each token has a quarter of it."""
    nats = np.log([[1 / 2, 1 / 4], [1 / 8, 1 / 64]])
    scores = AnswerScores(S, nats, np.array([1, 2]))
    np.testing.assert_allclose(scores.p_token, [[1 / 2, 1 / 2], [1 / 8, 1 / 8]], rtol=1e-12)  # float64 logs
    np.testing.assert_allclose(scores.item_perplexity, [[2, 2], [8, 8]], rtol=1e-12)
    np.testing.assert_allclose(scores.perplexity, [2, 8], rtol=1e-12)  # (1/2 * 1/4) ** (-1/3) = 2
    np.testing.assert_allclose(scores.mean_p_token, [1 / 2, 1 / 8], rtol=1e-12)
    np.testing.assert_allclose(scores.mean_nats, nats.mean(axis=1), rtol=1e-12)
    np.testing.assert_allclose(scores.mean_per_token, np.log([1 / 2, 1 / 8]), rtol=1e-12)
    assert isinstance(scores.take(np.array([1])), AnswerScores) and scores.take(np.array([1])).n_tokens.tolist() == [2]


def test_a_long_text_weighs_more_in_the_perplexity() -> None:
    scores = TextScores(S[:1], np.log([[1 / 2, 1 / 16]]), np.array([1, 2]))
    assert scores.perplexity[0] == pytest.approx(32 ** (1 / 3))
    assert scores.item_perplexity[0] == pytest.approx([2, 4])


def test_what_no_float_can_hold_is_infinite_and_its_p_is_0() -> None:
    scores = TextScores(S[:1], np.array([[-1e4]]), np.array([2]))
    assert scores.perplexity[0] == np.inf and scores.p_token[0, 0] == 0


def test_the_likeliest_answer_is_so_per_token() -> None:
    short, long = np.log([0.3]), np.log([0.5, 0.5, 0.5])  # P .3 against .125, per token .3 against .5
    assert likeliest_answer([short, long]) == 1 and likeliest_answer([short, short]) == 0


@pytest.mark.parametrize("n_items", [20, 100])
def test_intervals_of_the_perplexity_hold_a_planted_one(n_items: int) -> None:
    """500 studies of texts whose tokens have mean ln P -2: 95 % of them, give or take 1 % of 500 draws, hold e^2.

    The bounds leave two and a half of those standard errors, and another half percent below for what skewness takes.
    """
    rng, held = np.random.default_rng(3), 0
    for _ in range(500):
        n_tokens = rng.integers(20, 60, n_items)
        nats = n_tokens * (-2 + 0.5 * rng.standard_normal(n_items))
        found = TextScores(S[:1], np.minimum(nats, 0)[None], n_tokens).perplexity_interval(rng=rng)
        held += found.low[0] <= np.exp(2) <= found.high[0]
    assert 0.92 <= held / 500 <= 0.975


def test_intervals_of_the_mean_p_hold_what_the_items_say(rng: np.random.Generator) -> None:
    nats = np.log(rng.uniform(0.2, 0.4, (2, 50)))
    scores = AnswerScores(S, nats, np.ones(50, int))
    found = scores.p_token_interval(rng=rng)
    assert (found.low < scores.mean_p_token).all() and (scores.mean_p_token < found.high).all()
    # the mean of 50 uniform values of width 0.2 has a standard error of 0.2/sqrt(12*50) = 0.008: 4 of them and a half
    assert (found.high - found.low < 4.5 * 0.2 / np.sqrt(600)).all()


def test_what_is_refused() -> None:
    good = np.log([[0.5, 0.5], [0.5, 0.5]])
    with pytest.raises(ShapeError, match=r"expected \(2, 3 >= 1\), got \(2, 2\)"):
        SequenceScores(S, good, np.array([1, 1, 1]))
    with pytest.raises(ShapeError):
        SequenceScores(S, np.empty((2, 0)), np.array([], int))
    with pytest.raises(InputError, match="expected natural logs of probabilities, found 0.5"):
        SequenceScores(S, good + 1.1931471805599454, np.array([1, 1]))
    with pytest.raises(InputError, match="found nan"):
        SequenceScores(S, good * np.nan, np.array([1, 1]))
    with pytest.raises(InputError, match="sequence 1 has no tokens"):
        SequenceScores(S, good, np.array([1, 0]))
    with pytest.raises(StrengthError):
        SequenceScores(np.array([1.0, 1.0]), good, np.array([1, 1]))
