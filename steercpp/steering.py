"""Checks of vectors, layers and strengths against a model, before anything is decoded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from steercpp.errors import LayerError, ShapeError, StrengthError

if TYPE_CHECKING:
    from steercpp.control_vector import ControlVector

FloatArray: TypeAlias = npt.NDArray[np.float32]
Strengths: TypeAlias = float | Sequence[float] | npt.NDArray[np.floating[Any]]
Operation: TypeAlias = tuple[int, FloatArray, FloatArray]  # layer, (n_embd,) direction, (n_tokens,) strengths


def per_query(strengths: Strengths, n_queries: int) -> FloatArray:
    """One float32 strength per query, (n_queries,).

    Raises:
        ShapeError: neither one number nor one per query.
        StrengthError: NaN, infinite, or beyond float32.
    """
    with np.errstate(over="ignore"):
        values = np.asarray(strengths, np.float32)
    if values.shape not in ((), (n_queries,)):
        raise ShapeError(f"strengths: expected one number or {n_queries}, one per query, got shape {values.shape}")
    wrong = np.asarray(strengths, np.float64)[~np.isfinite(values)]
    if wrong.size:
        raise StrengthError(f"strength {wrong.flat[0]:g} is not a finite number in float32; give a smaller one")
    return np.broadcast_to(values, (n_queries,))


def checked_layers(layers: Sequence[int], n_layer: int) -> list[int]:
    """The layers as a list.

    Raises:
        LayerError: one that a model of n_layer blocks lacks, or one given twice.
    """
    for il in layers:
        if not 0 <= il < n_layer:
            raise LayerError(f"layer {il} does not exist; the model has layers 0..{n_layer - 1}")
    if len(set(layers)) < len(layers):
        raise LayerError(f"layers {', '.join(map(str, layers))}: one is given twice; name each once")
    return list(layers)


def operations(vector: ControlVector | None, strengths: FloatArray, *, n_layer: int, n_embd: int) -> list[Operation]:
    """What the native session adds: none without a vector, or where every strength is 0.

    Args:
        vector: directions by layer; None for nothing.
        strengths: (n_tokens,) float32.
        n_layer: blocks of the model.
        n_embd: width of its residual stream.

    Raises:
        ShapeError: a vector of another width.
        LayerError: a layer that the model lacks.
    """
    if vector is None:
        return []
    if vector.n_embd != n_embd:
        raise ShapeError(
            f"the vector has {vector.n_embd} values per layer, the model's n_embd is {n_embd}; "
            "use a vector made for this model"
        )
    layers = checked_layers(vector.layers, n_layer)
    return [(il, vector.directions[il], strengths) for il in layers] if strengths.any() else []
