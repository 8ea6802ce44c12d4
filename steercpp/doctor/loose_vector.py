"""Whatever a control-vector file holds, sound or not; read this for what the doctor can still look at.

`read_vector` refuses a whole file over one bad tensor, as llama.cpp does. Here every tensor is read by itself: one that
is not a direction stays in the list with the reason, and nothing is judged. Only a file whose head cannot be read, or
that is no control vector at all, is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize

from steercpp.aliases import FloatArray
from steercpp.errors import VectorFileError
from steercpp.inputs import open_input, reading
from steercpp.vectors.control_vector import RESERVED_KEYS, MetaValue
from steercpp.vectors.gguf import MAX_LAYERS
from steercpp.vectors.gguf_header import Header, Tensor, read_header, shown
from steercpp.vectors.kinds import MODEL, kind_of
from steercpp.vectors.notes import ARCHITECTURES, array_layer, layer_named

PREFIX = "steercpp."
ARRAY = "array"
_TYPES = frozenset(GGMLQuantizationType)


@dataclass(frozen=True, slots=True)
class Piece:
    """One tensor of a file, or one of steercpp's own arrays of directions.

    Attributes:
        name: as a user may see it.
        layer: the layer that its name says; None where it says none.
        type_name: F32, F16 ...; "array" for one of steercpp's own, which llama.cpp does not see.
        shape: as ggml's ne, the fastest axis first.
        row: (n_embd,) float32, whatever its type was; None where there is none.
        problem: why there is none.
        is_cut: because the file ends too early.
    """

    name: str
    layer: int | None
    type_name: str
    shape: tuple[int, ...]
    row: FloatArray | None
    problem: str = ""
    is_cut: bool = False

    @property
    def in_key(self) -> bool:
        """Whether it is an array `steercpp.direction.<il>`."""
        return self.type_name == ARRAY


@dataclass(frozen=True, slots=True)
class LooseVector:
    """A file as it was found.

    Attributes:
        kind: general.architecture, "" if there is none or it is not a text.
        model_hint: "" if there is none.
        pieces: its tensors in their order, then the arrays of directions.
        metadata: steercpp's own keys, without their prefix, and those of other tools, with theirs; unchecked.
        is_laid_out: each tensor's data lie where llama.cpp expects them.
    """

    path: Path
    header: Header
    kind: str
    model_hint: str
    pieces: tuple[Piece, ...]
    metadata: dict[str, MetaValue]
    is_laid_out: bool

    @property
    def n_layer(self) -> int | None:
        """Blocks of the model, if one of steercpp's keys says so."""
        item = self.header.values.get(f"{PREFIX}n_layer")
        return item.value if item is not None and type(item.value) is int else None

    def rows(self) -> Iterator[tuple[int, FloatArray]]:
        """Layer and (n_embd,) row of every piece that has both, in the file's order."""
        for piece in self.pieces:
            if piece.layer is not None and piece.row is not None:
                yield piece.layer, piece.row

    def directions(self, n_embd: int) -> dict[int, FloatArray]:
        """The finite directions of this width by layer, ascending; those of one layer summed, as llama.cpp does."""
        sums: dict[int, FloatArray] = {}
        for il, row in self.rows():
            if len(row) == n_embd and il < MAX_LAYERS:
                with np.errstate(over="ignore", invalid="ignore"):
                    sums[il] = sums[il] + row if il in sums else row
        return {il: sums[il] for il in sorted(sums) if np.isfinite(sums[il]).all()}


