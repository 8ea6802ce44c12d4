"""Every operator at all positions, on all sides and behind gates, through the engine, against its NumPy twin.

A layer's rows before it is steered are read off a run of the same batch that steers only the layers below: up to there
the two runs are the same, bit for bit. All in float32, weights and K/V cache.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import TypeAlias

import gguf
import numpy as np
import pytest

from steercpp.choices import OPERATORS, Operator, Positions, Side
from steercpp.engine import reference
from steercpp.engine.engine import Engine
from steercpp.engine.operations import native_operations
from steercpp.engine.packing import Batch, Query
from steercpp.engine.session import Wanted
from steercpp.engine.steering import REGIONS, SIDES, Decided, Gate, Steering
from steercpp.errors import InputError
from steercpp.vectors.control_vector import ControlVector

# Of a row's norm. Both sides compute in float64 and round to float32, 3e-8 of a row; what is found is 0 or that.
TOLERANCE = 1e-5
N_PROMPTS = 4  # behind each combination, so that each side of a direction has rows in each region
GATE_LAYER = 2
Manner: TypeAlias = tuple[Operator, Positions, Side]
MANNERS: list[Manner] = [
    (operator, positions, side)  # type: ignore[misc]  # these are the words of the three types
    for operator, positions, side in product(OPERATORS, REGIONS, SIDES)
    if operator != "cap" or side == "both"
]


@dataclass(frozen=True, slots=True)
class Case:
    """A query with what is asked for it; `passes` is None where there is no gate."""

    query: Query
    manner: Manner
    steering: Steering
    passes: bool | None


@pytest.fixture(scope="module")
def engine(tiny_path: Path) -> Iterator[Engine]:
    with Engine(tiny_path, threads=1, type_k="f32", type_v="f32") as opened:
        yield opened


@pytest.fixture(scope="module")
def prompts(engine: Engine) -> list[tuple[int, ...]]:
    rng = np.random.default_rng(5)
    return [(1, *rng.integers(3, engine.n_vocab, 2 + i).tolist()) for i in range(N_PROMPTS)]


def vector_at(engine: Engine, rng: np.random.Generator, *layers: int) -> ControlVector:
    """Directions 16 long where this model's rows are 20 to 35, so that strength 1 is a large push."""
    directions = {il: rng.standard_normal(engine.n_embd).astype(np.float32) for il in layers}
    return ControlVector(directions, engine.architecture, engine.n_layer)


def strength_for(operator: Operator, rng: np.random.Generator) -> float:
    """Never 0, never the same twice. Projections of random rows lie about -0.2 to 0.2: cap meets both kinds."""
    if operator == "cap":
        return float(rng.uniform(-0.05, 0.05))
    return float(rng.uniform(0.2, 1.5) * rng.choice([-1, 1]))


def all_cases(engine: Engine, prompts: Sequence[tuple[int, ...]], rng: np.random.Generator, il: int) -> list[Case]:
    """Every manner with no gate, and with two of which one is open: for each prompt."""
    vector = vector_at(engine, rng, il)
    direction = rng.standard_normal(engine.n_embd).astype(np.float32)
    x = engine.activations(prompts, layers=[GATE_LAYER])[:, 0]
    projections = x.astype(np.float64) @ (direction / np.linalg.norm(direction.astype(np.float64)))
    threshold = float(np.median(projections))
    gates = [Gate(direction, GATE_LAYER, threshold, above) for above in (True, False)]
    cases = []
    for manner, gate, (prompt, projected) in product(
        MANNERS, (None, *gates), list(zip(prompts, projections, strict=True))
    ):
        operator, positions, side = manner
        steering = Steering(
            vector, strength_for(operator, rng), operator=operator, positions=positions, side=side, gate=gate
        )
        continuations = [tuple(rng.integers(3, engine.n_vocab, n).tolist()) for n in (4, 2)]
        passes = None if gate is None else bool((projected > threshold) == gate.above)
        cases.append(Case(Query(prompt, tuple(continuations)), manner, steering, passes))
    return cases


def rows_at(engine: Engine, batch: Batch, asked: Decided | None, layers: Sequence[int]) -> np.ndarray:
    """Activations of all rows of a batch of one pass, (n_layers, n_tokens, n_embd)."""
    (part,) = batch.passes
    part = replace(part, outputs=np.ones_like(part.outputs))  # or the last block would compute some rows only
    wanted = Wanted(capture_layers=tuple(layers), capture_rows=tuple(range(len(part.tokens))))
    operations = native_operations(asked, part.owners, part.regions) if asked is not None else []
    captures: np.ndarray = engine.session.decode(part, operations, wanted).captures
    return captures


