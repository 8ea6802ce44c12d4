"""What a steering is, and that every row is given exactly what its own query asks for, in that query's order."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steercpp.choices import OPERATORS
from steercpp.engine.operations import Operation, native_operations, packing_keys, refuse_unequal_sharers, row_key
from steercpp.engine.steering import REGIONS, SIDES, Gate, Steering, adds, check, normalized
from steercpp.errors import InputError, LayerError, ShapeError, StrengthError
from steercpp.vectors.control_vector import ControlVector

N_LAYER, N_EMBD = 6, 4


def vector(*layers: int, n_embd: int = N_EMBD) -> ControlVector:
    return ControlVector({il: np.full(n_embd, il + 1, np.float32) for il in layers}, "llama", N_LAYER)


VECTORS = (vector(0, 5), vector(2), vector(2, 3))
GATE = Gate(np.ones(N_EMBD, np.float32), 1, 0.5)


@st.composite
def steerings(draw: st.DrawFn) -> Steering:
    """Few vectors and strengths, so that many agree in part; 0 and what rounds to 0 among them."""
    operator = draw(st.sampled_from(OPERATORS))
    return Steering(
        draw(st.sampled_from(VECTORS)),
        draw(st.sampled_from([-1.0, 0.0, 1e-60, 0.1, 2.0])),
        operator=operator,
        positions=draw(st.sampled_from(list(REGIONS))),
        side="both" if operator == "cap" else draw(st.sampled_from(list(SIDES))),
    )


@st.composite
def plans(draw: st.DrawFn) -> tuple[tuple[tuple[Steering, ...], ...], np.ndarray, np.ndarray]:
    asked = draw(st.lists(st.lists(steerings(), max_size=4).map(tuple), min_size=1, max_size=5).map(tuple))
    rows = draw(st.lists(st.tuples(st.integers(0, len(asked) - 1), st.integers(0, 2)), max_size=12))
    columns = np.array(rows, np.int32).reshape(-1, 2)
    return asked, np.ascontiguousarray(columns[:, 0]), columns[:, 1].astype(np.int8)


def treatment(operations: list[Operation], row: int, il: int) -> list[tuple[Any, ...]]:
    """What the native session does to a row at a layer, one after the other."""
    return [
        (OPERATORS[op.kind], op.side, id(op.direction), op.strengths[row])
        for op in operations
        if op.il == il and op.active[row]
    ]


@given(plans())
@settings(derandomize=True, deadline=None, max_examples=500)
def test_every_row_gets_what_its_query_asks_for_in_its_order(
    plan: tuple[tuple[tuple[Steering, ...], ...], np.ndarray, np.ndarray],
) -> None:
    asked, owners, regions = plan
    operations = native_operations(asked, owners, regions)
    for row, (owner, region) in enumerate(zip(owners.tolist(), regions.tolist(), strict=True)):
        for il in range(N_LAYER):
            expected = [
                (one.operator, SIDES[one.side], id(one.vector.directions[il]), np.float32(one.strength))
                for one in asked[owner]
                if il in one.vector.directions and region in REGIONS[one.positions] and not one.idle
            ]
            assert treatment(operations, row, il) == expected
    for op in operations:
        assert op.strengths.dtype == np.float32 and op.active.dtype == np.int8 and op.active.any()
        assert op.strengths.shape == op.active.shape == owners.shape
        assert op.strengths.flags.c_contiguous and op.active.flags.c_contiguous and op.direction.flags.c_contiguous
    slots = {
        (slot, id(one.vector), one.operator, one.side, il)
        for many in asked
        for slot, one in enumerate(many)
        for il in one.vector.layers
    }
    assert len(operations) <= len(slots), "what differs in strength and positions alone is one operation"


@given(plans())
@settings(derandomize=True, deadline=None, max_examples=300)
def test_rows_of_one_key_are_treated_alike(
    plan: tuple[tuple[tuple[Steering, ...], ...], np.ndarray, np.ndarray],
) -> None:
    """Packing shares rows by their keys: equal keys must mean equal treatment, and other keys another one."""
    asked = plan[0]
    places = [(owner, region) for owner in range(len(asked)) for region in range(3)]
    owners, regions = np.array(places, np.int32).T
    operations = native_operations(asked, np.ascontiguousarray(owners), regions.astype(np.int8))
    whole = [[treatment(operations, row, il) for il in range(N_LAYER)] for row in range(len(places))]
    keys = [row_key(asked[owner], region) for owner, region in places]
    given_keys = packing_keys(asked)
    for i in range(len(places)):
        for j in range(i):
            if keys[i] == keys[j]:
                assert whole[i] == whole[j]
            if given_keys is None:
                assert keys[i] == keys[j]
    if given_keys is not None:
        assert [key for three in given_keys for key in three] == keys


def test_queries_that_differ_in_strength_share_an_operation() -> None:
    """Merged over 256 queries: one operation per layer, however many strengths there are."""
    asked = tuple((Steering(VECTORS[2], float(i)),) for i in range(256))
    owners = np.repeat(np.arange(256, dtype=np.int32), 2)
    operations = native_operations(asked, owners, np.zeros(512, np.int8))
    assert [op.il for op in operations] == [2, 3]
    for op in operations:
        np.testing.assert_array_equal(op.strengths, owners.astype(np.float32))
        np.testing.assert_array_equal(op.active, owners != 0)  # strength 0 leaves the bits alone


def test_nothing_acts_where_nothing_is_asked() -> None:
    owners, regions = np.zeros(3, np.int32), np.zeros(3, np.int8)
    idle: tuple[tuple[Steering, ...], ...]
    for idle in ((), ((),), ((Steering(VECTORS[0], 0.0),),), ((Steering(VECTORS[0], positions="generated"),),)):
        rows = owners if idle else owners[:0]
        assert native_operations(idle, rows, regions[: len(rows)]) == []


def test_clamp_and_cap_act_at_strength_0() -> None:
    for operator in OPERATORS:
        one = Steering(VECTORS[1], 0.0, operator=operator)
        assert one.idle == (operator not in ("clamp", "cap"))
        found = native_operations(((one,),), np.zeros(1, np.int32), np.zeros(1, np.int8))
        assert len(found) == (not one.idle)


def test_a_strength_that_is_0_in_float32_is_idle() -> None:
    """It was compared in float64: rows were then kept apart, and touched, for a step of 0."""
    assert Steering(VECTORS[0], 1e-60).idle and Steering(VECTORS[0], -0.0).idle
    assert not Steering(VECTORS[0], 1e-40).idle  # subnormal, yet not 0


def test_a_gate_must_be_decided_before_rows_are_treated() -> None:
    asked = ((Steering(VECTORS[0], gate=GATE),),)
    with pytest.raises(InputError, match="a gate is not decided yet"):
        native_operations(asked, np.zeros(1, np.int32), np.zeros(1, np.int8))


@pytest.mark.parametrize(
    ("positions", "regions"), [("all", {0, 1, 2}), ("prompt", {0, 1}), ("generated", {2}), ("last", {1})]
)
def test_positions_are_regions(positions: Any, regions: set[int]) -> None:
    asked = ((Steering(VECTORS[1], positions=positions),),)
    (op,) = native_operations(asked, np.zeros(3, np.int32), np.arange(3, dtype=np.int8))
    assert set(np.flatnonzero(op.active).tolist()) == regions


def test_one_steering_is_for_all_queries_and_a_list_for_each() -> None:
    one, other = Steering(VECTORS[0]), Steering(VECTORS[1], 2.0)
    assert normalized(None, 2) == ((), ())
    assert normalized(one, 2) == ((one,), (one,))
    assert normalized([None, one, [one, other], []], 4) == ((), (one,), (one, other), ())
    with pytest.raises(ShapeError, match="expected one for all or 3, one per query, got 2"):
        normalized([one, one], 3)


def test_the_short_form_adds_one_vector() -> None:
    assert adds(None, 1.0, 2) is None
    made = normalized(adds(VECTORS[0], [0.5, -1.0, 0.5], 3), 3)
    assert [[(one.vector, one.strength, one.is_plain) for one in many] for many in made] == [
        [(VECTORS[0], 0.5, True)], [(VECTORS[0], -1.0, True)], [(VECTORS[0], 0.5, True)],
    ]  # fmt: skip
    assert len(normalized(adds(VECTORS[0], 2.0, 3), 3)) == 3
    with pytest.raises(ShapeError, match="expected one number or 3, one per query"):
        adds(VECTORS[0], [1.0, 2.0], 3)
    with pytest.raises(StrengthError, match="strength nan"):
        adds(None, math.nan, 3)


@pytest.mark.parametrize("strength", [math.nan, math.inf, -math.inf, 1e39])
@pytest.mark.parametrize("operator", OPERATORS)
def test_a_strength_must_be_a_float32_number(strength: float, operator: Any) -> None:
    with pytest.raises(StrengthError, match="is not a finite number in float32"):
        Steering(VECTORS[0], strength, operator=operator)
    with pytest.raises(StrengthError):
        Steering(VECTORS[0], operator=operator).at(strength)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"operator": "multiply"}, "operator 'multiply' is unknown; use add, add-keep-norm, ablate"),
        ({"positions": "first"}, "positions 'first' is unknown; use all, prompt, generated, last"),
        ({"side": "left"}, "side 'left' is unknown; use both, positive, negative"),
        ({"operator": "cap", "side": "positive"}, "cap acts on one side already"),
    ],
)
def test_words_that_are_unknown_are_refused(words: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Steering(VECTORS[0], **words)


def test_manner_is_given_by_keyword() -> None:
    with pytest.raises(TypeError):
        Steering(VECTORS[0], 1.0, "clamp")  # type: ignore[call-arg]


def test_at_changes_the_strength_alone() -> None:
    one = Steering(VECTORS[0], 1.0, operator="ablate", positions="last", side="positive", gate=GATE)
    other = one.at(-0.5)
    assert other.strength == -0.5
    for name in ("vector", "operator", "positions", "side", "gate"):
        assert getattr(other, name) is getattr(one, name)


@pytest.mark.parametrize("direction", [np.zeros(4, np.float32), np.ones((2, 2), np.float32), np.array([1, np.nan])])
def test_a_gate_needs_a_direction(direction: Any) -> None:
    with pytest.raises(ShapeError, match="expected a direction"):
        Gate(direction, 0, 0.0)


@pytest.mark.parametrize("threshold", [math.nan, math.inf])
def test_a_gate_needs_a_threshold(threshold: float) -> None:
    with pytest.raises(InputError, match="give a finite number"):
        Gate(np.ones(4, np.float32), 0, threshold)


def test_gates_that_decide_alike_have_one_identity() -> None:
    assert GATE.identity == Gate(np.ones(N_EMBD, np.float32), 1, 0.5).identity
    others = (replace(GATE, il=2), replace(GATE, threshold=0.25), replace(GATE, above=False))
    assert len({GATE.identity, *(other.identity for other in others)}) == 4
    assert replace(GATE, direction=np.arange(N_EMBD, dtype=np.float32)).identity != GATE.identity


def test_what_is_not_for_the_model_is_refused() -> None:
    def refused(one: Steering, error: type[Exception], message: str, n_layer: int = N_LAYER) -> None:
        with pytest.raises(error, match=message):
            check(((), (one,)), n_layer=n_layer, n_embd=N_EMBD)

    check(((), (Steering(VECTORS[0], gate=GATE),)), n_layer=N_LAYER, n_embd=N_EMBD)
    refused(Steering(vector(1, n_embd=8)), ShapeError, "the vector has 8 values per layer, the model's n_embd is 4")
    refused(Steering(VECTORS[0]), LayerError, "layer 5 does not exist; the model has layers 0..3", 4)
    wide = Gate(np.ones(8, np.float32), 1, 0.0)
    refused(Steering(VECTORS[1], gate=wide), ShapeError, "the gate has 8 values per layer")
    refused(Steering(VECTORS[1], gate=replace(GATE, il=6)), LayerError, "layer 6 does not exist")


def test_queries_that_share_rows_must_steer_them_alike() -> None:
    last, everywhere = Steering(VECTORS[1], positions="last"), Steering(VECTORS[1])
    asked = ((last,), (everywhere,), ())
    refuse_unequal_sharers([((0, 0), (2, 0)), ((0, 1), (1, 1)), ((0, 2), (2, 1))], asked)
    with pytest.raises(InputError, match="queries 0 and 1 of a batch share tokens but are to be steered differently"):
        refuse_unequal_sharers([((0, 0), (1, 0))], asked)
    with pytest.raises(InputError):  # the same everywhere but in strength
        refuse_unequal_sharers([((0, 1), (1, 1))], ((everywhere,), (everywhere.at(2.0),)))


def test_a_plan_without_differences_needs_no_keys() -> None:
    one = Steering(VECTORS[0])
    assert packing_keys(()) is None
    assert packing_keys(((), ())) is None
    assert packing_keys(((one,), (one.at(1.0),))) is None
    assert packing_keys(((one.at(0.0),), ())) is None
    assert packing_keys(((one,), (one.at(2.0),))) is not None
    assert packing_keys(((Steering(VECTORS[0], positions="last"),),)) is not None
