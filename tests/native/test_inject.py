"""Steering inside the graph has the bits of the callback, resumed or not, and leaves the graph as it found it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from architecture_table import FIRST_LAYERS, STRENGTHS, foreign, queries_for, vector_for
from architectures import ARCHITECTURES, STEERABLE, Models
from random_queries import one_batch, random_queries, random_vector
from rpc_server import Server
from stock_llama import StockRunner

from steercpp import _native
from steercpp.aliases import FloatArray
from steercpp.choices import FlashAttention
from steercpp.engine.batch import Piece
from steercpp.engine.devices import DeviceOptions
from steercpp.engine.engine import Engine
from steercpp.engine.model import Model
from steercpp.engine.operations import Operation, native_operations
from steercpp.engine.packing import Batch, Pass
from steercpp.engine.session import Kept, Result, Wanted
from steercpp.engine.steering import Steering
from steercpp.errors import NonFiniteError, UnsteerableError
from steercpp.vectors.control_vector import ControlVector

ON_SERVER = ("llama-gqa", "llama-moe", "qwen3", "gemma2", "gemma4-shared", "phi3", "mamba2", "jamba")


@pytest.fixture(scope="module")
def server() -> str:
    assert _native.supports_rpc(), "llama-cpp-python was compiled without RPC; `make test` compiles it again"
    return Server().address


def run(
    engine: Engine, batch: Batch, steering: Sequence[Steering] | Steering, *, base: Sequence[Kept] = (), keep: int = -1
) -> tuple[FloatArray, list[Result]]:
    """Logits of the batch's output rows, and what each pass came to."""
    by_query = tuple(
        (one,) for one in ([steering] * len(batch.queries) if isinstance(steering, Steering) else steering)
    )
    results = [
        engine.session.decode(
            pass_, native_operations(by_query, pass_.owners, pass_.regions), Wanted(logits=True, keep_layer=keep),
            base=base[place] if base else None,
        )
        for place, pass_ in enumerate(batch.passes)
    ]  # fmt: skip
    return np.concatenate([result.logits for result in results]), results


def bits(values: FloatArray) -> np.ndarray:
    """Numbers that tell -0 from 0."""
    return np.ascontiguousarray(values).view(np.uint32)


def check_a_model(model: Model, flash_attn: FlashAttention, *, on_device: bool = False) -> None:
    """Strengths side by side, full and resumed at every first layer, against the callback and llama.cpp's own."""
    with (
        Engine(model=model, n_ctx=512, threads=1, flash_attn=flash_attn, steer="graph") as inside,
        Engine(model=model, n_ctx=512, threads=1, flash_attn=flash_attn, steer="callback") as by,
    ):
        queries = queries_for(inside.n_vocab)
        any_vector = vector_for(inside, FIRST_LAYERS)
        above = any_vector.restricted_to(range(1, inside.n_layer))  # block 0 has no control vector
        asked = [Steering(above, strength) for strength in STRENGTHS]
        for batch in inside.pack(queries, asked):
            of_batch = [asked[query] for query in batch.members]
            found, results = run(inside, batch, of_batch)
            expected, cut = run(by, batch, of_batch)
            np.testing.assert_array_equal(bits(found), bits(expected))
            pieces = sum(len(part.pieces) for part in batch.passes)
            assert sum(result.n_cuts for result in results) == 0
            is_steered = any(one.strength for one in of_batch)
            assert sum(result.n_cuts for result in cut) == pieces * len(above.layers) * is_steered
            owners = np.concatenate([part.owners[part.outputs == 1] for part in batch.passes])
            for place, one in enumerate(of_batch):
                pushed = {il: np.float32(one.strength) * row for il, row in above.directions.items()}
                stock = by.stock_logits(batch, ControlVector(pushed, by.architecture, by.n_layer))
                np.testing.assert_array_equal(found[owners == place], stock[owners == place])
        others = inside.pack(foreign(queries, inside.n_vocab))
        for first in FIRST_LAYERS:
            steering = Steering(any_vector.restricted_to(range(first, inside.n_layer)), 0.7)
            for batch, other in zip(inside.pack(queries), others, strict=True):
                expected, _ = run(by, batch, steering)
                base, of_callback = (engine.base(batch, first_layer=first) for engine in (inside, by))
                assert (base.resumed, base.reason) == (of_callback.resumed, of_callback.reason)
                for _ in range(2):
                    inside.logits(other, steering=steering)
                    found, results = run(inside, batch, steering, base=base.kept)
                    np.testing.assert_array_equal(bits(found), bits(expected))
                    n_cuts = sum(result.n_cuts for result in results)
                    assert not base.resumed or bool(n_cuts) == (first == 0)
                np.testing.assert_array_equal(inside.logits(batch), by.logits(batch))
    assert on_device == model.uses_devices


