"""A figure as a file of its own; read this to write one where the user wants it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from steercpp import files as whole_file
from steercpp.errors import InputError

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
    from steercpp.reports.figures import rendered

    refuse_picture(path, force=force)
    data = rendered(figure, path.suffix.lower()[1:])

    def write(draft: Path) -> None:
        draft.write_bytes(data)

    whole_file.write_whole(path, write, force=force, error=InputError)
