"""The terminal: what it can spell, whether it wants plain lines, its two consoles, and text that is safe on it.

Nothing that a file, a name or a model says steers the terminal. As long as a command runs, stdout and stderr are
`Escaping` streams, through which click's errors, warnings and everything else go, and which spell control characters
out. Past them goes what is drawn in color alone: Rich's consoles, which look at each piece (`layouts.SafeConsole`), and
`say`.

Rich is imported on first use, since that takes longer than `--help`.
"""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from typing import TYPE_CHECKING, Any, TextIO, cast

import click

from steercpp.encoding import one_line, printable, visible

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

# What stands for a character that an encoding lacks, where a question mark would say nothing.
SPELLED = {
    "−": "-", "–": "-", "—": "-", "…": "...", "·": "-", "▶": ">", "≥": ">=", "≤": "<=", "±": "+/-", "×": "x",
    "²": "^2", "Δ": "Delta ", "δ": "delta ", "λ": "lambda ", "σ": "sigma ", "β": "beta ", "✓": "ok", "✗": "no",
    "│": "|", "└": "+", "─": "-", "┤": "|", "▲": "^", "▁": "_", "▂": ".", "▃": "-", "▄": "~", "▅": "=", "▆": "+",
    "▇": "*", "█": "#", "⟦": "[", "⟧": "]", "’": "'", "“": '"', "”": '"',
}  # fmt: skip
DECIDING = ("NO_COLOR", "TERM", "COLUMNS", "LINES", "FORCE_COLOR")  # variables
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
# A word, or what is not to be broken: a path at the beginning, something in quotes, a command up to its end.
_WHOLE = re.compile(
    r"(?:\A[^:;]*/[^:;]*:|(?<!\w)'[^']*'|\bsteercpp [a-z]+(?: (?!(?:to|and|or|for|with|which) )[^\s;,()]+)*|\S)+"
)
_is_plain = False
bars: list[Live] = []  # on the screen now


def replace_what_cannot_be_encoded() -> None:
    """Let stdout and stderr write ? for a character that their encoding lacks, where they would raise an error.

    A redirected stdout has the console's old encoding on Windows, and ASCII in the locale C. JSON spells such
    characters as escapes, so it loses none.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
            stream.reconfigure(errors="replace")


class Escaping:
    """A stream that spells control characters out; line breaks and tabs stay. Everything else is the stream's own.

    It has no `buffer`: bytes would go past it.
    """

    def __init__(self, stream: TextIO) -> None:
        self.rich_proxied_file = stream  # where Rich's consoles write

    def write(self, content: str | bytes) -> int:
        """Write it, with control characters as escapes; the length of what was given. Click's completion is bytes."""
        text = content if isinstance(content, str) else content.decode("utf-8", "surrogateescape")
        self.rich_proxied_file.write(text if _is_harmless(text) else visible(text))
        return len(content)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write them one after the other."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        if name in ("buffer", "rich_proxied_file"):
            raise AttributeError(name)
        return getattr(self.rich_proxied_file, name)


@contextmanager
def escaping() -> Iterator[None]:
    """Let stdout and stderr spell control characters out, also in the traceback of an error that nobody expects."""
    streams = sys.stdout, sys.stderr
    guards = [stream if stream is None or isinstance(stream, Escaping) else Escaping(stream) for stream in streams]
    sys.stdout, sys.stderr = cast("list[TextIO]", guards)
    try:
        yield
    except Exception:  # Python tells of it when all is over
        raise
    except BaseException:  # the end of a command, as click has it
        _restore(streams, guards)
        raise
    else:
        _restore(streams, guards)


def _restore(streams: tuple[TextIO, TextIO], guards: Sequence[object]) -> None:
    """Give back those that nobody else has replaced since."""
    if sys.stdout is guards[0]:
        sys.stdout = streams[0]
    if sys.stderr is guards[1]:
        sys.stderr = streams[1]


def _is_harmless(content: str) -> bool:
    return content.isascii() and not _CONTROL.search(content)


