"""Several runs in a table: what each comes to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from steercpp.cli import output
from steercpp.cli.views.pieces import relative, share, signed
from steercpp.statistics.rounded import plus

if TYPE_CHECKING:
    from steercpp.reports.compared import ComparedRun


def comparison_pieces(runs: Sequence[ComparedRun], page: Path) -> list[output.Renderable]:
    """A line for each run, then where they differ in what was measured, and the page."""
    from steercpp.reports.compared import NO_USE, differences, loss_bound_text
    from steercpp.runs.verdict import layers_text

    columns: list[output.Column] = [
        ("run", "left"), ("layers", "left"), ("use", "right"), ("gain in B", "right"), ("at least", "right"),
        ("cost", "right"), ("at most", "right"),
    ]  # fmt: skip
    rows: list[list[output.Cell]] = []
    for run in runs:
        verdict = run.verdict
        rows.append([
            output.text(run.name), layers_text(run.judgement.result.manifest.vector.layers),
            NO_USE[verdict.kind] if verdict.strength is None else signed(verdict.strength),
            *(("–", "–") if verdict.gain is None else (plus(verdict.gain.value, 2), plus(verdict.gain.low, 2))),
            *(("–", "–") if verdict.cost is None else (share(verdict.cost.value), loss_bound_text(verdict.cost.high))),
        ])  # fmt: skip
    warned = [name for name, words in differences(runs) if not words.startswith("the same")]
    pieces: list[output.Renderable] = [output.table(columns, rows)]
    if warned:
        pieces.append(output.text(f"They differ in: {', '.join(warned)}.", "yellow"))
    pieces.append(output.joined([(relative(page), ""), (" shows curves, texts and what may be compared", "dim")]))
    return pieces
