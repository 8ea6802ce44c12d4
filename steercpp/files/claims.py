"""Whose an open file is: a process that fills it holds a lock on it, which ends with the process however that ends.

Where the file system knows no locks, a process that its file names is asked for, and the file's age is the last word.
"""

from __future__ import annotations

import errno
import os
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)  # what a file system says that has none
_ABANDONED_S = 86_400.0  # how old a file is that surely nobody fills, where it cannot be locked


def claim(file: int) -> bool | None:
    """Lock an open file for this process, without waiting; False where another has it, None where nothing is locked.

    The lock is the operating system's, and ends with the process however that ends.
    """
    from filelock import lock_descriptor

    try:
        return lock_descriptor(file, blocking=False)
    except OSError as error:
        if error.errno in NO_LOCKS:
            return None
        raise


def lock_part(file: int) -> None:
    """Lock a part of an open file for a moment, which SQLite does with its own.

    Raises:
        OSError: it cannot be; with one of `NO_LOCKS` where the file system knows no such locks.
    """
    if sys.platform != "win32":
        import fcntl

        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1)
        fcntl.lockf(file, fcntl.LOCK_UN, 1)


def is_abandoned(file: int, place: Path, *, has_ended: Callable[[], bool] = lambda: False) -> bool:
    """Whether nobody fills the open file at a place any more; where it can be locked, this process then holds it.

    Args:
        file: opened to be written to.
        place: where it was found.
        has_ended: asked where there are no locks: whether it is sure that the process that filled it has ended.

    Raises:
        OSError: it cannot be told.
    """
    is_ours = claim(file)
    if is_ours is None:
        is_ours = has_ended() or time.time() - os.fstat(file).st_mtime > _ABANDONED_S
    return is_ours and is_at(file, place)


def has_ended(host: object, pid: int) -> bool:
    """Whether it is sure that a process has ended: it was on this machine, and is no more."""
    if host != socket.gethostname():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):  # of another user, or no process number
        pass
    return False


def is_at(file: int, place: Path) -> bool:
    """Whether an open file is still the one that lies at its place; a link to it there is another one.

    Drafts and the records of swaps are made anew, never through a link: one at their place is a stranger's.
    """
    try:
        return os.path.samestat(os.fstat(file), place.lstat())
    except FileNotFoundError:
        return False
