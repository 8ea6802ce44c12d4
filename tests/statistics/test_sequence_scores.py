"""Scores of answers and texts: means and perplexities by hand."""

from __future__ import annotations

import numpy as np
import pytest

from steercpp.errors import InputError, ShapeError, StrengthError
from steercpp.statistics.scores import AnswerScores, PerplexityScores, SequenceScores, likeliest_answer

S = np.array([0.0, 1.0])


def test_means_and_perplexities_by_hand() -> None:
    """Two answers: one token of P 1/2, and two tokens of P 1/4 and 1; at strength 1 each token has a quarter of it."""
    nats = np.log([[1 / 2, 1 / 4], [1 / 8, 1 / 64]])
    scores = AnswerScores(S, nats, np.array([1, 2]))
    np.testing.assert_allclose(scores.p_token, [[1 / 2, 1 / 2], [1 / 8, 1 / 8]], rtol=1e-12)  # float64 logs
    np.testing.assert_allclose(scores.perplexity, [2, 8], rtol=1e-12)  # (1/2 * 1/4) ** (-1/3) = 2
    np.testing.assert_allclose(scores.mean_p_token, [1 / 2, 1 / 8], rtol=1e-12)
    np.testing.assert_allclose(scores.mean_nats, nats.mean(axis=1), rtol=1e-12)
    assert isinstance(scores.take(np.array([1])), AnswerScores) and scores.take(np.array([1])).n_tokens.tolist() == [2]


def test_a_long_text_weighs_more_in_the_perplexity() -> None:
    scores = PerplexityScores(S[:1], np.log([[1 / 2, 1 / 16]]), np.array([1, 2]))
    assert scores.perplexity[0] == pytest.approx(32 ** (1 / 3))


def test_what_no_float_can_hold_is_infinite_and_its_p_is_0() -> None:
    scores = PerplexityScores(S[:1], np.array([[-1e4]]), np.array([2]))
    assert scores.perplexity[0] == np.inf and scores.p_token[0, 0] == 0


def test_the_likeliest_answer_is_so_per_token() -> None:
    short, long = np.log([0.3]), np.log([0.5, 0.5, 0.5])  # P .3 against .125, per token .3 against .5
    assert likeliest_answer([short, long]) == 1 and likeliest_answer([short, short]) == 0


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
