"""Recommendations from planted trade-offs, and the cases in which there must be none."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from planted_items import alike

from steercpp.aliases import Floats
from steercpp.errors import InputError, ShapeError, StrengthError
from steercpp.statistics import recommend as recommending
from steercpp.statistics.recommend import Curves, Recommendation
from steercpp.statistics.scores import BehaviorScores, ChoiceScores, Measure

S = np.array([-2.0, -1.0, 0.0, 0.5, 1.0, 1.5, 2.0])
RISING = 0.3 * S
STEADY = np.full(7, 0.6)


def recommend(
    behavior: BehaviorScores, choice: ChoiceScores, *, measure: Measure = "p_free", invalid: Floats | None = None,
    **options: Any,
) -> Recommendation:  # fmt: skip
    return recommending.recommend(Curves.of(behavior, choice, measure, invalid=invalid), **options)


def behavior(raw: Floats, *, n: int = 200, noise: float = 0.05, seed: int = 0, mass: float = 0.9) -> BehaviorScores:
    """Items whose raw B is the curve plus noise; noise is drawn anew at each strength."""
    b = np.clip(alike(raw, n, noise, np.random.default_rng(seed)), -mass, mass)
    return BehaviorScores(S, (mass + b) / 2, (mass - b) / 2)


def choice(p: Floats, *, n: int = 200, noise: float = 0.02, seed: int = 1) -> ChoiceScores:
    """Items that share the curve's ratios but differ in level, so that only paired bounds are narrow."""
    rng = np.random.default_rng(seed)
    level = rng.uniform(0.3, 1.5, n)
    free = np.clip(p[:, None] * level + noise * rng.standard_normal((7, n)), 0, 1)
    return ChoiceScores(S, free, free, free > 0.5)


def test_the_strongest_within_the_budget_where_more_is_better() -> None:
    """Loss 0, 2, 4 and 40 % at 0.5, 1, 1.5 and 2; items are many, so bounds lie close to the truth."""
    p = STEADY * np.array([1, 1, 1, 1, 0.98, 0.96, 0.6])
    found = recommend(behavior(RISING), choice(p))
    assert found.strength == 1.5 and found.confirmed
    assert found.gain == pytest.approx(0.45, abs=0.03) and 0.42 < found.gain_low < found.gain  # noise 0.007 of means
    assert found.loss == pytest.approx(0.04, abs=0.01) and found.loss < found.loss_high <= 0.05
    assert found.b_normalized_at_0 == pytest.approx(0.0, abs=0.03)
    assert found.b_normalized == pytest.approx(0.45 / 0.9, abs=0.03)
    assert "at +2 the loss may be 4" in found.reason and "over the budget of 5.0%" in found.reason


def test_a_larger_budget_reaches_further() -> None:
    p = STEADY * np.array([1, 1, 1, 1, 0.98, 0.96, 0.6])
    assert recommend(behavior(RISING), choice(p), max_loss=0.5).strength == 2.0
    assert recommend(behavior(RISING), choice(p), max_loss=0.03).strength == 1.0


def test_a_point_beyond_a_place_that_cost_too_much_is_not_reached() -> None:
    """Broken at 1, seemingly whole again at 2, where the gain would be the largest."""
    p = STEADY * np.array([1, 1, 1, 1, 0.7, 1, 1])
    assert recommend(behavior(RISING), choice(p)).strength == 0.5


def test_nonsense_earns_nothing() -> None:
    """At 2 the model says neither: normalised B is the highest there, raw B is almost 0."""
    mass = np.array([0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.01])
    b = np.array([0, 0, 0.0, 0.3, 0.6, 0.5, 0.99])
    noise = 0.02 * np.random.default_rng(3).standard_normal((7, 60))
    p = mass[:, None] * (1 + np.clip(b[:, None] + noise, -1, 1)) / 2
    scores = BehaviorScores(S, p, mass[:, None] - p)
    assert scores.mean_normalized.argmax() == 6
    assert recommend(scores, choice(STEADY)).strength == 1.0


