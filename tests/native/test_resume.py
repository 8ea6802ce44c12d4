"""Resuming above the lower layers gives the bits of the full run, and leaves the graph as it found it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from places import ModelMaker
from random_queries import one_batch, random_queries, random_vector
from stock_llama import StockRunner

from steercpp.bench.models import SHAPES, make_model
from steercpp.choices import Operator
from steercpp.engine.engine import Engine
from steercpp.engine.packing import Query
from steercpp.engine.reference import log_softmax
from steercpp.engine.steering import Steering
from steercpp.errors import InputError

OPERATORS: tuple[Operator, ...] = ("add", "add-keep-norm", "ablate", "clamp", "cap", "rotate")


@pytest.fixture(scope="module", params=["tiny-F32", "embedded-Q8_0", "embedded-Q4_K_M", "stories260K-q8_0"])
def path(request: pytest.FixtureRequest, model_maker: ModelMaker) -> Path:
    return model_maker(request.param)


@pytest.fixture(scope="module")
def engine(path: Path) -> Iterator[Engine]:
    with Engine(path, n_ctx=512, threads=1) as opened:
        yield opened


def other_words(engine: Engine, queries: list[Query], rng: np.random.Generator) -> list[Query]:
    """The same tree with every token exchanged for another one."""
    exchanged = rng.permutation(engine.n_vocab).tolist()

    def exchange(tokens: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(exchanged[token] for token in tokens)

    return [Query(exchange(query.tokens), tuple(map(exchange, query.continuations))) for query in queries]


@pytest.mark.slow
@pytest.mark.parametrize("operator", OPERATORS)
def test_every_first_layer_equals_the_full_run(engine: Engine, rng: np.random.Generator, operator: Operator) -> None:
    check_every_first_layer(engine, rng, operator)


@pytest.mark.slow
@pytest.mark.skipif("STEERCPP_LARGE" not in os.environ, reason="takes minutes and 0.7 GB; set STEERCPP_LARGE=1")
@pytest.mark.parametrize("operator", OPERATORS)
def test_every_first_layer_of_a_large_model(rng: np.random.Generator, operator: Operator) -> None:
    """1.1B Q4_0, the model of `steercpp bench`."""
    with Engine(make_model(SHAPES["1.1b"], "q4_0"), n_ctx=256, threads=2) as engine:
        check_every_first_layer(engine, rng, operator, n_queries=2)


def check_every_first_layer(
    engine: Engine, rng: np.random.Generator, operator: Operator, *, n_queries: int = 8
) -> None:
    """A foreign batch of the same shape lies in between, so that no stale buffer holds the right values."""
    queries = random_queries(engine, rng, n_queries)
    (batch,), (foreign,) = engine.pack(queries), engine.pack(other_words(engine, queries, rng))
    assert batch.n_tokens == foreign.n_tokens
    any_vector = random_vector(engine, rng, tuple(range(engine.n_layer)))
    for first in range(engine.n_layer):
        vector = any_vector.restricted_to(range(first, engine.n_layer))
        # projections are small, so a cap has to be low
        steering = Steering(vector, -0.05 if operator == "cap" else 0.8, operator=operator)
        full = engine.logits(batch, steering=steering)
        base = engine.base(batch, first_layer=first)
        assert base.resumed, base.reason
        before = engine.token_layers
        np.testing.assert_array_equal(engine.logits(batch, steering=steering, base=base), full)
        assert engine.token_layers - before == batch.n_tokens * (engine.n_layer - first - 1)
        engine.logits(foreign, steering=steering)
        np.testing.assert_array_equal(engine.logits(batch, steering=steering, base=base), full)
        assert (full != engine.logits(batch)).any(), "the steering does nothing, so equality means nothing"


def test_a_base_measures_the_unsteered_batch(engine: Engine, rng: np.random.Generator) -> None:
    batch = one_batch(engine, rng)
    plain = engine.logprobs(batch)
    base = engine.base(batch, first_layer=1)
    np.testing.assert_array_equal(np.concatenate(base.logprobs), np.concatenate(plain))
    np.testing.assert_array_equal(np.concatenate(engine.logprobs(batch, base=base)), np.concatenate(plain))
    assert base.n_bytes == batch.n_tokens * engine.n_embd * 4


def test_no_op_of_the_graph_is_left_changed(path: Path, engine: Engine, rng: np.random.Generator) -> None:
    """llama.cpp uses its graphs again: after a resumed decode, one without any steering must be llama.cpp's own."""
    batch, vector = one_batch(engine, rng), random_vector(engine, rng)
    with StockRunner(path, n_ctx=512, threads=1) as stock:
        expected = stock.logits(batch)
    base = engine.base(batch, first_layer=1)
    for _ in range(2):
        engine.logits(batch, vector=vector, strengths=1.0, base=base)
        np.testing.assert_array_equal(engine.logits(batch), expected)


