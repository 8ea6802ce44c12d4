"""Which model it is that was opened, and whether it still is: its files are held open and hashed as they were opened.

A name, a size and a time of change can be given to another model, so none of them stands for its content: all bytes of
all shards are hashed, once a process. They are read from the files that are held open, so that a model renamed over
the path does not matter to one that is loaded. It matters if another model is written into the file itself: as long as
llama.cpp maps the file, whose bytes are then read again and again, and otherwise until it has been hashed. The system's
own times of change, which no program sets (ctime), tell when to look again; they are compared with one another, never
with a clock of this machine, as a file server has its own.
"""

from __future__ import annotations

import hashlib
import os
import time
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from steercpp.encoding import spelled
from steercpp.engine.model_file import joined_sha256, model_files
from steercpp.errors import ModelError

_State = tuple[int, ...]  # of a file: what changes with its content
_PIECE = 1 << 20
_SETTLED_S = 0.1  # a file that was first seen so a shorter time before it was read may have changed again unseen
_AGAIN = "open it again, and begin again what was measured with the other"
_hashes: dict[_State, str] = {}  # of this process
_seen: dict[_State, float] = {}  # when it first saw a file so, by its own clock


class OpenedModel:
    """The files of a model, held open as long as this lives.

    Args:
        path: the model, of a split one its first shard.
        is_mapped: whether it is read from the files as long as it is used, not once.

    Raises:
        ModelError: see `model_files`; or a file cannot be opened.
    """

    def __init__(self, path: Path, *, is_mapped: bool) -> None:
        self.path, self.is_mapped = path, is_mapped
        self._paths = model_files(path)
        self._files: list[int] = []
        weakref.finalize(self, _close, self._files)
        try:
            for shard in self._paths:
                self._files.append(os.open(shard, os.O_RDONLY))
            self._opened = self._states()
            self._rights = self._all_rights()
            for state in self._opened:
                _is_settled(state)  # seen first now
        except OSError as error:
            raise ModelError(f"{path}: the model cannot be read: {error.strerror}; check the path") from error
        self._sha256 = ""
        self._hashed: Sequence[_State] = ()

    def refuse_replaced(self) -> None:
        """See that the files are still those that are held open; to be asked once the model is loaded by its path.

        Raises:
            ModelError: another file has taken a place, or one was written to.
        """
        try:
            states = [_state(os.stat(path)) for path in self._paths]
        except OSError as error:
            raise ModelError(f"{self.path}: the model cannot be read: {error.strerror}; check the path") from error
        if states != self._opened:
            raise ModelError(f"{self.path}: was replaced while it was loaded; load it again")

    def sha256(self) -> str:
        """Hash in hexadecimal as of `model_sha256`, of what was opened.

        Raises:
            ModelError: the content is another one than when it was first asked for, or cannot be read.
        """
        if self._sha256 and (not self.is_mapped or (self._hashed and self._hashed == self._states())):
            return self._sha256
        if not self._sha256 and not self._is_as_opened():
            raise ModelError(f"{self.path}: was written to after it was loaded; load it again")
        states = self._states()
        is_settled = all([_is_settled(state) for state in states])  # each is looked at
        try:
            sha256 = joined_sha256([_hash_of(file) for file in self._files])
        except OSError as error:
            raise ModelError(f"{self.path}: the model cannot be read: {error.strerror}; check the disk") from error
        if self._sha256 not in ("", sha256):
            raise ModelError(f"{self.path}: was written to while it was in use, and is another model now; {_AGAIN}")
        self._sha256, self._hashed = sha256, states if is_settled and states == self._states() else ()
        return sha256

    def refuse_changed(self) -> None:
        """See that the content that is used is what was hashed.

        Raises:
            ModelError: it is not.
        """
        self.sha256()

    def identity(self) -> dict[str, Any]:
        """Name, size, time of change and hash of the model.

        Returns:
            "file", "path", "bytes" and "mtime_ns", of a split model those of all shards and of the latest one;
            "shards", the name, "bytes" and "mtime_ns" of each, () for a single file; "sha256".

        Raises:
            ModelError: as `sha256`.
        """
        found = [os.fstat(file) for file in self._files]
        return {
            "file": spelled(self.path.name), "path": str(self.path), "bytes": sum(of_file.st_size for of_file in found),
            "mtime_ns": max(of_file.st_mtime_ns for of_file in found),
            "shards": tuple(
                {"file": spelled(path.name), "bytes": of_file.st_size, "mtime_ns": of_file.st_mtime_ns}
                for path, of_file in zip(self._paths, found, strict=True)
            ) if len(found) > 1 else (),
            "sha256": self.sha256(),
        }  # fmt: skip

    def _states(self) -> list[_State]:
        return [_state(os.fstat(file)) for file in self._files]

    def _all_rights(self) -> list[tuple[int, ...]]:
        found = [os.fstat(file) for file in self._files]
        return [(of_file.st_nlink, of_file.st_mode, of_file.st_uid, of_file.st_gid) for of_file in found]

    def _is_as_opened(self) -> bool:
        """Whether the content is as it was; a ctime may be of a name or a right that was given or taken."""
        return all(
            now == opened or (now[:-1] == opened[:-1] and rights != earlier)
            for now, opened, rights, earlier in zip(
                self._states(), self._opened, self._all_rights(), self._rights, strict=True
            )
        )


def _state(found: os.stat_result) -> _State:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _is_settled(state: _State) -> bool:
    """Whether it was seen so long enough ago that any change since has another time."""
    now = time.monotonic()
    return now - _seen.setdefault(state, now) >= _SETTLED_S


def _hash_of(file: int) -> str:
    """Hash of an open file's bytes; one that was hashed in this process, and has not changed, is not read again."""
    state = _state(os.fstat(file))
    if state in _hashes:
        return _hashes[state]
    is_settled = _is_settled(state)
    digest = hashlib.sha256()
    place = 0
    while piece := os.pread(file, _PIECE, place):
        digest.update(piece)
        place += len(piece)
    if is_settled and state == _state(os.fstat(file)):
        _hashes[state] = digest.hexdigest()
    return digest.hexdigest()


def _close(files: list[int]) -> None:
    for file in files:
        os.close(file)
