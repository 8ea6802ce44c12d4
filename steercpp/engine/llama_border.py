"""What of a `llama_cpp.Llama` must not cross the border of an `apply()` block; read this when such a use is refused.

A Llama goes on from its memory: a generator at its next token, `eval` behind what it has read, a saved state where it
was saved. At both borders of a block that memory is cleared, since it was made at another strength. What would go on
without it, or with a memory of another strength, is refused with an error instead:

    a generator of `Llama.generate`, and so each stream, that lives when a border is crossed
    `eval`, `sample` and `generate(reset=False)` behind a border, where something was read before it
    a state, or a prompt cache's entry, that is loaded at another steering than it was saved at

For that some methods of the Llama are wrapped while a block lasts, and behind it for as long as something could still
be continued. What starts again is never in the way: a prompt, `reset()`, tokens that start as the model's texts do.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from threading import RLock
from types import FrameType, GeneratorType
from typing import Any, TypeAlias, cast
from weakref import ReferenceType, WeakKeyDictionary, ref

import llama_cpp

from steercpp.errors import EngineError

_GENERATE = llama_cpp.Llama.generate.__code__
_METHODS = ("eval", "sample", "reset", "save_state", "load_state")
_Text: TypeAlias = Generator[int, Sequence[int] | None, None]


class SteeredState(llama_cpp.LlamaState):
    """A state that was saved inside a block; `load_state` reads it inside a block of the same steering alone.

    Attributes:
        steering: hash of what was added.
    """

    def __init__(self, state: llama_cpp.LlamaState, steering: bytes) -> None:
        vars(self).update(vars(state))
        vars(self)["_kept_scores"] = vars(self).pop("scores")
        self.steering = steering

    @property
    def scores(self) -> Any:  # type: ignore[override]
        """What `load_state` asks for first, before it changes anything."""
        raise EngineError(
            "this state was saved inside apply(), and its memory is of another strength; load it inside a block of the "
            "same vector and strength"
        )

    def plain(self) -> llama_cpp.LlamaState:
        """The state as llama_cpp reads it."""
        values = {key: value for key, value in vars(self).items() if key not in ("_kept_scores", "steering")}
        return llama_cpp.LlamaState(**values, scores=vars(self)["_kept_scores"])


@dataclass(slots=True)
class Border:
    """The borders of one Llama's blocks: what has crossed them, and the methods that see to it.

    Attributes:
        llama: whose.
        lock: held while the Llama decodes and while a border is crossed.
        inside: whether a block lasts.
        steering: hash of what is added now, None for nothing.
        is_lost: whether what the Llama had read was forgotten, and nothing begun since.
        cut: texts that lived when a border was crossed, each with the word for where it had begun.
        own: what stood in place of the wrapped methods.
        wrapped: the methods while they are wrapped.
    """

    llama: ReferenceType[llama_cpp.Llama]
    lock: RLock = field(default_factory=RLock)
    inside: bool = False
    steering: bytes | None = None
    is_lost: bool = False
    cut: list[tuple[ReferenceType[_Text], str]] = field(default_factory=list)
    own: dict[str, Any] = field(default_factory=dict)
    wrapped: dict[str, Any] = field(default_factory=dict)

    def cross(self, llama: llama_cpp.Llama) -> None:
        """Note what lives now and must not be continued; the memory is to be cleared next.

        Raises:
            EngineError: into a block, while the Llama generates: in another thread, or in a callback of its own.
        """
        if not self.inside and _runs(llama):
            raise EngineError("this Llama is generating a text at this moment; enter apply() when it has finished")
        known = {text() for text, _ in self.cut}
        where = "inside" if self.inside else "before"
        self.cut += [(ref(text), where) for text in _texts(llama) if text not in known]
        self.is_lost = self.is_lost or llama.n_tokens > 0
        if not self.wrapped:
            self._wrap(llama)

    def enter(self, steering: bytes | None) -> None:
        """A block begins, which adds what has this hash; None: nothing."""
        self.inside, self.steering = True, steering

    def leave(self) -> None:
        """The block has ended."""
        self.inside, self.steering = False, None
        self.settle()

    def settle(self) -> None:
        """Give the Llama its methods back if there is nothing to look after any more."""
        self.cut = [(text, where) for text, where in self.cut if _lives(text())]
        llama = self.llama()
        if self.inside or self.is_lost or self.cut or llama is None:
            return
        for name, method in self.wrapped.items():
            if vars(llama).get(name) is method:
                del vars(llama)[name]
                if self.own[name] is not None:
                    vars(llama)[name] = self.own[name]
        self.wrapped = {}

    def _wrap(self, llama: llama_cpp.Llama) -> None:
        self.own = {name: vars(llama).get(name) for name in _METHODS}
        self.wrapped = {name: self._wrapper(name, type(llama)) for name in _METHODS}
        vars(llama).update(self.wrapped)

    def _wrapper(self, name: str, of: type[llama_cpp.Llama]) -> Callable[..., Any]:
        """A method that looks after the border first; it does not keep the Llama alive."""
        stock, own = getattr(of, name), self.own[name]
        look: Callable[..., Any] = getattr(self, f"_{name}")

        def method(*args: Any, **options: Any) -> Any:
            llama = self.llama()
            assert llama is not None

            def call(*given: Any, **named: Any) -> Any:
                return own(*given, **named) if own is not None else stock(llama, *given, **named)

            with self.lock:
                return look(llama, call, *args, **options)

        return method

    def _eval(self, llama: llama_cpp.Llama, call: Callable[..., Any], tokens: Sequence[int]) -> Any:
        self._refuse_cut()
        if self.is_lost and not _starts_anew(llama, tokens):
            self._refuse_lost(llama)
        self.is_lost = False
        done = call(tokens)
        self.settle()
        return done

    def _sample(self, llama: llama_cpp.Llama, call: Callable[..., Any], *args: Any, **options: Any) -> Any:
        self._refuse_cut()
        if self.is_lost:
            self._refuse_lost(llama)
        return call(*args, **options)

    def _reset(self, llama: llama_cpp.Llama, call: Callable[..., Any]) -> Any:
        self._refuse_cut()
        done = call()
        self.is_lost = False
        self.settle()
        return done

    def _save_state(self, llama: llama_cpp.Llama, call: Callable[..., Any]) -> llama_cpp.LlamaState:
        state = cast("llama_cpp.LlamaState", call())
        return state if self.steering is None else SteeredState(state, self.steering)

    def _load_state(self, llama: llama_cpp.Llama, call: Callable[..., Any], state: llama_cpp.LlamaState) -> None:
        saved_at = state.steering if isinstance(state, SteeredState) else None
        if saved_at != self.steering:
            raise EngineError(
                "this state was saved at another steering than that of this block, or at none; load it where it was "
                "saved, and set prompt caches only there"
            )
        call(state.plain() if isinstance(state, SteeredState) else state)
        self.is_lost = False

    def _refuse_cut(self) -> None:
        for text, where in self.cut:
            if (generator := text()) is not None and generator.gi_running:  # type: ignore[attr-defined]
                ends = "finish it inside" if where == "inside" else "finish it before the block"
                raise EngineError(f"this text was begun {where} apply() and its memory is gone with the border; {ends}")

    def _refuse_lost(self, llama: llama_cpp.Llama) -> None:
        if llama.n_tokens == 0:
            raise EngineError(
                "what this Llama had read is forgotten at the border of apply(); call reset() and give the whole text"
            )


_borders: WeakKeyDictionary[llama_cpp.Llama, Border] = WeakKeyDictionary()


def border_of(llama: llama_cpp.Llama) -> Border:
    """The borders of a Llama's blocks, the same for all of them."""
    return _borders.setdefault(llama, Border(ref(llama)))


