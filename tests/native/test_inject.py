"""Steering inside the graph has the bits of the callback, resumed or not, and leaves the graph as it found it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from architecture_table import FIRST_LAYERS, STRENGTHS, foreign, queries_for, vector_for
from architectures import ARCHITECTURES
from places import ModelMaker
from random_queries import one_batch, random_queries, random_vector
from rpc_server import Server
from stock_llama import StockRunner
from tiny_model import quantize

from steercpp import _native
from steercpp.aliases import FloatArray
from steercpp.engine.engine import Engine
from steercpp.engine.model import Model
from steercpp.engine.operations import native_operations
from steercpp.engine.packing import Batch, Query
from steercpp.engine.session import Kept, Result, Wanted
from steercpp.engine.steering import Steering
from steercpp.errors import NonFiniteError, UnsteerableError
from steercpp.vectors.control_vector import ControlVector

STEERABLE = [name for name, architecture in ARCHITECTURES.items() if not architecture.refused]
ON_SERVER = ("llama-gqa", "llama-moe", "qwen3", "gemma2", "gemma4-shared", "phi3", "mamba2", "jamba")
Models = Callable[[str, str], Path]  # by name and type


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Models:
    folder = tmp_path_factory.mktemp("architectures")

    @cache
    def make(name: str, file_type: str) -> Path:
        if file_type == "F32":
            return ARCHITECTURES[name].write(folder / f"{name}.gguf")
        return quantize(make(name, "F32"), folder / f"{name}-{file_type}.gguf", file_type)

    return make


@pytest.fixture(scope="module")
def server() -> str:
    assert _native.supports_rpc(), "llama-cpp-python was compiled without RPC; `make test` compiles it again"
    return Server().address


def run(
    engine: Engine, batch: Batch, steering: Sequence[Steering] | Steering, *, base: Sequence[Kept] = (), keep: int = -1
) -> tuple[FloatArray, list[Result]]:
    """Logits of the batch's output rows, and what each pass came to."""
    by_query = tuple((one,) for one in ([steering] * len(batch.queries) if isinstance(steering, Steering) else steering))
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


def check_a_model(model: Model, flash_attn: str, *, on_device: bool = False) -> None:
    """Strengths side by side, full and resumed at every first layer, against the callback and llama.cpp's own."""
    options = {"n_ctx": 512, "threads": 1, "flash_attn": flash_attn}
    with Engine(model=model, steer="graph", **options) as inside, Engine(model=model, steer="callback", **options) as by:
        queries = queries_for(inside.n_vocab)
        any_vector = vector_for(inside, FIRST_LAYERS)
        asked = [Steering(any_vector, strength) for strength in STRENGTHS]
        for batch in inside.pack(queries, asked):
            of_batch = [asked[query] for query in batch.members]
            found, results = run(inside, batch, of_batch)
            expected, cut = run(by, batch, of_batch)
            np.testing.assert_array_equal(bits(found), bits(expected))
            pieces = sum(len(part.pieces) for part in batch.passes)
            assert sum(result.n_cuts for result in results) == 0
            is_steered = any(one.strength for one in of_batch)
            assert sum(result.n_cuts for result in cut) == pieces * len(FIRST_LAYERS) * is_steered
            owners = np.concatenate([part.owners[part.outputs == 1] for part in batch.passes])
            for place, one in enumerate(of_batch):
                pushed = {il: np.float32(one.strength) * row for il, row in any_vector.directions.items()}
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
                    assert not base.resumed or bool(n_cuts) == (first == 1)  # block 0 has no control vector
                np.testing.assert_array_equal(inside.logits(batch), by.logits(batch))
    assert on_device == model.native.uses_devices


@pytest.mark.parametrize("file_type", ["F32", "Q8_0"])
@pytest.mark.parametrize("name", STEERABLE)
def test_every_architecture_has_the_callbacks_bits(model: Models, name: str, file_type: str) -> None:
    check_a_model(Model(model(name, file_type)), "off" if file_type == "F32" else "on")


@pytest.mark.parametrize("n_gpu_layers", [-1, 3])
@pytest.mark.parametrize("name", ON_SERVER)
def test_on_a_server_too(model: Models, server: str, name: str, n_gpu_layers: int) -> None:
    from steercpp.engine.devices import DeviceOptions

    there = Model(model(name, "F32"), DeviceOptions(n_gpu_layers=n_gpu_layers, rpc=server))
    check_a_model(there, "off", on_device=True)
