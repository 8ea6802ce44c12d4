"""Where a model is best steered: a short sweep at each layer and each window of layers. The flow behind `scan`.

    with Engine("model.gguf") as engine:
        found = scan(engine, read_pairs("refusal.jsonl"), behavior=..., choice=..., out=Path("runs/scan"))
    found.best.layers

Each sweep has a folder of its own inside `out`, so that an interrupted scan goes on where it stopped, and each can be
opened as any run. `scan.json` and `scan.png`, `scan.svg` beside them follow from those alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from steercpp.aliases import NAN, Floats, Progress
from steercpp.choices import Unit
from steercpp.data.items import AnswerItem, BehaviorItem, ChoiceItem, OwnItem
from steercpp.data.pairs import ContrastPair, pairs_sha256
from steercpp.data.prompts import Template
from steercpp.engine.engine import Engine
from steercpp.errors import InputError, LayerError, RunError
from steercpp.extraction.activations import Activations, collect
from steercpp.extraction.capture import Token
from steercpp.extraction.extract import extract_from
from steercpp.extraction.methods import METHODS
from steercpp.frames import FrameKind, frame
from steercpp.html import card, note, table
from steercpp.locks import writing
from steercpp.provenance import json_sha256
from steercpp.runs.manifest import MANIFEST, is_finished
from steercpp.runs.result import SweepResult
from steercpp.runs.verdict import MEASURE_WORDS
from steercpp.statistics.recommend import Weighed, weigh
from steercpp.statistics.rounded import percent, plus
from steercpp.sweeps.calibration import KL
from steercpp.sweeps.sweep import sweep
from steercpp.sweeps.units import check_unit
from steercpp.vectors.control_vector import ControlVector
from steercpp.vectors.layers import Window, default_layers, format_layers, windows_of

# Each push twice the one before, for a single layer bears many times the push that a wide band does. The strength of
# the other sign serves the slope at 0.
GRIDS: dict[str, tuple[float, ...]] = {
    "norm": (-0.05, 0.0, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6),
    "kl": (-0.25, 0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0),
    "length": (-0.5, 0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0),
}


@dataclass(frozen=True, slots=True, eq=False)
class Band:
    """One sweep: a method's vector at some layers.

    Attributes:
        method, layers: what was swept where.
        folder: the run.
        found: the surest strength within the budget.
        slope: of mean normalized B at 0, per unit of strength; between the strengths next to 0 on both sides.
        strengths, raw, b, p: (n_s,) the grid, ascending, and the means over all items of raw B, of normalized B and of
            helpfulness, by the measure that a sweep of the same items recommends by.
        gains, losses: (n_s,) the gain in B that each strength earns, and the loss of helpfulness, of all items.
        n_items: behavior items, and those of helpfulness, of own answers those that choose.
        kind: which items helpfulness is of: choice, answer or own.
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
    gains: Floats
    losses: Floats
    n_items: tuple[int, int]
    kind: str
    tokens: dict[str, int]
    decoded_now: int

    @classmethod
    def of(cls, result: SweepResult, *, method: str, layers: Window) -> Band:
        """A finished sweep of behavior items and helpfulness, weighed by its own plan."""
        plan, curves = result.manifest.plan, result.curves()
        assert curves is not None
        rng = np.random.default_rng(plan.seed)
        raw, b, p = (items.mean(axis=1) for items in (curves.behavior.raw, curves.normalized, curves.p))
        return cls(
            method=method, layers=layers, folder=result.folder,
            found=weigh(curves, direction=plan.direction, max_loss=plan.max_loss, rng=rng),
            slope=slope_at_0(curves.strengths, b), strengths=curves.strengths, raw=raw, b=b, p=p, gains=curves.earned,
            losses=curves.losses, n_items=(curves.normalized.shape[1], curves.p.shape[1]), kind=curves.kind,
            tokens={} if result.manifest.tokens is None else result.manifest.tokens.record(),
            decoded_now=result.decoded_now,
        )  # fmt: skip

    @property
    def name(self) -> str:
        """Its layers, "3" or "8-15"."""
        return format_layers(self.layers)

    @property
    def is_open(self) -> bool:
        """Whether the strongest of the grid is taken and still within the budget, so that more may gain more."""
        wanted = self.strengths[np.sign(self.strengths) == np.sign(self.found.strength or 0.0)]
        return self.found.end is None and abs(self.found.strength or 0.0) == np.abs(wanted).max(initial=np.inf)

    def record(self) -> dict[str, Any]:
        """Plain data for JSON."""
        surest = self.found
        return {
            "method": self.method, "layers": list(self.layers), "run": str(self.folder), "strength": surest.strength,
            "sure": surest.sure, "reason": surest.reason, "over_budget_at": surest.end, "doubts": list(surest.doubts),
            "reported_on": surest.reported_on.record() if surest.reported_on else None,
            "chosen_on": surest.chosen_on.record() if surest.chosen_on else None, "slope_at_0": self.slope,
            "strengths": self.strengths.tolist(), "alignment_raw": self.raw.tolist(), "alignment": self.b.tolist(),
            "helpfulness": self.p.tolist(), "tokens": self.tokens,
        }  # fmt: skip


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

    def __repr__(self) -> str:
        """The scan in one line: how many windows and methods, and the best of them."""
        best = "none gains"
        if self.best is not None:
            best = f"best: {self.best.method} at layers {format_layers(self.best.layers)}"
        return (
            f"Scan({str(self.folder)!r}: {len(self.windows)} windows of layers, methods "
            f"{', '.join(self.methods) or 'none'}; {best})"
        )

    def _repr_html_(self) -> str:
        """The scan in a notebook: the best window of layers, and a line for each."""
        best = self.best
        title = "No window of layers is sure to gain within the budget."
        if best is not None:
            title = f"Best: layers {best.name}, {best.method}, at strength {best.found.strength:+.10g}"
        rows = []
        for band in self.bands:
            half, strength = band.found.reported_on, band.found.strength
            figures = ["–"] * 3
            if half is not None and strength is not None:
                gain = f"{plus(half.gain, 2)}, at least {plus(half.gain_low, 2)}"
                figures = [f"{strength:+.10g}", gain, f"{percent(half.loss)}, at most {percent(half.loss_high)}"]
            rows.append((f"{'▶ ' if band is best else ''}{band.name}", band.method, *figures))
        headings = ("layers", "method", "strength", "gain in B", f"loss of {self.helpfulness}" if rows else "loss")
        budget = f"Strengths in the unit {self.unit}; loss of at most {self.max_loss:.0%}; run {self.folder}"
        return card(title, note(self.doubt), table(headings, rows, words=(True, True)), note(budget))

    @property
    def methods(self) -> tuple[str, ...]:
        """Names of the methods, each once."""
        return tuple(dict.fromkeys(band.method for band in self.bands))

    @property
    def windows(self) -> tuple[Window, ...]:
        """The windows, each once."""
        return tuple(dict.fromkeys(band.layers for band in self.bands))

    @property
    def helpfulness(self) -> str:
        """What helpfulness is called: P(correct), P of answers, ..."""
        return MEASURE_WORDS[self.bands[0].kind].name

    @property
    def best(self) -> Band | None:
        """The band with the highest lower bound of the gain, on the half that chooses; None if none is sure to gain."""
        sure = [band for band in self.bands if band.found.sure]
        return max(sure, key=lambda band: band.found.chosen_on.gain_low if band.found.chosen_on else 0.0, default=None)

    @property
    def doubt(self) -> str:
        """What the telling half does not confirm of the best band; "" where it confirms all."""
        return "" if self.best is None else "; ".join(self.best.found.doubts)

    @property
    def decoded_now(self) -> int:
        """Tokens decoded by the call that returned this; 0 where all sweeps were finished before."""
        return sum(band.decoded_now for band in self.bands)

    @property
    def tokens(self) -> dict[str, int]:
        """Tokens and token-layers of all sweeps together, and of plain loops over strengths and items."""
        return {key: sum(band.tokens[key] for band in self.bands) for key in self.bands[0].tokens}

    def to_frame(self, kind: FrameKind = "pandas") -> Any:
        """The scan as a data frame, a row for each sweep.

        Args:
            kind: "pandas" or "polars".

        Returns:
            a DataFrame: `layers` and `method`; the `strength` with the surest gain within the budget, in the scan's
            unit, NaN where there is none; `gain`, `gain_low`, `loss` and `loss_high` there on the items that had no
            part in the choice; `slope_at_0` of B; `is_best`.

        Raises:
            InputError: another kind, or the package is not installed.
        """
        rows = []
        for band in self.bands:
            half = band.found.reported_on
            figures = {name: NAN if half is None else getattr(half, name) for name in
                       ("gain", "gain_low", "loss", "loss_high")}  # fmt: skip
            strength = NAN if band.found.strength is None else band.found.strength
            rows.append({
                "layers": band.name, "method": band.method, "strength": strength, **figures,
                "slope_at_0": band.slope, "is_best": band is self.best,
            })  # fmt: skip
        return frame({name: [row[name] for row in rows] for name in rows[0]} if rows else {}, kind)

    def record(self) -> dict[str, Any]:
        """Plain data for JSON; NaN stands where a number would mean nothing."""
        best = self.best
        n_behavior, n_helpful = self.bands[0].n_items
        items = {"behavior": n_behavior, self.bands[0].kind: n_helpful}
        return {
            "scan": str(self.folder), "model": str(self.model), "items": items,
            "unit": self.unit, "direction": self.direction, "max_loss": self.max_loss,
            "best": None if best is None else {"method": best.method, "layers": list(best.layers)}, "doubt": self.doubt,
            "bands": [band.record() for band in self.bands], "tokens": self.tokens,
        }  # fmt: skip


