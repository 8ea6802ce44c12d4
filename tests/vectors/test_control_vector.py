"""Control vectors as data: what is checked, scaling, bands of layers, random controls."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

from steercpp.errors import InputError, LayerError, ShapeError, StrengthError
from steercpp.vectors.control_vector import ControlVector, random_vector
from steercpp.vectors.layers import default_layers, parse_layers

ROWS = {5: np.array([3.0, 4.0], dtype=np.float32), 2: np.array([0.0, 1.0], dtype=np.float32)}


def vector(**changes: Any) -> ControlVector:
    return ControlVector(**{"directions": ROWS, "model_hint": "llama", "n_layer": 8, **changes})


def test_properties_in_the_order_of_the_layers() -> None:
    made = vector()
    assert (made.layers, made.n_embd, made.norms) == ((2, 5), 2, {2: 1.0, 5: 5.0})


def test_it_keeps_its_own_read_only_copy() -> None:
    row, metadata = np.array([1.0, 0.0], dtype=np.float32), {"method": "mean"}
    made = vector(directions={1: row}, metadata=metadata)
    row[0], metadata["method"] = 9.0, "pca"
    assert made.directions[1][0] == 1.0 and made.metadata["method"] == "mean"
    with pytest.raises(ValueError, match="read-only"):
        made.directions[1][0] = 2.0


def test_pickle() -> None:
    made = vector(metadata={"a": (1, 2)})
    for again in (pickle.loads(pickle.dumps(made)), copy.copy(made), copy.deepcopy(made)):
        np.testing.assert_array_equal(again.directions[5], ROWS[5])
        assert again.metadata == {"a": (1, 2)} and (again.model_hint, again.n_layer) == ("llama", 8)
        assert not any(row.flags.writeable for row in again.directions.values())


@pytest.mark.parametrize(
    ("changes", "error", "expected"),
    [
        ({"directions": {}}, LayerError, "at one layer at least"),
        ({"n_layer": 5}, LayerError, "layer 5 does not exist; the model has layers 0..4"),
        ({"directions": {-1: ROWS[2]}}, LayerError, "layer -1 does not exist"),
        ({"directions": {1: ROWS[2], 2: np.ones(3)}}, ShapeError, "layer 2: 3 elements where layer 1 has 2"),
        ({"directions": {1: np.ones((1, 2))}}, ShapeError, r"expected \(n_embd,\), got \(1, 2\)"),
        ({"directions": {1: np.ones(0)}}, ShapeError, r"got \(0,\)"),
        ({"directions": {1: np.array([1.0, np.nan])}}, InputError, "layer 1: element 1 is not finite"),
        ({"metadata": {"Method": "x"}}, InputError, "metadata key 'Method'"),
        ({"metadata": {"n_layer": 3}}, InputError, "metadata key 'n_layer'"),
        ({"metadata": {"direction.0": 3}}, InputError, "metadata key 'direction.0'"),
        ({"metadata": {"a": ()}}, InputError, "at least one value"),
        ({"metadata": {"a": (1, 2.0)}}, InputError, "all of one type"),
        ({"metadata": {"a": (1, True)}}, InputError, "all of one type"),
        ({"metadata": {"a": None}}, InputError, "NoneType cannot be stored"),
        ({"metadata": {"a": 2**63}}, InputError, "64 bits"),
        ({"metadata": {"a": "\ud83d"}}, InputError, "half of a character"),
    ],
)
def test_what_is_refused(changes: dict[str, Any], error: type[Exception], expected: str) -> None:
    with pytest.raises(error, match=expected):
        vector(**changes)


def test_scaled_is_one_float32_product() -> None:
    length = 0.1  # not a float32: rounded first, as llama.cpp rounds a strength
    same = vector().scaled(length)
    np.testing.assert_array_equal(same.directions[5], ROWS[5] * np.float32(0.1))
    assert same.directions[5].dtype == np.float32
    row = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    made = vector(directions={1: row}).scaled({1: np.float64(length)})
    np.testing.assert_array_equal(made.directions[1], row * np.float32(0.1))
    each = vector().scaled({2: 10.0, 5: 2.0, 6: 1.0})
    assert each.norms == {2: 10.0, 5: 10.0}


def test_scaled_by_bad_lengths() -> None:
    with pytest.raises(LayerError, match="layer 5 has no length; lengths are given for 2, 3"):
        vector().scaled({2: 1.0, 3: 1.0})
    with pytest.raises(StrengthError, match="length nan is not finite"):
        vector().scaled(float("nan"))


def test_restricted_to() -> None:
    made = vector(metadata={"method": "mean"}).restricted_to([5, 5])
    assert (made.layers, made.n_layer, dict(made.metadata)) == ((5,), 8, {"method": "mean"})
    with pytest.raises(LayerError, match="no direction at layer 3; it has 2, 5"):
        vector().restricted_to([2, 3])
    with pytest.raises(LayerError, match="at one layer at least"):
        vector().restricted_to([])


def test_with_metadata_replaces_and_keeps() -> None:
    made = vector(metadata={"a": 1, "b": 2}).with_metadata(b=3, c="x")
    assert made.metadata == {"a": 1, "b": 3, "c": "x"}


@pytest.mark.parametrize(
    ("n_layer", "first", "last"),
    [(40, 8, 15), (32, 10, 14), (22, 7, 10), (8, 2, 4), (6, 2, 3), (5, 2, 2), (4, 1, 2), (3, 1, 1), (2, 1, 1)],
)
def test_default_layers_are_the_papers_bands(n_layer: int, first: int, last: int) -> None:
    assert default_layers(n_layer) == tuple(range(first, last + 1))


def test_default_layers_can_be_steered_in_every_depth() -> None:
    for n_layer in range(2, 513):
        layers = default_layers(n_layer)
        assert layers and layers[0] >= 1 and layers[-1] <= n_layer - 1


def test_no_default_layers_of_one_block() -> None:
    with pytest.raises(LayerError, match="no layer that llama.cpp can steer"):
        default_layers(1)


@pytest.mark.parametrize(
    ("text", "layers"),
    [("8-10,20", (8, 9, 10, 20)), ("3", (3,)), (" 5 , 1 - 2,2", (1, 2, 5)), ("0-1", (0, 1)), ("21", (21,))],
)
def test_parse_layers(text: str, layers: tuple[int, ...]) -> None:
    assert parse_layers(text, 22) == layers


def test_all_layers_are_those_of_llama_cpp() -> None:
    assert parse_layers("all", 4) == (1, 2, 3)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "'' is not a layer"),
        ("1,,2", "'' is not a layer"),
        ("a", "'a' is not a layer"),
        ("-3", "'-3' is not a layer"),
        ("1:3", "'1:3' is not a layer"),
        ("²", "'²' is not a layer"),
        ("5-3", "5-3 runs backwards; write 3-5"),
        ("1-22", "there is no layer 22; the model has layers 0..21"),
        ("9" * 5000, "is not a layer"),
    ],
)
def test_layers_that_cannot_be_parsed(text: str, expected: str) -> None:
    with pytest.raises(LayerError, match=expected):
        parse_layers(text, 22)


def test_random_vector_has_the_same_norms_and_nothing_else_in_common() -> None:
    rng = np.random.default_rng(0)
    wide = {il: rng.standard_normal(4096).astype(np.float32) * il for il in (2, 5)}
    like = vector(directions=wide, metadata={"method": "mean"})
    made = random_vector(like, np.random.default_rng(1))
    assert (made.layers, made.model_hint, made.n_layer) == (like.layers, like.model_hint, like.n_layer)
    assert made.metadata == {"method": "random"}
    for il in made.layers:
        assert made.norms[il] == pytest.approx(like.norms[il], rel=1e-6)  # each element rounds by 6e-8
        cosine = made.directions[il] @ like.directions[il] / like.norms[il] ** 2
        assert abs(cosine) < 5 / 64  # five standard deviations of a random cosine at n_embd 4096
    again = random_vector(like, np.random.default_rng(1))
    np.testing.assert_array_equal(again.directions[5], made.directions[5])
    assert not np.array_equal(random_vector(like, np.random.default_rng(2)).directions[5], made.directions[5])
