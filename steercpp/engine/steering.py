"""How a vector acts on a model: operator, positions, side, gate; and what a decode does with it.

A row is a token of a decode. Its region, as its query sees it: 0 a prompt token before the last one, 1 the prompt's
last token, 2 a token that continues the prompt. With t the vector's tensor at a layer, the projection of an activation
x is c = x.t / |t|^2, measured in lengths of t, so that strength counts alike for every operator.

    add             x + s t                      llama.cpp's own control vector, bit for bit
    add-keep-norm   (x + s t) |x| / |x + s t|
    ablate          x - s c t                    1 takes the projection away
    clamp           x + (s - c) t                the projection becomes s
    cap             x + (s - c) t where c > s    the projection becomes s at most
    rotate          |x| (cos s x/|x| + sin s u)  by s radians towards t; u: the unit part of t orthogonal to x
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from steercpp.aliases import FloatArray
from steercpp.choices import OPERATORS, Operator, Positions, Side
from steercpp.errors import InputError, LayerError, ShapeError, StrengthError

if TYPE_CHECKING:
    from steercpp.vectors.control_vector import ControlVector


Strengths: TypeAlias = float | Sequence[float] | npt.NDArray[np.floating[Any]]

SIDES: dict[str, int] = {"both": 0, "positive": 1, "negative": -1}
REGIONS: dict[str, frozenset[int]] = {
    "all": frozenset((0, 1, 2)), "prompt": frozenset((0, 1)), "generated": frozenset((2,)), "last": frozenset((1,)),
}  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Gate:
    """Steers only the sequences that pass it, decided on the unsteered pass at the prompt's last token.

    Attributes:
        direction: (n_embd,) float32, of any length but 0.
        il: the layer whose activation is projected on it.
        threshold: of the projection x.d / |d|, a length as the residual stream has it.
        above: passes above the threshold; else below it.

    Raises:
        ShapeError, InputError: no direction, or a threshold that is no number.

    >>> gate = Gate(np.array([3.0, 4.0]), il=5, threshold=1.0)
    >>> gate.is_open(np.array([[3.0, 4.0], [0.0, 1.0]], np.float32)).tolist()  # projections 5.0 and 0.8
    [True, False]
    """

    direction: FloatArray
    il: int
    threshold: float
    above: bool = True

    def __post_init__(self) -> None:
        if (
            not isinstance(self.direction, np.ndarray)
            or self.direction.ndim != 1
            or not np.isfinite(self.direction).all()
            or not self.direction.any()
        ):
            raise ShapeError("gate: expected a direction (n_embd,) of finite numbers that are not all 0")
        if not math.isfinite(self.threshold):
            raise InputError(f"gate: the threshold is {self.threshold}; give a finite number")

    def is_open(self, x: FloatArray) -> npt.NDArray[np.bool_]:
        """(n,) whether each of the activations (n, n_embd) passes."""
        direction = self.direction.astype(np.float64)
        projections = x.astype(np.float64) @ (direction / np.linalg.norm(direction))
        passes: npt.NDArray[np.bool_] = projections > self.threshold if self.above else projections < self.threshold
        return passes

    @property
    def identity(self) -> str:
        """The same for gates that decide alike."""
        from hashlib import sha256

        digest = sha256(np.ascontiguousarray(self.direction, "<f4").tobytes()).hexdigest()[:16]
        return f"{self.il}:{'' if self.above else 'below:'}{self.threshold!r}:{digest}"


@dataclass(frozen=True, slots=True, eq=False)
class Steering:
    """One vector, acting in one way at one strength.

    Attributes:
        vector: a tensor for each layer that is steered.
        strength: see above; for rotate in radians, for ablate a share of the projection.
        operator: what is done.
        positions: "prompt" and "generated" tokens, "all" of them, or the prompt's "last" one.
        side: only tokens whose projection is "positive" or "negative" before the operator, or "both".
        gate: only sequences that pass it.

    Raises:
        StrengthError: a strength that is not a finite float32.
        InputError: an unknown word, or a side with cap, which has one already.

    >>> Steering(vector, 0.5).is_plain  # what llama.cpp does itself
    True
    >>> Steering(vector, 0.5, positions="generated").is_plain
    False
    """

    vector: ControlVector
    strength: float = 1.0
    _: KW_ONLY
    operator: Operator = "add"
    positions: Positions = "all"
    side: Side = "both"
    gate: Gate | None = None

    def __post_init__(self) -> None:
        check_manner(self.operator, self.positions, self.side)
        per_query(self.strength, 1)

    def at(self, strength: float) -> Steering:
        """The same at another strength."""
        return replace(self, strength=strength)

    @property
    def idle(self) -> bool:
        """Whether it changes nothing: its strength is 0 in float32. For clamp and cap 0 is a strength like others."""
        return np.float32(self.strength) == 0 and self.operator not in ("clamp", "cap")

    @property
    def is_plain(self) -> bool:
        """Whether it is llama.cpp's own control vector: added everywhere."""
        manner = (self.operator, self.positions, self.side)
        return manner == ("add", "all", "both") and self.gate is None


