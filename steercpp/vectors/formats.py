"""Control vectors in any of the formats that tools exchange; read this to read a vector or to write one.

gguf: the rules are in gguf.py. npz and safetensors: arrays `direction.<il>`, float32, each added to the output of
block il, il >= 0; and one JSON text, "steercpp", with "model_hint", "n_layer" and "metadata". A vector that is not
simply added everywhere has arrays `steercpp.direction.<il>` instead, which a program that adds does not find. In files
of others, arrays may also be named by the bare number of the layer.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from steercpp.aliases import FloatArray
from steercpp.choices import LAYER_CONVENTIONS, VECTOR_FORMATS, VectorFormat
from steercpp.errors import InputError, LayerError, ShapeError, VectorFileError
from steercpp.files import write_whole
from steercpp.inputs import open_input, reading
from steercpp.pipes import once
from steercpp.vectors.arrays import TEXT, npz_bytes, read_npz, read_safetensors, safetensors_bytes
from steercpp.vectors.control_vector import ControlVector, MetaScalar, MetaValue, at_measured_layers, manner
from steercpp.vectors.gguf import MAX_LAYERS, assembled, read_vector_with_notes, refuse_zeros, write_vector
from steercpp.vectors.gguf_header import shown
from steercpp.vectors.layers import parse_layers
from steercpp.vectors.notes import CVECTOR_GENERATOR, SHIFTED, other_model, small_majorities, zero_layers

_NAME = re.compile(r"(steercpp\.)?(?:direction\.)?([0-9]{1,4})", re.ASCII)
_HEAD = 16


@once()
def read_any_vector(
    path: Path | str,
    *,
    format: VectorFormat | Literal["auto"] = "auto",
    layer_convention: str | None = None,
    model_hint: str = "",
    architecture: str | None = None,
) -> tuple[ControlVector, tuple[str, ...]]:
    """Read a control vector, and what a user should know about it.

    Args:
        path: the file.
        format: "auto" looks at the file's first bytes, then at its suffix.
        layer_convention: "cvector-generator" moves each direction to the layer below, where that tool measured it;
            "applied" states that the layers are right; None takes what the file says.
        model_hint: the architecture that the vector is for, instead of what the file says.
        architecture: of the model that it is to steer, if it is known, to be compared with the hint.

    Returns:
        The vector and notes, one sentence each, none if all is well.

    Raises:
        VectorFileError: the file cannot be read or is not a control vector, or its layers cannot be moved.
        InputError: another format or convention than these.

    >>> write_any_vector("careful.npz", vector)
    >>> copy, notes = read_any_vector("careful.npz")
    >>> copy.layers == vector.layers, notes
    (True, ())
    """
    with reading(path, VectorFileError):
        if layer_convention not in (None, *LAYER_CONVENTIONS):
            raise InputError(f"layer convention {layer_convention!r}: there is {' and '.join(LAYER_CONVENTIONS)}")
        kind = _format_of_file(path) if format == "auto" else _known(format)
        if kind == "gguf":
            vector, notes = read_vector_with_notes(path, architecture=None if model_hint else architecture)
        else:
            vector, notes = _read_arrays(path, kind, None if model_hint else architecture)
        if model_hint:
            vector = ControlVector(vector.directions, model_hint, vector.n_layer, vector.metadata)
            notes = tuple(note for note in notes if "model_hint is missing" not in note)
            notes += () if architecture in (None, model_hint) else (other_model(model_hint, architecture),)
        if layer_convention is None:
            return vector, notes
        return _by_convention(path, vector, notes, layer_convention)


class ModelShape(Protocol):
    """What of a model decides whether a vector fits it; an `Engine` has it."""

    @property
    def path(self) -> Path:
        """The model's file, for messages."""

    @property
    def architecture(self) -> str:
        """The file's general.architecture."""

    @property
    def n_embd(self) -> int:
        """Width of the residual stream."""

    @property
    def n_layer(self) -> int:
        """How many blocks it has."""


def read_vector_for(
    model: ModelShape, path: Path | str, *, layers: str | None = None, note: Callable[[str], None] = lambda _: None
) -> ControlVector:
    """Read a control vector that is to steer this model.

    Args:
        model: what is to be steered.
        path: the file, in any format.
        layers: those that are kept, such as "8-15,20"; None for all.
        note: called with each note on the file, a sentence that begins with its path.

    Raises:
        VectorFileError: as `read_any_vector`.
        LayerError: the vector has none of these layers, or one that the model lacks.
        ShapeError: it has another width than the model.
    """
    vector, notes = read_any_vector(path, architecture=model.architecture)
    for sentence in notes:
        note(f"{path}: {sentence}")
    if layers is not None:
        wanted = parse_layers(layers, model.n_layer)
        try:
            vector = vector.restricted_to(wanted)
        except LayerError as error:
            raise LayerError(f"{path}: {error}; leave `layers` out or name some of them") from error
    check_vector(model, vector, name=str(path))
    return vector


