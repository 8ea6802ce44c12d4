"""pass@k: against every choice of k answers, against planted problems, and its interval against Student's."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from steercpp.errors import InputError, ShapeError, StrengthError
from steercpp.statistics.code_scores import CodeScores, pass_at_k
from steercpp.statistics.curves import Curves
from steercpp.statistics.recommend import recommend
from steercpp.statistics.scores import BehaviorScores


@pytest.mark.parametrize("n", [1, 2, 5, 8])
def test_pass_at_k_is_the_share_of_choices_that_hold_one_which_passes(n: int) -> None:
    for c in range(n + 1):
        answers = [True] * c + [False] * (n - c)
        for k in range(1, n + 1):
            chosen = [any(part) for part in combinations(answers, k)]
            # logarithms of factorials round at 1e-15 of their size, which is at most 11 here
            assert pass_at_k(n, c, k) == pytest.approx(np.mean(chosen), abs=1e-13)


def test_pass_at_k_is_right_on_average(rng: np.random.Generator) -> None:
    """Planted: a problem of which an answer passes with chance p has pass@k 1 - (1 - p)^k."""
    p, n, k, n_studies = 0.15, 16, 8, 200_000
    found = pass_at_k(n, rng.binomial(n, p, n_studies), k)
    error = found.std() / np.sqrt(n_studies)
    truth = 1 - (1 - p) ** k
    assert abs(found.mean() - truth) < 4 * error  # one in 16,000 draws of a right estimate is further off
    naive = 1 - (1 - rng.binomial(n, p, n_studies) / n) ** k
    assert abs(naive.mean() - truth) > 20 * error  # so that this test can tell a biased one


def test_many_answers_do_not_overflow() -> None:
    # C(10000, 5000) is beyond float64. 5,000 of 10,000 answers without the single one that passes: a half.
    assert pass_at_k(10_000, 1, 5_000) == pytest.approx(0.5, abs=1e-9)  # ln 10000! is 8e4, and rounds at 1e-11
    assert pass_at_k(10_000, [0, 10_000], 7).tolist() == [0.0, 1.0]
    assert pass_at_k(16, 0, 8) == 0


def test_scores_are_means_over_problems() -> None:
    scores = CodeScores(np.array([0.0, 1.0]), np.array([[4, 2, 0, 4, 0], [0, 0, 0, 1, 0]]), 4)
    assert scores.mean_pass_at(1).tolist() == [0.5, 0.05]
    np.testing.assert_allclose(scores.mean_pass_at(4), [0.6, 0.2], atol=1e-12)  # whether any passed
    np.testing.assert_allclose(scores.pass_at(2)[0], [1, 5 / 6, 0, 1, 0], atol=1e-12)
    assert scores.standard_error()[0] == pytest.approx(np.std([1, 0.5, 0, 1, 0]) / np.sqrt(5))
    assert scores.take(np.array([1, 3])).passed.tolist() == [[2, 4], [0, 1]]


def test_the_interval_covers_the_set_that_problems_come_from(rng: np.random.Generator) -> None:
    """Problems of which half always pass and half never: the interval of pass@1 is close to Student's of a mean."""
    passed = rng.binomial(4, rng.beta(0.5, 0.5, 164))
    found = CodeScores(np.zeros(1), passed[None], 4).interval(1, rng=rng)
    assert found is not None
    rates = passed / 4
    low, high = stats.t.interval(0.95, 163, rates.mean(), rates.std(ddof=1) / np.sqrt(164))
    # 1000 resamples place each end within 0.1 standard errors or so; 0.3 leaves room for what is skewed
    np.testing.assert_allclose([found.low[0], found.high[0]], [low, high], atol=0.3 * rates.std() / np.sqrt(164))
    assert CodeScores(np.zeros(1), passed[None, :4], 4).interval(1, rng=rng) is None


def test_a_budget_can_be_of_pass_at_1(rng: np.random.Generator) -> None:
    """Planted: steering at 1 gains alignment and loses nothing, at 2 it loses half of what passed."""
    strengths, n = np.array([0.0, 1.0, 2.0]), 200  # pass@1 is 3/4: halves of 100 prove a loss of 4%
    aligned = np.clip(np.array([[0.2], [0.5], [0.8]]) + rng.normal(0, 0.02, (3, n)), 0, 1)
    behavior = BehaviorScores(strengths, aligned, 1 - aligned)
    passed = np.stack([np.full(n, 12), np.full(n, 12), np.full(n, 6)])
    found = recommend(Curves.of(behavior, CodeScores(strengths, passed, 16).as_choice()), rng=rng)
    assert found.strength == 1.0 and found.loss == 0


@pytest.mark.parametrize(
    ("strengths", "passed", "error", "words"),
    [
        ([0.0], [[5]], InputError, "5 of 4 answers"),
        ([0.0], [[-1]], InputError, "-1 of 4 answers"),
        ([0.0], [[0.5]], InputError, "whole numbers"),
        ([0.0, 0.0], [[1], [1]], StrengthError, "each given once"),
        ([0.0, 1.0], [[1]], ShapeError, r"\(2, n_items"),
        ([0.0], [[]], ShapeError, "n_items >= 1"),
    ],
)
def test_impossible_counts_are_refused(
    strengths: list[float], passed: list[list[float]], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        CodeScores(np.array(strengths), np.array(passed), 4)


@pytest.mark.parametrize("k", [0, 5])
def test_more_than_was_sampled_cannot_be_drawn(k: int) -> None:
    with pytest.raises(InputError, match=f"pass@{k} of 4 answers"):
        pass_at_k(4, 1, k)
