"""What a scan leaves beside its sweeps: `scan.json`, `scan.png` and `scan.svg`; the same scan gives the same bytes."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from steercpp.run_folder import write_atomically
from steercpp.scan_result import Scan

NAMES = ("scan.json", "scan.png", "scan.svg")


def ensure_scan_files(found: Scan) -> tuple[Path, ...]:
    """Write the table as JSON and draw the picture, unless they are those of this scan already.

    Raises:
        RunError: they cannot be written.
    """
    files = tuple(found.folder / name for name in NAMES)
    table = (json.dumps(plain(found.record()), indent=2, allow_nan=False) + "\n").encode()
    if all(path.is_file() for path in files) and files[0].read_bytes() == table:
        return files
    from steercpp.figures import rendered
    from steercpp.scan_figure import scan_figure

    figure = scan_figure(found)
    for path in files[1:]:
        write_atomically(path, rendered(figure, path.suffix[1:]))
    write_atomically(files[0], table)  # last, for it tells that the others are its own
    return files


def plain(value: Any) -> Any:
    """JSON's own types: numbers that JSON lacks become null."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
