"""`apply`: a llama_cpp.Llama steered exactly as llama.cpp steers, and in no way afterwards.

Equal means equal to the bit: the same rows in the same batches give the same bits.
"""

from __future__ import annotations

import pickle
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
import pytest
from architectures import ARCHITECTURES
from llama_cpp.llama_cache import LlamaRAMCache
from stock_llama import StockRunner

from steercpp.engine.apply import apply
from steercpp.engine.batch import Query
from steercpp.engine.engine import Engine
from steercpp.errors import (
    DegenerateError,
    EngineError,
    InputError,
    LayerError,
    ShapeError,
    SteerError,
    StrengthError,
    UnsteerableError,
    VectorFileError,
)
from steercpp.vectors.control_vector import ControlVector
from steercpp.vectors.formats import write_any_vector
from steercpp.vectors.gguf import write_vector

WORDS = b"Do you like the world and the people in it"
STRENGTH = 3.0


@pytest.fixture(scope="module")
def llama(tiny_path: Path) -> Iterator[llama_cpp.Llama]:
    made = llama_cpp.Llama(
        str(tiny_path), n_ctx=256, n_batch=64, n_threads=1, n_threads_batch=1, logits_all=True, verbose=False
    )
    yield made
    made.close()


@pytest.fixture
def vector(rng: np.random.Generator) -> ControlVector:
    rows = {il: rng.standard_normal(256).astype(np.float32) for il in (1, 3)}
    return ControlVector(rows, "llama", 4)


def logits(llama: llama_cpp.Llama, words: bytes = WORDS) -> np.ndarray:
    """(n_tokens, n_vocab) after each token of a prompt, from an empty memory."""
    tokens = llama.tokenize(words)
    llama.reset()  # type: ignore[no-untyped-call]
    llama.eval(tokens)
    return np.array(llama.scores[: len(tokens)])


def complete(llama: llama_cpp.Llama, words: bytes = WORDS) -> str:
    found = llama.create_completion(words.decode(), max_tokens=12, temperature=0.0)
    assert isinstance(found, dict)
    return found["choices"][0]["text"]


def test_logits_are_llama_cpps_own_inside_and_unsteered_after(
    llama: llama_cpp.Llama, vector: ControlVector, tiny_path: Path
) -> None:
    before = logits(llama)
    with apply(llama, vector, STRENGTH) as same:
        assert same is llama
        steered = logits(llama)
    np.testing.assert_array_equal(logits(llama), before)
    tokens = tuple(llama.tokenize(WORDS))
    query = Query(tokens[:1], ((*tokens[1:], tokens[0]),))  # every token an output
    with Engine(tiny_path, threads=1, n_ctx=256) as engine, StockRunner(tiny_path, n_ctx=256, n_batch=64) as stock:
        (batch,) = engine.pack([query])
        np.testing.assert_array_equal(stock.logits(batch), before)
        stock.set_vector(vector.directions, STRENGTH)
        np.testing.assert_array_equal(stock.logits(batch), steered)
        np.testing.assert_array_equal(engine.logits(batch, vector=vector, strengths=STRENGTH), steered)
    assert np.abs(steered - before).max() > 0.1


def test_a_file_will_do_and_strength_0_steers_nothing(
    llama: llama_cpp.Llama, vector: ControlVector, tmp_path: Path
) -> None:
    write_vector(tmp_path / "v.gguf", vector)
    before = logits(llama)
    with apply(llama, vector):
        once = logits(llama)
    write_any_vector(tmp_path / "v.npz", vector)
    for path in (tmp_path / "v.gguf", str(tmp_path / "v.npz")):
        with apply(llama, path):
            np.testing.assert_array_equal(logits(llama), once)
    with apply(llama, vector, 0.0):
        np.testing.assert_array_equal(logits(llama), before)