def check_vector(model: ModelShape, vector: ControlVector, *, name: str = "the vector") -> None:
    """Make sure that a vector fits a model, before anything is decoded.

    Raises:
        ShapeError, LayerError: it has another width, or layers that the model lacks.
    """
    if vector.n_embd != model.n_embd:
        raise ShapeError(
            f"{name}: has {vector.n_embd} values per layer, but n_embd of {model.path} is {model.n_embd}; "
            "use a vector made for this model"
        )
    if vector.layers[-1] >= model.n_layer:
        raise LayerError(
            f"{name}: steers layer {vector.layers[-1]}, but {model.path} has layers 0..{model.n_layer - 1}; "
            "use a vector made for this model, or leave layers out"
        )


def write_any_vector(
    path: Path | str, vector: ControlVector, *, format: VectorFormat | Literal["auto"] = "auto", force: bool = False
) -> None:
    """Write a control vector; the same vector gives the same bytes.

    Args:
        path: the file appears there whole or not at all.
        vector: what reading the file gives again, bit for bit.
        format: "auto" goes by the suffix.
        force: replace a file that is there.

    Raises:
        VectorFileError: the suffix is none of a format; the file exists or cannot be written; all directions are zero.
        InputError: another format than these.

    >>> write_any_vector("copy.safetensors", vector)
    >>> Path("copy.safetensors").is_file()
    True
    """
    path = Path(path)
    kind = format_of_suffix(path) if format == "auto" else _known(format)
    if kind == "gguf":
        write_vector(path, vector, force=force)
        return
    refuse_zeros(path, vector)
    prefix = "direction." if vector.is_added_everywhere else "steercpp.direction."
    arrays = {f"{prefix}{il}": row for il, row in vector.directions.items()}
    as_bytes = npz_bytes if kind == "npz" else safetensors_bytes
    write_whole(path, as_bytes(arrays, _text_of(vector)), force=force, error=VectorFileError)


def format_of_suffix(path: Path) -> VectorFormat:
    """The format that a file's name says.

    Raises:
        VectorFileError: it says none.
    """
    for kind in VECTOR_FORMATS:
        if path.suffix.lower() == f".{kind}":
            return kind
    raise VectorFileError(f"{path}: its name tells no format; end it in .gguf, .npz or .safetensors")


def how_it_is_kept(vector: ControlVector) -> str | None:
    """A note on a file with this vector, where a program that adds its arrays would not do what it is meant for."""
    if vector.is_added_everywhere:
        return None
    return (
        f"meant for {manner(vector)}: written under steercpp.direction.<layer>, so that llama.cpp and other tools that "
        "only add find nothing instead of steering wrongly"
    )


def _known(format: str) -> VectorFormat:
    for kind in VECTOR_FORMATS:
        if format == kind:
            return kind
    raise InputError(f"format {format!r}: there are {', '.join(VECTOR_FORMATS)}")


def _format_of_file(path: Path | str) -> VectorFormat:
    """By the first bytes; where they tell nothing by the suffix, whose reader then says what is wrong."""
    try:
        with open_input(path) as file:
            head = file.read(_HEAD)
    except OSError as error:
        raise VectorFileError(f"{path}: cannot be read: {error.strerror or error}; check the path") from error
    if head.startswith(b"GGUF"):
        return "gguf"
    if head.startswith(b"PK\x03\x04"):
        return "npz"
    if head[8:9] == b"{" and head[5:8] == bytes(3):  # the header's length in 8 bytes, and the JSON that it counts
        return "safetensors"
    if head.startswith(b"\x93NUMPY"):
        raise VectorFileError(f"{path}: one bare array (.npy), which names no layer; save direction.<layer> as .npz")
    by_suffix = {f".{kind}": kind for kind in VECTOR_FORMATS}
    return by_suffix.get(Path(path).suffix.lower(), "gguf")


def _by_convention(
    path: Path | str, vector: ControlVector, notes: tuple[str, ...], convention: str
) -> tuple[ControlVector, tuple[str, ...]]:
    """The vector with its directions at the layers that a convention means; notes on the layers made again."""
    notes = tuple(note for note in notes if not note.startswith(SHIFTED))
    if convention == "applied":
        return vector.with_metadata(layer_convention="applied"), notes
    try:
        moved = at_measured_layers(vector)
    except InputError as error:
        raise VectorFileError(f"{path}: {error}") from error
    return moved, (*notes, "each direction was moved to the layer below, where llama-cvector-generator measured it")


