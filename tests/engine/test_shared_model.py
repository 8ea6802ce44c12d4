"""One model serves several sessions: none of them changes what another computes, and each may end before the others."""

from __future__ import annotations

import gc
import threading
from pathlib import Path

import numpy as np
import pytest

from steercpp.engine.engine import Engine
from steercpp.engine.model import Model
from steercpp.engine.packing import Query
from steercpp.engine.steering import Steering
from steercpp.errors import EngineError, InputError
from steercpp.vectors.control_vector import ControlVector

QUERIES = [Query((1, *range(5, 5 + n)), ((7, 8), (9,))) for n in (3, 40, 70)]


def logits(engine: Engine) -> list[np.ndarray]:
    """Of each batch, unsteered and steered."""
    vector = ControlVector({1: np.ones(engine.n_embd, np.float32)}, engine.architecture, engine.n_layer)
    batches = engine.pack(QUERIES)
    return [engine.logits(batch, steering=steering) for batch in batches for steering in (None, Steering(vector, 2.0))]


def assert_same(values: list[np.ndarray], expected: list[np.ndarray]) -> None:
    for row, alone in zip(values, expected, strict=True):
        np.testing.assert_array_equal(row, alone)


@pytest.fixture(scope="module")
def narrow(tiny_path: Path) -> list[np.ndarray]:
    with Engine(tiny_path, threads=1, n_ctx=128, n_batch=32) as engine:
        return logits(engine)


@pytest.fixture(scope="module")
def wide(tiny_path: Path) -> list[np.ndarray]:
    with Engine(tiny_path, threads=1, n_ctx=512, type_k="f32", type_v="f32") as engine:
        return logits(engine)


def test_two_engines_on_one_model_have_the_bits_of_two_apart(
    tiny_path: Path, narrow: list[np.ndarray], wide: list[np.ndarray]
) -> None:
    model = Model(tiny_path)
    with Engine(model=model, threads=1, n_ctx=512, type_k="f32", type_v="f32") as lasting:
        with Engine(model=model, threads=1, n_ctx=128, n_batch=32) as short:
            assert short.model is lasting.model is model and short.vocabulary is lasting.vocabulary
            assert (short.n_ctx, lasting.n_ctx) == (128, 512)
            assert_same(logits(short), narrow)
            assert_same(logits(lasting), wide)
            assert_same(logits(short), narrow)
        assert_same(logits(lasting), wide)  # the other one is closed
        with pytest.raises(EngineError, match="the engine is closed"):
            short.logits(short.pack(QUERIES)[0])
        assert short.encode("a cat") == lasting.encode("a cat")


def test_threads_share_a_model(tiny_path: Path, narrow: list[np.ndarray], wide: list[np.ndarray]) -> None:
    model = Model(tiny_path)
    narrow_engine = Engine(model=model, threads=1, n_ctx=128, n_batch=32)
    wide_engine = Engine(model=model, threads=1, n_ctx=512, type_k="f32", type_v="f32")
    of_thread: list[list[np.ndarray]] = []
    thread = threading.Thread(target=lambda: of_thread.extend(logits(narrow_engine) for _ in range(3)))
    thread.start()
    mine = [logits(wide_engine) for _ in range(3)]
    thread.join()
    assert len(of_thread) == 3
    for values in of_thread:
        assert_same(values, narrow)
    for values in mine:
        assert_same(values, wide)


def test_a_session_keeps_its_model(tiny_path: Path, narrow: list[np.ndarray]) -> None:
    engine = Engine(model=Model(tiny_path), threads=1, n_ctx=128, n_batch=32)
    (part,) = [part for batch in engine.pack(QUERIES[:1]) for part in batch.passes]
    before = engine.session.decode(part).logprobs.tobytes()
    session = engine.open_session()
    del engine
    gc.collect()
    assert session.model.path == tiny_path
    assert session.decode(part).logprobs.tobytes() == before


def test_a_loaded_model_stays_where_it_is(tiny_path: Path) -> None:
    model = Model(tiny_path)
    with pytest.raises(InputError, match="the model is loaded and stays where it is"):
        Engine(model=model, use_mmap=True)
    for both_or_none in ({"model_path": tiny_path, "model": model}, {}):
        with pytest.raises(InputError, match="either the path of a model or a `model`"):
            Engine(**both_or_none)  # type: ignore[arg-type]
