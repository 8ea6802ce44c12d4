"""Curves over strengths as characters, one below the other, or each in a sentence for who cannot see them.

Dots of Unicode's braille, 2 x 4 to a character, or a star for each column where the encoding has none. The ends of both
axes are written out, and the recommended strength has a line through the curves with a mark below.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from steercpp.aliases import Floats
from steercpp.cli import output
from steercpp.cli.views.pieces import signed

DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # of a braille character, by row and column
LEAST, MOST = 24, 44  # columns of a chart with its axis
HEIGHTS = (3, 6)  # lines of a curve, at least and at most
COLORS = ("cyan", "yellow")
Pieces = list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Curve:
    """One measure over the strengths.

    Attributes:
        name: what it is.
        values: one for each strength; NaN is left out.
        form: writes a value at an end of the axis.
        from_zero: whether the axis begins at 0, so that a small loss looks small.
    """

    name: str
    values: Sequence[float]
    form: Callable[[float], str]
    from_zero: bool = False

    @property
    def ends(self) -> tuple[float, float]:
        """The lower and upper end of its axis."""
        finite = [value for value in self.values if value == value] or [0.0]
        low, high = min(finite), max(finite)
        return (min(low, 0.0), max(high, 0.0)) if self.from_zero else (low, high)


def chart(
    strengths: Sequence[float], curves: Sequence[Curve], *, width: int, height: int = 0, mark: float | None = None
) -> list[output.Words]:
    """Lines of at most `width` columns, and of about `height` lines; 0 for a height of its own.

    Args:
        strengths: ascending.
        curves: over them.
        width: columns, axes and all.
        height: lines.
        mark: the strength that is pointed at.
    """
    labels = [[curve.form(end) for end in reversed(curve.ends)] for curve in curves]
    margin = max(len(label) for pair in labels for label in pair) + 1
    n_columns = max(width - margin - 1, 8)
    n_lines = (height - 2) // len(curves) - 1 if height else HEIGHTS[1]
    n_lines = min(max(n_lines, HEIGHTS[0]), HEIGHTS[1])
    at = None if mark is None else _place(mark, strengths, n_columns)
    lines: list[Pieces] = []
    for curve, (high, low), color in zip(curves, labels, COLORS, strict=False):
        lines.append([(" " * margin + curve.name[:n_columns], "bold")])
        for number, row in enumerate(_drawn(strengths, curve, n_columns, n_lines)):
            label = high if number == 0 else low if number == n_lines - 1 else ""
            lines.append(
                [(f"{label:>{margin - 1}} ┤" if label else f"{'':>{margin}}│", "dim"), *_marked(row, at, color)]
            )
    lines.append([(f"{'':>{margin}}└{'─' * n_columns}", "dim")])
    lines += _feet(strengths, n_columns, margin + 1, at, mark)
    return [output.joined(line) for line in lines]


def sentence(strengths: Sequence[float], curve: Curve, mark: float | None = None) -> str:
    """The curve in words, such as "B rises from -0.10 at -0.06 to +0.08 at +0.04"."""
    known = [(s, value) for s, value in zip(strengths, curve.values, strict=True) if value == value]
    if len(known) < 2:
        return f"{curve.name} was measured at {len(known)} strengths"
    path = _turns(known)
    words = f"{curve.name} "
    for number, ((s, value), (later, following)) in enumerate(pairwise(path)):
        verb = "rises" if following > value else "falls" if following < value else "stays"
        start = f" from {curve.form(value)} at {signed(s)}" if number == 0 else ""
        words += f"{', then ' if number else ''}{verb}{start} to {curve.form(following)} at {signed(later)}"
    at_mark = dict(known).get(mark) if mark is not None else None
    if mark is None or at_mark is None or mark in dict(path):
        return words
    return f"{words}; it is {curve.form(at_mark)} at {signed(mark)}"


def _turns(known: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The ends of a curve, and its highest and lowest point where these stand out from the ends."""
    values = [value for _, value in known]
    least = (max(values) - min(values)) / 10
    ends = (values[0], values[-1])
    places = {0, len(known) - 1}
    if max(values) > max(ends) + least:
        places.add(values.index(max(values)))
    if min(values) < min(ends) - least:
        places.add(values.index(min(values)))
    return [known[place] for place in sorted(places)]


def _place(strength: float, strengths: Sequence[float], n_columns: int) -> int:
    """The column of a strength."""
    low, high = strengths[0], strengths[-1]
    return round((strength - low) / ((high - low) or 1.0) * (n_columns - 1))


def _drawn(strengths: Sequence[float], curve: Curve, n_columns: int, n_lines: int) -> list[str]:
    """The curve itself, line by line."""
    is_braille = output.has("⣿")
    across, down = (2, 4) if is_braille else (1, 1)
    values = np.asarray(curve.values, np.float64)
    known = np.isfinite(values)
    if not known.any():
        return [" " * n_columns] * n_lines
    low, high = curve.ends
    x = np.linspace(strengths[0], strengths[-1], n_columns * across)
    y = np.interp(x, np.asarray(strengths)[known], values[known], left=np.nan, right=np.nan)
    height = n_lines * down - 1
    levels = (high - y) / (high - low) * height if high > low else np.where(np.isnan(y), y, height / 2)
    return _braille(levels, n_columns, n_lines) if is_braille else _stars(levels, n_lines)


def _filled(levels: Floats) -> list[tuple[int, int]]:
    """(column, row) of all dots: of each column its own and those that lead to the next."""
    rows = [None if level != level else round(level) for level in levels.tolist()]
    dots = [(column, row) for column, row in enumerate(rows) if row is not None]
    for column, (row, following) in enumerate(pairwise(rows)):
        if row is not None and following is not None:
            low, high = sorted((row, following))
            dots += [(column, between) for between in range(low + 1, high)]
    return dots


def _braille(levels: Floats, n_columns: int, n_lines: int) -> list[str]:
    cells = [[0] * n_columns for _ in range(n_lines)]
    for column, row in _filled(levels):
        cells[row // 4][column // 2] |= DOTS[row % 4][column % 2]
    return ["".join(chr(0x2800 + cell) if cell else " " for cell in line) for line in cells]


def _stars(levels: Floats, n_lines: int) -> list[str]:
    cells = [[" "] * len(levels) for _ in range(n_lines)]
    for column, row in _filled(levels):
        cells[row][column] = "*"
    return ["".join(line) for line in cells]


def _marked(row: str, at: int | None, color: str) -> Pieces:
    """A line of a curve, with the recommended strength in it."""
    if at is None:
        return [(row, color)]
    through = row[at] if row[at] != " " else "│"
    return [(row[:at], color), (through, "bold green"), (row[at + 1 :], color)]


def _feet(strengths: Sequence[float], n_columns: int, margin: int, at: int | None, mark: float | None) -> list[Pieces]:
    """The ends of the strengths, and the mark between them, or below where there is no room for it."""
    first, last = signed(strengths[0]), signed(strengths[-1])
    line = list(f"{first}{last:>{max(n_columns - len(first), len(last) + 1)}}")
    if at is None or mark is None:
        return [[(" " * margin + "".join(line), "dim")]]
    for words in (f"▲ {signed(mark)}", "▲"):
        fits = at + len(words) <= len(line)
        if fits and all(letter == " " for letter in line[max(at - 1, 0) : at + len(words) + 1]):
            after = "".join(line[at + len(words) :])
            return [[(" " * margin + "".join(line[:at]), "dim"), (words, "bold green"), (after, "dim")]]
    return [[(" " * margin + "".join(line), "dim")], [(" " * (margin + at) + "▲", "bold green")]]