def _read_arrays(
    path: Path | str, kind: VectorFormat, architecture: str | None
) -> tuple[ControlVector, tuple[str, ...]]:
    read = read_npz if kind == "npz" else read_safetensors
    try:
        arrays, text, kinds = read(path, lambda name: _layer(path, name))
    except OSError as error:
        raise VectorFileError(f"{path}: cannot be read: {error.strerror or error}; check the path") from error
    rows: dict[int, FloatArray] = {}
    for name, row in sorted(arrays.items()):
        il = _layer(path, name)
        if text is None and name.startswith("steercpp."):
            raise VectorFileError(
                f"{path}: {name}: the text {TEXT!r} is missing, which tells how it acts: it is not simply added; write "
                "the vector again with steercpp"
            )
        _check_row(path, name, il, row, rows)
        rows[il] = row
    hint, described = _described(path, text)
    vector = assembled(path, rows, hint, described)
    return vector, _notes(vector, kinds, architecture)


def _layer(path: Path | str, name: str) -> int:
    match = _NAME.fullmatch(name)
    if match is None or (match[1] and "direction" not in name):
        raise VectorFileError(
            f"{path}: {shown(name)}: not a name direction.<layer>, nor the number of a layer; name each array by the "
            "block whose output it is added to"
        )
    if int(match[2]) >= MAX_LAYERS:
        raise VectorFileError(f"{path}: {name}: no model has this layer; llama.cpp knows at most {MAX_LAYERS}")
    return int(match[2])


def _check_row(path: Path | str, name: str, il: int, row: FloatArray, rows: Mapping[int, FloatArray]) -> None:
    if il in rows:
        raise VectorFileError(f"{path}: {name}: there are two arrays for layer {il}; leave one of them out")
    if not np.isfinite(row).all():
        place = int(np.argmin(np.isfinite(row)))
        raise VectorFileError(f"{path}: {name}: element {place} is {row[place]} as float32; extract the vector again")
    for other, values in rows.items():
        if len(values) != len(row):
            raise VectorFileError(
                f"{path}: {name}: {len(row)} elements where layer {other} has {len(values)}; all have one length"
            )


def _text_of(vector: ControlVector) -> str:
    metadata = {key: _to_json(value) for key, value in sorted(vector.metadata.items())}
    return json.dumps(
        {"model_hint": vector.model_hint, "n_layer": vector.n_layer, "metadata": metadata},
        ensure_ascii=True, allow_nan=False,
    )  # fmt: skip


def _to_json(value: MetaValue) -> Any:
    """JSON lacks numbers that are not finite: they are texts in an object of their own."""
    if isinstance(value, tuple):
        return [_to_json(item) for item in value]
    return {"float": repr(value)} if isinstance(value, float) and not math.isfinite(value) else value


def _from_json(value: Any) -> MetaValue:
    if isinstance(value, list):
        return tuple(_scalar(item) for item in value)
    return _scalar(value)


def _scalar(value: Any) -> MetaScalar:
    if isinstance(value, dict) and value.keys() == {"float"} and value["float"] in ("nan", "inf", "-inf"):
        return float(value["float"])
    if not isinstance(value, str | bool | int | float):
        raise ValueError(f"{str(value)[:40]!r} is not a text, a number or a truth value")
    return value


def _described(path: Path | str, text: str | None) -> tuple[str, dict[str, MetaValue]]:
    """The model hint and the metadata of the text, with "n_layer" beside them."""
    if text is None:
        return "", {}
    try:
        record = json.loads(text)
        hint, metadata = record["model_hint"], {key: _from_json(value) for key, value in record["metadata"].items()}
        if not isinstance(hint, str):
            raise TypeError("model_hint is not a text")
        return hint, metadata | {"n_layer": record["n_layer"]}
    except KeyError as error:
        raise VectorFileError(f"{path}: {TEXT}: has no {error}; write the vector again") from error
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise VectorFileError(f"{path}: {TEXT}: not the text that steercpp writes ({error}); write it again") from error


def _notes(vector: ControlVector, kinds: Mapping[str, str], architecture: str | None) -> tuple[str, ...]:
    notes = []
    if not vector.model_hint:
        notes.append(
            "model_hint is missing: it is not known for which model this is; steercpp convert fills in `model_hint`"
        )
    elif architecture is not None and vector.model_hint != architecture:
        notes.append(other_model(vector.model_hint, architecture))
    if vector.metadata.get("layer_convention") == CVECTOR_GENERATOR:
        notes.append(f"{SHIFTED}; `layer_convention=cvector-generator` (steercpp convert) moves it there")
    zero = [il for il, row in vector.directions.items() if not row.any()]
    if zero:
        notes.append(zero_layers(zero))
    if kinds:
        notes.append(f"read from {' and '.join(sorted(set(kinds.values())))} as float32")
    return (*notes, *small_majorities(vector))
