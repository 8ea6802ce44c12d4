"""A place beside a run's files where their successors are made, so that a run is the old one or the new one, whole."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from steercpp.errors import RunError, SteerError
from steercpp.files import TEMPORARY, check_fences

LOGS = ("wal", "shm", "journal")  # endings of SQLite's own files beside a store


@contextmanager
def made_aside(folder: Path, failed: Callable[[str | None], str]) -> Iterator[Path]:
    """A new folder within a run's, to be filled; what is left of it goes at the end. The run's lock must be held.

    Args:
        folder: of the run.
        failed: gives the message for what the system says where a file cannot be written.

    Raises:
        RunError: a file cannot be written.
        SteerError: what is raised inside, with the run's folder in its message.
    """
    aside = folder / f"{TEMPORARY}{secrets.token_hex(8)}"
    try:
        check_fences(aside)
        aside.mkdir()
        yield aside
    except OSError as error:
        raise RunError(failed(error.strerror)) from error
    except SteerError as error:
        if str(aside) not in str(error):
            raise
        raise type(error)(str(error).replace(str(aside), str(folder))) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
