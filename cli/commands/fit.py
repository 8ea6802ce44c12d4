"""`steercpp fit`: the theory's curves through points of a CSV file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from steercpp.cli import output
from steercpp.cli.grouped_help import Command
from steercpp.cli.options.common import FILE, json_option
from steercpp.encoding import shell_word

if TYPE_CHECKING:
    from steercpp.statistics.curve_files import Curve
    from steercpp.statistics.fits import FitResult


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


@click.command(cls=Command)
@click.argument("csv_path", metavar="CSV", type=FILE)
@click.option("--window", metavar="A:B", callback=_window, help="Use strengths from A to B only, both included.")
@click.option("--round", "digits", type=click.IntRange(0, 15), help="Round the values to so many decimals first.")
@click.option("--choices", type=click.IntRange(2), default=4, show_default=True,
              help="Choices of each question; chance for p_correct_restricted.")  # fmt: skip
@click.option("--recipe", metavar="NAME", help="Fit as others did, their mistakes beside: wolf2024.")
@json_option
def fit(
    csv_path: Path,
    window: tuple[float, float] | None,
    digits: int | None,
    choices: int,
    recipe: str | None,
    as_json: bool,
) -> None:
    """Fit the theory's curves to measured points, best form first.

    CSV has a heading: strength,alignment or strength,p_correct[,p_correct_restricted]. Forms are ranked by AICc.
    --recipe follows a published recipe instead: its window, rounding and forms, and says what they hide.

    \b
    Example: steercpp fit curve.csv --window -3:5
             steercpp fit curve.csv --recipe wolf2024
    """  # noqa: D301
    from steercpp.runs.manifest import MANIFEST
    from steercpp.statistics.curve_files import read_curve

    if recipe is not None and (window is not None or digits is not None):
        raise click.UsageError("--recipe has its own window and rounding; leave --window and --round out")
    curve = read_curve(csv_path)
    _refuse_empty(csv_path, curve, window)
    if curve.ignored:
        output.note(f"columns left out: {', '.join(curve.ignored)}")
    if (csv_path.parent / MANIFEST).is_file():
        output.note(
            f"{csv_path} is a run's mean curve: what its items tell, such as that a model guesses, is not in it; "
            f"`steercpp score {shell_word(str(csv_path.parent))}` fits them"
        )
    if recipe is not None:
        _follow(csv_path, curve, recipe, choices, as_json)
        return
    fits = {
        name: _fits(name, curve.strengths, values if digits is None else values.round(digits), window, choices)
        for name, values in curve.measures.items()
    }
    data = {
        "path": csv_path, "window": window, "round": digits, "choices": choices,
        "fits": {name: [fit.record() for fit in of_measure] for name, of_measure in fits.items()},
    }  # fmt: skip

    def render() -> list[output.Renderable]:
        from steercpp.cli.views.fits import fit_pieces

        return fit_pieces(fits)

    output.emit(data, as_json=as_json, render=render)


def _refuse_empty(csv_path: Path, curve: Curve, window: tuple[float, float] | None) -> None:
    from steercpp.errors import StrengthError
    from steercpp.statistics.fits import EDGE

    s = curve.strengths
    if window is not None and not ((s >= window[0] - EDGE) & (s <= window[1] + EDGE)).any():
        raise StrengthError(
            f"{csv_path}: no point lies in the window {window[0]:g}:{window[1]:g}; its strengths go from {s.min():g} "
            f"to {s.max():g}"
        )


def _follow(csv_path: Path, curve: Curve, name: str, choices: int, as_json: bool) -> None:
    from steercpp.cli.views.fits import recipe_pieces, recipe_record
    from steercpp.statistics.recipes import follow, named_recipe

    recipe = named_recipe(name)
    followed = follow(recipe, curve.strengths, curve.measures, n_choices=choices)
    data = {"path": csv_path, "choices": choices, "recipe": recipe_record(recipe, followed)}
    output.emit(data, as_json=as_json, render=lambda: recipe_pieces(recipe, followed))


def _fits(
    name: str, strengths: Any, values: Any, window: tuple[float, float] | None, choices: int
) -> tuple[FitResult, ...]:
    from steercpp.statistics.fits import fit_alignment, fit_helpfulness_forms

    if name == "alignment":
        return (fit_alignment(strengths, values, window=window),)
    restricted = name == "p_correct_restricted"
    return fit_helpfulness_forms(strengths, values, restricted=restricted, n_choices=choices, window=window)
