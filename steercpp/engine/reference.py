"""NumPy twins of native/: read this for what the C++ computes; the tests hold the one against the other.

All of it is float64 and plain. Of float32's roundings only those are followed that decide what is meant: a strength is
a float32 number, `add` rounds its product before the sum as llama.cpp does, and an operator hands float32 to the next.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from steercpp.aliases import Floats
from steercpp.choices import OPERATORS
from steercpp.engine.steering import REGIONS, SIDES
from steercpp.errors import InputError, ShapeError

if TYPE_CHECKING:
    from steercpp.choices import Operator, Side
    from steercpp.engine.steering import Gate, Steering

RealArray: TypeAlias = npt.NDArray[np.floating[Any]]

_PARALLEL = 1e-12  # squared sine below which x counts as lying along t: float32 vectors are no straighter than that


def apply(operator: Operator, x: RealArray, t: RealArray, strength: float, side: Side = "both") -> Floats:
    """One operator at one strength on activations; the formulas are those at the top of steering.py.

    Args:
        operator: what is done.
        x: (n, n_embd) activations. Not modified.
        t: (n_embd,) the vector's tensor at this layer. Along 0 there is no projection: only `add` acts, and adds 0.
        strength: in lengths of t, for ablate a share, for rotate radians; rounded to float32.
        side: which rows, by the sign of their projection before the operator.

    Returns:
        (n, n_embd); rows that the operator does not concern are as given.

    Raises:
        ShapeError: x is not (n, n_embd).
        InputError: an unknown operator or side.
    """
    if operator not in OPERATORS or side not in SIDES:
        raise InputError(f"operator {operator!r} on side {side!r} is unknown; see steering.py")
    if x.ndim != 2 or x.shape[1:] != t.shape:
        raise ShapeError(f"expected x (n, n_embd) and t (n_embd,), got {x.shape} and {t.shape}")
    rows, tensor, s = x.astype(np.float64), t.astype(np.float64), float(np.float32(strength))
    if not tensor.any():
        return rows
    if operator == "add":
        changed: Floats = rows + np.float32(strength) * t.astype(np.float32)
    else:
        changed = _changed(operator, rows, tensor, s)
    if side == "both":
        return changed
    concerned = projection(rows, tensor) * SIDES[side] > 0
    return np.where(concerned[:, None], changed, rows)


def _changed(operator: Operator, x: Floats, t: Floats, s: float) -> Floats:
    """What an operator other than `add` makes of all rows."""
    c = projection(x, t)[:, None]
    if operator == "add-keep-norm":
        return _with_norm_of(x, x + s * t)
    if operator == "ablate":
        return x - s * c * t
    if operator == "clamp":
        return x + (s - c) * t
    if operator == "cap":
        return np.where(c > s, x + (s - c) * t, x)
    return _rotated(x, t, s)


def apply_all(steerings: Iterable[Steering], x: RealArray, il: int, region: int) -> Floats:
    """What all steerings of one query, gates decided, do at a layer to its rows (n, n_embd) of a region, in order."""
    for acts in steerings:
        if il in acts.vector.directions and region in REGIONS[acts.positions] and not acts.idle:
            steered = apply(acts.operator, x, acts.vector.directions[il], acts.strength, acts.side)
            x = steered.astype(np.float32)
    return x.astype(np.float64)


def projection(x: RealArray, t: RealArray) -> Floats:
    """Projections of (n, n_embd) on t (n_embd,), in lengths of t: (n,)."""
    rows, tensor = x.astype(np.float64), t.astype(np.float64)
    projections: Floats = (rows * tensor).sum(-1) / (tensor * tensor).sum()
    return projections


def gate_open(gate: Gate, x: RealArray) -> npt.NDArray[np.bool_]:
    """Whether each of the unsteered activations (n, n_embd) at the gate's layer passes it, (n,)."""
    along = projection(x, gate.direction) * np.linalg.norm(gate.direction.astype(np.float64))
    passes: npt.NDArray[np.bool_] = along > gate.threshold if gate.above else along < gate.threshold
    return passes


def log_softmax(logits: RealArray) -> Floats:
    """Natural log-probabilities over the last axis."""
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    logprobs: Floats = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return logprobs


def entropy(logits: RealArray) -> Floats:
    """Entropy over the last axis, nats; a token of probability 0 has no share."""
    logprobs = log_softmax(logits)
    probabilities = np.exp(logprobs)
    nats: Floats = -(probabilities * np.where(probabilities > 0, logprobs, 0)).sum(-1)
    return nats


def kl(steered: RealArray, unsteered: RealArray) -> Floats:
    """KL(steered || unsteered) of two arrays of logits over the last axis, nats."""
    p, q = log_softmax(steered), log_softmax(unsteered)
    shares = np.exp(p)
    possible = shares > 0
    difference = np.where(possible, p, 0) - np.where(possible, q, 0)
    nats: Floats = (shares * difference).sum(-1)
    return nats


def top_k(logits: RealArray, k: int) -> tuple[npt.NDArray[np.int64], Floats]:
    """The k most likely tokens of each row, of equals the lower one first, and their log-probabilities: (n, k) both."""
    order = np.argsort(-logits, axis=-1, kind="stable")[..., :k]
    return order, np.take_along_axis(log_softmax(logits), order, -1)


def sequence_logprob(logits: RealArray, tokens: Sequence[int]) -> float:
    """Log-probability of a continuation, nats: logits (n_tokens, n_vocab), row i those that token i is drawn from.

    Raises:
        ShapeError: not one row per token.
    """
    if logits.ndim != 2 or len(logits) != len(tokens):
        raise ShapeError(f"expected logits ({len(tokens)}, n_vocab), got {logits.shape}")
    return float(log_softmax(logits)[np.arange(len(tokens)), list(tokens)].sum())


def _with_norm_of(x: Floats, y: Floats) -> Floats:
    """Rows of y, each as long as that of x; where y is 0 it has no direction, and x stays."""
    lengths = np.linalg.norm(y, axis=1, keepdims=True)
    scaled = y * np.linalg.norm(x, axis=1, keepdims=True) / np.where(lengths > 0, lengths, 1)
    return np.where(lengths > 0, scaled, x)


def _rotated(x: Floats, t: Floats, angle: float) -> Floats:
    lengths = np.linalg.norm(x, axis=1, keepdims=True)
    along = x / np.where(lengths > 0, lengths, 1)
    v = t / np.linalg.norm(t)
    across = v - (along @ v)[:, None] * along
    sines = np.linalg.norm(across, axis=1, keepdims=True)
    in_a_plane = (lengths > 0) & (sines**2 > _PARALLEL)
    turned = lengths * (np.cos(angle) * along + np.sin(angle) * across / np.where(in_a_plane, sines, 1))
    return np.where(in_a_plane, turned, x)
