"""`steercpp fit`: the theory's curves through points of a CSV file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from steercpp.cli import output

if TYPE_CHECKING:
    from steercpp.theory import Estimate, FitResult

Fits = dict[str, tuple["FitResult", ...]]
NAMES = {"delta_lambda": "Delta*lambda", "b": "b = lambda*sigma*beta"}
INTERVALS = {
    "residuals": "from residuals: a curve has no items to resample, so they may be too narrow",
    "items": "by resampling items",
}


def _window(ctx: click.Context, parameter: click.Parameter, value: str | None) -> tuple[float, float] | None:
    if value is None:
        return None
    try:
        low, high = (float(end) for end in value.split(":"))
    except ValueError:
        raise click.BadParameter(f"{value!r} is not A:B, as -3:5") from None
    if not low < high:
        raise click.BadParameter(f"{value!r} holds nothing; give the lower end first")
    return low, high


@click.command()
@click.argument("csv_path", metavar="CSV", type=click.Path(path_type=Path))
@click.option("--window", metavar="A:B", callback=_window, help="Use strengths from A to B only, both included.")
@click.option("--round", "digits", type=click.IntRange(0, 15), help="Round the values to so many decimals first.")
@click.option("--choices", type=click.IntRange(2), default=4, show_default=True,
              help="Choices of each question; chance for p_correct_restricted.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")
def fit(csv_path: Path, window: tuple[float, float] | None, digits: int | None, choices: int, as_json: bool) -> None:
    """Fit the theory's curves to measured points, best form first.

    CSV has a heading: strength,alignment or strength,p_correct[,p_correct_restricted]. Forms are ranked by AICc.

    Example: steercpp fit curve.csv --window -3:5
    """
    from steercpp.curves import read_curve

    curve = read_curve(csv_path)
    if curve.ignored:
        output.say(f"columns left out: {', '.join(curve.ignored)}")
    fits = {
        name: _fits(name, curve.strengths, values if digits is None else values.round(digits), window, choices)
        for name, values in curve.measures.items()
    }
    data = {
        "path": csv_path, "window": window, "round": digits, "choices": choices,
        "fits": {name: [each.record() for each in found] for name, found in fits.items()},
    }  # fmt: skip
    output.emit(data, as_json=as_json, render=lambda: _render(fits))


def _fits(
    name: str, strengths: Any, values: Any, window: tuple[float, float] | None, choices: int
) -> tuple[FitResult, ...]:
    from steercpp.theory import fit_alignment, fit_helpfulness_forms

    if name == "alignment":
        return (fit_alignment(strengths, values, window=window),)
    restricted = name == "p_correct_restricted"
    return fit_helpfulness_forms(strengths, values, restricted=restricted, n_choices=choices, window=window)


def _render(fits: Fits) -> list[output.Renderable]:
    pieces: list[output.Renderable] = []
    for name, found in fits.items():
        title = f"{name}: {found[0].n_points} points, best form first"
        columns: list[output.Column] = [
            ("form and parameters", "left"), ("value", "right"), ("± s.e.", "right"),
            (f"{found[0].confidence:.0%} interval", "right"),
        ]  # fmt: skip
        pieces.append(output.table(columns, [row for each in found for row in _rows(each)], title=title))
        pieces += [output.text(f"{each.form}: {each.reason}.", "yellow") for each in found if not each.valid]
        if any(each.valid for each in found):
            pieces += [output.text(f"{each.form} = {each.shape.formula}", "dim") for each in found if each.valid]
            pieces.append(output.text(f"Intervals {INTERVALS[found[0].intervals]}.", "dim"))
        pieces.append(output.blank())
    return pieces[:-1]


def _rows(found: FitResult) -> list[list[output.Cell]]:
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