def test_the_surest_gain_is_chosen_and_not_the_largest() -> None:
    """At 2 the mean gain is higher, but items scatter there so much that its lower bound is below that of 1.5."""
    raw = np.array([0, 0, 0, 0.1, 0.2, 0.4, 0.45])
    b = alike(raw, 100, 0.02, np.random.default_rng(4))
    swing = np.tile([0.45, -0.45], 50)  # mean 0 in all, not in a half or a resample
    b[6] += swing
    scores = BehaviorScores(S, (1 + b) / 2 * 0.99, (1 - b) / 2 * 0.99)
    found = recommend(scores, choice(STEADY))
    assert found.strength == 1.5
    calm = BehaviorScores(
        S, (1 + b - swing * (S == 2)[:, None]) / 2 * 0.99, (1 - b + swing * (S == 2)[:, None]) / 2 * 0.99
    )
    assert recommend(calm, choice(STEADY)).strength == 2.0


def test_the_other_direction_uses_negative_strengths_and_gains_towards_aligned() -> None:
    found = recommend(behavior(-RISING), choice(STEADY), direction=-1)
    assert found.strength == -2.0 and found.gain == pytest.approx(0.6, abs=0.03)
    assert found.efficient_regime == (-2.0, 0.0)
    assert recommend(behavior(RISING), choice(STEADY), direction=-1).strength is None


def none(found: Recommendation, *words: str) -> None:
    assert found.strength is None and not found.confirmed
    assert found.chosen_on is None and found.reported_on is None
    assert np.isnan([found.gain, found.gain_low, found.loss, found.loss_high, found.b_normalized]).all()
    for each in words:
        assert each in found.reason


def test_none_when_alignment_does_not_rise() -> None:
    found = recommend(behavior(-0.05 * S), choice(STEADY))
    none(found, "no strength up to +2 is sure to gain", "the lower bound of the gain is -0.0", "at +0.5")
    assert found.b_normalized_at_0 == pytest.approx(0.0, abs=0.03)


def test_none_when_the_first_step_costs_too_much() -> None:
    p = STEADY * np.array([1, 1, 1, 0.9, 0.8, 0.7, 0.6])
    none(recommend(behavior(RISING), choice(p)), "already at +0.5 the loss may be 1", "over the budget of 5.0%")


def test_none_when_few_items_cannot_exclude_the_loss() -> None:
    """The mean loses nothing, but 12 items that scatter by a fifth do not show that."""
    found = recommend(behavior(RISING), choice(STEADY, n=24, noise=0.3))
    none(found, "already at +0.5 the loss may be")


def test_none_when_the_gain_lies_beyond_the_budget() -> None:
    raw = np.array([0, 0, 0, 0, 0, 0.5, 0.6])
    p = STEADY * np.array([1, 1, 1, 1, 0.7, 0.7, 0.7])
    none(recommend(behavior(raw), choice(p)), "no strength up to +0.5 is sure to gain", "at +1 the loss may be 3")


def test_none_without_helpfulness_to_lose() -> None:
    none(recommend(behavior(RISING), choice(0 * STEADY, noise=0)), "P(correct) is 0 without steering")


def test_none_without_a_strength_of_the_wanted_sign() -> None:
    rows = np.array([2, 3, 4, 5, 6])
    b, p = behavior(RISING), choice(STEADY)
    ahead = BehaviorScores(S[rows], b.p_aligned[rows], b.p_misaligned[rows])
    found = recommend(ahead, ChoiceScores(S[rows], p.p_free[rows], p.p_free[rows], p.correct[rows]), direction=-1)
    none(found, "no negative strength was measured")


@pytest.mark.parametrize(
    ("n_behavior", "n_choice", "words"),
    [(1, 50, "behavior items: 1"), (9, 50, "behavior items: 9"), (50, 9, "choice items: 9")],
)
def test_none_with_too_few_items(n_behavior: int, n_choice: int, words: str) -> None:
    none(recommend(behavior(RISING, n=n_behavior), choice(STEADY, n=n_choice)), "too few", words)


def test_the_smallest_sample_that_is_allowed_works() -> None:
    assert recommend(behavior(RISING, n=10), choice(STEADY, n=10, noise=0.001)).strength is not None


