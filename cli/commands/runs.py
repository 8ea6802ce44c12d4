"""`steercpp runs`: what runs there are, and how far each is."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from steercpp.cli import output
from steercpp.cli.grouped_help import Command
from steercpp.cli.options.common import FILE, json_option
from steercpp.cli.words import in_options

if TYPE_CHECKING:
    from steercpp.runs.listing import RunSummary

_UNITS = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))


@click.command(cls=Command)
@click.argument("folder", required=False, type=FILE)
@json_option
def runs(folder: Path | None, as_json: bool) -> None:
    """List the runs in a folder, with what each recommends.

    FOLDER is runs/ by default, and runs in the folders within it are listed too. Of an unfinished run the strengths
    are counted at which all items are measured; the command that began it resumes it.

    \b
    Example: steercpp runs
             steercpp runs studies/fairness --json
    """  # noqa: D301
    from steercpp.runs.listing import list_runs

    folder = folder or Path("runs")
    found = list_runs(folder)
    output.emit({"runs": [run.record() for run in found]}, as_json=as_json, render=lambda: _pieces(folder, found))


def _pieces(folder: Path, found: list[RunSummary]) -> list[output.Renderable]:
    """A table, and below it what is wrong with damaged runs."""
    if not found:
        return [output.text(f"no runs in {folder}; `steercpp sweep` makes one")]
    now = datetime.now(UTC)
    rows = [
        (
            str(run.folder), run.model, run.vector, _progress(run),
            "" if run.recommended_strength is None else f"{run.recommended_strength:+.4g}",
            _age(now, run.changed),
        )
        for run in found
    ]  # fmt: skip
    columns: list[output.Column] = [
        ("run", "left"), ("model", "left"), ("vector", "left"), ("state", "left"), ("use", "right"), ("age", "right")
    ]  # fmt: skip
    reasons = [output.bullet(in_options(run.reason)) for run in found if run.reason]
    return [output.table(columns, rows), *reasons]


def _progress(run: RunSummary) -> str:
    if run.state in ("finished", "damaged"):
        return run.state
    return f"{run.state}, {run.n_finished} of {run.n_strengths} strengths"


def _age(now: datetime, changed: str) -> str:
    """How long ago, in the largest unit that it has one of."""
    seconds = max(0.0, (now - datetime.fromisoformat(changed)).total_seconds())
    name, size = next(((name, size) for name, size in _UNITS if seconds >= size), _UNITS[-1])
    return f"{int(seconds // size)} {name}"