def twin(batch: Batch, asked: Decided, before: np.ndarray, il: int) -> np.ndarray:
    """What the asked-for steerings make of the rows (n_tokens, n_embd) of a layer."""
    (part,) = batch.passes
    expected = before.astype(np.float64)
    for owner, region in sorted(set(zip(part.owners.tolist(), part.regions.tolist(), strict=True))):
        mine = (part.owners == owner) & (part.regions == region)
        expected[mine] = reference.apply_all(asked[owner], before[mine], il, region)
    return expected


def errors(found: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Relative error of each row."""
    distances: np.ndarray = np.linalg.norm(found - expected, axis=-1) / np.linalg.norm(expected, axis=-1)
    return distances


def of_batch(batch: Batch, asked: Decided) -> Decided:
    return tuple(asked[place] for place in batch.members)


@pytest.mark.parametrize("il", [0, 1, 3])
def test_every_manner_equals_its_twin(
    engine: Engine, prompts: list[tuple[int, ...]], rng: np.random.Generator, il: int
) -> None:
    """All at once, each sequence with its own: in block 0, which llama.cpp cannot steer, within, and in the last."""
    cases = all_cases(engine, prompts, rng, il)
    queries = [case.query for case in cases]
    decided = engine.decide(queries, [case.steering for case in cases])
    assert [bool(many) for many in decided] == [case.passes in (None, True) for case in cases]
    n_moved = dict.fromkeys(product(MANNERS, range(3)), 0)
    n_kept = dict.fromkeys(MANNERS, 0)
    last = engine.n_layer - 1
    for batch in engine.pack(queries, decided):
        asked = of_batch(batch, decided)
        (part,) = batch.passes
        before, before_last = rows_at(engine, batch, None, [il, last] if il < last else [il, 0])
        found, found_last = rows_at(engine, batch, asked, [il, last] if il < last else [il, 0])
        wrong = errors(found, twin(batch, asked, before, il)) > TOLERANCE
        assert not wrong.any(), {(asked[owner][0].operator, asked[owner][0].side) for owner in part.owners[wrong]}
        moved = (found != before).any(axis=1)
        for row, (owner, region) in enumerate(zip(part.owners.tolist(), part.regions.tolist(), strict=True)):
            case = cases[batch.members[owner]]
            if not asked[owner]:  # the gate is closed: not a bit, up to the last block
                assert not moved[row] and (found_last[row] == before_last[row]).all()
            elif region not in REGIONS[case.manner[1]]:
                assert not moved[row], case.manner
            else:
                n_moved[case.manner, region] += int(moved[row])
                n_kept[case.manner] += int(not moved[row])
    for manner in MANNERS:
        for region in range(3):
            assert (n_moved[manner, region] > 0) == (region in REGIONS[manner[1]]), (manner, region)
        one_sided = manner[0] == "cap" or manner[2] != "both"
        assert (n_kept[manner] > 0) == one_sided, manner


def test_the_last_tokens_activations_are_steered_alike(
    engine: Engine, prompts: list[tuple[int, ...]], rng: np.random.Generator
) -> None:
    """The public way, whose last block computes output rows only."""
    for il in (0, 2, 3):
        cases = all_cases(engine, prompts, rng, il)
        tokens = [case.query.tokens for case in cases]
        decided = engine.decide([case.query for case in cases], [case.steering for case in cases])
        before = engine.activations(tokens, layers=[il])[:, 0]
        found = engine.activations(tokens, layers=[il], steering=decided)[:, 0]
        expected = np.concatenate(
            [reference.apply_all(many, before[i : i + 1], il, 1) for i, many in enumerate(decided)]
        )
        # The two runs are packed differently, which moves roundings: 1e-6 of a row's norm by itself.
        assert errors(found, expected).max() <= TOLERANCE
        assert (errors(before, expected) > 0.01).sum() > len(cases) / 5  # and most of them are far from unsteered


def test_logprobs_follow_from_the_twin(
    engine: Engine, tiny_path: Path, prompts: list[tuple[int, ...]], rng: np.random.Generator
) -> None:
    """The last block is steered; the twin's rows go through final norm and output matrix in NumPy."""
    tensors = {tensor.name: tensor.data for tensor in gguf.GGUFReader(tiny_path).tensors}
    il = engine.n_layer - 1
    cases = all_cases(engine, prompts, rng, il)
    decided = engine.decide([case.query for case in cases], [case.steering for case in cases])
    n_changed = 0
    for batch in engine.pack([case.query for case in cases], decided):
        asked = of_batch(batch, decided)
        (part,) = batch.passes
        x = twin(batch, asked, rows_at(engine, batch, None, [il])[0], il)
        x /= np.sqrt((x**2).mean(axis=1, keepdims=True) + 1e-5)
        logits = (x * tensors["output_norm.weight"]) @ tensors["output.weight"].astype(np.float64).T
        logprobs = reference.log_softmax(logits)[part.score_rows, part.score_tokens]
        expected = np.bincount(part.score_targets, weights=logprobs, minlength=batch.n_continuations)
        found = np.concatenate(engine.logprobs(batch, steering=asked))
        # Logits of size 1 in float32, each a sum of 256 products, 4 of them to a continuation.
        np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5)
        n_changed += int((np.abs(found - np.concatenate(engine.logprobs(batch))) > 0.01).sum())
    assert n_changed > len(cases) / 2


