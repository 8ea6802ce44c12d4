"""A matrix of cross effects as plain data: vectors by behaviours, with intervals and floors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Change:
    """A mean over items, steered minus unsteered, and its 95 % interval; NaN for fewer than 5 items.

    `floor` are the same means under random directions of the same lengths.
    """

    value: float
    low: float
    high: float
    floor: tuple[float, ...] = ()

    @property
    def beyond(self) -> bool:
        """Whether its interval lies on one side of 0, and it is larger than under every random direction."""
        sure = self.low > 0 or self.high < 0
        return sure and bool(self.floor) and abs(self.value) > max(map(abs, self.floor))


@dataclass(frozen=True, slots=True)
class Row:
    """What one vector does.

    Attributes:
        name, strength, layers, sha256: of the vector.
        raw, normalized: change of B of each behaviour, P+ - P- and the same over P+ + P-.
        p_correct: change of P(correct) over the whole vocabulary; None without a task.
    """

    name: str
    strength: float
    layers: tuple[int, ...]
    sha256: str
    raw: Mapping[str, Change]
    normalized: Mapping[str, Change]
    p_correct: Change | None


@dataclass(frozen=True, slots=True)
class CrossEffects:
    """The matrix.

    Attributes:
        rows: one for each vector.
        n_items: of each behaviour; n_choice: of the task.
        unsteered_raw, unsteered_normalized: mean B of each behaviour; unsteered_p: mean P(correct), or None.
        cosines: (n_vectors, n_vectors) over all layers that two vectors share; NaN where they share none.
        n_random: random directions for each vector.
        token_layers: computed for it.
    """

    rows: tuple[Row, ...]
    n_items: Mapping[str, int]
    n_choice: int
    unsteered_raw: Mapping[str, float]
    unsteered_normalized: Mapping[str, float]
    unsteered_p: float | None
    cosines: tuple[tuple[float, ...], ...]
    n_random: int
    token_layers: int

    @property
    def behaviors(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(self.n_items)

    def record(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)

    def lines(self) -> Iterator[dict[str, Any]]:
        """The same as rows of a table, one for each vector, behaviour and measure."""
        for row in self.rows:
            columns = [("raw", name, change) for name, change in row.raw.items()]
            columns += [("normalized", name, change) for name, change in row.normalized.items()]
            columns += [("p_correct", "", row.p_correct)] if row.p_correct else []
            for measured, name, one in columns:
                yield {
                    "vector": row.name, "strength": row.strength, "behavior": name, "measure": measured,
                    "change": one.value, "low": one.low, "high": one.high,
                    "floor": max(map(abs, one.floor), default=float("nan")), "beyond": one.beyond,
                }  # fmt: skip
