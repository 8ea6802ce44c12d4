"""The filters and tests that chat templates have: each weighs what it is given and what it makes.

What makes something large from small operands, such as a padded text, is looked at before it is made.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import wraps
from typing import Any

from jinja2 import Environment
from jinja2.filters import make_attrgetter
from jinja2.utils import pass_environment

from steercpp.engine.template_budget import (
    TooMuchWorkError,
    budget,
    compare_each,
    size_of,
    take_steps,
    text_of,
    weigh,
    weigh_outside,
)  # fmt: skip

_LONGEST_INDENT = 16
LEFT_OUT = frozenset(("pprint", "random", "striptags", "urlize", "xmlattr"))  # drawn, or of untold work
# Filters that hand on what they are given; all others make a text of it.
_HANDS_ON = frozenset((
    "attr", "batch", "count", "d", "default", "dictsort", "first", "groupby", "items", "last", "length", "list", "map",
    "max", "min", "reject", "rejectattr", "reverse", "select", "selectattr", "slice", "sort", "sum", "tojson", "unique",
))  # fmt: skip
# Filters and tests that look at a value from outside, whatever it holds, and those that go over a list and no deeper.
_GLANCES = frozenset((
    "count", "d", "default", "first", "last", "length", "is boolean", "is callable", "is defined", "is false",
    "is float", "is integer", "is iterable", "is mapping", "is none", "is number", "is sameas", "is sequence",
    "is string", "is true", "is undefined",
))  # fmt: skip
_GOES_OVER = frozenset(("list", "map", "reject", "rejectattr", "reverse", "select", "selectattr"))
# Filters that compare what is in a list, or look at an attribute of each; what they cost grows faster than the list.
_COMPARES = frozenset(("dictsort", "groupby", "max", "min", "sort", "sum", "unique"))
_EACH = 12  # steps of each value that is compared
_CALL = 8  # steps of a filter, beside those of its values
STRIPS = frozenset(("lstrip", "rstrip", "strip", "trim"))


def looked_at(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter or a test whose arguments and result are weighed."""
    grows = GROWS.get(name)
    passed = int(getattr(function, "jinja_pass_arg", None) is not None)  # the context, or the environment
    if name in _GLANCES:
        return _stepped(function)
    take = weigh if name in _HANDS_ON or name.startswith("is ") else text_of

    @wraps(function)
    def weighed(*values: Any, **named: Any) -> Any:
        take_steps(_CALL)
        is_iterated = len(values) > passed and isinstance(values[passed], Iterator)
        if is_iterated and (name == "join" or name in _COMPARES):
            values = (*values[:passed], list(values[passed]), *values[passed + 1 :])
        if name in _COMPARES and len(values) > passed and hasattr(values[passed], "__len__"):
            take_steps(_EACH * len(values[passed]))
        if name in _GOES_OVER and len(values) > passed:
            weigh_outside(values[passed])
        for value in (*values[passed + (name in _GOES_OVER) :], *named.values()):
            take(value)
        if name in STRIPS:
            compare_each(str(values[passed]), *values[passed + 1 :], *named.values())
        if grows is not None:
            budget().refuse_large(grows(*values[passed:], **named))
        made = function(*values, **named)
        weigh_made = weigh_outside if name in _GOES_OVER else weigh
        return _each_counted(made, weigh_made) if isinstance(made, Iterator) else weigh_made(made)

    return weighed


def _stepped(function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter or a test that takes two steps."""

    @wraps(function)
    def stepped(*values: Any, **named: Any) -> Any:
        take_steps(2)
        return function(*values, **named)

    return stepped


def _each_counted(values: Iterator[Any], weigh: Callable[[Any], Any]) -> Iterator[Any]:
    for value in values:
        yield weigh(value)


def to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON as transformers writes it."""
    if indent is not None and (len(indent) if isinstance(indent, str) else indent) > _LONGEST_INDENT:
        raise TooMuchWorkError(f"it indents JSON by more than {_LONGEST_INDENT} characters")
    separators = None if separators is None else (str(separators[0]), str(separators[1]))
    encoder = json.JSONEncoder(
        ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys,
        check_circular=True,
    )  # fmt: skip
    return "".join(weigh(piece) for piece in encoder.iterencode(value))


@pass_environment
def sum_of(
    environment: Environment, iterable: Iterable[Any], attribute: str | int | None = None, start: Any = 0
) -> Any:
    """Jinja's filter, with each addition weighed."""
    value = make_attrgetter(environment, attribute)
    total = start
    for item in iterable:
        total = weigh(total) + weigh(item if attribute is None else value(item))
    return total


def _number(*values: object) -> int:
    """The largest whole number among some values, 0 where there is none."""
    return max((abs(value) for value in values if isinstance(value, int)), default=0)


def _n_lines(width: object, text: str) -> int:
    return (text.count("\n") + 1) * (len(width) if isinstance(width, str) else _number(width))


def _replaced(text: str, old: object, new: object, *_: object) -> int:
    return len(text) + text.count(str(old)) * len(str(new))


def _wrapped(text: str, between: str) -> int:
    compare_each(text, text)  # of some texts, each piece is looked for up to the end
    return len(text) * (1 + len(between))


def joined_size(pieces: Any, between: object) -> int:
    """Size of the text that some pieces make."""
    return size_of(pieces, budget().largest) + (len(pieces) if hasattr(pieces, "__len__") else 0) * len(str(between))


IN_BRACES = re.compile(r"\{[^{}]*:[^{}]*\{")  # a width that is itself a value
IN_PERCENT = re.compile(r"%[^a-zA-Z%]*\*")


def formatted_size(text: str, values: Iterable[Any], *, signs: str, nested: re.Pattern[str]) -> int:
    """At most so many characters a format makes: its numbers as widths, and at each of its places the largest value."""
    if nested.search(text):
        raise TooMuchWorkError("it takes the width of a text from a value")
    widths = sum(int(digits[:9]) for digits in re.findall(r"[0-9]+", text))
    largest = max((size_of(value, budget().largest) for value in values), default=0)
    return len(text) + widths + text.count(signs) * largest


# How large the result of a filter or of a text's method may be where that does not follow from the size of its
# arguments. Each is called with the same arguments, but for what Jinja passes first.
GROWS: Mapping[str, Callable[..., int]] = {
    "batch": lambda values, linecount, *_, **__: _number(linecount),
    "center": lambda text, width=80, *_, **__: _number(width),
    "expandtabs": lambda text, size=8: text.count("\t") * _number(size),
    "format": lambda text, *values, **named: formatted_size(
        str(text), (*values, *named.values()), signs="%", nested=IN_PERCENT
    ),
    "indent": lambda text, width=4, *_, **__: _n_lines(width, str(text)),
    "join": lambda pieces, between="", *_, **__: joined_size(pieces, between),
    "ljust": lambda text, width, *_: _number(width),
    "replace": lambda text, old, new, *_, **__: _replaced(str(text), old, new),
    "rjust": lambda text, width, *_: _number(width),
    "round": lambda value, precision=0, *_, **__: 10 ** min(_number(precision), 9),
    "slice": lambda values, slices, *_, **__: _number(slices),
    "wordwrap": lambda text, width=79, break_long_words=True, wrapstring=None, *_, **__: _wrapped(
        str(text), wrapstring or ""
    ),
    "zfill": lambda text, width: _number(width),
}