@pytest.mark.parametrize("n_batch", [7, 24])
def test_batches_of_many_pieces_are_resumed_piece_by_piece(
    model_maker: ModelMaker, rng: np.random.Generator, n_batch: int
) -> None:
    """A head shared by all and queries longer than a piece: trunks are copied in resumed passes as in full ones."""
    with Engine(model_maker("embedded-Q8_0"), n_ctx=512, n_batch=n_batch, threads=1) as engine:
        head = tuple(rng.integers(3, engine.n_vocab, 20).tolist())
        queries = [
            Query((1, *head, *rng.integers(3, engine.n_vocab, n).tolist()), ((5, 6), (5, 7), (9,))) for n in (30, 2, 9)
        ]
        (batch,) = engine.pack(queries)
        assert sum(len(part.pieces) for part in batch.passes) > 1
        vector = random_vector(engine, rng, (4, 6))
        full = engine.logits(batch, vector=vector, strengths=-1.5)
        base = engine.base(batch, first_layer=4)
        for other in engine.pack(random_queries(engine, rng)):
            engine.logits(other, vector=vector, strengths=1.0)
        np.testing.assert_array_equal(engine.logits(batch, vector=vector, strengths=-1.5, base=base), full)


def test_copying_rows_from_and_to_a_device_resumes_alike(tiny_path: Path, rng: np.random.Generator) -> None:
    with Engine(tiny_path, n_ctx=512, threads=1) as engine, Engine(tiny_path, n_ctx=512, threads=1) as copying:
        copying._session = copying.open_session(always_copy=True)
        batch, vector = one_batch(engine, rng), random_vector(engine, rng, (2, 3))
        base = copying.base(batch, first_layer=2)
        np.testing.assert_array_equal(
            copying.logits(batch, vector=vector, strengths=1.0, base=base),
            engine.logits(batch, vector=vector, strengths=1.0),
        )


