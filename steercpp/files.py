"""The one way in which files are written: whole or not at all; no other module writes one.

A draft beside the file is filled, every write checked; it is brought to the disk, read back, compared with what was
written, and only then renamed; last the folder is brought to the disk. Where anything fails, what was there before
stays and the draft goes. What a killed process leaves behind begins with `.steercpp-`; a draft is locked as long as
its process lives, so that `remove_leftovers` knows one that nobody fills any more.

What is replaced is kept as `.steercpp-old-TOKEN-N` until all new files are in their places; `.steercpp-swap-TOKEN` says
meanwhile what belongs where, so that after a kill, or an undoing that fails too, `recover` brings back the old files,
all of them, or keeps the new ones where the last of them had its place.

A link that the user names is followed: the file that it leads to is replaced, beside itself, and the link stays. In a
folder of ours a link is refused, since the folder may be a stranger's. Devices, pipes and sockets are refused.
"""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import shutil
import socket
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import ExitStack, contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any, Self

from steercpp.errors import InputError, RunError

TEMPORARY = ".steercpp-"  # how the name of whatever does not stay begins
_OLD, _SWAP = f"{TEMPORARY}old-", f"{TEMPORARY}swap-"  # what is being replaced, and what says so
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)  # what a file system says that has none
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV)  # the same for hard links
_NO_SYNC = (errno.EINVAL, errno.EBADF, errno.EACCES, errno.EOPNOTSUPP, errno.ENOSYS)  # a folder that cannot be synced
_SPECIAL = {stat.S_IFCHR: "a device", stat.S_IFBLK: "a device", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
_OTHERWISE = "what was written reads back otherwise"
_OPEN_FILES = re.compile(r"/proc/[0-9]+(/task/[0-9]+)?/fd|/dev/fd")
_MOST_LINKS = 40  # as of Linux
_PIECE = 1 << 20  # bytes written or read at once
_ABANDONED_S = 86_400.0  # how old a draft is that surely nobody fills, where it cannot be locked
_fences = threading.local()


def refuse_overwrite(path: Path, *, force: bool, error: type[InputError], inputs: Iterable[Path | None] = ()) -> None:
    """Check that a file could be written there.

    Args:
        path: the file, or a link to it.
        force: whether it may replace one.
        error: what is raised.
        inputs: files that are read for it, which it must not replace whatever `force` says.

    Raises:
        InputError: of the kind `error`: the file exists and `force` is not given, or is one of the inputs, or is no
            ordinary file; its folder does not exist or cannot be written to.
    """
    if path.is_dir():
        raise error(f"{path}: is a folder; name a file in it")
    _refuse_special(path, error)
    folder = _place(path, error).parent
    if path.exists() and not force:
        raise error(f"{path}: exists already; choose another name or give `force=True` to replace it")
    if any(source is not None and source.exists() and path.exists() and path.samefile(source) for source in inputs):
        raise error(f"{path}: is read for what would be written there; choose another name")
    if not folder.is_dir():
        raise error(f"{path}: the folder {folder} does not exist; make it first")
    if not os.access(folder, os.W_OK):
        raise error(f"{path}: the folder {folder} cannot be written to; choose another place")


def _refuse_special(path: Path, error: type[InputError] | type[RunError]) -> None:
    """See that what is there, if anything, is an ordinary file."""
    try:
        kind = _SPECIAL.get(stat.S_IFMT(path.stat().st_mode))
    except (OSError, ValueError):
        return  # nothing is there, or writing says what is wrong
    if kind is not None:
        raise error(f"{path}: is {kind}, not an ordinary file; name a file")


def _place(path: Path, error: type[InputError]) -> Path:
    """Where a file is that the user named: at the end of its links, which may not be there yet."""
    place = path
    for _ in range(_MOST_LINKS):
        if _OPEN_FILES.fullmatch(os.path.realpath(place.parent)):
            raise error(f"{path}: stands for an open file of a process, not for a place; name a file")
        if not place.is_symlink():
            return place
        place = place.parent / place.readlink()
    raise error(f"{path}: is a link that leads in a circle; choose another name")


class Draft:
    """A file that is being filled beside the one whose place it will take.

    Attributes:
        path: where it is.
    """

    def __init__(self, path: Path, file: int) -> None:
        self.path = path
        self._file = file
        self._end = 0
        self._written: list[tuple[int, int, bytes]] = []  # start, length and hash of each write

    @classmethod
    def beside(cls, path: Path, *, prefix: str = TEMPORARY) -> Self:
        """An empty one, locked as long as it is open, and with the rights of the file whose place it will take.

        Raises:
            OSError: it cannot be made.
        """
        while True:
            draft = path.parent / f"{prefix}{secrets.token_hex(8)}"
            file = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)  # less the umask, as of any new file
            made = cls(draft, file)
            try:
                if claim(file) is not False and _is_at(file, draft):
                    if prefix == TEMPORARY:
                        _give_rights(path, file)
                    return made
            except BaseException:
                made.discard()
                raise
            made.discard()  # swept away between its making and its locking

    def write(self, data: bytes | memoryview, *, at: int | None = None) -> int:
        """Write all of the data, behind what was written or from a place on that was not written yet; how many bytes.

        Raises:
            OSError: not all could be written.
        """
        raw = memoryview(data).cast("B")
        start = self._end if at is None else at
        done = 0
        while done < len(raw):
            done += os.pwrite(self._file, raw[done : done + _PIECE], start + done)
        self._written.append((start, len(raw), sha256(raw).digest()))
        self._end = max(self._end, start + len(raw))
        return len(raw)

    @property
    def size(self) -> int:
        """Bytes up to the last one that was written."""
        return self._end

    def settle(self) -> None:
        """Bring it to the disk, read it back and compare.

        Raises:
            OSError: it does not hold what was written.
        """
        _bring_to_disk(self._file)
        is_whole = os.fstat(self._file).st_size == self._end
        for start, n_bytes, digest in self._written:
            found = sha256()
            for place in range(start, start + n_bytes, _PIECE):
                found.update(os.pread(self._file, min(_PIECE, start + n_bytes - place), place))
            is_whole = is_whole and found.digest() == digest
        if not is_whole:
            raise OSError(errno.EIO, _OTHERWISE)

    def discard(self) -> None:
        """Remove it, unless it has been renamed, and close it."""
        with suppress(OSError):  # what cannot be removed goes with the next command
            self.path.unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        """Close it where it is."""
        os.close(self._file)


