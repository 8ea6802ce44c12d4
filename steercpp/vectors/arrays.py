"""Named arrays and one text in an .npz or .safetensors file; read this for what such a file may hold.

Nothing is unpickled, and nothing is read before its name, type and size are known to be right: a file can claim more
than it holds, and a few kilobytes can unpack to gigabytes.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import safetensors
import safetensors.numpy
from numpy.lib import format as npy

from steercpp.aliases import FloatArray
from steercpp.errors import VectorFileError
from steercpp.inputs import open_input, read_input, rereadable
from steercpp.vectors.gguf_header import shown

TEXT = "steercpp"  # the npz array, and the safetensors metadata, that hold the text
MAX_N_EMBD = 1 << 20
_MAX_TEXT = 1 << 24
_MAX_ARRAYS = 1024
_KINDS = {"F16": "<f2", "F32": "<f4", "F64": "<f8", "BF16": "<u2"}  # BF16 is the upper half of a float32

CheckName = Callable[[str], object]  # raises VectorFileError for a name that has no place here


def npz_bytes(arrays: Mapping[str, FloatArray], text: str) -> bytes:
    """A file of arrays and the text as numpy writes it; the same give the same bytes."""
    everything: dict[str, npt.NDArray[Any]] = {**arrays, TEXT: np.array(text)}
    memory = io.BytesIO()
    np.savez(memory, **everything)  # type: ignore[arg-type]
    return memory.getvalue()


def read_npz(path: Path | str, check_name: CheckName) -> tuple[dict[str, FloatArray], str | None, dict[str, str]]:
    """Read what `npz_bytes` or any other program wrote.

    Returns:
        The arrays, each (n,) float32; the text, None where there is none; types other than float32, by name.

    Raises:
        VectorFileError: not an npz file, truncated, or with an array that is not of numbers with a point, or not
            along one axis.
        OSError: the file cannot be read.
    """
    try:
        with open_input(path) as file, zipfile.ZipFile(file) as archive:
            return _read_members(path, archive, check_name)
    except (zipfile.BadZipFile, zlib.error, EOFError, struct.error, NotImplementedError, RuntimeError) as error:
        raise VectorFileError(f"{path}: not an intact npz file ({error}); copy or write it again") from error


def safetensors_bytes(arrays: Mapping[str, FloatArray], text: str) -> bytes:
    """A file of arrays and the text as metadata; the same give the same bytes."""
    return safetensors.numpy.save(dict(arrays), metadata={TEXT: text})


def read_safetensors(
    path: Path | str, check_name: CheckName
) -> tuple[dict[str, FloatArray], str | None, dict[str, str]]:
    """As `read_npz`, of a safetensors file.

    Raises:
        VectorFileError: not safetensors, truncated, or as in `read_npz`.
        OSError: the file cannot be read.
    """
    try:
        with safetensors.safe_open(rereadable(path), framework="numpy") as file:
            names = sorted(file.keys())
            for name in names:
                check_name(name)
                array = file.get_slice(name)
                kind, shape = array.get_dtype(), tuple(array.get_shape())
                _check_array(path, name, kind if kind in _KINDS else None, kind, shape)
            text = (file.metadata() or {}).get(TEXT)
        arrays, kinds = {}, {}
        for name, item in safetensors.deserialize(read_input(path)):  # type: ignore[no-untyped-call]
            kind = item["dtype"]
            arrays[name] = _float32(np.frombuffer(item["data"], dtype=_KINDS[kind]))
            if kind != "F32":
                kinds[name] = kind
    except safetensors.SafetensorError as error:
        raise VectorFileError(f"{path}: not an intact safetensors file ({error}); copy or write it again") from error
    return arrays, text, kinds


def _read_members(
    path: Path | str, archive: zipfile.ZipFile, check_name: CheckName
) -> tuple[dict[str, FloatArray], str | None, dict[str, str]]:
    arrays: dict[str, FloatArray] = {}
    kinds: dict[str, str] = {}
    text = None
    members = archive.infolist()
    if len(members) > _MAX_ARRAYS:
        raise VectorFileError(f"{path}: holds {len(members)} arrays; a control vector has one for each layer")
    for member in members:
        name = member.filename.removesuffix(".npy")
        with archive.open(member) as file:
            shape, dtype = _npy_header(path, name, file)
            if name == TEXT and text is None:
                text = _text(path, file, shape, dtype)
                continue
            check_name(name)
            kind = f"F{8 * dtype.itemsize}" if dtype.kind == "f" else None
            _check_array(path, name, kind if kind in _KINDS else None, dtype.name, shape)
            raw = _bytes(path, name, file, shape[0] * dtype.itemsize)
            arrays[name] = _float32(np.frombuffer(raw, dtype=dtype))
            if kind is not None and kind != "F32":
                kinds[name] = kind
    return arrays, text, kinds


def _npy_header(path: Path | str, name: str, file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    try:
        shape, _, dtype = read[npy.read_magic(file)](file)
    except (ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:80]
        raise VectorFileError(f"{path}: {shown(name)}: not an array of numpy ({reason}); write it again") from error
    if dtype.hasobject:
        raise VectorFileError(
            f"{path}: {shown(name)}: holds pickled Python objects, which can run any program when they are read; write "
            "it again as an array of float32"
        )
    return shape, dtype


def _check_array(path: Path | str, name: str, kind: str | None, type_name: str, shape: tuple[int, ...]) -> None:
    problem = None
    if kind is None:
        problem = f"type {type_name}, but a direction is of float16, bfloat16, float32 or float64; write it again"
    elif len(shape) != 1 or shape[0] == 0:
        problem = f"shape {list(shape)}, but a direction has one axis of n_embd elements; write it again"
    elif shape[0] > MAX_N_EMBD:
        problem = f"{shape[0]} elements, which no model's n_embd is; write it again"
    if problem:
        raise VectorFileError(f"{path}: {shown(name)}: {problem}")


def _text(path: Path | str, file: IO[bytes], shape: tuple[int, ...], dtype: np.dtype[Any]) -> str:
    if dtype.kind != "U" or shape != () or dtype.itemsize > _MAX_TEXT:
        raise VectorFileError(f"{path}: {TEXT}: {dtype.name} of shape {list(shape)}, not one text; write it again")
    raw = _bytes(path, TEXT, file, dtype.itemsize)
    try:
        return raw.decode("utf-32-be" if dtype.byteorder == ">" else "utf-32-le").rstrip("\0")
    except UnicodeDecodeError as error:
        raise VectorFileError(f"{path}: {TEXT}: not a text ({error.reason}); write it again") from error


def _bytes(path: Path | str, name: str, file: IO[bytes], n_bytes: int) -> bytes:
    raw = file.read(n_bytes)
    if len(raw) < n_bytes:
        raise VectorFileError(
            f"{path}: {shown(name)}: truncated: {len(raw)} bytes of {n_bytes} are there; copy or write it again"
        )
    return raw


def _float32(values: npt.NDArray[Any]) -> FloatArray:
    if values.dtype == np.uint16:
        return (values.astype(np.uint32) << 16).view(np.float32)
    with np.errstate(over="ignore"):  # a float64 that is too large becomes infinite, and is refused as such
        return values.astype(np.float32)
