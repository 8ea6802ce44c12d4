"""How the numbers of a kind's items lie behind each other in one array; read this to index what a store gives.

layout = store.layout("behavior")
nats = store.logprobs("vector", "behavior", [0.0, 0.5])     # (2, n_continuations)
nats[:, layout.sides == 0]                                  # those of aligned continuations
nats[1, layout.of_item(7)]                                  # those of item 7 at 0.5
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from steercpp.aliases import Bools, Floats
from steercpp.data.items import Kind

Integers: TypeAlias = npt.NDArray[np.int64]
ITEM, NATS = np.dtype("<i4"), np.dtype("<f8")  # of a group's blobs: numbers of its items, and their log-probabilities
ALIGNED, MISALIGNED = 0, 1
KL, LOGPROB = 0, 1  # of each token of an own answer
_UNKNOWN = -1
_OF_BEHAVIOR, _OF_OWN = {"aligned": ALIGNED, "misaligned": MISALIGNED}, {"kl": KL, "logprob": LOGPROB}
_NUMBER = re.compile(r"\d{1,9}", re.ASCII)
_LARGEST_NATS = 1e30  # with which anything can be computed


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """The continuations of all items of a kind, in the order of the items and of each one's own.

    Attributes:
        offsets: (n_items + 1,) where each item's continuations begin, and where the last one's end.
        sides: (n_continuations,) what each is: ALIGNED or MISALIGNED; the index of its choice or answer; KL or LOGPROB
            of an own answer's token; 0 of a text.
    """

    offsets: Integers
    sides: Integers

    @classmethod
    def of(cls, kind: str, sides: Sequence[Sequence[str]]) -> Layout:
        """The layout of items whose continuations have these sides, as `Continuation.side` names them.

        >>> Layout.of("choice", [["0", "1"], ["0", "0", "1"]]).offsets.tolist()
        [0, 2, 5]
        """
        counts = np.array([len(of_item) for of_item in sides], np.int64)
        return cls.read(kind, counts, [side for of_item in sides for side in of_item])

    @classmethod
    def read(cls, kind: str, counts: Integers, sides: Sequence[str]) -> Layout:
        """The layout of continuations that a store holds.

        Args:
            kind: of the items.
            counts: (n_items,) how many continuations each has.
            sides: of all of them, in order.

        Raises:
            ValueError: they are not those that items of this kind have.
        """
        codes = _codes(kind, set(sides))
        layout = cls(
            np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            np.fromiter(map(codes.__getitem__, sides), np.int64, len(sides)),
        )
        if (wrong := np.flatnonzero(~_are_sides(kind, layout) & (counts > 0))).size:
            raise ValueError(f"the sides of item {wrong[0]} are not those of its kind")
        return layout

    @property
    def n_items(self) -> int:
        """How many items there are."""
        return len(self.offsets) - 1

    @property
    def counts(self) -> Integers:
        """(n_items,) how many continuations each item has."""
        return np.diff(self.offsets)

    @property
    def is_whole(self) -> bool:
        """Whether every item has continuations."""
        return bool((self.counts > 0).all())

    @property
    def items(self) -> Integers:
        """(n_continuations,) the item of each."""
        return np.repeat(np.arange(self.n_items), self.counts)

    def of_item(self, item: int) -> slice:
        """Where an item's numbers lie."""
        return slice(int(self.offsets[item]), int(self.offsets[item + 1]))

    def ranks(self, which: Bools) -> Integers:
        """Of each of some continuations, how many of them the same item has before it."""
        before = np.concatenate([[0], np.cumsum(which)])
        return np.asarray((before[:-1] - np.repeat(before[self.offsets[:-1]], self.counts))[which])

    def runs(self) -> Integers:
        """(n_continuations,) of each, how many of the same side stand right before it: spellings, or tokens."""
        is_first = np.diff(self.sides, prepend=_UNKNOWN) != 0
        is_first[self.offsets[:-1][self.counts > 0]] = True
        places = np.arange(len(self.sides))
        return np.asarray(places - np.maximum.accumulate(np.where(is_first, places, 0)))

    def fill(self, nats: Floats, groups: Iterable[tuple[bytes, bytes]]) -> None:
        """Put the log-probabilities of some groups into their places.

        Args:
            nats: (n_continuations,) filled where the groups have items.
            groups: the items of each as ITEM, and the log-probabilities of their continuations as NATS.

        Raises:
            ValueError: they are not of items, or not as many as these have, or one is out of range.
        """
        blobs = tuple(groups)
        if not blobs:
            return
        sizes = [len(items) for items, _ in blobs]
        if any(not size or size % ITEM.itemsize for size in sizes):
            raise ValueError("a group has no numbers of items")
        items = np.frombuffer(b"".join(items for items, _ in blobs), ITEM).astype(np.int64)
        if items.min() < 0 or items.max() >= self.n_items:
            raise ValueError(f"it is of item {items.min() if items.min() < 0 else items.max()}, of {self.n_items}")
        if (doubled := np.flatnonzero(np.bincount(items) > 1)).size:
            raise ValueError(f"item {doubled[0]} is in two groups")
        counts = self.counts[items]
        starts = np.cumsum([0, *sizes[:-1]]) // ITEM.itemsize
        if (np.add.reduceat(counts, starts) * NATS.itemsize != [len(values) for _, values in blobs]).any():
            raise ValueError("a group has more or fewer of them than its items have continuations")
        values = np.frombuffer(b"".join(values for _, values in blobs), NATS)
        if (far := ~(np.abs(values) <= _LARGEST_NATS)).any():
            raise ValueError(f"{values[far][0]} nats")
        first = np.cumsum(counts) - counts  # where each item's lie in the groups
        nats[np.repeat(self.offsets[items] - first, counts) + np.arange(len(values))] = values