def below(asked: Decided, il: int, made: dict[tuple[int, int], ControlVector]) -> Decided:
    """The same steerings at the layers below il; `made` keeps one such vector for each."""

    def cut(one: Steering) -> Iterator[Steering]:
        layers = [layer for layer in one.vector.layers if layer < il]
        if layers:
            key = (id(one.vector), il)
            if key not in made:
                made[key] = one.vector.restricted_to(layers)
            yield replace(one, vector=made[key])

    return tuple(tuple(part for one in many for part in cut(one)) for many in asked)


@pytest.mark.parametrize("seed", range(8))
def test_several_vectors_act_in_their_querys_order(engine: Engine, seed: int) -> None:
    check_several_vectors(engine, seed)


@pytest.mark.parametrize("n_batch", [7, 24])
def test_rows_are_found_in_every_piece(tiny_path: Path, n_batch: int) -> None:
    with Engine(tiny_path, n_batch=n_batch, threads=1, type_k="f32", type_v="f32") as engine:
        assert check_several_vectors(engine, n_batch) > 1, "no batch has several pieces: the test is void"


def check_several_vectors(engine: Engine, seed: int) -> int:
    """Up to four to a query, each with its own layers and manner, some with the same vector twice; at every layer.

    Returns:
        the most pieces of a batch.
    """
    rng = np.random.default_rng(seed)
    vectors = [vector_at(engine, rng, *layers) for layers in ((0, 3), (1, 2, 3), (0, 1, 2, 3), (2,))]
    shared = rng.integers(3, engine.n_vocab, 10).tolist()
    queries, asked = [], []
    for _ in range(60):
        tail = rng.integers(3, engine.n_vocab, rng.integers(1, 4)).tolist()
        queries.append(Query((1, *shared, *tail), (tuple(rng.integers(3, engine.n_vocab, 3).tolist()),)))
        many = []
        for _ in range(rng.integers(0, 5)):
            operator, positions, side = MANNERS[rng.integers(len(MANNERS))]
            strength = strength_for(operator, rng)
            if operator == "ablate":
                strength /= 2  # 1 leaves a projection of 0 or rounding, whose sign is chance
            vector = vectors[rng.integers(len(vectors))]
            many.append(Steering(vector, strength, operator=operator, positions=positions, side=side))
        asked.append(tuple(many))
    made: dict[tuple[int, int], ControlVector] = {}
    n_pieces, n_moved = 0, [0] * engine.n_layer
    for batch in engine.pack(queries, asked):
        own = of_batch(batch, tuple(asked))
        n_pieces = max(n_pieces, len(batch.passes[0].pieces))
        found = rows_at(engine, batch, own, range(engine.n_layer))
        for il in range(engine.n_layer):
            (before,) = rows_at(engine, batch, below(own, il, made), [il])
            assert errors(found[il], twin(batch, own, before, il)).max() <= TOLERANCE, il
            n_moved[il] += int((found[il] != before).any(axis=1).sum())
    assert min(n_moved) > len(queries), "steering does too little"
    return n_pieces


def test_queries_that_share_rows_are_steered_as_alone(
    engine: Engine, prompts: list[tuple[int, ...]], rng: np.random.Generator
) -> None:
    """One prompt in every manner at one strength, so that packing shares all that is treated alike, and no more."""
    vector = vector_at(engine, rng, 0, 2)
    query = Query(prompts[-1], ((7, 8, 9), (7, 10)))
    asked: Decided = tuple(
        (Steering(vector, 0.03 if operator == "cap" else 0.75, operator=operator, positions=positions, side=side),)
        for operator, positions, side in MANNERS
    )
    queries = [query] * len(asked)
    batches = engine.pack(queries, asked)
    assert sum(batch.n_tokens for batch in batches) < 0.8 * len(queries) * engine.pack([query])[0].n_tokens
    together = np.empty((len(asked), 2))
    for batch in batches:
        together[list(batch.members)] = engine.logprobs(batch, steering=of_batch(batch, asked))
    (single,) = engine.pack([query])
    alone = np.array([engine.logprobs(single, steering=[many])[0] for many in asked])
    # Other shapes of the same products move roundings: 1e-6 of logits of size 1, over 3 tokens. Manners differ by more.
    np.testing.assert_allclose(together, alone, rtol=0, atol=2e-5)
    assert len({row[0].round(4) for row in alone}) > len(asked) / 2


