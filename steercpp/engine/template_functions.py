"""The functions and methods that chat templates may call; read this to let them call another one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, NoReturn

from jinja2.runtime import LoopContext
from jinja2.utils import Cycler

from steercpp.engine.template_budget import TooMuchWorkError, budget, compare_each, text_of, weigh
from steercpp.engine.template_filters import GROWS, IN_BRACES, STRIPS, formatted_size, joined_size

# Names of functions that templates have, beside Jinja's own filters and tests.
OFFERED = ("raise_exception", "strftime_now", "range", "dict", "namespace", "cycler", "joiner")
METHODS = {
    str: frozenset({
        "capitalize", "casefold", "center", "count", "endswith", "expandtabs", "find", "format", "format_map", "index",
        "isalnum", "isalpha", "isascii", "isdecimal", "isdigit", "isidentifier", "islower", "isnumeric", "isprintable",
        "isspace", "istitle", "isupper", "join", "ljust", "lower", "lstrip", "partition", "removeprefix",
        "removesuffix", "replace", "rfind", "rindex", "rjust", "rpartition", "rsplit", "rstrip", "split", "splitlines",
        "startswith", "strip", "swapcase", "title", "unescape", "upper", "zfill",
    }),
    list: frozenset(("count", "index", "copy")),
    tuple: frozenset(("count", "index")),
    dict: frozenset(("copy", "get", "items", "keys", "values")),
    LoopContext: frozenset(("changed", "cycle")),
    Cycler: frozenset(("next", "reset")),
}  # fmt: skip
_FROM_THE_END = frozenset(("rfind", "rindex", "rpartition", "rsplit"))  # which may compare all of it at each place
_LONGEST_DATE = 1000  # characters of a date's format


class TemplateRefusalError(Exception):
    """The template's own `raise_exception`."""


def refuse(reason: object) -> NoReturn:
    """`raise_exception` of templates."""
    raise TemplateRefusalError(str(reason))


def look_at_method(name: str, owner: str, values: tuple[Any, ...], named: Mapping[str, Any]) -> None:
    """Weigh what a text's method takes beyond the size of its arguments."""
    work = budget()
    if name == "join" and values:
        work.refuse_large(joined_size(values[0], owner))
    elif name in STRIPS or name in _FROM_THE_END:
        compare_each(owner, *values, *named.values())
    elif name in GROWS and name != "format":
        work.refuse_large(GROWS[name](owner, *values, **named))


class OfferedFunction:
    """A text's `format` or `format_map` in the sandbox, as a template calls it."""

    def __init__(self, function: Callable[..., str], text: str) -> None:
        self._function, self._text = function, text
        self.__name__ = "format"

    def __call__(self, *values: Any, **named: Any) -> str:
        """What it gives; see `formatted_size` for what is refused."""
        looked_at = (*values, *named.values())
        weigh(self._text)
        text_of(looked_at)
        budget().refuse_large(formatted_size(self._text, looked_at, signs="{", nested=IN_BRACES))
        return self._function(*values, **named)


class Date(OfferedFunction):
    """`strftime_now`, which tells one day."""

    def __init__(self, day: datetime) -> None:
        super().__init__(day.strftime, "")
        self.__name__ = "strftime_now"

    def __call__(self, *values: Any, **named: Any) -> str:
        """The day in a format."""
        if any(isinstance(text, str) and len(text) > _LONGEST_DATE for text in (*values, *named.values())):
            raise TooMuchWorkError(f"it writes a date in more than {_LONGEST_DATE} characters")
        return self._function(*values, **named)
