"""Steering for users of llama-cpp-python: `apply` steers an existing `llama_cpp.Llama` while a block lasts.

    llama = llama_cpp.Llama("model.gguf")
    with steercpp.apply(llama, "refusal.gguf", 1.5):
        llama.create_completion("How do I pick a lock?")

It is llama.cpp's own control vector, so logits are those of llama.cpp steered by the same file.

What a Llama remembers of a prompt, its K/V, depends on the strength, and llama-cpp-python goes on from the longest
beginning that the next prompt shares with the last one, or with one in its prompt cache. So where the block begins and
where it ends the memory is cleared, and inside it the Llama has no prompt cache: the cache that was set before is back
afterwards, as it was. What would go on across such a border is refused with an EngineError: a stream or a generator
that lives on both sides, `eval` behind what was read on the other one, a state (`llama.save_state()`) or a prompt cache
of another strength; see llama_border.py. A stream (`stream=True`) begins when its first piece is read: read it inside
the block, as one read after it is unsteered.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from threading import Lock
from weakref import WeakSet

import llama_cpp
import numpy as np
import numpy.typing as npt

from steercpp.engine.llama_border import border_of
from steercpp.engine.steering import Steering, check
from steercpp.errors import DegenerateError, EngineError, InputError, LayerError, StrengthError, UnsteerableError
from steercpp.vectors.control_vector import ControlVector
from steercpp.vectors.formats import read_any_vector

_steered: WeakSet[llama_cpp.Llama] = WeakSet()
_claims = Lock()
_steerable: WeakSet[llama_cpp.Llama] = WeakSet()


@contextmanager
def apply(
    llama: llama_cpp.Llama, vector: ControlVector | Path | str, strength: float = 1.0
) -> Iterator[llama_cpp.Llama]:
    """Steer a Llama while the block lasts; see above for what becomes of its memory.

    Args:
        llama: the model; one vector at a time. A control vector that was set on its context by hand is gone afterwards.
        vector: a vector, or the file of one, in any format that steercpp reads.
        strength: float32(strength) times the vector's tensors is added, at every token.

    Yields:
        llama.

    Raises:
        ShapeError, LayerError: the vector is not for this model, or has a direction at layer 0, which llama.cpp
            cannot steer.
        InputError: it is meant for more than being added everywhere; DegenerateError: it is zero at every layer.
        StrengthError: a strength that is not finite, or whose product with the tensors is not.
        VectorFileError: the file cannot be read.
        UnsteerableError: the model's graph takes no control vector, so that it would change nothing; seen on two
            decodes of one token when a Llama is steered for the first time.
        EngineError: the Llama is steered already, or generates at this moment, or is closed, or llama.cpp refuses the
            vector.

    >>> import llama_cpp
    >>> llama = llama_cpp.Llama(str(engine.path), n_ctx=128, n_threads=1, verbose=False)
    >>> with apply(llama, vector, 0.0):
    ...     steered = llama.create_completion("The moon", max_tokens=3, temperature=0.0)
    >>> plain = llama.create_completion("The moon", max_tokens=3, temperature=0.0)
    >>> steered["choices"][0]["text"] == plain["choices"][0]["text"]  # strength 0 changes nothing
    True
    >>> llama.close()
    """
    data = _buffer(llama, vector if isinstance(vector, ControlVector) else read_any_vector(vector)[0], strength)
    with _claims:
        if llama in _steered:
            raise EngineError("this Llama is steered already, by another apply(); combine the vectors into one instead")
        _steered.add(llama)
    border = border_of(llama)
    try:
        with border.lock:
            border.cross(llama)
            try:
                _refuse_unsteerable(llama, data.shape)
                _set(llama, data)
                _forget(llama)
            except BaseException:
                border.settle()
                raise
            border.enter(blake2b(data.tobytes()).digest() if data.any() else None)
        cache = llama.cache
        llama.set_cache(None)
        try:
            yield llama
        finally:
            llama.set_cache(cache)
            with border.lock:  # another thread may decode
                border.cross(llama)
                if llama.ctx is not None:  # closed inside the block
                    _set(llama, None)
                    _forget(llama)
                border.leave()
    finally:
        _steered.discard(llama)


def _buffer(llama: llama_cpp.Llama, vector: ControlVector, strength: float) -> npt.NDArray[np.float32]:
    """(n_layer - 1, n_embd) float32: what is added from layer 1 on, zeros where the vector has no direction."""
    if llama.ctx is None:
        raise EngineError("this Llama is closed; load the model again")
    n_layer, n_embd = llama_cpp.llama_model_n_layer(llama.model), llama.n_embd()
    check(((Steering(vector, strength),),), n_layer=n_layer, n_embd=n_embd)
    if not vector.is_added_everywhere:
        manner = {key: vector.metadata.get(key) for key in ("operator", "positions", "side", "gate")}
        named = ", ".join(f"{key} {value}" for key, value in manner.items() if value)
        raise InputError(
            f"the vector is meant to act otherwise ({named}) than llama.cpp's control vector, which is added to every "
            "token; use steercpp's own engine"
        )
    if not any(row.any() for row in vector.directions.values()):
        raise DegenerateError("every direction of the vector is zero; it would steer nothing")
    if 0 in vector.directions and vector.directions[0].any():
        raise LayerError(
            "the vector has a direction at layer 0, which llama.cpp cannot steer; use steercpp's own engine, or leave "
            "it out with restricted_to"
        )
    data = np.zeros((n_layer - 1, n_embd), np.float32)
    for il in vector.layers:
        if il:
            with np.errstate(over="ignore"):
                data[il - 1] = np.float32(strength) * vector.directions[il]
    if not np.isfinite(data).all():
        raise StrengthError(f"strength {strength:g} times the vector is beyond float32; give a smaller one")
    return data


def _set(llama: llama_cpp.Llama, data: npt.NDArray[np.float32] | None) -> None:
    """Give llama.cpp the whole buffer, as a shorter one would leave old values at the other layers; None: nothing."""
    if data is None:
        status = llama_cpp.llama_set_adapter_cvec(llama.ctx, None, 0, llama.n_embd(), 0, 0)
    else:
        n_rows, n_embd = data.shape
        pointer = data.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        status = llama_cpp.llama_set_adapter_cvec(llama.ctx, pointer, data.size, n_embd, 1, n_rows)
    if status:
        raise EngineError(f"llama_set_adapter_cvec returned {status}: llama.cpp refuses the vector; use another model")


def _refuse_unsteerable(llama: llama_cpp.Llama, shape: tuple[int, ...]) -> None:
    """Make sure that a control vector changes something: some graphs ignore it in silence."""
    if llama in _steerable or llama.context_params.embeddings or llama_cpp.llama_model_has_encoder(llama.model):
        return  # of a context for embeddings, and behind an encoder, one token says nothing
    plain = _probe(llama)
    uneven = np.where(np.arange(shape[1]) % 3, 100, -100)  # so that no normalization takes it away
    _set(llama, np.tile(uneven.astype(np.float32), (shape[0], 1)))
    try:
        steered = _probe(llama)
    finally:
        _set(llama, None)
        _forget(llama)
    if np.array_equal(plain, steered):
        raise UnsteerableError(f"{llama.model_path}: llama.cpp's graph of this model takes no control vector")
    _steerable.add(llama)


def _probe(llama: llama_cpp.Llama) -> npt.NDArray[np.float32]:
    """(n_vocab,) logits after one token."""
    _forget(llama)
    type(llama).eval(llama, [max(llama.token_bos(), 0)])
    logits = np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(llama.ctx, -1), (llama.n_vocab(),))
    return np.array(logits, np.float32)


def _forget(llama: llama_cpp.Llama) -> None:
    """Take from the Llama all that it could go on from."""
    type(llama).reset(llama)  # type: ignore[no-untyped-call]
    memory = llama_cpp.llama_get_memory(llama.ctx)
    if memory is not None:
        llama_cpp.llama_memory_clear(memory, True)
