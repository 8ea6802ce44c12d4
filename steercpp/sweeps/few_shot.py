"""How a base model is asked for a side: by examples, for it goes on with texts and hardly heeds words.

    asked = by_example(items)          # of items with listed continuations
    own_continuations(engine, asked.items, instruction=asked.aligned, opposite=asked.misaligned, by_subject={})

The first items are the examples: each prompt with its first aligned continuation stands before every other prompt, or
with its first misaligned one. They are measured no more, for their continuations are given away.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from steercpp.data.items import BehaviorItem
from steercpp.sweeps.own_continuations import Request

EXAMPLES = 3
WHY_NOT = (
    "a base model, which has no chat template, hardly heeds words: it is asked by the first "
    f"{EXAMPLES} behavior items, as plain texts with listed continuations, and there are too few; give more with "
    "`behavior`"
)


@dataclass(frozen=True, slots=True)
class ByExample:
    """Items to be answered, and the examples of either side that stand before them."""

    items: tuple[BehaviorItem, ...]
    aligned: str
    misaligned: str


def by_example(items: Sequence[BehaviorItem | Request], *, between: str = "\n\n") -> ByExample | None:
    """The items behind the examples, and the examples; None where too few have plain prompts and listed continuations.

    Args:
        items: what is asked.
        between: stands between two examples.
    """
    listed = [item for item in items if isinstance(item, BehaviorItem) and isinstance(item.prompt, str)]
    if len(listed) <= EXAMPLES:
        return None
    shown, others = listed[:EXAMPLES], tuple(listed[EXAMPLES:])
    aligned = between.join(f"{item.prompt}{item.aligned[0]}".strip() for item in shown)
    misaligned = between.join(f"{item.prompt}{item.misaligned[0]}".strip() for item in shown)
    return ByExample(others, aligned, misaligned)
