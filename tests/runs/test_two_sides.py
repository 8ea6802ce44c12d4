"""Items of two sides, which a vector moves oppositely: figures of the theory are told of each, none of both at once."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from planted_run import SIDED, SIDES, write_planted_run

from steercpp.cli.main import main
from steercpp.reports.report import write_report
from steercpp.runs.judgement import Judgement, judge
from steercpp.runs.result import OF_HARMFUL, open_run
from steercpp.statistics.over_refusal import side_items

N = len(SIDED) // 2


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_planted_run(tmp_path_factory.mktemp("sides") / "run", strengths="-2:2:0.25", n_random=0, sided=True)


@pytest.fixture(scope="module")
def judged(run: Path) -> Judgement:
    return judge(open_run(run))


@pytest.fixture(scope="module")
def told(run: Path) -> str:
    result = CliRunner().invoke(main, ["score", str(run)], env={"COLUMNS": "80"})
    assert result.exit_code == 0 and max(map(len, result.stdout.splitlines())) <= 80
    return result.stdout


@pytest.fixture(scope="module")
def record(run: Path) -> dict[str, Any]:
    result = CliRunner().invoke(main, ["score", str(run), "--json"])
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert isinstance(found, dict)
    return found


def test_slopes_and_anti_steerable_items_are_of_each_side(judged: Judgement) -> None:
    assert list(judged.by_side) == ["harmful", "harmless"]
    for name, found in judged.by_side.items():
        np.testing.assert_allclose(found.items, SIDES[name], atol=1e-9)  # straight lines: least squares is exact
        assert (found.anti.n, found.anti.of) == (N if SIDES[name] < 0 else 0, N)
    assert judged.slopes is judged.by_side["harmful"]
    assert judged.item_slopes is not None
    np.testing.assert_allclose(judged.item_slopes, [SIDES[item.subject] for item in SIDED], atol=1e-9)


def test_the_fit_is_of_the_harmful_items_and_says_so(judged: Judgement) -> None:
    result = judged.result
    (fit,) = result.fit()["alignment"]
    # Items' offsets of spread 0.3 flatten the mean curve by some 5%; over both sides the slope would be half of it.
    assert fit.valid and fit.params["delta_lambda"].value == pytest.approx(2.0, rel=0.08)
    assert result.side_fits["harmful"] is fit
    assert result.side_fits["harmless"].params["delta_lambda"].value == pytest.approx(-1.0, rel=0.08)
    assert result.notes == (OF_HARMFUL,) and result.to_json()["notes"] == [OF_HARMFUL]


def test_the_recommendation_is_still_by_all_items(judged: Judgement) -> None:
    found = judged.recommendation
    assert found is not None and judged.result.behavior is not None
    if found.strength is not None:
        assert found.chosen_on.n_behavior + found.reported_on.n_behavior == len(SIDED)  # type: ignore[union-attr]
    best = judged.optimum
    assert best is not None and "two sides" in best.predicted.reason and np.isnan(best.predicted.curves.value)


def test_the_panel_names_both_sides(told: str) -> None:
    both = [f"{what}, {side}" for what in ("Δλ", "slopes", "alignment") for side in SIDES]
    for words in (*both, f"0 of {N} harmful", f"{N} of {N} harmless", "not predicted"):
        assert words in told, words
    assert "slopes of the items" not in told and f"{N} of {2 * N} items" not in told


def test_the_record_has_both_sides(record: dict[str, Any]) -> None:
    sides = record["by_side"]
    assert {name: one["n_items"] for name, one in sides.items()} == {"harmful": N, "harmless": N}
    for name, slope in SIDES.items():
        assert sides[name]["per_item"]["mean"]["value"] == pytest.approx(slope)
        assert sides[name]["alignment"]["params"]["delta_lambda"]["value"] == pytest.approx(slope, rel=0.08)
    assert record["per_item"] == sides["harmful"]["per_item"]
    assert record["fits"]["alignment"] == [sides["harmful"]["alignment"]]


def test_the_report_tells_both(judged: Judgement, tmp_path: Path) -> None:
    files = {path.name: path for path in write_report(judged, out=tmp_path)}
    page = files["report.html"].read_text(encoding="utf-8")
    sides = [f"{what} {side} items" for what in ("slopes of the", "alignment,") for side in SIDES]
    for words in (*sides, f"{N} of {N} harmless"):
        assert words in page, words
    with files["items.csv"].open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["kind"] == "behavior"]
    assert [float(row["slope"]) for row in rows] == pytest.approx([SIDES[item.subject] for item in SIDED])
    with files["alignment.csv"].open(newline="") as file:
        row = next(row for row in csv.DictReader(file) if row["strength"] == "0")
    both = (float(row["alignment_harmful"]) + float(row["alignment_harmless"])) / 2
    assert both == pytest.approx(float(row["alignment"]))  # sides of as many items


def test_items_without_both_sides_are_as_before(tmp_path: Path) -> None:
    plain = judge(open_run(write_planted_run(tmp_path / "run", strengths="-0.4:0.4:0.2", n_random=0)))
    data = plain.record()
    assert plain.by_side == {} and data["by_side"] is None and not plain.result.side_fits and data["notes"] == []
    assert data["per_item"] is not None and len(data["per_item"]["items"]) == len(SIDED)
    assert side_items(SIDED[::2]) is None  # harmful ones alone
    assert side_items((*SIDED, replace(SIDED[0], subject="else"))) is None
