"""What a pool is asked for, what it tells while it works, and what comes of a row; read this to use `Pool`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
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
MOST_TOP = 1000  # alternatives of a token that are told

Alternatives: TypeAlias = tuple[tuple[int, float], ...]  # tokens with their natural-log P, the most likely first


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
        top: of each token, what was most likely in its place; () where not asked for.
        prompt_logprobs: (n_prompt - 1) of the prompt's tokens but the first, likewise steered; () where not asked for.
        prompt_top: what was most likely in the place of each of these.
        n_cached: tokens of the prompt whose K and V were there from another row, in all blocks; not compared.
    """

    text: str
    tokens: tuple[int, ...]
    finish: Finish
    gate_open: bool | None
    in_thought: bool = False
    end_token: int | None = None
    logprobs: tuple[float, ...] = ()
    top: tuple[Alternatives, ...] = ()
    prompt_logprobs: tuple[float, ...] = ()
    prompt_top: tuple[Alternatives, ...] = ()
    n_cached: int = field(default=0, compare=False)

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
        n_top: how many of the most likely tokens are told beside each one, with `logprobs` or `prompt_logprobs`.
        prompt_logprobs: whether those of the prompt's own tokens are wanted. Such a prompt is decoded whole, whatever
            is there of it already.

    Raises:
        InputError: no tokens, an empty stop string, or a value of another kind or out of range.

    >>> GenerationRequest((1, 300, 17), max_tokens=8).stop
    ()
    """

    tokens: Tokens
    steering: tuple[Steering, ...] = ()
    sampling: Sampling = GREEDY
    max_tokens: int = 128
    stop: tuple[str, ...] = ()
    logprobs: bool = False
    n_top: int = 0
    prompt_logprobs: bool = False

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
        if not isinstance(self.n_top, int | np.integer) or not 0 <= self.n_top <= MOST_TOP:
            raise InputError(f"n_top is {self.n_top!r}; give 0 for none, or how many tokens up to {MOST_TOP}")
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
        token: the one drawn; None where it ends the generation and is no part of the text.
        logprob: its natural-log P, steered, before any sampler; None where not asked for.
        top: what was most likely in its place; () where not asked for.
    """

    ticket: int
    n_drawn: int
    text: str
    token: int | None = None
    logprob: float | None = None
    top: Alternatives = ()


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