@contextmanager
def replacing(path: Path, *, check: Callable[[], None] = lambda: None) -> Iterator[Draft]:
    """An empty draft beside the file, to be filled; it takes the file's place at the end, unless an error comes first.

    Args:
        path: the file.
        check: called last, once the draft is on the disk; what it raises keeps the file as it was.

    Raises:
        OSError: the draft cannot be made, brought to the disk, read back as it was written, or renamed.
        SteerError: what a fence around the folder raises, see `fenced`.
    """
    check_fences(path)
    draft = Draft.beside(path)
    try:
        yield draft
        draft.settle()
        check()
        take_places({path: draft.path})
    finally:
        draft.discard()


def write_whole(path: Path, content: bytes | Callable[[Draft], None], *, force: bool, error: type[InputError]) -> None:
    """Write a file that the user named.

    Args:
        path: the file, or a link to it, which stays.
        content: its bytes, or what fills a draft of it.
        force: whether it may replace a file.
        error: what is raised.

    Raises:
        InputError: of the kind `error`: as `refuse_overwrite`, or nothing can be written.
    """

    def check() -> None:
        refuse_overwrite(path, force=force, error=error)

    check()
    place = _place(path, error)
    check_fences(place)
    remove_leftovers(place.parent, folders=False)
    try:
        with replacing(place, check=check) as draft:  # again at the end: writing may have taken hours
            if isinstance(content, bytes):
                draft.write(content)
            else:
                content(draft)
    except OSError as problem:
        check_fences(path)  # which say more than that a folder is not there
        reason = problem.strerror or problem
        raise error(f"{path}: cannot be written: {reason}; choose another place") from problem


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file of a run, replacing an earlier one.

    Raises:
        RunError: it cannot be written.
    """
    write_together(path.parent, {path.name: data})


def write_together(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files that belong together by their names in a folder; all of them or none.

    The last one stands for all: an earlier one of its name goes first, so that it is never there beside files that are
    not its own.

    Raises:
        RunError: they cannot be written; all that was there before is there still.
    """
    path = folder
    try:
        check_fences(folder / "file")
        with ExitStack() as drafts:
            places = {}
            for name, data in files.items():
                path = folder / name
                _refuse_special(path, RunError)
                if path.is_symlink():
                    raise RunError(f"{path}: is a link, which is not followed here; put the file itself there")
                if path.is_dir():
                    raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
                draft = Draft.beside(path)
                drafts.callback(draft.discard)
                draft.write(data)
                draft.settle()
                places[path] = draft.path
            take_places(places)
    except OSError as error:
        check_fences(path)
        raise RunError(
            f"{path}: cannot be written ({error.strerror}); free some space, check the folder's rights, "
            "or use another `out`"
        ) from error


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
    recover(last.parent, names={place.name for place in (*gone, *drafts)})
    for place, draft in drafts.items():
        _give_rights(place, draft)
    away = (*([last] if len(drafts) > 1 else ()), *gone)
    states = {place.name: _state(drafts[place]) if place in drafts else None for place in (*gone, *drafts)}
    swap = Draft.beside(last, prefix=_SWAP)
    token, is_settled = swap.path.name.removeprefix(_SWAP), True
    try:
        swap.write(json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "places": states}).encode())
        swap.settle()
        try:
            for place in (*away, *(place for place in drafts if place not in away)):
                copy = _copy(last.parent, token, states, place.name)
                _keep(place, copy, is_moved=place in away, may_move=len(states) > 1)
            for place, draft in drafts.items():
                os.replace(draft, place)
            sync_folder(last.parent)
            swap.path.unlink()  # from here on the new files are those that stay
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
            _remove(_copy(last.parent, token, states, name))
    finally:
        swap.discard() if is_settled else swap.close()


