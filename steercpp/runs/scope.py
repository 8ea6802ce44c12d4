"""How much of a full sweep is measured: all of it, a quick first answer, or what fits into a time.

found.scope.sentence      # "A quick first answer: 18 of 44 behavior items, 80 of 200 everyday answers, ..."
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

ITEM_NAMES = {"behavior": "behavior items", "choice": "questions", "own": "everyday answers"}


@dataclass(frozen=True, slots=True)
class Scope:
    """What is measured of a full sweep; each count stands before that of a full one.

    Attributes:
        quick: whether a quick first answer was asked for.
        budget_s: seconds that all of it may take; None where nothing was said.
        items: (measured, in full), by kind.
        strengths, windows: likewise, of the grid with 0 and of the windows of layers that are compared; (0, 0) where
            they were given.
    """

    quick: bool = False
    budget_s: float | None = None
    items: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    strengths: tuple[int, int] = (0, 0)
    windows: tuple[int, int] = (0, 0)

    @property
    def is_trimmed(self) -> bool:
        """Whether anything is left out."""
        return any(n < full for n, full in (*self.items.values(), self.strengths, self.windows))

    @property
    def width(self) -> float:
        """How many times as wide intervals are as in full, about: they go with 1 / sqrt(n); the widest of all kinds."""
        return max((math.sqrt(full / n) for n, full in self.items.values() if n), default=1.0)

    @property
    def sentence(self) -> str:
        """What was left out, and what that costs; "" where nothing was."""
        if not self.is_trimmed:
            return ""
        counts = {ITEM_NAMES[kind]: pair for kind, pair in self.items.items()} | {"strengths": self.strengths}
        few = ", ".join(f"{n} of {full} {name}" for name, (n, full) in counts.items() if n < full)
        head = "A quick first answer" if self.quick else "Trimmed"
        head += "" if self.budget_s is None else f" to fit into {duration(self.budget_s)}"
        wide = f"about {self.width:.1f} times as wide as in full" if self.width >= 1.05 else "as in full"
        return f"{head}: {few or 'fewer windows of layers'}; intervals are {wide}."

    @property
    def name(self) -> str:
        """What such a sweep is called."""
        kind = "a quick sweep" if self.quick else "a sweep"
        if self.budget_s is not None:
            return f"{kind} within {duration(self.budget_s)}"
        return kind if self.quick else "a full sweep"

    def record(self) -> dict[str, Any]:
        """Plain data for JSON."""
        record = asdict(self)
        items = {kind: list(pair) for kind, pair in self.items.items()}
        pairs = {"strengths": list(self.strengths), "windows": list(self.windows)}
        return {**record, "items": items, **pairs, "sentence": self.sentence}

    @classmethod
    def from_record(cls, record: Mapping[str, Any] | None) -> Scope:
        """What `record` gave; a full sweep for None."""
        if record is None:
            return cls()
        return cls(
            bool(record["quick"]), record["budget_s"],
            {kind: (int(n), int(full)) for kind, (n, full) in record["items"].items()},
            (int(record["strengths"][0]), int(record["strengths"][1])),
            (int(record["windows"][0]), int(record["windows"][1])),
        )  # fmt: skip


def duration(seconds: float) -> str:
    """Seconds in words: in the largest unit of which there is one at least, with at most one decimal.

    >>> duration(90), duration(600), duration(9000)
    ('1.5 minutes', '10 minutes', '2.5 hours')
    """
    units = ((86400.0, "day"), (3600.0, "hour"), (60.0, "minute"), (1.0, "second"))
    size, unit = next((pair for pair in units if seconds >= pair[0]), units[-1])
    n = f"{seconds / size:.1f}".removesuffix(".0")
    return f"{n} {unit}{'' if n == '1' else 's'}"
