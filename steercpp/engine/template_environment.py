"""The environment in which chat templates run: Jinja's immutable sandbox, whose work is bounded.

It is that of transformers and of llama-cpp-python 0.3.36 (its Jinja2ChatFormatter): trimmed blocks, `break` and
`continue`, `strftime_now`, `raise_exception`, a `generation` tag that writes nothing, and a `tojson` that leaves <, >,
& and ' as they are. A template comes from a file that anybody may have made, so

- it reaches nothing outside: only the functions and methods (template_functions.py) and filters (template_filters.py)
  that are named;
- its work is counted (template_budget.py), by filters that are put into its syntax (template_syntax.py) and here;
- it writes data alone: a function, a class or another object of Python is refused where it would become a text.

Nothing is drawn at random, and no template sees a clock: the same messages and the same date give the same text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from types import BuiltinMethodType, MethodType
from typing import Any

from jinja2.exceptions import SecurityError
from jinja2.ext import LoopControlExtension
from jinja2.nodes import EvalContext
from jinja2.runtime import BlockReference, Context, LoopContext, Macro, Undefined, markup_join, str_join
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Joiner, Namespace, pass_context, pass_eval_context

from steercpp.engine.template_budget import (
    MOST_DIGITS,
    LongText,
    TooMuchWorkError,
    budget,
    size_of,
    take_steps,
    text_of,
    weigh,
    weigh_outside,
)  # fmt: skip
from steercpp.engine.template_filters import IN_PERCENT, LEFT_OUT, formatted_size, looked_at, sum_of, to_json
from steercpp.engine.template_functions import METHODS, OfferedFunction, look_at_method, refuse
from steercpp.engine.template_syntax import CONCAT, COPY, STEP, WEIGH, GenerationTag

_CALLED = Macro, LoopContext, BlockReference, Joiner, Undefined


@pass_context
def _written(_: Context, value: Any) -> Any:
    """What a template writes is weighed; that it takes the context keeps Jinja from working it out when it compiles."""
    return text_of(value)


@pass_eval_context
def _one_text(context: EvalContext, operands: list[Any]) -> str:
    """What `a ~ b ~ c` makes."""
    work, units = budget(), 0
    for operand in operands:
        units += size_of(operand if isinstance(operand, str) else text_of(operand), work.largest)
    work.refuse_large(units)
    return work.joined((markup_join if context.autoescape else str_join)(operands))


def _concatenated(pieces: Iterable[str]) -> str:
    """The text that a template has written."""
    written, n_chars = [], 0
    for piece in pieces:
        n_chars += len(piece)
        if n_chars > budget().largest:
            raise TooMuchWorkError("it writes a text that is too long")
        written.append(piece)
    return "".join(written)


_CALL = 8  # steps of a function, beside those of its values


class _Environment(ImmutableSandboxedEnvironment):
    """The environment of chat templates. It is the same for all: what a template may still do is in `budget()`."""

    intercepted_binops = frozenset(("+", "-", "*", "/", "//", "%", "**"))
    concat = staticmethod(_concatenated)

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True, lstrip_blocks=True, optimized=False, finalize=_written,
            extensions=[GenerationTag, LoopControlExtension],
        )  # fmt: skip
        self.filters.update(tojson=to_json, sum=sum_of)
        self.filters = {
            name: looked_at(name, function) for name, function in self.filters.items() if name not in LEFT_OUT
        }
        self.filters |= {WEIGH: weigh, COPY: weigh_outside, STEP: take_steps, CONCAT: _one_text}
        tests: dict[str, Any] = dict(self.tests)
        self.tests = {name: looked_at(f"is {name}", function) for name, function in tests.items()}
        del self.globals["lipsum"]
        self.globals["raise_exception"] = refuse
        self._functions = {id(function) for function in self.globals.values()}

    def is_safe_callable(self, obj: Any) -> bool:
        """Whether a template may call it: what the environment offers, its own macros, and harmless methods."""
        if isinstance(obj, _CALLED) or id(obj) in self._functions or isinstance(obj, OfferedFunction):
            return True
        owner = getattr(obj, "__self__", None)
        names = next((names for kind, names in METHODS.items() if isinstance(owner, kind)), frozenset[str]())
        return getattr(obj, "__name__", "") in names

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805, B902
        """Weigh what is called with what, and what that gives."""
        if not __self.is_safe_callable(__obj):
            raise SecurityError(f"it calls {getattr(__obj, '__name__', 'something')}, which templates may not")
        take_steps(_CALL)
        if isinstance(owner := getattr(__obj, "__self__", None), str):
            args = tuple(list(value) if isinstance(value, Iterator) else value for value in args)
        if isinstance(__obj, _CALLED) or __obj is Namespace:  # which take their arguments as they are
            take_steps(1 + len(args) + len(kwargs))
            made = super().call(__context, __obj, *args, **kwargs)
            return weigh(made) if isinstance(made, str) else made
        for value in (*args, *kwargs.values()):
            weigh(value)
        if isinstance(owner, str | list | tuple | dict):
            weigh(owner)
        if isinstance(owner, str):
            look_at_method(__obj.__name__, owner, args, kwargs)
        return weigh(super().call(__context, __obj, *args, **kwargs))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Weigh the operands, and look at what the result may be."""
        if operator == "+" and type(left) in (str, LongText) and type(right) in (str, LongText):
            budget().refuse_large(len(left) + len(right))
            return budget().joined(left + right)
        if operator == "+" and isinstance(left, list | tuple) and isinstance(right, list | tuple):
            return weigh_outside(super().call_binop(context, operator, left, right))
        weigh(left), weigh(right)
        work = budget()
        if operator == "%" and isinstance(left, str):
            values = right.values() if isinstance(right, Mapping) else right if isinstance(right, tuple) else (right,)
            text_of(right)
            work.refuse_large(formatted_size(left, values, signs="%", nested=IN_PERCENT))
        elif operator == "*":
            for repeated, times in ((left, right), (right, left)):
                if isinstance(repeated, str | list | tuple) and isinstance(times, int):
                    work.refuse_large(size_of(repeated, work.largest) * max(times, 0))
        if isinstance(left, int) and isinstance(right, int) and operator in ("*", "**"):
            n_bits = left.bit_length() * abs(right) if operator == "**" else left.bit_length() + right.bit_length()
            if n_bits > MOST_DIGITS * 3:
                raise TooMuchWorkError("it computes a number that is too large")
        return weigh(super().call_binop(context, operator, left, right))

    def getattr(self, obj: Any, attribute: str) -> Any:
        """Take a step."""
        take_steps(1)
        return super().getattr(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        """Take a step."""
        weigh(argument)
        return super().getitem(obj, argument)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """A text's `format`, whose widths are looked at before."""
        wrapped = super().wrap_str_format(value)
        if wrapped is None or not isinstance(value, MethodType | BuiltinMethodType):
            return wrapped
        return OfferedFunction(wrapped, str(value.__self__))


@lru_cache(maxsize=1)
def chat_environment() -> _Environment:
    """The one environment of all chat templates."""
    return _Environment()
