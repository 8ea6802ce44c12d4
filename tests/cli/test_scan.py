"""`steercpp scan` as a user meets it: the table, JSON, methods side by side, going on after Ctrl-C, every bad input."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from small_sweep import BEHAVIOR, CHOICE, write_items

from steercpp.cli.commands.scan import spread
from steercpp.cli.main import main
from steercpp.data.items import item_json

GRID = ("--strengths=-0.5,0.5", "--threads", "1")


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [*map(str, arguments)], env={"COLUMNS": "80"})


@pytest.fixture
def files(tmp_path: Path, tiny_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Arguments of a scan with 16 items of each kind, in a folder of its own that is the working directory."""
    monkeypatch.chdir(tmp_path)
    write_items(tmp_path)
    for name, items, key in (("b.jsonl", BEHAVIOR, "prompt"), ("c.jsonl", CHOICE, "question")):
        rows = [{**item_json(item), "id": f"{i}", key: f"{'now ' * (i // 8)}{item_json(item)[key]}"}
                for i, item in enumerate((*items, *items))]  # fmt: skip
        Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return ["scan", str(tiny_path), "--pairs", "p.jsonl", "--behavior", "b.jsonl", "--task", "c.jsonl", *GRID]


def test_the_table_and_what_comes_next(files: list[str]) -> None:
    result = run(*files, "--windows", "1,2", "--items", "12", "--max-loss", "0.9")
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    assert max(len(line) for line in result.stdout.splitlines() if not line.startswith("  steercpp")) <= 80
    first = [line.split()[0].replace("▶", "") or line.split()[1] for line in result.stdout.splitlines()[3:8]]
    assert first == ["1", "1-2", "2", "2-3", "3"]  # layer 0 cannot be steered by llama.cpp
    folder = Path("runs/tiny-F32-p-scan")
    data = json.loads((folder / "scan.json").read_text())
    told = " ".join(result.stdout.replace("│", " ").split())
    assert "12 of 16 behavior, 12 of 16 choice" in told
    assert f"5 sweeps of 3 strengths, {data['tokens']['token_layers']:,} token-layers" in told
    assert f"{folder}/scan.json .png .svg" in told
    assert {"mean-layer-1", "mean-layers-2-3", "scan.png", "scan.svg"} <= {path.name for path in folder.iterdir()}
    assert run("report", folder / "mean-layers-2-3").exit_code == 0
    again = run(*files, "--windows", "1,2", "--items", "12", "--max-loss", "0.9")
    assert again.stdout == result.stdout and "finished already, nothing was computed; --force" in again.stderr


