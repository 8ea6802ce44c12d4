"""How fits look in a terminal: a line for the form, then one for each parameter; shared by `fit` and `score`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from steercpp.cli import output

if TYPE_CHECKING:
    from steercpp.statistics.fits import Estimate, FitResult

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
