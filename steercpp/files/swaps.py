"""Several files that take their places together, and what brings the old ones back where that was cut short.

What is replaced is kept as `.steercpp-old-TOKEN-N` until all new files are in their places; the record of the swap,
`.steercpp-swap-TOKEN`, says meanwhile what belongs where, so that after a kill, or an undoing that fails too, `recover`
brings back the old files, all of them, or keeps the new ones where the last of them had its place.

A folder may be a stranger's, or others may write to it. So a record is believed only where this user wrote it, there:
it is an ordinary file of this user's, nobody else may write to it, and it names its own inode, which none in an archive
or a copied folder does. (Not its device, whose number changes when a file system is mounted again.) And whatever it
says, only names of ours are removed, and files or folders of the very inode, size and time of a draft.
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

from steercpp.encoding import spelled
from steercpp.files.claims import has_ended, is_abandoned
from steercpp.files.draft import TEMPORARY, Draft, give_rights, temporaries
from steercpp.files.fences import check_fences

_OLD, _RECORD = f"{TEMPORARY}old-", f"{TEMPORARY}swap-"  # what is being replaced, and what says so
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV)  # a file system without hard links
_NO_SYNC = (errno.EINVAL, errno.EBADF, errno.EACCES, errno.EOPNOTSUPP, errno.ENOSYS)  # a folder that cannot be synced
_LONGEST_RECORD = 1 << 20  # bytes
AS_IT_IS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)  # opens no link, and waits for no pipe


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
    record = Draft.beside(last, prefix=_RECORD, mode=0o600)
    token, is_settled = record.path.name.removeprefix(_RECORD), True
    copies = _copies(last.parent, token, states)
    try:
        said = {"host": socket.gethostname(), "pid": os.getpid(), "inode": record.inode, "places": states}
        record.write(json.dumps(said).encode())
        record.settle()
        try:
            for place in (*away, *(place for place in drafts if place not in away)):
                _keep(place, copies[place.name], is_moved=place in away, may_move=len(states) > 1)
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
        for copy in copies.values():
            remove(copy)
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
                file = os.open(path, os.O_RDWR | AS_IT_IS)
                opened.callback(os.close, file)
                if not _is_own(os.fstat(file)):
                    continue
                if not is_abandoned(file, path, has_ended=partial(_writer_has_ended, file)):
                    continue
                said = _said(file)  # once it is ours: a living process may write it until then
                if said and not _is_believed(file, said):
                    continue  # what is kept stays: it may be all that there is
            except OSError:
                continue  # it is gone meanwhile, or another user's
            states = said.get("places", {})
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
    for copy in _copies(folder, token, states).values():
        remove(copy)


def why_kept(folder: Path, name: str) -> str | None:
    """Why a file that is not in a folder is kept there and not brought back, and what to do; None where it is not kept.

    Also None where it is brought back once the process that replaces it has ended.
    """
    with suppress(OSError):
        for path in temporaries(folder, _RECORD):
            found = path.lstat()
            if not stat.S_ISREG(found.st_mode):
                continue
            record = spelled(path.name)
            kept = f"what was there is kept as {_OLD}{record.removeprefix(_RECORD)}-*"
            said: dict[str, Any] = {}
            with suppress(OSError), ExitStack() as opened:
                file = os.open(path, os.O_RDONLY | AS_IT_IS)
                opened.callback(os.close, file)
                found, said = os.fstat(file), _said(file)
                if name not in said.get("places", {}) or _is_believed(file, said):
                    continue
            if not _is_own(found):
                return (
                    f"{_owner(path)} replaces files there with a process that runs or was killed; {kept}: have that "
                    f"user run the command again, or remove {record} if it is not that user's business"
                )
            if said:
                return (
                    f"was copied or unpacked while its files were being replaced; {kept}: copy it again from where "
                    f"it was made, or give them their names back, which {record} lists in the order of their "
                    "numbers, and remove that"
                )
    return None


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


def _is_own(found: os.stat_result) -> bool:
    """Whether a file is an ordinary one of this user's, where there are users."""
    return stat.S_ISREG(found.st_mode) and (not hasattr(os, "geteuid") or found.st_uid == os.geteuid())


def _is_believed(file: int, said: Mapping[str, object]) -> bool:
    """Whether an open record was written by this user where it is, and by nobody else since."""
    found = os.fstat(file)
    is_closed = not hasattr(os, "geteuid") or not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return _is_own(found) and is_closed and said.get("inode") == found.st_ino


def _owner(path: Path) -> str:
    try:
        return f"user {path.owner()}"
    except (OSError, KeyError, NotImplementedError):
        return "another user"


def _said(file: int) -> dict[str, Any]:
    """What a record says; nothing where its process was killed before anything was moved, or where it is not ours."""
    try:
        said = json.loads(os.pread(file, _LONGEST_RECORD, 0))
        places = said["places"]
        is_ours = isinstance(places, dict) and all(map(_is_name, places))
        return said if is_ours and isinstance(said["pid"], int) else {}
    except (ValueError, TypeError, KeyError, RecursionError):
        return {}


def _is_name(name: str) -> bool:
    """Whether a file that is replaced may be called so.

    Raises:
        ValueError: no file may.
    """
    is_plain = name not in ("", ".", "..") and os.path.basename(name) == name and b"\0" not in os.fsencode(name)
    return is_plain and not name.startswith(TEMPORARY)


def _undo(folder: Path, token: str, states: Mapping[str, object]) -> None:
    """Put back what was kept, the one that stands for all last; files that somebody else put there meanwhile stay.

    Raises:
        OSError: not all could be put back; it can be tried again.
    """
    *_, last = states
    if len(states) > 1 and states[last] is not None and _state(folder / last) == states[last]:
        (folder / last).unlink()
    for name, copy in _copies(folder, token, states).items():
        place, state = folder / name, states[name]
        is_new = state is not None and _state(place) == state
        if not os.path.lexists(copy):
            if is_new:
                remove(place)  # nothing was there before
        elif is_new or not os.path.lexists(place):
            if is_new and stat.S_ISDIR(place.lstat().st_mode):
                remove(place)
            os.replace(copy, place)
        elif os.path.samestat(place.lstat(), copy.lstat()):  # a second name: nothing was moved yet
            copy.unlink()


def _copies(folder: Path, token: str, states: Mapping[str, object]) -> dict[str, Path]:
    """Where each file is kept while it is replaced, by its name."""
    return {name: folder / f"{_OLD}{token}-{number}" for number, name in enumerate(states)}


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
