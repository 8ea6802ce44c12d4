"""What a chat template may still do, in steps; read this when one is stopped that should not be, or takes too long.

Each turn of a loop, each call, each attribute and each operation takes steps in proportion to the values that it works
on. Where the steps are used up, the template is stopped; and, should something take long that costs few steps, where a
chat takes over ten seconds.
"""

from __future__ import annotations

import math
from collections.abc import ItemsView, Iterable, Iterator, KeysView, Mapping, ValuesView
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import chain
from sys import getsizeof
from time import thread_time
from types import NoneType
from typing import Any

from jinja2.exceptions import SecurityError
from jinja2.runtime import LoopContext, Macro, Undefined
from jinja2.utils import Namespace

UNITS = 64  # of one step: characters, or one number or container
MOST_DIGITS = 4000  # of a whole number, as in Python's own limit
_STEPS = 1_000_000  # of a template, beside one for each character of its messages: below a second
_LONGEST_S = 10.0  # of computing, of a chat, which is written several times: what takes so long is not counted rightly
_PLACES = 8  # of a list, in one step
_LONG = 4096  # characters of a text that takes a step for as many, where texts are put together
_MOST_HELD = 256 << 20  # bytes of such texts at once
_LARGEST = 4_000_000  # units of one value
_MOST_BITS = 4 * MOST_DIGITS


class TooMuchWorkError(Exception):
    """The steps of a template are used up, or a value would become too large."""


class LongText(str):
    """A text that a template has put together."""

    __slots__ = ()

    def __del__(self) -> None:
        if (work := _BUDGET.get(None)) is not None:
            work.held = max(0, work.held - getsizeof(self))


class Budget:
    """What a template may still do."""

    __slots__ = ("calls", "held", "largest", "steps", "until")

    def __init__(self, n_chars: int) -> None:
        self.steps = _STEPS + n_chars
        self.largest = max(_LARGEST, UNITS * n_chars)
        self.until = min(_UNTIL.get(), thread_time() + _LONGEST_S)
        self.calls = self.held = 0

    def spend(self, steps: int) -> None:
        """Take steps.

        Raises:
            TooMuchWorkError: there are none left, or no time.
        """
        self.steps -= steps
        self.calls += 1
        if self.steps < 0 or (self.calls % 64 == 1 and thread_time() > self.until):
            raise TooMuchWorkError("it works too long")

    def refuse_large(self, units: int) -> None:
        """See that a value of this size may be made.

        Raises:
            TooMuchWorkError: it is too large.
        """
        if units > self.largest:
            raise TooMuchWorkError("it makes a value that is too large")

    def joined(self, text: str) -> str:
        """Take the steps of putting texts together: few where it is long, but then it counts for as long as it lives.

        Templates write a chat by adding to one text at each turn, which copies all of it each time.
        """
        if len(text) < _LONG or type(text) is not str:
            weighed: str = self.weigh(text)
            return weighed
        self.spend(1 + len(text) // _LONG)
        kept = LongText(text)
        self.held += getsizeof(kept)
        if self.held > _MOST_HELD:
            raise TooMuchWorkError("it keeps too many long texts")
        return kept

    def weigh_outside(self, value: Any) -> Any:
        """Take the steps of an operation that copies a list, and nothing of what is in it; return the value."""
        if not isinstance(value, list | tuple):
            return self.weigh(value)
        self.refuse_large(UNITS * len(value))
        self.spend(1 + len(value) // _PLACES)
        return value

    def weigh(self, value: Any) -> Any:
        """Take the steps of an operation on a value, and return the value."""
        units = size_of(value, self.largest)
        self.refuse_large(units)
        self.spend(1 + units // UNITS)
        return value


_BUDGET: ContextVar[Budget] = ContextVar("budget of the template")
_UNTIL: ContextVar[float] = ContextVar("when a chat must have been written", default=math.inf)


def budget() -> Budget:
    """That of the template that runs."""
    return _BUDGET.get()


@contextmanager
def limited_time() -> Iterator[None]:
    """All that templates do meanwhile is done within the time of one chat."""
    token = _UNTIL.set(min(_UNTIL.get(), thread_time() + _LONGEST_S))
    try:
        yield
    finally:
        _UNTIL.reset(token)


@contextmanager
def counted(n_chars: int) -> Iterator[None]:
    """The budget of a template that works on so many characters, for what is done within."""
    token = _BUDGET.set(Budget(n_chars))
    try:
        yield
    finally:
        _BUDGET.reset(token)


def size_of(value: Any, most: int) -> int:
    """Size of a value with all that it holds, as often as that is written with it; counted no further than `most`."""
    if isinstance(value, str):
        return len(value)
    units, held = 0, [value]
    while held and units <= most:
        item = held.pop()
        units += UNITS
        if isinstance(item, str):
            units += len(item)
        elif isinstance(item, int):
            if item.bit_length() > _MOST_BITS:
                raise TooMuchWorkError("it computes a number that is too large")
        elif isinstance(item, range):
            units += UNITS // 4 * len(item)
        elif (content := content_of(item)) is not None:
            held.extend(content)
    return units


def content_of(value: Any) -> Iterable[Any] | None:
    """What a container holds, keys and values alike; None of what is none."""
    if isinstance(value, list | tuple | ValuesView | KeysView | ItemsView):
        return value
    if isinstance(value, Mapping):
        return chain(value, value.values())
    if isinstance(value, Namespace):
        return (value._Namespace__attrs,)
    return None


def take_steps(steps: int) -> bool:
    """Take steps; a condition that always holds."""
    budget().spend(steps)
    return True


def weigh(value: Any) -> Any:
    """As `Budget.weigh`, for the template that runs."""
    return budget().weigh(value)


def weigh_outside(value: Any) -> Any:
    """As `Budget.weigh_outside`, for the template that runs."""
    return budget().weigh_outside(value)


def compare_each(text: str, *others: object) -> None:
    """Take the steps of comparing each character of a text with all those of another."""
    longest = max((len(other) for other in others if isinstance(other, str)), default=0)
    budget().spend(len(text) * longest // UNITS)


def text_of(value: Any) -> Any:
    """Weigh a value that becomes part of a text.

    Raises:
        SecurityError: it is, or holds, what is no data.
    """
    weigh(value)
    held = [value]
    while held:
        item = held.pop()
        if isinstance(item, str | int | float | complex | NoneType | Undefined | range | Macro | LoopContext):
            continue
        if (content := content_of(item)) is None:
            raise SecurityError(f"it writes an object, a {type(item).__name__.strip('_')}, which is no text")
        held.extend(content)
    return value