def read_loosely(path: Path | str) -> LooseVector:
    """Read all that a file holds.

    Raises:
        VectorFileError: the file or its head cannot be read, or it is no control vector.
    """
    with reading(path, VectorFileError):
        try:
            with open_input(path) as file:
                header = read_header(file, path)
                kind = header.text("general.architecture")
                layers = [layer_named(tensor.name) for tensor in header.tensors]
                if kind not in ARCHITECTURES and all(layer is None for layer in layers):
                    if (found := kind_of(header)) == MODEL:
                        raise VectorFileError(f"{path}: is a model, not a control vector; give it as `model`")
                    if found:
                        raise VectorFileError(f"{path}: is {found}, not a control vector; give a control vector")
                    value = repr(kind) if kind else "missing"
                    step = "a control vector has tensors direction.<layer>; give a model as `model`"
                    raise VectorFileError(
                        f"{path}: general.architecture: {value}, and no tensor is a direction; {step}"
                    )
                pieces = [_piece(file, header, *both) for both in zip(header.tensors, layers, strict=True)]
        except OSError as error:
            raise VectorFileError(f"{path}: cannot be read: {error.strerror or error}; check the path") from error
        keys = (PREFIX, *(f"{kind}." for kind in ARCHITECTURES))
        stored = {key.removeprefix(PREFIX): item.value for key, item in header.values.items() if key.startswith(keys)}
        return LooseVector(
            path=Path(path), header=header, kind=kind,
            model_hint=header.text(f"{kind}.model_hint"),
            pieces=(*pieces, *_arrays(stored)),
            metadata={key: value for key, value in stored.items() if not RESERVED_KEYS.fullmatch(key)},
            is_laid_out=_is_laid_out(header),
        )  # fmt: skip


def _piece(file: BinaryIO, header: Header, tensor: Tensor, layer: int | None) -> Piece:
    made = Piece(shown(tensor.name), layer, tensor.type_name, tensor.shape, None)
    if tensor.shape == () or 0 in tensor.shape or sum(n != 1 for n in tensor.shape) > 1:
        return replace(made, problem=f"its shape {list(tensor.shape)} is not one axis of n_embd elements")
    n_bytes = _n_bytes(tensor)
    if n_bytes is None:
        return replace(made, problem=f"its type {tensor.type_name} cannot be read")
    end = header.data_start + tensor.offset + n_bytes
    if end > header.size:
        problem = f"the file ends after {header.size} bytes, {end} are needed"
        return replace(made, problem=problem, is_cut=True)
    file.seek(end - n_bytes)
    row = _numbers(np.frombuffer(file.read(n_bytes), np.uint8), GGMLQuantizationType(tensor.type))
    return replace(made, row=row, problem="" if row is not None else f"its type {tensor.type_name} cannot be read")


def _n_bytes(tensor: Tensor) -> int | None:
    """Bytes of the tensor's data; None where its type has no such number of elements."""
    if tensor.type not in _TYPES:
        return None
    per_block, block_bytes = GGML_QUANT_SIZES[GGMLQuantizationType(tensor.type)]
    n_blocks, rest = divmod(prod(tensor.shape), per_block)
    return None if rest else n_blocks * block_bytes


def _numbers(raw: npt.NDArray[np.uint8], kind: GGMLQuantizationType) -> FloatArray | None:
    with np.errstate(all="ignore"):
        if kind == GGMLQuantizationType.F64:
            return raw.view("<f8").astype(np.float32)
        try:
            return np.asarray(dequantize(raw, kind), dtype=np.float32)
        except NotImplementedError:
            return None


def _arrays(stored: dict[str, MetaValue]) -> Iterator[Piece]:
    for key, value in stored.items():
        layer = array_layer(key)
        if layer is None:
            continue
        made = Piece(PREFIX + key, layer, ARRAY, (), None)
        if isinstance(value, tuple) and value and all(isinstance(item, float) for item in value):
            with np.errstate(over="ignore"):
                yield replace(made, shape=(len(value),), row=np.array(value, dtype=np.float32))
        else:
            yield replace(made, problem="it is not an array of floats")


def _is_laid_out(header: Header) -> bool:
    expected = 0
    for tensor in header.tensors:
        n_bytes = _n_bytes(tensor)
        if n_bytes is None or tensor.offset != expected:
            return False
        expected += -(-n_bytes // header.alignment) * header.alignment
    return header.data_start + expected <= header.size
