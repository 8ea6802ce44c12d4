"""Extraction methods against planted directions, plain NumPy, scikit-learn, and against what they must not do."""

from __future__ import annotations

import numpy as np
import pytest
from planted_pairs import N_EMBD, N_PAIRS, OF_PAIRS, planted
from scipy.optimize import brentq
from sklearn.decomposition import PCA

from steercpp.aliases import FloatArray, Floats
from steercpp.errors import DegenerateError, InputError, ShapeError
from steercpp.extraction import pair_rows
from steercpp.extraction.methods import METHODS, PENALTY, SHRINKAGE, logistic_direction
from steercpp.extraction.pair_rows import checked

NO_MEAN = ("mean", "logistic", "lda")  # that need the means of both sides to differ


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


@pytest.mark.parametrize("method", ["mean", "pca", "pca-pairs"])
@pytest.mark.parametrize("spread", [0.0, 0.3, 1.0])
def test_planted_direction_is_recovered_with_its_sign(method: str, spread: float) -> None:
    positive, negative, direction = planted(spread=spread)
    assert METHODS[method](positive, negative) @ direction > 0.99


@pytest.mark.parametrize("method", ["logistic", "lda"])
def test_probes_recover_it_where_there_are_pairs_enough(method: str) -> None:
    positive, negative, direction = planted(spread=0.3, n_pairs=2000)
    assert METHODS[method](positive, negative) @ direction > 0.95


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
                for method in ("pca", "pca-centered", "pca-pairs"):
                    found = METHODS[method](differences, np.zeros_like(differences))
                    # scikit-learn's rule since 1.5
                    np.testing.assert_allclose(found, np.array(row) / np.sqrt(5), atol=1e-7)


@pytest.mark.parametrize(("n_pairs", "n_embd"), [(30, 100), (100, 30)])
def test_principal_axes_equal_scikit_learns(n_pairs: int, n_embd: int) -> None:
    positive, negative, _ = planted(spread=0.7, noise=0.3, n_pairs=n_pairs, n_embd=n_embd)
    differences = positive.astype(np.float64) - negative
    uncentred = PCA(1, svd_solver="full").fit(np.concatenate([differences, -differences])).components_[0]  # mean 0
    centred = PCA(1, svd_solver="full").fit(differences).components_[0]
    for method, reference in (("pca", uncentred), ("pca-centered", centred), ("pca-pairs", uncentred)):
        found = METHODS[method](positive, negative)
        np.testing.assert_allclose(found * np.sign(found @ reference), reference, atol=1e-6)  # float32 result


@pytest.mark.parametrize("method", OF_PAIRS)
def test_order_of_the_pairs_does_not_matter(method: str) -> None:
    positive, negative, _ = planted(spread=0.5)
    order = np.random.default_rng(1).permutation(N_PAIRS)
    again = METHODS[method](positive[order], negative[order])
    np.testing.assert_allclose(again, METHODS[method](positive, negative), atol=1e-6)  # sums in another order


@pytest.mark.parametrize("method", OF_PAIRS)
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
    for method in ("pca", "pca-pairs", "logistic", "lda"):
        np.testing.assert_allclose(METHODS[method](positive, negative), METHODS["mean"](positive, negative), atol=1e-7)
    with pytest.raises(DegenerateError, match="use the method mean or pca"):
        METHODS["pca-centered"](positive, negative)


@pytest.mark.parametrize("method", METHODS)
def test_identical_activations(method: str) -> None:
    positive, _, _ = planted()
    with pytest.raises(DegenerateError, match="identical activations; take another token or layer"):
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


@pytest.mark.parametrize("method", NO_MEAN)
def test_differences_that_cancel_have_no_mean(method: str) -> None:
    differences = np.array([[1, 2], [-1, -2]], dtype=np.float32)
    with pytest.raises(DegenerateError, match="check the pairs' sides"):
        METHODS[method](differences, np.zeros_like(differences))
    differences[0, 0] += np.float32(1e-3)  # no more than the rounding of float32 values of 10,000
    with pytest.raises(DegenerateError, match="check the pairs' sides"):
        METHODS[method](differences + 10_000, np.full_like(differences, 10_000))


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


# ---------------------------------------------------------------- against plain NumPy, in n_embd dimensions