def test_halves_are_disjoint_and_of_one_size() -> None:
    found = recommend(behavior(RISING, n=31), choice(STEADY, n=40))
    assert found.chosen_on and found.reported_on
    assert (found.chosen_on.n_behavior, found.reported_on.n_behavior) == (16, 15)
    assert (found.chosen_on.n_choice, found.reported_on.n_choice) == (20, 20)
    assert found.gain == found.reported_on.gain != found.chosen_on.gain


def test_the_reported_gain_is_not_the_winner_of_a_lottery() -> None:
    """Steering does nothing, 100 times: what was chosen looks good on its half; the other half tells the truth.

    Chosen without effect: 4 strengths, so 5 to 20 of 100 are expected. Confirmed by the other half: 5 % of those.
    """
    found = [recommend(behavior(0 * S, n=40, noise=0.3, seed=seed), choice(STEADY, noise=0.001), resamples=200)
             for seed in range(100)]  # fmt: skip
    lucky = [each for each in found if each.chosen_on and each.reported_on]
    assert 3 <= len(lucky) <= 25
    assert np.mean([each.chosen_on.gain for each in lucky if each.chosen_on]) > 0.1
    # 0.3 * sqrt(2 / 20) is one reported gain's error; 3 errors of the mean of len(lucky)
    assert abs(np.mean([each.gain for each in lucky])) < 3 * 0.095 / np.sqrt(len(lucky))
    assert sum(each.confirmed for each in found) <= 4
    assert all("does not confirm it" in each.reason for each in lucky if not each.confirmed)


def test_break_even_and_efficient_regime_by_hand() -> None:
    """B rises by 0.4 to strength 1 and stays; P falls by 0, 0.1, 0.35 and 0.5: B + P is +.2 +.3 +.05 -.1."""
    raw = np.array([0, 0, 0, 0.2, 0.4, 0.4, 0.4])
    p = np.array([0.6, 0.6, 0.6, 0.6, 0.5, 0.25, 0.1])
    b = behavior(raw, n=20, noise=0)
    flat = np.repeat(p[:, None], 20, axis=1)
    found = recommend(b, ChoiceScores(S, flat, flat, flat > 0.5))
    assert found.efficient_regime == (0.0, 1.0)
    assert found.break_even == pytest.approx(1.5 + 0.5 * 0.05 / 0.15)
    assert found.strength == 0.5 and found.gain == found.gain_low == pytest.approx(0.2)  # items all alike
    light = recommend(b, ChoiceScores(S, flat, flat, flat > 0.5), weight=0.1)
    assert light.efficient_regime == (0.0, 1.0) and np.isnan(light.break_even)
    heavy = recommend(b, ChoiceScores(S, flat, flat, flat > 0.5), weight=10.0)
    assert heavy.efficient_regime == (0.0, 0.5)
    assert heavy.break_even == pytest.approx(0.5 + 0.5 * 0.2 / 0.8)
    worse = recommend(behavior(-RISING, n=20, noise=0), ChoiceScores(S, flat, flat, flat > 0.5))
    assert (worse.break_even, worse.efficient_regime) == (0.0, (0.0, 0.0))


def test_the_loss_bound_is_that_of_a_ratio_of_paired_means() -> None:
    """Against the delta method for 2,000 items, where both are exact to a few percent."""
    p = STEADY * np.array([1, 1, 1, 0.9, 0.9, 0.9, 0.9])
    scores = choice(p, n=4000, noise=0.1)
    found = recommend(behavior(RISING, n=40), scores, max_loss=0.3, resamples=4000)
    assert found.reported_on and found.strength == 2.0
    rest, base = scores.p_free[6], scores.p_free[2]
    ratio = rest.mean() / base.mean()
    error = (rest - ratio * base).std() / base.mean() / np.sqrt(2000)
    assert found.loss == pytest.approx(1 - ratio, abs=4 * error)  # one half against all
    assert found.loss_high - found.loss == pytest.approx(1.645 * error, rel=0.1)