def scan(
    engine: Engine,
    pairs: Iterable[ContrastPair],
    *,
    behavior: Sequence[BehaviorItem],
    choice: Sequence[ChoiceItem] = (),
    answer: Sequence[AnswerItem] = (),
    own: Sequence[OwnItem] = (),
    out: Path | str,
    windows: Sequence[Window] | None = None,
    methods: Sequence[str] = ("mean",),
    strengths: Sequence[float] | None = None,
    unit: Unit = "norm",
    kl: float = KL,
    direction: int = 1,
    max_loss: float = 0.05,
    seed: int = 0,
    template: Template = "auto",
    token: Token = "last",
    force: bool = False,
    progress: Progress | None = None,
    on_band: Callable[[Band], None] | None = None,
) -> Scan:
    """Sweep a vector of each method at each window of layers, or go on with a scan that was begun.

    Args:
        engine: the model.
        pairs: what the directions are extracted from, a sequence or a file that is read again and again; decoded once,
            at all layers that are steered.
        behavior: items to measure B on.
        choice: items to measure P(correct) on.
        answer: items to measure P of answers on; without choice items they tell helpfulness.
        own: everyday requests with the model's own answers, see sweeps/own_answers.py; likewise, without the others.
        out: the folder.
        windows: the layers of each sweep; by default every layer from 1 on, and every window as wide as the default
            band.
        methods: names in `extraction.methods.METHODS`.
        strengths: the grid, 0 is always measured; by default the unit's of `GRIDS`, turned round for direction -1.
        unit: see sweeps/units.py; all but "length" make strengths at different layers comparable.
        kl: for the unit "kl", the nats of strength 1.
        direction: +1 or -1, the sign of the strengths that are wanted.
        max_loss: the loss budget, a share of mean P(correct).
        seed: deals the items into halves, the same for all sweeps.
        template: how the pairs' prompts become text, see `collect`.
        token: whose activation is taken, likewise.
        force: replace the sweeps that are there.
        progress: called with (tokens done, of how many, what is being measured), over the whole scan.
        on_band: called with each sweep's outcome, as soon as it is finished.

    Raises:
        InputError: no pairs or items of a kind, an unknown method, an option out of range.
        LayerError: a window outside the model.
        RunError: `out` cannot be used, or another process writes there.
        EngineError, ...: as `sweep` and `extract`. Every finished sweep is kept in all cases.

    >>> found = scan(
    ...     engine, pairs[:8], behavior=behavior, choice=choice, out="scan", windows=[(4,), (5, 6)],
    ...     strengths=(-0.2, 0.2),
    ... )
    >>> found.windows, found.methods
    (((4,), (5, 6)), ('mean',))
    """
    out = Path(out)
    check_methods(methods)
    if not behavior or not (choice or answer or own):
        raise InputError("a scan needs behavior items, and choice, answer or own items: it weighs gain against loss")
    checked_windows = _checked(windows, engine.n_layer)
    check_unit(unit, kl)
    grid = tuple(strengths) if strengths is not None else tuple(direction * s for s in GRIDS[unit])
    if (out / MANIFEST).exists():
        raise RunError(f"{out}: is the folder of a single sweep; choose another folder for the scan with `out`")
    layers = sorted({il for window in checked_windows for il in window})
    source = {"pairs": pairs_sha256(pairs), "template": template, "token": token}

    # The pairs are decoded once, and only if a sweep is not finished yet
    @cache
    def activations() -> Activations:
        return collect(engine, pairs, template=template, token=token, layers=layers)

    @cache
    def directions(method: str) -> ControlVector:
        return extract_from(activations(), method=method, layers=layers)

    # Each window by each method is a sweep in its own folder
    bands: list[Band] = []
    jobs = [(window, method) for window in checked_windows for method in dict.fromkeys(methods)]
    folders = [out / folder_name(method, window) for window, method in jobs]
    # A finished scan is read, also where nothing can be written
    with nullcontext() if not force and all(map(is_finished, folders)) else writing(out):
        for number, (window, method) in enumerate(jobs):
            place = f"layer{'s' if len(window) > 1 else ''} {format_layers(window)}"
            result = sweep(
                engine,
                lambda method=method, window=window: directions(method).restricted_to(window),  # type: ignore[misc]
                vector_id=json_sha256({**source, "method": method, "layers": list(window)}),
                behavior=behavior, choice=choice, answer=answer, own=own, strengths=grid,
                out=out / folder_name(method, window), unit=unit, kl=kl, random_directions=0, orthogonal=False,
                prompt_baseline=False, direction=direction, max_loss=max_loss, seed=seed, force=force,
                progress=progress and _part_of_scan(progress, number, len(jobs), f"{place}, {method}"),
            )  # fmt: skip
            bands.append(Band.of(result, method=method, layers=window))
            if on_band is not None:
                on_band(bands[-1])
    return Scan(out, engine.path, tuple(bands), unit, direction, max_loss)


