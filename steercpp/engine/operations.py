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
        (id(steering.vector), steering.operator, steering.side, np.float32(steering.strength).item())
        for steering in steerings
        if region in REGIONS[steering.positions] and not steering.idle
    )


def packing_keys(by_query: Decided) -> list[Key] | None:
    """For each query the keys of its three regions; None where all rows are treated alike."""
    known: dict[tuple[int, ...], Key] = {}
    keys = []
    for steerings in by_query:
        name = tuple(map(id, steerings))
        if name not in known:
            before, last, after = (row_key(steerings, region) for region in range(3))
            known[name] = (before, last, after)
        keys.append(known[name])
    alike = all(len(set(key)) == 1 for key in keys) and len(set(keys)) <= 1
    return None if alike else keys


def refuse_unequal_sharers(shared: Iterable[tuple[tuple[int, int], tuple[int, int]]], by_query: Decided) -> None:
    """Make sure that queries which share rows steer them alike.

    Raises:
        InputError: two of them do not.
    """
    keys: dict[tuple[int, int], Hashable] = {}

    def key(place: int, region: int) -> Hashable:
        if (place, region) not in keys:
            keys[place, region] = row_key(by_query[place], region)
        return keys[place, region]

    for holder, sharer in shared:
        if key(*holder) != key(*sharer):
            raise InputError(
                f"queries {holder[0]} and {sharer[0]} of a batch share tokens but are to be steered differently; "
                "pack them with the steering that they are run with"
            )


def native_operations(
    by_query: Decided, owners: npt.NDArray[np.int32], regions: npt.NDArray[np.int8]
) -> list[Operation]:
    """What the native session does to the rows of a pass; nothing where nothing acts.

    A row's steerings act in the order in which its query has them.

    Args:
        by_query: for each query of the batch, what steers it; gates decided.
        owners: (n_tokens,) the query whose path holds the row.
        regions: (n_tokens,) the row's region in it.

    Raises:
        InputError: a gate that is not decided.
    """
    if any(steering.gate is not None for steerings in by_query for steering in steerings):
        raise InputError("a gate is not decided yet; give Engine.decide's answer")
    operations: list[Operation] = []
    for slot in range(max(map(len, by_query), default=0)):
        for alike in _alike(by_query, slot):
            operations += _operations(alike, len(by_query), owners, regions)
    return operations


def _alike(by_query: Decided, slot: int) -> list[dict[int, Steering]]:
    """The steerings in a slot, by the place of their query: groups that differ in strength and positions at most."""
    groups: dict[Hashable, dict[int, Steering]] = {}
    for place, steerings in enumerate(by_query):
        if slot < len(steerings) and not steerings[slot].idle:
            steering = steerings[slot]
            key = (id(steering.vector), steering.operator, steering.side)
            groups.setdefault(key, {})[place] = steering
    return list(groups.values())


def _operations(
    alike: dict[int, Steering], n_queries: int, owners: npt.NDArray[np.int32], regions: npt.NDArray[np.int8]
) -> list[Operation]:
    """One vector acting on some queries: an operation at each of its layers."""
    strength_of = np.zeros(n_queries, np.float32)
    acts = np.zeros((n_queries, 3), np.int8)
    for place, steering in alike.items():
        strength_of[place] = steering.strength
        acts[place, list(REGIONS[steering.positions])] = 1
    active = np.ascontiguousarray(acts[owners, regions])
    if not active.any():
        return []
    strengths = strength_of[owners]
    first = next(iter(alike.values()))
    kind, side = OPERATORS.index(first.operator), SIDES[first.side]
    return [Operation(il, kind, side, row, strengths, active) for il, row in first.vector.directions.items()]