def say(sentence: str, *, kind: str = "", **style: Any) -> None:
    """A sentence on stderr, in the lines of a terminal, after its kind ("note", "error") in a style where wanted."""
    before = f"{_styled(f'{kind}:', **style)} " if kind else ""
    words = in_lines(shown(one_line(sentence)), before=len(kind) + 2 if kind else 0)
    click.echo(f"{before}{words}", file=getattr(sys.stderr, "rich_proxied_file", sys.stderr))


def in_lines(sentence: str, *, before: int = 0) -> str:
    """A sentence broken between words where stderr is a terminal; elsewhere, and in plain mode, as it is.

    A path that it begins with, what it quotes and a command of steercpp stay whole, to be copied.

    Args:
        sentence: without line breaks.
        before: columns of its first line that are taken.
    """
    width = _stderr_width()
    if _is_plain or not width:
        return sentence
    lines, room = [""], width - before
    for word in _WHOLE.findall(sentence):
        if lines[-1] and len(lines[-1]) + 1 + len(word) > room:
            lines.append("")
            room = width
        lines[-1] += f" {word}" if lines[-1] else word
    return "\n".join(lines)


def _stderr_width() -> int:
    """Columns of the terminal that stderr is; 0 where it is none."""
    try:
        if not sys.stderr.isatty():
            return 0
        columns = os.environ.get("COLUMNS", "")
        return int(columns) if columns.isdecimal() else os.get_terminal_size(sys.stderr.fileno()).columns
    except (AttributeError, OSError, ValueError):  # closed, or of a test
        return 0


def give_up_stdout() -> None:
    """Drop what stdout did not take: at the end Python would try to write it again, and tell that it cannot."""
    with suppress(OSError, ValueError):  # no file, in a test
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def be_plain(is_plain: bool) -> None:
    """Switch the plain mode on or off, from now on."""
    global _is_plain
    _is_plain = is_plain


def is_plain() -> bool:
    """Whether the plain mode is on."""
    return _is_plain


def has(letters: str) -> bool:
    """Whether both stdout and stderr can spell these characters."""
    try:
        for stream in (sys.stdout, sys.stderr):
            letters.encode(getattr(stream, "encoding", None) or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def shown(content: str) -> str:
    """A text as a terminal takes it: control characters spelled out, and what an encoding lacks in other characters."""
    content = printable(content)
    if content.isascii() or has(content):
        return content
    return "".join(SPELLED.get(letter, letter) if not has(letter) else letter for letter in content)


def _styled(content: str, **style: Any) -> str:
    """The words for stderr, in color where that is wanted."""
    is_colored = not (_is_plain or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb")
    return click.style(content, **style) if is_colored else content


def console_of(*, stderr: bool) -> Console:
    """The console of stdout, or of stderr."""
    return _made(stderr, _is_plain, *(os.environ.get(name, "") for name in DECIDING))


@cache
def _made(stderr: bool, is_plain: bool, no_color: str, *others: str) -> Console:
    """A console for what decides how it looks; Rich asks for the variables by itself, but only when it is made."""
    from steercpp.cli.layouts import SafeConsole

    return SafeConsole(
        stderr=stderr, highlight=False, markup=False, emoji=False, no_color=is_plain or bool(no_color),
        color_system=None if is_plain else "auto",
    )  # fmt: skip


@contextmanager
def on_screen(live: Live) -> Iterator[None]:
    """Let `note` know of a bar as long as it is on the screen."""
    bars.append(live)
    try:
        yield
    finally:
        bars.remove(live)


def text(content: str, style: str = "") -> Text:
    """Words that are never read as markup, wrapped at the terminal's width."""
    from rich.text import Text

    return Text(shown(content), style=style)


def joined(pieces: Sequence[tuple[str, str]]) -> Text:
    """Words in several styles, (content, style), as one text that is wrapped at the terminal's width."""
    from rich.text import Text

    return Text.assemble(*((shown(content), style) for content, style in pieces))
