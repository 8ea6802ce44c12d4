"""The fenced blocks of code in a text; read this for where a block begins and ends.

A fence is three or more backquotes or tildes at the beginning of a line. A block ends at the first closing fence that
leaves whole Python behind it, so that a fence within a docstring ends nothing; where none does, at the first one, and
without any at the text's end. Code may begin on the opening fence's own line, and end on the closing one's.
"""

from __future__ import annotations

import ast
import re
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

_OPENING = re.compile(r"^(?P<margin>[ \t]*)(?P<fence>`{3,}|~{3,})(?P<info>[^\n]*)(?:\n|\Z)", re.MULTILINE)
_INFO = re.compile(r"\s*(?:[\w.+#-]*|\{[^{}]*\}|[\w.+#-]+\s+[\w.+#=\"'{}:/ -]*)\s*\Z")
_PYTHON = frozenset({"", "python", "py", "python3", "python2", "py3", "ipython", "pycon", "sage", "code"})
_ONE_AT_A_TIME = threading.Lock()  # filters of warnings belong to the whole process
_MOST_CLOSINGS = 32  # tried for one block


@dataclass(frozen=True, slots=True)
class CodeBlock:
    """A fenced block: the language that its fence names, in small letters, and its code without the margin."""

    language: str
    code: str

    @property
    def is_python(self) -> bool:
        """Whether its fence names Python, or no language."""
        return self.language in _PYTHON


def code_blocks(text: str) -> tuple[CodeBlock, ...]:
    """The blocks of a text in their order."""
    return tuple(_blocks(text))


def _blocks(text: str) -> Iterator[CodeBlock]:
    place = 0
    while opening := _OPENING.search(text, place):
        info, start = opening["info"], opening.end()
        language = re.match(r"\s*\{?\s*\.?([\w+#-]*)", info)
        name = language[1].casefold() if language else ""
        if not _INFO.match(info):  # code on the fence's own line
            name, start = "", opening.end("fence")
        code, place = _content(text, start, opening["fence"], opening["margin"])
        yield CodeBlock(name, code)


def _content(text: str, start: int, fence: str, margin: str) -> tuple[str, int]:
    """A block's code, and where the text goes on behind it."""
    closing = re.compile(rf"(?:^[ \t]*|(?<=\S)){fence[0]}{{{len(fence)},}}[ \t]*$", re.MULTILINE)
    first: tuple[str, int] | None = None
    for match in islice(closing.finditer(text, start), _MOST_CLOSINGS):
        content = _without_margin(text[start : match.start()], margin), match.end()
        if is_python(content[0]):
            return content
        first = first or content
    whole = _without_margin(text[start:], margin), len(text)
    return whole if first is None or is_python(whole[0]) else first


def _without_margin(code: str, margin: str) -> str:
    return "\n".join(line.removeprefix(margin) for line in code.split("\n"))


def is_python(code: str) -> bool:
    """Whether a text compiles as a module of Python, or does so once it is indented or put into a function."""
    body = code.strip("\n")
    sources = (body, f"if 1:\n{body}", f"def f():\n{body}", f"def f():\n {body.lstrip()}".replace("\n", "\n "))
    return any(isinstance(parsed(source + "\n"), ast.Module) for source in sources)


def parsed(source: str) -> ast.Module | int:
    """Its syntax tree, or the number of the line where it ceases to be Python; the last one's where that is unknown."""
    try:
        with _ONE_AT_A_TIME, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of invalid escapes and the like, which say nothing here
            compile(source, "answer", "exec", dont_inherit=True)
            return ast.parse(source)
    except SyntaxError as error:
        return error.lineno or source.count("\n")
    except (ValueError, RecursionError, MemoryError, OverflowError):
        return source.count("\n")
