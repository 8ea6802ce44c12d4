"""A control vector: one direction for each steered layer; read this to make, scale, cut or convert one.

Layer il is the output of block il, llama.cpp's node `l_out-il`. Strength s adds float32(s) times the tensor of a layer
at that layer, so the tensor is exactly what strength 1 adds.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np

from steercpp.aliases import FloatArray, Floats
from steercpp.encoding import one_line, refuse_half_characters
from steercpp.errors import InputError, LayerError, ShapeError, StrengthError
from steercpp.html import card, facts, table
from steercpp.vectors.layers import format_layers

MetaScalar: TypeAlias = str | bool | int | float
MetaValue: TypeAlias = MetaScalar | tuple[MetaScalar, ...]

# Written by gguf.py beside the metadata.
RESERVED_KEYS = re.compile(
    r"n_layer|direction\.[0-9]+|(controlvector|steeringvector)\.(model_hint|layer_count)", re.ASCII
)
# One value for each layer; majority is the share of pairs by which the method found its sign, where it goes by that.
LAYER_KEYS = ("explained", "agreement", "accuracy", "auc", "norm_ratio", "stability", "majority")
_OF_SIGN = ("accuracy", "auc", "majority")  # those that are 1 less themselves for the opposite direction
PLAIN: dict[str, MetaValue] = {"operator": "add", "positions": "all", "side": "both", "gate": ""}  # as llama.cpp steers
_OF_STRENGTHS = re.compile(r"calibration\.|(recommended_strength|max_loss|baked_strength)$")
_STRENGTHS = ("recommended_strength", "calibration.strength")  # metadata in multiples of the tensors
_KEY = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+)*", re.ASCII)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class ControlVector:
    """Directions by layer, for models of one architecture and width.

    Attributes:
        directions: layer il (0..n_layer-1) to (n_embd,) float32, what strength 1 adds at that layer; copied, read-only
            and in the order of the layers.
        model_hint: the model's general.architecture; "" where a file does not tell.
        n_layer: blocks of the model. Files of other tools do not tell it: there it is the least that holds all layers.
        metadata: what is known about the vector, by key without the prefix "steercpp."; tuples hold one type.

    Raises:
        LayerError: no layer, or one outside 0..n_layer-1.
        ShapeError: a direction that is not (n_embd,), or not as long as the others.
        InputError: a value that is not finite, or metadata that a GGUF file cannot hold.

    >>> small = ControlVector({5: np.array([3.0, 4.0]), 6: np.array([0.0, 2.0])}, "llama", n_layer=8)
    >>> small.layers, small.n_embd, small.norms
    ((5, 6), 2, {5: 5.0, 6: 2.0})
    >>> vector
    ControlVector(llama, layers 5-6 of 8, n_embd 256, lengths 1, mean)
    """

    directions: Mapping[int, FloatArray]
    model_hint: str
    n_layer: int
    metadata: Mapping[str, MetaValue] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.directions:
            raise LayerError("a control vector needs a direction at one layer at least")
        frozen = {il: _frozen(il, self.directions[il]) for il in sorted(self.directions)}
        n_embd = len(next(iter(frozen.values())))
        for il, direction in frozen.items():
            if not 0 <= il < self.n_layer:
                raise LayerError(f"layer {il} does not exist; the model has layers 0..{self.n_layer - 1}")
            if len(direction) != n_embd:
                raise ShapeError(f"layer {il}: {len(direction)} elements where layer {min(frozen)} has {n_embd}")
        refuse_half_characters(self.model_hint, InputError, where="model_hint: ")
        for key, value in self.metadata.items():
            _check_metadata(key, value)
        object.__setattr__(self, "directions", frozen)
        object.__setattr__(self, "metadata", dict(self.metadata))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled and copied by being made anew, so that it is checked and read-only again."""
        return ControlVector, (self.directions, self.model_hint, self.n_layer, self.metadata)

    def __repr__(self) -> str:
        """The vector in one line: architecture, layers, width, lengths, and how it was made."""
        lengths = [float(np.linalg.norm(direction)) for direction in self.directions.values()]
        span = (
            f"{min(lengths):.3g}" if max(lengths) - min(lengths) < 5e-4 else f"{min(lengths):.3g} to {max(lengths):.3g}"
        )
        made = "".join(f", {self.metadata[key]}" for key in ("method",) if key in self.metadata)
        return (
            f"ControlVector({one_line(self.model_hint or 'unknown model')}, layers {format_layers(self.directions)} of "
            f"{self.n_layer}, n_embd {self.n_embd}, lengths {span}{one_line(made)})"
        )

    def _repr_html_(self) -> str:
        """The vector in a notebook: its layers with their lengths and figures, and what made it."""
        figures = self.layer_figures
        rows = [
            (il, f"{norm:.4g}", *(f"{values[place]:.3g}" for values in figures.values()))
            for place, (il, norm) in enumerate(self.norms.items())
        ]
        provenance = [
            (key, f"{value[:16]}…" if key.endswith("sha256") and isinstance(value, str) else value)
            for key, value in self.metadata.items()
            if not isinstance(value, tuple)
        ]
        return card(repr(self), table(("layer", "length", *figures), rows), facts(provenance))

    @property
    def n_embd(self) -> int:
        """Width of the residual stream."""
        return len(next(iter(self.directions.values())))

    @property
    def layers(self) -> tuple[int, ...]:
        """Steered layers, ascending."""
        return tuple(self.directions)

    @property
    def norms(self) -> dict[int, float]:
        """l2 norm of each layer's tensor, computed in float64."""
        return {il: float(np.linalg.norm(row.astype(np.float64))) for il, row in self.directions.items()}

    @property
    def layer_figures(self) -> dict[str, tuple[float, ...]]:
        """What the metadata tell of each layer, by the names of `LAYER_KEYS`; in the order of the layers."""
        told = {key: self.metadata.get(key) for key in LAYER_KEYS}
        return {
            key: tuple(map(float, values))
            for key, values in told.items()
            if isinstance(values, tuple) and len(values) == len(self.layers) and isinstance(values[0], float)
        }

    @property
    def is_added_everywhere(self) -> bool:
        """Whether it acts as llama.cpp's control vector: added to every token, so far as the metadata tell."""
        return all(self.metadata.get(key, usual) == usual for key, usual in PLAIN.items())

    def scaled(self, lengths: float | Mapping[int, float]) -> ControlVector:
        """The vector with each tensor times a length, the same for all layers or one for each.

        With the residual stream's norms as lengths, strength 1 of a unit vector adds one such norm at each layer. What
        the metadata say about strengths of this vector (`without_strengths`) is not taken over, and where a length is
        negative, what they say about the separation of the pairs is that of the opposite direction.

        Raises:
            LayerError: a layer of the vector is not in `lengths`.
            StrengthError: a length is NaN or infinite.
            InputError: the product is too large for float32.

        >>> small = ControlVector({5: np.array([3.0, 4.0])}, "llama", n_layer=8)
        >>> small.scaled(1.0).directions[5].tolist()
        [3.0, 4.0]
        """
        by_layer = lengths if isinstance(lengths, Mapping) else dict.fromkeys(self.layers, lengths)
        for il in self.layers:
            if il not in by_layer:
                raise LayerError(f"layer {il} has no length; lengths are given for {_listed(by_layer)}")
            if not np.isfinite(by_layer[il]):
                raise StrengthError(f"layer {il}: length {by_layer[il]} is not finite; give a number")
        with np.errstate(over="ignore"):  # what overflows is refused as not finite
            scaled = {il: row * np.float32(by_layer[il]) for il, row in self.directions.items()}
        metadata = without_strengths(self.metadata)
        for key in _OF_SIGN:
            if isinstance(values := metadata.get(key), tuple) and len(values) == len(self.layers):
                figures = zip(self.layers, values, strict=True)
                metadata[key] = tuple(1 - float(x) if by_layer[il] < 0 else x for il, x in figures)
        return replace(self, directions=scaled, metadata=metadata)

    def restricted_to(self, layers: Iterable[int]) -> ControlVector:
        """The vector at these layers only, and so the metadata that hold one value for each layer.

        With fewer layers, what the metadata say about strengths is not taken over, as in `scaled`.

        Raises:
            LayerError: no layers, or one at which the vector has no direction.

        >>> vector.layers, vector.restricted_to([6]).layers
        ((5, 6), (6,))
        """
        wanted = sorted(set(layers))
        for il in wanted:
            if il not in self.directions:
                raise LayerError(f"the vector has no direction at layer {il}; it has {_listed(self.layers)}")
        places = [place for place, il in enumerate(self.layers) if il in wanted]
        metadata = dict(self.metadata) if len(places) == len(self.layers) else without_strengths(self.metadata)
        for key in LAYER_KEYS:
            if isinstance(values := metadata.get(key), tuple) and len(values) == len(self.layers):
                metadata[key] = tuple(values[place] for place in places)
        return replace(self, directions={il: self.directions[il] for il in wanted}, metadata=metadata)

    def with_metadata(self, **values: MetaValue) -> ControlVector:
        """The vector with these metadata added or replaced.

        >>> vector.with_metadata(label="careful").metadata["label"]
        'careful'
        """
        return replace(self, metadata={**self.metadata, **values})


