"""Files that a user names: opened, bounded and read in one place. Read this to read a file of any format.

    with reading(path, PairsError): ...         whatever goes wrong inside is told as one error of the format
    with open_input(path) as file: ...          in place of open(path, "rb")
    read_input(path)                            all of a file, up to a limit
    safe_open(rereadable(path))                 for a library that opens the file itself

An ordinary file, or a pipe. A pipe, such as `<(gunzip -c pairs.jsonl.gz)` of a shell, gives what is in it once, has no
size and no places to go to. What it gave is kept in a temporary file as long as the process runs, so that whoever opens
it again reads the same. A device is refused: /dev/zero never ends. A pipe with a name (mkfifo) that nobody writes to is
given up after a moment. Models are opened by llama.cpp itself, and they are large: `refuse_special` is for them.
"""

from __future__ import annotations

import atexit
import errno
import os
import stat
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO

from steercpp.encoding import spelled
from steercpp.errors import SteerError

LARGEST = 1 << 28  # bytes of a file that is read whole
LARGEST_PIPE = 1 << 35  # bytes that are kept of a pipe
WRITER_WAIT_S = 5.0  # for somebody to open a named pipe's other end
_PIECE = 1 << 20

_copies: dict[tuple[int, int], IO[bytes]] = {}  # by the pipe's device and number; closed, each is removed
_copying = threading.Lock()


@contextmanager
def reading(path: Path | str, error: type[SteerError], *, again: str = "copy or write it again") -> Iterator[None]:
    """Where a file's content is turned into values: one boundary for each format.

    An error made on purpose passes. Any other, whatever the content made Python or a library do, becomes one of the
    format that says what it was.

    Args:
        path: of the file, with which the message starts.
        error: of the format.
        again: the next step.

    Raises:
        SteerError: of the kind `error`.

    >>> import json
    >>> from steercpp.errors import PairsError
    >>> with reading("pairs.jsonl", PairsError):
    ...     json.loads("[" * 100_000)
    Traceback (most recent call last):
      ...
    steercpp.errors.PairsError: pairs.jsonl: nested too deeply; copy or write it again
    """
    try:
        yield
    except SteerError:
        raise
    except RecursionError as problem:
        raise error(f"{path}: nested too deeply; {again}") from problem
    except MemoryError as problem:
        raise error(f"{path}: needs more memory than there is; {again}") from problem
    except OSError as problem:
        raise error(
            f"{path}: cannot be read: {problem.strerror or what_was_said(problem)}; check the path"
        ) from problem
    except Exception as problem:
        raise error(f"{path}: damaged ({type(problem).__name__}: {what_was_said(problem)}); {again}") from problem


def open_input(path: Path | str) -> BinaryIO:
    """A file to read, from any place in it and with its whole size.

    Raises:
        OSError: it cannot be read, or is a device, or a pipe that nobody writes to.
    """
    return open(rereadable(path), "rb")


def read_input(path: Path | str, *, limit: int = LARGEST) -> bytes:
    """All of a file.

    Args:
        path: the file.
        limit: the most bytes that it may have.

    Raises:
        OSError: as `open_input`; or it is larger.
    """
    with open_input(path) as file:
        size = os.fstat(file.fileno()).st_size
        content = file.read(limit + 1) if size <= limit else b""
    if size > limit or len(content) > limit:  # the files of /proc say nothing of their size
        raise OSError(errno.EFBIG, f"it is larger than {limit / 2**20:,.3g} MiB, the most that is read", str(path))
    return content


def rereadable(path: Path | str) -> Path:
    """The path of a file that can be read again and again: of a pipe's copy, else the path itself.

    Raises:
        OSError: it is a device; or a pipe that cannot be read, that nobody writes to, or for which there is no room.
    """
    path = Path(path)
    if (found := _stat(path)) is None or stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode):
        return path  # whoever opens it says what is wrong
    if not (stat.S_ISFIFO(found.st_mode) or stat.S_ISSOCK(found.st_mode) or _is_terminal(found)):
        raise OSError(errno.EINVAL, "it is a device, and must be a file or a pipe", str(path))
    key = found.st_dev, found.st_ino
    with _copying:
        if key not in _copies:
            copy = tempfile.NamedTemporaryFile(prefix="steercpp-pipe-")  # noqa: SIM115
            try:
                _copy_pipe(path, copy)
            except BaseException:
                copy.close()
                raise
            atexit.register(copy.close)
            _copies[key] = copy
        return Path(_copies[key].name)


def stem(path: Path) -> str:
    """What a file is called without its ending; a pipe's name is a number that is another one next time."""
    return "pipe" if path.is_fifo() else spelled(path.stem)


def what_was_said(problem: Exception) -> str:
    """Of a problem in a library's words, on one line and not for pages."""
    said = " ".join(spelled(str(problem)).split())
    return said[:160] if said else type(problem).__name__


def _stat(path: Path | str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except (OSError, ValueError):
        return None


def _copy_pipe(path: Path, copy: IO[bytes]) -> None:
    """Write to a file what a pipe gives; one on disk is opened without waiting, and then waits for its writer.

    One of a shell is not: its writer has been there from the start, or has written all and gone.
    """
    on_disk = path.resolve().is_fifo()
    descriptor = os.open(path, os.O_RDONLY | (os.O_NONBLOCK if on_disk else 0))
    with open(descriptor, "rb", buffering=0) as pipe:
        n_bytes = copy.write(_first_byte(descriptor, path)) if on_disk else 0
        os.set_blocking(descriptor, True)
        while piece := pipe.read(_PIECE):
            n_bytes += copy.write(piece)
            if n_bytes > LARGEST_PIPE:
                raise OSError(errno.EFBIG, f"the pipe gives more than {LARGEST_PIPE >> 30} GiB", str(path))
        copy.flush()


def _first_byte(descriptor: int, path: Path) -> bytes:
    """The first byte of a pipe on disk; none where its writer has opened it and has not written yet."""
    until = time.monotonic() + WRITER_WAIT_S
    while time.monotonic() < until:
        try:
            if first := os.read(descriptor, 1):
                return first
        except BlockingIOError:
            return b""
        time.sleep(0.02)
    raise OSError(errno.ENXIO, "it is a pipe to which nobody writes", str(path))


def _is_terminal(found: os.stat_result) -> bool:
    """Whether it is /dev/stdin, or the like, where somebody types."""
    return stat.S_ISCHR(found.st_mode) and os.isatty(0) and os.fstat(0).st_rdev == found.st_rdev
