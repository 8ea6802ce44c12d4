"""What each measure tells on a model, as a table; and why a model cannot be measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from steercpp.cli import output
from steercpp.cli.words import in_options
from steercpp.runs.scope import ITEM_NAMES

if TYPE_CHECKING:
    from steercpp.cli.options.preparation import Planned
    from steercpp.runs.preparation import Preparation

NEXT = (
    "Next: --behavior FILE with continuations of your own, or another model file. A chat model of the same size that "
    "was trained to follow instructions can mostly be measured."
)


def signal_pieces(found: Preparation) -> list[output.Renderable]:
    """The verdict where nothing can be measured, and the table."""
    pieces: list[output.Renderable] = []
    if found.reason:
        pieces += [
            output.text("This model cannot be measured so, and nothing was swept.", "bold yellow"),
            output.text(f"{in_options(found.reason[:1].upper() + found.reason[1:])}."),
        ]
    rows: list[list[output.Cell]] = [
        [
            signal.measure, output.text("yes", "green") if signal.tells else output.text("no", "yellow"),
            in_options(signal.words),
        ]
        for signal in found.signals
    ]  # fmt: skip
    pieces.append(output.table([("measure", "left"), ("tells", "left"), ("on this model", "left")], rows))
    if found.reason:
        pieces.append(output.text(NEXT))
    return pieces


def plan_pieces(planned: Planned) -> list[output.Renderable]:
    """The table, and what the sweep will take."""
    pieces = signal_pieces(planned.found)
    if (work := planned.work) is not None:
        counts = ", ".join(f"{len(items)} {ITEM_NAMES[kind]}" for kind, items in planned.found.items.items())
        if planned.found.scope.sentence:
            pieces.append(output.text(planned.found.scope.sentence, "yellow"))
        pieces.append(output.facts([
            ("measured on", counts),
            ("work", f"{work.n_tokens:,} tokens, {(work.token_layers + work.to_find) / 1e6:.1f} million token-layers"),
            ("time", f"about {max(planned.seconds / 60, 0.1):.1f} minutes in all, at the speed of this look"),
            ("memory", f"{work.n_bytes / 2**20:.0f} MiB for unsteered passes, beside the model"),
        ]))  # fmt: skip
    return pieces


def not_measured(found: Preparation) -> dict[str, Any]:
    """Plain data for JSON: the verdict of a model on which nothing was swept."""
    verdict = {"kind": "unmeasurable", "headline": "this model cannot be measured so", "reason": found.reason}
    return {"event": "result", "verdict": verdict, "preparation": found.record()}
