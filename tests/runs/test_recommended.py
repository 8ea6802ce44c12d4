"""The recommended strength in a run's vector is what the run recommends now, whoever wrote another one there."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from planted_run import write_planted_run

from steercpp.cli.main import main
from steercpp.errors import RunError
from steercpp.locks import MEASURING
from steercpp.reports.report import write_report
from steercpp.runs.folder import VECTOR_FILE
from steercpp.runs.judgement import judge
from steercpp.runs.recommended import renew_recommendation
from steercpp.runs.result import open_run
from steercpp.vectors.control_vector import MetaValue
from steercpp.vectors.gguf import read_vector, write_vector

pytestmark = pytest.mark.slow


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return write_planted_run(Path("run"))


@pytest.fixture
def poor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that recommends nothing."""
    monkeypatch.chdir(tmp_path)
    return write_planted_run(Path("run"), strengths="0.5,0.6", n_random=0)


def say(folder: Path, strength: float, **others: MetaValue) -> None:
    """Have the vector carry what an earlier rule recommended."""
    path = folder / VECTOR_FILE
    vector = read_vector(path).with_metadata(recommended_strength=strength, max_loss=0.05, **others)
    write_vector(path, vector, force=True)


def judged(command: str, folder: Path, *options: str) -> Result:
    result = CliRunner().invoke(main, [command, str(folder), *options], env={"COLUMNS": "80"})
    assert result.exit_code == 0, result.output
    return result


@pytest.mark.parametrize("command", ["score", "report"])
def test_another_strength_takes_the_place_of_an_earlier_rules(run: Path, command: str) -> None:
    best = open_run(run).recommend()
    assert best is not None and best.strength == 0.1
    say(run, 0.35, method="mean")
    words = "note: run/vector.gguf: carried a recommended strength of +0.35, the run recommends +0.1; the file is"
    result = judged(command, run, "--max-loss", "0.5", "--json")  # of the plan's own budget, whatever is judged by
    assert result.stderr == f"{words} brought up to date\n"
    metadata = read_vector(run / VECTOR_FILE).metadata
    assert metadata == {"method": "mean", "recommended_strength": 0.1, "max_loss": 0.05}
    before = (run / VECTOR_FILE).stat().st_mtime_ns
    assert judged(command, run).stderr == "" and (run / VECTOR_FILE).stat().st_mtime_ns == before


def test_a_strength_that_is_not_recommended_any_more_goes(poor: Path) -> None:
    say(poor, 0.5)
    told = judged("score", poor).stderr
    assert "carried a recommended strength of +0.5, the run recommends none; the file is brought up to date" in told
    assert not {"recommended_strength", "max_loss"} & set(read_vector(poor / VECTOR_FILE).metadata)
    open_run(poor)


def test_a_vector_that_carries_none_is_given_one(run: Path) -> None:
    assert judged("score", run).stderr == ""
    assert read_vector(run / VECTOR_FILE).metadata["recommended_strength"] == 0.1


def test_a_file_that_cannot_be_written_is_told(poor: Path) -> None:
    say(poor, 0.5)
    (poor / MEASURING).mkdir()  # in the way of the lock; rights would not stop a test that runs as root
    told = judged("score", poor).stderr
    assert "the run recommends none; the file still says the former: " in told and told.count("\n") == 1
    assert read_vector(poor / VECTOR_FILE).metadata["recommended_strength"] == 0.5


def test_what_was_read_of_an_earlier_run_is_not_written_into_a_later_one(run: Path) -> None:
    """What was wrong: whoever had read a run wrote its vector and its report over those of the run that replaced it."""
    read = judge(open_run(run))
    say(run, 0.35)
    run.rename("earlier")
    write_planted_run(run, strengths="-0.5:0.5:0.25", n_random=0)
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    shutil.copyfile("earlier/vector.gguf", run / VECTOR_FILE)  # of the same directions, as it happens
    assert "the file still says the former: run: another process has changed this run" in renew_recommendation(
        read.result
    )
    (run / VECTOR_FILE).write_bytes(before[VECTOR_FILE])
    with pytest.raises(RunError, match="^run: another process has changed this run since it was read; run the same"):
        write_report(read)
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before