def without_strengths(metadata: Mapping[str, MetaValue]) -> dict[str, MetaValue]:
    """The metadata less what holds only for the very tensors that it was found with, at their layers.

    That is a calibration, a recommended strength with its budget, and a strength that was baked in.
    """
    return {key: value for key, value in metadata.items() if not _OF_STRENGTHS.match(key)}


def random_vector(like: ControlVector, rng: np.random.Generator) -> ControlVector:
    """Random directions at the layers of `like`, each of the norm that `like` has there: a control for its effect."""
    rows = {il: rng.standard_normal(like.n_embd) for il in like.layers}
    return _as_long_as(like, rows, "random")


def orthogonal_vector(like: ControlVector, rng: np.random.Generator) -> ControlVector:
    """Random directions at the layers of `like`, orthogonal to its own and of the same norms: a control for its effect.

    Raises:
        ShapeError: vectors of one element, to which nothing is orthogonal.
    """
    if like.n_embd < 2:
        raise ShapeError("nothing is orthogonal to a direction of one element")
    rows = {}
    for il in like.layers:
        direction, row = like.directions[il].astype(np.float64), rng.standard_normal(like.n_embd)
        if direction.any():
            for _ in range(2):  # once more for what rounding leaves of it
                row -= (row @ direction) / (direction @ direction) * direction
        rows[il] = row
    return _as_long_as(like, rows, "orthogonal")


