"""The program in a generated answer to a coding problem; read this to see what of a text is run.

Two ways by name. "whole" takes all of the program that an answer holds, wherever it stands: its fenced blocks of Python
one behind the other, or else the text; a continuation of the problem's head or an answer that repeats it; without the
talk around it, and without the thoughts before it (answers.py). It may be read in several ways, and an answer passes
if one of them does (`programs`): with the statements that the function needs (needed.py), whole as it stands, and the
first definition of the function alone, where a later one takes its place.

"wolf2024" is the extraction of Wolf et al. 2024, arXiv:2401.16332 (section 2.5 of their code's description): the first
function alone, behind fixed imports. Theirs imported a name that NumPy 2 lacks, so that every answer failed; that
import is left out, and so is all of NumPy, which the sandbox has not.
"""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from steercpp.choices import CODE_WAYS, CodeWay
from steercpp.errors import InputError
from steercpp.judging.answers import answer_of
from steercpp.judging.code_blocks import MOST_LETTERS, Work, code_blocks, parsed
from steercpp.judging.needed import needed
from steercpp.judging.sandbox import Program

WOLF_TIMEOUT_S = 5.0  # of each of their three steps: definition, test, check; ours is one limit for all
PREAMBLE = "\n".join(
    f"import {name}" for name in
    ("collections", "copy", "datetime", "functools", "hashlib", "heapq", "itertools", "math", "random", "re", "string")
) + "\nfrom typing import *\n"  # fmt: skip
_CODE = re.compile(
    r"(?:async\s+)?def\s+\w+\s*\(|class\s+\w+\s*[(:]|from\s+[\w.]+\s+import\b|import\s+[\w.]+\s*(?:,|as|$)|@\w"
    r"|\w+\s*(?::[^=]+)?=\s*\S"
)
_BLANK_LINES = re.compile(r"\A(?:[ \t]*\n)+")
_FUTURE = re.compile(r"from\s+__future__\s+import\b")
_INDENT = "    "


class Problem(Protocol):
    """A function to write: `CodeItem` and `CodeProblem` of data/ are such."""

    @property
    def prompt(self) -> str:
        """Its head and docstring, behind imports and other functions it may use."""

    @property
    def entry_point(self) -> str:
        """Its name."""

    @property
    def test(self) -> str:
        """Source of `check(candidate)`, which raises where the function is wrong."""


def program(item: Problem, text: str, *, way: CodeWay = "whole") -> Program:
    """What is run for a generated text: its code, the problem's test, and the call of that; the first of `programs`."""
    return programs(item, text, way=way)[0]


def programs(item: Problem, text: str, *, way: CodeWay = "whole") -> tuple[Program, ...]:
    """What is run for a generated text, in this order until one passes; each once.

    Args:
        item: the problem.
        text: what the model wrote after the prompt, its thoughts among it.
        way: a name in CODE_WAYS, see above.

    Returns:
        Python source; it comes to its end without an error where the answer is right, and its code and test may be
        run apart. Source that does not compile where the text holds no program.

    Raises:
        InputError: a way that does not exist.
    """
    if way not in CODE_WAYS:
        raise InputError(f"way {way!r} of taking code out of a text is unknown; use {' or '.join(CODE_WAYS)}")
    test = f"{item.test.strip()}\n\ncheck({item.entry_point})\n"
    if way == "wolf2024":
        return (Program.of(PREAMBLE + first_function(item, answer_of(text)), test, given=PREAMBLE),)
    given = item.prompt[: _head_at(item)]
    return tuple(
        Program.of(code, test, given=given) for code in dict.fromkeys(map(str.rstrip, answer_codes(item, text)))
    )


def first_function(item: Problem, text: str) -> str:
    """From the first line with "def " to the first line that is not indented, of the text behind its head.

    Blank lines do not end the function: what theirs did there is not told. A problem with a helper function above its
    head loses the function that was asked for, as theirs did.
    """
    source = text if f"def {item.entry_point}" in text else item.prompt + text
    lines = source.split("\n")
    start = next((i for i, line in enumerate(lines) if "def " in line), len(lines))
    body = start + 1
    while body < len(lines) and (not lines[body].strip() or lines[body][0].isspace()):
        body += 1
    return "\n".join(lines[start:body])


