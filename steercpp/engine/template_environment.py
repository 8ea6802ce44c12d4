"""Chat templates as code: Jinja in a sandbox whose work is bounded; read this when a template fails or is stopped.

The environment is that of transformers and of llama-cpp-python 0.3.36 (its Jinja2ChatFormatter): trimmed blocks,
`break` and `continue`, `strftime_now`, `raise_exception`, a `generation` tag that writes nothing, and a `tojson` that
leaves <, >, & and ' as they are. A template comes from a file that anybody may have made, so

- it reaches nothing outside: Jinja's immutable sandbox, and only the methods and filters that are named here;
- its work is counted: each turn of a loop, each call, each attribute and each operation takes steps in proportion to
  the values that it works on, and what is made large from small operands (a text times a number, a padded text, a
  power) is looked at before it is made. Where the steps are used up, the template is stopped; and, should something
  take long that costs few steps, where a chat takes over ten seconds;
- it writes data alone: a function, a class or another object of Python is refused where it would become a text.

Nothing is drawn at random, and no template sees a clock: the same messages and the same date give the same text.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, ItemsView, Iterable, Iterator, KeysView, Mapping, ValuesView
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from functools import lru_cache, wraps
from itertools import chain
from sys import getsizeof
from time import thread_time
from types import BuiltinMethodType, MethodType, NoneType
from typing import Any, NoReturn

from jinja2 import Environment, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, LoopControlExtension
from jinja2.filters import make_attrgetter
from jinja2.meta import find_undeclared_variables
from jinja2.nodes import EvalContext
from jinja2.parser import Parser
from jinja2.runtime import BlockReference, Context, LoopContext, Macro, Undefined, markup_join, str_join
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Cycler, Joiner, Namespace, pass_context, pass_environment, pass_eval_context
from jinja2.visitor import NodeTransformer

from steercpp.errors import PromptError

LONGEST_SOURCE = 100_000  # characters; the longest template that llama.cpp ships has 17,000
_MOST_NODES = 10_000  # of a template's syntax; the largest that llama.cpp ships has 1,300, within each other 16
_DEEPEST = 100
_MOST_ELIFS = 200  # of one `if`; compiling takes the square of their time
_STEPS = 1_000_000  # of a template, beside one for each character of its messages: below a second
_LONGEST_S = 10.0  # of computing, of a chat, which is written several times: what takes so long is not counted rightly
_UNITS = 64  # of one step: characters, or one number or container
_PLACES = 8  # of a list, in one step
_LONG = 4096  # characters of a text that takes a step for as many, where texts are put together
_MOST_HELD = 256 << 20  # bytes of such texts at once
_LARGEST = 4_000_000  # units of one value
_MOST_DIGITS = 4000  # of a whole number, as in Python's own limit
_MOST_BITS = 4 * _MOST_DIGITS
_LONGEST_INDENT = 16
_LONGEST_DATE = 1000  # characters of a date's format
_LONGEST_REASON = 300  # characters of what a template gives as its reason

# Names of functions that templates have, beside Jinja's own filters and tests.
OFFERED = ("raise_exception", "strftime_now", "range", "dict", "namespace", "cycler", "joiner")
_NEXT = 'take the prompt raw, with `template=raw` or, in an item, "template": "raw"'


class RefusedError(PromptError):
    """The template refuses the messages, in its own words."""


class StoppedError(PromptError):
    """The template works too long, or makes too much."""


class TemplateRefusalError(Exception):
    """The template's own `raise_exception`."""


class TooMuchWorkError(Exception):
    """The steps of a template are used up, or a value would become too large."""


class _LongText(str):
    """A text that a template has put together."""

    __slots__ = ()

    def __del__(self) -> None:
        if (work := _WORK.get(None)) is not None:
            work.held = max(0, work.held - getsizeof(self))


