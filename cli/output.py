"""How results look in a terminal; read this to write a command. Rich is used here and in terminal, layouts, progress.

stdout is data, stderr is talk. A command gives `emit` its result as a plain dict, and a function that returns
what a person should see, made of the pieces here: `table`, `facts`, `panel`, `text`, `joined`, `verbatim`, `blank`.
`console` (stdout) and `talk` (stderr) are made on first use, since importing Rich takes longer than `--help`.
Text that came from a model goes through `text`, never through Rich's markup: "[/INST]" would be read as a tag.

In plain mode, for screen readers, the same pieces are lines of words: no frames, no colors, no drawings, and a table
is a line for each row, with the heading before each cell.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import click

from steercpp.cli.signals import noticing
from steercpp.cli.terminal import bars, console_of
from steercpp.cli.terminal import be_plain as be_plain
from steercpp.cli.terminal import escaping as escaping
from steercpp.cli.terminal import give_up_stdout as give_up_stdout
from steercpp.cli.terminal import has as has
from steercpp.cli.terminal import in_lines as in_lines
from steercpp.cli.terminal import is_plain as is_plain
from steercpp.cli.terminal import joined as joined
from steercpp.cli.terminal import replace_what_cannot_be_encoded as replace_what_cannot_be_encoded
from steercpp.cli.terminal import say as say
from steercpp.cli.terminal import shown as shown
from steercpp.cli.terminal import text as text
from steercpp.cli.words import in_options
from steercpp.encoding import json_ready, one_line

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.text import Text

    from steercpp.cli.progress import Course

    console: Console
    talk: Console
    Renderable: TypeAlias = RenderableType
    Cell: TypeAlias = str | Text
    Words: TypeAlias = Text

Report: TypeAlias = Callable[[int, int, str], None]  # (done, total, label)
Column: TypeAlias = tuple[str, Literal["left", "right"]]
Draw: TypeAlias = "Callable[[int, int], Sequence[Text]]"  # of a width and a height, 0 for any; as lines
NARROW = 60  # columns, below which a frame takes more than it gives


def __getattr__(name: str) -> Any:
    if name in ("console", "talk"):
        return console_of(stderr=name == "talk")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def emit(data: Mapping[str, Any], *, as_json: bool, render: Callable[[], Sequence[Renderable]]) -> None:
    """Print a result on stdout: one JSON document, or what `render` returns, piece after piece."""
    if as_json:
        click.echo(json.dumps(json_ready(data), indent=2, allow_nan=False))
        return
    from rich.console import Group

    # not cropped: a bare Text would be joined again, and then wrapped after all
    console_of(stderr=False).print(Group(*render()), crop=False, soft_wrap=is_plain())


def emit_line(data: Mapping[str, Any]) -> None:
    """Print one line of JSON Lines on stdout, at once."""
    click.echo(json.dumps(json_ready(data), allow_nan=False))


@contextmanager
def kept_in(folder: Path | None) -> Iterator[None]:
    """Note where finished work is, should Ctrl-C interrupt what is done here; None: nowhere.

    On a terminal it is told at once that the key was noticed, since a decode may take a while to come to an end.
    """
    is_watched = bool(getattr(sys.stderr, "isatty", bool)())
    try:
        with noticing(lambda: note("stopping after the step in hand")) if is_watched else nullcontext():
            yield
    except KeyboardInterrupt:
        if folder is not None and any(not path.name.startswith(".") for path in folder.glob("*")):
            note(f"{folder}: what was finished is kept; the same command goes on from there")
        elif folder is not None:
            note(f"{folder}: nothing was finished yet, so nothing is kept; the same command begins again")
        raise


def note(message: str) -> None:
    """Tell the user something on stderr, above a progress bar if there is one; parameters become options.

    It begins with "note: ", as an error does with "error: ", which tells it from what a command prints.
    """
    message = in_options(message)
    if bars:
        bars[-1].console.print(joined([("note: ", "yellow"), (in_lines(one_line(message), before=6), "")]))
    else:
        say(message, kind="note", fg="yellow")


def verbatim(content: str, style: str = "") -> Text:
    """A line to be copied (a path, a command): never wrapped or cut."""
    from rich.text import Text

    return Text(shown(content), style=style, no_wrap=True, overflow="ignore")


def bullet(content: str, style: str = "") -> Renderable:
    """A sentence with a mark before it; its further lines are indented."""
    if is_plain():
        return text(content)
    from rich.table import Table

    made = Table.grid(padding=(0, 1))
    made.add_row(text("·", "dim"), text(content, style))
    return made


def blank() -> Text:
    """An empty line."""
    return text("")


def table(
    columns: Sequence[Column], rows: Sequence[Sequence[Cell]], *, title: str | None = None, edge: bool = True
) -> Renderable:
    """Rows under headings; where a terminal is too narrow, each row is a block of lines.

    Args:
        columns: (heading, side to which its cells are pushed).
        rows: texts, one for each column; a `text(...)` where a cell has a style of its own.
        title: a line above.
        edge: whether there is space around it.
    """
    cells = [[_cell(cell) for cell in row] for row in rows]
    headings = [(shown(heading), side) for heading, side in columns]
    heading = None if title is None else text(title, "bold")
    if is_plain():
        lines = [_line([(name, cell) for (name, _), cell in zip(headings, row, strict=True)]) for row in cells]
        return text("\n".join([*([] if title is None else [f"{title.strip()}:"]), *lines]))
    from steercpp.cli.layouts import Columns

    return Columns(headings, cells, heading, edge=edge)


def beside(left: Renderable, draw: Draw, *, least: int, most: int, below: bool = True) -> Renderable:
    """A table with a drawing beside it, or below it where the terminal is narrow.

    Args:
        left: the table.
        draw: makes it, so wide and high.
        least: how wide it is at least; with less room beside the table it stands below.
        most: how wide it is at most.
        below: False where there is no room below, and the drawing is left out.
    """
    from steercpp.cli.layouts import Beside

    return Beside(left, draw, least=least, most=most, below=below)


def below(*pieces: Renderable) -> Renderable:
    """Pieces as one, each below the other."""
    from rich.console import Group

    return Group(*pieces)


def _cell(content: Cell) -> Text:
    return text(content) if isinstance(content, str) else content


def _line(named: Sequence[tuple[str, Text]]) -> str:
    """A row in words: each cell after its heading."""
    worded = ((name.strip(), " ".join(cell.plain.split())) for name, cell in named)
    return ", ".join(f"{name}: {words}" if name else words for name, words in worded if words)


def tail(content: str, n_lines: int, *, beside: int) -> Text:
    """The last lines of a text that is still growing, for `progress`.

    Args:
        content: all of it.
        n_lines: how many lines at most.
        beside: characters of the terminal's width that are taken by something else.
    """
    from rich.text import Text

    terminal = console_of(stderr=True)
    lines = text(content).wrap(terminal, max(terminal.width - beside, 8))[-n_lines:]
    return Text("\n").join(lines)


def facts(rows: Sequence[tuple[Cell, Cell]]) -> Renderable:
    """Names and what they are, in two columns, or one below the other where the terminal is narrow."""
    cells = [(_cell(name), _cell(value)) for name, value in rows]
    if is_plain():
        lines, name = [], ""
        for name_cell, value in cells:
            name = name_cell.plain.strip() or name  # what has no name goes on with the one before
            lines.append(f"{name}: {value.plain}" if name else value.plain)
        return text("\n".join(lines))
    from steercpp.cli.layouts import Facts

    return Facts(cells)


def grid(rows: Sequence[Sequence[Cell]], sides: str) -> Renderable:
    """Rows without headings; `sides` has "l" or "r" for each column."""
    cells = [[_cell(cell) for cell in row] for row in rows]
    if is_plain():
        return text("\n".join(" ".join(cell.plain for cell in row if cell.plain) for row in cells))
    from rich.table import Table

    made = Table.grid(padding=(0, 2))
    for side in sides:
        made.add_column(justify="left" if side == "l" else "right", overflow="fold")
    for row in cells:
        made.add_row(*row)
    return made


def panel(*pieces: Renderable, title: str) -> Renderable:
    """Pieces in a frame with a title, as wide as what they need; without the frame where a terminal is narrow."""
    from rich import box
    from rich.console import Group
    from rich.panel import Panel

    if is_plain() or console_of(stderr=False).width < NARROW:
        return Group(blank(), text(title, "bold"), blank(), *pieces, blank())
    return Panel(Group(*pieces), title=text(title, "bold"), title_align="left", box=box.ROUNDED,
                 border_style="dim", padding=(1, 2), expand=False)  # fmt: skip


@contextmanager
def progress(*, above: Callable[[int], Renderable] | None = None, beside_data: bool = False) -> Iterator[Course | None]:
    """Show on stderr how far a flow is, and the time left; see progress.py.

    Args:
        above: draws what stands above the bar, again at each report, in at most so many lines.
        beside_data: data are printed on stdout meanwhile: nothing is shown where both are terminals.

    Yields:
        progress(done, total, label) for a library flow, or None where nothing is shown.
    """
    from steercpp.cli.progress import showing

    with showing(above=above, beside_data=beside_data) as course:
        yield course
