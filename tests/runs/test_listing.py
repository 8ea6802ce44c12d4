"""The list of runs: how far each is, what it recommends, and what is wrong with those that cannot be read."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from planted_run import write_planted_run
from second_process import holding

from steercpp.cli.main import main
from steercpp.errors import RunError
from steercpp.runs.folder import STORE
from steercpp.runs.listing import list_runs
from steercpp.runs.manifest import MANIFEST, read_manifest, write_manifest
from steercpp.runs.result import open_run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A finished run, one that is not, in a folder below, and one that is damaged."""
    write_planted_run(tmp_path / "runs" / "a")
    unfinished = tmp_path / "runs" / "study" / "b"
    write_planted_run(unfinished)
    write_manifest(unfinished, replace(read_manifest(unfinished), finished=None))
    with sqlite3.connect(unfinished / STORE) as db:
        db.execute("DELETE FROM logprobs WHERE strength > 0.5")
    db.close()
    write_planted_run(tmp_path / "runs" / "c")
    (tmp_path / "runs" / "c" / MANIFEST).write_text("{")
    (tmp_path / "runs" / "empty").mkdir()
    return tmp_path / "runs"


def test_each_run_is_listed_with_how_far_it_is(folder: Path) -> None:
    a, c, b = list_runs(folder)
    result = open_run(folder / "a")
    assert (a.folder, a.state, a.n_strengths, a.n_finished) == (folder / "a", "finished", *2 * [len(result.strengths)])
    assert a.model == result.manifest.model.file and "layer" in a.vector and a.begun == result.manifest.begun
    assert (b.folder, b.state, b.recommended_strength) == (folder / "study" / "b", "unfinished", None)
    assert b.n_finished == sum(s <= 0.5 for s in result.strengths) < b.n_strengths
    assert c.state == "damaged" and "not JSON" in c.reason
    assert [run.folder for run in list_runs(folder / "a")] == [folder / "a"]  # of a run itself


@pytest.mark.parametrize("statement", [
    "CREATE TABLE more (x)", "CREATE VIEW v AS SELECT 1", "DROP TABLE logprobs", "UPDATE meta SET value = 'x'",
])  # fmt: skip
def test_a_finished_run_with_a_strange_store_is_damaged(folder: Path, statement: str) -> None:
    """What was wrong: it was listed as finished, and refused by each command that read it."""
    with sqlite3.connect(folder / "a" / STORE) as db:
        db.execute(statement)
    db.close()
    (a,) = list_runs(folder / "a")
    assert a.state == "damaged" and STORE in a.reason
    (folder / "a" / STORE).unlink()
    assert list_runs(folder / "a")[0].state == "damaged"


def test_who_measures_is_named(folder: Path) -> None:
    with holding(folder / "study" / "b") as process:
        (*_, b) = list_runs(folder)
        assert b.state == "being measured" and str(process.pid) in b.reason


def test_the_command_shows_them_or_says_that_there_are_none(folder: Path, tmp_path: Path) -> None:
    shown = CliRunner().invoke(main, ["runs", str(folder)])
    assert shown.exit_code == 0
    assert "finished" in shown.output and "unfinished" in shown.output and "not JSON" in shown.output
    record = json.loads(CliRunner().invoke(main, ["runs", str(folder), "--json"]).output)
    assert [run["state"] for run in record["runs"]] == ["finished", "damaged", "unfinished"]
    assert "no runs in" in CliRunner().invoke(main, ["runs", str(folder / "empty")]).output
    missing = CliRunner().invoke(main, ["runs", str(tmp_path / "none")])
    assert missing.exit_code == 1 and "there is no such folder" in missing.output
    with pytest.raises(RunError):
        list_runs(tmp_path / "none")
