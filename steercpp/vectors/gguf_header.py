"""The keys and tensor descriptions at the head of a GGUF file; read this to see which files count as intact.

It refuses what llama.cpp's own reader refuses (ggml/src/gguf.cpp of llama.cpp 0c1e57098), and reads no more than the
file holds: gguf-py's reader goes round for hours on an array that claims 2^60 elements. Writing is left to gguf-py.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeAlias, TypeVar

from gguf.constants import GGMLQuantizationType, GGUFValueType

from steercpp.errors import VectorFileError

Scalar: TypeAlias = str | bool | int | float
_Entry = TypeVar("_Entry")

_FORMATS = {
    GGUFValueType.UINT8: "B",
    GGUFValueType.INT8: "b",
    GGUFValueType.UINT16: "H",
    GGUFValueType.INT16: "h",
    GGUFValueType.UINT32: "I",
    GGUFValueType.INT32: "i",
    GGUFValueType.FLOAT32: "f",
    GGUFValueType.BOOL: "?",
    GGUFValueType.UINT64: "Q",
    GGUFValueType.INT64: "q",
    GGUFValueType.FLOAT64: "d",
}
_MAX_NAME = 63  # GGML_MAX_NAME - 1
_MAX_DIMS = 4  # GGML_MAX_DIMS
_MAX_BYTES = 1 << 28  # of a head; those of models with the largest vocabularies have a tenth of it
_MAX_ITEMS = 1 << 24  # of all arrays in it


@dataclass(frozen=True, slots=True)
class Value:
    """A key's value; `type` is the element's type where `value` is a tuple."""

    type: GGUFValueType
    value: Scalar | tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor's description: `shape` as ggml's ne (fastest axis first), `offset` in bytes from the data section."""

    name: str
    shape: tuple[int, ...]
    type: int
    offset: int

    @property
    def type_name(self) -> str:
        """F32, Q8_0 ... or the bare number of a type that is not known."""
        return GGMLQuantizationType(self.type).name if self.type in set(GGMLQuantizationType) else f"type {self.type}"


@dataclass(frozen=True, slots=True)
class Header:
    """All of a GGUF file but its data, which starts at byte `data_start` of `size`."""

    values: dict[str, Value]
    tensors: tuple[Tensor, ...]
    alignment: int
    data_start: int
    size: int

    def text(self, key: str) -> str:
        """The text of a key; "" where there is none, or no text."""
        item = self.values.get(key)
        return item.value if item is not None and isinstance(item.value, str) else ""


def shown(name: str) -> str:
    """A name as it is told to a user: quoted where it holds what a terminal would obey or not show."""
    return name if name.isprintable() and name else repr(name)


def read_header(file: BinaryIO, path: Path | str) -> Header:
    """Read the head of an open GGUF file; leaves the position anywhere.

    Raises:
        VectorFileError: not GGUF, of a version that llama.cpp does not read, truncated, or malformed.
    """
    cursor = _Cursor(file, path)
    if cursor.take(4) != b"GGUF":
        raise VectorFileError(f"{path}: not a GGUF file; give a control vector written as GGUF")
    version = cursor.number("I")
    if version not in (2, 3):
        swapped = "in big-endian byte order" if version & 0xFFFF == 0 else f"of GGUF version {version}"
        raise VectorFileError(f"{path}: {swapped}; llama.cpp reads versions 2 and 3, little-endian: write it again")
    n_tensors, n_values = cursor.number("Q"), cursor.number("Q")
    values = dict(_unique(path, "key", (_read_value(cursor) for _ in range(n_values))))
    tensors = dict(_unique(path, "tensor", (_read_tensor(cursor) for _ in range(n_tensors))))
    alignment = _alignment(path, values)
    data_start = cursor.position + (-cursor.position) % alignment if tensors else cursor.position
    return Header(values, tuple(tensors.values()), alignment, data_start, cursor.size)


