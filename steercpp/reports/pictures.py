"""Figures as files: a picture where the user wants it; a record and its picture, drawn again only once it changed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steercpp import files
from steercpp.encoding import json_ready
from steercpp.errors import InputError
from steercpp.files import refuse_overwrite, write_whole
from steercpp.locks import DRAWING, DRAWING_WAIT_S, writing

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def refuse_picture(path: Path, *, force: bool) -> None:
    """Check before the work that a picture could be written there.

    Raises:
        InputError: it is not named .png or .svg, or as `refuse_overwrite`.
    """
    if path.suffix.lower() not in (".png", ".svg"):
        raise InputError(f"{path}: not the name of a picture; end it in .png or .svg")
    refuse_overwrite(path, force=force, error=InputError)


def write_picture(path: Path, figure: Figure, *, force: bool) -> None:
    """Write a figure as the name says, as .png or .svg; the same figure gives the same bytes.

    Raises:
        InputError: as `refuse_picture`, or it cannot be written.
    """
    from steercpp.reports.style import rendered

    refuse_picture(path, force=force)
    write_whole(path, rendered(figure, path.suffix.lower()[1:]), force=force, error=InputError)


def write_together(folder: Path, made: Mapping[str, bytes]) -> tuple[Path, ...]:
    """Write files of one report by their names, in this order; another process's are not mixed with them.

    Raises:
        RunError: they cannot be written.
    """
    with writing(folder, lock=DRAWING, wait_s=DRAWING_WAIT_S):
        files.write_together(folder, made)
    return tuple(folder / name for name in made)


def ensure_files(folder: Path, name: str, record: Mapping[str, Any], draw: Callable[[], Figure]) -> tuple[Path, ...]:
    """Write `name`.json, .png and .svg, unless they are those of this record already.

    Args:
        folder: where to.
        name: of the files, without their endings.
        record: what is drawn, as plain data; NaN becomes null.
        draw: makes the figure; called only where the record has changed or a file is missing.

    Returns:
        the three files, the record's first.

    Raises:
        RunError: they cannot be written.
    """
    paths = tuple(folder / f"{name}.{kind}" for kind in ("json", "png", "svg"))
    table = (json.dumps(json_ready(record), indent=2, allow_nan=False) + "\n").encode()
    if all(path.is_file() for path in paths) and paths[0].read_bytes() == table:
        return paths
    from steercpp.reports.style import rendered

    figure = draw()
    pictures = {path.name: rendered(figure, path.suffix[1:]) for path in paths[1:]}
    write_together(folder, {**pictures, paths[0].name: table})  # last, as proof that the pictures are its own
    return paths
