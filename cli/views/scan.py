"""What a person sees of a scan: a line for each sweep, the best band, and what comes next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from steercpp.cli import output
from steercpp.cli.views.pieces import files_pieces, relative, share
from steercpp.encoding import shell_word
from steercpp.runs.labels import strengths_in
from steercpp.statistics.rounded import chosen_percent, fixed, plus

if TYPE_CHECKING:
    from steercpp.experiments.scan import Band, Scan

UNITS = {
    "norm": "of the residual norm per layer",
    "kl": "pushes of --kl nats",
    "length": "long per layer",
}


def band_table(bands: Sequence[Band], *, best: Band | None, methods: bool, layers: bool = True) -> output.Renderable:
    """A line for each sweep, within 80 columns.

    Args:
        bands: the sweeps.
        best: which of them is marked.
        methods: whether a column tells the method.
        layers: whether a column tells the layers.
    """
    first = [*(["layers"] if layers else []), *(["method"] if methods else [])]
    columns: list[output.Column] = [(f"  {name}" if i == 0 else name, "left") for i, name in enumerate(first)]
    columns += [("at", "right"), ("gain in B", "right"), ("loss", "right"), ("slope", "right")]
    return output.table(columns, [_line(band, band is best, methods, layers) for band in bands])


def _line(band: Band, best: bool, methods: bool, layers: bool) -> list[output.Cell]:
    recommended, half = band.found, band.found.reported_on
    style = "bold green" if best else "" if recommended.sure else "dim"
    cells = [*([band.name] if layers else []), *([band.method] if methods else [])]
    cells[0] = f"{'▶' if best else ' '} {cells[0]}"
    if recommended.strength is None or half is None:
        cells += ["–", "–", "–"]
    else:
        cells += [
            f"{recommended.strength:+g}",
            f"{plus(half.gain, 2)} ≥ {fixed(half.gain_low, 2)}",
            f"{share(half.loss)} ≤ {share(half.loss_high)}",
        ]
    cells.append(plus(band.slope, 2))
    return [output.text(cell, style) for cell in cells]


def closing(scan: Scan, items_of: Mapping[str, int], files: Sequence[Path], command: str) -> list[output.Renderable]:
    """The table, the panel with what to know, the files and the next commands."""
    pieces: list[output.Renderable] = []
    several, one_window = len(scan.methods) > 1, len(scan.windows) == 1
    best = scan.best
    if several and one_window:
        bands = sorted(scan.bands, key=lambda band: -_gain(band))
        pieces.append(band_table(bands, best=best, methods=True, layers=False))
    elif several:
        for method in scan.methods:
            own = [band for band in scan.bands if band.method == method]
            pieces += [output.text(f" {method}", "bold"), band_table(own, best=best, methods=False)]
    else:
        pieces.append(band_table(scan.bands, best=best, methods=False))
    pieces.append(output.panel(*_panel(scan, items_of), title=_title(scan)))
    pieces += files_pieces(files)
    if best is not None:
        pieces.append(output.text("Next", "dim"))
        pieces.append(output.verbatim(f"  {command}"))
        pieces.append(output.verbatim(f"  steercpp report {shell_word(relative(best.folder))}"))
    return pieces


def _gain(band: Band) -> float:
    return band.found.reported_on.gain if band.found.reported_on else float("-inf")


def _title(scan: Scan) -> str:
    if len(scan.windows) == 1:
        return f"{scan.model.name}, layer{'s' if len(scan.windows[0]) > 1 else ''} {scan.bands[0].name}"
    return f"{scan.model.name}, {len(scan.windows)} windows of layers"


def _panel(scan: Scan, items_of: Mapping[str, int]) -> list[output.Renderable]:
    best = scan.best
    facts: list[tuple[str, output.Cell]] = []
    if best is None or best.found.reported_on is None:
        head = output.text("No band is sure to gain within the budget.", "yellow")
    else:
        half, strength = best.found.reported_on, best.found.strength
        what = f"layer{'s' if len(best.layers) > 1 else ''} {best.name}"
        what += f", {best.method}" if len(scan.methods) > 1 else ""
        head = output.text(f"Best: {what}, at {strength:+g} {UNITS[scan.unit]}", "bold green")
        facts += [
            ("gain", f"{plus(half.gain)} in B, at least {plus(half.gain_low)}"),
            ("loss", f"{share(half.loss)} of {scan.helpfulness}, at most {share(half.loss_high)}"),
        ]
    (n_behavior, n_helpful), kind = scan.bands[0].n_items, scan.bands[0].kind
    tokens, n_strengths = scan.tokens, len(scan.bands[0].strengths)
    of_plain = tokens["token_layers"] / tokens["token_layers_plain"]
    facts += [
        ("items", f"{n_behavior} of {items_of['behavior']} behavior, {n_helpful} of {items_of[kind]} {kind}"),
        ("work", f"{len(scan.bands)} sweeps of {n_strengths} strengths, {tokens['token_layers']:,} token-layers: "
                 f"{of_plain:.2f} of a plain loop's"),
    ]  # fmt: skip
    return [head, output.blank(), output.facts(facts), output.blank(), *_notes(scan)]


def _notes(scan: Scan) -> list[output.Renderable]:
    notes: list[output.Renderable] = [
        output.text(
            f"Each line: the strength with the largest certain gain within a loss of {chosen_percent(scan.max_loss)}, "
            "chosen on one half of the items; gain and loss with 95% bounds, of the other half, not beside random "
            f"directions. slope: of B at 0, per unit of strength. Strengths in {strengths_in(scan.unit)}.",
            "dim",
        )
    ]
    if scan.doubt:
        notes.append(output.text(f"The other half does not confirm the best: {scan.doubt}.", "yellow"))
    if scan.best is not None and scan.best.is_open:
        notes.append(output.text("Its budget is not used up: a larger grid with --strengths may gain more.", "yellow"))
    return notes
