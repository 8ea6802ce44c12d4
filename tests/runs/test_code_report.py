"""What a report tells of code: a run with planted answers, in JSON, as a table and as a figure."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest
from click.testing import CliRunner
from small_sweep import small_vector

from steercpp.cli import output
from steercpp.cli.main import main
from steercpp.cli.views.sweep import code_pieces
from steercpp.data.items import CodeItem
from steercpp.engine.engine import Engine
from steercpp.errors import SandboxError
from steercpp.judging.sandbox import WAYS, why_not
from steercpp.judging.texts import Verdict
from steercpp.reports.figures import code_figure, strength_label
from steercpp.reports.report import report_names, write_report
from steercpp.reports.style import rendered
from steercpp.runs.code import failure_reasons, judge_run, verdict_label
from steercpp.runs.code_report import code_columns, code_record
from steercpp.runs.judgement import judge
from steercpp.runs.result import SweepResult, open_run
from steercpp.runs.store import Store
from steercpp.sweeps.sweep import sweep
from steercpp.sweeps.texts import TextPlan

N = 6
ITEMS = tuple(CodeItem(f"c{i}", f"def f{i}(a):\n", f"f{i}", "def check(f):\n    assert f(1) == 1\n") for i in range(N))
STRENGTHS = (-1.0, 0.0, 1.0)


@pytest.fixture(scope="module")
def run(tiny_engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> SweepResult:
    """A sweep whose texts are real and whose verdicts are planted: all pass at 0, half at 1, none at -1."""
    out = tmp_path_factory.mktemp("code") / "run"
    text_plan = TextPlan(max_tokens=2, samples=4, temperature=1.0)
    with pytest.raises(SandboxError):
        sweep(tiny_engine, small_vector(tiny_engine), code=ITEMS, strengths=STRENGTHS, out=out, said=text_plan,
              random_directions=0)  # fmt: skip
    passing = {-1.0: 0, 0.0: 4, 1.0: 2}
    reasons = ("AssertionError", "NameError: name 'x' is not defined", "NameError: name 'y' is not defined", "other")
    verdicts = [
        Verdict(s, item, sample, sample < n, "" if sample < n else reasons[sample])
        for s, n in passing.items() for item in range(N) for sample in range(4)
    ]  # fmt: skip
    with Store.reopen(out / "sweep.sqlite") as store:
        store.add_verdicts(verdict_label("vector", "whole"), "code", verdicts)
    assert judge_run(out, allow=False) == 0  # nothing is left to run
    sweep(tiny_engine, small_vector(tiny_engine), code=ITEMS, strengths=STRENGTHS, out=out, said=text_plan,
          random_directions=0)  # fmt: skip
    return open_run(out)


def test_the_record_holds_rates_bounds_and_reasons(run: SweepResult) -> None:
    record = code_record(run)
    assert record is not None and (record["n_items"], record["n_samples"]) == (N, 4)
    rows = {row["strength"]: row for row in record["ways"]["whole"]}
    assert [rows[s]["pass_at_1"] for s in STRENGTHS] == [0.0, 1.0, 0.5]
    assert rows[1.0]["pass_at_2"] == pytest.approx(1 - 1 / 6)  # of the six pairs of answers one has none that passes
    assert rows[1.0]["pass_at_1_se"] == 0  # all problems alike
    assert rows[1.0]["pass_at_1_low"] == pytest.approx(1 - rows[1.0]["pass_at_1_high"])
    assert 0.25 < rows[1.0]["pass_at_1_low"] < 0.35  # as of 24 answers: 0.5 -+ 1.96 standard errors are 0.3 and 0.7
    assert (
        rows[0.0]["pass_at_1_low"] == pytest.approx(0.025 ** (1 / N)) and rows[0.0]["pass_at_1_high"] == 1
    )  # of six problems, no more
    assert rows[-1.0]["failed"] == {"NameError": 2 * N, "AssertionError": N, "other": N}
    assert rows[0.0]["failed"] == {}
    with Store.read(run.folder / "sweep.sqlite") as store:
        assert list(failure_reasons(store)) == list(STRENGTHS)


def test_columns_and_figure(run: SweepResult) -> None:
    columns = code_columns(run)
    assert list(columns) == [
        "strength", "pass_at_1", "pass_at_1_low", "pass_at_1_high", "pass_at_1_se", "pass_at_2", "pass_at_2_low",
        "pass_at_2_high",
    ]  # fmt: skip
    assert columns["pass_at_1"].tolist() == [0.0, 1.0, 0.5]
    data = rendered(code_figure(run), "svg")
    assert b"pass@2" in data or data.startswith(b"<?xml")
    assert data == rendered(code_figure(run), "svg")


def test_the_figure_has_the_whole_axis_and_the_unit(run: SweepResult) -> None:
    """Once it ended at 0.055 where nothing passed, and cut markers at 0 in half."""
    (axes,) = code_figure(run).axes
    low, high = axes.get_ylim()
    assert -0.1 < low < -0.01 and 1.01 < high < 1.1
    assert axes.get_xlabel() == strength_label(run) and "(" in axes.get_xlabel()
    assert axes.get_legend_handles_labels()[1] == ["pass@2", "pass@1, 95% intervals"]
    assert len(axes.containers) == 1 and axes.containers[0].has_yerr  # type: ignore[attr-defined]


def test_a_report_holds_the_code(run: SweepResult, tmp_path: Path) -> None:
    files = {path.name for path in write_report(judge(run), out=tmp_path)}
    assert {"code.csv", "code.png", "code.svg"} <= files == set(report_names(judge(run)))
    assert (tmp_path / "code.csv").read_text().splitlines()[2].startswith(f"0,1,{0.025 ** (1 / N):.10g},1,0,1")
    assert judge(run).record()["code"] == code_record(run)
    assert "<h3>Generated code</h3>" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_the_table(run: SweepResult, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    output.emit({}, as_json=False, render=lambda: code_pieces(code_record(run)))
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    assert "6 problems, 4 answers each" in shown and "12 NameError, 6 AssertionError, 6 others" in " ".join(
        shown.split()
    )
    assert code_pieces(None) == []


def test_one_answer_is_no_plural(run: SweepResult, capsys: pytest.CaptureFixture[str]) -> None:
    record = code_record(run)
    assert record is not None
    output.emit({}, as_json=False, render=lambda: code_pieces({**record, "n_items": 8, "n_samples": 1}))
    assert "Code: 8 problems, 1 answer each" in capsys.readouterr().out


def test_the_panel_of_code_alone_has_no_table_of_means(run: SweepResult) -> None:
    """Once a heading "at 0" with nothing below it."""
    told = CliRunner().invoke(main, ["score", str(run.folder)], env={"COLUMNS": "80"}).stdout
    lines = [line.strip("│ ") for line in told.splitlines() if line.startswith("│")]
    assert "at 0" not in lines and ("", "") not in zip(lines, lines[1:], strict=False)
    assert "No strength to recommend: it also takes behavior items." in told


def test_code_that_is_not_all_run_has_no_record(run: SweepResult, tmp_path: Path) -> None:
    for path in run.folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    db = sqlite3.connect(tmp_path / "sweep.sqlite")
    db.execute("DELETE FROM verdicts WHERE item = 0 AND sample = 0")
    db.commit()
    db.close()
    assert code_record(open_run(tmp_path)) is None


def test_samples_show_programs_that_failed(run: SweepResult) -> None:
    """`score --samples` said "Nothing failed." under a table of failed programs."""
    command = ["score", str(run.folder), "--samples", "2"]
    samples = json.loads(CliRunner().invoke(main, [*command, "--json"]).stdout)["samples"]
    shown = [(sample["strength"], sample["item"], sample["why"]) for sample in samples["programs"]]
    assert shown == [
        (-1.0, "c0", "AssertionError"), (-1.0, "c0", "NameError: name 'x' is not defined"),
        (1.0, "c0", "NameError: name 'y' is not defined"), (1.0, "c0", "other"),
    ]  # fmt: skip
    assert samples["programs"][0]["asked"] == ITEMS[0].prompt
    printed = CliRunner().invoke(main, command, env={"COLUMNS": "80"}).stdout
    assert "-1  c0: failed, AssertionError" in printed and "Nothing failed" not in printed
    assert max(map(len, printed.splitlines())) <= 80


@pytest.mark.slow
def test_a_stored_run_is_judged_another_way_without_its_model(run: SweepResult, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    folder.mkdir()
    for path in run.folder.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    assert run.code_by("wolf2024") is None
    command = ["score", str(folder), "--code-answers", "wolf2024"]
    assert CliRunner().invoke(main, command).exit_code == 2
    result = CliRunner().invoke(main, [*command, "--allow-code-execution", "--json"])
    if all(why_not(name) for name in WAYS):
        assert result.exit_code == 1 and "install bubblewrap" in result.stderr
        return
    assert result.exit_code == 0, result.stderr
    ways = json.loads(result.stdout)["code"]["ways"]
    assert set(ways) == {"whole", "wolf2024"}
    assert "taken out as by wolf2024" in CliRunner().invoke(main, ["score", str(folder)], env={"COLUMNS": "80"}).stdout
    assert [row["pass_at_1"] for row in ways["whole"]] == [0.0, 1.0, 0.5]  # as planted: nothing was run again
