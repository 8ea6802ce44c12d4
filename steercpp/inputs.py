"""Files that a user names: opened, bounded and read in one place. Read this to read a file of any format.

    with reading(path, PairsError): ...         whatever goes wrong inside is told as one error of the format
    with open_input(path) as file: ...          in place of open(path, "rb")
    read_input(path)                            all of a file, up to a limit

An ordinary file, or a pipe (pipes.py). A device is refused. Models are opened by llama.cpp itself, and they are large.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from steercpp.encoding import spelled
from steercpp.errors import SteerError
from steercpp.pipes import LARGEST_PIPE, copy_of, too_large

LARGEST = 1 << 28  # bytes of a file that is read whole


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
        raise too_large(path, limit)
    return content


def _opened(path: Path | str, limit: int) -> BinaryIO:
    copy = copy_of(Path(path), limit)
    return open(path if copy is None else copy.path, "rb")


def stem(path: Path) -> str:
    """What a file is called without its ending; a pipe's name is a number that is another one next time."""
    return "pipe" if path.is_fifo() else spelled(path.stem)


def what_was_said(problem: Exception) -> str:
    """Of a problem in a library's words, on one line and not for pages."""
    said = " ".join(spelled(str(problem)).split())
    return said[:160] if said else type(problem).__name__
