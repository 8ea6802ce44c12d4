"""What a thread may no longer write to: who holds a folder (`steercpp.locks`) fences it, and each write asks first."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_fences = threading.local()


@contextmanager
def fenced(folder: Path, check: Callable[[], None]) -> Iterator[None]:
    """Have this thread call `check` before it writes anything in a folder or below, for as long as this lasts.

    Args:
        folder: which.
        check: raises a SteerError where nothing may be written any more.
    """
    fence = ({os.path.abspath(folder), os.path.realpath(folder)}, check)
    fences: list[tuple[set[str], Callable[[], None]]] = _fences.__dict__.setdefault("fences", [])
    fences.append(fence)
    try:
        yield
    finally:
        fences.remove(fence)


def check_fences(path: Path) -> None:
    """See that this thread may still write a file.

    Raises:
        SteerError: a fence around its folder, or one above, has fallen.
    """
    fences = _fences.__dict__.get("fences", ())
    if not fences:
        return
    inside = {os.path.abspath(path), os.path.join(os.path.realpath(path.parent), path.name)}
    for folders, check in fences:
        if any(place.startswith(folder.rstrip(os.sep) + os.sep) for folder in folders for place in inside):
            check()