def test_order_within_a_query_matters_and_is_kept(engine: Engine, prompts: list[tuple[int, ...]]) -> None:
    """Two queries with the same two steerings, the other way round: adding after a clamp is not clamping after it."""
    vector = vector_at(engine, np.random.default_rng(3), 1)
    add, clamp = Steering(vector, 1.0), Steering(vector, 0.25, operator="clamp")
    x = engine.activations([prompts[0]] * 2, layers=[1], steering=[[clamp, add], [add, clamp]])[:, 0]
    found = reference.projection(x, vector.directions[1])
    # Float32 rows of 256 elements: 1e-7 of a row's length, which is two lengths of t at most.
    np.testing.assert_allclose(found, [1.25, 0.25], rtol=0, atol=1e-6)


def test_a_row_does_not_see_how_others_are_steered(
    engine: Engine, prompts: list[tuple[int, ...]], rng: np.random.Generator
) -> None:
    """In the same batch with all other queries left alone, a query's rows have the same bits."""
    cases = [case for case in all_cases(engine, prompts, rng, 1) if case.steering.gate is None]
    asked: Decided = tuple((case.steering,) for case in cases)
    batch = engine.pack([case.query for case in cases], asked)[0]
    own = of_batch(batch, asked)
    (part,) = batch.passes
    together = rows_at(engine, batch, own, [engine.n_layer - 1])[0]
    for place in rng.choice(len(own), 8, replace=False):
        alone = tuple(many if i == place else () for i, many in enumerate(own))
        mine = part.owners == place
        found = rows_at(engine, batch, alone, [engine.n_layer - 1])[0]
        np.testing.assert_array_equal(found[mine], together[mine])
        assert mine.any()


def test_rows_on_a_device_are_steered_to_the_same_bits(
    tiny_path: Path, prompts: list[tuple[int, ...]], rng: np.random.Generator
) -> None:
    """Tensors outside host memory take another path; here every tensor is made to."""
    with (
        Engine(tiny_path, threads=1, type_k="f32", type_v="f32") as engine,
        Engine(tiny_path, threads=1, type_k="f32", type_v="f32") as copying,
    ):
        copying._session = copying.open_session(always_copy=True)
        for il in (0, 3):
            cases = [case for case in all_cases(engine, prompts, rng, il) if case.steering.gate is None]
            asked: Decided = tuple((case.steering,) for case in cases)
            for batch in engine.pack([case.query for case in cases], asked):
                own = of_batch(batch, asked)
                np.testing.assert_array_equal(copying.logits(batch, steering=own), engine.logits(batch, steering=own))


def test_gates_are_decided_by_the_unsteered_pass(
    engine: Engine, prompts: list[tuple[int, ...]], rng: np.random.Generator
) -> None:
    """A vector below the gate's layer, strong enough to throw its projection about, does not change what it decides."""
    strong = Steering(vector_at(engine, rng, 0), 20.0)
    x = engine.activations(prompts, layers=[GATE_LAYER])[:, 0]
    direction = rng.standard_normal(engine.n_embd).astype(np.float32)
    threshold = float(np.median(reference.projection(x, direction)) * np.linalg.norm(direction))
    gates = [Gate(direction, GATE_LAYER, threshold, above) for above in (True, False)]
    steering = [[strong, replace(strong, gate=gates[0]), replace(strong, gate=gates[1])] for _ in prompts]
    decided = engine.decide([Query(prompt) for prompt in prompts], steering)
    assert all(one.gate is None for many in decided for one in many)
    assert [len(many) for many in decided] == [2] * len(prompts)
    opened = [reference.gate_open(gate, x) for gate in gates]
    assert (opened[0] != opened[1]).all() and 0 < opened[0].sum() < len(prompts)
    steered = engine.activations(prompts, layers=[GATE_LAYER], steering=strong)[:, 0]
    assert (reference.gate_open(gates[0], steered) != opened[0]).any(), "steering changes nothing: the test is void"


def test_a_gate_that_is_not_decided_is_refused(engine: Engine, prompts: list[tuple[int, ...]]) -> None:
    gated = Steering(
        vector_at(engine, np.random.default_rng(0), 1), gate=Gate(np.ones(engine.n_embd, np.float32), 1, 0.0)
    )
    (batch,) = engine.pack([Query(prompt, ((5,),)) for prompt in prompts])
    plain = engine.logits(batch)
    with pytest.raises(InputError, match=r"a gate is not decided yet; give Engine\.decide's answer"):
        engine.logprobs(batch, steering=gated)
    np.testing.assert_array_equal(engine.logits(batch), plain)