@pytest.mark.slow
def test_the_next_command_extracts_the_best_band(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the embedded model, where there is one; it is run as it was printed."""
    monkeypatch.chdir(tmp_path)
    small = ["--items", "24", "--strengths", "0.2,0.4", "--threads", "1", "--windows", "6-7", "--max-loss", "0.3"]
    result = run("scan", *small, "--method", "lda", "--method", "mean", "--method", "random", "--out", "x")
    assert result.exit_code == 0, result.output
    methods = [line.replace("▶", "").split()[0] for line in result.stdout.splitlines()[3:6]]
    assert sorted(methods) == ["lda", "mean", "random"] and methods[-1] == "random"  # the floor is the lowest
    command = next(line.split() for line in result.stdout.splitlines() if line.startswith("  steercpp extract"))
    best = json.loads(Path("x/scan.json").read_text())["best"]
    assert command[2:] == ["--method", best["method"], "--layers", "6-7", "-o", "refusal-6-7.gguf"]
    assert run(*command[1:], "--threads", "1").exit_code == 0
    shown = json.loads(run("show", "refusal-6-7.gguf", "--json").stdout)
    assert [row["layer"] for row in shown["layers"]] == [6, 7]


def test_strengths_in_nats(tmp_path: Path) -> None:
    small = ["--items", "24", "--strengths", "2", "--threads", "1", "--windows", "6-7", "--max-loss", "0.3"]
    result = run("scan", *small, "--unit", "kl", "--kl", "0.05", "--out", tmp_path / "x")
    assert result.exit_code == 0 and "at +2 pushes of --kl nats" in result.stdout, result.output
    plan = json.loads((tmp_path / "x" / "mean-layers-6-7" / "manifest.json").read_text())["plan"]
    assert (plan["unit"], plan["kl"], plan["strengths"]) == ("kl", 0.05, [0.0, 2.0])


def test_json_is_one_document(files: list[str]) -> None:
    result = run(*files, "--windows", "default,1", "--layers", "1-2", "--method", "pca", "--json")
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    data = json.loads(result.stdout)
    assert [band["layers"] for band in data["bands"]] == [[1], [1, 2], [2]]
    assert {band["method"] for band in data["bands"]} == {"pca"}
    assert data["items_of"] == {"behavior": 16, "choice": 16} == data["items"]
    assert all(Path(file).is_file() for file in data["files"]) and len(data["files"]) == 3


def test_another_grid_is_refused_and_force_replaces_it(files: list[str]) -> None:
    arguments = [*files[:8], "--threads", "1", "--windows", "2", "--layers", "1-2", "--out", "x"]
    assert run(*arguments, "--strengths", "0.5").exit_code == 0
    other = run(*arguments, "--strengths", "0.25")
    assert other.exit_code == 1 and "x/mean-layers-1-2: holds a sweep of another plan (other strengths)" in other.stderr
    assert run(*arguments, "--strengths", "0.25", "--force").exit_code == 0


def test_items_are_spread_evenly() -> None:
    assert spread(range(10), 5) == [0, 2, 4, 6, 8]
    assert spread(range(3), 5) == range(3) and spread(range(3), None) == range(3)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["m.gguf"], "MODEL needs --pairs P"),
        (["m.gguf", "--pairs", "p", "--behavior", "b"], "MODEL needs --behavior B and --task T"),
        (["--strengths", "1:2"], "first:last:step"),
        (["--max-loss", "1"], "--max-loss"),
        (["--kl", "0.2"], "--kl is for --unit kl"),
        (["--token", "all"], "--token all is for steercpp dump"),
        (["--items", "0"], "--items"),
    ],
)
def test_wrong_usage(arguments: list[str], expected: str) -> None:
    result = run("scan", *arguments)
    assert (result.exit_code, result.stdout) == (2, "") and expected in " ".join(result.stderr.split())


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--method", "logisitc"], "method 'logisitc' is unknown; did you mean logistic? They are mean, pca,"),
        (["--method", "x"], "method 'x' is unknown; use one of mean, pca,"),
        (["--windows", "4"], "windows of 4 layers do not fit into layers 1-3; use narrower ones"),
        (["--windows", "2-9"], "layer 9 is not among layers 1-3"),
        (["--layers", "2-9"], "there is no layer 9; the model has layers 0..3"),
        (["--pairs", "none.jsonl"], "none.jsonl"),
        (["--task", "none.jsonl"], "none.jsonl"),
    ],
)
def test_bad_input_is_one_sentence(files: list[str], arguments: list[str], expected: str) -> None:
    result = run(*files, *arguments, "--out", "refused")
    assert (result.exit_code, result.stdout) == (1, ""), result.output
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1 and expected in result.stderr
    assert not Path("refused").exists()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_ctrl_c_keeps_what_is_finished_and_the_same_command_goes_on(files: list[str]) -> None:
    """Interrupted when the first sweep is in the table; a test in a shell's background would ignore Ctrl-C."""
    command = [*files[:8], "--threads", "1", "--strengths", "-1:1:0.1", "--windows", "1", "--out", "x"]
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "steercpp.cli.main", *command], stdout=subprocess.PIPE, stderr=terminal,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "80", "LINES": "24"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    os.close(terminal)
    drawn = b""
    while "≥".encode() not in drawn and b"\xe2\x80\x93" not in drawn:  # a line of the table, with or without figures
        drawn += os.read(controller, 65536)
    process.send_signal(signal.SIGINT)
    while True:
        try:
            piece = os.read(controller, 65536)
        except OSError:  # Linux's way to say that the other end is closed
            piece = b""
        if not piece:
            break
        drawn += piece
    stdout, _ = process.communicate()
    os.close(controller)
    assert process.returncode == 130 and stdout == b""
    assert b"x: what was finished is kept; the same command goes on from there" in drawn
    kept = Path("x/mean-layer-1/sweep.sqlite")
    before = kept.read_bytes()
    assert run(*command).exit_code == 0 and kept.read_bytes() == before
