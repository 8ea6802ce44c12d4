"""Pipes that a user names in place of files: what they gave is kept, so that it can be read again.

    with once(): ...                            whatever reads a named pipe more than once
    safe_open(rereadable(path))                 for a library that opens the file itself

A pipe, such as `<(gunzip -c pairs.jsonl.gz)` of a shell, gives what is in it once, has no size and no places to go to.
What it gave is kept in a temporary file, so that whoever opens it again reads the same: of a shell's pipe as long as
the process runs, of a pipe with a name (mkfifo), into which somebody may write again, within `once`. A named pipe that
nobody writes to is given up after a moment. A device is refused: /dev/zero never ends.
"""

from __future__ import annotations

import errno
import os
import stat
import tempfile
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import IO, TypeAlias

LARGEST_PIPE = 1 << 35  # bytes that are kept of a pipe
WRITER_WAIT_S = 5.0  # for somebody to open a named pipe's other end
_PIECE = 1 << 20


class Copy:
    """What a pipe gave. The file has no name where the system opens it by its descriptor: a killed process leaves none.

    Attributes:
        path: what opens it as long as this object is there, here and in forked children.
    """

    def __init__(self) -> None:
        self.file: IO[bytes] = tempfile.TemporaryFile(prefix="steercpp-pipe-")  # noqa: SIM115
        self.path, named = Path(f"/proc/self/fd/{self.file.fileno()}"), None
        if not self.path.exists():
            self.file.close()
            self.file = tempfile.NamedTemporaryFile(prefix="steercpp-pipe-", delete=False)  # noqa: SIM115
            self.path = named = Path(self.file.name)
        weakref.finalize(self, _end, self.file, named, os.getpid())


def _end(file: IO[bytes], named: Path | None, owner: int) -> None:
    """With the copy, or the process; a forked child leaves its parent's file."""
    file.close()
    if named is not None and os.getpid() == owner:
        with suppress(OSError):
            named.unlink()


Copies: TypeAlias = dict[tuple[int | str, ...], Copy | OSError]  # by what tells one pipe from another

_of_process: Copies = {}  # of pipes without a name, whose numbers the system does not use again
_loose: list[Copy] = []  # whose paths were given away
_within: ContextVar[Copies | None] = ContextVar("_within", default=None)
_copying = threading.Lock()


@contextmanager
def once(copies: Copies | None = None) -> Iterator[None]:
    """Within it a named pipe gives the same however often it is read; the copies go with the outermost one.

    Args:
        copies: where they are kept, for what reads in several steps, such as an iterator.

    >>> from steercpp.inputs import read_input
    >>> _ = Path("words.txt").write_text("the")
    >>> with once():
    ...     read_input("words.txt") + read_input("words.txt")
    b'thethe'
    """
    if _within.get() is not None:
        yield
        return
    token = _within.set({} if copies is None else copies)
    try:
        yield
    finally:
        _within.reset(token)


def rereadable(path: Path | str) -> Path:
    """The path of a file that can be read again and again: of a pipe's copy, else the path itself.

    Raises:
        OSError: it is a device; or a pipe that cannot be read, that nobody writes to, or for which there is no room.
    """
    copy = copy_of(Path(path), LARGEST_PIPE)
    if copy is None:
        return Path(path)
    if _within.get() is None:
        _loose.append(copy)
    return copy.path


def copy_of(path: Path, limit: int) -> Copy | None:
    """What a pipe gave; None of an ordinary file.

    Args:
        path: the file or pipe.
        limit: the most bytes that are taken of a pipe.

    Raises:
        OSError: it is a device; or a pipe that gives more, that cannot be read, or that nobody writes to.
    """
    if (found := _stat(path)) is None or stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode):
        return None  # whoever opens it says what is wrong
    if not (stat.S_ISFIFO(found.st_mode) or stat.S_ISSOCK(found.st_mode) or _is_terminal(found)):
        raise OSError(errno.EINVAL, "it is a device, and must be a file or a pipe", str(path))
    place = path.resolve()
    on_disk = place.is_fifo()  # one of a shell is not
    within = _within.get() if on_disk else _of_process
    copies = {} if within is None else within
    with _copying:
        kept = copies.get(_key(found, place, on_disk))
        if kept is None:
            kept = Copy()
            try:
                _copy_pipe(path, kept.file, limit, on_disk=on_disk)
            except OSError as error:
                if error.errno != errno.EFBIG:
                    raise
                kept = error  # the rest of it is not what is in it
            copies[_key(os.stat(path), place, on_disk)] = kept
    if isinstance(kept, OSError):
        raise OSError(kept.errno, kept.strerror, str(path))
    return kept


def _key(found: os.stat_result, place: Path, on_disk: bool) -> tuple[int | str, ...]:
    """What tells a pipe from others; file systems use numbers again, and writing into a pipe changes its time."""
    return (found.st_dev, found.st_ino, *((found.st_ctime_ns, str(place)) if on_disk else ()))


def too_large(path: Path | str, limit: int) -> OSError:
    """What is raised of a file that is larger than what is read of it."""
    most = f"{limit / 2**20:,.3g} MiB" if limit < 1 << 30 else f"{limit / 2**30:,.3g} GiB"
    return OSError(errno.EFBIG, f"it is larger than {most}, the most that is read", str(path))


def _stat(path: Path | str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except (OSError, ValueError):
        return None


def _copy_pipe(path: Path, copy: IO[bytes], limit: int, *, on_disk: bool) -> None:
    """Write to a file what a pipe gives; one on disk is opened without waiting, and then waits for its writer.

    One of a shell is not: its writer has been there from the start, or has written all and gone.
    """
    descriptor = os.open(path, os.O_RDONLY | (os.O_NONBLOCK if on_disk else 0))
    with open(descriptor, "rb", buffering=0) as pipe:
        n_bytes = copy.write(_first_byte(descriptor, path)) if on_disk else 0
        os.set_blocking(descriptor, True)
        while piece := pipe.read(min(_PIECE, limit + 1 - n_bytes)):
            n_bytes += len(piece)
            if n_bytes > limit:
                raise too_large(path, limit)
            copy.write(piece)
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
