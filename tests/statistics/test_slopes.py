"""Slopes of single items: planted ones are found, and what averaging does to them is what a million items say."""

from __future__ import annotations

import json

import numpy as np
import pytest
from planted_items import GRID, unlike_alignment
from scipy import stats

from steercpp.aliases import Floats
from steercpp.errors import DegenerateError
from steercpp.statistics.fits import fit_one
from steercpp.statistics.forms import TANH
from steercpp.statistics.scores import BehaviorScores
from steercpp.statistics.slopes import share, slopes, telling


def scores(half_odds: Floats) -> BehaviorScores:
    """Items of mass 0.8 whose half ln(P+/P-) is given, (n_s, n_items)."""
    b = np.tanh(half_odds)
    return BehaviorScores(GRID, 0.4 * (1 + b), 0.4 * (1 - b), 2 * half_odds)


def test_slopes_of_items_are_those_planted() -> None:
    planted = np.linspace(-0.25, 0.95, 13)
    found = slopes(scores(planted * GRID[:, None] - 0.3))
    np.testing.assert_allclose(found.items, planted, atol=1e-12)  # straight lines: least squares is exact
    np.testing.assert_allclose(found.quantiles, np.quantile(planted, [0.05, 0.25, 0.5, 0.75, 0.95]), atol=1e-12)
    assert found.mean.value == pytest.approx(0.35) and found.mean.low < 0.35 < found.mean.high
    assert (found.anti.n, found.anti.of) == (3, 13)
    other = slopes(scores(planted * GRID[:, None] - 0.3), direction=-1)
    assert other.anti.n == 10


def test_items_that_are_alike_lose_nothing_by_averaging() -> None:
    found = slopes(scores(np.repeat(0.7 * GRID[:, None] - 0.5, 20, axis=1)))
    for number, value in ((found.mean, 0.7), (found.of_mean, 0.7), (found.fitted, 0.7), (found.kept, 1.0)):
        assert number.value == pytest.approx(value, rel=1e-6)
        assert number.low == pytest.approx(value, rel=1e-6) and number.high == pytest.approx(value, rel=1e-6)


def test_averaging_keeps_as_much_as_a_million_items_say() -> None:
    """200 studies of 60 items: 95% of them within 3.5 binomial errors of 1.5%."""
    rng = np.random.default_rng(1)
    mean = np.mean([unlike_alignment(50_000, rng).mean(axis=1) for _ in range(20)], axis=0)
    truth = fit_one(TANH, GRID, mean)[0][0] / (0.7 * np.exp(0.125))  # the mean of a log-normal slope
    assert 0.4 < truth < 0.6  # averaging flattens by half here
    hits = 0
    for study in range(200):
        b = unlike_alignment(60, rng)
        kept = slopes(scores(np.arctanh(np.clip(b, -1 + 1e-15, 1 - 1e-15))), resamples=300,
                      rng=np.random.default_rng(study)).kept  # fmt: skip
        hits += kept.low <= truth <= kept.high
    assert 0.90 <= hits / 200 <= 0.995


def test_nothing_is_kept_of_a_slope_that_may_be_0() -> None:
    rng = np.random.default_rng(2)
    found = slopes(scores(np.where(rng.random(40) < 0.5, -0.5, 0.5) * GRID[:, None]))
    assert found.mean.low < 0 < found.mean.high and np.isnan(found.kept.value)


def test_a_window_leaves_the_rest_out() -> None:
    bent = np.where(np.abs(GRID) <= 2, 0.8 * GRID, -3.0)[:, None] + np.zeros(10)
    np.testing.assert_allclose(slopes(scores(bent), window=(-2, 2)).items, 0.8, atol=1e-12)
    assert slopes(scores(bent)).window[1] <= 2  # beyond, B is nearly -1 and tells nothing
    assert (slopes(scores(bent), window=(-4, 4)).items < 0.8).all()
    with pytest.raises(DegenerateError, match="0 strengths in the window"):
        slopes(scores(bent), window=(5, 6))


def test_slopes_are_taken_where_b_tells_strengths_apart() -> None:
    """Log-odds that stop rising beyond 2, where B is at its end already."""
    found = slopes(scores(np.clip(1.2 * GRID, -2.4, 2.4)[:, None] + np.linspace(-0.1, 0.1, 20)))
    assert found.window == (-1.5, 1.5)  # tanh 1.8 is 0.947
    np.testing.assert_allclose(found.items, 1.2, atol=1e-12)
    assert found.kept.value == pytest.approx(1.0, abs=0.03)  # the tanh through all strengths sees the same slope
    assert telling(GRID, np.tanh(30 * GRID + 40)) == (-2.0, -1.0)  # a switch between two strengths: three of them
    assert telling(GRID[:2], np.ones(2)) == (-4.0, -3.5)


def test_few_items_have_no_intervals() -> None:
    found = slopes(scores(0.5 * GRID[:, None] + np.zeros(3)))
    assert found.mean.value == pytest.approx(0.5) and np.isnan([found.mean.low, found.kept.high]).all()


def test_flat_items_have_no_fitted_slope() -> None:
    found = slopes(scores(np.zeros((len(GRID), 8))))
    assert found.mean.value == 0 and np.isnan(found.fitted.value)


def test_the_share_has_mid_p_bounds_and_exact_ones_for_none() -> None:
    """6 of 50: at each bound, P(more) + P(as many) / 2 by the binomial is the tail; none of 20: 1 - 0.025^(1/20)."""
    found = share(6, 50)
    at_low, at_high = stats.binom(50, found.low), stats.binom(50, found.high)
    assert at_low.sf(6) + at_low.pmf(6) / 2 == pytest.approx(0.025, rel=1e-6)
    assert at_high.cdf(5) + at_high.pmf(6) / 2 == pytest.approx(0.025, rel=1e-6)
    assert share(0, 20).low == 0 and share(0, 20).high == pytest.approx(1 - 0.025 ** (1 / 20))
    assert np.isnan(share(0, 0).value)


def test_the_record_is_plain_data() -> None:
    record = slopes(scores(0.5 * GRID[:, None] + np.linspace(-1, 1, 9))).record()
    assert json.loads(json.dumps(record))["anti"]["of"] == 9
