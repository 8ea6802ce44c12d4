"""The constants' statistics on planted readings: what is put in comes out, and what breaks an assumption is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import planted_readings as planted
import pytest
from planted_readings import DELTA, LAMBDA, LAMBDA_SIGMA, N_QUERIES, STRENGTHS
from scipy import stats

from steercpp.experiments.constants.derive import derive
from steercpp.experiments.constants.noise import Noise, moments, shape, shapiro
from steercpp.experiments.constants.norm_lines import line, own_lines, straight, window
from steercpp.experiments.constants.predicted import gaussian, helpfulness_curves, quadratic
from steercpp.experiments.constants.separation import Gap, auc, circular, first_token_gap, layer_record
from steercpp.experiments.constants.words import facts
from steercpp.statistics.intervals import bounded, mean

ALL = np.ones(len(STRENGTHS), bool)


def test_lambda_and_the_end_of_its_line_come_out(rng: np.random.Generator) -> None:
    norms = planted.norms(rng)
    for sign in (1, -1):
        found = line(STRENGTHS, norms, sign=sign)
        assert found is not None
        # The window may go a little beyond the bend at 5, until R2 of the mean falls below 0.99, and the slope with it.
        assert 5.0 <= abs(found.reach) <= 7.0 and found.left_at == found.reach + 0.5 * sign
        assert found.slope.value == pytest.approx(norms[STRENGTHS == 5].mean() / 5, rel=0.15)
        assert found.r2 >= 0.99 and found.share == 1.0 and found.n_queries == N_QUERIES
        fixed = line(STRENGTHS, norms, sign=sign, reach=5.0)
        assert fixed is not None and fixed.reach == 5.0 * sign
        # Within the authors' window the planted line is exact; 3 standard errors of the mean of 100 queries: 1.2.
        assert fixed.slope.value == pytest.approx(LAMBDA, abs=1.2)
        assert fixed.slope.low < norms[STRENGTHS == 1].mean() < fixed.slope.high
        np.testing.assert_allclose(fixed.intercept, 0, atol=1e-10)


def test_a_line_is_that_of_polyfit(rng: np.random.Generator) -> None:
    x, y = np.arange(7.0), rng.standard_normal((7, 3))
    slope, intercept, r2 = straight(x, y)
    for i in range(3):
        np.testing.assert_allclose(np.polyfit(x, y[:, i], 1), [slope[i], intercept[i]])  # the same sums, in float64
        assert r2[i] == pytest.approx(stats.linregress(x, y[:, i]).rvalue ** 2)


def test_queries_that_do_not_grow_in_a_line_are_counted(rng: np.random.Generator) -> None:
    norms = planted.norms(rng)
    norms[:, :30] = 50.0 * (np.abs(STRENGTHS)[:, None] > 2)  # steps
    inside = np.abs(STRENGTHS) <= 5
    assert own_lines(STRENGTHS, norms, inside)[1].mean() == 0.7
    assert line(STRENGTHS[:2] + 10, norms[:2], sign=1, reach=9.0) is None  # two points make no line


def test_a_window_without_lines_is_the_innermost_strengths() -> None:
    assert STRENGTHS[window(STRENGTHS, (None, None))].tolist() == [-1, -0.5, 0, 0.5, 1]


def test_sigma_comes_out_of_normal_noise(rng: np.random.Generator) -> None:
    x = planted.noise(rng.standard_normal)
    noise = Noise(moments(x), x)
    rate, r2 = noise.rate(STRENGTHS, ALL)
    # 1,000 values of one draw at every strength: 3 standard errors of a standard deviation are 7%.
    assert rate.value == pytest.approx(LAMBDA_SIGMA, rel=0.07) and rate.low < LAMBDA_SIGMA < rate.high
    assert r2 > 0.999999  # the same draw times s: exactly in proportion
    at = noise.at(30)
    assert at["mean"][1] < 0 < at["mean"][2]
    assert at["skew"][1] < 0 < at["skew"][2] and at["excess_kurtosis"][1] < 0 < at["excess_kurtosis"][2]
    assert at["test"]["n"] == N_QUERIES and at["test"]["p"] > 0.05
    np.testing.assert_allclose(at["quantiles"]["measured"], at["quantiles"]["normal"], atol=0.6)
    np.testing.assert_allclose(shape(moments(x))[..., 1], x.std(axis=-1), atol=1e-10)


def heavy(rng: np.random.Generator) -> Callable[[tuple[int, int]], np.ndarray]:
    return lambda size: rng.standard_t(3, size)


def skewed(rng: np.random.Generator) -> Callable[[tuple[int, int]], np.ndarray]:
    return lambda size: rng.exponential(size=size) - 1


def test_noise_that_is_not_normal_is_told(rng: np.random.Generator) -> None:
    for draw, name in ((heavy(rng), "excess_kurtosis"), (skewed(rng), "skew")):
        x = planted.noise(draw)
        at = Noise(moments(x), x).at(25)
        assert at[name][1] > 0.2, name
        assert at["test"]["p"] < 0.01 and at["test"]["share_p_below_0.05"] > 0.5, name


def test_tokens_of_one_query_do_not_count_as_independent(rng: np.random.Generator) -> None:
    copies = np.repeat(rng.standard_normal((40, 1)), 50, axis=1)  # fifty tokens that say the same
    assert shapiro(copies)["n"] == 40 and shapiro(copies)["p"] > 0.05
    found = bounded(moments(copies).T, shape)[0]
    # As wide as for forty values, 2 * 1.96/sqrt(40) = 0.62; two thousand independent ones would give 0.09.
    assert found.high - found.low > 0.4


def test_a_bias_of_the_noise_breaks_its_assumption(rng: np.random.Generator) -> None:
    x = planted.noise(rng.standard_normal)
    proportional, unbiased, both = Noise(moments(x), x).shares(STRENGTHS, ALL, r2=0.95)
    assert proportional == 1.0 and both == unbiased > 0.85  # means of ten values scatter by a third of their spread
    biased = x + 1.0 * LAMBDA_SIGMA * np.abs(STRENGTHS)[:, None, None]
    proportional, unbiased, both = Noise(moments(biased), biased).shares(STRENGTHS, ALL, r2=0.95)
    assert proportional == 1.0 and both == unbiased < 0.2
    assert Noise(moments(biased), biased).at(40)["mean"][0] == pytest.approx(6.0, rel=0.1)


def test_missing_values_count_for_nothing(rng: np.random.Generator) -> None:
    x = rng.standard_normal((5, 6, 4))
    padded = np.concatenate([x, np.full((5, 6, 2), np.nan)], axis=-1)
    np.testing.assert_allclose(moments(padded), moments(x))
    weights = rng.uniform(size=(6, 4))
    direct = (weights * x**3).sum(axis=-1) / weights.sum(axis=-1)
    np.testing.assert_allclose(moments(x, weights)[..., 2], direct)


def test_delta_comes_out_in_both_conventions(rng: np.random.Generator) -> None:
    norm = planted.norms(rng)
    gap = DELTA * np.sign(STRENGTHS)[:, None] * norm
    gap[:, :20] *= -1  # a fifth goes the wrong way
    found = Gap(STRENGTHS, gap, norm).record(ALL)
    assert found["delta_gap"][0] == pytest.approx(0.6 * DELTA)
    assert found["delta_side"][0] == pytest.approx(0.3 * DELTA)
    assert found["share_holds"][0] == pytest.approx(0.8) and found["share_positive"][30] == pytest.approx(0.8)
    assert found["worst_margin"]["positive"] == pytest.approx(-DELTA)
    right = Gap(STRENGTHS, gap[:, 20:], norm[:, 20:])
    assert right.worst(ALL, 1) == pytest.approx(DELTA) == right.worst(ALL, -1)
    # per unit of strength, through 0, where the length is linear
    near = np.abs(STRENGTHS) <= 5
    np.testing.assert_allclose(right.rates(near), DELTA * norm[STRENGTHS == 1][0, 20:])


def test_first_tokens_of_both_sides_are_left_out() -> None:
    change = np.array([1.0, 2.0, 5.0, -1.0, 0.0])
    assert first_token_gap(change, np.array([1, 2]), np.array([0, 3])) == (3.5, 1.0)
    assert first_token_gap(change, np.array([1, 2, 4]), np.array([4, 3])) == (4.5, 3.0)
    assert np.isnan(first_token_gap(change, np.array([1]), np.array([1]))).all()


def test_the_worst_pair_is_that_of_the_strengths_own_sign() -> None:
    """Below 0 every gap should be negative: a pair that rises broke A2 and was taken for the best of margins."""
    change, good, bad = np.array([-3.0, 1.0, 0.0]), np.array([0, 1]), np.array([2])
    mean_gap, worst = first_token_gap(change, good, bad, -1.0)
    assert (mean_gap, worst) == (-1.0, 1.0)
    assert first_token_gap(-change, good, bad, 1.0) == (1.0, -1.0)
    strengths, norm = np.array([-1.0, 0.0, 1.0]), np.array([[1.0], [0.0], [1.0]])
    found = Gap(strengths, np.array([[worst], [0.0], [2.0]]), norm)
    inside = np.ones(3, bool)
    assert found.holds(inside).tolist() == [0.0] and found.margins[0].tolist() == [-1.0]


def test_no_pair_is_better_than_the_mean_pair_at_either_sign(rng: np.random.Generator) -> None:
    good, bad = np.array([0, 1, 2]), np.array([3, 4])
    for sign in (-1.0, 1.0):
        for _ in range(50):
            change = rng.standard_normal(6)
            mean_gap, worst = first_token_gap(change, good, bad, sign)
            pairs = sign * (change[good][:, None] - change[bad])
            assert sign * worst == pairs.min() < sign * mean_gap  # the same two numbers subtracted: exact


def test_the_authors_tokens_find_a_delta_in_any_direction_and_ours_do_not(rng: np.random.Generator) -> None:
    n_vocab, n_embd, strengths = 1000, 64, np.arange(-10.0, 10.1, 0.2)  # the authors' grid
    head = rng.standard_normal((n_vocab, n_embd)) / np.sqrt(n_embd)
    at_0 = rng.standard_normal((40, n_embd)) * 3
    direction = rng.standard_normal((40, n_embd))  # has nothing to do with any token
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    strengths[np.abs(strengths) < 1e-9] = 0.0
    logits = (at_0 + 3 * strengths[:, None, None] * direction) @ head.T
    slopes = circular(strengths, logits)
    change = logits - logits[strengths == 0]
    gap = np.array([[first_token_gap(one, np.array([7]), np.array([11]))[0] for one in row] for row in change])
    ours = Gap(strengths, gap, np.linalg.norm(change, axis=2))
    rates = ours.rates(np.ones(len(strengths), bool))
    assert slopes.min() > 0.1  # every query has one
    found = mean(rates)
    assert found.low < 0 < found.high < slopes.mean()  # a single pair of tokens: as often one way as the other
    assert 0.3 < ours.record(np.ones(len(strengths), bool))["share_holds"][0] < 0.7  # a coin


def test_an_area_is_mann_and_whitneys_and_its_interval_covers(rng: np.random.Generator) -> None:
    above, below = rng.standard_normal(60) + 0.7, rng.standard_normal(60)
    value, low, high = auc(above, below)
    assert value == pytest.approx(stats.mannwhitneyu(above, below).statistic / 3600)
    assert low < stats.norm.cdf(0.7 / np.sqrt(2)) < high and 0.05 < high - low < 0.3
    found = layer_record(above, below, np.full(60, 2.0))
    assert found["margin"][0] == pytest.approx((above - below).mean())
    assert found["cosine"][0] == pytest.approx((above - below).mean() / 2)
    assert found["accuracy"][0] == pytest.approx((above > below).mean())


def test_predicted_helpfulness_is_that_of_softmax_noise() -> None:
    # paper.md has these figures for 2,000 tokens and P0 = 0.3; a fifth of a per cent is what 4,000 draws leave.
    rng, p_0 = np.random.default_rng(1), np.array([0.3])
    s = np.array([0.0, 1.0, 2.0])
    wrong = rng.dirichlet(np.ones(1999)) * 0.7
    x = rng.standard_normal((4000, 1999))
    exact = [(p_0 / (p_0 + np.exp(strength * x) @ wrong)).mean() for strength in s]
    np.testing.assert_allclose(helpfulness_curves(s, p_0, gaussian(1.0))[:, 0], exact, rtol=0.2)
    np.testing.assert_allclose(helpfulness_curves(s, p_0, gaussian(1.0))[:2, 0], exact[:2], rtol=0.01)
    bound = helpfulness_curves(s, p_0, quadratic(1.0))[:, 0]
    assert (bound >= np.array(exact) - 0.002).all() and bound[2] > 2 * exact[2] * 0.9
    shifted = helpfulness_curves(s, p_0, gaussian(0.0, np.array([0.0, 1.0, 2.0])))[:, 0]
    np.testing.assert_allclose(shifted, 0.3 / (0.3 + 0.7 * np.exp(s)))


def test_the_whole_record_says_what_was_planted(rng: np.random.Generator) -> None:
    record = derive(planted.readings(rng), recipe="wolf2024")
    assert record["reference_strength"] == 5.0
    assert record["norms"]["choice"]["logits"]["positive"]["slope"][0] == pytest.approx(LAMBDA, rel=0.03)
    # 0.6 / 4: |delta| was given as a tenth of |U delta|; errors of both add, 7% and 3%
    assert record["noise"]["top10"]["sigma"][0] == pytest.approx(10 * LAMBDA_SIGMA / LAMBDA, rel=0.1)
    gaps = record["separation"]["gaps"]
    assert record["norm"] == "hidden"
    for name in ("continuations", "first_tokens"):
        assert gaps[name]["delta_gap"][0] == pytest.approx(10 * DELTA)
    for kind in ("choice", "behavior"):
        assert record["assumptions"]["A1"][kind]["hidden"]["share"][0] == 1.0
    assert record["assumptions"]["A2"]["continuations"]["share"][0] == 1.0
    for layer in record["separation"]["layers"]:
        assert layer["margin"][0] == pytest.approx(2.0) and layer["cosine"][0] == pytest.approx(0.5)
        assert layer["accuracy"][0] == 1.0 and layer["auc"][0] > 0.85
        assert layer["margin_at"][0] == pytest.approx(2.0) and layer["margin_at"][20] is None
        assert layer["lens"]["share_holds"][0] == 1.0
    alignment = record["predicted"]["alignment"]["queries"]
    assert alignment["largest_near"] < 1e-9  # where |delta| is a line, so is ln(P+/P-): the prediction is exact
    bound, measured = record["predicted"]["alignment"]["bound"], record["predicted"]["alignment"]["measured"]
    above = (STRENGTHS > 0) & (STRENGTHS <= 5)
    assert (np.array(bound["mean"])[above] <= np.array(measured)[above] + 1e-9).all()
    helpfulness = record["predicted"]["helpfulness"]["top10"]
    assert helpfulness["gaussian"]["r2"] > 0.99 and helpfulness["quadratic"]["r2"] < helpfulness["gaussian"]["r2"]


def test_there_is_no_bound_where_a_query_is_steered_the_other_way(rng: np.random.Generator) -> None:
    whole = planted.readings(rng)
    assert whole.behavior is not None
    log_odds = whole.behavior.log_odds.copy()
    above = STRENGTHS > 0
    log_odds[above, 3] = 2 * log_odds[STRENGTHS == 0, 3] - log_odds[above, 3]  # one query, on one side
    record = derive(replace(whole, behavior=replace(whole.behavior, log_odds=log_odds)))
    bound = np.array(record["predicted"]["alignment"]["bound"]["mean"])
    assert np.isnan(bound[above]).all() and np.isfinite(bound[~above]).all()
    nearly = np.array(record["predicted"]["alignment"]["bound_nearly_all"]["mean"])
    assert np.isfinite(nearly).all()  # 99 of 100 are not
    assert record["assumptions"]["A2"]["continuations"]["share"][0] == pytest.approx(0.99)


def test_delta_is_of_the_harmful_queries_where_there_are_two_sides(rng: np.random.Generator) -> None:
    whole = planted.readings(rng)
    assert whole.behavior is not None
    harmful = (np.arange(N_QUERIES) % 2 == 0).astype(float)
    way = np.where(harmful > 0, 1.0, -0.5)
    at_0 = whole.behavior.log_odds[STRENGTHS == 0]
    part = replace(
        whole.behavior, log_odds=at_0 + way * (whole.behavior.log_odds - at_0), first_gap=way * whole.behavior.first_gap
    )
    mixed, told = (derive(replace(whole, choice=None, behavior=one), recipe="wolf2024") for one in (
        part, replace(part, harmful=harmful)))  # fmt: skip
    for name in ("continuations", "first_tokens"):
        # lambda of the queries differs by a tenth; the slope through 0 of each does not
        assert told["separation"]["gaps"][name]["delta_gap"][0] == pytest.approx(10 * DELTA)
        assert mixed["separation"]["gaps"][name]["delta_gap"][0] == pytest.approx(2.5 * DELTA)
        assert told["assumptions"]["A2"][name] == {"share": [1.0] * 3, "n_queries": N_QUERIES // 2}
    assert (told["separation"]["of"], told["separation"]["n_left_out"]) == ("harmful", N_QUERIES // 2)
    assert (mixed["separation"]["of"], mixed["separation"]["n_left_out"]) == ("all", 0)
    measured = np.tanh(part.log_odds[:, harmful > 0] / 2).mean(axis=1)
    np.testing.assert_allclose(told["predicted"]["alignment"]["measured"], measured)
    assert np.isfinite(told["predicted"]["alignment"]["bound"]["mean"]).all()
    assert told["norms"] == mixed["norms"]  # |delta| has no side
    words = dict(facts(told | {"unit": "norm"}))
    assert "50 of the other side" in words["Δ and B"] and words["Δλ"].endswith("harmful")
    assert "A2 gap > 0, of 50 harmful" in words and "Δ and B" not in dict(facts(mixed))


def test_numbers_of_few_queries_have_no_interval() -> None:
    few = mean(np.array([1.0, 2.0, 3.0]))
    assert few.value == 2.0 and np.isnan(few.low) and np.isnan(few.high)
    assert np.isnan(mean(np.array([np.nan])).value)