def answer_code(item: Problem, text: str) -> str:
    """All of the program in an answer, with what the problem gives above its function; the text where there is none."""
    return answer_codes(item, text)[0]


def answer_codes(item: Problem, text: str) -> tuple[str, ...]:
    """The program in an answer, read in each way, see above."""
    text = answer_of(text.replace("\r\n", "\n").replace("\r", "\n"))
    work = Work()
    found = code_blocks(text, work)
    blocks = [block.code for block in found if block.is_python or _defines(item.entry_point, block.code)]
    places = [i for i, code in enumerate(blocks) if _defines(item.entry_point, code)] or [0]
    place = next((i for i in places if i < len(blocks) and _is_module(blocks[i], work)), places[0])
    alone = blocks[place] if blocks else None
    joined = "\n".join(code.rstrip() for i, code in enumerate(blocks) if i == place or _is_module(code, work)) + "\n"
    codes: dict[str, str] = {}  # by what they do: blank lines and comments make no other program
    for source in (joined, alone) if len(blocks) > 1 else (alone,):
        if best := _best(item, text, source, work):
            for read in (best.needed, lambda _, best=best: best.source, best.first):
                try:
                    code = read(item.entry_point)
                    tree = parsed(code, work)
                    codes.setdefault(ast.dump(tree) if isinstance(tree, ast.Module) else code, code)
                except RecursionError:  # nested too deeply to be written again, or to be compared
                    codes.setdefault(best.source, best.source)
    return tuple(codes.values()) or (_without_program(item, text),)


def _without_program(item: Problem, text: str) -> str:
    """What is run for an answer that holds no program: its text, which fails with the place where it is no Python."""
    source = item.prompt + text
    if len(source) <= MOST_LETTERS:
        return source
    return f"raise SyntaxError('no program of at most {MOST_LETTERS} letters')\n"


def _best(item: Problem, text: str, block: str | None, work: Work) -> Compiled | None:
    """The first reading of an answer that keeps most of its code; None where none has any."""
    for readings in _readings(item, text, block):
        compiled = [_compiled(given, code, work) for given, code in readings]
        best = max(compiled, key=lambda code: code.n_lines)
        if best.n_lines:
            return best
    return None


def _is_module(code: str, work: Work) -> bool:
    """Whether a block beside the function's own is a program by itself, and no example of a session or of output."""
    return isinstance(parsed(code + "\n", work), ast.Module)


def _readings(item: Problem, text: str, block: str | None) -> Iterator[list[tuple[str, str]]]:
    """What may stand before an answer's code, and that code: from what is believed first, each in its variants."""
    first = next((line for line in text.split("\n") if line.strip()), "")
    if first[:1].isspace() and not _defines(item.entry_point, first):
        yield [(item.prompt, text)]  # goes on with the body; fences further down are talk
    code = text if block is None else block
    if _defines(item.entry_point, code):
        above = item.prompt[: _head_at(item)]
        starts = (_BLANK_LINES.sub("", code), _from_code(code))
        yield [(above, shifted) for start in starts for shifted in (start.lstrip(), _shifted(start))]
        return
    rest = code.lstrip("\n")
    yield [
        (item.prompt, code),
        (item.prompt, _INDENT + rest.lstrip()),  # the first line's spaces are often lost between prompt and answer
        (item.prompt, textwrap.indent(textwrap.dedent(rest), _INDENT)),
    ]


def _head_at(item: Problem) -> int:
    """Where the head of the function begins in the prompt; its end where the prompt has no head."""
    head = _defines(item.entry_point, item.prompt)
    return head.start() if head else len(item.prompt)


