"""Steering in models of many architectures: exact where it is done, refused in plain words where it cannot be."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from architecture_table import (
    DOCUMENT,
    FIRST_LAYERS,
    Findings,
    document,
    examine,
    queries_for,
    resume,
    stock_difference,
    vector_for,
)
from architectures import ARCHITECTURES, STEERABLE, Models
from stock_llama import StockRunner

from steercpp.choices import FlashAttention
from steercpp.engine.engine import Engine
from steercpp.engine.packing import Batch, BatchLimits, Query, pack
from steercpp.errors import UnsteerableError
from steercpp.vectors.control_vector import ControlVector

Examined = Callable[[str, str], Findings]

REFUSED = [name for name, architecture in ARCHITECTURES.items() if architecture.refused]
FLASH_ATTENTION: dict[str, FlashAttention] = {"F32": "off", "Q8_0": "on"}  # by type


@pytest.fixture(scope="module")
def examined(model: Models) -> Examined:
    return cache(lambda name, file_type: examine(model(name, file_type), FLASH_ATTENTION[file_type]))


@pytest.fixture(params=[(name, file_type) for name in STEERABLE for file_type in FLASH_ATTENTION], ids="-".join)
def found(request: pytest.FixtureRequest, examined: Examined) -> Findings:
    findings = examined(*request.param)
    assert not findings.refusal
    return findings


def stock_runner(path: Path, name: str) -> StockRunner:
    return StockRunner(path, threads=1, n_seq_max=1 if ARCHITECTURES[name].recurrent else 256)


def prompt_logits(stock: StockRunner, prompt: np.ndarray) -> np.ndarray:
    """(n_vocab,) after the prompt."""
    (batch,) = pack([Query(tuple(prompt.tolist()))], BatchLimits(n_batch=256, n_ctx=512, n_seq_max=1))
    logits: np.ndarray = stock.logits(batch)[0]
    return logits


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_model_is_one_worth_testing(model: Models, name: str) -> None:
    """Logits are finite, spread out, and depend on every token before: else equality of bits would show little."""
    prompt = np.arange(3, 15)
    with stock_runner(model(name, "F32"), name) as stock:
        plain = prompt_logits(stock, prompt)
        assert np.isfinite(plain).all()
        assert plain.std() > 0.5
        for place in range(len(prompt)):
            changed = prompt.copy()
            changed[place] += 100
            # Where a sliding window ends, tokens still reach the last one through the layers.
            assert np.abs(prompt_logits(stock, changed) - plain).max() > 0.1


def test_every_layer_moves_by_exactly_what_is_added(found: Findings) -> None:
    assert found.identity_error == 0


def test_add_equals_llama_cpps_own_vector(found: Findings) -> None:
    assert found.stock_difference == 0


def test_rows_keep_their_order(found: Findings) -> None:
    assert found.row_difference == 0


def test_starting_above_equals_the_full_pass(found: Findings) -> None:
    assert found.resume_difference == 0


@pytest.mark.parametrize("name", STEERABLE)
def test_small_pieces(model: Models, name: str) -> None:
    """What a piece finds of those before it, K and V or a state, is right above the layer and never used below."""
    with Engine(model(name, "F32"), n_ctx=512, n_batch=8, threads=1) as engine:
        queries = queries_for(engine.n_vocab)
        assert max(len(part.pieces) for batch in engine.pack(queries) for part in batch.passes) > 1
        assert stock_difference(engine, queries, n_batch=8) == 0
        for first, expected in zip(FIRST_LAYERS, ARCHITECTURES[name].left_out, strict=True):
            difference, n_left_out, _ = resume(engine, queries, first)
            assert (difference, n_left_out) == (0, expected), first


@pytest.mark.parametrize("name", STEERABLE)
@pytest.mark.parametrize("file_type", FLASH_ATTENTION)
def test_as_much_is_left_out_as_can_be(examined: Examined, name: str, file_type: str) -> None:
    found, expected = examined(name, file_type), ARCHITECTURES[name]
    assert found.left_out == expected.left_out
    for first, n_left_out, reason in zip(FIRST_LAYERS, found.left_out, found.reasons, strict=True):
        assert reason == ("" if n_left_out else "the blocks above need what every block below computes"), first
    assert (found.n_together == 1) == expected.recurrent


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_steered_is_refused(model: Models, name: str) -> None:
    """Whatever is asked, in the same words, and the engine goes on with what it can do."""
    path, expected = model(name, "F32"), ARCHITECTURES[name]
    with Engine(path, n_ctx=512, threads=1) as engine, stock_runner(path, name) as stock:
        assert engine.is_recurrent == expected.recurrent
        vector = vector_for(engine, [1])
        for batch in engine.pack(queries_for(engine.n_vocab)):
            plain = stock.logits(batch)
            np.testing.assert_array_equal(engine.logits(batch), plain)
            for ask in (steered, captured, resumed):
                with pytest.raises(UnsteerableError) as caught:
                    ask(engine, batch, vector)
                message = str(caught.value)
                assert message.startswith(f"{path}: this model cannot be steered: its graph ")
                assert expected.refused in message and message.endswith("; use another model")
                np.testing.assert_array_equal(engine.logits(batch), plain)
            stock.set_vector(vector.directions)
            assert (stock.logits(batch) != plain).any() == expected.stock
            stock.set_vector(None)


def steered(engine: Engine, batch: Batch, vector: ControlVector) -> None:
    engine.logits(batch, vector=vector, strengths=1.0)


def captured(engine: Engine, batch: Batch, _: ControlVector) -> None:
    engine.activations([query.tokens for query in batch.queries], layers=[1])


def resumed(engine: Engine, batch: Batch, vector: ControlVector) -> None:
    engine.logits(batch, vector=vector, strengths=1.0, base=engine.base(batch, first_layer=1))


def test_the_document_says_what_is_measured(examined: Examined) -> None:
    measured = document({name: examined(name, "F32") for name in ARCHITECTURES})
    assert DOCUMENT.read_text(encoding="utf-8") == measured, "run: make table NAME=architecture"
