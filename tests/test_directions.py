"""Extraction methods against planted directions, against scikit-learn, and against what they must not do."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.decomposition import PCA

from steercpp.control_vector import FloatArray
from steercpp.directions import METHODS, explained_share
from steercpp.errors import DegenerateError, InputError, ShapeError

N_PAIRS, N_EMBD = 64, 256


def planted(
    *, spread: float = 0.0, noise: float = 0.05, n_pairs: int = N_PAIRS, n_embd: int = N_EMBD, seed: int = 0
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Positive and negative activations whose differences are strength_i * direction + noise, and the direction.

    Strengths have mean 1 and standard deviation `spread`; what a pair has in common is far larger than the difference.
    """
    rng = np.random.default_rng(seed)
    direction = rng.standard_normal(n_embd)
    direction /= np.linalg.norm(direction)
    common = 20 * rng.standard_normal((n_pairs, n_embd))
    strengths = 1 + spread * rng.standard_normal((n_pairs, 1))
    push = 2 * strengths * direction + noise * rng.standard_normal((n_pairs, n_embd))
    return (common + push / 2).astype(np.float32), (common - push / 2).astype(np.float32), direction.astype(np.float32)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("n_pairs", "n_embd"), [(64, 256), (400, 32), (8, 8)])
def test_unit_length_and_bit_equal_again(method: str, n_pairs: int, n_embd: int) -> None:
    positive, negative, _ = planted(spread=0.5, n_pairs=n_pairs, n_embd=n_embd)
    before = positive.copy()
    found = METHODS[method](positive, negative)
    assert found.shape == (n_embd,) and found.dtype == np.float32
    assert np.linalg.norm(found.astype(np.float64)) == pytest.approx(1, abs=1e-6)  # n_embd roundings of 6e-8, at most
    np.testing.assert_array_equal(METHODS[method](positive, negative), found)
    np.testing.assert_array_equal(positive, before)


@pytest.mark.parametrize("method", ["mean", "pca"])
@pytest.mark.parametrize("spread", [0.0, 0.3, 1.0])
def test_planted_direction_is_recovered_with_its_sign(method: str, spread: float) -> None:
    positive, negative, direction = planted(spread=spread)
    assert METHODS[method](positive, negative) @ direction > 0.99


def test_centred_pca_loses_a_direction_that_all_pairs_share() -> None:
    positive, negative, direction = planted(spread=0.0)
    found = METHODS["pca-centered"](positive, negative)
    assert abs(found @ direction) < 0.3  # nothing is left but noise: 5 standard deviations of a random cosine
    assert METHODS["pca"](positive, negative) @ direction > 0.99


def test_centred_pca_recovers_it_where_strengths_differ() -> None:
    positive, negative, direction = planted(spread=1.0)
    assert METHODS["pca-centered"](positive, negative) @ direction > 0.99


@pytest.mark.parametrize("method", METHODS)
def test_swapping_the_sides_turns_the_direction_round(method: str) -> None:
    positive, negative, _ = planted(spread=1.0)
    np.testing.assert_array_equal(METHODS[method](negative, positive), -METHODS[method](positive, negative))


def test_sign_of_pca_is_that_of_the_mean_projection() -> None:
    differences = np.array([[-1, 0], [-1, 0], [5, 0]], dtype=np.float32)  # two of three go left, the mean goes right
    found = METHODS["pca"](differences, np.zeros_like(differences))
    np.testing.assert_allclose(found, [1, 0], atol=1e-7)  # float32 rounding of a unit vector


def test_sign_of_centred_pca_is_that_of_most_pairs() -> None:
    differences = np.array([[-1, 0], [-1, 0], [5, 0]], dtype=np.float32)
    found = METHODS["pca-centered"](differences, np.zeros_like(differences))
    np.testing.assert_allclose(found, [-1, 0], atol=1e-7)


def test_a_tie_of_signs_is_settled_by_the_largest_component() -> None:
    for row in ([2, -1], [-1, 2]):
        for rows in ([row, [-row[0], -row[1]]], [[-row[0], -row[1]], row]):
            for repeats in (1, 2):  # fewer pairs than n_embd + 1, and more
                differences = np.array(rows * repeats, dtype=np.float32)
                for method in ("pca", "pca-centered"):
                    found = METHODS[method](differences, np.zeros_like(differences))
                    # scikit-learn's rule since 1.5
                    np.testing.assert_allclose(found, np.array(row) / np.sqrt(5), atol=1e-7)