def _as_long_as(like: ControlVector, rows: Mapping[int, Floats], method: str) -> ControlVector:
    lengths = {il: norm / np.linalg.norm(rows[il]) for il, norm in like.norms.items()}
    directions = {il: (rows[il] * length).astype(np.float32) for il, length in lengths.items()}
    return replace(like, directions=directions, metadata={"method": method})


def can_be_stored(key: str, value: MetaValue) -> bool:
    """Whether a control vector can have this in its metadata."""
    try:
        _check_metadata(key, value)
    except InputError:
        return False
    return True


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
        if isinstance(value := vector.metadata.get(key), float):
            changed[key] = value / strength
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
    given = vector.metadata
    unusual = [f"{key} {given[key]}" for key in PLAIN if given.get(key, PLAIN[key]) != PLAIN[key]]
    return ", ".join(unusual) or "adding everywhere"


def vector_sha256(vector: ControlVector) -> str:
    """Hash of what a control vector does: its layers and the float32 bytes of their directions."""
    digest = hashlib.sha256()
    for layer in vector.layers:
        digest.update(f"{layer}:{vector.n_embd};".encode())
        digest.update(np.ascontiguousarray(vector.directions[layer], dtype="<f4").tobytes())
    return digest.hexdigest()


def _frozen(il: int, direction: FloatArray) -> FloatArray:
    row = np.array(direction, dtype=np.float32)
    if row.ndim != 1 or row.size == 0:
        raise ShapeError(f"layer {il}: expected (n_embd,), got {row.shape}")
    if not np.isfinite(row).all():
        raise InputError(f"layer {il}: element {int(np.argmin(np.isfinite(row)))} is not finite")
    row.setflags(write=False)
    return row


def _check_metadata(key: str, value: MetaValue) -> None:
    if not _KEY.fullmatch(key) or RESERVED_KEYS.fullmatch(key):
        raise InputError(f"metadata key {key!r} cannot be used; use lower-case words joined by dots or underscores")
    items = value if isinstance(value, tuple) else (value,)
    if not items or any(type(item) is not type(items[0]) for item in items):
        raise InputError(f"metadata {key}: a tuple holds at least one value, and all of one type")
    for item in items:
        if not isinstance(item, str | bool | int | float):
            raise InputError(f"metadata {key}: {type(item).__name__} cannot be stored; use str, bool, int or float")
        if isinstance(item, int) and not -(2**63) <= item < 2**63:
            raise InputError(f"metadata {key}: {item} does not fit in 64 bits")
        if isinstance(item, str):
            refuse_half_characters(item, InputError, where=f"metadata {key}: ")


def _listed(layers: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(layers))) or "none"
