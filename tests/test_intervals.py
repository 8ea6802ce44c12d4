"""How often intervals hold the truth, in seeded studies small enough for every test run."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from planted import GRID, unlike_alignment, unlike_helpfulness
from scipy import stats

from steercpp.forms import TANH, Form, helpfulness_form
from steercpp.intervals import level, resample
from steercpp.refit import fit_one
from steercpp.scoring import Floats
from steercpp.theory import FitResult, fit_alignment, fit_helpfulness

Planter = Callable[[int, np.random.Generator], Floats]
QUADRATIC = helpfulness_form("quadratic")


def zero_or_one(n_items: int, rng: np.random.Generator) -> Floats:
    """Answers right or wrong instead of their probabilities."""
    p = unlike_helpfulness(n_items, rng)
    return np.asarray(rng.random(p.shape) < p, np.float64)


def fit_of(form: Form, items: Floats, seed: int) -> FitResult:
    rng = np.random.default_rng(seed)
    if form is TANH:
        return fit_alignment(GRID, items, rng=rng, resamples=400)
    return fit_helpfulness(GRID, items, rng=rng, resamples=400)


@pytest.mark.parametrize(
    ("form", "plant", "n_items"),
    [
        (TANH, unlike_alignment, 20),
        (TANH, unlike_alignment, 100),
        (QUADRATIC, unlike_helpfulness, 20),
        (QUADRATIC, zero_or_one, 60),
    ],
    ids=["alignment-20", "alignment-100", "helpfulness-20", "zero-or-one-60"],
)
def test_intervals_hold_what_very_many_items_would_give(form: Form, plant: Planter, n_items: int) -> None:
    """300 studies: 94.5 % (400 draws leave the ends uncertain) within 3.5 binomial standard errors of 1.3 %.

    The truth is the same fit on 200,000 items, whose own error is a hundredth of these intervals.
    """
    rng = np.random.default_rng(n_items)
    truth, _ = fit_one(form, GRID, plant(200_000, rng).mean(axis=1))
    truth = np.where(form.positive, np.exp(truth), truth)
    hits = np.zeros(2)
    for study in range(300):
        params = fit_of(form, plant(n_items, rng), study).params.values()
        hits += [p.low <= t <= p.high for p, t in zip(params, truth, strict=True)]
    assert ((hits / 300 > 0.90) & (hits / 300 < 0.99)).all(), hits / 300


def sandwich(form: Form, items: Floats) -> Floats:
    """Standard errors (n_parameters,) of the inner coordinates by the M-estimator's sandwich, Hessian and all."""
    y = items.mean(axis=1)
    u, _ = fit_one(form, GRID, y)

    def gradient(v: Floats) -> Floats:
        return np.asarray((y - form.value(v[None], GRID)[0]) @ form.jacobian(v[None], GRID)[0])

    steps = 1e-5 * np.eye(len(u))
    hessian = -np.array([(gradient(u + h) - gradient(u - h)) / 2e-5 for h in steps])
    influence = np.linalg.solve(hessian, form.jacobian(u[None], GRID)[0].T @ (items - y[:, None]))
    return np.asarray(influence.std(axis=1, ddof=1) / np.sqrt(items.shape[1]))


@pytest.mark.parametrize(("form", "plant"), [(TANH, unlike_alignment), (QUADRATIC, unlike_helpfulness)])
def test_intervals_are_about_as_wide_as_the_sandwich(form: Form, plant: Planter) -> None:
    rng = np.random.default_rng(1)
    ratios = []
    for study in range(40):
        items = plant(100, rng)
        fit = fit_of(form, items, study)
        ends = np.array([[p.low, p.high] for p in fit.params.values()])
        inner = np.where(np.array(form.positive)[:, None], np.log(np.where(ends > 0, ends, 1)), ends)
        ratios.append((inner[:, 1] - inner[:, 0]) / (2 * 1.96 * sandwich(form, items)))
    median = np.median(ratios, axis=0)
    assert ((median > 0.9) & (median < 1.1)).all(), median  # 400 draws: each end is uncertain by 5 % of the width


def test_mean_intervals_are_students_where_items_are_normal() -> None:
    """The level for few items is chosen so: at 8 items plain percentiles would be a quarter too narrow."""
    items = np.random.default_rng(2).standard_normal((30, 8))
    found = resample(items, lambda means: means, rng=np.random.default_rng(3), resamples=4000)
    student = stats.t.isf(0.025, 7) * items.std(axis=1, ddof=1) / np.sqrt(8)
    ratio = np.median((found.high - found.low) / (2 * student))
    assert 0.9 < ratio < 1.1  # a bootstrap of 8 numbers has shorter tails than a normal's; the median over 30 samples
    assert level(0.95, 8, "two-sided") > 0.98 and level(0.95, 10_000, "less") == pytest.approx(0.95, abs=1e-3)


def test_one_sided_bounds_hold_as_often_as_they_say() -> None:
    """600 skewed samples: 95 % within 3.5 binomial standard errors of 0.9 %."""
    rng = np.random.default_rng(4)
    items = rng.exponential(1.0, (600, 60))
    lower = resample(items, lambda m: m, rng=np.random.default_rng(5), side="greater")
    upper = resample(items, lambda m: m, rng=np.random.default_rng(6), side="less")
    assert np.isposinf(lower.high).all() and np.isneginf(upper.low).all()
    assert np.mean(lower.low <= 1.0) == pytest.approx(0.95, abs=0.031)
    assert np.mean(upper.high >= 1.0) == pytest.approx(0.95, abs=0.031)


def test_both_ends_miss_alike_where_the_estimate_is_skewed() -> None:
    """The mean square of 40 normals: plain percentiles lie too low, and miss above three times as often as below.

    3,000 samples: misses on a side are uncertain by 0.3 %.
    """
    squares = np.random.default_rng(12).standard_normal((3000, 40)) ** 2
    found = resample(squares, lambda m: m, rng=np.random.default_rng(13), resamples=1000)
    above, below = np.mean(found.high < 1), np.mean(found.low > 1)
    assert above < 3 * below


def test_numbers_that_no_resample_changes_are_their_own_bounds() -> None:
    items = np.vstack([np.full(10, 0.25), np.arange(10.0)])
    found = resample(items, lambda m: m, rng=np.random.default_rng(7))
    assert found.low[0] == found.high[0] == 0.25
    assert found.low[1] < 4.5 < found.high[1]


def test_rows_of_an_item_stay_together() -> None:
    """Row 2 is 1 - row 1 for every item, so it is in every resample."""
    x = np.random.default_rng(8).random(30)
    found = resample(np.vstack([x, 1 - x]), lambda m: m.sum(axis=1, keepdims=True), rng=np.random.default_rng(9))
    np.testing.assert_allclose(found.draws, 1.0, atol=1e-14)


def test_blocks_of_resamples_do_not_change_the_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    items = np.random.default_rng(10).random((3, 40))
    whole = resample(items, lambda m: m, rng=np.random.default_rng(11), resamples=200)
    monkeypatch.setattr("steercpp.intervals.MEMORY", 1000)
    blocks = resample(items, lambda m: m, rng=np.random.default_rng(11), resamples=200)
    np.testing.assert_array_equal(blocks.draws, whole.draws)
    np.testing.assert_allclose(blocks.low, whole.low, rtol=1e-12)  # the jackknife sums in blocks, too
