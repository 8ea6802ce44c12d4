"""Ctrl-C in the middle of native work: heard after a piece of a batch or a tensor of a file, and all is well then."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import numpy as np
import pytest
from random_queries import random_vector

from steercpp.engine.batch import Batch, Query
from steercpp.engine.engine import Engine
from steercpp.engine.model import Model
from steercpp.engine.session import Wanted
from steercpp.errors import EngineError, InputError


@contextmanager
def signals(handler: Callable[[], None]) -> Iterator[None]:
    """SIGINT again and again, from another thread, while the block lasts; the handler may raise."""
    ended = threading.Event()

    def send() -> None:
        while not ended.wait(0.01):
            signal.raise_signal(signal.SIGINT)

    def handle(number: int, frame: FrameType | None) -> None:
        if not ended.is_set():
            handler()

    before = signal.signal(signal.SIGINT, handle)
    sender = threading.Thread(target=send)
    sender.start()
    try:
        yield
    finally:
        ended.set()
        sender.join()
        signal.signal(signal.SIGINT, before)


@pytest.fixture(params=["callback", "graph"])
def engine(request: pytest.FixtureRequest, tiny_path: Path) -> Iterator[Engine]:
    with Engine(tiny_path, n_ctx=512, n_batch=8, threads=1, steer=request.param) as opened:
        yield opened


@pytest.fixture
def long_batch(engine: Engine, rng: np.random.Generator) -> Batch:
    """Almost forty pieces."""
    (batch,) = engine.pack([Query(tuple(rng.integers(3, engine.n_vocab, 300).tolist()), ((5,), (6,)))])
    return batch


def interrupt(engine: Engine, work: Callable[[], object]) -> None:
    """Raise KeyboardInterrupt in the middle of work: where the engine's session is in use when the handler runs."""
    (probe,) = engine.pack([Query((1, 5, 6), ((7,),))])
    probing = threading.Lock()

    def handler() -> None:
        if not probing.acquire(blocking=False):  # a signal in the middle of the probe itself
            return
        try:
            engine.logits(probe)
        except EngineError:
            raise KeyboardInterrupt from None
        finally:
            probing.release()

    with pytest.raises(KeyboardInterrupt), signals(handler):
        for _ in range(50):  # a signal may come between two of them
            work()


def test_a_decode_ends_between_two_pieces_and_the_next_one_is_right(
    engine: Engine, long_batch: Batch, rng: np.random.Generator
) -> None:
    vector = random_vector(engine, rng, (2, 3))
    base = engine.base(long_batch, first_layer=2)
    plain, steered = engine.logits(long_batch), engine.logits(long_batch, vector=vector)
    works: list[Callable[[], object]] = [
        lambda: engine.logits(long_batch),
        lambda: engine.logits(long_batch, vector=vector, base=base),
        lambda: engine.base(long_batch, first_layer=2),
        lambda: engine.activations([query.tokens for query in long_batch.queries], layers=[1]),
    ]
    for work in works:
        interrupt(engine, work)
        np.testing.assert_array_equal(engine.logits(long_batch, vector=vector, base=base), steered)
        interrupt(engine, work)
        np.testing.assert_array_equal(engine.logits(long_batch), plain)


def test_nothing_goes_on_from_an_interrupted_pass(engine: Engine, long_batch: Batch) -> None:
    """Only some of its tokens are in the memory."""
    interrupt(engine, lambda: engine.logits(long_batch))
    (short,) = engine.pack([Query((1, 5, 6), ((7,),))])
    with pytest.raises(InputError, match="that did not reach its end"):
        engine.session.decode(short.passes[0], wanted=Wanted(), fresh=False)


def test_another_exception_of_a_handler_passes_through(engine: Engine, long_batch: Batch) -> None:
    def handler() -> None:
        raise TimeoutError("enough")

    with pytest.raises(TimeoutError, match="enough"), signals(handler):
        for _ in range(50):
            engine.logits(long_batch)


def test_a_model_is_loaded_after_an_interrupted_one(tiny_path: Path) -> None:
    def handler() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), signals(handler):
        while True:
            Model(tiny_path)
    assert Model(tiny_path).n_layer == 4
