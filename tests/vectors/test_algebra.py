"""Arithmetic of vectors: identities, planted angles, and nothing made of rounding."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steercpp.errors import DegenerateError, InputError, LayerError, ShapeError, StrengthError
from steercpp.vectors.algebra import NOISE, combined, cosines, orthogonalised, overall_cosines, renormalized
from steercpp.vectors.control_vector import ControlVector, MetaValue, at_measured_layers, baked, manner

N_EMBD = 64


def made(seed: int, layers: tuple[int, ...] = (1, 2), hint: str = "llama", **metadata: MetaValue) -> ControlVector:
    rng = np.random.default_rng(seed)
    rows = {il: rng.standard_normal(N_EMBD).astype(np.float32) for il in layers}
    return ControlVector(rows, hint, max(layers) + 1, metadata)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a.astype(np.float64), b.astype(np.float64)
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


# --- sums --------------------------------------------------------------------------------------------------------


def test_a_sum_is_over_the_union_of_layers_and_rounded_once() -> None:
    a, b = made(0, (1, 2)), made(1, (2, 5))
    total = combined([(a, 0.3), (b, -1.7)])
    assert (total.layers, total.n_layer, total.model_hint) == ((1, 2, 5), 6, "llama")
    expected = 0.3 * a.directions[2].astype(np.float64) - 1.7 * b.directions[2].astype(np.float64)
    np.testing.assert_array_equal(total.directions[2], expected.astype(np.float32))
    np.testing.assert_array_equal(total.directions[5], (-1.7 * b.directions[5].astype(np.float64)).astype(np.float32))
    assert total.metadata["method"] == "combined" and total.metadata["combined.weights"] == (0.3, -1.7)


def test_one_vector_once_is_itself() -> None:
    a = made(0, method="pca")
    for il, row in combined([(a, 1.0)]).directions.items():
        np.testing.assert_array_equal(row, a.directions[il])
    assert combined([(a, 1.0)]).metadata["combined.methods"] == ("pca",)


def test_what_cancels_is_left_out_and_not_made_of_rounding() -> None:
    a = made(0, (1, 2))
    third = a.scaled(1 / 3)  # rounded, so that 3 of it are a only to 6e-8
    b = ControlVector({1: third.directions[1], 2: made(1, (2,)).directions[2]}, "llama", 3)
    assert combined([(a, 1.0), (b, -3.0)]).layers == (2,)
    with pytest.raises(DegenerateError, match="the weighted sum is zero at every layer"):
        combined([(a, 1.0), (third, -3.0)])
    with pytest.raises(DegenerateError, match="zero at every layer"):
        combined([(a, 0.0)])


def test_a_small_difference_that_is_no_rounding_stays() -> None:
    a = made(0)
    total = combined([(a, 1.0), (made(1), 100 * NOISE), (a, -1.0)])
    assert cosine(total.directions[1], made(1).directions[1]) > 0.999  # 1e-4 of a, of which float64 lost 1e-16


@pytest.mark.parametrize(
    ("other", "kind", "expected"),
    [
        (made(1, hint="qwen2"), InputError, "b is for a model of architecture 'qwen2', a for 'llama'.*`model_hint`"),
        (ControlVector({1: np.ones(8, np.float32)}, "llama", 3), ShapeError, "b has 8 values per layer, a has 64"),
        (
            ControlVector({1: np.ones(N_EMBD, np.float32)}, "llama", 2),
            None,
            "",
        ),  # it only knows of its highest layer, as another tool's file
        (
            ControlVector({30: np.ones(N_EMBD, np.float32)}, "llama", 32),
            LayerError,
            "a is for a model of 8 layers, b for one of at least 32",
        ),
        (made(1, operator="ablate"), InputError, "b is meant for operator ablate: only vectors that are added"),
        (made(1, side="positive"), InputError, "b is meant for side positive: only vectors that are added"),
        (made(1, gate="2:0.5:ab"), InputError, "b is meant for gate 2:0.5:ab"),
        (
            made(1, positions="generated"),
            InputError,
            "b is meant for positions generated, a for adding everywhere: only vectors that are added at the same",
        ),
        (made(1, layer_convention="cvector-generator"), InputError, "`layer_convention=cvector-generator`"),
    ],
)
def test_vectors_that_cannot_be_summed(other: ControlVector, kind: type[InputError] | None, expected: str) -> None:
    first = ControlVector(made(0).directions, "llama", 8)
    if kind is None:
        assert combined([(first, 1.0), (other, 1.0)]).n_layer == 8
        return
    with pytest.raises(kind, match=expected):
        combined([(first, 1.0), (other, 1.0)], names=["a", "b"])


def test_weights_that_are_none_and_no_vectors() -> None:
    for weight in (np.nan, np.inf):
        with pytest.raises(StrengthError, match="vector 2: weight (nan|inf) is not finite"):
            combined([(made(0), 1.0), (made(1), weight)])
    with pytest.raises(InputError, match="no vectors; give at least one"):
        combined([])
    with pytest.raises(InputError, match="is not finite"):
        combined([(made(0).scaled(1e30), 1e30)])


def test_vectors_added_at_the_same_tokens_give_one_that_is_too() -> None:
    total = combined([(made(0, positions="generated"), 1.0), (made(1, positions="generated", side="both"), 2.0)])
    assert total.metadata["positions"] == "generated" and not total.is_added_everywhere
    alone = made(0, operator="ablate", gate="1:0.5:ab")
    assert {**combined([(alone, 1.0)]).metadata, **alone.metadata} == dict(combined([(alone, 1.0)]).metadata)
    with pytest.raises(InputError, match="only vectors that are added"):
        combined([(alone, 2.0)])


def test_what_all_terms_have_in_common_is_kept() -> None:
    a, b = made(0, model_sha256="x", token="last"), made(1, model_sha256="x", token="mean")
    assert combined([(a, 1.0), (b, 1.0)]).metadata.keys() & {"model_sha256", "token"} == {"model_sha256"}


# --- projections and lengths -------------------------------------------------------------------------------------


@given(seed=st.integers(0, 2**32 - 1), n_others=st.integers(1, 4), angle=st.floats(1e-3, 1.5))
@settings(derandomize=True, deadline=None, max_examples=60)
def test_orthogonal_to_all_of_them_at_once(seed: int, n_others: int, angle: float) -> None:
    """The others may lie as close to each other as `angle`: one after the other would not do."""
    base = made(seed, (1,)).directions[1].astype(np.float64)
    others = []
    for i in range(n_others):
        row = np.cos(angle) * base + np.sin(angle) * made(seed + 1 + i, (1,)).directions[1]
        others.append(ControlVector({1: (7.0**i * row).astype(np.float32)}, "llama", 2))
    vector = made(seed + 99, (1,))
    left = orthogonalised(vector, *others).directions[1]
    for other in others:
        assert abs(cosine(left, other.directions[1])) < 3e-7  # what rounding to float32 leaves: 6e-8 of the length
    span = np.stack([other.directions[1].astype(np.float64) / np.linalg.norm(other.directions[1]) for other in others])
    taken = vector.directions[1].astype(np.float64) - left
    coefficients, *_ = np.linalg.lstsq(span.T, taken, rcond=None)
    # Only what lies in their span is taken away, but for the rounding to float32 of what is left.
    assert np.linalg.norm(span.T @ coefficients - taken) < 1e-7 * np.linalg.norm(vector.directions[1])


def test_layers_that_the_other_lacks_stay_bit_for_bit() -> None:
    a, b = made(0, (1, 2, 3)), made(1, (2,))
    left = orthogonalised(a, b)
    np.testing.assert_array_equal(left.directions[1], a.directions[1])
    assert abs(cosine(left.directions[2], b.directions[2])) < 3e-7 < abs(cosine(a.directions[2], b.directions[2]))


def test_nothing_is_left_of_what_lies_in_the_span() -> None:
    a = made(0, (1, 2))
    twin = ControlVector({1: (a.directions[1] * np.float32(1 / 3))}, "llama", 3)
    assert orthogonalised(a, twin).layers == (2,)  # not the rounding of layer 1, blown up
    with pytest.raises(DegenerateError, match="nothing is left at any layer"):
        orthogonalised(a, a.scaled(-0.7))
    with pytest.raises(LayerError, match=r"the vector has layers 1, 2, the other 3, 4; use vectors with a layer"):
        orthogonalised(a, made(1, (3, 4)))
    zero = ControlVector({1: np.zeros(N_EMBD, np.float32)}, "llama", 3)
    with pytest.raises(LayerError, match="nothing to be orthogonal to"):
        orthogonalised(a, zero)
    with pytest.raises(InputError, match="c is for a model of architecture 'qwen2', the sum for 'llama'"):
        orthogonalised(a, made(1, hint="qwen2"), names=["the sum", "c"])


def test_lengths() -> None:
    a = made(0)
    unit = renormalized(a)
    for il in a.layers:
        assert unit.norms[il] == pytest.approx(1, abs=1e-6)  # float32 elements
        assert cosine(unit.directions[il], a.directions[il]) == pytest.approx(1, abs=1e-12)
    assert renormalized(a, {1: 0.5, 2: 8.0, 7: 1.0}).norms == pytest.approx({1: 0.5, 2: 8.0}, rel=1e-6)
    with pytest.raises(LayerError, match="layer 2 has no length; lengths are given for layers 1"):
        renormalized(a, {1: 1.0})
    for length in (0.0, -1.0, np.nan):
        with pytest.raises(StrengthError, match="is not a finite number above 0"):
            renormalized(a, {1: length, 2: 1.0})
    with pytest.raises(DegenerateError, match="layer 1 is zero and has no direction"):
        renormalized(ControlVector({1: np.zeros(4, np.float32)}, "llama", 2))


# --- a strength baked in, layers moved ---------------------------------------------------------------------------


def test_strength_1_of_the_baked_vector_is_the_strength_baked_in() -> None:
    a = made(0, recommended_strength=3.0, max_loss=0.05, explained=(0.5, 0.25))
    strong = baked(baked(a, -1.5), 2.0)
    for il, row in a.directions.items():
        np.testing.assert_array_equal(strong.directions[il], row * np.float32(-1.5) * np.float32(2.0))
    assert strong.metadata == {
        "baked_strength": -3.0, "recommended_strength": -1.0, "max_loss": 0.05, "explained": (0.5, 0.25),
    }  # fmt: skip


OF_STRENGTHS: dict[str, MetaValue] = {
    "recommended_strength": 3.0, "max_loss": 0.05, "baked_strength": 2.0, "calibration.kl": 0.1,
    "calibration.strength": 6.0, "calibration.strength_norm": (0.1, 0.2),
}  # fmt: skip


def test_what_is_known_of_strengths_does_not_outlive_the_tensors_it_was_found_with() -> None:
    """A calibration used to survive a move of the layers, a projection and a change of lengths."""
    quality: dict[str, MetaValue] = {"explained": (0.5, 0.25), "auc": (1.0, 0.75), "accuracy": (0.75, 0.5)}
    a = made(0, method="mean").with_metadata(**quality, **OF_STRENGTHS)
    assert at_measured_layers(a).metadata == {
        "method": "mean", "layer_convention": "applied", "token": "mean", **quality,
    }  # fmt: skip
    assert orthogonalised(a, made(1)).metadata == {"method": "mean"}
    assert renormalized(a).metadata == {"method": "mean", **quality}
    assert a.scaled({1: 2.0, 2: -3.0}).metadata == {
        "method": "mean", "explained": (0.5, 0.25), "auc": (1.0, 0.25), "accuracy": (0.75, 0.5),
    }  # fmt: skip


def test_a_negative_strength_turns_what_has_a_sign() -> None:
    turned = baked(made(0, auc=(1.0, 0.75)).with_metadata(**OF_STRENGTHS), -2.0).metadata
    assert turned["auc"] == (0.0, 0.25) and turned["baked_strength"] == -4.0
    assert turned["calibration.strength"] == -3.0  # the same push as before, of a vector that points the other way
    assert turned["calibration.strength_norm"] == (-0.1, -0.2) and turned["recommended_strength"] == -1.5


@pytest.mark.parametrize("strength", [0.0, np.nan, -np.inf])
def test_strengths_that_cannot_be_baked_in(strength: float) -> None:
    with pytest.raises(StrengthError, match="cannot be baked in; give a finite number other than 0"):
        baked(made(0), strength)


@pytest.mark.parametrize(
    "how", [{"operator": "clamp"}, {"positions": "last"}, {"side": "negative"}, {"gate": "1:0.5:ab"}]
)
def test_nothing_is_baked_into_what_is_not_simply_added(how: dict[str, MetaValue]) -> None:
    words = " ".join(f"{key} {value}" for key, value in how.items())
    with pytest.raises(InputError, match=f"no strength can be baked into a vector that is meant for {words}: a reader"):
        baked(made(0).with_metadata(**how), 1.5)
    assert manner(made(0, operator="add", positions="all", side="both", gate="")) == "adding everywhere"


def test_directions_moved_to_where_they_were_measured() -> None:
    a = made(0, (1, 4), explained=(0.5, 0.25))
    moved = at_measured_layers(a)
    assert (moved.layers, moved.n_layer) == ((0, 3), 5)
    np.testing.assert_array_equal(moved.directions[3], a.directions[4])
    with pytest.raises(InputError, match="already"):
        at_measured_layers(moved)


# --- cosines -----------------------------------------------------------------------------------------------------


def test_planted_angles_and_layers_that_one_lacks() -> None:
    x, y = np.eye(2, dtype=np.float32)
    a = ControlVector({1: 5 * x, 2: x}, "llama", 6)
    b = ControlVector({1: 3 * x + 4 * y, 3: y}, "gemma", 4)
    c = ControlVector({1: -x, 2: 0 * x}, "", 3)
    found = cosines([a, b, c])
    assert found.shape == (3, 3, 6)
    np.testing.assert_allclose(found[:, :, 1], [[1, 0.6, -1], [0.6, 1, -0.6], [-1, -0.6, 1]], atol=1e-7)  # float32 rows
    assert np.isnan(found[:, :, 0]).all() and found[0, 0, 2] == 1 and np.isnan(found[0, 2, 2])
    assert np.isnan(found[0, 1, 2]) and np.isnan(found[0, 1, 3]) and found[1, 1, 3] == 1


def test_over_all_layers_is_the_cosine_of_all_tensors_in_a_row() -> None:
    a, b, c = made(0, (1, 2, 3)), made(1, (2, 3, 4)), made(2, (9,))
    found = overall_cosines([a, b, c])
    rows = [np.concatenate([one.directions[il] for il in (2, 3)]) for one in (a, b)]
    assert found[0, 1] == found[1, 0] == pytest.approx(cosine(*rows), abs=1e-12)
    assert found[2, 2] == 1 and np.isnan(found[0, 2])
    units = [renormalized(one) for one in (a, b)]
    per_layer = cosines(units)[0, 1, [2, 3]]
    assert overall_cosines(units)[0, 1] == pytest.approx(per_layer.mean(), abs=1e-7)  # lengths are 1 to 1e-7
    with pytest.raises(ShapeError, match="b has 2 values per layer, a has 64"):
        cosines([a, ControlVector({1: np.ones(2, np.float32)}, "llama", 2)], names=["a", "b"])
    with pytest.raises(InputError, match="no vectors"):
        overall_cosines([])
