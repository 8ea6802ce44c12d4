"""Arithmetic of control vectors: sums, projections, lengths, cosines; read this to make one vector out of others.

Sums are computed in float64 and rounded once. What is left of a difference of equals, or of a vector in the span that
is taken out of it, is float32 rounding and points anywhere: a layer where the result is below `NOISE` of what went in
counts as zero, and is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from steercpp.aliases import FloatArray, Floats
from steercpp.choices import Normalize
from steercpp.encoding import spelled
from steercpp.errors import DegenerateError, InputError, LayerError, ShapeError, StrengthError
from steercpp.vectors.control_vector import (
    LAYER_KEYS,
    PLAIN,
    ControlVector,
    MetaValue,
    manner,
    vector_sha256,
    without_strengths,
)
from steercpp.vectors.formats import read_any_vector

NOISE = 1e-6  # float32 rounds at 6e-8 of a value, and a difference is made of several rounded ones
_SHARED = ("layer_convention", "model_file", "model_sha256", "token", "template")  # kept where all terms agree


def combine(
    terms: Sequence[tuple[Path, float]], *, orthogonal_to: Sequence[Path] = (), normalize: Normalize | None = None
) -> tuple[ControlVector, tuple[str, ...]]:
    """The weighted sum of vector files, then made orthogonal to others, then brought to a length.

    Args:
        terms: (file, weight).
        orthogonal_to: files whose directions are taken out, layer by layer.
        normalize: each layer's length: "unit" 1, "keep" that of the sum, "first" that of the first vector.

    Returns:
        The vector, whose metadata tell the files, their hashes and what was done; and notes on the files.

    Raises:
        VectorFileError, InputError, ...: a file cannot be read, or as `combined`, `orthogonalised`, `renormalized`.
    """
    names = [str(path) for path, _ in terms]
    summands = [read_any_vector(path) for path, _ in terms]
    others = [read_any_vector(path) for path in orthogonal_to]
    vectors = [vector for vector, _ in summands]
    weights = [weight for _, weight in terms]
    made = combined(list(zip(vectors, weights, strict=True)), names=names)
    lengths = {"keep": made.norms, "first": vectors[0].norms}
    if others:
        made = orthogonalised(made, *(vector for vector, _ in others), names=["the sum", *map(str, orthogonal_to)])
    if normalize == "unit":
        made = renormalized(made)
    elif normalize is not None:
        try:
            made = renormalized(made, lengths[normalize])
        except LayerError as error:
            raise LayerError(f"{error}, as the first vector has; normalize to unit, or name another first") from error
    made = made.with_metadata(**_made_of("combined", names, vectors))
    if others:
        against = [str(path) for path in orthogonal_to]
        made = made.with_metadata(**_made_of("orthogonal_to", against, [vector for vector, _ in others]))
    if normalize is not None:
        made = made.with_metadata(normalized=normalize)
    return made, tuple(
        f"{path}: {note}"
        for path, (_, notes) in zip([*names, *orthogonal_to], [*summands, *others], strict=True)
        for note in notes
    )


def combined(terms: Sequence[tuple[ControlVector, float]], *, names: Sequence[str] = ()) -> ControlVector:
    """The weighted sum over the union of the vectors' layers; a vector adds nothing where it has no direction.

    Args:
        terms: (vector, weight).
        names: what errors call the vectors, in their order.

    Returns:
        The sum, whose metadata tell the weights and methods. A layer where everything cancels is left out.

    Raises:
        InputError: no terms; vectors of different architectures; vectors that cannot be summed, as they are not added
            to the residual stream at the same tokens; some that llama-cvector-generator wrote, with others.
        ShapeError, LayerError: they are for models of different width or depth.
        StrengthError: a weight is not finite.
        DegenerateError: the sum is zero at every layer.
    """
    vectors = [vector for vector, _ in terms]
    names = _called(vectors, names)
    model_hint, n_layer = _one_model(vectors, names)
    for name, (_, weight) in zip(names, terms, strict=True):
        if not np.isfinite(weight):
            raise StrengthError(f"{name}: weight {weight} is not finite; give a number")
    metadata = _shared_metadata(vectors) | _shared_manner(terms, names)
    rows = {}
    for il in sorted({il for vector in vectors for il in vector.layers}):
        weighted = [float(weight) * _row(vector, il) for vector, weight in terms if il in vector.directions]
        total = np.sum(weighted, axis=0)
        if np.linalg.norm(total) > NOISE * sum(float(np.linalg.norm(row)) for row in weighted):
            rows[il] = _rounded(total)
    if not rows:
        raise DegenerateError("the weighted sum is zero at every layer and would steer nothing; change the weights")
    made_of: dict[str, MetaValue] = {
        "method": "combined",
        "combined.weights": tuple(float(weight) for _, weight in terms),
        "combined.methods": tuple(str(vector.metadata.get("method", "unknown")) for vector in vectors),
    }
    return ControlVector(rows, model_hint, n_layer, metadata | made_of)


def orthogonalised(vector: ControlVector, *against: ControlVector, names: Sequence[str] = ()) -> ControlVector:
    """The vector without its part in the span of the others' directions, layer by layer; the rest keeps its length.

    Layers at which none of the others has a direction stay as they are; one where nothing is left is left out. What the
    metadata say about strengths and about each layer's quality is not taken over.

    Args:
        vector: what is made orthogonal.
        against: what it is made orthogonal to, all of them at once.
        names: what errors call the vector and the others, in their order.

    Raises:
        InputError, ShapeError, LayerError: as `combined`, or no layer in common.
        DegenerateError: nothing is left at any layer.
    """
    _one_model([vector, *against], _called([vector, *against], names))
    rows: dict[int, FloatArray] = {}
    n_changed = 0
    for il in vector.layers:
        row = _row(vector, il)
        others = [_row(other, il) for other in against if il in other.directions]
        basis = _basis(others, vector.n_embd)
        n_changed += len(basis) > 0
        rest = row
        for _ in range(2):  # once more, against the rounding of the first time
            rest = rest - basis.T @ (basis @ rest)
        if np.linalg.norm(rest) > NOISE * np.linalg.norm(row):
            rows[il] = _rounded(rest) if len(basis) else vector.directions[il]
    if not n_changed:
        raise LayerError(
            f"nothing to be orthogonal to: the vector has layers {_listed(vector.layers)}, the other "
            f"{_listed(il for other in against for il in other.layers)}; use vectors with a layer in common"
        )
    if not rows:
        raise DegenerateError("nothing is left at any layer: the vector lies in the span of the other; leave it out")
    metadata = {key: value for key, value in without_strengths(vector.metadata).items() if key not in LAYER_KEYS}
    return replace(vector, directions=rows, metadata=metadata)


def renormalized(vector: ControlVector, lengths: Literal["unit"] | Mapping[int, float] = "unit") -> ControlVector:
    """The vector with each layer's tensor brought to a length, 1 or that of the layer in `lengths`.

    What the metadata say about strengths is not taken over.

    Raises:
        LayerError: a layer of the vector has no length.
        StrengthError: a length is not a finite number above 0.
        DegenerateError: a layer's tensor is zero, so that it has no direction.
    """
    wanted = dict.fromkeys(vector.layers, 1.0) if lengths == "unit" else dict(lengths)
    rows = {}
    for il in vector.layers:
        if il not in wanted:
            raise LayerError(f"layer {il} has no length; lengths are given for layers {_listed(wanted)}")
        if not (np.isfinite(wanted[il]) and wanted[il] > 0):
            raise StrengthError(f"layer {il}: length {wanted[il]} is not a finite number above 0")
        row = _row(vector, il)
        norm = np.linalg.norm(row)
        if norm == 0:
            raise DegenerateError(f"layer {il} is zero and has no direction; leave it out with `layers`")
        rows[il] = _rounded(row * (wanted[il] / norm))
    return replace(vector, directions=rows, metadata=without_strengths(vector.metadata))


def cosines(vectors: Sequence[ControlVector], *, names: Sequence[str] = ()) -> Floats:
    """Cosines between the vectors' tensors.

    Args:
        vectors: of one width.
        names: what errors call the vectors, in their order.

    Returns:
        (n, n, n_layer) float64, n_layer being the depth of the deepest vector; NaN where one of two vectors has no
        direction at a layer, or zeros.

    Raises:
        InputError, ShapeError: no vectors, or vectors of different width.
    """
    _one_width(vectors, _called(vectors, names))
    n_layer = max(vector.n_layer for vector in vectors)
    by_layer = np.full((len(vectors), len(vectors), n_layer), np.nan)
    for il in range(n_layer):
        here = [i for i, vector in enumerate(vectors) if il in vector.directions and vector.directions[il].any()]
        if here:
            rows = np.stack([_row(vectors[i], il) for i in here])
            rows /= np.linalg.norm(rows, axis=1, keepdims=True)
            by_layer[np.ix_(here, here, [il])] = np.clip(rows @ rows.T, -1, 1)[:, :, None]
    return by_layer


def overall_cosines(vectors: Sequence[ControlVector]) -> Floats:
    """Cosines of the vectors as a whole: of all their tensors in a row, at the layers that both have.

    Returns:
        (n, n) float64; NaN where two vectors have no layer in common, or one is zero there.

    Raises:
        InputError, ShapeError: as `cosines`.
    """
    _one_width(vectors, _called(vectors, ()))
    overall = np.full((len(vectors), len(vectors)), np.nan)
    for i, first in enumerate(vectors):
        for j, second in enumerate(vectors[: i + 1]):
            shared = [il for il in first.layers if il in second.directions]
            a = np.concatenate([_row(first, il) for il in shared] or [np.zeros(1)])
            b = np.concatenate([_row(second, il) for il in shared] or [np.zeros(1)])
            lengths = np.linalg.norm(a) * np.linalg.norm(b)
            if lengths > 0:
                overall[i, j] = overall[j, i] = np.clip(a @ b / lengths, -1, 1)
    return overall


def _called(vectors: Sequence[ControlVector], names: Sequence[str]) -> Sequence[str]:
    return names or [f"vector {place}" for place in range(1, len(vectors) + 1)]


def _one_model(vectors: Sequence[ControlVector], names: Sequence[str]) -> tuple[str, int]:
    """Architecture and depth of the model that the vectors are for, as far as they tell."""
    _one_width(vectors, names)
    known = {vector.model_hint: name for vector, name in zip(vectors, names, strict=True) if vector.model_hint}
    if len(known) > 1:
        (hint, name), (other, whose) = list(known.items())[:2]
        raise InputError(
            f"{whose} is for a model of architecture {other!r}, {name} for {hint!r}; if one of these is another name "
            "for the same, set it with `model_hint` (steercpp convert)"
        )
    n_layer = max(vector.n_layer for vector in vectors)
    for vector, name in zip(vectors, names, strict=True):
        tells_depth = vector.n_layer > vector.layers[-1] + 1  # other tools' files do not
        if tells_depth and vector.n_layer < n_layer:
            deepest = names[[other.n_layer for other in vectors].index(n_layer)]
            raise LayerError(
                f"{name} is for a model of {vector.n_layer} layers, {deepest} for one of at least {n_layer}; use "
                "vectors of one model"
            )
    return next(iter(known), ""), n_layer


def _one_width(vectors: Sequence[ControlVector], names: Sequence[str]) -> None:
    if not vectors:
        raise InputError("no vectors; give at least one")
    for vector, name in zip(vectors, names, strict=True):
        if vector.n_embd != vectors[0].n_embd:
            raise ShapeError(
                f"{name} has {vector.n_embd} values per layer, {names[0]} has {vectors[0].n_embd}; use vectors of one "
                "model"
            )


def _shared_manner(terms: Sequence[tuple[ControlVector, float]], names: Sequence[str]) -> dict[str, MetaValue]:
    """How the sum acts: as its terms do, where that leaves the sum of what they add."""
    first, weight = terms[0]
    if len(terms) > 1 or weight != 1:
        for (vector, _), name in zip(terms, names, strict=True):
            if not vector.with_metadata(positions="all").is_added_everywhere:
                raise InputError(f"{name} is meant for {manner(vector)}: only vectors that are added can be summed")
            if vector.metadata.get("positions", "all") != first.metadata.get("positions", "all"):
                raise InputError(
                    f"{name} is meant for {manner(vector)}, {names[0]} for {manner(first)}: only vectors that are "
                    "added at the same tokens can be summed"
                )
    return {key: first.metadata[key] for key in PLAIN if key in first.metadata}


def _shared_metadata(vectors: Sequence[ControlVector]) -> dict[str, MetaValue]:
    conventions = {vector.metadata.get("layer_convention") == "cvector-generator" for vector in vectors}
    if len(conventions) > 1:
        raise InputError(
            "some of the vectors are llama-cvector-generator's, with each direction one layer above where it was "
            "measured: bring them to their layers with `layer_convention=cvector-generator` (steercpp convert)"
        )
    first = vectors[0].metadata
    return {
        key: first[key] for key in _SHARED if key in first and all(v.metadata.get(key) == first[key] for v in vectors)
    }


def _row(vector: ControlVector, il: int) -> Floats:
    return vector.directions[il].astype(np.float64)


def _rounded(row: Floats) -> FloatArray:
    with np.errstate(over="ignore"):  # what overflows is refused by ControlVector
        return row.astype(np.float32)


def _basis(rows: Sequence[Floats], n_embd: int) -> Floats:
    """(rank, n_embd): orthonormal rows that span the given ones; (0, n_embd) for none."""
    lengths = [np.linalg.norm(row) for row in rows]
    units = [row / length for row, length in zip(rows, lengths, strict=True) if length > 0]
    if not units:
        return np.zeros((0, n_embd))
    _, weights, axes = np.linalg.svd(np.stack(units), full_matrices=False)
    basis: Floats = axes[weights > NOISE * weights[0]]
    return basis


def _listed(layers: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(set(layers)))) or "none"


def _made_of(key: str, names: Sequence[str], vectors: Sequence[ControlVector]) -> dict[str, MetaValue]:
    return {
        f"{key}.files": tuple(spelled(Path(name).name) for name in names),
        f"{key}.sha256": tuple(vector_sha256(vector) for vector in vectors),
    }
