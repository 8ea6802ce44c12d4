"""What steering does to the rows of a pass: which rows may be shared, and what the native session is told."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from steercpp.aliases import FloatArray
from steercpp.choices import OPERATORS
from steercpp.engine.steering import REGIONS, SIDES, Decided, Steering
from steercpp.errors import InputError

Key: TypeAlias = tuple[Hashable, Hashable, Hashable]


class Operation(NamedTuple):
    """What the native session does at one layer.

    Attributes:
        il, kind, side: the layer, the operator's place in OPERATORS, and 0, 1 or -1.
        direction: (n_embd,) float32.
        strengths, active: (n_tokens,) float32 and int8, by row; rows that are not active keep their bits.
    """

    il: int
    kind: int
    side: int
    direction: FloatArray
    strengths: FloatArray
    active: npt.NDArray[np.int8]


def row_key(steerings: Iterable[Steering], region: int) -> Hashable:
    """The same for rows of a region that are treated alike."""
    return tuple(
        (id(one.vector), one.operator, one.side, np.float32(one.strength).item())
        for one in steerings
        if region in REGIONS[one.positions] and not one.idle
    )


def packing_keys(asked: Decided) -> list[Key] | None:
    """For each query the keys of its three regions; None where all rows are treated alike."""
    known: dict[tuple[int, ...], Key] = {}
    keys = []
    for many in asked:
        name = tuple(map(id, many))
        if name not in known:
            before, last, after = (row_key(many, region) for region in range(3))
            known[name] = (before, last, after)
        keys.append(known[name])
    alike = all(len(set(key)) == 1 for key in keys) and len(set(keys)) <= 1
    return None if alike else keys


def refuse_unequal_sharers(shared: Iterable[tuple[tuple[int, int], tuple[int, int]]], asked: Decided) -> None:
    """Make sure that queries which share rows steer them alike.

    Raises:
        InputError: two of them do not.
    """
    keys: dict[tuple[int, int], Hashable] = {}

    def key(place: int, region: int) -> Hashable:
        if (place, region) not in keys:
            keys[place, region] = row_key(asked[place], region)
        return keys[place, region]

    for one, other in shared:
        if key(*one) != key(*other):
            raise InputError(
                f"queries {one[0]} and {other[0]} of a batch share tokens but are to be steered differently; pack them "
                "with the steering that they are run with"
            )


def native_operations(asked: Decided, owners: npt.NDArray[np.int32], regions: npt.NDArray[np.int8]) -> list[Operation]:
    """What the native session does to the rows of a pass; nothing where nothing acts.

    A row's steerings act in the order in which its query has them.

    Args:
        asked: for each query of the batch, what steers it; gates decided.
        owners: (n_tokens,) the query whose path holds the row.
        regions: (n_tokens,) the row's region in it.

    Raises:
        InputError: a gate that is not decided.
    """
    if any(one.gate is not None for many in asked for one in many):
        raise InputError("a gate is not decided yet; give Engine.decide's answer")
    found: list[Operation] = []
    for slot in range(max(map(len, asked), default=0)):
        for places in _alike(asked, slot):
            one = asked[places[0]][slot]
            found += _operations(one, asked, slot, places, owners, regions)
    return found


def _alike(asked: Decided, slot: int) -> list[list[int]]:
    """Queries whose steering in a slot differs in strength and positions at most."""
    groups: dict[Hashable, list[int]] = {}
    for place, many in enumerate(asked):
        if slot < len(many) and not many[slot].idle:
            one = many[slot]
            groups.setdefault((id(one.vector), one.operator, one.side), []).append(place)
    return list(groups.values())


def _operations(
    one: Steering,
    asked: Decided,
    slot: int,
    places: list[int],
    owners: npt.NDArray[np.int32],
    regions: npt.NDArray[np.int8],
) -> list[Operation]:
    strength_of = np.zeros(len(asked), np.float32)
    acts = np.zeros((len(asked), 3), np.int8)
    for place in places:
        mine = asked[place][slot]
        strength_of[place] = mine.strength
        acts[place, list(REGIONS[mine.positions])] = 1
    active = np.ascontiguousarray(acts[owners, regions])
    if not active.any():
        return []
    strengths = strength_of[owners]
    kind, side = OPERATORS.index(one.operator), SIDES[one.side]
    return [Operation(il, kind, side, direction, strengths, active) for il, direction in one.vector.directions.items()]
