"""Tables as CSV that a spreadsheet opens without obeying it; read this to write a CSV file, or to read one of ours.

A text that begins with = + - @, or with a tab or line break before them, is a formula to a spreadsheet: it may read
other cells and send them away. Such a text is written after an apostrophe, `'=1+1`; numbers stay as they are, -0.5 as
much as a text that is one. So that nothing is lost, a text that begins with apostrophes and such a sign gets one more;
`cell_text` takes one away.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any, TypeAlias

import numpy as np

Columns: TypeAlias = Mapping[str, Sequence[Any] | np.ndarray[Any, Any]]

# What a spreadsheet skips, signs in their wide forms too; a tab or a line break is a sign by itself to some of them.
_FORMULA = re.compile("'*(?:[\t\r\n]|[\\s\0\ufeff]*[=+\\-@\uff1d\uff0b\uff0d\uff20])")
_PARTING = re.compile('[,;"\t\r\n]')
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")


def csv_bytes(columns: Columns) -> bytes:
    r"""A table as a CSV file in UTF-8: 10 digits of a number, nothing where there is none, no text that is a formula.

    Args:
        columns: by heading, all of one length; numbers, texts, flags, None.

    >>> csv_bytes({"id": ["=1+1", "a"], "B": [-0.5, None]})
    b"id,B\n'=1+1,-0.5\na,\n"
    """
    cells = ([_quoted(safe_cell(name)), *map(_cell, values)] for name, values in columns.items())
    lines = [",".join(row) or '""' for row in zip(*cells, strict=True)] or ['""']
    return "".join(f"{line}\n" for line in lines).encode(errors="backslashreplace")  # a name that is not UTF-8


def n_columns(row: Sequence[str]) -> str:
    """How many columns a row has, in words.

    >>> n_columns(["a"]), n_columns(["a", "b"])
    ('1 column', '2 columns')
    """
    return f"{len(row)} column{'' if len(row) == 1 else 's'}"


def safe_cell(text: str) -> str:
    """A text as it stands in a cell: after an apostrophe, were it a formula without."""
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def cell_text(cell: str) -> str:
    """The text that `safe_cell` made this of."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def _quoted(cell: str) -> str:
    r"""A cell in quotes where something in it parts cells or rows; Python's csv leaves \r without them."""
    return '"' + cell.replace('"', '""') + '"' if _PARTING.search(cell) else cell


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, int | float | np.number) and not isinstance(value, bool):
        return f"{value:.10g}" if isfinite(value) else ""
    return _quoted(safe_cell(str(value)))
