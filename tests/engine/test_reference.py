"""The NumPy twins have the identities that define them, and agree with forms that are computed another way."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import linalg, special, stats

from steercpp.choices import OPERATORS, Operator, Side
from steercpp.engine.reference import apply, entropy, gate_open, kl, log_softmax, projection, sequence_logprob, top_k
from steercpp.engine.steering import Gate
from steercpp.errors import InputError, ShapeError

N, N_EMBD = 40, 24


@pytest.fixture
def x(rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal((N, N_EMBD)).astype(np.float32)


@pytest.fixture
def t(rng: np.random.Generator) -> np.ndarray:
    """Not of unit length, so that lengths of t and lengths of the stream are told apart."""
    return (3 * rng.standard_normal(N_EMBD)).astype(np.float32)


def close(found: Any, expected: Any) -> None:
    """Float64 throughout: sums of some 50 products round by 1e-14 of the largest term, which is below 100."""
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


def across(x: np.ndarray, t: np.ndarray) -> np.ndarray:
    """What of each row is orthogonal to t, by a basis of that space."""
    basis: np.ndarray = linalg.null_space(t.astype(np.float64)[None])
    found: np.ndarray = x.astype(np.float64) @ basis @ basis.T
    return found


def norms(x: np.ndarray) -> np.ndarray:
    found: np.ndarray = np.linalg.norm(x.astype(np.float64), axis=1)
    return found


def test_add_rounds_its_product_to_float32_before_the_sum(x: np.ndarray, t: np.ndarray) -> None:
    expected = x.astype(np.float64) + (np.float32(0.1) * t)  # 0.1 is no float32 number
    np.testing.assert_array_equal(apply("add", x, t, 0.1), expected)
    assert (expected != x.astype(np.float64) + 0.1 * t.astype(np.float64)).any()


def test_add_moves_the_projection_by_the_strength_in_lengths_of_t(x: np.ndarray, t: np.ndarray) -> None:
    # 1e-6: the product is rounded to float32
    np.testing.assert_allclose(projection(apply("add", x, t, 0.5), t), projection(x, t) + 0.5, rtol=0, atol=1e-6)


@pytest.mark.parametrize("s", [-2.0, -0.25, 0.5, 8.0])
def test_add_keep_norm_points_as_add_does_and_keeps_the_norm(x: np.ndarray, t: np.ndarray, s: float) -> None:
    kept, added = apply("add-keep-norm", x, t, s), apply("add", x, t, s)
    close(norms(kept), norms(x))
    cosines = (kept * added).sum(1) / (norms(kept) * norms(added))
    close(cosines, 1)  # these strengths are powers of 2: no rounding in the product


@pytest.mark.parametrize("s", [-1.5, 0.0, 0.25])
def test_clamp_sets_the_projection_and_nothing_else(x: np.ndarray, t: np.ndarray, s: float) -> None:
    clamped = apply("clamp", x, t, s)
    close(projection(clamped, t), s)
    close(across(clamped, t), across(x, t))
    close(apply("clamp", clamped, t, s), clamped)


@pytest.mark.parametrize("s", [-0.05, 0.0, 0.05])
def test_cap_never_raises_a_projection_and_leaves_rows_below(x: np.ndarray, t: np.ndarray, s: float) -> None:
    before, capped = projection(x, t), apply("cap", x, t, s)
    low = before <= np.float32(s)
    assert 0 < low.sum() < N
    np.testing.assert_array_equal(capped[low], x[low])
    close(projection(capped, t), np.minimum(before, np.float32(s)))
    close(across(capped, t), across(x, t))
    close(apply("cap", capped, t, s), capped)
    close(capped[~low], apply("clamp", x, t, s)[~low])


def test_cap_of_the_negated_vector_limits_from_below(x: np.ndarray, t: np.ndarray) -> None:
    found = projection(apply("cap", x, -t, 0.0625), t)
    close(found, np.maximum(projection(x, t), -0.0625))


@pytest.mark.parametrize("s", [-1.0, 0.5, 1.0, 2.0])
def test_ablate_takes_its_share_of_the_projection(x: np.ndarray, t: np.ndarray, s: float) -> None:
    ablated = apply("ablate", x, t, s)
    close(projection(ablated, t), (1 - s) * projection(x, t))
    close(across(ablated, t), across(x, t))


def test_ablating_all_is_clamping_to_0_and_done_once(x: np.ndarray, t: np.ndarray) -> None:
    ablated = apply("ablate", x, t, 1.0)
    close(projection(ablated, t), 0)
    close(ablated, apply("clamp", x, t, 0.0))
    close(apply("ablate", ablated, t, 1.0), ablated)


@pytest.mark.parametrize("s", [-0.5, 0.25, 1.0, 3.0])
def test_rotate_is_a_rotation_of_the_plane_of_x_and_t(x: np.ndarray, t: np.ndarray, s: float) -> None:
    """Against the matrix exponential of the plane's generator, which knows no formula of ours."""
    rotated = apply("rotate", x, t, s)
    close(norms(rotated), norms(x))
    for row, found in zip(x.astype(np.float64), rotated, strict=True):
        basis, triangle = np.linalg.qr(np.stack([row, t], axis=1))
        first, second = (basis * np.sign(np.diag(triangle))).T  # along x, and from there towards t
        turn = linalg.expm(s * (np.outer(second, first) - np.outer(first, second)))
        close(found, turn @ row)


