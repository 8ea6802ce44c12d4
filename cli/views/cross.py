"""How a matrix of cross effects looks in a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steercpp.cli import output
from steercpp.cli.views.pieces import relative
from steercpp.statistics.rounded import places_of, plus

if TYPE_CHECKING:
    from steercpp.experiments.cross import Change, CrossEffects, CrossRow

ABREAST = 4  # columns with intervals that a terminal of 80 has room for
NAME = 18  # letters


def cross_pieces(effects: CrossEffects, unit: str, files: Sequence[Path]) -> list[output.Renderable]:
    """The tables of changes, the cosines, and what the marks mean."""
    n_items = ", ".join(f"{name} {n}" for name, n in effects.n_items.items())
    floor = (
        f"* its interval excludes 0, and it is larger than under each of {effects.n_random} random directions of the "
        "same lengths, the largest of which stands below it; a rise of B also takes likelier aligned answers and half "
        "of their mass"
    )
    return [
        output.text(f"Strengths in the unit {unit}; items: {n_items}" + (
            f"; questions {effects.n_choice}" if effects.n_choice else "")),
        *_changes(effects, "raw", "Change of B, P+ − P−"),
        *_changes(effects, "normalized", "Change of B, normalized"),
        *_cosines(effects),
        output.blank(),
        *([output.text(floor, "dim")] if effects.n_random else ()),
        *([output.text("Files", "dim"), output.verbatim(f"  {relative(files[0].with_suffix(''))}.json .png .svg .csv")]
          if files else ()),
    ]  # fmt: skip


def _changes(effects: CrossEffects, measured: str, title: str) -> list[output.Renderable]:
    """Tables of as many columns as there is room for; the unsteered mean comes first, the floor below each vector."""
    from steercpp.reports.labels import short_names

    unsteered = getattr(effects, f"unsteered_{measured}")
    headings = zip(short_names(effects.behaviors, NAME), effects.behaviors, strict=True)
    columns = [(heading, unsteered[name], _of(measured, name)) for heading, name in headings]
    vectors = short_names([row.name for row in effects.rows], NAME - 7)
    if measured == "raw" and effects.unsteered_p is not None:
        columns.append(("P(correct)", effects.unsteered_p, lambda row: row.p_correct))
    pieces: list[output.Renderable] = []
    for first in range(0, len(columns), ABREAST):
        abreast = columns[first : first + ABREAST]
        rows: list[list[output.Cell]] = [["unsteered", *(plus(value) for _, value, _ in abreast)]]
        for vector, row in zip(vectors, effects.rows, strict=True):
            rows.append([f"{vector} {row.strength:+g}", *(_cell(get(row)) for _, _, get in abreast)])
            if effects.n_random:
                floors = [max(map(abs, get(row).floor)) for _, _, get in abreast]
                rows.append(
                    [output.text("  random", "dim"), *(output.text(f"±{floor:.3f}", "dim") for floor in floors)]
                )
        heads: list[output.Column] = [("", "left"), *((name, "right") for name, _, _ in abreast)]
        pieces.append(output.table(heads, rows, title=f" {title}"))
    return pieces


def _of(measured: str, name: str) -> Any:
    def get(row: CrossRow) -> Change:
        change: Change = getattr(row, measured)[name]
        return change

    return get


def _cell(change: Change) -> output.Cell:
    places = places_of([(change.high - change.low) / 4])
    value = f"{plus(change.value, places)}{'*' if change.beyond else ''}"
    interval = f"\n{plus(change.low, places)}…{plus(change.high, places)}" if change.low == change.low else ""
    return output.text(value + interval, "bold" if change.beyond else "")


def _cosines(effects: CrossEffects) -> list[output.Renderable]:
    if len(effects.rows) < 2:
        return []
    from steercpp.reports.labels import short_names

    names = short_names([row.name for row in effects.rows], NAME)
    rows: list[list[output.Cell]] = [
        [f"{place + 1} {name}", *(plus(value, 2) for value in row)]
        for place, (name, row) in enumerate(zip(names, effects.cosines, strict=True))
    ]
    headings: list[output.Column] = [("", "left"), *((str(place + 1), "right") for place in range(len(names)))]
    return [output.table(headings, rows, title=" Cosines")]