def _defines(name: str, code: str) -> re.Match[str] | None:
    return re.search(rf"^[ \t]*(?:async[ \t]+)?def[ \t]+{re.escape(name)}[ \t]*\(", code, re.MULTILINE)


def _from_code(text: str) -> str:
    """The text from its first line that looks like code."""
    lines = text.split("\n")
    start = next((i for i, line in enumerate(lines) if _CODE.match(line.strip())), 0)
    return "\n".join(lines[start:])


def _shifted(text: str) -> str:
    """The text moved left by the indentation of its first line, lines that have less by their own."""
    margin = len(text) - len(text.lstrip(" \t"))
    return "\n".join(line[min(margin, len(line) - len(line.lstrip())) :] for line in text.split("\n"))


@dataclass(frozen=True, slots=True)
class Compiled:
    """Code behind what the problem gives, as far as it compiles.

    Attributes:
        n_lines: of the answer's code; 0 where none compiles.
        n_given: lines before it.
        source: all of it.
        tree: its syntax.
    """

    n_lines: int
    n_given: int
    source: str
    tree: ast.Module

    def needed(self, entry_point: str) -> str:
        """The statements that the function needs, those given among them."""
        return self._kept(self.tree.body, entry_point)

    def first(self, entry_point: str) -> str:
        """The same up to a second definition of the function."""
        places = [place for place, node in enumerate(self.tree.body) if _is_function(node, entry_point)]
        return self._kept(self.tree.body[: places[1]] if len(places) > 1 else self.tree.body, entry_point)

    def _kept(self, body: Sequence[ast.stmt], entry_point: str) -> str:
        kept = set(map(id, needed(body, entry_point)))
        return self._lines([node for node in body if node.lineno <= self.n_given or id(node) in kept])

    def _lines(self, nodes: Sequence[ast.stmt]) -> str:
        """The lines of some of its statements; one that shares a line with another that goes is written again."""
        lines, staying = self.source.split("\n"), set(map(id, nodes))
        dropped = {i for node in self.tree.body if id(node) not in staying for i in _span(node)}
        kept: dict[int, str] = {}
        for node in nodes:
            if not dropped.isdisjoint(_span(node)):
                kept[node.lineno] = "\n".join(filter(None, (kept.get(node.lineno), ast.unparse(node))))
            else:
                kept.update({i: lines[i - 1] for i in _span(node)})
        return "".join(f"{line}\n" for _, line in sorted(kept.items()))


def _span(node: ast.stmt) -> range:
    """Numbers of the lines of a statement, its decorators among them."""
    start = min([node.lineno, *(decorator.lineno for decorator in getattr(node, "decorator_list", ()))])
    return range(start, (node.end_lineno or start) + 1)


def _is_function(node: ast.stmt, name: str) -> bool:
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name


def _compiled(given: str, code: str, work: Work | None = None) -> Compiled:
    """The longest run of an answer's lines from the top that compiles behind what is given."""
    work = work or Work()
    lines = code.rstrip().split("\n")
    future = [line for line in lines if _FUTURE.match(line)]  # which Python wants above all else
    lines = [line for line in lines if not _FUTURE.match(line)]
    given = "".join(f"{line}\n" for line in [*future, *([given.rstrip("\n")] if given.strip() else [])])
    n_given, n = given.count("\n"), len(lines)

    def read(n: int) -> tuple[str, ast.Module | int | None]:
        source = given + "\n".join(lines[:n]) + "\n"
        return source, parsed(source, work)

    while n > 0:
        source, tree = read(n)
        if isinstance(tree, ast.Module):
            return Compiled(n, n_given, source, tree)
        if tree is None:  # too much for the compiler, and so is what has more lines
            few, many = 0, n
            while many - few > 1:
                half = (few + many) // 2
                few, many = (few, half) if read(half)[1] is None else (half, many)
            n = few
        else:  # what cannot stand on a line cannot with fewer lines behind it either
            n = max(0, min(n, tree - n_given) - 1)
    return Compiled(0, n_given, "", ast.Module([], []))