@pytest.mark.parametrize(("n_pairs", "n_embd"), [(30, 100), (100, 30)])
def test_principal_axes_equal_scikit_learns(n_pairs: int, n_embd: int) -> None:
    positive, negative, _ = planted(spread=0.7, noise=0.3, n_pairs=n_pairs, n_embd=n_embd)
    differences = positive.astype(np.float64) - negative
    uncentred = PCA(1, svd_solver="full").fit(np.concatenate([differences, -differences])).components_[0]  # mean 0
    centred = PCA(1, svd_solver="full").fit(differences).components_[0]
    for method, reference in (("pca", uncentred), ("pca-centered", centred)):
        found = METHODS[method](positive, negative)
        np.testing.assert_allclose(found * np.sign(found @ reference), reference, atol=1e-6)  # float32 result


@pytest.mark.parametrize("method", METHODS)
def test_order_of_the_pairs_does_not_matter(method: str) -> None:
    positive, negative, _ = planted(spread=0.5)
    order = np.random.default_rng(1).permutation(N_PAIRS)
    again = METHODS[method](positive[order], negative[order])
    np.testing.assert_allclose(again, METHODS[method](positive, negative), atol=1e-6)  # sums in another order


@pytest.mark.parametrize("method", METHODS)
def test_scale_of_the_activations_does_not_matter(method: str) -> None:
    positive, negative, _ = planted(spread=0.5)
    for factor in (2.0**-60, 2.0**60):  # powers of two: exact in float32
        again = METHODS[method](positive * np.float32(factor), negative * np.float32(factor))
        np.testing.assert_allclose(again, METHODS[method](positive, negative), atol=1e-6)


def test_views_of_a_larger_array() -> None:
    positive, negative, _ = planted(spread=0.5)
    values = np.empty((N_PAIRS, 2, 3, N_EMBD), dtype=np.float32)
    values[:, 0, 1], values[:, 1, 1] = positive, negative
    for method in METHODS.values():
        np.testing.assert_array_equal(method(values[:, 0, 1], values[:, 1, 1]), method(positive, negative))


def test_one_pair() -> None:
    positive, negative, _ = planted(n_pairs=1)
    np.testing.assert_allclose(METHODS["pca"](positive, negative), METHODS["mean"](positive, negative), atol=1e-7)
    with pytest.raises(DegenerateError, match="use the method mean or pca"):
        METHODS["pca-centered"](positive, negative)


@pytest.mark.parametrize("method", METHODS)
def test_identical_activations(method: str) -> None:
    positive, _, _ = planted()
    with pytest.raises(DegenerateError, match="identical activations; check the pair file"):
        METHODS[method](positive, positive)
    with pytest.raises(DegenerateError, match="identical activations"):  # but for one rounding of each value
        METHODS[method](np.nextafter(positive, np.float32(np.inf)), positive)


def test_equal_differences_leave_centred_pca_nothing() -> None:
    negative = planted()[0]
    differences = np.full((N_PAIRS, N_EMBD), 0.1, dtype=np.float32)
    with pytest.raises(DegenerateError, match="centring leaves nothing"):
        METHODS["pca-centered"](differences, np.zeros_like(differences))
    with pytest.raises(DegenerateError, match="centring leaves nothing"):  # equal but for the rounding of activations
        METHODS["pca-centered"](negative + np.float32(2e-6), negative - np.float32(2e-6))


def test_differences_that_cancel_have_no_mean() -> None:
    differences = np.array([[1, 2], [-1, -2]], dtype=np.float32)
    with pytest.raises(DegenerateError, match="cancel out"):
        METHODS["mean"](differences, np.zeros_like(differences))
    differences[0, 0] += np.float32(1e-3)  # no more than the rounding of float32 values of 10,000
    with pytest.raises(DegenerateError, match="cancel out"):
        METHODS["mean"](differences + 10_000, np.full_like(differences, 10_000))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shapes", [((3, 4), (2, 4)), ((0, 4), (0, 4)), ((3, 0), (3, 0)), ((4,), (4,))])
def test_wrong_shapes(method: str, shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    positive, negative = (np.ones(shape, dtype=np.float32) for shape in shapes)
    with pytest.raises(ShapeError, match="expected two equal"):
        METHODS[method](positive, negative)


@pytest.mark.parametrize("method", METHODS)
def test_nan_names_the_pair(method: str) -> None:
    positive, negative, _ = planted()
    negative[5, 7] = np.nan
    with pytest.raises(InputError, match="pair 5"):
        METHODS[method](positive, negative)


def test_explained_share() -> None:
    differences = np.array([[3, 0], [0, 4]], dtype=np.float32)
    zero = np.zeros_like(differences)
    assert explained_share(differences, zero, np.array([1, 0], dtype=np.float32)) == pytest.approx(9 / 25)
    positive, negative, direction = planted(noise=0.0)
    assert explained_share(positive, negative, direction) == pytest.approx(
        1, abs=1e-3
    )  # activations round by 1e-6 of 20
