"""Measured curves in CSV files; read this when you have points from elsewhere, without items.

    strength,alignment
    -1,-0.66

The first column is strength; then `alignment` (B, aligned minus misaligned, -1 to 1), `p_correct` or
`p_correct_restricted` (P over the vocabulary or over the choices, 0 to 1), in any number and order. Columns of other
names are left out and named in `Curve.ignored`. Names of earlier versions, `b` and `p_free`, are read as well.
"""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from steercpp.aliases import Floats
from steercpp.errors import CurveError
from steercpp.inputs import read_input, reading
from steercpp.spreadsheets import cell_text, n_columns
from steercpp.statistics.names import today

MEASURES = {"alignment": (-1.0, 1.0), "p_correct": (0.0, 1.0), "p_correct_restricted": (0.0, 1.0)}


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """Points of one or more measures at the same strengths.

    Attributes:
        strengths: (n_s,), in the file's order, each once.
        measures: (n_s,) by name, see MEASURES.
        ignored: columns that were left out.
    """

    strengths: Floats
    measures: dict[str, Floats]
    ignored: tuple[str, ...]


def read_curve(path: Path) -> Curve:
    """Read a CSV curve.

    Raises:
        CurveError: unreadable (the message names the path), not UTF-8, no such columns, a row of another length, a
            value that is no number or out of range, a strength given twice, no rows. The message starts with
            path:line.
    """
    with reading(path, CurveError):
        try:
            text = read_input(path).decode("utf-8-sig")  # spreadsheets begin UTF-8 files with a byte-order mark
        except UnicodeDecodeError as error:
            line = error.object[: error.start].count(b"\n") + 1
            raise CurveError(f"{path}:{line}: not UTF-8 text; save the table as CSV in UTF-8") from error
        except OSError as error:
            raise CurveError(f"{path}: cannot be read: {error.strerror or error}; check the path") from error
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        rows: list[tuple[int, list[str]]] = []
        line = 1  # on which a row begins
        try:
            for row in reader:
                rows.append((line, [cell_text(cell).strip() for cell in row]))
                line = reader.line_num + 1
        except csv.Error as error:
            raise CurveError(f"{path}:{line}: not CSV: {error}") from error
        rows = [(line, row) for line, row in rows if any(row)]
        if not rows:
            raise CurveError(f"{path}:1: empty; the first line is strength,alignment or strength,p_correct")
        columns = _columns(path, rows[0][0], [name if name in MEASURES else today(name) for name in rows[0][1]])
        points = {line: _point(f"{path}:{line}", row, columns) for line, row in rows[1:]}
        if not points:
            raise CurveError(f"{path}:{rows[0][0]}: no points below the heading")
        table = np.array(list(points.values()))
        _check_distinct(path, list(points), table[:, 0])
        known = [name for name in columns if name in MEASURES]
        return Curve(
            strengths=table[:, 0],
            measures={name: table[:, 1 + i] for i, name in enumerate(known)},
            ignored=tuple(name for name in columns[1:] if name not in MEASURES),
        )


def _columns(path: Path, line: int, heading: list[str]) -> list[str]:
    written = ",".join(heading)
    if heading[0] != "strength" or not any(name in MEASURES for name in heading[1:]):
        expected = "strength,alignment or strength,p_correct[,p_correct_restricted]"
        raise CurveError(f"{path}:{line}: the heading is {written[:80]!r}; write {expected}")
    if len(set(heading)) < len(heading):
        raise CurveError(f"{path}:{line}: the heading {written[:80]!r} names a column twice")
    return heading


def _point(place: str, row: list[str], columns: list[str]) -> list[float]:
    """Strength and known measures of one line."""
    if len(row) != len(columns):
        raise CurveError(f"{place}: {n_columns(row)}, the heading has {len(columns)}")
    point = []
    for name, cell in zip(columns, row, strict=True):
        if name != "strength" and name not in MEASURES:
            continue
        low, high = MEASURES.get(name, (-math.inf, math.inf))
        try:
            value = float(cell)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise CurveError(f"{place}: {name} is {cell[:40]!r}, which is not a finite number")
        if not low <= value <= high:
            raise CurveError(
                f"{place}: {name} is {value:g}, outside {low:g} to {high:g}; correct it, or divide per cents by 100"
            )
        point.append(value)
    return point


def _check_distinct(path: Path, lines: list[int], strengths: Floats) -> None:
    seen: dict[float, int] = {}
    for line, strength in zip(lines, strengths.tolist(), strict=True):
        if strength in seen:
            raise CurveError(f"{path}:{line}: strength {strength:g} stands on line {seen[strength]} already")
        seen[strength] = line
