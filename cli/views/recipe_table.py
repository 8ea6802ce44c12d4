"""How a fit by a recipe looks: its figures, what it hides, what it does; shared by `fit` and `score`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from steercpp.cli import output
from steercpp.cli.views.fits import INTERVALS, fit_rows

if TYPE_CHECKING:
    from steercpp.statistics.recipes import Recipe, RecipeFit


def recipe_pieces(recipe: Recipe, found: Sequence[RecipeFit]) -> list[output.Renderable]:
    """A table for each measure with the findings below it, then what the recipe does and hides anyway."""
    from steercpp.statistics.recipes import findings

    pieces: list[output.Renderable] = []
    for each in found:
        low, high = each.window
        title = f"{each.measure} by {recipe.name}: {each.fit.n_points} strengths from {low:g} to {high:g}"
        columns: list[output.Column] = [
            ("form and parameters", "left"), ("value", "right"), ("± s.e.", "right"),
            (f"{each.fit.confidence:.0%} interval", "right"),
        ]  # fmt: skip
        pieces.append(output.table(columns, fit_rows(each.fit), title=title))
        pieces += [output.bullet(sentence) for sentence in findings(recipe, each)]
        if each.fit.valid:
            pieces.append(output.text(f"Intervals {INTERVALS[each.fit.intervals]}.", "dim"))
        pieces.append(output.blank())
    pieces += [output.text(f"The recipe {recipe.name}", "bold"), *map(output.bullet, recipe.about)]
    pieces += [output.text("What it hides anyway", "bold"), *map(output.bullet, recipe.faults)]
    pieces.append(output.text(f"Source: {recipe.source}.", "dim"))
    return pieces


def recipe_record(recipe: Recipe, found: Sequence[RecipeFit]) -> dict[str, Any]:
    """The same as plain data."""
    from steercpp.statistics.recipes import findings

    fits = [each.record() | {"findings": findings(recipe, each)} for each in found]
    return {
        "name": recipe.name, "about": recipe.about, "faults": recipe.faults, "source": recipe.source, "fits": fits,
    }  # fmt: skip
