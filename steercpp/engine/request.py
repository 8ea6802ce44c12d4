"""What a pool is asked for, what it tells while it works, and what comes of a row; read this to use `Pool`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import UnionType
from typing import Literal, TypeAlias

import numpy as np

from steercpp.aliases import Tokens
from steercpp.engine.sampling import Sampling
from steercpp.engine.steering import Steering
from steercpp.errors import InputError, SteerError
from steercpp.judging.answers import BEGUN, Reply, parted

Finish: TypeAlias = Literal["length", "stop", "end", "nonfinite"]

GREEDY = Sampling()


@dataclass(frozen=True, slots=True)
class Generated:
    """One finished row.

    Attributes:
        text: without the stop string.
        tokens: as drawn; the end-of-generation token is not among them.
        finish: "length" at max_tokens, "stop" at a stop string, "end" at an end-of-generation token, "nonfinite" where
            steering drives it out of float32's range: then it has no text.
        gate_open: whether all gates of its steering are; None without any.
        in_thought: whether the prompt ends inside a thought, so that the text begins there.
        end_token: the end-of-generation token that was drawn; None where none was.
        logprobs: of each token, natural logs, under the steered model before any sampler; () where not asked for.
    """

    text: str
    tokens: tuple[int, ...]
    finish: Finish
    gate_open: bool | None
    in_thought: bool = False
    end_token: int | None = None
    logprobs: tuple[float, ...] = ()

    @property
    def reply(self) -> Reply:
        """Its thoughts and its answer, see judging/answers.py."""
        return parted(BEGUN + self.text if self.in_thought else self.text)


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """A prompt to continue.

    Attributes:
        tokens: the prompt.
        steering: what steers it.
        sampling: how tokens are drawn.
        max_tokens: drawn at most.
        stop: strings that end the text; they are not part of it.
        logprobs: whether the log-probability of each token is wanted.

    Raises:
        InputError: no tokens, an empty stop string, or a value of another kind.

    >>> GenerationRequest((1, 300, 17), max_tokens=8).stop
    ()
    """

    tokens: Tokens
    steering: tuple[Steering, ...] = ()
    sampling: Sampling = GREEDY
    max_tokens: int = 128
    stop: tuple[str, ...] = ()
    logprobs: bool = False

    def __post_init__(self) -> None:
        kinds: tuple[tuple[str, object, type | UnionType], ...] = (
            ("tokens", self.tokens, int | np.integer), ("steering", self.steering, Steering), ("stop", self.stop, str)
        )  # fmt: skip
        for name, values, kind in kinds:
            if isinstance(values, str) or not isinstance(values, Sequence | np.ndarray):
                raise InputError(f"{name} is {values!r}; give a tuple")
            wrong = [value for value in values if not isinstance(value, kind)]
            if wrong:
                raise InputError(f"{name} holds {wrong[0]!r}; see `GenerationRequest` for what it takes")
            object.__setattr__(self, name, tuple(values))
        if not isinstance(self.max_tokens, int | np.integer) or self.max_tokens < 1:
            raise InputError(f"max_tokens is {self.max_tokens!r}; give a whole number of at least 1")
        if not isinstance(self.sampling, Sampling):
            raise InputError(f"sampling is {self.sampling!r}; give a `Sampling`")
        if not self.tokens:
            raise InputError("the prompt has no tokens; give it some text")
        if not all(self.stop):
            raise InputError("a stop string is empty; leave it out")


@dataclass(frozen=True, slots=True)
class Text:
    """A token was drawn.

    Attributes:
        ticket: of its row.
        n_drawn: tokens of the row so far.
        text: what became certain; "" in the middle of a character, or where a stop string may have begun.
    """

    ticket: int
    n_drawn: int
    text: str


@dataclass(frozen=True, slots=True)
class Finished:
    """A row ended. Its last `Text` came before."""

    ticket: int
    row: Generated


@dataclass(frozen=True, slots=True)
class Failed:
    """A row ended by an error of its own; other rows go on."""

    ticket: int
    error: SteerError


Event: TypeAlias = Text | Finished | Failed
