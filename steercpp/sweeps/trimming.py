"""How much of a full sweep is measured where little time is to be spent: a quick first answer, or what fits a budget.

    size = Size.of({"behavior": 44, "choice": 128, "own": 200}, quick=True)
    size.counts                                     # {"behavior": 20, "choice": 43, "own": 67}
    fitting(size, seconds_of, budget_s=600.0)       # the largest size that takes 10 minutes at most

Items are left out first, all kinds alike: intervals get wider by 1 / sqrt(n) and nothing else changes. Where the fewest
that bound anything take too long, strengths and windows of layers are left out as well, those that decide least: most
of the unwanted side, and what lies behind the budget of loss.

A budget is looked at twice. Before anything is computed but a few prompts, so that a model that is far too slow is told
in seconds; and when the model's own words are there, with the speed of finding them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from steercpp.aliases import Tokens
from steercpp.engine.batch import Query
from steercpp.engine.engine import Engine
from steercpp.errors import InputError
from steercpp.runs.scope import ITEM_NAMES, duration
from steercpp.statistics.intervals import FEWEST_ITEMS
from steercpp.sweeps.bracket import SIXTEENTHS, auto_grid
from steercpp.vectors.layers import Window

QUICK_SHARE = 1 / 3  # of the items
QUICK_SIDES = ((1, 2, 3, 4, 6, 8), (2, 4, 8))  # sixteenths of the end of the wanted side, and of the other
FEWEST: Mapping[str, int] = {  # a third chooses, a half of choices; a quarter of prompts may keep no own continuations
    "behavior": 4 * FEWEST_ITEMS, "own": 3 * FEWEST_ITEMS, "choice": 2 * FEWEST_ITEMS
}  # fmt: skip
RESERVE = 1.2  # for the pairs, the texts to show and the figures, of which nothing is known beforehand
SHARES = tuple(np.linspace(1.0, 0.0, 51).tolist())  # that are tried, of the items
LOOKED_AT = 8  # prompts that tell a model's speed
_Asked = TypeVar("_Asked")


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured.

    Attributes:
        counts: how many items of each kind.
        is_coarse: whether strengths and windows are left out too.
    """

    counts: Mapping[str, int]
    is_coarse: bool = False

    @classmethod
    def of(cls, counts: Mapping[str, int], *, quick: bool = False) -> Size:
        """The size of a full sweep of so many items, or of a quick one."""
        full = cls(dict(counts))
        return replace(full.share(QUICK_SHARE), is_coarse=True) if quick else full

    def share(self, share: float) -> Size:
        """That share of the items of each kind, and no fewer than can bound anything."""
        return replace(
            self, counts={kind: max(round(share * n), min(FEWEST[kind], n)) for kind, n in self.counts.items()}
        )

    def windows(self, windows: Sequence[Window]) -> tuple[Window, ...]:
        """Those of the windows that are compared: every other one of a coarse size."""
        return tuple(windows[::2] if self.is_coarse else windows)

    def grid(self, end: float, other_end: float) -> tuple[float, ...]:
        """Strengths up to the end of the wanted side and of the other one."""
        sides = QUICK_SIDES if self.is_coarse else (SIXTEENTHS, SIXTEENTHS)
        strengths = {
            s for side, at in zip(sides, (end, other_end), strict=True) for s in auto_grid(at, sixteenths=side)
        }
        return tuple(sorted(strengths))

    @property
    def n_strengths(self) -> int:
        """Of the grid, 0 among them."""
        return len(self.grid(1.0, -1.0))


def fitting(largest: Size, seconds_of: Callable[[Size], float], budget_s: float) -> Size:
    """The largest size that takes no more than so many seconds: items are left out before strengths.

    Args:
        largest: where to begin.
        seconds_of: what a size takes, all in all.
        budget_s: seconds.

    Raises:
        InputError: not even the smallest fits; the message tells what it would take.
    """
    coarse = replace(largest, is_coarse=True)
    for size in (*(largest.share(share) for share in SHARES), *(coarse.share(share) for share in SHARES)):
        if seconds_of(size) <= budget_s:
            return size
    smallest = coarse.share(0.0)
    counts = ", ".join(f"{n} {ITEM_NAMES[kind]}" for kind, n in smallest.counts.items() if n)
    raise InputError(
        f"nothing that bounds anything fits into {duration(budget_s)}: the smallest sweep, of {counts} at "
        f"{smallest.n_strengths} strengths, takes about {duration(seconds_of(smallest))} here; raise `budget_s`, or "
        "take a smaller model"
    )


def drawn(items: Sequence[_Asked], n: int, seed: int) -> tuple[_Asked, ...]:
    """So many of the items by lot, in their order; couples stay together."""
    if n >= len(items):
        return tuple(items)
    couples: dict[str, list[int]] = {}
    for number, item in enumerate(items):
        couples.setdefault(getattr(item, "couple", "") or f"alone {number}", []).append(number)
    members = list(couples.values())
    chosen: list[int] = []
    for which in np.random.default_rng([seed, len(items)]).permutation(len(members)).tolist():
        if len(chosen) >= n:
            break
        chosen += members[which]
    return tuple(items[number] for number in sorted(chosen))


def speed_of(engine: Engine, prompts: Sequence[Tokens]) -> float:
    """Token-layers a second, of reading a few prompts; the first pass warms up and is not counted."""
    batches = engine.pack([Query(prompt[:-1], (prompt[-1:],)) for prompt in prompts[:LOOKED_AT] if len(prompt) > 1])
    for batch in batches[:1]:
        engine.logprobs(batch)
    before, began = engine.token_layers, time.monotonic()
    for batch in batches:
        engine.logprobs(batch)
    return (engine.token_layers - before) / max(time.monotonic() - began, 1e-9)
