"""What became of a vector on another model file; read this for what "carries over" means here."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from steercpp.experiments.scan_result import Band
from steercpp.statistics.evidence import Evidence
from steercpp.vectors.layers import Window

CARRIES, PARTLY = 0.9, 0.5  # shares of the gain of B's own vector


@dataclass(frozen=True, slots=True)
class LayerCosines:
    """Cosines at one layer; NaN where the vector has no direction.

    Attributes:
        layer: which.
        between: of the directions that were extracted on A and on B.
        with_a, with_b: of the vector with each of them.
    """

    layer: int
    between: float
    with_a: float
    with_b: float


@dataclass(frozen=True, slots=True, eq=False)
class Transfer:
    """A vector on two model files.

    Attributes:
        folder: where the runs are.
        a, b: the files.
        layers: where the vector steers.
        method: by which A's and B's own directions were extracted.
        direction, max_loss: the wanted sign, and the budget.
        cosines: for each layer from 1 on; none without pairs.
        bands: by name, "vector-on-a", "vector-on-b", "own-on-b"; none without items, no "own-on-b" without pairs.
        notes: what makes the comparison another one than it seems, a sentence each.
    """

    folder: Path
    a: Path
    b: Path
    layers: Window
    method: str
    direction: int
    max_loss: float
    cosines: tuple[LayerCosines, ...]
    bands: Mapping[str, Band]
    notes: tuple[str, ...]

    @property
    def share(self) -> float:
        """The vector's gain on B, as a share of that of B's own; NaN where either is missing or the latter not sure."""
        foreign, own = self.bands.get("vector-on-b"), self.bands.get("own-on-b")
        if foreign is None or own is None or not own.found.sure:
            return math.nan
        assert own.found.reported_on is not None
        gained = foreign.found.reported_on.gain if foreign.found.sure and foreign.found.reported_on else 0.0
        return gained / own.found.reported_on.gain if own.found.reported_on.gain > 0 else math.nan

    @property
    def conclusion(self) -> str:
        """One sentence: whether the effect carries over, else whether the directions do."""
        alike = self._alike()
        if not self.bands:
            return f"{alike[:1].upper()}{alike[1:]}; whether its effect carries over takes behavior and choice items."
        foreign, own = self.bands["vector-on-b"], self.bands.get("own-on-b")
        told = _told(foreign)
        end = f"; {alike}" if alike else ""
        if own is None:
            home = self.bands["vector-on-a"]
            return f"On B the vector {told} within a loss of {self.max_loss:.0%}, on A it {_told(home)}{end}."
        if math.isnan(self.share):
            return f"It cannot be told whether the vector carries over, for B's own {_told(own)} on B{end}."
        verdict = (
            "The vector carries over" if self.share >= CARRIES
            else "The vector carries over in part" if self.share >= PARTLY
            else "The vector does not carry over"
        )  # fmt: skip
        return (
            f"{verdict}: on B it {told} within a loss of {self.max_loss:.0%}, {self.share:.0%} of what B's own vector "
            f"does, which {_told(own)}{end}."
        )

    def _alike(self) -> str:
        """How alike the directions of A and B are where the vector steers, in words; "" where they are not known."""
        at = [row.between for row in self.cosines if row.layer in self.layers]
        if not at:
            return ""
        return f"the directions of A and B have a cosine of {np.mean(at):.3f} at the steered layers"

    def record(self) -> dict[str, Any]:
        """Plain data for JSON; NaN stands where a number would mean nothing."""
        return {
            "transfer": str(self.folder),
            "a": str(self.a),
            "b": str(self.b),
            "layers": list(self.layers),
            "method": self.method,
            "direction": self.direction,
            "max_loss": self.max_loss,
            "cosines": [asdict(row) for row in self.cosines],
            "runs": {name: band.record() for name, band in self.bands.items()},
            "share": self.share,
            "conclusion": self.conclusion,
            "notes": list(self.notes),
        }


def _told(band: Band) -> str:
    found: Evidence | None = band.found.reported_on
    if found is None or not band.found.sure:
        return "is not sure to gain anything"
    return f"gains {found.gain:+.2f} in P+ − P− (at least {found.gain_low:+.2f})"
