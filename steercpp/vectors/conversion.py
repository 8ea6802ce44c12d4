"""What a conversion changes in a vector: a strength baked in, layers moved to where they were measured."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from steercpp.errors import InputError, LayerError, StrengthError
from steercpp.vectors.control_vector import PLAIN, ControlVector, MetaValue, without_strengths

_STRENGTHS = ("recommended_strength", "calibration.strength")  # metadata in multiples of the tensors


def baked(vector: ControlVector, strength: float) -> ControlVector:
    """The vector that does at strength 1 what this one does at `strength`.

    Its metadata `baked_strength` is the product of all strengths that were baked in; strengths that the metadata hold
    in multiples of the tensors are divided, so that they mean the same push as before.

    Raises:
        StrengthError: the strength is 0 or not finite.
        InputError: the vector is not simply added, so that its tensors' length is not its strength.
    """
    if not np.isfinite(strength) or strength == 0:
        raise StrengthError(f"strength {strength} cannot be baked in; give a finite number other than 0")
    if not vector.is_added_everywhere:
        raise InputError(
            f"no strength can be baked into a vector that is meant for {manner(vector)}: a reader that adds it would "
            "do something else; give the strength where the vector is used"
        )
    before = vector.metadata.get("baked_strength", 1.0)
    changed: dict[str, MetaValue] = {"baked_strength": strength * (before if isinstance(before, float) else 1.0)}
    for key in _STRENGTHS:
        if isinstance(found := vector.metadata.get(key), float):
            changed[key] = found / strength
    shares = vector.metadata.get("calibration.strength_norm")  # of the same push, with the sign of its strength
    if strength < 0 and isinstance(shares, tuple):
        changed["calibration.strength_norm"] = tuple(-float(share) for share in shares)
    scaled = vector.scaled(strength)
    return replace(scaled, metadata={**vector.metadata, **scaled.metadata, **changed})


def at_measured_layers(vector: ControlVector) -> ControlVector:
    """A vector of llama-cvector-generator with each direction at the layer where it was measured: one below.

    What the metadata say about strengths, found with the directions at other layers, is not taken over.

    Raises:
        InputError: its layers are said to be right already.
        LayerError: it has a direction at layer 0, below which there is none.
    """
    if vector.metadata.get("layer_convention") == "applied":
        raise InputError("its layers are those where it was measured already (layer_convention: applied); leave it so")
    if 0 in vector.directions:
        raise LayerError("has a direction at layer 0, which llama-cvector-generator never writes; leave it as it is")
    rows = {il - 1: row for il, row in vector.directions.items()}
    # llama-cvector-generator takes every token; once moved, nothing else in the file would tell
    metadata = {"token": "mean", **without_strengths(vector.metadata), "layer_convention": "applied"}
    return replace(vector, directions=rows, metadata=metadata)


def manner(vector: ControlVector) -> str:
    """How a vector acts, in words: "operator ablate, positions generated"."""
    own = vector.metadata
    return (
        ", ".join(f"{key} {own[key]}" for key in PLAIN if own.get(key, PLAIN[key]) != PLAIN[key]) or "adding everywhere"
    )
