"""Files that a user names: opened, bounded and read in one place. Read this to read a file of any format.

    with reading(path, PairsError): ...         whatever goes wrong inside is told as one error of the format
    with open_input(path) as file: ...          in place of open(path, "rb")
    read_input(path)                            all of a file, up to a limit
    safe_open(rereadable(path))                 for a library that opens the file itself
    with once(): ...                            whatever reads a named pipe more than once

An ordinary file, or a pipe. A pipe, such as `<(gunzip -c pairs.jsonl.gz)` of a shell, gives what is in it once, has no
size and no places to go to. What it gave is kept in a temporary file, so that whoever opens it again reads the same: of
a shell's pipe as long as the process runs, of a pipe with a name (mkfifo), into which somebody may write again, within
`once`. A named pipe that nobody writes to is given up after a moment. A device is refused: /dev/zero never ends. Models
are opened by llama.cpp itself, and they are large: `refuse_special` is for them.
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
from typing import IO, BinaryIO, TypeAlias

from steercpp.encoding import spelled
from steercpp.errors import SteerError

LARGEST = 1 << 28  # bytes of a file that is read whole
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
        raise error(f"{path}: needs more memory than there is; free some of it, then try again") from problem
    except OSError as problem:
        raise error(
            f"{path}: cannot be read: {problem.strerror or what_was_said(problem)}; check the path"
        ) from problem
    except Exception as problem:
        raise error(f"{path}: damaged ({type(problem).__name__}: {what_was_said(problem)}); {again}") from problem


@contextmanager
def once(copies: Copies | None = None) -> Iterator[None]:
    """Within it a named pipe gives the same however often it is read; the copies go with the outermost one.

    Args:
        copies: where they are kept, for what reads in several steps, such as an iterator.

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


def open_input(path: Path | str) -> BinaryIO:
    """A file to read, from any place in it and with its whole size.

    Raises:
        OSError: it cannot be read, or is a device, or a pipe that nobody writes to.
    """
    return _opened(path, LARGEST_PIPE)


def read_input(path: Path | str, *, limit: int = LARGEST) -> bytes:
    """All of a file.

    Args:
        path: the file.
        limit: the most bytes that it may have.

    Raises:
        OSError: as `open_input`; or it is larger.
    """
    with _opened(path, limit) as file:
        size = os.fstat(file.fileno()).st_size
        content = file.read(limit + 1) if size <= limit else b""
    if size > limit or len(content) > limit:  # the files of /proc say nothing of their size
        raise _too_large(path, limit)
    return content


def rereadable(path: Path | str) -> Path:
    """The path of a file that can be read again and again: of a pipe's copy, else the path itself.

    Raises:
        OSError: it is a device; or a pipe that cannot be read, that nobody writes to, or for which there is no room.
    """
    copy = _copy_of(Path(path), LARGEST_PIPE)
    if copy is None:
        return Path(path)
    if _within.get() is None:
        _loose.append(copy)
    return copy.path


def _opened(path: Path | str, limit: int) -> BinaryIO:
    copy = _copy_of(Path(path), limit)
    return open(path if copy is None else copy.path, "rb")


def _copy_of(path: Path, limit: int) -> Copy | None:
    """What a pipe gave, of which no more than `limit` bytes are taken; None of an ordinary file."""
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


def _too_large(path: Path | str, limit: int) -> OSError:
    most = f"{limit / 2**20:,.3g} MiB" if limit < 1 << 30 else f"{limit / 2**30:,.3g} GiB"
    return OSError(errno.EFBIG, f"it is larger than {most}, the most that is read", str(path))


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
                raise _too_large(path, limit)
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