def _starts_anew(llama: llama_cpp.Llama, tokens: Sequence[int]) -> bool:
    """Whether tokens are the start of a text, by the token that the model wants there."""
    vocabulary = llama_cpp.llama_model_get_vocab(llama.model)
    return bool(llama_cpp.llama_vocab_get_add_bos(vocabulary)) and list(tokens[:1]) == [llama.token_bos()]


def _lives(text: _Text | None) -> bool:
    return text is not None and text.gi_frame is not None  # type: ignore[attr-defined]


def _texts(llama: llama_cpp.Llama) -> list[_Text]:
    """Generators of `Llama.generate` that have not ended, begun or not."""
    texts = [holder for holder in gc.get_referrers(llama) if _is_text(holder, llama)]
    if _runs(llama):  # their frames are in use, and then not among the referrers
        texts += [other for other in gc.get_objects() if _is_text(other, llama) and other not in texts]
    return texts


def _is_text(thing: Any, llama: llama_cpp.Llama) -> bool:
    if type(thing) is not GeneratorType or thing.gi_code is not _GENERATE or thing.gi_frame is None:
        return False
    return thing.gi_frame.f_locals.get("self") is llama


def _runs(llama: llama_cpp.Llama) -> bool:
    """Whether the Llama generates at this moment, in any thread."""
    at: FrameType | None
    frames = list(sys._current_frames().values())
    try:
        for at in frames:
            while at is not None:
                if at.f_code is _GENERATE and at.f_locals.get("self") is llama:
                    return True
                at = at.f_back
    finally:
        del at, frames  # this function's own frame among them, which would hold the Llama
    return False