def recover(folder: Path, *, names: AbstractSet[str] | None = None) -> None:
    """Bring back what killed processes were replacing, see above; what a living one replaces is left to it.

    Args:
        folder: where.
        names: of the files that matter; None for all.

    Raises:
        OSError: one of them cannot be brought back; it stays kept.
    """
    try:
        swaps = [path for path in folder.iterdir() if path.name.startswith(_SWAP)]
    except OSError:
        return  # it is not there, or may be written to and not read
    for path in swaps:
        with ExitStack() as opened:
            try:
                file = os.open(path, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
                opened.callback(os.close, file)
                if not stat.S_ISREG(os.fstat(file).st_mode):
                    continue
                is_orphan, said = claim(file), _said(os.pread(file, _PIECE, 0))
            except OSError:
                continue  # it is gone meanwhile, or another user's
            if is_orphan is None:
                is_orphan = (
                    has_ended(said.get("host"), said.get("pid", 0))
                    or time.time() - os.fstat(file).st_mtime > _ABANDONED_S
                )
            if not is_orphan or not _is_at(file, path):
                continue
            states = said.get("places", {})
            try:
                _finish(path, states)
            except OSError:
                if names is None or not names.isdisjoint(states):
                    raise


def _finish(swap: Path, states: Mapping[str, object]) -> None:
    """Undo what an ended process has begun, unless all new files are in their places; then it is forgotten."""
    folder, token = swap.parent, swap.name.removeprefix(_SWAP)
    if states:
        *_, last = states
        if states[last] is None or _state(folder / last) != states[last]:
            _undo(folder, token, states)
            sync_folder(folder)
    swap.unlink()
    for name in states:
        _remove(_copy(folder, token, states, name))


def is_replaced(folder: Path) -> bool:
    """Whether files in a folder are being replaced, or were when a process was killed."""
    with suppress(OSError):
        return any(path.name.startswith(_SWAP) for path in folder.iterdir())
    return False


def _said(data: bytes) -> dict[str, Any]:
    """What a swap says; nothing where its process was killed before anything was moved, or where it is not ours."""
    try:
        said = json.loads(data)
        places = said["places"]
        is_ours = all(name not in ("", ".", "..") and os.path.basename(name) == name for name in places)
        return said if is_ours and isinstance(places, dict) and isinstance(said["pid"], int) else {}
    except (ValueError, TypeError, KeyError, RecursionError):
        return {}


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
                _remove(place)  # nothing was there before
        elif is_new or not os.path.lexists(place) or place.samefile(copy):
            if place.is_dir():
                _remove(place)
            os.replace(copy, place)
            _remove(copy)  # a second name of the same file stays


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


def _give_rights(place: Path, draft: Path | int) -> None:
    """Give a draft mode and owner of the file that it replaces, as far as the system lets it; it stays writable."""
    with suppress(OSError):
        found = place.lstat()
        if stat.S_ISREG(found.st_mode) and stat.S_ISREG(os.stat(draft).st_mode):
            with suppress(OSError, AttributeError):  # no chown on Windows
                os.chown(draft, found.st_uid, found.st_gid)
            os.chmod(draft, found.st_mode & 0o777 | stat.S_IWUSR)


def _remove(path: Path) -> None:
    """Remove a file or folder; what cannot be removed goes with the next command."""
    with suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def adopt(draft: Path, place: Path, *, sha256: str) -> None:
    """Give a file that another library has filled its place, once it is on the disk with this hash.

    Raises:
        OSError: it has another one, or cannot be renamed.
    """
    file = os.open(draft, os.O_RDONLY)
    try:
        _bring_to_disk(file)
    finally:
        os.close(file)
    from steercpp.provenance import file_sha256

    if file_sha256(draft) != sha256:
        raise OSError(errno.EIO, _OTHERWISE)
    take_places({place: draft})


def _bring_to_disk(file: int) -> None:
    """Write an open file's content to the disk, from which what is read next comes where the system can."""
    os.fsync(file)
    with suppress(AttributeError, OSError):
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)


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