def of_all(positive: FloatArray, negative: FloatArray, method: str) -> Floats:
    """What a method is documented to compute, written down without regard to cost."""
    p, n = positive.astype(np.float64), negative.astype(np.float64)
    d = p - n
    if method == "mean":
        found = d.mean(axis=0)
    elif method == "lda":
        s = ((p - p.mean(0)).T @ (p - p.mean(0)) + (n - n.mean(0)).T @ (n - n.mean(0))) / (2 * len(p) - 2)
        rho = SHRINKAGE * np.trace(s) / (2 * len(p) - 2)
        found = np.linalg.solve(s + rho * np.eye(len(s)), d.mean(axis=0))
    else:
        middle = (p + n) / 2
        rows = {"pca": d, "pca-centered": d - d.mean(0), "pca-pairs": np.concatenate([p - middle, n - middle])}[method]
        found = np.linalg.svd(rows)[2][0]
        turns = d.mean(axis=0) @ found < 0 if method == "pca" else (d @ found > 0).sum() < (d @ found < 0).sum()
        found = -found if turns else found
    unit: Floats = found / np.linalg.norm(found)
    return unit


@pytest.mark.parametrize("method", [name for name in OF_PAIRS if name != "logistic"])
@pytest.mark.parametrize(("n_pairs", "n_embd"), [(12, 96), (40, 64), (150, 24), (2, 5)])
def test_closed_forms(method: str, n_pairs: int, n_embd: int) -> None:
    positive, negative, _ = planted(spread=0.7, noise=0.3, n_pairs=n_pairs, n_embd=n_embd)
    # float64 on both sides; the result is rounded to float32
    np.testing.assert_allclose(METHODS[method](positive, negative), of_all(positive, negative, method), atol=1e-6)


@pytest.mark.parametrize(("n_pairs", "n_embd"), [(1, 6), (12, 96), (40, 64), (150, 24)])
def test_the_logistic_objective_is_minimised(n_pairs: int, n_embd: int) -> None:
    positive, negative, _ = planted(spread=0.7, noise=0.3, n_pairs=n_pairs, n_embd=n_embd)
    x = np.concatenate([positive, negative]).astype(np.float64)
    y = np.repeat([1.0, -1.0], n_pairs)
    z = (x - x.mean(axis=0)) / np.sqrt(np.square(x - x.mean(axis=0)).sum(axis=1).mean())
    w = logistic_direction(checked(positive, negative))
    b = brentq(lambda b: (-y / (1 + np.exp(y * (z @ w + b)))).sum(), -20, 20, xtol=1e-14)

    def objective(w: Floats, b: float) -> float:
        return float(np.log1p(np.exp(-y * (z @ w + b))).mean() + PENALTY / 2 * w @ w)

    slopes = -y / (1 + np.exp(y * (z @ w + b))) / len(y)
    gradient = np.append(z.T @ slopes + PENALTY * w, slopes.sum())
    assert np.linalg.norm(gradient) < 1e-6
    # That this is the gradient of what is written down: along random lines, by differences.
    rng = np.random.default_rng(3)
    for _ in range(3):
        step = rng.standard_normal(n_embd + 1)
        at = rng.standard_normal(n_embd + 1)
        slopes = -y / (1 + np.exp(y * (z @ at[:-1] + at[-1]))) / len(y)
        there = np.append(z.T @ slopes + PENALTY * at[:-1], slopes.sum())
        measured = (objective(*split(at + 1e-5 * step)) - objective(*split(at - 1e-5 * step))) / 2e-5
        assert there @ step == pytest.approx(measured, rel=1e-6, abs=1e-8)  # errors of 1e-10 in the square of the step
    np.testing.assert_allclose(METHODS["logistic"](positive, negative), w / np.linalg.norm(w), atol=1e-7)
    assert w @ (positive.mean(axis=0) - negative.mean(axis=0)) > 0


