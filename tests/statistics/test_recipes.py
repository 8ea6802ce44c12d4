"""The authors' recipe on the authors' curves, and on planted ones where its mistakes can be told exactly."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from steercpp.aliases import Floats
from steercpp.cli.main import main
from steercpp.errors import InputError
from steercpp.statistics.curve_files import read_curve
from steercpp.statistics.recipes import RECIPES, RecipeFit, findings, follow, named_recipe

WOLF = RECIPES["wolf2024"]
S = np.linspace(-8.0, 8.0, 33)


def of_file(folder: Path, name: str) -> dict[str, RecipeFit]:
    path = folder / "curves" / f"{name}.csv"
    if not path.is_file():
        pytest.skip(f"no {path}")
    curve = read_curve(path)
    return {each.measure: each for each in follow(WOLF, curve.strengths, curve.measures)}


def test_the_papers_alignment(test_data: Path) -> None:
    """Figures as an independent refit of the same curve gave them: to three decimals."""
    found = of_file(test_data, "behavior_harmful_llama2-13b_harmfulness")["alignment"]
    slope, offset = found.fit.params["delta_lambda"], found.fit.params["b0"]
    assert (round(slope.value, 3), round(slope.se, 3), round(offset.value, 3)) == (0.504, 0.030, -0.562)
    assert slope.low < 0.504 - 0.05 and slope.high > 0.504 + 0.05  # about two standard errors on each side
    assert round(found.fit.r2, 3) == 0.974 and found.fit.n_points == 41 and not found.turned
    told = " ".join(findings(WOLF, found))
    assert "leaves out 10 of 51 strengths; with them the fit is not valid: not monotone" in told


def test_the_papers_helpfulness(test_data: Path) -> None:
    found = of_file(test_data, "international_law_llama2-13b_harmfulness")["p_correct"]
    a, b = found.fit.params["a"], found.fit.params["b"]
    assert (round(a.value, 3), round(b.value, 3), round(found.fit.r2, 3)) == (2.058, 0.705, 0.842)
    assert a.low < 2.058 < a.high and b.low < 0.705 < b.high
    assert found.drawn_b == pytest.approx(b.value / 2.5) and round(found.drawn_r2, 2) == -0.28
    others = {each.form: each for each in found.others}
    assert round(others["gaussian"].r2, 3) == 0.930 and round(others["gaussian-free-centre"].r2, 3) == 0.953
    centre = others["gaussian-free-centre"].params["centre"]
    assert round(centre.value, 2) == -0.27 and centre.low < -0.27 < centre.high
    told = " ".join(findings(WOLF, found))
    assert "drawn with b/2.5 = 0.282" in told and "R² -0.283 instead of 0.842" in told
    assert "gaussian R² 0.930" in told and "peak at -0.27" in told


def planted(b: float = 0.6) -> tuple[Floats, Floats]:
    alignment = np.tanh(0.7 * S - 0.4)
    return alignment, 1 / (1 + 1.5 * (1 + (b * S) ** 2 / 2))


def test_what_is_planted_is_found_to_two_decimals_of_the_values() -> None:
    alignment, p = planted()
    measures = {"alignment": alignment, "p_correct": p, "p_correct_restricted": 0.25 + 0.5 * p, "else": p}
    found = {each.measure: each for each in follow(WOLF, S, measures)}
    assert list(found) == ["alignment", "p_correct", "p_correct_restricted"]
    assert found["alignment"].fit.params["delta_lambda"].value == pytest.approx(0.7, abs=0.01)
    for name in ("p_correct", "p_correct_restricted"):
        # rounded by up to 0.005, halved for the choices
        assert found[name].fit.params["b"].value == pytest.approx(0.6, abs=0.02)
        assert found[name].plain.params["b"].value == pytest.approx(0.6, abs=1e-6)
    assert found["p_correct"].fit.n_points == 21 and found["alignment"].fit.n_points == 17


def test_a_curve_that_starts_positive_is_turned_over_and_said_so() -> None:
    alignment, _ = planted()
    found = follow(WOLF, S, {"alignment": -alignment})[0]
    assert found.turned and found.fit.params["delta_lambda"].value == pytest.approx(0.7, abs=0.01)
    assert findings(WOLF, found)[0].startswith("B was turned over")


def test_items_are_resampled_beside_the_recipe_only() -> None:
    rng = np.random.default_rng(0)
    items = np.tanh(0.7 * S[:, None] - 0.4 + 0.3 * rng.standard_normal(60))
    found = follow(WOLF, S, {"alignment": items})[0]
    assert (found.fit.intervals, found.plain.intervals) == ("residuals", "items")
    assert found.fit.params["b0"].value == pytest.approx(found.plain.params["b0"].value, abs=0.01)


def test_what_cannot_be_fitted_says_why() -> None:
    found = follow(WOLF, S, {"alignment": S**2 / 64})[0]
    assert not found.fit.valid and "not monotone" in findings(WOLF, found)[0]
    flat = follow(WOLF, S, {"p_correct": np.full(33, 0.304)})[0]
    assert "flat" in findings(WOLF, flat)[0] and np.isnan(flat.drawn_r2)


def test_an_unknown_recipe_offers_the_near_one() -> None:
    with pytest.raises(InputError, match="recipe 'wolf24' is unknown; did you mean wolf2024"):
        named_recipe("wolf24")


def write_curve(path: Path) -> Path:
    alignment, p = planted()
    rows = [f"{s},{b:.6f},{each:.6f}" for s, b, each in zip(S, alignment, p, strict=True)]
    path.write_text("\n".join(["strength,alignment,p_correct", *rows]))
    return path


def test_the_command(tmp_path: Path) -> None:
    path = write_curve(tmp_path / "c.csv")
    result = CliRunner().invoke(main, ["fit", str(path), "--recipe", "wolf2024"], env={"COLUMNS": "80"})
    assert (result.exit_code, result.stderr) == (0, "")
    assert max(map(len, result.stdout.splitlines())) <= 80 and "nan" not in result.stdout
    for words in ("alignment by wolf2024: 17 strengths from -3 to 5", "What it hides anyway", "b/2.5 = 0.2"):
        assert words in result.stdout
    document = json.loads(CliRunner().invoke(main, ["fit", str(path), "--recipe", "wolf2024", "--json"]).stdout)
    fits = {each["measure"]: each for each in document["recipe"]["fits"]}
    assert fits["p_correct"]["drawn_b"] == pytest.approx(fits["p_correct"]["fit"]["params"]["b"]["value"] / 2.5)
    assert fits["alignment"]["drawn_r2"] is None and fits["alignment"]["findings"]


def test_a_recipe_has_its_own_window(tmp_path: Path) -> None:
    path = write_curve(tmp_path / "c.csv")
    for option in (["--window", "-1:1"], ["--round", "2"]):
        result = CliRunner().invoke(main, ["fit", str(path), "--recipe", "wolf2024", *option])
        assert result.exit_code == 2 and "--recipe has its own window" in result.stderr
    result = CliRunner().invoke(main, ["fit", str(path), "--recipe", "wolf"])
    assert result.exit_code == 1 and "did you mean wolf2024" in result.stderr


def test_a_peak_at_nothing_has_no_sign() -> None:
    """Once "peak at -0.00 (-0.00 to 0.00)"."""
    values = np.exp(-((S + 0.001) ** 2) / 20) * 0.5  # its peak lies at -0.001
    told = " ".join(findings(WOLF, follow(WOLF, S, {"p_correct": values})[0]))
    assert "peak at 0.00" in told and "-0.00" not in told


def test_numbers_that_round_to_nothing_have_no_sign() -> None:
    names = " ".join(findings(WOLF, follow(WOLF, S, {"alignment": np.tanh(0.7 * S - 1e-5)})[0]))
    assert "b0 0.000" in names and "-0.000" not in names
