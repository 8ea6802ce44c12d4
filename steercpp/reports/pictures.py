"""A figure as a file of its own; read this to write one where the user wants it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steercpp import files as whole_file
from steercpp.errors import InputError
from steercpp.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def refuse_picture(path: Path, *, force: bool) -> None:
    """Check before the work that a picture could be written there.

    Raises:
        InputError: it is not named .png or .svg, or as `whole_file.refuse_overwrite`.
    """
    if path.suffix.lower() not in (".png", ".svg"):
        raise InputError(f"{path}: not the name of a picture; end it in .png or .svg")
    whole_file.refuse_overwrite(path, force=force, error=InputError)


def write_picture(path: Path, figure: Figure, *, force: bool) -> None:
    """Write a figure as the name says, as .png or .svg; the same figure gives the same bytes.

    Raises:
        InputError: as `refuse_picture`, or it cannot be written.
    """
    from steercpp.reports.style import rendered

    refuse_picture(path, force=force)
    data = rendered(figure, path.suffix.lower()[1:])

    def write(draft: Path) -> None:
        draft.write_bytes(data)

    whole_file.write_whole(path, write, force=force, error=InputError)


# FOLD: What a scan or a transfer leaves beside its sweeps: a table as JSON and a picture; the same gives the same  # noqa
def ensure_files(folder: Path, name: str, record: Mapping[str, Any], draw: Callable[[], Figure]) -> tuple[Path, ...]:
    """Write `name`.json, .png and .svg, unless they are those of this table already.

    Raises:
        RunError: they cannot be written.
    """
    files = tuple(folder / f"{name}.{kind}" for kind in ("json", "png", "svg"))
    table = (json.dumps(_plain(record), indent=2, allow_nan=False) + "\n").encode()
    if all(path.is_file() for path in files) and files[0].read_bytes() == table:
        return files
    from steercpp.reports.style import rendered

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
