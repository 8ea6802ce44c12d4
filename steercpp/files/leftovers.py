"""What killed processes leave in a folder, all of which begins with `.steercpp-`: brought back, or removed."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

from steercpp.files.claims import is_abandoned
from steercpp.files.draft import temporaries
from steercpp.files.swaps import AS_IT_IS, bring_back, is_kept, is_record, remove


def remove_leftovers(folder: Path, *, folders: bool) -> None:
    """Bring back what killed processes were replacing in a folder, and remove what they have left behind.

    Drafts that are being filled, locks that are held, and what cannot be removed stay.

    Args:
        folder: which.
        folders: whether folders among them go too; they are not locked, so the lock of `locks.writing` must be held.
    """
    try:
        found = temporaries(folder)
    except OSError:
        return
    with suppress(OSError):
        bring_back(path for path in found if is_record(path))
    for path in found:  # some of which are gone by now
        with suppress(OSError):
            if is_record(path) or is_kept(path):
                continue
            if not path.is_dir() or path.is_symlink():
                _remove_orphan(path)
            elif folders:
                remove(path)


def _remove_orphan(path: Path) -> None:
    """Remove a file unless a process holds it."""
    if not stat.S_ISREG(path.lstat().st_mode):
        path.unlink()
        return
    file = os.open(path, os.O_RDWR | AS_IT_IS)
    try:
        if is_abandoned(file, path):
            path.unlink()
    finally:
        os.close(file)