def check_methods(methods: Sequence[str]) -> None:
    """Make sure that each is a name in `extraction.methods.METHODS`.

    Raises:
        InputError: one is not; the message names what is near.
    """
    if not methods:
        raise InputError(f"no method was given; use one of {', '.join(METHODS)}")
    for method in methods:
        if method not in METHODS:
            near = get_close_matches(method, METHODS, n=1)
            hint = f"did you mean {near[0]}? They are" if near else "use one of"
            raise InputError(f"method {method!r} is unknown; {hint} {', '.join(METHODS)}")


def default_windows(n_layer: int, *, width: int | None = None) -> tuple[Window, ...]:
    """Every layer from 1 on, and every window as wide as the default band or as `width`."""
    layers = range(1, n_layer)
    wide = width or len(default_layers(n_layer))
    return tuple(
        sorted({*windows_of(1, layers), *windows_of(wide, layers)}, key=lambda window: (window[0], len(window)))
    )


def folder_name(method: str, window: Window) -> str:
    """Name of a sweep's folder inside the scan's."""
    return f"{method}-layer{'s' if len(window) > 1 else ''}-{format_layers(window)}"


def _checked(windows: Sequence[Window] | None, n_layer: int) -> list[Window]:
    """The windows of a scan, each once and in order.

    Raises:
        LayerError: there is none, or one lies outside the model.
    """
    if windows is None:
        return list(default_windows(n_layer))
    if not windows or not all(windows):
        raise LayerError("no layers to scan; name one window at least")
    for window in windows:
        if outside := [il for il in window if not 0 <= il < n_layer]:
            raise LayerError(f"layer {outside[0]} does not exist; the model has layers 0..{n_layer - 1}")
    unique = {tuple(sorted(set(window))) for window in windows}
    return sorted(unique, key=lambda window: (window[0], len(window)))


def _part_of_scan(progress: Progress, number: int, of: int, label: str) -> Progress:
    """Progress of one sweep as progress of the scan: all have the same items and strengths."""

    def report(done: int, total: int, what: str) -> None:
        progress(number * total + done, of * total, f"{label} ({number + 1} of {of}): {what}")

    return report


def slope_at_0(strengths: Floats, b: Floats) -> float:
    """Slope of B at strength 0: between its neighbors on both sides, or to the only one; NaN without any.

    Args:
        strengths: (n_s,) ascending, 0 among them.
        b: (n_s,).
    """
    at_0 = int(np.flatnonzero(strengths == 0)[0])
    first, last = max(at_0 - 1, 0), min(at_0 + 1, len(strengths) - 1)
    return float((b[last] - b[first]) / (strengths[last] - strengths[first])) if first < last else float("nan")
