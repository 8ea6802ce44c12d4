"""Files that are read more than once, or not from their start to their end, though they may be pipes.

    with open_input(path) as file: ...          in place of open(path, "rb")
    safe_open(rereadable(path))                 for a library that opens the file itself

A pipe, such as `<(gunzip -c pairs.jsonl.gz)` of a shell, gives what is in it once, has no size and no places to go to.
What it gave is kept in a temporary file as long as the process runs, so that whoever opens it again reads the same.
Models are not read so: llama.cpp opens them itself, and they are large.
"""

from __future__ import annotations

import atexit
import os
import shutil
import stat
import tempfile
import threading
from pathlib import Path
from typing import IO, BinaryIO

from steercpp.encoding import spelled

_copies: dict[tuple[int, int], IO[bytes]] = {}  # by the pipe's device and number; closed, each is removed
_copying = threading.Lock()


def open_input(path: Path | str) -> BinaryIO:
    """A file to read, from any place in it and with its whole size.

    Raises:
        OSError: it cannot be read.
    """
    return open(rereadable(path), "rb")


def read_input(path: Path | str) -> bytes:
    """All of a file.

    Raises:
        OSError: it cannot be read.
    """
    with open_input(path) as file:
        return file.read()


def rereadable(path: Path | str) -> Path:
    """The path of a file that can be read again and again: of a pipe's copy, else the path itself.

    Raises:
        OSError: a pipe cannot be read, or there is no room for what it gives.
    """
    path = Path(path)
    try:
        found = path.stat()
    except (OSError, ValueError):
        return path  # whoever opens it says what is wrong
    if not (stat.S_ISFIFO(found.st_mode) or stat.S_ISSOCK(found.st_mode) or _is_terminal(found)):
        return path
    key = found.st_dev, found.st_ino
    with _copying:
        if key not in _copies:
            copy = tempfile.NamedTemporaryFile(prefix="steercpp-pipe-")  # noqa: SIM115
            with open(path, "rb") as pipe:
                shutil.copyfileobj(pipe, copy)
            copy.flush()
            atexit.register(copy.close)
            _copies[key] = copy
        return Path(_copies[key].name)


def stem(path: Path) -> str:
    """What a file is called without its ending; a pipe's name is a number that is another one next time."""
    return "pipe" if path.is_fifo() else spelled(path.stem)


def _is_terminal(found: os.stat_result) -> bool:
    """Whether it is /dev/stdin, or the like, where somebody types."""
    return stat.S_ISCHR(found.st_mode) and os.isatty(0) and os.fstat(0).st_rdev == found.st_rdev
