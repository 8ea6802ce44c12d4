"""Fits the way others published them, by name; read this to compare with a paper on its own terms.

    for fitted in follow(named_recipe("wolf2024"), strengths, {"alignment": b}):
        fitted.fit.params["delta_lambda"].value, fitted.plain.params["delta_lambda"].value

A recipe says which strengths are used, how values are rounded, which form is fitted and how it is drawn. `follow` does
as it says and, beside it, what the same measurements give without it; `findings` says the difference in sentences.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import numpy as np

from steercpp.aliases import NAN, Floats
from steercpp.errors import InputError
from steercpp.statistics.fits import EDGE, FitResult, Window, fit_alignment, fit_helpfulness, fit_helpfulness_forms
from steercpp.statistics.forms import inner
from steercpp.statistics.rounded import fixed


@dataclass(frozen=True, slots=True)
class Recipe:
    """How somebody fitted.

    Attributes:
        name: how it is asked for.
        about: what it does, in sentences.
        source: where that was read.
        windows: strengths used for each measure, both ends included.
        forms: form fitted to each measure.
        digits: decimals that values are rounded to.
        turned: alignment is multiplied by -1 where its first value in the window is positive.
        drawn_divisor: the drawn helpfulness curve has the fitted b divided by this.
        faults: what it hides that no measurement is needed to see.
    """

    name: str
    about: tuple[str, ...]
    source: str
    windows: Mapping[str, Window]
    forms: Mapping[str, str]
    digits: int
    turned: bool
    drawn_divisor: float
    faults: tuple[str, ...]


RECIPES: Mapping[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            name="wolf2024",
            about=(
                "Values are rounded to 2 decimals; alignment is fitted at strengths -3 to 5, helpfulness at -5 to 5.",
                "Least squares of tanh(delta_lambda s + b0) and of 1/(1 + a (1 + b²s²/2)), for the choices "
                "0.25 + 0.5 of that. Where alignment starts positive it is turned over.",
                "The authors began at a = 2, b0 = -2 and at a = b = 1; here several starts are tried and the best fit "
                "is taken, which for their curves is the same one.",
            ),
            source="Wolf et al. 2024, arXiv:2401.16332, as their published notebook fits the figures of May 2024",
            windows={"alignment": (-3.0, 5.0), "p_correct": (-5.0, 5.0), "p_correct_restricted": (-5.0, 5.0)},
            forms={"alignment": "tanh", "p_correct": "quadratic", "p_correct_restricted": "wolf2024-restricted"},
            digits=2,
            turned=True,
            drawn_divisor=2.5,
            faults=(
                "Alignment was read off greedy texts by keywords, and a base model's broken text counted as a refusal.",
                "One subset of questions was fitted; the others have other constants.",
                "Error bars were the standard deviation divided by 10, however many items there were.",
                "Points of P(correct) were drawn as a moving average of 5 that takes 0 for what lies beyond the grid.",
                "No R² and no interval was printed.",
            ),
        ),
    )
}


@dataclass(frozen=True, slots=True)
class RecipeFit:
    """One measure fitted by a recipe, and what stands beside it.

    Attributes:
        measure: "alignment", "p_correct" or "p_correct_restricted".
        fit: by the recipe: mean curve, rounded, in the window. Its intervals come from residuals.
        plain: the same form in the same window, of the values as they are; of the items where there are any.
        everywhere: the same form at all strengths.
        others: other forms in the window, best first; none for alignment.
        window: strengths used.
        turned: the recipe multiplied by -1, so its parameters have the other sign.
        drawn_b, drawn_r2: b of the curve as drawn, and R² of that curve; NaN where nothing is drawn otherwise.
    """

    measure: str
    fit: FitResult
    plain: FitResult
    everywhere: FitResult
    others: tuple[FitResult, ...]
    window: Window
    turned: bool
    drawn_b: float
    drawn_r2: float

    def record(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "measure": self.measure, "window": list(self.window), "turned": self.turned, "fit": self.fit.record(),
            "plain": self.plain.record(), "everywhere": self.everywhere.record(),
            "others": [fit.record() for fit in self.others], "drawn_b": self.drawn_b, "drawn_r2": self.drawn_r2,
        }  # fmt: skip


def named_recipe(name: str) -> Recipe:
    """The recipe of that name.

    Raises:
        InputError: there is none; near matches are offered.
    """
    if name not in RECIPES:
        near = get_close_matches(name, RECIPES, n=1, cutoff=0.4) or list(RECIPES)
        raise InputError(f"recipe {name!r} is unknown; did you mean {' or '.join(near)}?")
    return RECIPES[name]


def follow(
    recipe: Recipe, strengths: Floats, measures: Mapping[str, Floats], *, n_choices: int = 4
) -> tuple[RecipeFit, ...]:
    """Fit every measure as the recipe does, and without it.

    Args:
        recipe: which.
        strengths: (n_s,).
        measures: by name (see `Recipe.windows`), (n_s,) or (n_s, n_items) each; others are left out.
        n_choices: choices of each question.

    Raises:
        ShapeError, StrengthError, DegenerateError, InputError: as `fit_alignment`.
    """
    return tuple(
        _follow(recipe, name, strengths, measures[name], n_choices) for name in recipe.forms if name in measures
    )


def findings(recipe: Recipe, fitted: RecipeFit) -> tuple[str, ...]:
    """What the recipe hides about this measure, in sentences with figures."""
    if not fitted.fit.valid:
        return (f"Not valid by the recipe: {fitted.fit.reason}.",)
    sentences = []
    if fitted.turned:
        sentences.append("B was turned over: the parameters are of misaligned minus aligned.")
    sentences.append(_rounding(recipe, fitted))
    sentences.append(_beyond(fitted))
    if np.isfinite(fitted.drawn_r2):
        sentences.append(
            f"The curve was drawn with b/{recipe.drawn_divisor:g} = {fixed(fitted.drawn_b, 3)}, above the points like "
            f"a bound: R² {fixed(fitted.drawn_r2, 3)} instead of {fixed(fitted.fit.r2, 3)}."
        )
    sentences.append(_other_forms(fitted))
    return tuple(sentence for sentence in sentences if sentence)


def _other_forms(fitted: RecipeFit) -> str:
    """How well other forms describe the same points, best first."""
    # "restricted" is wolf2024-restricted with other a, b
    others = [fit for fit in fitted.others if fit.valid and fit.form not in (fitted.fit.form, "restricted")]
    phrases = []
    for fit in others:
        centre = fit.params.get("centre")
        where = ""
        if centre:
            peak, low, high = (fixed(strength, 2) for strength in (centre.value, centre.low, centre.high))
            where = f", peak at {peak} ({low} to {high})"
        phrases.append(f"{fit.form} R² {fixed(fit.r2, 3)}{where}")
    return f"Other forms of the same points: {'; '.join(phrases)}." if phrases else ""


def _follow(recipe: Recipe, name: str, s: Floats, values: Floats, n_choices: int) -> RecipeFit:
    window, form = recipe.windows[name], recipe.forms[name]
    curve = values if values.ndim == 1 else values.mean(axis=1)
    turned = recipe.turned and name == "alignment" and _starts_positive(s, curve, window)
    sign = -1.0 if turned else 1.0
    fit = _fit(name, form, s, sign * np.round(curve, recipe.digits), window, n_choices)
    drawn_b, drawn_r2 = NAN, NAN
    if name != "alignment" and fit.valid:
        drawn_b = fit.params["b"].value / recipe.drawn_divisor
        drawn_r2 = _r2_of(fit, drawn_b, s, np.round(curve, recipe.digits), window)
    others: tuple[FitResult, ...] = ()
    if name != "alignment":
        restricted = name == "p_correct_restricted"
        others = fit_helpfulness_forms(s, values, restricted=restricted, n_choices=n_choices, window=window)
    return RecipeFit(
        name, fit, _fit(name, form, s, sign * values, window, n_choices),
        _fit(name, form, s, sign * values, None, n_choices), others, window, turned, drawn_b, drawn_r2,
    )  # fmt: skip


def _fit(name: str, form: str, s: Floats, values: Floats, window: Window | None, n_choices: int) -> FitResult:
    if name == "alignment":
        return fit_alignment(s, values, window=window)
    return fit_helpfulness(s, values, form=form, window=window, n_choices=n_choices)


def _inside(s: Floats, window: Window) -> Floats:
    """Which strengths lie in a window, in ascending order, as indices."""
    order = np.argsort(s)
    return np.asarray(order[(s[order] >= window[0] - EDGE) & (s[order] <= window[1] + EDGE)])


def _starts_positive(s: Floats, curve: Floats, window: Window) -> bool:
    rows = _inside(s, window)
    return bool(len(rows) and curve[rows[0]] > 0)


def _r2_of(fit: FitResult, b: float, s: Floats, curve: Floats, window: Window) -> float:
    """R² of the fitted form with another b."""
    rows = _inside(s, window)
    parameters = np.array([b if name == "b" else fit.params[name].value for name in fit.shape.parameters])
    drawn = fit.shape.value(inner(fit.shape, parameters)[None], s[rows])[0]
    y = curve[rows]
    return float(1.0 - ((y - drawn) ** 2).sum() / ((y - y.mean()) ** 2).sum())


def _rounding(recipe: Recipe, fitted: RecipeFit) -> str:
    if not fitted.plain.valid:
        return f"Not valid without rounding: {fitted.plain.reason}."
    return f"Without rounding to {recipe.digits} decimals: {_figures(fitted.plain)}."


def _beyond(fitted: RecipeFit) -> str:
    """What the strengths outside the window say."""
    left_out = fitted.everywhere.n_points - fitted.plain.n_points
    if not left_out:
        return ""
    where = f"The window leaves out {left_out} of {fitted.everywhere.n_points} strengths"
    if not fitted.everywhere.valid:
        return f"{where}; with them the fit is not valid: {fitted.everywhere.reason}."
    return f"{where}; with them: {_figures(fitted.everywhere)}."


def _figures(fit: FitResult) -> str:
    parameters = ", ".join(f"{name} {fixed(estimate.value, 3)}" for name, estimate in fit.params.items())
    return f"{parameters}, R² {fixed(fit.r2, 3)}"