@pytest.mark.parametrize("file_type", ["F32", "Q8_0"])
@pytest.mark.parametrize("name", STEERABLE)
def test_every_architecture_has_the_callbacks_bits(model: Models, name: str, file_type: str) -> None:
    check_a_model(Model(model(name, file_type)), "off" if file_type == "F32" else "on")


@pytest.mark.parametrize("n_gpu_layers", [-1, 3])
@pytest.mark.parametrize("name", ON_SERVER)
def test_on_a_server_too(model: Models, server: str, name: str, n_gpu_layers: int) -> None:
    there = Model(model(name, "F32"), DeviceOptions(n_gpu_layers=n_gpu_layers, rpc=server))
    check_a_model(there, "off", on_device=True)


@pytest.mark.skipif(not _native.free_gpu_memory(), reason="this llama.cpp has no GPU to compute on")
@pytest.mark.parametrize("n_gpu_layers", [-1, 3])
@pytest.mark.parametrize("name", STEERABLE)
def test_on_a_gpu_too(model: Models, name: str, n_gpu_layers: int) -> None:
    check_a_model(Model(model(name, "F32"), DeviceOptions(n_gpu_layers=n_gpu_layers)), "off", on_device=True)


@pytest.fixture
def pair(tiny_path: Path) -> Iterator[tuple[Engine, Engine]]:
    """One model steered inside the graph, and by the callback."""
    model = Model(tiny_path)
    with (
        Engine(model=model, n_ctx=512, threads=1, steer="graph") as inside,
        Engine(model=model, n_ctx=512, threads=1, steer="callback") as by,
    ):
        yield inside, by


def cuts(results: Sequence[Result]) -> int:
    return sum(result.n_cuts for result in results)


def test_what_is_no_addition_is_left_to_the_callback(pair: tuple[Engine, Engine], rng: np.random.Generator) -> None:
    """Block 0, the other operators, one side, and a layer that is captured, beside layers inside the graph."""
    inside, by = pair
    batch = one_batch(inside, rng, apart=True)
    everywhere = random_vector(inside, rng, tuple(range(inside.n_layer)))
    cases = [
        (Steering(everywhere, 0.5), 1),
        (Steering(everywhere, 0.5, operator="ablate"), inside.n_layer),
        (Steering(everywhere, 0.5, side="positive"), inside.n_layer),
        (Steering(everywhere.restricted_to([1, 2]), 0.5, positions="last"), 0),
    ]
    for steering, expected in cases:
        found, results = run(inside, batch, steering)
        np.testing.assert_array_equal(bits(found), bits(run(by, batch, steering)[0]))
        assert cuts(results) == expected
    mixed = [Steering(everywhere.restricted_to([1]), 0.5), Steering(everywhere.restricted_to([2]), 0.5, operator="cap")]
    found = inside.logits(batch, steering=[mixed] * len(batch.queries))
    np.testing.assert_array_equal(bits(found), bits(by.logits(batch, steering=[mixed] * len(batch.queries))))
    prompts = [query.tokens for query in batch.queries]
    captured = [engine.activations(prompts, vector=everywhere, strengths=0.5) for engine in pair]
    np.testing.assert_array_equal(bits(captured[0]), bits(captured[1]))


def test_several_vectors_at_one_layer(pair: tuple[Engine, Engine], rng: np.random.Generator) -> None:
    """Each row its own: inside the graph. Two on one row are rounded one by one, which one sum would not be."""
    inside, by = pair
    one, other = (random_vector(inside, rng, (1, 2)) for _ in range(2))
    queries = random_queries(inside, rng)
    apart = [[Steering(one, 0.7)] if place % 2 else [Steering(other, -1.0 - place)] for place in range(len(queries))]
    both = [[Steering(one, 0.7), Steering(other, 0.1)]] * len(queries)
    for steering, expected in ((apart, 0), (both, 2)):
        (batch,) = inside.pack(queries, steering)
        by_query = tuple(tuple(steering[member]) for member in batch.members)
        found = inside.session.decode(
            batch.passes[0], native_operations(by_query, batch.passes[0].owners, batch.passes[0].regions),
            Wanted(logits=True),
        )  # fmt: skip
        np.testing.assert_array_equal(bits(found.logits), bits(by.logits(batch, steering=by_query)))
        assert found.n_cuts == expected


