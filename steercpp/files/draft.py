"""A file that is being filled beside the one whose place it will take, and what it needs of the disk.

Every write is checked; at last the file is brought to the disk, read back, and compared with what was written. A draft
is locked as long as its process lives, so that leftovers.py knows one that nobody fills any more.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Self

from steercpp.files.claims import claim, is_at

TEMPORARY = ".steercpp-"  # how the name of whatever does not stay begins
_PIECE = 1 << 20  # bytes written or read at once


def temporaries(folder: Path, prefix: str = TEMPORARY) -> list[Path]:
    """Files and folders in a folder that do not stay.

    Raises:
        OSError: it is not there, or may be written to and not read.
    """
    return [folder / name for name in os.listdir(folder) if name.startswith(prefix)]


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
    def beside(cls, path: Path, *, prefix: str = TEMPORARY, mode: int = 0o666) -> Self:
        """An empty one, locked as long as it is open, and with the rights of the file whose place it will take.

        Args:
            path: of that file.
            prefix: how its own name begins; with another than `TEMPORARY` it takes nobody's place.
            mode: its rights until then, less the umask, as of any new file.

        Raises:
            OSError: it cannot be made.
        """
        while True:
            draft = path.parent / f"{prefix}{secrets.token_hex(8)}"
            file = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode)
            made = cls(draft, file)
            try:
                if claim(file) is not False and is_at(file, draft):
                    if prefix == TEMPORARY:
                        give_rights(path, file)
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

    @property
    def inode(self) -> int:
        """Of the file."""
        return os.fstat(self._file).st_ino

    def settle(self) -> None:
        """Bring it to the disk, read it back and compare.

        Raises:
            OSError: it does not hold what was written.
        """
        bring_to_disk(self._file)
        is_whole = os.fstat(self._file).st_size == self._end
        for start, n_bytes, digest in self._written:
            found = sha256()
            for place in range(start, start + n_bytes, _PIECE):
                found.update(os.pread(self._file, min(_PIECE, start + n_bytes - place), place))
            is_whole = is_whole and found.digest() == digest
        if not is_whole:
            raise reads_otherwise()

    def discard(self) -> None:
        """Remove it, unless it has been renamed, and close it."""
        with suppress(OSError):  # what cannot be removed goes with the next command
            self.path.unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        """Close it where it is."""
        os.close(self._file)


def reads_otherwise() -> OSError:
    """What is raised where a file on the disk does not hold what was written to it."""
    return OSError(errno.EIO, "what was written reads back otherwise")


def give_rights(place: Path, draft: Path | int) -> None:
    """Give a draft mode and owner of the file that it replaces, as far as the system lets it; it stays writable."""
    with suppress(OSError):
        found = place.lstat()
        if stat.S_ISREG(found.st_mode) and stat.S_ISREG(os.stat(draft).st_mode):
            with suppress(OSError, AttributeError):  # no chown on Windows
                os.chown(draft, found.st_uid, found.st_gid)
            os.chmod(draft, found.st_mode & 0o777 | stat.S_IWUSR)


def bring_to_disk(file: int) -> None:
    """Write an open file's content to the disk, from which what is read next comes where the system can."""
    os.fsync(file)
    with suppress(AttributeError, OSError):
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
