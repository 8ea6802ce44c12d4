"""What several views are made of: strengths, shares and paths as words, and the files of a command."""

from __future__ import annotations

import os
from collections.abc import Sequence
from math import isfinite
from pathlib import Path

from steercpp.cli import output
from steercpp.statistics.rounded import NONE, percent, strength_text

signed = strength_text  # of a strength, as every view writes it


def unit_line(unit: str) -> output.Renderable:
    """What stands above a table of strengths: what they count."""
    return output.text(f" Strengths in {unit}", "bold")


def share(value: float) -> str:
    """A share in percent; what rounds to nothing has no sign, what is no number is a dash."""
    return percent(value) if isfinite(value) else NONE


def relative(path: Path) -> str:
    """A path from the working directory where that is shorter."""
    try:
        short = os.path.relpath(path)
    except ValueError:  # another drive
        return str(path)
    return short if len(short) < len(str(path)) else str(path)


def files_pieces(files: Sequence[Path]) -> list[output.Renderable]:
    """Files, those of one name on one line."""
    grouped: dict[str, list[str]] = {}
    for path in files:
        grouped.setdefault(f"{relative(path.parent)}/{path.stem}", []).append(path.suffix)
    lines = [output.verbatim(f"  {stem}{' '.join(suffixes)}") for stem, suffixes in grouped.items()]
    return [output.text("Files", "dim"), *lines]