@pytest.mark.parametrize(("n_pairs", "n_embd"), [(1, 6), (12, 96), (40, 64), (150, 24)])
@pytest.mark.parametrize("noise", [0.3, 3.0])
def test_the_logistic_direction_is_newtons(n_pairs: int, n_embd: int, noise: float) -> None:
    """By steps with the whole Hessian, in n_embd dimensions."""
    positive, negative, _ = planted(spread=0.7, noise=noise, n_pairs=n_pairs, n_embd=n_embd)
    x = np.concatenate([positive, negative]).astype(np.float64)
    z = (x - x.mean(axis=0)) / np.sqrt(np.square(x - x.mean(axis=0)).sum(axis=1).mean())
    rows, y = np.column_stack([z, np.ones(len(z))]), np.repeat([1.0, -1.0], n_pairs)
    penalties = np.append(np.full(n_embd, PENALTY), 0.0)
    at = np.zeros(n_embd + 1)
    for _ in range(50):
        p = 1 / (1 + np.exp(y * (rows @ at)))
        gradient = -rows.T @ (y * p) / len(y) + penalties * at
        at -= np.linalg.solve(rows.T * (p * (1 - p) / len(y)) @ rows + np.diag(penalties), gradient)
    assert np.linalg.norm(gradient) < 1e-12
    found = METHODS["logistic"](positive, negative)
    assert found @ at[:-1] / np.linalg.norm(at[:-1]) > 1 - 1e-6
    np.testing.assert_allclose(found, at[:-1] / np.linalg.norm(at[:-1]), atol=1e-6)


def split(at: Floats) -> tuple[Floats, float]:
    return at[:-1], float(at[-1])


@pytest.mark.parametrize("method", OF_PAIRS)
@pytest.mark.parametrize(("n_pairs", "n_embd"), [(12, 96), (40, 64), (150, 24)])
def test_rotation_and_padding_turn_the_direction_alike(method: str, n_pairs: int, n_embd: int) -> None:
    """What the figures of quality rest on. A tie of signs would be settled otherwise; here is none."""
    positive, negative, _ = planted(spread=0.7, noise=0.3, n_pairs=n_pairs, n_embd=n_embd)
    rng = np.random.default_rng(4)
    turn = np.linalg.qr(rng.standard_normal((2 * n_embd, n_embd)))[0]  # into a space twice as wide
    turned = [(side.astype(np.float64) @ turn.T).astype(np.float32) for side in (positive, negative)]
    expected = turn @ METHODS[method](positive, negative)
    # activations of length 300 are rounded to float32 after the turn, against differences of length 2
    np.testing.assert_allclose(METHODS[method](*turned), expected, atol=2e-5)


@pytest.mark.parametrize("method", METHODS)
def test_many_pairs_are_taken_block_by_block(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for n_pairs, n_embd in ((40, 64), (150, 24)):
        positive, negative, _ = planted(spread=0.7, noise=0.3, n_pairs=n_pairs, n_embd=n_embd)
        whole = METHODS[method](positive, negative)
        with monkeypatch.context() as patched:
            patched.setattr(pair_rows, "_BLOCK_ELEMENTS", 7 * n_embd)
            np.testing.assert_allclose(METHODS[method](positive, negative), whole, atol=1e-6)  # sums in another order
            negative[n_pairs - 1, 2] = np.inf
            with pytest.raises(InputError, match=f"pair {n_pairs - 1} "):
                METHODS[method](positive, negative)


def test_random_is_random_but_for_its_sign() -> None:
    positive, negative, _ = planted(n_embd=2048)
    drawn = METHODS["random"](positive, negative)
    mean = METHODS["mean"](positive, negative)
    assert 0 < drawn @ mean < 0.11  # 5 standard deviations of a random cosine, 1 / sqrt(2048)
    negative[0, 0] += 1
    assert abs(METHODS["random"](positive, negative) @ drawn) < 0.11


@pytest.mark.parametrize("method", ["pca-centered", "pca-pairs"])
def test_a_tie_between_the_signs_does_not_depend_on_the_coordinates(method: str) -> None:
    """Where as many pairs point either way, the sign used to be that of the largest component."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        positive, negative = rng.standard_normal((2, 20, 64)).astype(np.float32)
        turn = np.linalg.qr(rng.standard_normal((64, 64)))[0]
        turned = METHODS[method]((positive @ turn).astype(np.float32), (negative @ turn).astype(np.float32))
        # float32 rounding of the turned activations moves an axis by about 1e-6
        assert METHODS[method](positive, negative) @ turn @ turned == pytest.approx(1, abs=1e-3)


def test_most_pairs_decide_the_sign_of_pca_pairs_and_the_mean_that_of_pca() -> None:
    """Three pairs point one way by a little, one the other way by much: only the rule for the sign tells them apart."""
    negative = np.zeros((4, 8), np.float32)
    positive = np.outer([1, 1, 1, -10], np.eye(8)[2]).astype(np.float32)
    np.testing.assert_allclose(METHODS["pca-pairs"](positive, negative), np.eye(8)[2], atol=1e-6)
    np.testing.assert_allclose(METHODS["pca"](positive, negative), -np.eye(8)[2], atol=1e-6)
