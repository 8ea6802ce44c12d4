"""What a scan found; read this for how bands are compared and the best one is chosen.

All sweeps of a scan deal the same items into the same two halves. One half chooses: in each band the strength with the
highest lower bound of the gain within the loss budget (`evidence`), and among the bands the one where that bound is
highest. The figures that are told are of the other half, which had no say, so that the best of many bands does not look
better than it is. The strength of a band is the one that `steercpp report` recommends for its sweep.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from steercpp.runs.result import SweepResult
from steercpp.statistics.evidence import Curves, Weighed, weigh
from steercpp.statistics.scores import Floats
from steercpp.vectors.control_vector import format_layers
from steercpp.vectors.layers import Window


@dataclass(frozen=True, slots=True, eq=False)
class Band:
    """One sweep: a method's vector at some layers.

    Attributes:
        method, layers: what was swept where.
        folder: the run.
        found: the surest strength within the budget.
        slope: of mean normalised B at 0, per unit of strength; between the strengths next to 0 on both sides.
        strengths, raw, b, p: (n_s,) the grid, ascending, and the means over all items of raw B, of normalised B and of
            P(correct).
        n_items: behavior and choice items.
        tokens: of the run's manifest.
        decoded_now: tokens decoded by the call that returned this.
    """

    method: str
    layers: Window
    folder: Path
    found: Weighed
    slope: float
    strengths: Floats
    raw: Floats
    b: Floats
    p: Floats
    n_items: tuple[int, int]
    tokens: dict[str, int]
    decoded_now: int

    @classmethod
    def of(cls, result: SweepResult, *, method: str, layers: Window) -> Band:
        """A finished sweep of behavior and choice items, weighed by its own plan."""
        assert result.behavior is not None and result.choice is not None
        plan = result.manifest["plan"]
        curves = Curves.of(result.behavior, result.choice)
        rng = np.random.default_rng(plan["seed"])
        raw, b, p = (items.mean(axis=1) for items in (curves.raw, curves.normalized, curves.p))
        return cls(
            method=method,
            layers=layers,
            folder=result.folder,
            found=weigh(curves, direction=plan["direction"], max_loss=plan["max_loss"], rng=rng),
            slope=slope_at_0(curves.strengths, b),
            strengths=curves.strengths,
            raw=raw,
            b=b,
            p=p,
            n_items=(curves.raw.shape[1], curves.p.shape[1]),
            tokens=result.manifest["tokens"],
            decoded_now=result.decoded_now,
        )

    @property
    def name(self) -> str:
        """Its layers, "3" or "8-15"."""
        return format_layers(self.layers)

    @property
    def gains(self) -> Floats:
        """(n_s,) mean raw B, over all items, less that at strength 0."""
        gains: Floats = self.raw - self.raw[self.strengths == 0]
        return gains

    @property
    def losses(self) -> Floats:
        """(n_s,) 1 - mean P(correct) / its mean at strength 0, over all items; NaN where that is 0."""
        p_0 = self.p[self.strengths == 0]
        return 1 - self.p / p_0 if p_0 > 0 else np.full(len(self.p), np.nan)

    @property
    def b_gain(self) -> float:
        """Gain in mean normalised B, of the half that did not choose; NaN without a strength."""
        return self.found.b_normalized - self.found.b_normalized_at_0

    @property
    def is_open(self) -> bool:
        """Whether the strongest of the grid is taken and still within the budget, so that more may gain more."""
        wanted = self.strengths[np.sign(self.strengths) == np.sign(self.found.strength or 0.0)]
        return self.found.end is None and abs(self.found.strength or 0.0) == np.abs(wanted).max(initial=np.inf)

    def record(self) -> dict[str, Any]:
        """Plain data for JSON."""
        found = self.found
        return {
            "method": self.method,
            "layers": list(self.layers),
            "run": str(self.folder),
            "strength": found.strength,
            "sure": found.sure,
            "reason": found.reason,
            "over_budget_at": found.end,
            "b_gain": self.b_gain,
            "b_gain_low": found.b_gain_low,
            "reported_on": asdict(found.reported_on) if found.reported_on else None,
            "chosen_on": asdict(found.chosen_on) if found.chosen_on else None,
            "slope": self.slope,
            "strengths": self.strengths.tolist(),
            "b_raw": self.raw.tolist(),
            "b": self.b.tolist(),
            "p_free": self.p.tolist(),
            "tokens": self.tokens,
        }


@dataclass(frozen=True, slots=True, eq=False)
class Scan:
    """All sweeps of a scan.

    Attributes:
        folder: where they are.
        model: the model's file.
        bands: ordered by first layer, width and method.
        unit: of the strengths.
        direction, max_loss: the sign that is wanted, and the budget.
    """

    folder: Path
    model: Path
    bands: tuple[Band, ...]
    unit: str
    direction: int
    max_loss: float

    @property
    def methods(self) -> tuple[str, ...]:
        """Names of the methods, each once."""
        return tuple(dict.fromkeys(band.method for band in self.bands))

    @property
    def windows(self) -> tuple[Window, ...]:
        """The windows, each once."""
        return tuple(dict.fromkeys(band.layers for band in self.bands))

    @property
    def best(self) -> Band | None:
        """The band with the highest lower bound of the gain, on the half that chooses; None if none is sure to gain."""
        sure = [band for band in self.bands if band.found.sure]
        return max(sure, key=_bound, default=None)

    @property
    def doubt(self) -> str:
        """What the half that did not choose does not confirm of the best band; "" where it confirms all."""
        if self.best is None or self.best.found.reported_on is None:
            return ""
        told, doubts = self.best.found.reported_on, []
        if told.gain_low <= 0:
            doubts.append(f"its lower bound of the gain is {told.gain_low:+.3f}")
        if told.loss_high > self.max_loss:
            doubts.append(f"its upper bound of the loss is {told.loss_high:.1%}")
        return " and ".join(doubts)

    @property
    def decoded_now(self) -> int:
        """Tokens decoded by the call that returned this; 0 where all sweeps were finished before."""
        return sum(band.decoded_now for band in self.bands)

    @property
    def tokens(self) -> dict[str, int]:
        """Tokens and token-layers of all sweeps together, and of plain loops over strengths and items."""
        return {key: sum(band.tokens[key] for band in self.bands) for key in self.bands[0].tokens}

    def record(self) -> dict[str, Any]:
        """Plain data for JSON; NaN stands where a number would mean nothing."""
        best = self.best
        n_behavior, n_choice = self.bands[0].n_items
        return {
            "scan": str(self.folder),
            "model": str(self.model),
            "items": {"behavior": n_behavior, "choice": n_choice},
            "unit": self.unit,
            "direction": self.direction,
            "max_loss": self.max_loss,
            "best": None if best is None else {"method": best.method, "layers": list(best.layers)},
            "doubt": self.doubt,
            "bands": [band.record() for band in self.bands],
            "tokens": self.tokens,
        }


def slope_at_0(strengths: Floats, b: Floats) -> float:
    """Slope of B at strength 0: between its neighbours on both sides, or to the only one; NaN without any.

    Args:
        strengths: (n_s,) ascending, 0 among them.
        b: (n_s,).
    """
    at_0 = int(np.flatnonzero(strengths == 0)[0])
    first, last = max(at_0 - 1, 0), min(at_0 + 1, len(strengths) - 1)
    return float((b[last] - b[first]) / (strengths[last] - strengths[first])) if first < last else float("nan")


def _bound(band: Band) -> float:
    assert band.found.chosen_on is not None
    return band.found.chosen_on.gain_low
