"""Tables for people: headings in words, a number with its interval in one cell, as many digits as that leaves.

    grid({"strength": [0.02], "alignment": [0.587], "alignment_se": [0.09]})
    # Grid(headings=("strength", "B ± s.e."), rows=(("+0.02", "0.587 ± 0.090"),), is_word=(False, False))

CSV files have each number and its bounds in columns of their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from steercpp.reports.headings import heading
from steercpp.spreadsheets import Columns
from steercpp.statistics.rounded import fixed, interval, rounded, significant, strength_text

SE, LOW, HIGH = "_se", "_low", "_high"
NOTHING = "–"


@dataclass(frozen=True, slots=True)
class Grid:
    """A table of texts.

    Attributes:
        headings: of the columns.
        rows: cells, row by row.
        is_word: of each column, whether its cells are words, which stand on the left.
    """

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    is_word: tuple[bool, ...]


def grid(columns: Columns) -> Grid:
    """A table of a report for people."""
    known = {name: list(column) for name, column in columns.items()}
    headings, cells, is_word = [], [], []
    for name, column in known.items():
        base = next((name.removesuffix(end) for end in (SE, LOW, HIGH) if name.endswith(end)), "")
        if base in known:
            continue
        shown, means = _cells(name, column, known)
        headings.append(heading(name) + means)
        cells.append(shown)
        is_word.append(any(isinstance(value, str) for value in column))
    return Grid(tuple(headings), tuple(zip(*cells, strict=True)), tuple(is_word))


def _cells(name: str, column: Sequence[Any], known: Mapping[str, Sequence[Any]]) -> tuple[list[str], str]:
    """The cells of a column with what its neighbors say of it, and what stands behind its heading."""
    if name == "strength":
        return [strength_text(value) for value in column], ""
    errors, lows, highs = (known.get(f"{name}{end}") for end in (SE, LOW, HIGH))
    if lows is not None and highs is not None:
        return [_bounded(*numbers) for numbers in zip(column, lows, highs, strict=True)], " (95%)"
    if lows is not None:
        return [_one_sided(value, low, "at least") for value, low in zip(column, lows, strict=True)], ""
    if highs is not None:
        return [_one_sided(value, high, "at most") for value, high in zip(column, highs, strict=True)], ""
    if errors is not None:
        return [_with_error(value, error) for value, error in zip(column, errors, strict=True)], " ± s.e."
    return [_alone(value) for value in column], ""


def _bounded(value: Any, low: Any, high: Any) -> str:
    if not (_is_number(value) and _is_number(low) and _is_number(high)):
        return _alone(value)
    error = (high - low) / 4
    return f"{rounded(value, error)} ({interval(low, high)})"


def _one_sided(value: Any, bound: Any, words: str) -> str:
    if not (_is_number(value) and _is_number(bound)):
        return _alone(value)
    error = abs(bound - value) / 2
    return f"{rounded(value, error)} ({words} {rounded(bound, error)})"


def _with_error(value: Any, error: Any) -> str:
    return (
        f"{rounded(value, error)} ± {rounded(error, error)}"
        if _is_number(value) and _is_number(error)
        else _alone(value)
    )


def _alone(value: Any) -> str:
    if value is None or (isinstance(value, float | np.floating) and not np.isfinite(value)):
        return NOTHING
    if not isinstance(value, float | np.floating):
        return str(value)
    number = float(value)
    return fixed(number, 0) if 1e3 <= abs(number) < 1e6 else significant(number)


def _is_number(value: Any) -> bool:
    return value is not None and bool(np.isfinite(value))