def test_a_later_vector_leaves_nothing_of_an_earlier_one(llama: llama_cpp.Llama, vector: ControlVector) -> None:
    """llama.cpp keeps what a shorter buffer does not reach."""
    with apply(llama, vector.restricted_to([1])):
        expected = logits(llama)
    with apply(llama, vector.restricted_to([3]), 50.0):
        pass
    with apply(llama, vector.restricted_to([1])):
        np.testing.assert_array_equal(logits(llama), expected)


def test_the_same_prompt_is_never_gone_on_with_at_another_strength(
    llama: llama_cpp.Llama, vector: ControlVector, tiny_path: Path
) -> None:
    """A Llama skips the beginning that a prompt shares with the last one; the texts must be those of fresh ones."""

    def fresh(strength: float) -> str:
        other = llama_cpp.Llama(
            str(tiny_path), n_ctx=256, n_batch=64, n_threads=1, n_threads_batch=1, logits_all=True, verbose=False
        )
        if strength:
            with apply(other, vector, strength):
                text = complete(other)
        else:
            text = complete(other)
        other.close()
        return text

    texts = []
    for strength in (STRENGTH, -STRENGTH):
        texts.append(complete(llama))
        with apply(llama, vector, strength):
            texts.append(complete(llama))
            assert complete(llama) == texts[-1]  # inside, going on is right
    texts.append(complete(llama))
    assert texts == [fresh(s) for s in (0, STRENGTH, 0, -STRENGTH, 0)]
    assert len(set(texts)) == 3


def test_the_prompt_cache_is_put_aside_and_comes_back_untouched(llama: llama_cpp.Llama, vector: ControlVector) -> None:
    cache = LlamaRAMCache()
    llama.set_cache(cache)
    try:
        plain = complete(llama)
        kept = list(cache.cache_state.items())
        assert len(kept) == 1
        with apply(llama, vector, STRENGTH):
            assert vars(llama)["cache"] is None
            steered = complete(llama)
            llama.set_cache(LlamaRAMCache())  # one of the block's own goes with it
            assert complete(llama) == steered != plain
        assert llama.cache is cache and list(cache.cache_state.items()) == kept
        llama.reset()  # type: ignore[no-untyped-call]
        assert complete(llama) == plain  # from the cache
    finally:
        llama.set_cache(None)


def test_an_exception_ends_it_all_the_same(llama: llama_cpp.Llama, vector: ControlVector) -> None:
    before = logits(llama)
    cache = LlamaRAMCache()
    llama.set_cache(cache)
    with pytest.raises(ZeroDivisionError), apply(llama, vector, STRENGTH):
        complete(llama)
        raise ZeroDivisionError
    assert llama.cache is cache and "generate" not in vars(llama)
    llama.set_cache(None)
    np.testing.assert_array_equal(logits(llama), before)


def test_a_text_begun_inside_cannot_be_gone_on_with_outside(llama: llama_cpp.Llama, vector: ControlVector) -> None:
    plain = complete(llama)
    with apply(llama, vector, STRENGTH):
        stream = llama.create_completion(WORDS.decode(), max_tokens=12, temperature=0.0, stream=True)
        assert not isinstance(stream, dict)
        next(stream)
        tokens = llama.generate(llama.tokenize(WORDS), temp=0.0)
        assert isinstance(next(tokens), int) and isinstance(tokens.send([5]), int)
        untouched = llama.generate(llama.tokenize(WORDS), temp=0.0)
    assert complete(llama) == plain
    for begun in (tokens, untouched):  # one that was never asked used to give a first token, unsteered
        with pytest.raises(EngineError, match="begun inside apply"):
            next(begun)
    with apply(llama, vector), pytest.raises(EngineError, match="begun inside apply"):
        list(stream)  # another block is not its own
    with apply(llama, vector, STRENGTH):
        left = llama.generate(llama.tokenize(WORDS), temp=0.0)
        next(left)
    left.close()
    assert complete(llama) == plain


