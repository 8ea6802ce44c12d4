"""The program in a generated answer to a coding problem; read this to see what of a text is run.

Two ways by name. "whole" takes all of the program that an answer holds, wherever it stands: the fenced block with the
function, or else the text; a continuation of the problem's head or an answer that repeats it; with its imports and
helper functions, without the talk around it. "wolf2024" is the extraction of Wolf et al. 2024, arXiv:2401.16332
(section 2.5 of their code's description): the first function alone, behind fixed imports. Theirs imported a name that
NumPy 2 lacks, so that every answer failed; that import is left out, and so is all of NumPy, which the sandbox has not.
"""

from __future__ import annotations

import ast
import re
import textwrap
import threading
import warnings
from collections.abc import Iterator
from typing import Protocol

from steercpp.choices import CODE_WAYS, CodeWay
from steercpp.errors import InputError

WOLF_TIMEOUT_S = 5.0  # of each of their three steps: definition, test, check; ours is one limit for all
PREAMBLE = "\n".join(
    f"import {name}" for name in
    ("collections", "copy", "datetime", "functools", "hashlib", "heapq", "itertools", "math", "random", "re", "string")
) + "\nfrom typing import *\n"  # fmt: skip
_FENCE = re.compile(r"^([ \t]*)(`{3,})[^`\n]*\n(.*?)(?:^[ \t]*\2`*[ \t]*$|\Z)", re.MULTILINE | re.DOTALL)
_CODE = re.compile(
    r"(?:async\s+)?def\s+\w+\s*\(|class\s+\w+\s*[(:]|from\s+[\w.]+\s+import\b|import\s+[\w.]+\s*(?:,|as|$)|@\w"
    r"|\w+\s*(?::[^=]+)?=\s*\S"
)
_BLANK_LINES = re.compile(r"\A(?:[ \t]*\n)+")
_FUTURE = re.compile(r"from\s+__future__\s+import\b")
_KEPT = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign)
_INDENT = "    "
_ONE_AT_A_TIME = threading.Lock()  # filters of warnings belong to the whole process


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


def program(item: Problem, text: str, *, way: CodeWay = "whole") -> str:
    """What is run for a generated text: its code, the problem's test, and the call of that.

    Args:
        item: the problem.
        text: what the model wrote after the prompt.
        way: a name in CODE_WAYS, see above.

    Returns:
        Python source; it comes to its end without an error where the answer is right. Source that does not compile
        where the text holds no program.

    Raises:
        InputError: a way that does not exist.
    """
    if way not in CODE_WAYS:
        raise InputError(f"way {way!r} of taking code out of a text is unknown; use {' or '.join(CODE_WAYS)}")
    code = answer_code(item, text) if way == "whole" else PREAMBLE + first_function(item, text)
    return f"{code.rstrip()}\n\n{item.test.strip()}\n\ncheck({item.entry_point})\n"


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
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    for readings in _readings(item, text):
        programs = [_compiled(given, code, item.entry_point) for given, code in readings]
        n_lines, code = max(programs, key=lambda program: program[0])  # the first that keeps most of the answer
        if n_lines:
            return code
    return item.prompt + text


def _readings(item: Problem, text: str) -> Iterator[list[tuple[str, str]]]:
    """What may stand before an answer's code, and that code: from what is believed first, each in its variants."""
    first = next((line for line in text.split("\n") if line.strip()), "")
    if first[:1].isspace() and not _defines(item.entry_point, first):
        yield [(item.prompt, text)]  # goes on with the body; fences further down are talk
    blocks = _blocks(text)
    block = next((code for code in blocks if _defines(item.entry_point, code)), blocks[0] if blocks else None)
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


def _blocks(text: str) -> list[str]:
    """The code between fences of backquotes, less the fence's own indentation; a last one may lack its end."""
    blocks = []
    for match in _FENCE.finditer(text):
        margin, _, code = match.groups()
        blocks.append("\n".join(line.removeprefix(margin) for line in code.split("\n")))
    return blocks


def _from_code(text: str) -> str:
    """The text from its first line that looks like code."""
    lines = text.split("\n")
    start = next((i for i, line in enumerate(lines) if _CODE.match(line.strip())), 0)
    return "\n".join(lines[start:])


def _shifted(text: str) -> str:
    """The text moved left by the indentation of its first line, lines that have less by their own."""
    margin = len(text) - len(text.lstrip(" \t"))
    return "\n".join(line[min(margin, len(line) - len(line.lstrip())) :] for line in text.split("\n"))


def _compiled(given: str, code: str, entry_point: str) -> tuple[int, str]:
    """How many lines of an answer's code compile behind what is given, and the program they make.

    The longest run of lines from the top that compiles; of it imports, functions, classes and assignments, up to a
    second definition of the function that was asked for. What an answer calls or asserts beside is its own talk.
    """
    lines = code.rstrip().split("\n")
    future = [line for line in lines if _FUTURE.match(line)]  # which Python wants above all else
    lines = [line for line in lines if not _FUTURE.match(line)]
    given = "".join(f"{line}\n" for line in [*future, *([given.rstrip("\n")] if given.strip() else [])])
    n_given, n = given.count("\n"), len(lines)
    while n > 0:
        source = given + "\n".join(lines[:n]) + "\n"
        tree = _parsed(source)
        if isinstance(tree, ast.Module):
            return n, _kept(source, tree, entry_point, n_given=n_given)
        # What cannot stand on a line cannot with fewer lines behind it either.
        n = max(0, min(n, tree - n_given) - 1)
    return 0, ""


def _parsed(source: str) -> ast.Module | int:
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


def _kept(source: str, tree: ast.Module, entry_point: str, *, n_given: int) -> str:
    """The lines of the statements that stay."""
    kept: list[int] = []
    n_defined = 0
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == entry_point:
            n_defined += 1
        if n_defined == 2:
            break
        if isinstance(node, _KEPT) or node.lineno <= n_given:
            start = min([node.lineno, *(decorator.lineno for decorator in getattr(node, "decorator_list", ()))])
            kept += range(start, (node.end_lineno or start) + 1)
    lines = source.split("\n")
    return "\n".join(lines[i - 1] for i in dict.fromkeys(kept)) + "\n"