class _Cursor:
    """Reads forward through a file and never asks for more than it has left."""

    def __init__(self, file: BinaryIO, path: Path | str) -> None:
        self.file, self.path = file, path
        self.size = os.fstat(file.fileno()).st_size
        self.position, self.n_items = 0, 0
        if self.size == 0:
            raise VectorFileError(f"{path}: the file is empty; write it again")

    def take(self, n_bytes: int) -> bytes:
        if self.position + n_bytes > _MAX_BYTES and n_bytes <= self.size - self.position:
            raise VectorFileError(f"{self.path}: its header is larger than 256 MiB, as no model's is; write it again")
        raw = self.file.read(n_bytes) if n_bytes <= self.size - self.position else b""
        if len(raw) < n_bytes:
            problem = f"ends after {self.size} bytes, in the middle of its header"
            raise VectorFileError(f"{self.path}: truncated: {problem}; copy or write it again")
        self.position += n_bytes
        return raw

    def number(self, code: str) -> int:
        value: int = struct.unpack(f"<{code}", self.take(struct.calcsize(f"<{code}")))[0]
        return value

    def text(self) -> str:
        raw = self.take(self.number("Q"))
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise VectorFileError(f"{self.path}: a name or text is not UTF-8: {raw[:40]!r}; write it again") from error

    def items(self, kind: GGUFValueType, count: int) -> tuple[Scalar, ...]:
        self.n_items += count
        if self.n_items > _MAX_ITEMS and count <= self.size - self.position:
            raise VectorFileError(f"{self.path}: its header has over {_MAX_ITEMS:,} values; write it again")
        if kind == GGUFValueType.STRING:
            return tuple(self.text() for _ in range(count))
        code = _FORMATS[kind]
        raw = self.take(count * struct.calcsize(f"<{code}"))
        return struct.unpack(f"<{count}{code}", raw)


def _unique(path: Path | str, what: str, named: Iterator[tuple[str, _Entry]]) -> Iterator[tuple[str, _Entry]]:
    seen = set()
    for name, entry in named:
        if name in seen:
            raise VectorFileError(
                f"{path}: {shown(name)}: the {what} is there twice, which llama.cpp refuses; write it again"
            )
        seen.add(name)
        yield name, entry


def _read_value(cursor: _Cursor) -> tuple[str, Value]:
    key = cursor.text()
    kind = cursor.number("I")
    is_array = kind == GGUFValueType.ARRAY
    if is_array:
        kind = cursor.number("I")
    if kind != GGUFValueType.STRING and kind not in _FORMATS or not key:
        raise VectorFileError(f"{cursor.path}: key {key!r} has value type {kind}, which GGUF lacks; write it again")
    items = cursor.items(GGUFValueType(kind), cursor.number("Q") if is_array else 1)
    return key, Value(GGUFValueType(kind), items if is_array else items[0])


def _read_tensor(cursor: _Cursor) -> tuple[str, Tensor]:
    name = cursor.text()
    n_dims = cursor.number("I")
    if len(name.encode()) > _MAX_NAME or "\0" in name or n_dims > _MAX_DIMS:
        problem = f"a name of {len(name)} letters and {n_dims} dimensions"
        raise VectorFileError(
            f"{cursor.path}: {name[:_MAX_NAME]!r}: {problem}, which llama.cpp refuses; write it again"
        )
    shape = tuple(cursor.number("Q") for _ in range(n_dims))
    return name, Tensor(name, shape, cursor.number("I"), cursor.number("Q"))


def _alignment(path: Path | str, values: dict[str, Value]) -> int:
    alignment = values.get("general.alignment", Value(GGUFValueType.UINT32, 32))
    if (
        alignment.type != GGUFValueType.UINT32
        or not isinstance(alignment.value, int)
        or alignment.value.bit_count() != 1
    ):
        raise VectorFileError(f"{path}: general.alignment: {alignment.value!r} is not a power of two; write it again")
    return alignment.value
