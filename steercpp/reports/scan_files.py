"""What a scan or a transfer leaves beside its sweeps: a table as JSON and a picture; the same gives the same bytes."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steercpp.runs.folder import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def ensure_files(folder: Path, name: str, record: Mapping[str, Any], draw: Callable[[], Figure]) -> tuple[Path, ...]:
    """Write `name`.json, .png and .svg, unless they are those of this table already.

    Raises:
        RunError: they cannot be written.
    """
    files = tuple(folder / f"{name}.{kind}" for kind in ("json", "png", "svg"))
    table = (json.dumps(_plain(record), indent=2, allow_nan=False) + "\n").encode()
    if all(path.is_file() for path in files) and files[0].read_bytes() == table:
        return files
    from steercpp.reports.figures import rendered

    figure = draw()
    for path in files[1:]:
        write_atomically(path, rendered(figure, path.suffix[1:]))
    write_atomically(files[0], table)  # last, for it tells that the others are its own
    return files


def _plain(value: Any) -> Any:
    """JSON's own types: numbers that JSON lacks become null."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
