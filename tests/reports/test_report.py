"""Reports: drawn from the store alone, the same bytes each time, tables that `fit` can read."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from planted_run import write_planted_run

from steercpp.errors import RunError
from steercpp.reports.report import ensure_report, report_names, write_report
from steercpp.runs.judgement import Judging, judge
from steercpp.runs.result import SweepResult, open_run
from steercpp.statistics.curve_files import read_curve
from steercpp.statistics.names import today


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> SweepResult:
    return open_run(write_planted_run(tmp_path_factory.mktemp("planted") / "run"))


def write(result: SweepResult, out: Path, how: Judging | None = None) -> tuple[Path, ...]:
    return write_report(judge(result, how), out=out)


@pytest.fixture(scope="module")
def first(planted: SweepResult, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    return write(planted, tmp_path_factory.mktemp("first"))


@pytest.mark.slow
def test_figures_and_tables_are_whole_and_repeatable(
    planted: SweepResult, first: tuple[Path, ...], tmp_path: Path
) -> None:
    second = write(open_run(planted.folder), tmp_path)
    assert [path.name for path in first] == report_names(judge(planted))
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    starts = {
        ".png": b"\x89PNG\r\n\x1a\n", ".svg": b"<?xml", ".csv": b"strength,", ".html": b"<!DOCTYPE", ".tex": b"% needs",
    }  # fmt: skip
    for path in first:
        data = path.read_bytes()
        assert data.startswith(b"measure," if path.name == "fits.csv" else starts[path.suffix]) and len(data) > 200
    assert b"<dc:date>" not in (tmp_path / "alignment.svg").read_bytes()


def test_tables_are_read_by_fit(planted: SweepResult, first: tuple[Path, ...]) -> None:
    folder = first[0].parent
    alignment, helpfulness = (read_curve(folder / f"{name}.csv") for name in ("alignment", "helpfulness"))
    assert planted.behavior is not None and planted.choice is not None
    # 10 digits are written
    np.testing.assert_allclose(alignment.measures["alignment"], planted.behavior.mean_normalized, rtol=1e-9)
    np.testing.assert_allclose(helpfulness.measures["p_correct"], planted.choice.mean_p_free, rtol=1e-9)
    assert set(helpfulness.measures) == {"p_correct", "p_correct_restricted"}
    lines = (folder / "tradeoff.csv").read_text().splitlines()
    ends = "gain,gain_low,gain_high,loss,loss_high,utility,utility_low,utility_high"
    assert lines[0] == f"strength,alignment,alignment_low,alignment_high,{ends}"
    assert ",0,0,0,0," in lines[13]  # no gain, no loss at 0


def test_fits_are_a_table_with_their_intervals(planted: SweepResult, first: tuple[Path, ...]) -> None:
    rows = list(csv.DictReader((first[0].parent / "fits.csv").read_text().splitlines()))
    (slope,) = [row for row in rows if row["parameter"] == "delta_lambda"]
    estimate = planted.fit()["alignment"][0].params["delta_lambda"]
    for name in ("value", "se", "low", "high"):
        assert float(slope[name]) == pytest.approx(getattr(estimate, name), rel=1e-9)
    assert (slope["measure"], slope["form"], slope["valid"]) == ("alignment", "tanh", "True")
    forms = {(row["measure"], row["form"]) for row in rows}
    assert forms == {(today(name), fit.form) for name, fits in planted.fit().items() for fit in fits}


def test_one_quantity_has_one_name_in_every_table_and_in_json(planted: SweepResult, first: tuple[Path, ...]) -> None:
    record = json.loads(json.dumps(planted.to_json()))
    row = next(row for row in record["strengths"] if row["strength"] == 0)
    folder = first[0].parent
    tables = {name: csv.DictReader((folder / f"{name}.csv").read_text().splitlines()) for name in
              ("alignment", "helpfulness", "controls")}  # fmt: skip
    at_0 = {name: next(line for line in table if line["strength"] == "0") for name, table in tables.items()}
    for name in ("alignment", "alignment_raw", "mass", "p_correct", "p_correct_restricted", "accuracy"):
        assert record["controls"]["unsteered"][name] == row[name]
        lines = [line for line in at_0.values() if name in line]
        assert len(lines) == 2  # its own table and that of controls
        for line in lines:
            assert float(line[name]) == pytest.approx(row[name], rel=1e-9)
            assert float(line[f"{name}_low"]) <= float(line[name]) <= float(line[f"{name}_high"])


def test_controls_are_told_one_by_one(planted: SweepResult, first: tuple[Path, ...]) -> None:
    rows = [line.split(",") for line in (first[0].parent / "controls.csv").read_text().splitlines()]
    labels = [row[1] for row in rows[1:]]
    assert labels[:2] == ["vector", "vector"] and labels[2:10] == [f"random-{i}" for i in range(8)]
    assert {"orthogonal", "prompt"} - set(planted.controls.off) <= set(labels)
    assert rows[0][:4] == ["strength", "label", "alignment", "alignment_se"]


def test_another_budget_moves_the_mark(planted: SweepResult, first: tuple[Path, ...], tmp_path: Path) -> None:
    write(planted, tmp_path, Judging(max_loss=0.3))
    for name in ("alignment.svg", "tradeoff.svg"):
        assert (first[0].parent / name).read_bytes() != (tmp_path / name).read_bytes()
    assert (first[0].parent / "alignment.csv").read_bytes() == (tmp_path / "alignment.csv").read_bytes()


@pytest.mark.slow
def test_a_report_that_is_there_is_left_alone(tmp_path: Path) -> None:
    result = open_run(write_planted_run(tmp_path / "run", strengths="-0.2:0.2:0.1", n_random=1))
    files = ensure_report(judge(result))
    assert all(path.is_file() for path in files)
    files[0].write_text("edited")
    assert ensure_report(judge(result)) == files and files[0].read_text() == "edited"
    files[1].unlink()
    ensure_report(judge(result))
    assert files[1].is_file() and files[0].read_text() != "edited"


def test_an_impossible_place(planted: SweepResult, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"cannot be made .*another folder with `out`"):
        write(planted, tmp_path / "file" / "x")


@pytest.mark.slow
def test_no_model_is_needed(planted: SweepResult, tmp_path: Path) -> None:
    """A report loads neither llama.cpp nor the native module."""
    program = (
        "import sys; from steercpp.cli.main import main; main(sys.argv[1:], standalone_mode=False);"
        "assert not {'llama_cpp', 'steercpp._native', 'steercpp.engine.engine'} & set(sys.modules)"
    )
    command = [sys.executable, "-c", program, "report", str(planted.folder), "--out", str(tmp_path)]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
