"""`steercpp fit` as a user meets it: table, JSON, the paper's figures, and one sentence for each bad file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from steercpp.cli.main import main

S = np.linspace(-4, 4, 17)


def fit(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["fit", *map(str, arguments)], env={"COLUMNS": "80"})


@pytest.fixture
def falls(tmp_path: Path) -> Path:
    """P over vocabulary and choices, rounded so that residuals exist."""
    p = 1 / (1 + 1.5 * (1 + (0.7 * S) ** 2 / 2))
    rows = [f"{s},{each:.3f},{0.25 + 0.75 * each:.3f}" for s, each in zip(S, p, strict=True)]
    path = tmp_path / "falls.csv"
    path.write_text("\n".join(["strength,p_correct,p_correct_restricted", *rows]))
    return path


def test_table_fits_into_80_columns_best_form_first(falls: Path) -> None:
    result = fit(falls)
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= 80 and "…" not in result.stdout
    forms = [line.split()[0] for line in lines if "AICc" in line]
    assert forms[0] == "quadratic" and forms[3] in ("restricted", "wolf2024-restricted") and len(forms) == 7
    assert result.stdout.count("Intervals from residuals: a curve has no items to resample") == 2
    first = [line.split() for line in lines if "λσβ" in line][0]
    assert float(first[3]) == pytest.approx(0.7, abs=0.01)  # three decimals of P


@pytest.mark.parametrize("exact", [False, True])
def test_no_figure_hangs_on_the_last_bits(tmp_path: Path, exact: bool) -> None:
    """A centre at 0 was -8.38e-15 on one CPU and 0.000 on another, and two forms of one curve changed their places."""
    p = 1 / (1 + 1.5 * (1 + (0.7 * S) ** 2 / 2))
    p = p if exact else p.round(3)
    shown = set()
    for seed in range(6):
        bits = 1 + 2.0**-52 * np.random.default_rng(seed).integers(-2, 3, (2, len(S)))
        columns = zip(S, p * bits[0], (0.25 + 0.75 * p) * bits[1], strict=True)
        path = tmp_path / "bits.csv"
        rows = [f"{s:g},{float(free)!r},{float(restricted)!r}" for s, free, restricted in columns]
        path.write_text("\n".join(["strength,p_correct,p_correct_restricted", *rows]))
        shown.add(fit(path).stdout)
    (only,) = shown
    assert "e-1" not in only and "-0.000" not in only
    assert max(map(len, only.splitlines())) <= 80 and "…" not in only


def test_json_is_one_document_and_nothing_else(falls: Path) -> None:
    result = fit(falls, "--json", "--window", "-3:3", "--round", "2", "--choices", "4")
    assert (result.exit_code, result.stderr) == (0, "")
    document = json.loads(result.stdout)
    assert (document["path"], document["window"], document["round"]) == (str(falls), [-3, 3], 2)
    best = document["fits"]["p_correct"][0]
    assert (best["form"], best["n_points"], best["intervals"], best["valid"]) == ("quadratic", 13, "residuals", True)
    assert best["params"]["b"]["value"] == pytest.approx(0.7, abs=0.03)  # two decimals of P


def test_a_window_without_points_is_one_sentence(falls: Path) -> None:
    result = fit(falls, "--window", "7:9")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"error: {falls}: no point lies in the window 7:9; its strengths go from -4 to 4\n"
    assert fit(falls, "--window", "4:9").exit_code == 0  # one point is told to be too few, by each form


def test_the_papers_figures(test_data: Path) -> None:
    curves = test_data / "curves"
    if not curves.is_dir():
        pytest.skip(f"no curves at {curves}")
    result = fit(curves / "behavior_harmful_llama2-13b_harmfulness.csv", "--window", "-3:5")
    figures = [line.split() for line in result.stdout.splitlines()]
    assert ["Δλ", "0.504", "0.030", "0.445", "to", "0.564"] in figures
    assert any(line[:2] == ["b0", "-0.562"] for line in figures)
    assert any(line[:3] == ["tanh", "R²", "0.974"] for line in figures)
    law = curves / "international_law_llama2-13b_harmfulness.csv"
    for options, a, b, r2 in ([], 2.057, 0.704, "0.845"), (["--round", "2"], 2.058, 0.705, "0.842"):
        lines = [line.split() for line in fit(law, "--window", "-5:5", *options).stdout.splitlines()]
        assert ["quadratic", "R²", r2] in [line[:3] for line in lines]
        data = json.loads(fit(law, "--window", "-5:5", *options, "--json").stdout)
        (found,) = [form for form in data["fits"]["p_correct"] if form["form"] == "quadratic"]
        assert [round(found["params"][name]["value"], 3) for name in ("a", "b")] == [a, b]


def test_a_curve_that_means_nothing_says_why(tmp_path: Path) -> None:
    path = tmp_path / "u.csv"
    path.write_text("strength,alignment\n" + "\n".join(f"{s},{s * s / 8 - 1}" for s in S))
    result = fit(path)
    assert result.exit_code == 0
    assert "not valid" in result.stdout and "tanh: not monotone: B rises by 2.00" in result.stdout
    assert "Δλ" not in result.stdout and "nan" not in result.stdout
    document = json.loads(fit(path, "--json").stdout)["fits"]["alignment"][0]
    assert document["valid"] is False and document["params"]["delta_lambda"]["value"] is None


def test_columns_left_out_are_named_on_stderr(tmp_path: Path) -> None:
    path = tmp_path / "more.csv"
    path.write_text("strength,alignment,note\n" + "\n".join(f"{s},{np.tanh(s / 2)},x" for s in S))
    result = fit(path, "--json")
    assert result.exit_code == 0 and result.stderr == "note: columns left out: note\n"
    assert json.loads(result.stdout)["fits"]["alignment"][0]["valid"]


def test_a_bad_file_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "bad.csv"
    path.write_text("strength,alignment\n0,[/INST]\n")
    result = fit(path)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"error: {path}:2: alignment is '[/INST]', which is not a finite number\n"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--window", "3"], "'3' is not A:B"),
        (["--window", "a:b"], "'a:b' is not A:B"),
        (["--window", "2:-2"], "give the lower end first"),
        (["--window", "nan:1"], "give the lower end first"),
        (["--round", "-1"], "--round"),
        (["--choices", "1"], "--choices"),
    ],
)
def test_wrong_usage(falls: Path, options: list[str], words: str) -> None:
    result = fit(falls, *options)
    assert (result.exit_code, result.stdout) == (2, "")
    assert words in result.stderr


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    for path in (tmp_path / "none.csv", tmp_path):
        result = fit(path)
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr.startswith(f"error: {path}: cannot be read: ") and result.stderr.count("\n") == 1