def test_activations_of_the_first_steered_layer_in_a_resumed_pass(engine: Engine, rng: np.random.Generator) -> None:
    """Its rows are given, not computed, and steered and captured all the same."""
    batch, vector = one_batch(engine, rng), random_vector(engine, rng, (2, 3))
    base = engine.base(batch, first_layer=2)
    steering = Steering(vector, 0.7)
    full = engine.prompt_ends(batch, layers=(2, 3), steering=steering)
    resumed = engine.prompt_ends(batch, layers=(2, 3), steering=steering, base=base)
    for expected, found in zip(full, resumed, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_another_graph_than_the_bases_is_run_in_full(engine: Engine, rng: np.random.Generator) -> None:
    """llama.cpp's own control vector adds nodes below the layer to start from; nothing is left half done."""
    batch, vector = one_batch(engine, rng), random_vector(engine, rng, (1,))
    expected, plain = engine.stock_logits(batch, vector), engine.logits(batch)
    base = engine.base(batch, first_layer=engine.n_layer - 1)
    data = np.zeros((engine.n_layer - 1, engine.n_embd), np.float32)
    data[0] = vector.directions[1]
    with engine.session.stock_vector(data):
        np.testing.assert_array_equal(engine.logits(batch, base=base), expected)
    assert not base.resumed and base.reason == "the graph differs from that of the base pass"
    np.testing.assert_array_equal(engine.logits(batch), plain)


def test_a_base_is_for_its_own_batch_and_layers(engine: Engine, rng: np.random.Generator) -> None:
    batch, other = one_batch(engine, rng), one_batch(engine, rng)
    base = engine.base(batch, first_layer=2)
    with pytest.raises(InputError, match="the base is that of another batch"):
        engine.logits(other, base=base)
    with pytest.raises(InputError, match="layer 1 is steered, below the base's first layer 2"):
        engine.logits(batch, vector=random_vector(engine, rng, (1,)), strengths=1.0, base=base)


def test_measures_against_the_unsteered_rows(engine: Engine, rng: np.random.Generator) -> None:
    """KL, entropy and top-k of native code against the same from whole logits in float64."""
    batch, vector = one_batch(engine, rng), random_vector(engine, rng)
    base = engine.base(batch, first_layer=1, keep_logits=True)
    steering = Steering(vector, 0.5)
    found = engine.measures(batch, steering=steering, base=base, top_k=3)
    rows = [engine.logits(batch, steering=one).astype(np.float64) for one in (None, steering)]
    q, p = (row - np.log(np.exp(row - row.max(1, keepdims=True)).sum(1, keepdims=True)) - row.max(1, keepdims=True)
            for row in rows)  # fmt: skip
    # 1e-6 nats: exponentials are float32 in native code
    np.testing.assert_allclose(found.kl, (np.exp(p) * (p - q)).sum(1), atol=1e-5)
    np.testing.assert_allclose(found.entropy, -(np.exp(p) * p).sum(1), atol=1e-5)
    order = np.argsort(-p, axis=1, kind="stable")[:, :3]
    np.testing.assert_array_equal(found.top_tokens, order)
    np.testing.assert_allclose(found.top_logprobs, np.take_along_axis(p, order, 1), atol=1e-5)
    none = engine.measures(batch, steering=None, base=base)
    assert none.kl.max() < 1e-6 and none.top_tokens.shape == (len(p), 0)
    with pytest.raises(InputError, match="keep_logits=True"):
        engine.measures(batch, steering=None, base=engine.base(batch, first_layer=1))


def test_kl_from_the_unsteered_rows_token_by_token(engine: Engine, rng: np.random.Generator) -> None:
    """KL(unsteered || steered) where each token of each continuation is drawn, against whole logits in float64."""
    batch, vector = one_batch(engine, rng), random_vector(engine, rng)
    base = engine.base(batch, first_layer=1, keep_logits=True)
    steering = Steering(vector, 0.5)
    found = engine.answer_kl(batch, steering=steering, base=base)
    for place, query in enumerate(batch.queries):
        kl, steered, unsteered = [], [], []
        for continuation in query.continuations:
            # one sequence alone: rounded otherwise, K and V to 16 bits, and activations to 8 by quantized weights
            (alone,) = engine.pack([Query(query.tokens, (continuation,))])
            p, q = (log_softmax(engine.logits(alone, steering=acts)) for acts in (None, steering))
            kl.append((np.exp(p) * (p - q)).sum(1))
            places = np.arange(len(continuation)), list(continuation)
            steered.append(q[places])
            unsteered.append(p[places])
        tolerance = 0.1 if "q" in engine.path.name.lower() else 1e-3
        np.testing.assert_allclose(found[place].kl, np.concatenate(kl), atol=tolerance, rtol=tolerance)
        np.testing.assert_allclose(found[place].logprobs, np.concatenate(steered), atol=2 * tolerance)
        np.testing.assert_allclose(base.token_logprobs[place], np.concatenate(unsteered), atol=2 * tolerance)
        lengths = np.cumsum([len(continuation) for continuation in query.continuations])[:-1]
        sums = [of_one.sum() for of_one in np.split(base.token_logprobs[place], lengths)]
        np.testing.assert_allclose(sums, base.logprobs[place], rtol=1e-12)
    in_full = engine.answer_kl(batch, steering=steering, base=engine.base(batch, first_layer=0, keep_logits=True))
    for resumed, full in zip(found, in_full, strict=True):
        np.testing.assert_array_equal(resumed.kl, full.kl)
    with pytest.raises(InputError, match="keep_logits=True"):
        engine.answer_kl(batch, steering=steering, base=engine.base(batch, first_layer=1))


def test_an_unmoved_row_has_no_kl_at_all(engine: Engine, rng: np.random.Generator) -> None:
    """Bit-equal rows: exactly 0. A push is never below 0, and both ways are measured at once."""
    batch, vector = one_batch(engine, rng), random_vector(engine, rng)
    base = engine.base(batch, first_layer=1, keep_logits=True)
    for nothing in (None, Steering(vector, 0.0)):
        for of_query, logprobs in zip(
            engine.answer_kl(batch, steering=nothing, base=base), base.token_logprobs, strict=True
        ):
            assert (of_query.kl == 0).all()
            np.testing.assert_array_equal(of_query.logprobs, logprobs)
    for strength in (1e-4, 1e-2, 1.0):
        moved = engine.answer_kl(batch, steering=Steering(vector, strength), base=base)
        assert min(of_query.kl.min() for of_query in moved) >= 0
