"""Control vectors as GGUF files, in the form that llama.cpp loads; read this for the rules of the format.

A file holds the architecture "controlvector", the model's architecture as `controlvector.model_hint`, and tensors
`direction.<il>`, F32, one axis, il >= 1, each added to the output of block il. llama.cpp refuses the whole file over
one tensor named otherwise, so whatever else there is to say stands in keys `steercpp.*`, and block 0, which llama.cpp
cannot steer, is the array `steercpp.direction.0`. A vector that is not simply added everywhere (its metadata name
another operator, positions, a side or a gate) is written as such arrays alone: a reader that adds tensors finds none
and says so, instead of steering wrongly. Keys of other tools (EasySteer's `controlvector.method`) are metadata under
their whole name, and are written so again. What llama.cpp does with a file: common_control_vector_load_one in
common/common.cpp of llama.cpp 0c1e57098. Where it would load a file and something is odd, `read_vector_with_notes`
tells in a note; what it refuses, and what steers nothing, is a VectorFileError.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
from gguf.constants import GGMLQuantizationType, GGUFValueType
from gguf.gguf_writer import GGUFWriter, WriterState

from steercpp import files
from steercpp.aliases import FloatArray
from steercpp.errors import InputError, VectorFileError
from steercpp.inputs import open_input, reading
from steercpp.vectors.arrays import MAX_ELEMENTS, MOST
from steercpp.vectors.control_vector import RESERVED_KEYS, ControlVector, MetaValue, can_be_stored
from steercpp.vectors.gguf_header import Header, Tensor, read_header, shown
from steercpp.vectors.kinds import MODEL, kind_of
from steercpp.vectors.notes import (
    ARCHITECTURES,
    CVECTOR_GENERATOR,
    array_layer,
    file_notes,
    from_cvector_generator,
    layer_named,
)

_PREFIX = "steercpp."
_FOREIGN = tuple(f"{kind}." for kind in ARCHITECTURES)  # of keys of other tools
MAX_LAYERS = 512  # LLAMA_MAX_LAYERS
_F32 = int(GGMLQuantizationType.F32)


def write_vector(path: Path | str, vector: ControlVector, *, force: bool = False) -> None:
    """Write a control vector; the same vector gives the same bytes.

    Args:
        path: the file appears there whole or not at all.
        vector: its metadata become keys `steercpp.<key>`, sorted.
        force: replace a file that is there.

    Raises:
        VectorFileError: the file exists, cannot be written, or every direction is zero.

    >>> write_vector("vector.gguf", vector)
    >>> Path("vector.gguf").read_bytes()[:4]
    b'GGUF'
    """
    path = Path(path)
    refuse_zeros(path, vector)
    files.write_whole(path, gguf_bytes(vector), force=force, error=VectorFileError)


def refuse_zeros(path: Path, vector: ControlVector) -> None:
    """Check that a vector is worth a file.

    Raises:
        VectorFileError: every direction is zero.
    """
    if not any(row.any() for row in vector.directions.values()):
        raise VectorFileError(f"{path}: every direction is zero and would steer nothing; nothing was written")


def refuse_overwrite(path: Path | str, *, force: bool = False, inputs: Iterable[Path | None] = ()) -> None:
    """Check before long work that a file could be written there, as `files.refuse_overwrite`.

    Raises:
        VectorFileError: it could not, or should not.
    """
    files.refuse_overwrite(Path(path), force=force, error=VectorFileError, inputs=inputs)


def read_vector(path: Path | str) -> ControlVector:
    """Read a control vector written by any tool; see `read_vector_with_notes`.

    >>> write_vector("careful.gguf", vector)
    >>> read_vector("careful.gguf").layers
    (5, 6)
    """
    return read_vector_with_notes(path)[0]


def read_vector_with_notes(
    path: Path | str, *, architecture: str | None = None
) -> tuple[ControlVector, tuple[str, ...]]:
    """Read a control vector, and what a user should know about it.

    Tensors that name the same layer are summed, as llama.cpp does.

    Args:
        path: a GGUF file with the architecture "controlvector" or "steeringvector".
        architecture: the model's general.architecture, if it is known, to be compared with the file's hint.

    Returns:
        The vector and notes, one sentence each, none if all is well.

    Raises:
        VectorFileError: unreadable, not GGUF, truncated or malformed; another architecture; a tensor that llama.cpp
            refuses (direction.0, another name, another type than F32, not one axis, another length); an element that
            is not finite; no tensors, or zeros only.
    """
    with reading(path, VectorFileError):
        try:
            with open_input(path) as file:
                header = read_header(file, path)
                kind = _architecture(path, header)
                tensors = [(_layer(path, tensor), tensor) for tensor in header.tensors]
                _check_layout(path, header)
                directions = _read_directions(path, file, header, tensors)
        except OSError as error:
            raise VectorFileError(f"{path}: cannot be read: {error.strerror or error}; check the path") from error
        ours = {key.removeprefix(_PREFIX): item.value for key, item in header.values.items() if key.startswith(_PREFIX)}
        kept, lost = _foreign(path, header)
        ours |= kept
        if from_cvector_generator(header):
            ours["layer_convention"] = CVECTOR_GENERATOR
        vector = assembled(path, directions, header.text(f"{kind}.model_hint"), ours)
        return vector, (*file_notes(vector, header, [il for il, _ in tensors], architecture), *lost)


def gguf_bytes(vector: ControlVector) -> bytes:
    """The file of a control vector."""
    tensors = {} if not vector.is_added_everywhere else {il: row for il, row in vector.directions.items() if il}
    writer = GGUFWriter(None, ARCHITECTURES[0])
    writer.add_key_value(f"{ARCHITECTURES[0]}.model_hint", vector.model_hint, GGUFValueType.STRING)
    writer.add_uint32(f"{ARCHITECTURES[0]}.layer_count", vector.n_layer - 1)
    writer.add_uint32(f"{_PREFIX}n_layer", vector.n_layer)
    for key in sorted(vector.metadata):
        prefix = "" if key.startswith(_FOREIGN) else _PREFIX
        _add_metadata(writer, prefix + key, vector.metadata[key])
    for il, direction in vector.directions.items():
        if il in tensors:
            writer.add_tensor_info(f"direction.{il}", direction.shape, direction.dtype, direction.nbytes)
        else:
            name = f"{_PREFIX}direction.{il}"
            writer.add_key_value(name, direction.tolist(), GGUFValueType.ARRAY, GGUFValueType.FLOAT32)
    data = bytearray(gguf_head(writer))
    for row in tensors.values():
        data += np.ascontiguousarray(row, "<f4").tobytes()
        data += bytes(-len(data) % writer.data_alignment)
    return bytes(data)


def gguf_head(writer: GGUFWriter) -> bytes:
    """What comes before the tensors of a file, of a writer without a path.

    gguf-py writes tensors themselves by ndarray.tofile, which loses the error of a full disk; they are left to others.
    """
    memory = BytesIO()
    writer.fout, writer.state = [memory], WriterState.EMPTY  # type: ignore[list-item]
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    return memory.getvalue() + bytes(-memory.tell() % writer.data_alignment)


def _add_metadata(writer: GGUFWriter, key: str, value: MetaValue) -> None:
    item = value[0] if isinstance(value, tuple) else value
    kinds = {bool: GGUFValueType.BOOL, int: GGUFValueType.INT64, float: GGUFValueType.FLOAT64}
    kind = kinds.get(type(item), GGUFValueType.STRING)
    if isinstance(value, tuple):
        writer.add_key_value(key, value, GGUFValueType.ARRAY, kind)
    else:
        writer.add_key_value(key, value, kind)


def _architecture(path: Path | str, header: Header) -> str:
    architecture = header.values.get("general.architecture")
    if architecture is None or architecture.value not in ARCHITECTURES:
        if kind := kind_of(header):
            step = "a model goes where MODEL is asked for" if kind == MODEL else "extract one from a model and pairs"
            raise VectorFileError(f"{path}: is {kind}, not a control vector; {step}")
        shown = "missing" if architecture is None else repr(architecture.value)
        step = 'a control vector has "controlvector" there; a model goes where MODEL is asked for'
        raise VectorFileError(f"{path}: general.architecture: {shown}; {step}")
    return str(architecture.value)


def _layer(path: Path | str, tensor: Tensor) -> int:
    """The layer that llama.cpp reads from a tensor's name, once all that it checks is right."""
    il = layer_named(tensor.name)
    problem = None
    if il is None:
        problem = "not a name direction.<layer>, so llama.cpp refuses the file; keep other data out of control vectors"
    elif il == 0:
        problem = "layer 0 cannot be steered by llama.cpp, which refuses the file; use layers from 1"
    elif il >= MAX_LAYERS:
        problem = f"no model has this layer; llama.cpp knows at most {MAX_LAYERS}"
    elif tensor.type != _F32:
        problem = f"type {tensor.type_name}, but llama.cpp takes F32 only; write the vector again as F32"
    elif any(n != 1 for n in tensor.shape[1:]) or tensor.shape[:1] in ((), (0,)):
        problem = f"shape {list(tensor.shape)}, but a direction has one axis of n_embd elements; write it again"
    if problem:
        raise VectorFileError(f"{path}: {shown(tensor.name)}: {problem}")
    assert il is not None
    return il


