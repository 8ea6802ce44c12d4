"""Files that appear whole or not at all; read this to write one."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from steercpp.errors import InputError, RunError

TEMPORARY = ".steercpp-"


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
        raise error(f"{path}: exists already; choose another name or give --force to replace it")
    if any(one is not None and one.exists() and path.exists() and path.samefile(one) for one in inputs):
        raise error(f"{path}: is read for what would be written there; choose another name")
    if not path.parent.is_dir():
        raise error(f"{path}: the folder {path.parent} does not exist; make it first")
    if not os.access(path.parent, os.W_OK):
        raise error(f"{path}: the folder {path.parent} cannot be written to; choose another place")


def write_whole(path: Path, write: Callable[[Path], None], *, force: bool, error: type[InputError]) -> None:
    """Let `write` fill a draft beside the file, and put it into the file's place once it is on the disk.

    Raises:
        InputError: of the kind `error`: as `refuse_overwrite`, or nothing can be written.
    """
    refuse_overwrite(path, force=force, error=error)
    try:
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
            draft = Path(folder, path.name)
            write(draft)
            with draft.open("rb+") as file:
                os.fsync(file.fileno())
            refuse_overwrite(path, force=force, error=error)
            draft.replace(path)
    except OSError as problem:
        reason = problem.strerror or problem
        raise error(f"{path}: cannot be written: {reason}; choose another place") from problem


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file whole or not at all: a temporary file beside it, then a rename.

    Raises:
        RunError: it cannot be written.
    """
    temporary = ""
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=TEMPORARY, delete=False) as file:
            temporary = file.name
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except OSError as error:
        raise RunError(
            f"{path}: cannot be written ({error.strerror}); free some space, check the folder's rights, "
            "or use another --out"
        ) from error
    finally:
        if temporary:
            Path(temporary).unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