def packed(rows: Iterable[tuple[int, Floats]]) -> tuple[bytes, bytes]:
    """The blobs of a group: (item, log-probabilities of its continuations) of each member; see `Layout.fill`."""
    rows = tuple(rows)
    nats = np.concatenate([np.asarray(of_item, NATS) for _, of_item in rows]) if rows else np.empty(0, NATS)
    assert not np.isnan(nats).any(), "the engine gave what is no number"
    return np.array([item for item, _ in rows], ITEM).tobytes(), nats.tobytes()


def by_length(values: Floats, starts: Integers, lengths: Integers, reduced: Callable[[Floats], Floats]) -> Floats:
    """(n_s, n) what comes of n slices of each row, those of one length together, with the bits of each by itself.

    Args:
        values: (n_s, n_values).
        starts: (n,) of each slice.
        lengths: (n,) likewise.
        reduced: called with (n_s, m, length), in the order of memory; gives (n_s, m).
    """
    found = np.empty((len(values), len(starts)))
    for length in np.unique(lengths):
        which = np.flatnonzero(lengths == length)
        found[:, which] = reduced(np.take(values, starts[which, None] + np.arange(length), axis=1))
    return found


def _codes(kind: str, sides: set[str]) -> dict[str, int]:
    """The number of each side that there is; own answers stand under two kinds."""
    if kind == Kind.TEXT:
        return dict.fromkeys(sides, 0)
    if kind in (Kind.CHOICE, Kind.ANSWER):
        codes = {side: int(side) for side in sides if _NUMBER.fullmatch(side)}
    else:
        codes = _OF_BEHAVIOR if kind == Kind.BEHAVIOR else _OF_OWN
    return {side: codes.get(side, _UNKNOWN) for side in sides}


def _are_sides(kind: str, layout: Layout) -> Bools:
    """(n_items,) whether the sides of each item's continuations, in their order, are those that its kind has."""
    sides, counts = layout.sides, layout.counts
    n_of = [np.bincount(layout.items[sides == code], minlength=layout.n_items) for code in (_UNKNOWN, 0, 1)]
    if kind == Kind.TEXT:
        return np.asarray(counts == 1)
    known = n_of[0] == 0
    if kind == Kind.BEHAVIOR:
        return np.asarray(known & (n_of[1] > 0) & (n_of[2] > 0))
    begins = np.zeros(len(sides) + 1, bool)
    begins[layout.offsets] = True
    steps = np.diff(sides, prepend=0)
    if kind in (Kind.CHOICE, Kind.ANSWER):  # numbers of choices and answers, each of which has one at least
        is_next = np.where(begins[:-1], sides == 0, (steps == 0) | (steps == 1))
    else:  # KL of all tokens of an own answer, then ln P of them
        known = known & (n_of[1] == n_of[2])
        is_next = np.where(begins[:-1], sides == 0, steps >= 0)
    return np.asarray(known & (np.bincount(layout.items[~is_next], minlength=layout.n_items) == 0))
