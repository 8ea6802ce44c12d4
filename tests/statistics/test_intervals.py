"""Intervals of means, whose truth is known without a study; test_coverage.py has the studies of fits."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from steercpp.statistics.intervals import Alternative, level, resample, same


def test_mean_intervals_are_students_where_items_are_normal() -> None:
    """The level for few items is chosen so: at 8 items plain percentiles would be a quarter too narrow."""
    items = np.random.default_rng(2).standard_normal((30, 8))
    found = resample(items, lambda means: means, rng=np.random.default_rng(3), resamples=4000)
    student = stats.t.isf(0.025, 7) * items.std(axis=1, ddof=1) / np.sqrt(8)
    ratio = np.median((found.high - found.low) / (2 * student))
    assert 0.9 < ratio < 1.1  # a bootstrap of 8 numbers has shorter tails than a normal's; the median over 30 samples
    assert level(0.95, 8, "two-sided") > 0.98 and level(0.95, 10_000, "less") == pytest.approx(0.95, abs=1e-3)


def test_one_sided_bounds_hold_as_often_as_they_say() -> None:
    """600 skewed samples: 95% within 3.5 binomial standard errors of 0.9%."""
    rng = np.random.default_rng(4)
    items = rng.exponential(1.0, (600, 60))
    lower = resample(items, lambda m: m, rng=np.random.default_rng(5), alternative="greater")
    upper = resample(items, lambda m: m, rng=np.random.default_rng(6), alternative="less")
    assert np.isposinf(lower.high).all() and np.isneginf(upper.low).all()
    assert np.mean(lower.low <= 1.0) == pytest.approx(0.95, abs=0.031)
    assert np.mean(upper.high >= 1.0) == pytest.approx(0.95, abs=0.031)


def test_both_ends_miss_alike_where_the_estimate_is_skewed() -> None:
    """The mean square of 40 normals: plain percentiles lie too low, and miss above three times as often as below.

    3,000 samples: misses on a side are uncertain by 0.3%.
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
    monkeypatch.setattr("steercpp.statistics.intervals.MEMORY", 1000)
    blocks = resample(items, lambda m: m, rng=np.random.default_rng(11), resamples=200)
    np.testing.assert_array_equal(blocks.draws, whole.draws)
    np.testing.assert_allclose(blocks.low, whole.low, rtol=1e-12)  # the jackknife sums in blocks, too


@pytest.mark.parametrize("alternative", ["two-sided", "greater", "less"])
def test_bounds_are_those_of_scipy(alternative: Alternative) -> None:
    """The same draws and definition; SciPy copies every resample, and every sample without one item."""
    items = np.random.default_rng(7).gamma(1.3, size=(3, 60))

    def ratio(*sample: np.ndarray, axis: int) -> np.ndarray:
        means: np.ndarray = sample[0].mean(axis=axis)
        return np.asarray(means[0] / means[1])

    found = resample(items, lambda m: m[:, :1] / m[:, 1:2], rng=np.random.default_rng(8), alternative=alternative)
    theirs = stats.bootstrap(
        (items,), ratio, axis=-1, vectorized=True, n_resamples=1000, confidence_level=level(0.95, 60, alternative),
        alternative=alternative, method="BCa", rng=np.random.default_rng(8),
    )  # fmt: skip
    ends = theirs.confidence_interval
    np.testing.assert_allclose(found.low, [ends.low], rtol=1e-10)
    np.testing.assert_allclose(found.high, [ends.high], rtol=1e-10)
    np.testing.assert_allclose(found.draws[0], theirs.bootstrap_distribution, rtol=1e-10)


def test_means_of_many_items_stay_among_the_items() -> None:
    """Two hits in 5,000: a group that has one counts for as much as all others may not."""
    items = np.zeros((2, 5000))
    items[0, :2], items[1, 2:] = 1.0, 1.0
    found = resample(items, same, rng=np.random.default_rng(14))
    assert found.draws.min() >= 0 and found.draws.max() <= 1 and found.low[0] >= 0 and found.high[1] <= 1


def test_many_items_are_resampled_in_groups_that_vary_as_they_do() -> None:
    """Sorted, so that neighbors are alike: widths and centers are those of a mean of 20,011 skewed items."""
    items = np.sort(np.random.default_rng(9).gamma(1.3, size=(40, 20_011)), axis=1)
    found = resample(items, same, rng=np.random.default_rng(10), resamples=2000)
    errors = items.std(axis=1) / np.sqrt(items.shape[1])
    assert np.mean((found.high - found.low) / (2 * 1.96 * errors)) == pytest.approx(1.0, abs=0.02)
    off = (found.draws.mean(axis=1) - items.mean(axis=1)) / errors
    assert np.abs(off).max() < 0.1  # 2,000 draws: 0.02 each