def sync_folder(folder: Path) -> None:
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


def probe(folder: Path) -> None:
    """Make a folder and see that a file can be written there.

    Raises:
        OSError: it cannot.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder, prefix=TEMPORARY, buffering=0) as file:
        file.write(bytes(4096))


def remove_leftovers(folder: Path, *, folders: bool) -> None:
    """Bring back what killed processes were replacing in a folder, and remove what they have left behind.

    Drafts that are being filled, locks that are held, and what cannot be removed stay.

    Args:
        folder: which.
        folders: whether folders among them go too; they are not locked, so the lock of `locks.writing` must be held.
    """
    with suppress(OSError):
        recover(folder)
    with suppress(OSError):
        for path in [path for path in folder.iterdir() if path.name.startswith(TEMPORARY)]:
            with suppress(OSError):
                if path.name.startswith(_SWAP) or _is_kept(path):
                    continue
                if not path.is_dir() or path.is_symlink():
                    _remove_orphan(path)
                elif folders:
                    _remove(path)


def _is_kept(path: Path) -> bool:
    """Whether a file may be brought back yet."""
    token = path.name.removeprefix(_OLD).split("-")[0]
    return path.name.startswith(_OLD) and os.path.lexists(path.parent / f"{_SWAP}{token}")


def _remove_orphan(path: Path) -> None:
    """Remove a file unless a process holds it."""
    if not stat.S_ISREG(path.lstat().st_mode):
        path.unlink()
        return
    file = os.open(path, os.O_RDWR)
    try:
        is_orphan = claim(file)
        if is_orphan is None:
            is_orphan = time.time() - os.fstat(file).st_mtime > _ABANDONED_S
        if is_orphan and _is_at(file, path):
            path.unlink()
    finally:
        os.close(file)


def claim(file: int) -> bool | None:
    """Lock an open file for this process, without waiting; False where another has it, None where nothing is locked.

    The lock is the operating system's, and ends with the process however that ends.
    """
    from filelock import lock_descriptor

    try:
        return lock_descriptor(file, blocking=False)
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return None
        raise


def _is_at(file: int, place: Path) -> bool:
    """Whether an open file is still the one that lies at its place."""
    try:
        return os.path.samestat(os.fstat(file), place.lstat())
    except FileNotFoundError:
        return False


@contextmanager
def fenced(folder: Path, check: Callable[[], None]) -> Iterator[None]:
    """Have this thread call `check` before it writes anything in a folder or below, for as long as this lasts.

    Args:
        folder: which.
        check: raises a SteerError where nothing may be written any more.
    """
    fence = ({os.path.abspath(folder), os.path.realpath(folder)}, check)
    fences: list[tuple[set[str], Callable[[], None]]] = _fences.__dict__.setdefault("fences", [])
    fences.append(fence)
    try:
        yield
    finally:
        fences.remove(fence)


def check_fences(path: Path) -> None:
    """See that this thread may still write a file.

    Raises:
        SteerError: a fence around its folder, or one above, has fallen.
    """
    fences = _fences.__dict__.get("fences", ())
    if not fences:
        return
    inside = {os.path.abspath(path), os.path.join(os.path.realpath(path.parent), path.name)}
    for folders, check in fences:
        if any(place.startswith(folder.rstrip(os.sep) + os.sep) for folder in folders for place in inside):
            check()