def test_rotating_by_the_angle_to_t_ends_on_t(rng: np.random.Generator) -> None:
    t = np.array([2.0, 0.0, 0.0], np.float32)
    x = np.array([[0.0, 5.0, 0.0], [0.0, 0.0, -1.0]], np.float32)
    # 1e-7: the right angle is rounded to float32
    np.testing.assert_allclose(apply("rotate", x, t, math.pi / 2), [[5, 0, 0], [1, 0, 0]], rtol=0, atol=5e-7)


def test_rotate_leaves_rows_without_a_plane(t: np.ndarray) -> None:
    x = np.stack([np.zeros_like(t), t, -3 * t, np.float32(0.1) * t])  # the last is parallel up to float32's rounding
    np.testing.assert_array_equal(apply("rotate", x, t, 1.0), x)


@pytest.mark.parametrize("operator", [name for name in OPERATORS if name != "cap"])
@pytest.mark.parametrize(("side", "sign"), [("positive", 1), ("negative", -1)])
def test_a_side_is_chosen_by_the_projection_before(
    x: np.ndarray, t: np.ndarray, operator: Operator, side: Side, sign: int
) -> None:
    mine = projection(x, t) * sign > 0
    assert 0 < mine.sum() < N
    found = apply(operator, x, t, 0.5, side)
    np.testing.assert_array_equal(found[~mine], x[~mine])
    np.testing.assert_array_equal(found[mine], apply(operator, x, t, 0.5)[mine])
    assert (found[mine] != x[mine]).any(axis=1).all()


@pytest.mark.parametrize("side", ["positive", "negative"])
def test_a_row_orthogonal_to_t_is_on_neither_side(side: Side) -> None:
    x, t = np.array([[0.0, 1.0]], np.float32), np.array([1.0, 0.0], np.float32)
    np.testing.assert_array_equal(apply("add", x, t, 1.0, side), x)


@pytest.mark.parametrize("operator", ["add", "add-keep-norm", "ablate", "rotate"])
def test_strength_0_changes_nothing(x: np.ndarray, t: np.ndarray, operator: Operator) -> None:
    close(apply(operator, x, t, 0.0), x)


@pytest.mark.parametrize("operator", OPERATORS)
def test_rows_are_apart_and_the_input_is_left(x: np.ndarray, t: np.ndarray, operator: Operator) -> None:
    copy = x.copy()
    whole = apply(operator, x, t, 0.75)
    np.testing.assert_array_equal(x, copy)
    for row in range(N):
        close(apply(operator, x[row : row + 1], t, 0.75)[0], whole[row])


@pytest.mark.parametrize("operator", OPERATORS)
def test_a_tensor_of_zeros_and_a_row_of_zeros_give_numbers(x: np.ndarray, t: np.ndarray, operator: Operator) -> None:
    np.testing.assert_array_equal(apply(operator, x, np.zeros_like(t), 1.0), x)
    assert np.isfinite(apply(operator, np.zeros_like(x), t, 1.0)).all()


def test_add_keep_norm_leaves_a_row_that_the_step_would_make_0(t: np.ndarray) -> None:
    np.testing.assert_array_equal(apply("add-keep-norm", t[None], t, -1.0), t[None])


def test_what_cannot_be_applied_is_refused(x: np.ndarray, t: np.ndarray) -> None:
    with pytest.raises(InputError, match="'multiply' on side 'both' is unknown"):
        apply("multiply", x, t, 1.0)  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match=r"got \(24,\) and \(24,\)"):
        apply("add", x[0], t, 1.0)
    with pytest.raises(ShapeError, match="expected logits"):
        sequence_logprob(x, [1])


@pytest.mark.parametrize("above", [True, False])
def test_a_gate_measures_lengths_of_the_stream_not_of_its_direction(x: np.ndarray, above: bool) -> None:
    direction = np.zeros(N_EMBD, np.float32)
    direction[3] = -7.0
    expected = -x[:, 3] > 0.5 if above else -x[:, 3] < 0.5
    assert 0 < expected.sum() < N
    gate = Gate(direction, 0, 0.5, above)
    np.testing.assert_array_equal(gate_open(gate, x), expected)
    np.testing.assert_array_equal(gate.is_open(x), expected)


def test_measures_equal_scipys(rng: np.random.Generator) -> None:
    p, q = (4 * rng.standard_normal((N, 50)).astype(np.float32) for _ in range(2))
    close(log_softmax(p), special.log_softmax(p.astype(np.float64), axis=1))
    shares, others = (special.softmax(logits.astype(np.float64), axis=1) for logits in (p, q))
    close(entropy(p), stats.entropy(shares, axis=1))
    close(kl(p, q), stats.entropy(shares, others, axis=1))
    close(kl(p, p), 0)
    tokens = rng.integers(0, 50, N).tolist()
    expected = math.log(np.prod([row[token] for row, token in zip(shares, tokens, strict=True)]))
    assert sequence_logprob(p, tokens) == pytest.approx(expected, rel=1e-12)


def test_impossible_tokens_have_no_share() -> None:
    p, q = np.array([[0.0, 0.0, -np.inf]]), np.array([[0.0, 0.0, 0.0]])
    close(entropy(p), math.log(2))
    close(kl(p, q), math.log(3 / 2))
    close(kl(p, p), 0)
    assert kl(q, p) == [np.inf]


def test_of_equal_logits_the_lower_token_comes_first() -> None:
    tokens, logprobs = top_k(np.array([[1.0, 3.0, 2.0, 3.0], [0.0, 0.0, 0.0, 0.0]]), 3)
    assert tokens.tolist() == [[1, 3, 2], [0, 1, 2]]
    assert logprobs[1] == pytest.approx([-math.log(4)] * 3)
