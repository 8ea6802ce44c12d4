"""The arrays of an .npz file, none allocated before all are known to fit; read this for what such a file may claim.

An npz file is a zip archive of .npy members. A few kilobytes of it can unpack to gigabytes, and a header of a few
letters can claim more than there is memory. So first every member's header is read, and what all of them claim is
compared with what the archive says that it unpacks to and with a budget; then each is read, to just as many bytes as
its header claims. Nothing is unpickled.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy

from steercpp.errors import SteerError
from steercpp.inputs import open_input, reading, what_was_said
from steercpp.vectors.gguf_header import shown

_READ_HEADER = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
_LONGEST_HEADER = 10_000  # as numpy's own limit
_MOST_BRACKETS = 100  # of a header; deeper nesting takes Python's parser to its limits
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # what numpy writes
_MOST_DEFLATED = 1100  # bytes that a byte of a deflated member can become, and a little more


@dataclass(frozen=True, slots=True)
class Member:
    """An array as its header describes it.

    Attributes:
        name: without ".npy".
        n_bytes: of its elements, all of which the archive says are there.
    """

    archive: zipfile.ZipFile
    info: zipfile.ZipInfo
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    is_fortran: bool
    start: int

    @property
    def n_bytes(self) -> int:
        """Bytes of its elements."""
        return prod(self.shape) * self.dtype.itemsize

    def read(self, error: type[SteerError], path: Path | str) -> bytes:
        """The bytes of its elements, as they lie in the file.

        Raises:
            SteerError: of the kind `error`: the archive holds fewer than it says.
        """
        with self.archive.open(self.info) as file:
            file.read(self.start)
            raw = file.read(self.n_bytes)
        if len(raw) < self.n_bytes:
            raise error(_cut(path, self.name, len(raw), self.n_bytes))
        return raw

    def values(self, error: type[SteerError], path: Path | str) -> npt.NDArray[Any]:
        """The array; raises as `read`."""
        values = np.frombuffer(self.read(error, path), dtype=self.dtype)
        return values.reshape(self.shape, order="F" if self.is_fortran else "C")


@contextmanager
def members(path: Path | str, error: type[SteerError], *, most_bytes: int, most: int = 1024) -> Iterator[list[Member]]:
    """The arrays of a file, not read yet.

    Args:
        path: the file.
        error: what is raised.
        most_bytes: that all arrays may have together.
        most: how many arrays there may be.

    Raises:
        SteerError: of the kind `error`: not an npz file, damaged, with pickled objects, or larger than it may be.
    """
    with reading(path, error):
        try:
            with open_input(path) as file, zipfile.ZipFile(file) as archive:
                found = archive.infolist()
                if len(found) > most:
                    raise error(f"{path}: holds {len(found)} arrays, and at most {most} are read; write fewer")
                described = [_member(path, error, archive, info) for info in found]
                if sum(member.n_bytes for member in described) > most_bytes:
                    raise error(
                        f"{path}: its arrays have over {most_bytes >> 20:,} MiB together, more than there is use for; "
                        "write it again"
                    )
                yield described
        except (SteerError, OSError, MemoryError):
            raise
        except Exception as problem:  # zipfile, zlib, struct ... each have their own
            raise error(
                f"{path}: not an intact npz file ({what_was_said(problem)}); copy or write it again"
            ) from problem


def _member(path: Path | str, error: type[SteerError], archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Member:
    name = info.filename.removesuffix(".npy")
    if info.compress_type not in _COMPRESSIONS:
        raise error(f"{path}: {shown(name)}: is packed in a way that numpy does not write; write it again")
    if info.file_size > _MOST_DEFLATED * max(info.compress_size, 1):
        raise error(f"{path}: {shown(name)}: claims more bytes than it can unpack to; copy or write it again")
    try:
        with archive.open(info) as file:
            head, shape, is_fortran, dtype = _header(file)
    except (zipfile.BadZipFile, EOFError, RuntimeError, NotImplementedError):
        raise
    except Exception as problem:
        reason = what_was_said(problem)
        raise error(f"{path}: {shown(name)}: not an array of numpy ({reason}); write it again") from problem
    if dtype.hasobject:
        raise error(
            f"{path}: {shown(name)}: holds pickled Python objects, which can run any program when they are read; write "
            "it again as an array of float32"
        )
    if any(type(n) is not int or n < 0 for n in shape):
        raise error(f"{path}: {shown(name)}: shape {shape} has an axis of no such length; write it again")
    member = Member(archive, info, name, shape, dtype, is_fortran, len(head))
    if (there := max(info.file_size - len(head), 0)) < member.n_bytes:
        raise error(_cut(path, name, there, member.n_bytes))
    return member


def _header(file: IO[bytes]) -> tuple[bytes, tuple[int, ...], bool, np.dtype[Any]]:
    """The bytes of a header, and what it says: shape, whether the first axis is the fastest, type."""
    magic = file.read(8)
    version = npy.read_magic(io.BytesIO(magic))
    if version not in _READ_HEADER:
        raise ValueError(f"version {version[0]}.{version[1]} of the format")
    size = file.read(2 if version == (1, 0) else 4)
    n_bytes = int.from_bytes(size, "little")
    text = file.read(min(n_bytes, _LONGEST_HEADER + 1))
    if n_bytes > _LONGEST_HEADER or sum(map(text.count, (b"(", b"[", b"{"))) > _MOST_BRACKETS:
        raise ValueError("its header is no description of an array")
    shape, is_fortran, dtype = _READ_HEADER[version](io.BytesIO(size + text))
    return magic + size + text, shape, is_fortran, dtype


def _cut(path: Path | str, name: str, there: int, n_bytes: int) -> str:
    return f"{path}: {shown(name)}: truncated: {there} bytes of {n_bytes} are there; copy or write it again"
