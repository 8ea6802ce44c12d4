"""Where a file may be written: asked before long work, and again before a file takes its place.

A link that the user names is followed: the file that it leads to is replaced, beside itself, and the link stays. In a
folder of ours a link is refused, since the folder may be a stranger's. Devices, pipes and sockets are refused.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import tempfile
from collections.abc import Iterable
from pathlib import Path

from steercpp.errors import InputError, RunError
from steercpp.files.claims import lock_part
from steercpp.files.draft import TEMPORARY

_SPECIAL = {stat.S_IFCHR: "a device", stat.S_IFBLK: "a device", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
_OPEN_FILES = re.compile(r"/proc/[0-9]+(/task/[0-9]+)?/fd|/dev/fd")
_MOST_LINKS = 40  # as of Linux


def refuse_overwrite(path: Path, *, force: bool, error: type[InputError], inputs: Iterable[Path | None] = ()) -> None:
    """Check that a file could be written there.

    Args:
        path: the file, or a link to it.
        force: whether it may replace one.
        error: what is raised.
        inputs: files that are read for it, which it must not replace whatever `force` says.

    Raises:
        InputError: of the kind `error`: the file exists and `force` is not given, or is one of the inputs, or is no
            ordinary file; its folder does not exist or cannot be written to.
    """
    if path.is_dir():
        raise error(f"{path}: is a folder; name a file in it")
    _refuse_special(path, error)
    end = end_of_links(path, error)
    folder, link = end.parent, "" if end == path else f"is a link to {end}: "
    if path.exists() and not force:
        raise error(f"{path}: {link}exists already; choose another name or give `force=True` to replace it")
    if any(source is not None and source.exists() and path.exists() and path.samefile(source) for source in inputs):
        raise error(f"{path}: is read for what would be written there; choose another name")
    if not folder.is_dir():
        raise error(f"{path}: {link}the folder {folder} does not exist; make it first")
    if not os.access(folder, os.W_OK):
        raise error(f"{path}: {link}the folder {folder} cannot be written to; choose another place")


def end_of_links(path: Path, error: type[InputError]) -> Path:
    """Where a file is that the user named: at the end of its links, which may not be there yet."""
    place = path
    for _ in range(_MOST_LINKS):
        if _OPEN_FILES.fullmatch(os.path.realpath(place.parent)):
            raise error(f"{path}: stands for an open file of a process, not for a place; name a file")
        if not place.is_symlink():
            return place
        place = place.parent / place.readlink()
    raise error(f"{path}: is a link that leads in a circle; choose another name")


def refuse_in_folder(path: Path) -> None:
    """See that what is at a place in a folder of ours, if anything, is a file that may be replaced.

    Raises:
        RunError: it is a link, a device, a pipe or a socket.
        OSError: it is a folder.
    """
    _refuse_special(path, RunError)
    if path.is_symlink():
        raise RunError(f"{path}: is a link, which is not followed here; put the file itself there")
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))


def _refuse_special(path: Path, error: type[InputError] | type[RunError]) -> None:
    """See that what is there, if anything, is an ordinary file."""
    try:
        kind = _SPECIAL.get(stat.S_IFMT(path.stat().st_mode))
    except (OSError, ValueError):
        return  # nothing is there, or writing says what is wrong
    if kind is not None:
        raise error(f"{path}: is {kind}, not an ordinary file; name a file")


def probe(folder: Path) -> None:
    """Make a folder and see that a file can be written there, and locked as SQLite locks one.

    Raises:
        OSError: it cannot; for a lock with one of `NO_LOCKS`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder, prefix=TEMPORARY, buffering=0) as file:
        file.write(bytes(4096))
        lock_part(file.fileno())