def test_a_text_begun_before_cannot_be_gone_on_with(llama: llama_cpp.Llama, vector: ControlVector) -> None:
    """Its memory is gone with the block's begin: it went on without its prompt, inside and behind."""
    plain = complete(llama)

    def streams() -> list[Iterator[object]]:
        words, tokens = WORDS.decode(), llama.tokenize(WORDS)
        greedy: Any = {"max_tokens": 12, "temperature": 0.0, "stream": True}
        made: list[Any] = [
            llama.create_completion(words, **greedy),
            llama.create_chat_completion([{"role": "user", "content": words}], **greedy),
            llama(words, **greedy),
            llama.generate(tokens, temp=0.0),
            type(llama).generate(llama, tokens, temp=0.0),
        ]
        return [iter(stream) for stream in made]

    for k in range(5):
        for strength in (STRENGTH, 0.0):
            inside, behind = streams()[k], streams()[k]
            for stream in (inside, behind):  # the second is begun behind the first, as a Llama allows
                next(stream)
                next(stream)
            with apply(llama, vector, strength):
                with pytest.raises(EngineError, match=r"begun before apply\(\) and its memory is gone"):
                    list(stream for stream in [next(inside) for _ in range(20)])
                complete(llama)
            with pytest.raises(EngineError, match="begun before apply"):
                list(behind)
            assert complete(llama) == plain
    assert untouched(llama)


def untouched(llama: llama_cpp.Llama) -> bool:
    """Whether nothing of a block is left on a Llama."""
    return not {"generate", "eval", "sample", "reset", "save_state", "load_state"} & set(vars(llama))


def test_a_text_begun_by_a_method_taken_before_is_no_way_around(llama: llama_cpp.Llama, vector: ControlVector) -> None:
    generate = llama.generate
    not_begun = generate(llama.tokenize(WORDS), temp=0.0)
    with apply(llama, vector, STRENGTH):
        inside = generate(llama.tokenize(WORDS), temp=0.0)
        next(inside)
        with pytest.raises(EngineError, match="begun before apply"):
            next(not_begun)
    with pytest.raises(EngineError, match="begun inside apply"):
        next(inside)


def test_reading_on_behind_a_border_is_refused(llama: llama_cpp.Llama, vector: ControlVector) -> None:
    tokens = llama.tokenize(WORDS)
    more = llama.tokenize(b" and more", add_bos=False)
    uses: tuple[Callable[[], object], ...] = (
        lambda: llama.eval(more),
        lambda: llama.sample(temp=0.0),
        lambda: next(llama.generate(more, reset=False, temp=0.0)),
    )
    for use in uses:
        logits(llama)
        with apply(llama, vector, STRENGTH):
            with pytest.raises(EngineError, match=r"forgotten at the border of apply\(\); call reset"):
                use()
            llama.reset()  # type: ignore[no-untyped-call]
            llama.eval(more)  # begun anew
        with pytest.raises(EngineError, match="forgotten at the border"):
            use()
        complete(llama)
        assert untouched(llama)
    with apply(llama, vector, STRENGTH):
        steered = logits(llama)
    with apply(llama, vector, STRENGTH):  # the whole text, by its begin-of-sequence token
        llama.eval(tokens)
        np.testing.assert_array_equal(np.array(llama.scores[: len(tokens)]), steered)
    llama.reset()  # type: ignore[no-untyped-call]
    assert untouched(llama)


