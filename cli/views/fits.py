"""How fits look in a terminal: a line for the form, then one for each parameter; shared by `fit` and `score`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from steercpp.cli import output

if TYPE_CHECKING:
    from steercpp.statistics.fits import Estimate, FitResult
if TYPE_CHECKING:
    from steercpp.statistics.recipes import Recipe, RecipeFit


NAMES = {"delta_lambda": "Delta*lambda", "b": "b = lambda*sigma*beta"}
INTERVALS = {
    "residuals": "from residuals: a curve has no items to resample, so they may be too narrow",
    "items": "by resampling items",
}


def fit_pieces(fits: Mapping[str, tuple[FitResult, ...]]) -> list[output.Renderable]:
    """A table for each measure, best form first, with the formulas and what the intervals are of."""
    pieces: list[output.Renderable] = []
    for name, found in fits.items():
        title = f"{name}: {found[0].n_points} points, best form first"
        columns: list[output.Column] = [
            ("form and parameters", "left"), ("value", "right"), ("± s.e.", "right"),
            (f"{found[0].confidence:.0%} interval", "right"),
        ]  # fmt: skip
        pieces.append(output.table(columns, [row for each in found for row in fit_rows(each)], title=title))
        pieces += [output.text(f"{each.form}: {each.reason}.", "yellow") for each in found if not each.valid]
        if any(each.valid for each in found):
            pieces += [output.text(f"{each.form} = {each.shape.formula}", "dim") for each in found if each.valid]
            pieces.append(output.text(f"Intervals {INTERVALS[found[0].intervals]}.", "dim"))
        pieces.append(output.blank())
    return pieces[:-1]


def fit_rows(found: FitResult) -> list[list[output.Cell]]:
    """The form with its own figures, then a line for each parameter."""
    form = output.text(found.form, "bold")
    if not found.valid:
        return [[form, "", "", output.text("not valid", "yellow")]]
    return [
        [form, "", "", f"R² {found.r2:.3f}  AICc {found.aicc:.1f}"],
        *([f"  {NAMES.get(name, name)}", *_figures(estimate)] for name, estimate in found.params.items()),
    ]


def _figures(estimate: Estimate) -> list[output.Cell]:
    value, se, low, high = map(_number, (estimate.value, estimate.se, estimate.low, estimate.high))
    return [value, se, f"{low} to {high}"]


def _number(value: float) -> str:
    return f"{value:.3f}" if 0.01 <= abs(value) < 1000 or value == 0 else f"{value:.2e}"


# FOLD: How a fit by a recipe looks: its figures, what it hides, what it does; shared by `fit` and `score`.
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