def test_the_order_of_strengths_does_not_matter_and_results_repeat() -> None:
    b, p = behavior(RISING), choice(STEADY * np.exp(-0.02 * S**2))
    back = BehaviorScores(S[::-1], b.p_aligned[::-1], b.p_misaligned[::-1])
    assert repr(recommend(back, p)) == repr(recommend(b, p)) == repr(recommend(b, p))
    assert repr(recommend(b, p, rng=np.random.default_rng(5))) != repr(recommend(b, p))


def test_other_measures_of_helpfulness() -> None:
    scores = choice(STEADY)
    broken = ChoiceScores(S, scores.p_free, 0.5 * scores.p_restricted * (1 + (S == 0))[:, None], scores.correct)
    assert recommend(behavior(RISING), broken).strength == 2.0
    none(recommend(behavior(RISING), broken, measure="p_restricted"), "already at +0.5 the loss may be 5")


def nonsense(share: Floats, n: int = 200) -> Floats:
    """(7, n) items of whose texts that share is nonsense: the first ones."""
    return np.asarray(np.arange(n) % 20 < 20 * share[:, None], np.float64)


def test_a_budget_of_nonsense_ends_the_walk() -> None:
    invalid = nonsense(np.array([0, 0, 0, 0.0, 0.05, 0.2, 0.0]))
    b, p = behavior(RISING), choice(STEADY)
    assert recommend(b, p, invalid=invalid).strength == 2.0  # no such budget
    found = recommend(b, p, invalid=invalid, max_invalid=0.1)
    assert found.strength == 1.0 and found.confirmed
    assert found.invalid == pytest.approx(0.05, abs=0.05)  # 5 of 100, or a few more of the 10 in all
    assert "at +1.5 " in found.reason and "of the texts are invalid, over the budget of 10.0%" in found.reason
    none(recommend(b, p, invalid=nonsense(np.full(7, 0.3)), max_invalid=0.1), "already at +0.5", "texts are invalid")


def test_a_budget_of_nonsense_needs_texts() -> None:
    none(recommend(behavior(RISING), choice(STEADY), max_invalid=0.1), "no texts were generated")
    assert np.isnan(recommend(behavior(RISING), choice(STEADY)).invalid)
    with pytest.raises(ShapeError, match=r"invalid shares are \(7, 3\)"):
        recommend(behavior(RISING), choice(STEADY), invalid=np.zeros((7, 3)))


def test_the_half_that_did_not_choose_may_deny_that_texts_are_sound() -> None:
    """All nonsense lies with the reporter's items: found by trying which those are."""
    b, p = behavior(RISING, n=20), choice(STEADY)
    for item in range(20):
        invalid = np.zeros((7, 20))
        invalid[3:, item] = 1.0
        found = recommend(b, p, invalid=invalid, max_invalid=0.05)
        if found.strength is not None:
            assert not found.confirmed and "10.0% of its texts are invalid" in found.reason
            return
    pytest.fail("every item was the chooser's")


def test_the_record_is_plain_data() -> None:
    record = recommend(behavior(RISING, n=20), choice(STEADY, n=20)).record()
    assert json.loads(json.dumps(record))["reported_on"]["n_behavior"] == 10


def test_what_cannot_be_compared_is_an_error() -> None:
    b, p = behavior(RISING), choice(STEADY)
    with pytest.raises(ShapeError, match="behavior was measured at"):
        recommend(BehaviorScores(S + 1, b.p_aligned, b.p_misaligned), p)
    away = np.where(S == 0, 0.25, S)
    with pytest.raises(StrengthError, match="strength 0 is missing"):
        recommend(BehaviorScores(away, b.p_aligned, b.p_misaligned), ChoiceScores(away, p.p_free, p.p_free, p.correct))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"direction": 0}, "direction 0 is neither"),
        ({"max_loss": 5.0}, "max_loss 5 is not a share"),
        ({"measure": "luck"}, "measure 'luck' is unknown; use one of p_free"),
        ({"weight": -1.0}, "weight -1"),
        ({"max_invalid": 5.0}, "max_invalid 5 is not a share"),
        ({"confidence": 95.0}, "confidence 95"),
    ],
)
def test_options_that_do_not_exist(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        recommend(behavior(RISING), choice(STEADY), **options)