def test_a_state_is_loaded_where_it_was_saved(llama: llama_cpp.Llama, vector: ControlVector) -> None:
    logits(llama)
    plain_state = llama.save_state()
    with apply(llama, vector, 0.0):
        logits(llama)
        llama.load_state(plain_state)  # nothing is added: the memory is the same
        assert type(llama.save_state()) is llama_cpp.LlamaState
    with apply(llama, vector, STRENGTH):
        steered = complete(llama)
        steered_state = pickle.loads(pickle.dumps(llama.save_state()))
        with pytest.raises(EngineError, match="saved at another steering"):
            llama.load_state(plain_state)
    uses: tuple[Callable[[], object], ...] = (lambda: llama.load_state(steered_state), lambda: steered_state.scores)
    for use in uses:
        with pytest.raises(EngineError, match=r"saved (inside apply|at another steering)"):
            use()
    with (
        apply(llama, vector, -STRENGTH),
        pytest.raises(EngineError, match="saved at another steering"),
    ):
        llama.load_state(steered_state)
    with apply(llama, vector, STRENGTH):  # the same vector and strength: the same memory
        n_tokens = llama.n_tokens
        llama.load_state(steered_state)
        assert n_tokens == 0 < llama.n_tokens == steered_state.n_tokens
        assert complete(llama) == steered
    llama.load_state(plain_state)
    llama.reset()  # type: ignore[no-untyped-call]
    assert untouched(llama)
    with pytest.raises(EngineError, match="saved inside apply"):
        llama.load_state(steered_state)
    assert llama.n_tokens == 0


def test_a_prompt_cache_of_another_strength_is_refused(llama: llama_cpp.Llama, vector: ControlVector) -> None:
    outside, inside = LlamaRAMCache(), LlamaRAMCache()
    llama.set_cache(outside)
    complete(llama)
    llama.set_cache(None)
    with apply(llama, vector, STRENGTH):
        llama.set_cache(inside)
        steered = complete(llama)
        assert complete(llama) == steered
        llama.set_cache(outside)
        llama.reset()  # type: ignore[no-untyped-call]
        with pytest.raises(EngineError, match="set prompt caches only there"):
            complete(llama)
    llama.set_cache(inside)
    try:
        llama.reset()  # type: ignore[no-untyped-call]
        with pytest.raises(EngineError, match="saved inside apply"):
            complete(llama)
    finally:
        llama.set_cache(None)


def test_two_threads_do_not_enter_at_once(llama: llama_cpp.Llama, vector: ControlVector) -> None:
    """The check and the claim were two steps, with decodes in between."""
    gate, results = threading.Barrier(2), []

    def enter() -> None:
        gate.wait()
        try:
            with apply(llama, vector, STRENGTH):
                results.append("in")
                done.wait(10)
        except EngineError as error:
            results.append(str(error))
            done.set()

    done = threading.Event()
    threads = [threading.Thread(target=enter) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results)[0] == "in" and "steered already" in sorted(results)[1]


def test_a_block_is_not_entered_while_the_llama_generates(llama: llama_cpp.Llama, vector: ControlVector) -> None:
    caught = []

    def process(ids: object, scores: object) -> object:
        try:
            with apply(llama, vector, STRENGTH):
                pass
        except EngineError as error:
            caught.append(str(error))
        return scores

    processors = llama_cpp.LogitsProcessorList([process])  # type: ignore[list-item]
    text = next(llama.generate(llama.tokenize(WORDS), temp=0.0, logits_processor=processors))
    assert isinstance(text, int) and "is generating a text at this moment" in caught[0]
    complete(llama)
    assert untouched(llama)


def test_a_text_in_another_thread_ends_with_the_block(llama: llama_cpp.Llama, vector: ControlVector) -> None:
    begun, ended, caught = threading.Event(), threading.Event(), []

    def read() -> None:
        tokens = llama.generate(llama.tokenize(WORDS), temp=0.0)
        try:
            for n, _ in enumerate(tokens):
                begun.set()
                if n == 2:
                    ended.wait(10)
        except EngineError as error:
            caught.append(str(error))

    thread = threading.Thread(target=read)
    with apply(llama, vector, STRENGTH):
        thread.start()
        begun.wait(10)
    ended.set()
    thread.join()
    assert "begun inside apply()" in caught[0]


def test_a_llama_is_freed_behind_a_block(tiny_path: Path, vector: ControlVector) -> None:
    made = llama_cpp.Llama(str(tiny_path), n_ctx=64, n_threads=1, verbose=False)
    with apply(made, vector):
        made.eval(made.tokenize(WORDS))
    assert not untouched(made)  # `eval` could still go on
    gone = weakref.ref(made)
    del made
    assert gone() is None


