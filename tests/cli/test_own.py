"""`--task own`: the model answers before the sweep begins, and the same command again draws nothing anew."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from places import EMBEDDED
from small_sweep import numbers

from steercpp.cli.main import main
from steercpp.runs.result import open_run
from steercpp.runs.store import Store
from steercpp.sweeps import own_answers

SMALL = ("--limit", "12", "--strengths", "0.1", "--unit", "norm", "--random", "1", "--no-orthogonal", "--threads", "1")


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [*map(str, arguments)], env={"COLUMNS": "80"})


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    if not EMBEDDED.exists():
        pytest.skip("models/embedded.gguf is not there; make it with `make model`")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "run"


@pytest.mark.slow
def test_the_model_answers_everyday_requests(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ("sweep", "--behavior", "refusal:harmless", "--task", "own", "--out", folder, *SMALL)
    done = run(*arguments, "--json")
    assert done.exit_code == 0, done.output
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert all(line["p_own"] == (1.0 if line["strength"] == 0 else pytest.approx(0.5, abs=0.5)) for line in lines[:-1])
    result = open_run(folder)
    assert result.own is not None and result.measure == "p_own" and len(result.items("own")) == 4
    assert result.controls.prompt is not None and result.controls.prompt.own is not None
    header, *rows = (folder / "own.csv").read_text().splitlines()
    assert header.startswith("strength,p_own,p_own_se,p_own_low,p_own_high,kl,kl_se") and len(rows) == 2

    # Again: read from the run.
    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("answers were drawn again")

    monkeypatch.setattr(own_answers, "generate_each", refuse)
    again = run(*arguments)
    assert again.exit_code == 0 and "finished already" in again.stderr, again.output
    assert "everyday answers" in again.stdout and max(map(len, again.stdout.splitlines())) <= 80
    other = run(*("everyday:household" if word == "own" else word for word in arguments))
    assert other.exit_code == 1 and "(other own items)" in other.stderr, other.output
    monkeypatch.undo()
    monkeypatch.chdir(folder.parent)
    more = run(*("13" if word == "12" else word for word in arguments))
    assert more.exit_code == 0 and "adds 1 behavior item and 1 own item" in more.stderr, more.output
    another_seed = run(*arguments, "--seed", "1")
    assert another_seed.exit_code == 1 and "another plan" in another_seed.stderr


@pytest.mark.slow
def test_a_stopped_command_goes_on_without_drawing_anew(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = folder.with_name("o.jsonl")
    requests = [{"kind": "own", "prompt": f"Tell me of the {word}."} for word in ("king", "sea", "old house", "bird")]
    task.write_text("".join(json.dumps(request) + "\n" for request in requests))
    arguments = ("sweep", "--behavior", "refusal:harmless", "--task", task, *SMALL, "--json")
    whole = run(*arguments, "--out", folder)
    assert whole.exit_code == 0, whole.output
    genuine, calls = Store.add, 0

    def add(store: Store, *rest: object) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        genuine(store, *rest)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Store, "add", add)
        assert run(*arguments, "--out", "stopped").exit_code == 130
    with monkeypatch.context() as patch:
        patch.setattr(own_answers, "generate_each", None)
        finished = run(*arguments, "--out", "stopped")
    assert finished.exit_code == 0, finished.output
    assert numbers(Path("stopped")) == numbers(folder)


def test_where_own_answers_are_not_taken(folder: Path) -> None:
    result = run("cross", "--task", "own", "--limit", "4")
    assert result.exit_code == 1 and "own: no multiple choice" in result.stderr
    shown = run("sweep", "--behavior", "refusal:harmless", "--task", "everyday:cooking", "--show-prompts=1", "--json")
    assert shown.exit_code == 0 and "How do I cook rice" in shown.stdout


def test_a_scan_weighs_gain_against_own_answers(folder: Path) -> None:
    asks = ("--behavior", "refusal:harmless", "--task", "own", "--limit", "6", "--windows", "default", "--threads", "1")
    result = run("scan", *asks, "-o", "scan", "--json")
    assert result.exit_code == 0, result.output
    data = json.loads(result.stdout)
    assert data["items"] == {"behavior": 6, "own": 2} and data["items_of"]["own"] == 6
    again = run("scan", *asks, "-o", "scan", "--json")  # takes the answers that are there
    assert again.exit_code == 0 and "finished already" in again.stderr
