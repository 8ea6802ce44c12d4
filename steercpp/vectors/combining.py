"""From vector files to the one that they make together; read this for the order in which it is done."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from steercpp.errors import LayerError
from steercpp.provenance import vector_sha256
from steercpp.vectors.algebra import combined, orthogonalised, renormalised
from steercpp.vectors.control_vector import ControlVector, MetaValue
from steercpp.vectors.formats import read_any_vector

Normalize = Literal["unit", "keep", "first"]


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
        VectorFileError, InputError, ...: a file cannot be read, or as `combined`, `orthogonalised`, `renormalised`.
    """
    names = [str(path) for path, _ in terms]
    found = [read_any_vector(path) for path, _ in terms]
    others = [read_any_vector(path) for path in orthogonal_to]
    vectors = [vector for vector, _ in found]
    weights = [weight for _, weight in terms]
    made = combined(list(zip(vectors, weights, strict=True)), names=names)
    lengths = {"keep": made.norms, "first": vectors[0].norms}
    if others:
        made = orthogonalised(made, *(vector for vector, _ in others), names=["the sum", *map(str, orthogonal_to)])
    if normalize == "unit":
        made = renormalised(made)
    elif normalize is not None:
        try:
            made = renormalised(made, lengths[normalize])
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
        for path, (_, notes) in zip([*names, *orthogonal_to], [*found, *others], strict=True)
        for note in notes
    )


def _made_of(key: str, names: Sequence[str], vectors: Sequence[ControlVector]) -> dict[str, MetaValue]:
    return {
        f"{key}.files": tuple(Path(name).name for name in names),
        f"{key}.sha256": tuple(vector_sha256(vector) for vector in vectors),
    }