def test_generating_inside_is_the_llamas_own(llama: llama_cpp.Llama, vector: ControlVector) -> None:
    """Tokens and what is sent go through, and a text ends where the generator ends."""
    tokens = llama.tokenize(WORDS)

    def draw() -> list[int]:
        made = llama.generate(tokens, temp=0.0)
        drawn = [next(made), made.send([7, 9]), made.send(None)]
        made.close()
        return drawn

    expected = draw()
    with apply(llama, vector, 0.0):
        assert draw() == expected

    def stop(ids: object, scores: object) -> bool:
        return True

    with apply(llama, vector):
        criteria = llama_cpp.StoppingCriteriaList([stop])
        assert list(llama.generate(tokens, stopping_criteria=criteria)) == []


def test_one_at_a_time(llama: llama_cpp.Llama, vector: ControlVector) -> None:
    with apply(llama, vector, STRENGTH):
        expected = logits(llama)
        with pytest.raises(EngineError, match=r"steered already, by another apply\(\); combine"), apply(llama, vector):
            pass
        np.testing.assert_array_equal(logits(llama), expected)


def test_a_closed_llama_is_no_crash(tiny_path: Path, vector: ControlVector) -> None:
    made = llama_cpp.Llama(str(tiny_path), n_ctx=64, n_threads=1, verbose=False)
    with apply(made, vector):
        made.close()
    with pytest.raises(EngineError, match="is closed"), apply(made, vector):
        pass


def ones(il: int, n_embd: int) -> ControlVector:
    return ControlVector({il: np.ones(n_embd, np.float32)}, "llama", 80)


Change = Callable[[ControlVector], ControlVector]


@pytest.mark.parametrize(
    ("change", "strength", "error", "words"),
    [
        (lambda v: ones(1, 64), 1.0, ShapeError, "64 values.* n_embd is 256"),
        (lambda v: ones(9, 256), 1.0, LayerError, "layer 9 does not exist"),
        (lambda v: ones(0, 256), 1.0, LayerError, "layer 0, which llama.cpp"),
        (lambda v: v.with_metadata(operator="rotate"), 1.0, InputError, r"otherwise \(operator rotate\)"),
        (lambda v: v.with_metadata(gate="1:0.5:abc"), 1.0, InputError, "gate 1:0.5:abc"),
        (lambda v: v.scaled(0.0), 1.0, DegenerateError, "zero"),
        (lambda v: v, float("nan"), StrengthError, "nan"),
        (lambda v: v.scaled(1e30), 1e30, StrengthError, "beyond float32"),
    ],
)  # fmt: skip
def test_what_cannot_be_applied_is_refused_before_anything_is_touched(
    llama: llama_cpp.Llama, vector: ControlVector, change: Change, strength: float, error: type[SteerError], words: str
) -> None:
    logits(llama)
    n_tokens = llama.n_tokens
    with pytest.raises(error, match=words), apply(llama, change(vector), strength):
        pass
    assert n_tokens and llama.n_tokens == n_tokens


def test_a_file_that_is_none(llama: llama_cpp.Llama, tmp_path: Path) -> None:
    with pytest.raises(VectorFileError, match=r"none\.gguf"), apply(llama, tmp_path / "none.gguf"):
        pass


def test_a_model_that_llama_cpp_cannot_steer_is_refused(tmp_path: Path) -> None:
    path = ARCHITECTURES["plamo2"].write(tmp_path / "plamo2.gguf")
    made = llama_cpp.Llama(str(path), n_ctx=64, n_threads=1, verbose=False)
    with (
        pytest.raises(UnsteerableError, match=r"plamo2\.gguf: .*takes no control vector"),
        apply(made, ControlVector({1: np.ones(64, np.float32)}, "plamo2", 6)),
    ):
        pass
    made.close()
