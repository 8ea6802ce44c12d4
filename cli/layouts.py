"""Tables and facts that fit a terminal of any width; read this where something is cut or torn.

A table stands in columns, with headings of several lines and less space where that is needed, and below that each row
is a block of lines. No number is cut, and no word that fits on a line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import IO, Literal

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.measure import Measurement
from rich.padding import Padding
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from steercpp.encoding import printable

WORDS = 20  # columns that a cell of words has at least, where it needs so many
VALUES = 24  # the same of the values of facts; with less room they stand below their names
IN_ASCII = box.Box("    \n    \n -- \n    \n    \n    \n    \n    \n", ascii=True)  # as SIMPLE_HEAD
GAP = 2  # between names and values, and between what stands side by side


class SafeConsole(Console):
    """Rich's console, on which control characters of what is printed are spelled out, whatever it was made of."""

    @property
    def file(self) -> IO[str]:
        """The stream itself, whatever stands before it: a guard, and Rich's own while something is drawn anew."""
        stream = super().file
        while (behind := getattr(stream, "rich_proxied_file", None)) is not None:
            stream = behind
        return stream

    @file.setter
    def file(self, new_file: IO[str]) -> None:
        self._file = new_file

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        """The pieces that are drawn; Rich's own movements of the cursor stay, as they are no text."""
        for segment in super().render(renderable, options):
            is_safe = segment.control or segment.text.isprintable() or segment.text == "\n"
            yield segment if is_safe else Segment(printable(segment.text), segment.style)


class Columns:
    """Rows under headings; see the module."""

    def __init__(
        self, columns: Sequence[tuple[str, Literal["left", "right"]]], rows: Sequence[Sequence[Text]],
        title: Text | None, *, edge: bool = True,
    ) -> None:  # fmt: skip
        self._edge, self._in_ascii = edge, False
        self._columns, self._rows, self._title = columns, rows, title

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        """What fits: columns as wide as they like, with broken headings, without space around them, or blocks."""
        if self._title is not None:
            yield self._title
        yield self._fitting(console, options)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        """From its narrowest columns to those as wide as they like."""
        return Measurement.get(console, options, self._fitting(console, options))

    def _fitting(self, console: Console, options: ConsoleOptions) -> RenderableType:
        self._in_ascii = options.ascii_only
        for is_broken, is_tight in ((False, False), (True, False), (True, True)):
            room = options.max_width - self._space(is_tight)
            if sum(self._least(place, is_broken) for place in range(len(self._columns))) <= room:
                return self._table(is_broken, is_tight)
        return Group(*self._blocks())

    def _space(self, is_tight: bool) -> int:
        n = len(self._columns)
        return n - 1 if is_tight else 3 * n + 1

    def _least(self, place: int, is_broken: bool) -> int:
        """How narrow a column may be."""
        heading, side = self._columns[place]
        widest = max((_width(row[place]) for row in self._rows), default=0)
        if side == "left":
            return max(min(widest, WORDS), _longest_word(heading))
        return max(widest, _longest_word(heading) if is_broken else Text(heading).cell_len)

    def _table(self, is_broken: bool, is_tight: bool) -> Table:
        padding = (0, 0) if is_tight else (0, 1)
        table = Table(
            box=box.SIMPLE_HEAD if not self._in_ascii else IN_ASCII,
            header_style="dim",
            show_edge=self._edge and not is_tight,
            pad_edge=self._edge and not is_tight,
            padding=padding,
        )
        for place, (heading, side) in enumerate(self._columns):
            is_number = side == "right"
            table.add_column(
                Text(heading, no_wrap=False), justify=side, no_wrap=is_number, overflow="fold",
                width=self._least(place, is_broken) if is_number else None,
            )  # fmt: skip
        for row in self._rows:
            table.add_row(*row)
        return table

    def _blocks(self) -> Iterator[RenderableType]:
        """Each row as lines: its first cell, then names and values."""
        (first, side), *others = self._columns
        for number, (cell, *cells) in enumerate(self._rows):
            if number:
                yield Text("")
            is_named = first and side == "right"  # "strength +0.2"; words need no heading
            yield (
                Text.assemble((first, "dim"), " ", cell, style="bold")
                if is_named
                else Text.assemble(cell, style="bold")
            )
            names = [Text(heading) for heading, _ in others]
            shown = [(name, value) for name, value in zip(names, cells, strict=True) if value.plain]
            if shown:
                yield Padding(Facts(shown), (0, 0, 0, GAP), expand=False)


class Facts:
    """Names, and beside them what they are; below them where a terminal is narrow."""

    def __init__(self, rows: Sequence[tuple[Text, Text]]) -> None:
        self._rows = rows

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        """Runs of lines in two columns, and values that must not be broken on lines of their own."""
        width = self._names
        room = options.max_width - width - GAP
        abreast: list[tuple[Text, Text]] = []
        for name, value in self._rows:
            if _width(value) <= room or (room >= VALUES and not value.no_wrap):
                abreast.append((name, value))
                continue
            yield from self._grid(abreast, width)
            abreast = []
            if name.plain.strip():
                yield Text(name.plain.rstrip(), style="dim")
            yield value if value.no_wrap else Padding(value, (0, 0, 0, GAP), expand=False)
        yield from self._grid(abreast, width)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        """From the longest word to the longest line."""
        most = self._names + GAP + max((_width(value) for _, value in self._rows), default=0)
        return Measurement(min(self._names + GAP + WORDS, options.max_width), min(most, options.max_width))

    @property
    def _names(self) -> int:
        return max((name.cell_len for name, _ in self._rows), default=0)

    def _grid(self, rows: Sequence[tuple[Text, Text]], width: int) -> Iterator[Table]:
        if not rows:
            return
        grid = Table.grid(padding=(0, GAP))
        grid.add_column(style="dim", no_wrap=True, width=width)
        grid.add_column(overflow="fold")
        for row in rows:
            grid.add_row(*row)
        yield grid


class Beside:
    """Something with a drawing to its right, which stands below it, or nowhere, where the terminal is too narrow."""

    def __init__(
        self, left: RenderableType, draw: Callable[[int, int], Sequence[Text]], *, least: int, most: int, below: bool
    ) -> None:
        self._below = below
        self._left, self._draw, self._least, self._most = left, draw, least, most

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        """Side by side, or one below the other."""
        taken = Measurement.get(console, options, self._left).maximum
        room = options.max_width - taken - GAP
        if room < self._least:
            yield self._left
            if self._below:
                yield from self._draw(min(options.max_width - 1, self._most), 0)
            return
        n_lines = len(console.render_lines(self._left, options.update(width=taken), pad=False))
        both = Table.grid(padding=(0, GAP))
        both.add_column(width=taken)
        both.add_column(no_wrap=True)
        both.add_row(self._left, Group(*self._draw(min(room, self._most), n_lines)))
        yield both


class Fitted:
    """The last lines of something, where it would be taller than its place."""

    def __init__(self, content: RenderableType, n_lines: int) -> None:
        self._content, self._n_lines = content, n_lines

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        """Line by line."""
        for line in console.render_lines(self._content, options, pad=False)[-self._n_lines :]:
            yield from line
            yield Segment.line()


def _width(cell: Text) -> int:
    return max((line.cell_len for line in cell.split("\n", allow_blank=True)), default=0)


def _longest_word(heading: str) -> int:
    return max((Text(word).cell_len for word in heading.split()), default=0)