PerQuery: TypeAlias = None | Steering | Sequence[None | Steering | Sequence[Steering]]
Decided: TypeAlias = tuple[tuple[Steering, ...], ...]


def per_query(strengths: Strengths, n_queries: int) -> FloatArray:
    """One float32 strength per query, (n_queries,).

    Raises:
        ShapeError: neither one number nor one per query.
        StrengthError: NaN, infinite, or beyond float32.
    """
    try:
        with np.errstate(over="ignore"):
            values = np.asarray(strengths, np.float32)
    except (TypeError, ValueError) as error:
        raise StrengthError(f"strength {strengths!r} is not a number; give one, or one per query") from error
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


def adds(vector: ControlVector | None, strengths: Strengths, n_queries: int) -> PerQuery:
    """The short form: one vector added, at one strength or at one per query.

    Raises:
        ShapeError, StrengthError: as `per_query`.
    """
    values = per_query(strengths, n_queries)
    if vector is None:
        return None
    made = {float(value): Steering(vector, float(value)) for value in np.unique(values)}
    return [made[float(value)] for value in values]


def normalized(steering: PerQuery, n_queries: int) -> Decided:
    """For each query, what steers it.

    Raises:
        ShapeError: not one entry per query.
    """
    if steering is None or isinstance(steering, Steering):
        return (_several(steering),) * n_queries
    if len(steering) != n_queries:
        raise ShapeError(f"steering: expected one for all or {n_queries}, one per query, got {len(steering)}")
    return tuple(_several(of_query) for of_query in steering)


def _several(steering: None | Steering | Sequence[Steering]) -> tuple[Steering, ...]:
    if steering is None:
        return ()
    return (steering,) if isinstance(steering, Steering) else tuple(steering)


def check_manner(operator: str, positions: str, side: str) -> None:
    """Make sure that a vector can act so.

    Raises:
        InputError: an unknown word, or a side with cap, which has one already.
    """
    words = ((operator, OPERATORS, "operator"), (positions, REGIONS, "positions"), (side, SIDES, "side"))
    for word, known, name in words:
        if word not in known:
            raise InputError(f"{name} {word!r} is unknown; use {', '.join(known)}")
    if operator == "cap" and side != "both":
        raise InputError("cap acts on one side already; its mirror is cap with the negated vector")


def check(by_query: Decided, *, n_layer: int, n_embd: int) -> None:
    """Make sure that vectors and gates are for a model.

    Raises:
        ShapeError: one of another width.
        LayerError: a layer that the model lacks.
    """
    for steering in {id(steering): steering for several in by_query for steering in several}.values():
        _check_width("the vector", steering.vector.n_embd, n_embd)
        checked_layers(steering.vector.layers, n_layer)
        if steering.gate is not None:
            check_gate(steering.gate, n_layer=n_layer, n_embd=n_embd)


def check_gate(gate: Gate, *, n_layer: int, n_embd: int) -> None:
    """Make sure that a gate is for a model.

    Raises:
        ShapeError: it has another width.
        LayerError: the model lacks its layer.
    """
    _check_width("the gate", len(gate.direction), n_embd)
    checked_layers([gate.il], n_layer)


def _check_width(what: str, width: int, n_embd: int) -> None:
    if width != n_embd:
        raise ShapeError(
            f"{what} has {width} values per layer, the model's n_embd is {n_embd}; use a vector made for this model"
        )
