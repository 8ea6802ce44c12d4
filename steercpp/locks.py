"""One process at a time writes into a folder; read this to add what writes into one.

    with writing(folder): ...

The lock is the operating system's, on a file in the folder that goes with it: it ends with the process, however that
ends; a process that is stopped still has it. The file says who holds it, for the sentence that a second process is
refused with. Readers take no lock. On a file system that knows no locks (some network mounts) nothing is locked, and
the file names the first writer that may live.

Whoever holds a lock sees before each write (`files.fenced`) that the file at its place is still its own and names it:
where that file or the folder was removed or replaced meanwhile, it ends with a sentence and writes nothing.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from steercpp.errors import RunError, SteerError
from steercpp.files import TEMPORARY, claim, fenced, has_ended, remove_leftovers
from steercpp.provenance import command, now

MEASURING, DRAWING = f"{TEMPORARY}lock", f"{TEMPORARY}report-lock"  # who measures does not keep others from drawing
DRAWING_WAIT_S = 60.0  # a report is written within seconds
_PAUSE_S, _REMOVED_WITHIN_S = 0.02, 1.0
_TRIES = 50  # to read who holds a lock, which its holder writes just after taking it
_mine = threading.local()  # what this thread holds


@contextmanager
def writing(
    folder: Path,
    *,
    lock: str = MEASURING,
    wait_s: float = 0.0,
    error: type[SteerError] = RunError,
    otherwise: str = "choose another folder with `out`",
) -> Iterator[None]:
    """Keep other processes from writing into a folder while this one does; a thread may take a lock of its own again.

    The folder is made where it is missing, and goes again where what is done inside fails and leaves it empty. Drafts
    that killed processes have left there are removed.

    Args:
        folder: which.
        lock: `MEASURING` or `DRAWING`.
        wait_s: how long to wait for another process.
        error: what is raised.
        otherwise: what else to do, for messages; "" for nothing.

    Raises:
        SteerError: of the kind `error`: another process, or thread, writes there, which the message names; or no file
            can be made there.
    """
    held: set[Path] = _mine.__dict__.setdefault("held", set())
    place = folder.resolve() / lock
    if place in held:
        yield
        return
    file, made, is_locked = _taken(folder, folder / lock, wait_s, error, otherwise)
    is_ours = is_locked or not _is_named(folder / lock)  # else there are no locks, and the file is another's
    named = _named(file, folder / lock) if is_ours else b""
    held.add(place)
    try:
        remove_leftovers(folder, folders=is_locked and lock == MEASURING)
        with fenced(folder, lambda: _refuse_lost(file, folder / lock, named, error)) if is_ours else nullcontext():
            yield
        made = {}
    finally:
        held.discard(place)
        if is_ours:
            _release(folder / lock, file, made)
        else:
            os.close(file)


def refuse_second_writer(folder: Path) -> None:
    """Tell before costly work that another process measures in a folder, if one does.

    Raises:
        RunError: it does; the message names it.
    """
    if folder.resolve() / MEASURING not in _mine.__dict__.get("held", ()) and not _is_unlocked(folder / MEASURING):
        raise _refusal(folder, folder / MEASURING, RunError, "choose another folder with `out`")


def is_free(folder: Path) -> bool:
    """Whether nobody measures in a folder, this thread neither; False where nothing is locked and one may."""
    if folder.resolve() / MEASURING in _mine.__dict__.get("held", ()):
        return False
    return _is_unlocked(folder / MEASURING, unknown=False)


def _is_unlocked(place: Path, *, unknown: bool = True) -> bool:
    """Whether nobody holds a lock at the moment; `unknown` where there is a file and no locks."""
    with suppress(OSError):
        file = os.open(place, os.O_RDWR)
        try:
            is_locked = claim(file)
            return unknown if is_locked is None else is_locked
        finally:
            os.close(file)
    return True


def _taken(
    folder: Path, place: Path, wait_s: float, error: type[SteerError], otherwise: str
) -> tuple[int, dict[Path, None], bool]:
    """The open file, the folders that were made for it, the innermost first, and whether files are locked there."""
    until = time.monotonic() + wait_s
    made: dict[Path, None] = {}
    while True:
        try:
            made |= dict.fromkeys(path for path in (folder, *folder.parents) if not path.exists())
            folder.mkdir(parents=True, exist_ok=True)
            file = os.open(place, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as problem:
            if isinstance(problem, FileNotFoundError) and time.monotonic() < until + _REMOVED_WITHIN_S:
                continue  # its holder has failed, and has removed the folder between the two calls
            if folder.exists() and not folder.is_dir():
                raise error(f"{folder}: is a file, not a folder; choose another place with `out`") from problem
            step = otherwise or "check its rights"
            raise error(f"{folder}: no file can be written there ({problem.strerror}); {step}") from problem
        is_locked = claim(file)
        if is_locked is not False and _is_at(file, place):
            return file, made, is_locked is True
        os.close(file)
        if is_locked is False and time.monotonic() > until:
            raise _refusal(folder, place, error, otherwise)
        time.sleep(_PAUSE_S)


def _named(file: int, place: Path) -> bytes:
    """Write into a locked file who holds it; what was written, nothing on a full disk: then nobody is named."""
    holder = {
        "pid": os.getpid(), "host": socket.gethostname(), "since": now(), "command": command(),
        "token": secrets.token_hex(8),
    }  # fmt: skip
    name = json.dumps(holder).encode()
    with suppress(OSError):
        os.ftruncate(file, 0)
        if os.write(file, name) == len(name) and place.read_bytes() == name:
            return name
    return b""


def _refuse_lost(file: int, place: Path, name: bytes, error: type[SteerError]) -> None:
    """See that a lock is still held, and by this process alone.

    Raises:
        SteerError: of the kind `error`: it is not.
    """
    with suppress(OSError):
        if _is_at(file, place) and (not name or place.read_bytes() == name):
            return
    raise error(
        f"{place.parent}: this process no longer holds its place there: the folder, or {place.name} in it, was removed "
        "or replaced; nothing more was written, what is there stays as it is; run the same command again"
    )


def _is_at(file: int, place: Path) -> bool:
    """Whether an open file is still the one that lies at its place, or that a link there leads to.

    Taking a lock follows a link at its place, so this does too: otherwise a lock that is a link could never be taken.
    """
    try:
        return os.path.samestat(os.fstat(file), place.stat())
    except FileNotFoundError:
        return False


def _release(place: Path, file: int, made: Iterable[Path]) -> None:
    """Remove the file while it is locked, and folders that were made for nothing; then let go."""
    with suppress(OSError):
        if _is_at(file, place):  # else it is another process's by now
            place.unlink()
            for path in made:
                path.rmdir()
    os.close(file)


def _refusal(folder: Path, place: Path, error: type[SteerError], otherwise: str) -> SteerError:
    """What a second process is told."""
    holder = _holder(place)
    who = "another process"
    if holder is not None:
        place_of_it = "" if holder["host"] == socket.gethostname() else f" on {holder['host']}"
        who = f"process {holder['pid']}{place_of_it} (since {holder['since']}: {holder['command']})"
        if holder["pid"] == os.getpid() and not place_of_it:
            who = "another thread of this process"
    step = f", or {otherwise}" if otherwise else ""
    return error(f"{folder}: {who} is writing there; wait until it has ended{step}")


def _holder(place: Path) -> dict[str, Any] | None:
    """Who holds the lock, as the file says; None where it does not within a second."""
    for _ in range(_TRIES):
        with suppress(OSError, ValueError, TypeError):
            holder = json.loads(place.read_bytes())
            if {"pid", "host", "since", "command"} <= set(holder) and _may_live(holder):
                return dict(holder)
        time.sleep(_PAUSE_S)
    return None


def _is_named(place: Path) -> bool:
    """Whether a lock's file names a holder that may live."""
    with suppress(OSError, ValueError, TypeError):
        holder = json.loads(place.read_bytes())
        return {"pid", "host"} <= set(holder) and _may_live(holder)
    return False


def _may_live(holder: dict[str, Any]) -> bool:
    """False for a process of this machine that has ended: its successor has not written its own name yet."""
    return not has_ended(holder["host"], int(holder["pid"]))