def test_pushes_are_sent_when_they_change(pair: tuple[Engine, Engine], rng: np.random.Generator) -> None:
    inside, by = pair
    batch, vector = one_batch(inside, rng, apart=True), random_vector(inside, rng, (1, 3))
    strengths = [Steering(vector, 0.1 * place) for place in range(len(batch.queries))]
    written = []
    for steering in (strengths, strengths, strengths[::-1], Steering(vector, 1.0), Steering(vector, 1.0), strengths):
        found, results = run(inside, batch, steering)
        np.testing.assert_array_equal(bits(found), bits(run(by, batch, steering)[0]))
        written.append(sum(result.n_writes for result in results))
    assert written == [2, 0, 2, 2, 0, 2]


def test_the_same_array_with_other_values_is_sent_again(pair: tuple[Engine, Engine], rng: np.random.Generator) -> None:
    inside, by = pair
    (pass_,) = one_batch(inside, rng).passes
    n_rows, direction = len(pass_.tokens), rng.standard_normal(inside.n_embd).astype(np.float32)
    strengths, active = np.ones(n_rows, np.float32), np.ones(n_rows, np.int8)

    def written() -> int:
        results = [
            engine.session.decode(pass_, [Operation(2, 0, 0, direction, strengths, active)], Wanted(logits=True))
            for engine in pair
        ]
        np.testing.assert_array_equal(bits(results[0].logits), bits(results[1].logits))
        return results[0].n_writes

    assert (written(), written()) == (1, 0)
    for values in (direction, strengths, active):
        values[1] = 0
        assert (written(), written()) == (1, 0)


def test_kept_rows_are_sent_once(pair: tuple[Engine, Engine], rng: np.random.Generator) -> None:
    """For each base, in whatever order bases are used; what an older one kept is not taken for a newer one's."""
    inside, by = pair
    batches = [one_batch(inside, rng) for _ in range(2)]
    vector = random_vector(inside, rng, (2, 3))
    bases = [inside.base(batch, first_layer=2) for batch in batches]
    written = []
    for place in (0, 1, 0, 1):
        found, results = run(inside, batches[place], Steering(vector, 0.5), base=bases[place].kept)
        np.testing.assert_array_equal(bits(found), bits(run(by, batches[place], Steering(vector, 0.5))[0]))
        written.append(sum(result.n_writes for result in results))
    assert written == [3, 1, 0, 0]  # pushes at two layers, the same for both; rows of each base
    del bases
    again = inside.base(batches[0], first_layer=2)
    found, _ = run(inside, batches[0], Steering(vector, 0.5), base=again.kept)
    np.testing.assert_array_equal(bits(found), bits(run(by, batches[0], Steering(vector, 0.5))[0]))


@pytest.mark.parametrize("sequences", [(0, 1, 3, 4), (0, 1, 2, 4, 6, 7), (4, 4, 1, 3, 3, 3), (0, 0, 0, 0, 1)])
def test_several_graphs_of_one_decode(
    pair: tuple[Engine, Engine], rng: np.random.Generator, sequences: tuple[int, ...]
) -> None:
    """Streams that llama.cpp cuts into batches: the next graph has its own rows, also where it is the same one."""
    inside, by = pair
    n, none = len(sequences), np.empty(0, np.int32)
    ids = np.array(sequences, np.int32)
    vector = random_vector(inside, rng, (1, 2, 3))
    steered = [(Steering(vector, float(strength)),) for strength in rng.uniform(-2, 2, n)]
    sessions = [engine.open_session(n_ctx=256, n_batch=64, n_seq_max=8, kv_unified=False) for engine in pair]
    lengths = dict.fromkeys(sequences, 0)
    for step in range(3):
        positions = []
        for sequence in sequences:
            positions.append(lengths[sequence])
            lengths[sequence] += 1
        rows = Pass(
            tokens=rng.integers(3, inside.n_vocab, n).astype(np.int32), positions=np.array(positions, np.int32),
            owners=np.arange(n, dtype=np.int32), regions=np.zeros(n, np.int8),
            seq_offsets=np.arange(n + 1, dtype=np.int32), seq_ids=ids, outputs=np.ones(n, np.int8), prompt_ends=none,
            prompt_owners=none, score_rows=none, score_tokens=none, score_targets=none, pieces=(Piece(n),),
        )  # fmt: skip
        operations = native_operations(tuple(steered), rows.owners, rows.regions)
        found, expected = (
            session.decode(rows, operations, Wanted(logits=True), fresh=step == 0) for session in sessions
        )
        np.testing.assert_array_equal(bits(found.logits), bits(expected.logits))
        assert found.n_cuts == 0 and expected.n_cuts >= 2 * len(vector.layers)
        assert step == 0 or found.n_writes == 0  # each graph's pushes stay where they are


