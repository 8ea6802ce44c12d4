"""What steering changes in P+ and in the mass of each item, and what a gain counts there."""

from __future__ import annotations

import numpy as np
import pytest

from steercpp.statistics.curves import Curves, Telling, changes, earned_gain, typical_ratio
from steercpp.statistics.recommend import recommend
from steercpp.statistics.scores import BehaviorScores, OwnScores

RNG = np.random.default_rng(0)


def test_the_change_of_p_is_b_against_the_unsteered_model() -> None:
    aligned = np.exp(RNG.normal(-8, 4, (5, 40)))
    likelier, _ = changes(aligned, aligned * 2, at_0=2)
    np.testing.assert_allclose(likelier, np.tanh(np.log(aligned / aligned[2]) / 2), atol=1e-12)
    assert (likelier[2] == 0).all()


def test_twice_and_half_as_likely_cancel_at_any_level() -> None:
    at_0 = np.exp(RNG.normal(-8, 4, 40))
    aligned = np.array([at_0, at_0 * np.tile([2.0, 0.5], 20)])
    likelier, mass = changes(aligned, aligned, at_0=0)
    assert likelier[1].mean() == pytest.approx(0, abs=1e-12)
    np.testing.assert_allclose(mass[1], np.tile([1.0, 0.5], 20), atol=1e-12)  # nothing makes up for lost mass


def test_no_single_item_makes_up_for_one_that_loses_all() -> None:
    aligned = np.array([[1e-3, 1e-3], [0.0, 0.999]])
    assert changes(aligned, aligned + 1e-4, at_0=0)[0][1].mean() < 0


@pytest.mark.parametrize(("at_0", "at_s", "expected"), [(0.0, 0.0, 0.0), (0.0, 0.1, 1.0), (0.1, 0.0, -1.0)])
def test_items_without_any_probability(at_0: float, at_s: float, expected: float) -> None:
    aligned = np.array([[at_0], [at_s]])
    likelier, mass = changes(aligned, aligned, at_0=0)
    assert likelier[1, 0] == expected and mass[1, 0] == float(at_0 > 0 and at_s >= at_0)


@pytest.mark.parametrize("ratio", [1e-6, 0.25, 1.0, 3.0, 1e6])
def test_the_typical_ratio_undoes_the_scale(ratio: float) -> None:
    likelier, _ = changes(np.array([[0.1], [0.1 * ratio]]), np.ones((2, 1)), at_0=0)
    assert typical_ratio(likelier)[1, 0] == pytest.approx(ratio, rel=1e-6)


def test_a_gain_is_earned_where_p_rises_and_mass_is_left() -> None:
    b, likelier, mass = np.array([[0.0, 0.3, 0.3, 0.3, -0.3]]), np.array([[0, 0.1, -0.1, 0.1, 0.1]]), np.ones((1, 5))
    mass[0, 3] = 0.49
    np.testing.assert_array_equal(earned_gain(b, likelier, mass, at_0=0), [[0, 0.3, 0, 0, -0.3]])


def test_a_third_proposes_what_it_expects_the_others_to_confirm() -> None:
    """P+ rises too little for 14 items to be sure, and enough for 28; every item chooses and tells alike."""
    n, strengths = 42, np.array([0.0, 1.0])
    half_odds = np.array([np.zeros(n), 1.0 + np.zeros(n)])
    rise = np.where(np.arange(n) % 2, 1.3, -0.7)  # of ln P+: mean .3, of tanh its half .12 with an error of .08 of 42
    aligned = 0.01 * np.exp(np.array([np.zeros(n), rise]))
    behavior = BehaviorScores(strengths, aligned, aligned * np.exp(-2 * half_odds))
    own = OwnScores(strengths, np.array([np.zeros(200), np.full(200, 0.001)]), np.full(200, 20))
    telling = Telling(np.array([1.0]), np.full((1, 400), 0.999))
    counts = {"candidate": 0, "halves": 0}
    for seed in range(40):
        found = recommend(Curves.of(behavior, own, "p_own", telling=telling), rng=np.random.default_rng(seed))
        counts["candidate"] += found.candidate is not None
        chosen = found.chosen_on
        counts["halves"] += chosen is not None and chosen.aligned_ratio_low > 1
    assert counts["candidate"] > counts["halves"]
