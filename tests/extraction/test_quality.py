"""Figures on a direction: by hand on small pairs, plainly in n_embd dimensions, as the pairs get better or worse."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest
from planted_pairs import OF_PAIRS, planted

from steercpp.aliases import FloatArray
from steercpp.errors import DegenerateError, InputError
from steercpp.extraction.methods import METHODS
from steercpp.extraction.quality import (
    MOST_PAIRS,
    N_FOLDS,
    N_RESAMPLES,
    NAMES,
    LayerQuality,
    area_under_curve,
    direction_with_quality,
    quality,
)


def plainly(positive: FloatArray, negative: FloatArray, method: str) -> LayerQuality:
    """The figures by their definitions, with the methods as users call them, in n_embd dimensions."""
    find, n = METHODS[method], len(positive)
    d = positive.astype(np.float64) - negative
    v = find(positive, negative).astype(np.float64)
    units = d / np.linalg.norm(d, axis=1, keepdims=True)
    right, wins, comparisons = 0.0, 0.0, 0
    for part in np.array_split(np.arange(n), min(N_FOLDS, n)):
        kept = np.setdiff1d(np.arange(n), part)
        w = find(positive[kept], negative[kept]).astype(np.float64)
        between = ((positive[kept] @ w).mean() + (negative[kept] @ w).mean()) / 2
        p, m = positive[part] @ w, negative[part] @ w
        right += (p > between).sum() + (m < between).sum()
        wins += sum(a > b for a in p for b in m)
        comparisons += len(part) ** 2
    draws = np.random.default_rng(0).integers(n, size=(N_RESAMPLES, n))
    return LayerQuality(
        explained=float(np.square(d @ v).sum() / np.square(d).sum()),
        agreement=float((units @ units.T)[~np.eye(n, dtype=bool)].mean()),
        accuracy=right / (2 * n),
        auc=wins / comparisons,
        norm_ratio=float(
            np.linalg.norm(d.mean(axis=0)) / np.linalg.norm(np.concatenate([positive, negative]), axis=1).mean()
        ),
        stability=float(np.mean([find(positive[draw], negative[draw]) @ v for draw in draws])),
    )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("n_pairs", "n_embd"), [(11, 96), (40, 64), (150, 24), (6, 7)])
def test_the_figures_are_those_of_all_coordinates(method: str, n_pairs: int, n_embd: int) -> None:
    positive, negative, _ = planted(spread=0.7, noise=0.5, n_pairs=n_pairs, n_embd=n_embd)
    direction, found = direction_with_quality(positive, negative, method)
    np.testing.assert_array_equal(direction, METHODS[method](positive, negative))
    assert found == quality(positive, negative, method)
    # accuracy and auc are counts; what lies close to a threshold or a tie of signs could fall otherwise, but does not
    # in these. The rest is float64 against directions rounded to float32.
    assert asdict(found) == pytest.approx(asdict(plainly(positive, negative, method)), abs=1e-5)


def test_by_hand() -> None:
    positive = np.array([[3, 4], [0, 8], [3, 0]], dtype=np.float32)
    negative = np.array([[0, 4], [0, 4], [0, 0]], dtype=np.float32)  # differences (3, 0), (0, 4), (3, 0)
    found = quality(positive, negative, "pca")
    assert found.explained == pytest.approx(18 / 34)  # along (1, 0), the larger of 9 + 9 and 16
    assert found.agreement == pytest.approx(1 / 3)  # the cosines are 0, 1 and 0
    assert found.norm_ratio == pytest.approx(np.hypot(2, 4 / 3) / ((5 + 8 + 3 + 4 + 4 + 0) / 6))
    # Without the first pair the direction is (0, 1): the others' means are 4 and 2, the first pair lies at 4 and 4.
    # Without the second it is (1, 0): 3 and 0, the second lies at 0 and 0. Without the third it is (0, 1) again: 6 and
    # 4, the third lies at 0 and 0. So each time one of two is right, and neither lies above the other.
    assert found.accuracy == pytest.approx(3 / 6)
    assert found.auc == pytest.approx(1.5 / 3)


def test_clear_pairs_and_hopeless_ones() -> None:
    rng = np.random.default_rng(5)
    positive, negative, direction = planted(n_pairs=40)
    common = (positive + negative) / np.float32(80)
    clear = quality(common + direction, common - direction, "mean")
    assert clear.explained > 0.99 and clear.auc == 1
    assert clear.accuracy is not None and clear.accuracy > 0.9  # sides lie at -1 and 1, but for 0.5 that pairs share
    assert clear.agreement is not None and clear.agreement > 0.99
    assert clear.stability is not None and clear.stability > 0.999
    hopeless = [quality(both[0], both[1], "mean") for both in rng.standard_normal((20, 2, 40, 256)).astype(np.float32)]
    means = {name: float(np.mean([getattr(one, name) for one in hopeless])) for name in NAMES}
    # 20 times 80 texts of no side: 5 standard errors of a share of 0.5 are 0.06
    assert means["accuracy"] == pytest.approx(0.5, abs=0.06) and means["auc"] == pytest.approx(0.5, abs=0.06)
    assert means["agreement"] == pytest.approx(0, abs=0.01)
    assert means["stability"] < 0.8 < clear.stability
    assert 0 < means["norm_ratio"] < 0.35 and clear.norm_ratio > 0  # sqrt(2 / 40) of independent rows


def test_flipped_pairs_lower_what_they_should() -> None:
    positive, negative, _ = planted(n_pairs=40)
    good = quality(positive, negative, "mean")
    swapped = np.arange(40)[:, None] < 12
    bad = quality(np.where(swapped, negative, positive), np.where(swapped, positive, negative), "mean")
    assert good.agreement is not None and good.agreement > 0.7
    assert bad.agreement is not None and bad.agreement == pytest.approx(good.agreement * 0.16, abs=0.05)  # (28-12)/40
    assert bad.norm_ratio == pytest.approx(good.norm_ratio * 0.4, rel=0.1)


def test_what_too_few_pairs_cannot_tell_is_left_out() -> None:
    positive, negative, _ = planted(n_pairs=3)
    one = quality(positive[:1], negative[:1], "pca")
    assert one.explained == pytest.approx(1) and one.norm_ratio > 0
    assert one.agreement is one.accuracy is one.auc is one.stability is None
    two = quality(positive[:2], negative[:2], "pca-centered")  # one pair is left: centring leaves nothing
    assert two.agreement is not None and two.accuracy is two.auc is None
    assert two.stability is None or abs(two.stability) <= 1
    three = quality(positive, negative, "mean")
    assert all(isinstance(value, float) and np.isfinite(value) for value in asdict(three).values())


def test_a_pair_without_a_difference_has_no_say_in_the_agreement() -> None:
    positive, negative, _ = planted(n_pairs=10)
    negative[4] = positive[4]
    rest = np.arange(10) != 4
    found, expected = quality(positive, negative, "mean"), quality(positive[rest], negative[rest], "mean")
    assert found.agreement == pytest.approx(expected.agreement)


def test_many_pairs_are_told_from_some_of_them() -> None:
    positive, negative, _ = planted(n_pairs=2 * MOST_PAIRS, n_embd=32, spread=0.5, noise=0.5)
    direction, found = direction_with_quality(positive, negative, "pca")
    np.testing.assert_array_equal(direction, METHODS["pca"](positive, negative))
    expected = plainly(positive, negative, "pca")
    for name in ("explained", "agreement", "norm_ratio"):  # of all pairs
        assert getattr(found, name) == pytest.approx(getattr(expected, name), abs=1e-5)
    for name in ("accuracy", "auc", "stability"):  # 5 standard errors of a share among 512 are 0.11
        assert getattr(found, name) == pytest.approx(getattr(expected, name), abs=0.11)


@pytest.mark.parametrize("method", OF_PAIRS)
def test_scale_does_not_matter(method: str) -> None:
    positive, negative, _ = planted(n_pairs=12, spread=0.5)
    found = quality(positive * np.float32(2.0**40), negative * np.float32(2.0**40), method)  # exact in float32
    assert asdict(found) == pytest.approx(asdict(quality(positive, negative, method)), abs=1e-6)


def test_errors_are_those_of_the_method() -> None:
    positive, negative, _ = planted(n_pairs=4)
    with pytest.raises(DegenerateError, match="identical activations"):
        quality(positive, positive, "mean")
    negative[2, 2] = np.nan
    with pytest.raises(InputError, match="pair 2"):
        quality(positive, negative, "mean")


def test_equal_activations_are_a_tie_in_any_coordinates() -> None:
    """Rounding in the basis of the rows used to decide between activations that are equal."""
    rng = np.random.default_rng(0)
    positive = rng.standard_normal((10, 64)).astype(np.float32)
    negative = positive.copy()
    negative[::5] -= 1  # the first pair of each part differs, so that every part has 2 activations of 4 in a tie
    found = quality(positive, negative, "mean")
    direction = np.ones(64) / 8
    wins = 0.0
    for part in np.array_split(np.arange(10), 5):
        above = (positive[part] @ direction)[:, None] - (negative[part] @ direction)[None, :]
        wins += (above > 1e-5).sum() + (np.abs(above) <= 1e-5).sum() / 2
    assert found.auc == pytest.approx(wins / 20)


@pytest.mark.parametrize("n", [(7, 7), (1, 1), (20, 13)])
def test_the_area_counts_every_comparison(n: tuple[int, int], rng: np.random.Generator) -> None:
    """Against all pairs of numbers, some of which are equal but for rounding."""
    for _ in range(50):
        positive, negative = (rng.integers(0, 6, size) + 1e-9 * rng.standard_normal(size) for size in n)
        above = positive[:, None] - negative[None, :]
        wins = (above > 1e-7).sum() + (np.abs(above) <= 1e-7).sum() / 2
        assert area_under_curve(positive, negative, 1e-7) == pytest.approx(wins / above.size, abs=1e-12)