def test_far_pushes_are_looked_at(pair: tuple[Engine, Engine], rng: np.random.Generator) -> None:
    """Inside the graph nobody sees a row leave float32's range: there pushes are at most 1e9 long."""
    inside, by = pair
    batch = one_batch(inside, rng, apart=True)
    unit = np.zeros(inside.n_embd, np.float32)
    unit[3] = 1.0
    vector = ControlVector({1: unit, 2: unit}, inside.architecture, inside.n_layer)
    for strength, expected in ((0.999e9, 0), (1.001e9, 2)):
        found, results = run(inside, batch, Steering(vector, strength))
        assert cuts(results) == expected and np.isfinite(found).all()
        np.testing.assert_array_equal(bits(found), bits(run(by, batch, Steering(vector, strength))[0]))
    strengths = [0.5] * 8
    strengths[5] = 1e30
    for engine in pair:
        with pytest.raises(NonFiniteError, match=r"query 5: at strength 1e\+30 the activations leave float32's range"):
            engine.logits(batch, vector=vector, strengths=strengths)
    np.testing.assert_array_equal(bits(inside.logits(batch)), bits(by.logits(batch)))


def test_llama_cpps_own_vector_takes_the_place(pair: tuple[Engine, Engine], rng: np.random.Generator) -> None:
    """While it is set, what is steered besides is added to it by the callback; then all is as before."""
    inside, by = pair
    batch = one_batch(inside, rng)
    vector, besides = random_vector(inside, rng), random_vector(inside, rng, (2,))
    plain = by.logits(batch)
    base = inside.base(batch, first_layer=2)
    data = np.zeros((inside.n_layer - 1, inside.n_embd), np.float32)
    data[0] = vector.directions[1]
    both = []
    for engine in pair:
        np.testing.assert_array_equal(engine.stock_logits(batch, vector), by.logits(batch, vector=vector))
        with engine.session.stock_vector(data):
            both.append(engine.logits(batch, vector=besides, strengths=0.5))
            if engine is inside:
                np.testing.assert_array_equal(engine.logits(batch, vector=besides, strengths=0.5, base=base), both[0])
                assert base.reason == "the graph differs from that of the base pass"
    np.testing.assert_array_equal(both[0], both[1])
    np.testing.assert_array_equal(bits(inside.logits(batch)), bits(plain))
    found, results = run(inside, batch, Steering(vector, 0.5))
    np.testing.assert_array_equal(bits(found), bits(run(by, batch, Steering(vector, 0.5))[0]))
    assert cuts(results) == 0


def test_a_base_of_another_graph_is_run_in_full(pair: tuple[Engine, Engine], rng: np.random.Generator) -> None:
    """The graph of a session that steers inside it has more nodes; nothing is left half done on either side."""
    batch, vector = one_batch(pair[0], rng), random_vector(pair[0], rng, (2,))
    for engine, other in (pair, pair[::-1]):
        base = other.base(batch, first_layer=2)
        found, results = run(engine, batch, Steering(vector, 0.5), base=base.kept)
        assert results[0].reason == "the graph differs from that of the base pass"
        np.testing.assert_array_equal(bits(found), bits(run(other, batch, Steering(vector, 0.5))[0]))
        np.testing.assert_array_equal(bits(engine.logits(batch)), bits(other.logits(batch)))


@pytest.mark.parametrize("name", ["plamo2", "hy-v4", "gemma3n"])
def test_what_cannot_be_steered_is_refused_as_ever(model: Models, name: str) -> None:
    """An error in the middle of a decode: the graph that is used again is llama.cpp's own."""
    path = model(name, "F32")
    n_seq_max = 1 if ARCHITECTURES[name].recurrent else 256
    with (
        Engine(path, n_ctx=512, threads=1, steer="graph") as engine,
        StockRunner(path, threads=1, n_seq_max=n_seq_max) as stock,
    ):
        for batch in engine.pack(queries_for(engine.n_vocab)):
            plain = stock.logits(batch)
            for _ in range(2):
                with pytest.raises(UnsteerableError, match="this model cannot be steered: its graph "):
                    engine.logits(batch, vector=vector_for(engine, [1, 3]), strengths=1.0)
                np.testing.assert_array_equal(engine.logits(batch), plain)