class _Work:
    """What a template may still do."""

    __slots__ = ("calls", "held", "largest", "steps", "until")

    def __init__(self, n_chars: int) -> None:
        self.steps = _STEPS + n_chars
        self.largest = max(_LARGEST, _UNITS * n_chars)
        self.until = min(_UNTIL.get(), thread_time() + _LONGEST_S)
        self.calls = self.held = 0

    def spend(self, steps: int) -> None:
        self.steps -= steps
        self.calls += 1
        if self.steps < 0 or (self.calls % 64 == 1 and thread_time() > self.until):
            raise TooMuchWorkError("it works too long")

    def refuse_large(self, units: int) -> None:
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
        kept = _LongText(text)
        self.held += getsizeof(kept)
        if self.held > _MOST_HELD:
            raise TooMuchWorkError("it keeps too many long texts")
        return kept

    def weigh_outside(self, value: Any) -> Any:
        """Take the steps of an operation that copies a list, and nothing of what is in it; return the value."""
        if not isinstance(value, list | tuple):
            return self.weigh(value)
        self.refuse_large(_UNITS * len(value))
        self.spend(1 + len(value) // _PLACES)
        return value

    def weigh(self, value: Any) -> Any:
        """Take the steps of an operation on a value, and return the value."""
        units = _units(value, self.largest)
        self.refuse_large(units)
        self.spend(1 + units // _UNITS)
        return value


_WORK: ContextVar[_Work] = ContextVar("work of the template")
_UNTIL: ContextVar[float] = ContextVar("when a chat must have been written", default=math.inf)


@contextmanager
def limited_time() -> Iterator[None]:
    """All that templates do meanwhile is done within the time of one chat."""
    token = _UNTIL.set(min(_UNTIL.get(), thread_time() + _LONGEST_S))
    try:
        yield
    finally:
        _UNTIL.reset(token)


@contextmanager
def _counted(n_chars: int) -> Iterator[None]:
    token = _WORK.set(_Work(n_chars))
    try:
        yield
    finally:
        _WORK.reset(token)


def _units(value: Any, most: int) -> int:
    """Size of a value with all that it holds, as often as that is written with it; counted no further than `most`."""
    if isinstance(value, str):
        return len(value)
    units, held = 0, [value]
    while held and units <= most:
        item = held.pop()
        units += _UNITS
        if isinstance(item, str):
            units += len(item)
        elif isinstance(item, int):
            if item.bit_length() > _MOST_BITS:
                raise TooMuchWorkError("it computes a number that is too large")
        elif isinstance(item, range):
            units += _UNITS // 4 * len(item)
        elif (content := _content(item)) is not None:
            held.extend(content)
    return units


def _content(value: Any) -> Iterable[Any] | None:
    """What a container holds, keys and values alike; None of what is none."""
    if isinstance(value, list | tuple | ValuesView | KeysView | ItemsView):
        return value
    if isinstance(value, Mapping):
        return chain(value, value.values())
    if isinstance(value, Namespace):
        return (value._Namespace__attrs,)
    return None


class _Counting(NodeTransformer):
    """Puts the counting into a template that was parsed: what Jinja offers no hook for."""

    def visit_For(self, node: nodes.For) -> nodes.Node:
        self.generic_visit(node)
        if node.test is not None:
            node.test = nodes.And(_step(1), node.test)
        return _counted_body(node)

    def visit_Macro(self, node: nodes.Macro) -> nodes.Node:
        self.generic_visit(node)
        return _counted_body(node)

    def visit_CallBlock(self, node: nodes.CallBlock) -> nodes.Node:
        self.generic_visit(node)
        return _counted_body(node)

    def visit_Block(self, node: nodes.Block) -> nodes.Node:
        self.generic_visit(node)
        return _counted_body(node)

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        return nodes.Filter(nodes.List(node.nodes), _CONCAT, [], [], None, None, lineno=node.lineno)

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:
        self.generic_visit(node)
        node.expr = _weighed(node.expr)
        for operand in node.ops:
            operand.expr = _weighed(operand.expr)
        return node

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:
        self.generic_visit(node)
        if isinstance(node.arg, nodes.Slice):
            node.node = nodes.Filter(node.node, _COPY, [], [], None, None, lineno=node.lineno)
        return node

    def visit_Pair(self, node: nodes.Pair) -> nodes.Node:
        self.generic_visit(node)
        node.key = _weighed(node.key)
        return node


# Filters whose names no template can spell.
_WEIGH, _COPY, _STEP, _CONCAT = "weigh a value", "copy a list", "take steps", "become one text"


def _weighed(node: nodes.Expr) -> nodes.Expr:
    return nodes.Filter(node, _WEIGH, [], [], None, None, lineno=node.lineno)


def _step(steps: int) -> nodes.Expr:
    return nodes.Filter(nodes.Const(steps), _STEP, [], [], None, None)


def _counted_body(node: Any) -> nodes.Node:
    """The node, whose body takes steps each time that it is gone through: one, and those of its fixed texts."""
    n_chars = sum(len(text.data) for child in node.body for text in child.find_all(nodes.TemplateData))
    node.body.insert(0, nodes.ExprStmt(_step(1 + n_chars // _UNITS), lineno=node.lineno))
    copied: nodes.Node = node
    return copied


def _take_steps(steps: int) -> bool:
    _WORK.get().spend(steps)
    return True


def _weigh(value: Any) -> Any:
    return _WORK.get().weigh(value)


def _weigh_outside(value: Any) -> Any:
    return _WORK.get().weigh_outside(value)


@pass_context
def _written(_: Context, value: Any) -> Any:
    """What a template writes is weighed; that it takes the context keeps Jinja from working it out when it compiles."""
    return _text_of(value)


def _text_of(value: Any) -> Any:
    """Weigh a value that becomes part of a text.

    Raises:
        SecurityError: it is, or holds, what is no data.
    """
    _weigh(value)
    held = [value]
    while held:
        item = held.pop()
        if isinstance(item, str | int | float | complex | NoneType | Undefined | range | Macro | LoopContext):
            continue
        if (content := _content(item)) is None:
            raise SecurityError(f"it writes an object, a {type(item).__name__.strip('_')}, which is no text")
        held.extend(content)
    return value


@pass_eval_context
def _one_text(context: EvalContext, operands: list[Any]) -> str:
    """What `a ~ b ~ c` makes."""
    work, units = _WORK.get(), 0
    for operand in operands:
        units += _units(operand if isinstance(operand, str) else _text_of(operand), work.largest)
    work.refuse_large(units)
    return work.joined((markup_join if context.autoescape else str_join)(operands))


def _concatenated(pieces: Iterable[str]) -> str:
    """The text that a template has written."""
    written, n_chars = [], 0
    for piece in pieces:
        n_chars += len(piece)
        if n_chars > _WORK.get().largest:
            raise TooMuchWorkError("it writes a text that is too long")
        written.append(piece)
    return "".join(written)


class _GenerationTag(Extension):
    """`{% generation %}` of transformers, which marks what a model has written; it writes nothing itself."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> list[nodes.Node]:
        parser.stream.skip(1)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _refuse(reason: object) -> NoReturn:
    raise TemplateRefusalError(str(reason))


def _tojson(
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
    return "".join(_weigh(piece) for piece in encoder.iterencode(value))


@pass_environment
def _sum(environment: Environment, iterable: Iterable[Any], attribute: str | int | None = None, start: Any = 0) -> Any:
    """Jinja's filter, with each addition weighed."""
    value = make_attrgetter(environment, attribute)
    total = start
    for item in iterable:
        total = _weigh(total) + _weigh(item if attribute is None else value(item))
    return total


def _number(*values: object) -> int:
    """The largest whole number among some values, 0 where there is none."""
    return max((abs(value) for value in values if isinstance(value, int)), default=0)


def _n_lines(width: object, text: str) -> int:
    return (text.count("\n") + 1) * (len(width) if isinstance(width, str) else _number(width))


def _replaced(text: str, old: object, new: object, *_: object) -> int:
    return len(text) + text.count(str(old)) * len(str(new))


def _wrapped(text: str, between: str) -> int:
    _compare_each(text, text)  # of some texts, each piece is looked for up to the end
    return len(text) * (1 + len(between))


def _joined(pieces: Any, between: object) -> int:
    return _units(pieces, _WORK.get().largest) + (len(pieces) if hasattr(pieces, "__len__") else 0) * len(str(between))


_IN_BRACES = re.compile(r"\{[^{}]*:[^{}]*\{")  # a width that is itself a value
_IN_PERCENT = re.compile(r"%[^a-zA-Z%]*\*")


def _formatted(text: str, values: Iterable[Any], *, signs: str, nested: re.Pattern[str]) -> int:
    """At most so many characters a format makes: its numbers as widths, and at each of its places the largest value."""
    if nested.search(text):
        raise TooMuchWorkError("it takes the width of a text from a value")
    widths = sum(int(digits[:9]) for digits in re.findall(r"[0-9]+", text))
    largest = max((_units(value, _WORK.get().largest) for value in values), default=0)
    return len(text) + widths + text.count(signs) * largest


# How large the result of a filter or of a text's method may be where that does not follow from the size of its
# arguments. Each is called with the same arguments, but for what Jinja passes first.
_GROWS: Mapping[str, Callable[..., int]] = {
    "batch": lambda values, linecount, *_, **__: _number(linecount),
    "center": lambda text, width=80, *_, **__: _number(width),
    "expandtabs": lambda text, size=8: text.count("\t") * _number(size),
    "format": lambda text, *values, **named: _formatted(
        str(text), (*values, *named.values()), signs="%", nested=_IN_PERCENT
    ),
    "indent": lambda text, width=4, *_, **__: _n_lines(width, str(text)),
    "join": lambda pieces, between="", *_, **__: _joined(pieces, between),
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
_METHODS = {
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
_LEFT_OUT = frozenset(("pprint", "random", "striptags", "urlize", "xmlattr"))  # drawn, or of untold work
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
_FROM_THE_END = frozenset(("rfind", "rindex", "rpartition", "rsplit"))  # which may compare all of it at each place
_STRIPS = frozenset(("lstrip", "rstrip", "strip", "trim"))
_CALLED = Macro, LoopContext, BlockReference, Joiner, Undefined


def _looked_at(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter or a test whose arguments and result are weighed."""
    grows = _GROWS.get(name)
    passed = int(getattr(function, "jinja_pass_arg", None) is not None)  # the context, or the environment
    if name in _GLANCES:
        return _stepped(function)
    take = _weigh if name in _HANDS_ON or name.startswith("is ") else _text_of

    @wraps(function)
    def weighed(*values: Any, **named: Any) -> Any:
        if name == "join" and len(values) > passed and isinstance(values[passed], Iterator):
            values = (*values[:passed], list(values[passed]), *values[passed + 1 :])
        if name in _GOES_OVER and len(values) > passed:
            _weigh_outside(values[passed])
        for value in (*values[passed + (name in _GOES_OVER) :], *named.values()):
            take(value)
        if name in _STRIPS:
            _compare_each(str(values[passed]), *values[passed + 1 :], *named.values())
        if grows is not None:
            _WORK.get().refuse_large(grows(*values[passed:], **named))
        made = function(*values, **named)
        weigh = _weigh_outside if name in _GOES_OVER else _weigh
        return _each_counted(made, weigh) if isinstance(made, Iterator) else weigh(made)

    return weighed


def _stepped(function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter or a test that takes one step."""

    @wraps(function)
    def stepped(*values: Any, **named: Any) -> Any:
        _take_steps(1)
        return function(*values, **named)

    return stepped


def _each_counted(values: Iterator[Any], weigh: Callable[[Any], Any]) -> Iterator[Any]:
    for value in values:
        yield weigh(value)


def _compare_each(text: str, *others: object) -> None:
    """Take the steps of comparing each character of a text with all those of another."""
    longest = max((len(other) for other in others if isinstance(other, str)), default=0)
    _WORK.get().spend(len(text) * longest // _UNITS)


def _look_at_method(name: str, owner: str, values: tuple[Any, ...], named: Mapping[str, Any]) -> None:
    """Weigh what a text's method takes beyond the size of its arguments."""
    work = _WORK.get()
    if name == "join" and values:
        work.refuse_large(_joined(values[0], owner))
    elif name in _STRIPS or name in _FROM_THE_END:
        _compare_each(owner, *values, *named.values())
    elif name in _GROWS and name != "format":
        work.refuse_large(_GROWS[name](owner, *values, **named))


class _Environment(ImmutableSandboxedEnvironment):
    """The environment of chat templates. It is the same for all: what a template may still do is in `_WORK`."""

    intercepted_binops = frozenset(("+", "-", "*", "/", "//", "%", "**"))
    concat = staticmethod(_concatenated)

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True, lstrip_blocks=True, optimized=False, finalize=_written,
            extensions=[_GenerationTag, LoopControlExtension],
        )  # fmt: skip
        self.filters.update(tojson=_tojson, sum=_sum)
        self.filters = {
            name: _looked_at(name, function) for name, function in self.filters.items() if name not in _LEFT_OUT
        }
        self.filters |= {_WEIGH: _weigh, _COPY: _weigh_outside, _STEP: _take_steps, _CONCAT: _one_text}
        tests: dict[str, Any] = dict(self.tests)
        self.tests = {name: _looked_at(f"is {name}", function) for name, function in tests.items()}
        del self.globals["lipsum"]
        self.globals["raise_exception"] = _refuse
        self._functions = {id(function) for function in self.globals.values()}

    def is_safe_callable(self, obj: Any) -> bool:
        """Whether a template may call it: what the environment offers, its own macros, and harmless methods."""
        if isinstance(obj, _CALLED) or id(obj) in self._functions or isinstance(obj, _OfferedFunction):
            return True
        owner = getattr(obj, "__self__", None)
        names = next((names for kind, names in _METHODS.items() if isinstance(owner, kind)), frozenset[str]())
        return getattr(obj, "__name__", "") in names

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805, B902
        """Weigh what is called with what, and what that gives."""
        if not __self.is_safe_callable(__obj):
            raise SecurityError(f"it calls {getattr(__obj, '__name__', 'something')}, which templates may not")
        if isinstance(owner := getattr(__obj, "__self__", None), str):
            args = tuple(list(value) if isinstance(value, Iterator) else value for value in args)
        if isinstance(__obj, _CALLED) or __obj is Namespace:  # which take their arguments as they are
            _take_steps(1 + len(args) + len(kwargs))
            made = super().call(__context, __obj, *args, **kwargs)
            return _weigh(made) if isinstance(made, str) else made
        for value in (*args, *kwargs.values()):
            _weigh(value)
        if isinstance(owner, str | list | tuple | dict):
            _weigh(owner)
        if isinstance(owner, str):
            _look_at_method(__obj.__name__, owner, args, kwargs)
        return _weigh(super().call(__context, __obj, *args, **kwargs))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Weigh the operands, and look at what the result may be."""
        if operator == "+" and type(left) in (str, _LongText) and type(right) in (str, _LongText):
            _WORK.get().refuse_large(len(left) + len(right))
            return _WORK.get().joined(left + right)
        if operator == "+" and isinstance(left, list | tuple) and isinstance(right, list | tuple):
            return _weigh_outside(super().call_binop(context, operator, left, right))
        _weigh(left), _weigh(right)
        work = _WORK.get()
        if operator == "%" and isinstance(left, str):
            values = right.values() if isinstance(right, Mapping) else right if isinstance(right, tuple) else (right,)
            _text_of(right)
            work.refuse_large(_formatted(left, values, signs="%", nested=_IN_PERCENT))
        elif operator == "*":
            for repeated, times in ((left, right), (right, left)):
                if isinstance(repeated, str | list | tuple) and isinstance(times, int):
                    work.refuse_large(_units(repeated, work.largest) * max(times, 0))
        if isinstance(left, int) and isinstance(right, int) and operator in ("*", "**"):
            n_bits = left.bit_length() * abs(right) if operator == "**" else left.bit_length() + right.bit_length()
            if n_bits > _MOST_DIGITS * 3:
                raise TooMuchWorkError("it computes a number that is too large")
        return _weigh(super().call_binop(context, operator, left, right))

    def getattr(self, obj: Any, attribute: str) -> Any:
        """Take a step."""
        _take_steps(1)
        return super().getattr(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        """Take a step."""
        _weigh(argument)
        return super().getitem(obj, argument)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """A text's `format`, whose widths are looked at before."""
        wrapped = super().wrap_str_format(value)
        if wrapped is None or not isinstance(value, MethodType | BuiltinMethodType):
            return wrapped
        return _OfferedFunction(wrapped, str(value.__self__))


class _OfferedFunction:
    """A text's `format` or `format_map` in the sandbox, as a template calls it."""

    def __init__(self, function: Callable[..., str], text: str) -> None:
        self._function, self._text = function, text
        self.__name__ = "format"

    def __call__(self, *values: Any, **named: Any) -> str:
        looked_at = (*values, *named.values())
        _weigh(self._text)
        _text_of(looked_at)
        _WORK.get().refuse_large(_formatted(self._text, looked_at, signs="{", nested=_IN_BRACES))
        return self._function(*values, **named)


class _Date(_OfferedFunction):
    """`strftime_now`, which tells one day."""

    def __init__(self, day: datetime) -> None:
        super().__init__(day.strftime, "")
        self.__name__ = "strftime_now"

    def __call__(self, *values: Any, **named: Any) -> str:
        if any(isinstance(text, str) and len(text) > _LONGEST_DATE for text in (*values, *named.values())):
            raise TooMuchWorkError(f"it writes a date in more than {_LONGEST_DATE} characters")
        return self._function(*values, **named)


def _refuse_large_syntax(tree: nodes.Template) -> None:
    """Compiling takes the longer the more there is, and the deeper: of some kinds the square."""
    n_nodes, held = 0, [(tree, 0)]  # type: tuple[int, list[tuple[nodes.Node, int]]]
    while held:
        node, depth = held.pop()
        n_nodes += 1
        if n_nodes > _MOST_NODES or depth > _DEEPEST or len(getattr(node, "elif_", ())) > _MOST_ELIFS:
            raise TooMuchWorkError("it has too many parts, or too many within each other")
        held.extend((child, depth + 1) for child in node.iter_child_nodes())


def parsed(source: str) -> nodes.Template:
    """The syntax of a template, which is looked at and never run.

    Raises:
        PromptError: it is none.
    """
    if len(source) > LONGEST_SOURCE:
        raise PromptError(
            f"the model's chat template has {len(source):,} characters, and at most {LONGEST_SOURCE:,} are read; "
            f"{_NEXT}"
        )
    try:
        with _counted(len(source)):
            tree = _environment().parse(source)
            _refuse_large_syntax(tree)
            return tree
    except Exception as error:
        raise _broken(error) from error


def _broken(error: Exception) -> PromptError:
    return PromptError(f"the model's chat template is broken: {_reason(error)}; {_NEXT}")


class Program:
    """A template that was compiled.

    Args:
        source: Jinja code.

    Attributes:
        free: names of the variables that it expects from outside, the functions above among them.

    Raises:
        PromptError: it is no template, or too long.
    """

    def __init__(self, source: str) -> None:
        tree, environment = parsed(source), _environment()
        try:
            with _counted(len(source)):
                self.free = frozenset(find_undeclared_variables(tree))
                _Counting().visit(tree)
                tree.set_environment(environment)
                self._template = environment.from_string(tree)
        except Exception as error:
            raise _broken(error) from error

    def run(self, variables: Mapping[str, Any], *, date: str) -> str:
        """What the template writes.

        Args:
            variables: what it knows, in JSON's types.
            date: the day that `strftime_now` tells, "2026-11-29".

        Raises:
            PromptError: it refuses, fails or works too long.
        """
        functions = {"strftime_now": _Date(datetime.fromisoformat(date))}
        try:
            with _counted(_units(variables, 2**62)):
                return self._template.render(**{**functions, **variables})
        except TemplateRefusalError as error:
            raise RefusedError(f"the model's chat template refuses these messages: {_in_line(str(error))}") from error
        except TooMuchWorkError as error:
            raise StoppedError(f"the model's chat template was stopped: {error}; {_NEXT}") from error
        except Exception as error:
            raise PromptError(f"the model's chat template cannot be used: {_reason(error)}; {_NEXT}") from error


def _reason(error: Exception) -> str:
    """An error that a template made, in one line."""
    words = _in_line(str(error))
    if isinstance(error, RecursionError):
        return "it calls itself too often"
    if isinstance(error, MemoryError):
        return "it needs too much memory"
    if isinstance(error, KeyError):
        return f"it has no {words}"
    return words or type(error).__name__


def _in_line(text: str) -> str:
    """The beginning of a text that a template made, in one line and without addresses of memory."""
    words = " ".join(re.sub(r" at 0x[0-9a-fA-F]+", "", text[: 4 * _LONGEST_REASON]).split())
    return words if len(words) <= _LONGEST_REASON else f"{words[: _LONGEST_REASON - 1]}…"


@lru_cache(maxsize=1)
def _environment() -> _Environment:
    return _Environment()


def program(source: str) -> Program:
    """The compiled template; see `Program`."""
    made = _program(source)
    if isinstance(made, str):
        raise PromptError(made)
    return made


@lru_cache(maxsize=16)
def _program(source: str) -> Program | str:
    """The compiled template, or why it is none: it is asked for again and again, and takes long to be found broken."""
    try:
        return Program(source)
    except PromptError as error:
        return str(error)
