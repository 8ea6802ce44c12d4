"""Named arrays and one text in an .npz or .safetensors file; read this for what such a file may hold.

Nothing is unpickled, and nothing is read before its name, type and size are known to be right: a file can claim more
than it holds, and a few kilobytes can unpack to gigabytes.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors
import safetensors.numpy

from steercpp.aliases import FloatArray
from steercpp.errors import VectorFileError
from steercpp.inputs import read_input, what_was_said
from steercpp.pipes import once, rereadable
from steercpp.vectors.gguf_header import shown
from steercpp.vectors.npz import Member, members

TEXT = "steercpp"  # the npz array, and the safetensors metadata, that hold the text
MAX_N_EMBD = 1 << 20
MAX_ARRAYS = 1024
MAX_ELEMENTS = MAX_ARRAYS << 15  # of all directions together: 1,024 layers of 32,768, ten times the largest model
MOST = f"its directions have more than {MAX_ELEMENTS:,} elements together, as no model's have; write it again"
_MAX_TEXT = 1 << 24
_MAX_FILE = 8 * MAX_ELEMENTS + (1 << 27)  # of float64, with a header
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
            along one axis; or larger than a control vector can be.
        OSError: the file cannot be read.
    """
    arrays: dict[str, FloatArray] = {}
    kinds: dict[str, str] = {}
    text = None
    with members(path, VectorFileError, most_bytes=8 * MAX_ELEMENTS + _MAX_TEXT) as described:
        directions = [member for member in described if member.name != TEXT]
        for member in directions:
            check_name(member.name)
            _check_array(path, member.name, _npy_kind(member.dtype), member.dtype.name, member.shape)
        _check_total(path, [member.shape[0] for member in directions])
        for member in described:
            if member.name == TEXT:
                text = _text(path, member)
                continue
            arrays[member.name] = _float32(member.values(VectorFileError, path))
            if (kind := _npy_kind(member.dtype)) is not None and kind != "F32":
                kinds[member.name] = kind
    return arrays, text, kinds


def safetensors_bytes(arrays: Mapping[str, FloatArray], text: str) -> bytes:
    """A file of arrays and the text as metadata; the same give the same bytes."""
    return safetensors.numpy.save(dict(arrays), metadata={TEXT: text})


@once()
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
            lengths: list[int] = []
            for name in sorted(file.keys()):
                check_name(name)
                array = file.get_slice(name)
                kind, shape = array.get_dtype(), tuple(array.get_shape())
                _check_array(path, name, kind if kind in _KINDS else None, kind, shape)
                lengths.append(shape[0])
            _check_total(path, lengths)
            text = (file.metadata() or {}).get(TEXT)
        arrays, kinds = {}, {}
        for name, item in safetensors.deserialize(read_input(path, limit=_MAX_FILE)):  # type: ignore[no-untyped-call]
            kind = item["dtype"]
            arrays[name] = _float32(np.frombuffer(item["data"], dtype=_KINDS[kind]))
            if kind != "F32":
                kinds[name] = kind
    except safetensors.SafetensorError as error:
        raise VectorFileError(
            f"{path}: not an intact safetensors file ({what_was_said(error)}); copy or write it again"
        ) from error
    return arrays, text, kinds


def _npy_kind(dtype: np.dtype[Any]) -> str | None:
    kind = f"F{8 * dtype.itemsize}"
    return kind if dtype.kind == "f" and kind in _KINDS else None


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


def _check_total(path: Path | str, lengths: Collection[int]) -> None:
    if sum(lengths) > MAX_ELEMENTS or len(lengths) > MAX_ARRAYS:
        raise VectorFileError(f"{path}: {MOST}")


def _text(path: Path | str, member: Member) -> str:
    dtype = member.dtype
    if dtype.kind != "U" or member.shape != () or dtype.itemsize > _MAX_TEXT:
        form = f"{dtype.name} of shape {list(member.shape)}"
        raise VectorFileError(f"{path}: {TEXT}: {form}, not one text; write it again")
    raw = member.read(VectorFileError, path)
    try:
        return raw.decode("utf-32-be" if dtype.byteorder == ">" else "utf-32-le").rstrip("\0")
    except UnicodeDecodeError as error:
        raise VectorFileError(f"{path}: {TEXT}: not a text ({error.reason}); write it again") from error


def _float32(values: npt.NDArray[Any]) -> FloatArray:
    if values.dtype == np.uint16:
        return (values.astype(np.uint32) << 16).view(np.float32)
    with np.errstate(over="ignore"):  # a float64 that is too large becomes infinite, and is refused as such
        return values.astype(np.float32)
