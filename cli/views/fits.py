"""How fits look in a terminal, the theory's and those by a published recipe; shared by `fit` and `score`.

A fit is a line for its form, then one for each parameter; a recipe tells besides what it does and what it hides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from steercpp.cli import output
from steercpp.cli.terminal import is_plain
from steercpp.statistics.rounded import fixed, rounded

if TYPE_CHECKING:
    from steercpp.statistics.fits import Estimate, FitResult
    from steercpp.statistics.recipes import Recipe, RecipeFit

NAMES = {"delta_lambda": "Δλ", "b": "b = λσβ"}
INTERVALS = {
    "residuals": "from residuals: a curve has no items to resample, so they may be too narrow",
    "items": "by resampling items",
}


def fit_pieces(fits: Mapping[str, tuple[FitResult, ...]]) -> list[output.Renderable]:
    """A table for each measure, best form first, with the formulas and what the intervals are of."""
    pieces: list[output.Renderable] = []
    for name, forms in fits.items():
        title = f"{name}: {forms[0].n_points} points, best form first"
        columns: list[output.Column] = [
            ("form and parameters", "left"), ("value", "right"), ("± s.e.", "right"),
            (f"{forms[0].confidence:.0%} interval", "right"),
        ]  # fmt: skip
        pieces.append(output.table(columns, [row for fit in forms for row in fit_rows(fit)], title=title))
        pieces += [output.text(f"{fit.form}: {fit.reason}.", "yellow") for fit in forms if not fit.valid]
        if any(fit.valid for fit in forms):
            pieces += [output.text(f"{fit.form} = {fit.shape.formula}", "dim") for fit in forms if fit.valid]
            pieces.append(output.text(f"Intervals {INTERVALS[forms[0].intervals]}.", "dim"))
        pieces.append(output.blank())
    return pieces[:-1]


def fit_rows(fit: FitResult) -> list[list[output.Cell]]:
    """The form with its own figures, then a line for each parameter."""
    figures = f"R² {fixed(fit.r2, 3)}  AICc {fixed(fit.aicc, 1)}" if fit.valid else "not valid"
    form: list[output.Cell] = [
        output.text(fit.form, "bold"), "", "", output.text(figures, "" if fit.valid else "yellow")
    ]  # fmt: skip
    if is_plain():  # where each cell is read with its heading, they are no interval
        form = [output.text(f"{fit.form}, {figures}"), "", "", ""]
    return [
        form,
        *([f"  {NAMES.get(name, name)}", *_figures(of)] for name, of in fit.params.items() if fit.valid),
    ]


def _figures(estimate: Estimate) -> list[output.Cell]:
    numbers = (estimate.value, estimate.se, estimate.low, estimate.high)
    value, se, low, high = (rounded(number, estimate.se) for number in numbers)
    return [value, se, f"{low} to {high}"]


def recipe_pieces(recipe: Recipe, fits: Sequence[RecipeFit]) -> list[output.Renderable]:
    """A table for followed measure with the findings below it, then what the recipe does and hides anyway."""
    from steercpp.statistics.recipes import findings

    pieces: list[output.Renderable] = []
    for followed in fits:
        low, high = followed.window
        title = f"{followed.measure} by {recipe.name}: {followed.fit.n_points} strengths from {low:g} to {high:g}"
        columns: list[output.Column] = [
            ("form and parameters", "left"), ("value", "right"), ("± s.e.", "right"),
            (f"{followed.fit.confidence:.0%} interval", "right"),
        ]  # fmt: skip
        pieces.append(output.table(columns, fit_rows(followed.fit), title=title))
        pieces += [output.bullet(sentence) for sentence in findings(recipe, followed)]
        if followed.fit.valid:
            pieces.append(output.text(f"Intervals {INTERVALS[followed.fit.intervals]}.", "dim"))
        pieces.append(output.blank())
    pieces += [output.text(f"The recipe {recipe.name}", "bold"), *map(output.bullet, recipe.about)]
    pieces += [output.text("What it hides anyway", "bold"), *map(output.bullet, recipe.faults)]
    pieces.append(output.text(f"Source: {recipe.source}.", "dim"))
    return pieces


def recipe_record(recipe: Recipe, fits: Sequence[RecipeFit]) -> dict[str, Any]:
    """The same as plain data."""
    from steercpp.statistics.recipes import findings

    records = [followed.record() | {"findings": findings(recipe, followed)} for followed in fits]
    return {
        "name": recipe.name, "about": recipe.about, "faults": recipe.faults, "source": recipe.source, "fits": records,
    }  # fmt: skip
