"""How a control vector's directions lie to activations of contrast pairs; read this for what the doctor measures.

Each direction is compared with the ones that several methods find in the activations, at its own layer and at the layer
below: mean, pca and pca-centered, and the method that the file names. Cosines of unrelated directions are about
1/sqrt(n_embd) large, so that a few times that tells a relation from chance.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from steercpp.aliases import FloatArray
from steercpp.doctor.findings import Finding, where
from steercpp.errors import DegenerateError
from steercpp.extraction.methods import METHODS

if TYPE_CHECKING:
    from steercpp.extraction.activations import Activations

# A shift is called where directions clearly match the other layer (a mean |cosine| of half and more), the distance from
# a full match is at most two thirds of that at their own layer, and nearly all layers agree.
_LEAST_MATCH = 0.5
_MOST_DISTANCE = 2 / 3
_AGREEING = 0.85
# The largest of the three or four |cosines| of a random direction is below it in 997 of 1000 cases (n_embd 64 to 2048).
_CHANCE = 3.2  # in units of 1/sqrt(n_embd)
_METHODS = ("mean", "pca", "pca-centered")  # with which each direction is compared
_FEW = 0.25  # of the pairs may point along a direction whose sign is called wrong


@dataclass(frozen=True, slots=True)
class Relation:
    """Cosines of one direction.

    Attributes:
        layer: as the file numbers it.
        own, below: the largest |cosine| with what the methods find at this layer, and at the one below; None where the
            activations lack the layer, or nothing can be extracted there.
        projection: the signed cosine with the mean difference at the layer where the direction belongs; None as above.
        agreeing: the share of pairs, 0..1, whose own difference points along the direction there; None as above.
    """

    layer: int
    own: float | None
    below: float | None
    projection: float | None
    agreeing: float | None


def relations(
    activations: Activations, directions: Mapping[int, FloatArray], *, shift: int, method: str = ""
) -> tuple[Relation, ...]:
    """Compare directions with activations.

    Args:
        activations: of contrast pairs, at the directions' layers and at those below.
        directions: by layer, of the activations' width, not zero.
        shift: 1 where direction.k belongs to layer k-1, else 0: where `projection` is taken.
        method: the one of `methods.METHODS` by which they were made, "" if it is not known.
    """
    compared = []
    extracted: dict[int, dict[str, FloatArray]] = {}
    methods = dict.fromkeys((*_METHODS, method) if method not in ("", "random") else _METHODS)
    for il, row in sorted(directions.items()):
        unit = row.astype(np.float64) / np.linalg.norm(row.astype(np.float64))
        for layer in (il - 1, il):
            if layer not in extracted:
                extracted[layer] = _extracted(activations, layer, methods)
        at_own, below = (_best(unit, extracted[layer].values()) for layer in (il, il - 1))
        projection = agreeing = None
        if (mean := extracted[il - shift].get("mean")) is not None:
            positive, negative = activations.at(il - shift)
            projection = float(unit @ mean)
            agreeing = float(((positive - negative) @ unit > 0).mean())
        compared.append(Relation(il, at_own, below, projection, agreeing))
    return tuple(compared)


def _extracted(activations: Activations, layer: int, methods: Iterable[str]) -> dict[str, FloatArray]:
    """Directions by method; none of those that the activations have none of."""
    if layer not in activations.layers:
        return {}
    positive, negative = activations.at(layer)
    directions = {}
    for name in methods:
        with suppress(DegenerateError):  # centring leaves nothing of one pair, but the mean does
            directions[name] = METHODS[name](positive, negative)
    return directions


def _best(unit: np.ndarray, others: Iterable[FloatArray]) -> float | None:
    return max((abs(float(unit @ other)) for other in others), default=None)


def measured_shift(compared: Sequence[Relation]) -> int | None:
    """1 where the directions clearly belong to the layers below theirs, 0 where to their own, None where to neither."""
    both = [(row.own, row.below) for row in compared if row.own is not None and row.below is not None]
    if len(both) < 2:
        return None
    at_own, below = np.array(both).T
    for shift, near, far in ((1, below, at_own), (0, at_own, below)):
        is_near = near.mean() >= _LEAST_MATCH and 1 - near.mean() <= _MOST_DISTANCE * (1 - far.mean())
        if is_near and (near > far).mean() >= _AGREEING:
            return shift
    return None


def pair_findings(compared: Sequence[Relation], *, shift: int, n_embd: int, token: str) -> Iterator[Finding]:
    """Directions that point the wrong way, or nowhere near what the pairs differ in."""
    chance = _CHANCE / np.sqrt(n_embd)
    unrelated = tuple(il for il, cosine in _where_it_belongs(compared, shift).items() if cosine < chance)
    wrong = tuple(row.layer for row in compared if _points_back(row, chance) and row.layer not in unrelated)
    if wrong:
        sentence = f"at {where(wrong)} the direction points from positive to negative in three of four pairs or more"
        yield Finding("wrong-sign", sentence, f"the sign is turned at {where(wrong)}", wrong)
    if unrelated:
        sentence = (
            f"at {where(unrelated)} the direction has nothing to do with these pairs, token {token!r}: |cosine| below "
            f"{chance:.2f} with what is extracted from them, as a random one has"
        )
        yield Finding("unrelated", sentence, layers=unrelated)


def are_related(compared: Sequence[Relation], *, shift: int, n_embd: int) -> bool:
    """Whether most directions have to do with the pairs, which those of another model cannot."""
    cosines = list(_where_it_belongs(compared, shift).values())
    return bool(cosines) and float(np.median(cosines)) >= _CHANCE / np.sqrt(n_embd)


def _where_it_belongs(compared: Sequence[Relation], shift: int) -> dict[int, float]:
    both = ((row.layer, row.below if shift else row.own) for row in compared)
    return {il: cosine for il, cosine in both if cosine is not None}


def _points_back(row: Relation, chance: float) -> bool:
    """An axis along which pairs differ either way has no sign to be wrong: nearly all must agree."""
    return row.projection is not None and row.projection < -chance and (row.agreeing or 0.0) <= _FEW