def _check_layout(path: Path | str, header: Header) -> None:
    """Equal lengths, one tensor's data right behind the other's, all of it in the file."""
    expected = 0
    for tensor in header.tensors:
        first = header.tensors[0]
        n_embd = tensor.shape[0]
        if n_embd != first.shape[0]:
            problem = f"{n_embd} elements where {shown(first.name)} has {first.shape[0]}"
            raise VectorFileError(
                f"{path}: {shown(tensor.name)}: {problem}; all have one length; extract the vector again"
            )
        if tensor.offset != expected:
            problem = f"its header has its data start at byte {tensor.offset} instead of {expected}"
            raise VectorFileError(f"{path}: {shown(tensor.name)}: {problem}, which llama.cpp refuses; write it again")
        expected += -(-4 * n_embd // header.alignment) * header.alignment
        if header.data_start + expected > header.size:
            problem = f"the file ends after {header.size} bytes, {header.data_start + expected} are needed"
            raise VectorFileError(f"{path}: {shown(tensor.name)}: truncated: {problem}; copy or write it again")
        if len(header.tensors) * n_embd > MAX_ELEMENTS:
            raise VectorFileError(f"{path}: {MOST}")


def _read_directions(
    path: Path | str, file: BinaryIO, header: Header, tensors: list[tuple[int, Tensor]]
) -> dict[int, FloatArray]:
    directions: dict[int, FloatArray] = {}
    for il, tensor in tensors:
        file.seek(header.data_start + tensor.offset)
        row = np.frombuffer(file.read(4 * tensor.shape[0]), dtype="<f4").astype(np.float32)
        _check_finite(path, shown(tensor.name), row)
        with np.errstate(over="ignore"):
            directions[il] = directions[il] + row if il in directions else row
        _check_finite(path, f"{shown(tensor.name)} (summed with others of layer {il})", directions[il])
    return directions


def _array_directions(path: Path | str, ours: dict[str, MetaValue]) -> dict[int, FloatArray]:
    """Directions in our own keys, taken out of them: block 0, and all of a vector that is not simply added."""
    directions = {}
    for key in list(ours):
        il = array_layer(key)
        if il is None:
            continue
        value, name = ours.pop(key), _PREFIX + key
        if not isinstance(value, tuple) or not value or not all(isinstance(item, float) for item in value):
            raise VectorFileError(f"{path}: {name}: not an array of floats; write the vector again")
        directions[il] = np.array(value, dtype=np.float32)
        _check_finite(path, name, directions[il])
    return directions


def _check_finite(path: Path | str, name: str, row: FloatArray) -> None:
    if not np.isfinite(row).all():
        place = int(np.argmin(np.isfinite(row)))
        raise VectorFileError(f"{path}: {name}: element {place} is {row[place]}; extract the vector again")


def _foreign(path: Path | str, header: Header) -> tuple[dict[str, MetaValue], list[str]]:
    """What other tools say of a vector, as metadata under its whole name, and notes on what cannot be kept."""
    theirs = {key: item.value for key, item in header.values.items() if key.startswith(_FOREIGN)}
    native = theirs.get("controlvector.easysteer")
    try:
        component = json.loads(native).get("component") if isinstance(native, str) else None
    except (ValueError, AttributeError, RecursionError):
        component = None
    if component not in (None, "hidden_states"):
        raise VectorFileError(
            f"{path}: controlvector.easysteer: its directions are for {shown(str(component))}, not for the residual "
            "stream, where llama.cpp would add them; capture hidden_states and extract them again"
        )
    theirs = {key: value for key, value in theirs.items() if not RESERVED_KEYS.fullmatch(key)}
    lost = [
        f"{shown(key)} is left out: its name or value is not one that metadata can have"
        for key, value in theirs.items()
        if not can_be_stored(key, value)
    ]
    return {key: value for key, value in theirs.items() if can_be_stored(key, value)}, lost


def assembled(
    path: Path | str, directions: dict[int, FloatArray], model_hint: str, ours: dict[str, MetaValue]
) -> ControlVector:
    """The vector of a file's tensors and of our own keys, which are taken out of `ours`.

    Raises:
        VectorFileError: it steers nothing, or keys and tensors contradict each other.
    """
    for il, row in _array_directions(path, ours).items():
        n_embd = next(map(len, directions.values()), len(row))
        if len(row) != n_embd:
            name = f"{_PREFIX}direction.{il}"
            raise VectorFileError(
                f"{path}: {name}: {len(row)} elements where the tensors have {n_embd}; write it again"
            )
        directions[il] = directions[il] + row if il in directions else row
    if not any(row.any() for row in directions.values()):
        problem = "every direction is zero" if directions else "no tensors direction.<layer>"
        raise VectorFileError(f"{path}: {problem}, so it steers nothing; extract the vector again")
    least = max(directions) + 1
    n_layer = ours.get("n_layer", least)
    if type(n_layer) is not int or not least <= n_layer <= MAX_LAYERS:
        raise VectorFileError(f"{path}: {_PREFIX}n_layer: {n_layer!r}, with tensors for {least} layers; write it again")
    metadata = {key: value for key, value in ours.items() if not RESERVED_KEYS.fullmatch(key)}
    try:
        return ControlVector(directions, model_hint, n_layer, metadata)
    except InputError as error:
        raise VectorFileError(f"{path}: {error}; write the vector again") from error
