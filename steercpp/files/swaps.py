"""Several files that take their places together, and what brings the old ones back where that was cut short.

What is replaced is kept as `.steercpp-old-TOKEN-N` until all new files are in their places; the record of the swap,
`.steercpp-swap-TOKEN`, says meanwhile what belongs where, so that after a kill, or an undoing that fails too, `recover`
brings back the old files, all of them, or keeps the new ones where the last of them had its place.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import socket
import stat
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any

from steercpp.files.claims import has_ended, is_abandoned
from steercpp.files.draft import TEMPORARY, Draft, give_rights, temporaries
from steercpp.files.fences import check_fences

_OLD, _RECORD = f"{TEMPORARY}old-", f"{TEMPORARY}swap-"  # what is being replaced, and what says so
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV)  # a file system without hard links
_NO_SYNC = (errno.EINVAL, errno.EBADF, errno.EACCES, errno.EOPNOTSUPP, errno.ENOSYS)  # a folder that cannot be synced
_LONGEST_RECORD = 1 << 20  # bytes


def take_places(drafts: Mapping[Path, Path], *, gone: Iterable[Path] = ()) -> None:
    """Rename drafts to their places, the last one last; of several, an earlier last one goes first.

    Args:
        drafts: places with the drafts for them, all in one folder.
        gone: other files of that folder that are then no longer there.

    Raises:
        OSError: all is as it was before, or will be after `recover` where that could not be done.
        SteerError: the same, what a fence around the folder raises, see `fenced`.
    """
    *_, last = drafts
    check_fences(last)
    for place, draft in drafts.items():
        if place.is_dir() and not draft.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    # Also where it was done before the drafts were filled: another process may have been killed since.
    recover(last.parent, names={place.name for place in (*gone, *drafts)})
    for place, draft in drafts.items():
        give_rights(place, draft)
    away = (*([last] if len(drafts) > 1 else ()), *gone)
    states = {place.name: _state(drafts[place]) if place in drafts else None for place in (*gone, *drafts)}
    record = Draft.beside(last, prefix=_RECORD)
    token, is_settled = record.path.name.removeprefix(_RECORD), True
    try:
        record.write(json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "places": states}).encode())
        record.settle()
        try:
            for place in (*away, *(place for place in drafts if place not in away)):
                copy = _copy(last.parent, token, states, place.name)
                _keep(place, copy, is_moved=place in away, may_move=len(states) > 1)
            for place, draft in drafts.items():
                os.replace(draft, place)
            _sync(last.parent)
            record.path.unlink()  # from here on the new files are those that stay
        except BaseException as problem:
            is_settled = False
            try:
                _undo(last.parent, token, states)
            except OSError as error:
                kept = f"{error.strerror}; what was there is kept as {_OLD}{token}-*, and the next command puts it back"
                raise OSError(error.errno, kept) from problem
            is_settled = True
            raise
        for name in states:
            remove(_copy(last.parent, token, states, name))
    finally:
        record.discard() if is_settled else record.close()


def recover(folder: Path, *, names: AbstractSet[str] | None = None) -> None:
    """Bring back what killed processes were replacing, see above; what a living one replaces is left to it.

    Args:
        folder: where.
        names: of the files that matter; None for all.

    Raises:
        OSError: one of them cannot be brought back; it stays kept.
    """
    try:
        records = temporaries(folder, _RECORD)
    except OSError:
        return  # it is not there, or may be written to and not read
    bring_back(records, names=names)


def bring_back(records: Iterable[Path], *, names: AbstractSet[str] | None = None) -> None:
    """Do as `recover` where the records are known already.

    Raises:
        OSError: as `recover`.
    """
    for path in records:
        with ExitStack() as opened:
            try:
                file = os.open(path, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
                opened.callback(os.close, file)
                if not stat.S_ISREG(os.fstat(file).st_mode):
                    continue
                if not is_abandoned(file, path, has_ended=partial(_writer_has_ended, file)):
                    continue
                states = _said(file).get("places", {})  # once it is ours: a living process may write it until then
            except OSError:
                continue  # it is gone meanwhile, or another user's
            try:
                _finish(path, states)
            except OSError:
                if names is None or not names.isdisjoint(states):
                    raise


def _finish(record: Path, states: Mapping[str, object]) -> None:
    """Undo what an ended process has begun, unless all new files are in their places; then it is forgotten."""
    folder, token = record.parent, record.name.removeprefix(_RECORD)
    if states:
        *_, last = states
        if states[last] is None or _state(folder / last) != states[last]:
            _undo(folder, token, states)
            _sync(folder)
    record.unlink()
    for name in states:
        remove(_copy(folder, token, states, name))


def is_replaced(folder: Path) -> bool:
    """Whether files in a folder are being replaced, or were when a process was killed."""
    with suppress(OSError):
        return bool(temporaries(folder, _RECORD))
    return False


def is_record(path: Path) -> bool:
    """Whether a file says what is being replaced, by its name."""
    return path.name.startswith(_RECORD)


def is_kept(path: Path) -> bool:
    """Whether a file may be brought back yet."""
    token = path.name.removeprefix(_OLD).split("-")[0]
    return path.name.startswith(_OLD) and os.path.lexists(path.parent / f"{_RECORD}{token}")


def _writer_has_ended(file: int) -> bool:
    """Whether it is sure that the process that a record names has ended."""
    said = _said(file)
    return has_ended(said.get("host"), said.get("pid", 0))


def _said(file: int) -> dict[str, Any]:
    """What a record says; nothing where its process was killed before anything was moved, or where it is not ours."""
    try:
        said = json.loads(os.pread(file, _LONGEST_RECORD, 0))
        places = said["places"]
        is_ours = all(name not in ("", ".", "..") and os.path.basename(name) == name for name in places)
        return said if is_ours and isinstance(places, dict) and isinstance(said["pid"], int) else {}
    except (ValueError, TypeError, KeyError, RecursionError):
        return {}


def _undo(folder: Path, token: str, states: Mapping[str, object]) -> None:
    """Put back what was kept, the one that stands for all last; files that somebody else put there meanwhile stay.

    Raises:
        OSError: not all could be put back; it can be tried again.
    """
    *_, last = states
    if len(states) > 1 and states[last] is not None and _state(folder / last) == states[last]:
        (folder / last).unlink()
    for name, state in states.items():
        place, copy = folder / name, _copy(folder, token, states, name)
        is_new = state is not None and _state(place) == state
        if not os.path.lexists(copy):
            if is_new:
                remove(place)  # nothing was there before
        elif is_new or not os.path.lexists(place) or place.samefile(copy):
            if place.is_dir():
                remove(place)
            os.replace(copy, place)
            remove(copy)  # a second name of the same file stays


def _copy(folder: Path, token: str, states: Mapping[str, object], name: str) -> Path:
    """Where a file is kept while it is replaced."""
    return folder / f"{_OLD}{token}-{list(states).index(name)}"


def _state(path: Path) -> list[int] | None:
    """What a file keeps when it is renamed and not when it is replaced or written to; None where there is none."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    return [found.st_ino, found.st_size, found.st_mtime_ns]


def _keep(place: Path, copy: Path, *, is_moved: bool, may_move: bool) -> None:
    """Give a file that is to be replaced a second name, or only another one where it is to go away.

    Where the file system knows no second names it is moved if it may be, and else replaced without one.
    """
    if not os.path.lexists(place):
        return
    if is_moved or place.is_dir():
        os.rename(place, copy)
        return
    try:
        os.link(place, copy, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if may_move:
            os.rename(place, copy)


def _sync(folder: Path) -> None:
    """Bring a folder's names to the disk, where its file system can.

    Raises:
        OSError: it cannot be done.
    """
    try:
        file = os.open(folder, os.O_RDONLY)
    except PermissionError:
        return  # it may be written to and not read
    try:
        os.fsync(file)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise
    finally:
        os.close(file)


def remove(path: Path) -> None:
    """Remove a file or folder; what cannot be removed goes with the next command."""
    with suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
