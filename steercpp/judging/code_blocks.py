"""The fenced blocks of code in a text; read this for where a block begins and ends.

A fence is three or more backquotes or tildes at the beginning of a line. A block ends at the first closing fence that
leaves whole Python behind it, so that a fence within a docstring ends nothing; where none does, at the first one, and
without any at the text's end. Code may begin on the opening fence's own line, and end on the closing one's.

Reading an answer compiles parts of it again and again, so its `Work` is bounded: no text of more than 65,536 letters,
and no name of more than 200 parts, is Python, and no more than 2,097,152 letters are compiled for one answer. Python's
compiler takes a time that grows with the square of a name's parts, and recurses once for each `for` of a comprehension.
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
MOST_LETTERS = 1 << 16  # of a program
MOST_WORK = 1 << 21  # letters compiled for one answer
_LITTLE = 1 << 8
_LONG_NAME = re.compile(r"(?:\.[\s\\]*+\w++[\s\\]*+){200}")


class Work:
    """What may still be compiled for one answer."""

    def __init__(self, letters: int = MOST_WORK) -> None:
        self.letters = letters

    @property
    def is_done(self) -> bool:
        """Whether next to nothing may be compiled any more: no block is looked at twice then."""
        return self.letters < _LITTLE

    def takes(self, source: str) -> bool:
        """Whether a source may be compiled; from then on it has been."""
        if len(source) > min(MOST_LETTERS, self.letters) or _LONG_NAME.search(source):
            return False
        self.letters -= len(source)
        return True


@dataclass(frozen=True, slots=True)
class CodeBlock:
    """A fenced block: the language that its fence names, in small letters, and its code without the margin."""

    language: str
    code: str

    @property
    def is_python(self) -> bool:
        """Whether its fence names Python, or no language."""
        return self.language in _PYTHON


def code_blocks(text: str, work: Work | None = None) -> tuple[CodeBlock, ...]:
    """The blocks of a text in their order."""
    return tuple(_blocks(text, work or Work()))


def _blocks(text: str, work: Work) -> Iterator[CodeBlock]:
    place = 0
    while opening := _OPENING.search(text, place):
        info, start = opening["info"], opening.end()
        language = re.match(r"\s*\{?\s*\.?([\w+#-]*)", info)
        name = language[1].casefold() if language else ""
        if not _INFO.match(info):  # code on the fence's own line
            name, start = "", opening.end("fence")
        code, place = _content(text, start, opening["fence"], opening["margin"], work)
        yield CodeBlock(name, code)


def _content(text: str, start: int, fence: str, margin: str, work: Work) -> tuple[str, int]:
    """A block's code, and where the text goes on behind it."""
    closing = re.compile(rf"(?:^[ \t]*|(?<=[^\s{fence[0]}])){fence[0]}{{{len(fence)},}}+[ \t]*$", re.MULTILINE)
    first: tuple[str, int] | None = None
    for match in islice(closing.finditer(text, start), _MOST_CLOSINGS):
        if first and (work.is_done or match.start() - start > MOST_LETTERS):
            return first
        content = _without_margin(text[start : match.start()], margin), match.end()
        if is_python(content[0], work):
            return content
        first = first or content
    if first and (work.is_done or len(text) - start > MOST_LETTERS):
        return first
    whole = _without_margin(text[start:], margin), len(text)
    return whole if first is None or is_python(whole[0], work) else first


def _without_margin(code: str, margin: str) -> str:
    return "\n".join(line.removeprefix(margin) for line in code.split("\n"))


def is_python(code: str, work: Work | None = None) -> bool:
    """Whether a text compiles as a module of Python, or does so once it is indented or put into a function."""
    body = code.strip("\n")
    sources = (body, f"if 1:\n{body}", f"def f():\n{body}", f"def f():\n {body.lstrip()}".replace("\n", "\n "))
    work = work or Work()
    return any(isinstance(parsed(source + "\n", work), ast.Module) for source in sources)


def parsed(source: str, work: Work) -> ast.Module | int | None:
    """Its syntax tree, or the number of the line where it ceases to be Python; None where that cannot be told."""
    if not work.takes(source):
        return None
    try:
        with _ONE_AT_A_TIME, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of invalid escapes and the like, which say nothing here
            compile(source, "answer", "exec", dont_inherit=True)
            return ast.parse(source)
    except SyntaxError as error:
        return error.lineno or None
    except (ValueError, RecursionError, MemoryError, OverflowError):
        return None
