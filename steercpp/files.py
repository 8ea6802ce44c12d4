"""Files that appear whole or not at all; read this to write one.

A draft beside the file is filled, brought to the disk and renamed. Where anything fails, what was there before stays
and the draft goes.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from steercpp.errors import InputError, RunError

TEMPORARY = ".steercpp-"  # how a draft's name begins


def refuse_overwrite(path: Path, *, force: bool, error: type[InputError], inputs: Iterable[Path | None] = ()) -> None:
    """Check that a file could be written there.

    Args:
        path: the file.
        force: whether it may replace one.
        error: what is raised.
        inputs: files that are read for it, which it must not replace whatever `force` says.

    Raises:
        InputError: of the kind `error`: the file exists and `force` is not given, or is one of the inputs; its folder
            does not exist or cannot be written to.
    """
    if path.is_dir():
        raise error(f"{path}: is a folder; name a file in it")
    if path.exists() and not force:
        raise error(f"{path}: exists already; choose another name or give `force=True` to replace it")
    if any(source is not None and source.exists() and path.exists() and path.samefile(source) for source in inputs):
        raise error(f"{path}: is read for what would be written there; choose another name")
    if not path.parent.is_dir():
        raise error(f"{path}: the folder {path.parent} does not exist; make it first")
    if not os.access(path.parent, os.W_OK):
        raise error(f"{path}: the folder {path.parent} cannot be written to; choose another place")


@contextmanager
def replacing(path: Path, *, check: Callable[[], None] = lambda: None) -> Iterator[Path]:
    """An empty draft beside the file, to be filled; it takes the file's place at the end, unless an error comes first.

    Args:
        path: the file.
        check: called last, once the draft is on the disk; what it raises keeps the file as it was.

    Raises:
        OSError: the draft cannot be made, brought to the disk or renamed.
    """
    draft = path.parent / f"{TEMPORARY}{secrets.token_hex(8)}"
    os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))  # less the umask, as of any new file
    try:
        yield draft
        with draft.open("rb+") as file:
            os.fsync(file.fileno())
        check()
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def write_whole(path: Path, content: bytes | Callable[[Path], None], *, force: bool, error: type[InputError]) -> None:
    """Write a file that the user named.

    Args:
        path: the file.
        content: its bytes, or what fills a draft of it.
        force: whether it may replace a file.
        error: what is raised.

    Raises:
        InputError: of the kind `error`: as `refuse_overwrite`, or nothing can be written.
    """

    def check() -> None:
        refuse_overwrite(path, force=force, error=error)

    check()
    try:
        with replacing(path, check=check) as draft:  # once more at the end: writing may have taken hours
            if isinstance(content, bytes):
                draft.write_bytes(content)
            else:
                content(draft)
    except OSError as problem:
        reason = problem.strerror or problem
        raise error(f"{path}: cannot be written: {reason}; choose another place") from problem


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file of a run, replacing an earlier one.

    Raises:
        RunError: it cannot be written.
    """
    try:
        with replacing(path) as draft:
            draft.write_bytes(data)
    except OSError as error:
        raise RunError(
            f"{path}: cannot be written ({error.strerror}); free some space, check the folder's rights, "
            "or use another `out`"
        ) from error
