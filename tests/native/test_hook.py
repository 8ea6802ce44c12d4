"""Steering is llama.cpp's own, bit for bit, with a strength for every row."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from places import ModelMaker
from random_queries import STRENGTHS, one_batch, output_owners, random_queries, random_vector
from stock_llama import StockRunner

from steercpp.choices import FlashAttention
from steercpp.engine.engine import Engine
from steercpp.engine.packing import Query


@pytest.fixture(scope="module")
def engine(any_model: Path) -> Iterator[Engine]:
    with Engine(any_model, n_ctx=512, threads=1) as opened:
        yield opened


@pytest.fixture(scope="module")
def stock(any_model: Path) -> Iterator[StockRunner]:
    with StockRunner(any_model, n_ctx=512, threads=1) as runner:
        yield runner


@pytest.mark.parametrize("strength", [strength for strength in STRENGTHS if strength])
def test_add_equals_the_stock_control_vector(
    engine: Engine, stock: StockRunner, rng: np.random.Generator, strength: float
) -> None:
    batch, vector = one_batch(engine, rng), random_vector(engine, rng)
    stock.set_vector(vector.directions, strength)
    expected = stock.logits(batch)
    stock.set_vector(None)
    steered = engine.logits(batch, vector=vector, strengths=strength)
    np.testing.assert_array_equal(steered, expected)
    assert (steered != engine.logits(batch)).any(), "the vector does nothing, so equality means nothing"


def test_unsteered_equals_stock(engine: Engine, stock: StockRunner, rng: np.random.Generator) -> None:
    batch, vector = one_batch(engine, rng), random_vector(engine, rng)
    stock.set_vector(None)
    expected = stock.logits(batch)
    np.testing.assert_array_equal(engine.logits(batch), expected)
    np.testing.assert_array_equal(engine.logits(batch, vector=vector, strengths=0.0), expected)


def test_each_row_equals_its_own_stock_run_of_the_same_batch(
    engine: Engine, stock: StockRunner, rng: np.random.Generator
) -> None:
    batch, vector = one_batch(engine, rng, apart=True), random_vector(engine, rng)
    steered = engine.logits(batch, vector=vector, strengths=STRENGTHS)
    owners = output_owners(batch)
    for place, strength in enumerate(STRENGTHS):
        stock.set_vector(vector.directions, strength)
        np.testing.assert_array_equal(steered[owners == place], stock.logits(batch)[owners == place])
    stock.set_vector(None)


@pytest.mark.parametrize("strength", [-0.3, 2.0])
def test_a_layer_moves_by_exactly_what_is_added(engine: Engine, rng: np.random.Generator, strength: float) -> None:
    prompts = [query.tokens for query in random_queries(engine, rng)]
    base = engine.activations(prompts)
    for il in range(engine.n_layer):  # block 0 too, which llama.cpp itself cannot steer, and the last
        vector = random_vector(engine, rng, (il,))
        steered = engine.activations(prompts, vector=vector, strengths=strength)
        np.testing.assert_array_equal(steered[:, :il], base[:, :il])
        # one product and one sum in float32, rounded each: the very bits
        expected = base[:, il] + np.float32(strength) * vector.directions[il]
        np.testing.assert_array_equal(steered[:, il], expected)
        assert il == engine.n_layer - 1 or (steered[:, il + 1] != base[:, il + 1]).any()


def test_rows_captured_side_by_side_carry_their_own_strength(engine: Engine, rng: np.random.Generator) -> None:
    prompts = [query.tokens for query in random_queries(engine, rng)]
    vector, above = random_vector(engine, rng, (1,)), random_vector(engine, rng, (2,))
    # steered above, so that it is packed as apart as what follows
    base = engine.activations(prompts, layers=[1], vector=above, strengths=STRENGTHS)[:, 0]
    steered = engine.activations(prompts, layers=[1], vector=vector, strengths=STRENGTHS)[:, 0]
    steps = np.array(STRENGTHS, np.float32)[:, None] * vector.directions[1]
    np.testing.assert_array_equal(steered, base + steps)
    np.testing.assert_array_equal(steered[STRENGTHS.index(0.0)], base[STRENGTHS.index(0.0)])


@pytest.mark.parametrize("n_batch", [7, 16])
def test_queries_longer_than_a_batch_equal_stock(any_model: Path, rng: np.random.Generator, n_batch: int) -> None:
    with (
        Engine(any_model, n_ctx=512, n_batch=n_batch, threads=1) as engine,
        StockRunner(any_model, n_ctx=512, n_batch=n_batch, threads=1) as stock,
    ):
        tokens = rng.integers(3, engine.n_vocab, 45).tolist()
        query = Query((1, *tokens[:30]), (tuple(tokens[30:38]), tuple(tokens[38:])))
        (batch,) = engine.pack([query])
        vector = random_vector(engine, rng)
        stock.set_vector(vector.directions, 0.7)
        np.testing.assert_array_equal(engine.logits(batch, vector=vector, strengths=0.7), stock.logits(batch))


def test_cutting_a_long_query_only_moves_rounding(tiny_path: Path, rng: np.random.Generator) -> None:
    """Per-row strengths, captured rows and scores find their rows in every piece of a cut query."""
    with (
        Engine(tiny_path, n_ctx=512, n_batch=512, threads=1, type_k="f32", type_v="f32") as whole,
        Engine(tiny_path, n_ctx=512, n_batch=9, threads=1, type_k="f32", type_v="f32") as cut,
    ):
        queries = [Query(tuple(rng.integers(3, whole.n_vocab, n).tolist()), ((5, 6, 7), (8,))) for n in (40, 3, 25)]
        prompts = [query.tokens for query in queries]
        vector = random_vector(whole, rng, (0, 2, 3))
        strengths = (1.5, -0.5, 0.25)
        expected = whole.logprobs(whole.pack(queries)[0], vector=vector, strengths=strengths)
        found = [
            cut.logprobs(batch, vector=vector, strengths=strengths[batch.members[0]])[0] for batch in cut.pack(queries)
        ]
        # Sums over other shapes differ by float32 roundings, 1e-7 of the largest terms; a wrong row differs by 1.
        np.testing.assert_allclose(np.concatenate(found), np.concatenate(expected), rtol=0, atol=1e-4)
        np.testing.assert_allclose(
            cut.activations(prompts, vector=vector, strengths=strengths),
            whole.activations(prompts, vector=vector, strengths=strengths),
            rtol=0,
            atol=1e-4,
        )


@pytest.mark.parametrize("flash_attn", ["on", "auto"])
def test_add_equals_stock_under_flash_attention(
    model_maker: ModelMaker, rng: np.random.Generator, flash_attn: FlashAttention
) -> None:
    path = model_maker("tiny-Q8_0")
    with (
        Engine(path, n_ctx=512, threads=1, flash_attn=flash_attn) as engine,
        StockRunner(path, n_ctx=512, threads=1, flash_attn=flash_attn) as stock,
    ):
        batch, vector = one_batch(engine, rng), random_vector(engine, rng)
        stock.set_vector(vector.directions, 1.0)
        np.testing.assert_array_equal(engine.logits(batch, vector=vector, strengths=1.0), stock.logits(batch))


def test_copying_rows_from_and_to_a_device_gives_the_same_bits(tiny_path: Path, rng: np.random.Generator) -> None:
    """Tensors outside host memory take this path; here every tensor is made to."""
    with Engine(tiny_path, n_ctx=512, threads=1) as engine, Engine(tiny_path, n_ctx=512, threads=1) as copying:
        copying._session = copying.open_session(always_copy=True)
        batch, vector = one_batch(engine, rng, apart=True), random_vector(engine, rng, (0, 2, 3))
        prompts = [query.tokens for query in batch.queries]
        for strengths in (STRENGTHS, (0.0,) * 7 + (1.0,)):  # the second: a span that starts inside the tensor
            np.testing.assert_array_equal(
                copying.logits(batch, vector=vector, strengths=strengths),
                engine.logits(batch, vector=vector, strengths=strengths),
            )
            np.testing.assert_array_equal(
                copying.activations(prompts, vector=vector, strengths=strengths),
                engine.activations(prompts, vector=vector, strengths=strengths),
            )
