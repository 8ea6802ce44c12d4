"""Chat templates as programs: parsed, compiled once, and run; read this when a template fails or is stopped.

They run in the sandbox of template_environment.py, whatever a file's maker wrote; what they do wrong is told here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any

from jinja2 import nodes
from jinja2.meta import find_undeclared_variables

from steercpp.encoding import printable
from steercpp.engine.template_budget import TooMuchWorkError, counted, size_of
from steercpp.engine.template_environment import chat_environment
from steercpp.engine.template_functions import Date, TemplateRefusalError
from steercpp.engine.template_syntax import LONGEST_SOURCE, put_counting_into, refuse_large_syntax
from steercpp.errors import PromptError

_LONGEST_REASON = 300  # characters of what a template gives as its reason
_NEXT = 'take the prompt raw, with `template=raw` or, in an item, "template": "raw"'


class RefusedError(PromptError):
    """The template refuses the messages, in its own words."""


class StoppedError(PromptError):
    """The template works too long, or makes too much."""


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
        with counted(len(source)):
            tree = chat_environment().parse(source)
            refuse_large_syntax(tree)
            return tree
    except Exception as error:
        raise _broken(error) from error


class CompiledTemplate:
    """A template that was compiled.

    Args:
        source: Jinja code.

    Attributes:
        free: names of the variables that it expects from outside, the functions of template_functions.py among them.

    Raises:
        PromptError: it is no template, or too long.
    """

    def __init__(self, source: str) -> None:
        tree, environment = parsed(source), chat_environment()
        try:
            with counted(len(source)):
                self.free = frozenset(find_undeclared_variables(tree))
                put_counting_into(tree)
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
        functions = {"strftime_now": Date(datetime.fromisoformat(date))}
        try:
            with counted(size_of(variables, 2**62)):
                return self._template.render(**{**functions, **variables})
        except TemplateRefusalError as error:
            raise RefusedError(f"the model's chat template refuses these messages: {_in_line(str(error))}") from error
        except TooMuchWorkError as error:
            raise StoppedError(f"the model's chat template was stopped: {error}; {_NEXT}") from error
        except Exception as error:
            raise PromptError(f"the model's chat template cannot be used: {_reason(error)}; {_NEXT}") from error


def compile_template(source: str) -> CompiledTemplate:
    """The compiled template; see `CompiledTemplate`."""
    made = _compiled(source)
    if isinstance(made, str):
        raise PromptError(made)
    return made


@lru_cache(maxsize=16)
def _compiled(source: str) -> CompiledTemplate | str:
    """The compiled template, or why it is none: it is asked for again and again, and takes long to be found broken."""
    try:
        return CompiledTemplate(source)
    except PromptError as error:
        return str(error)


def _broken(error: Exception) -> PromptError:
    return PromptError(f"the model's chat template is broken: {_reason(error)}; {_NEXT}")


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
    """The beginning of a text that a template made, in one line, without addresses of memory and controls."""
    words = printable(" ".join(re.sub(r" at 0x[0-9a-fA-F]+", "", text[: 4 * _LONGEST_REASON]).split()))
    return words if len(words) <= _LONGEST_REASON else f"{words[: _LONGEST_REASON - 1]}…"
