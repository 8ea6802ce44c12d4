"""Two processes and one folder: the second one is told who writes there, and nothing of the first one's is lost."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from places import EMBEDDED
from second_process import go_on, holding, sweeping
from small_sweep import BEHAVIOR, CHOICE, numbers, small_sweep, small_vector

from steercpp.cli.main import main
from steercpp.data.pairs import ContrastPair
from steercpp.data.sets.fetching import fetch_set
from steercpp.engine.engine import Engine
from steercpp.errors import DataSetError, RunError, SteerError
from steercpp.experiments.constants.derive import Constants
from steercpp.experiments.constants.store import write_constants
from steercpp.experiments.cross import Push, cross
from steercpp.experiments.scan import scan
from steercpp.experiments.study.preset import parse_preset
from steercpp.experiments.study.study import study
from steercpp.experiments.transfer import Material, transfer
from steercpp.locks import DRAWING, MEASURING, refuse_second_writer, writing
from steercpp.reports.pictures import write_together
from steercpp.runs.code import judge_run
from steercpp.runs.result import open_run

pytestmark = pytest.mark.slow

PAIRS = [ContrastPair(word, f"cannot no {word}", f"sure yes {word}") for word in ("man", "day")]
TOLD = (
    r"run: process {} \(since 20\d\d-.*: .*\) is writing there; wait until it has ended, or choose another folder with "
    r"`out`$"
)


def test_a_second_sweep_is_told_who_is_first_and_both_runs_are_whole(
    tiny_engine: Engine, tiny_path: Path, tmp_path: Path
) -> None:
    """What was wrong: both wrote, and one or both ended with a damaged run or a disk that was said to be full."""
    out, alone = tmp_path / "run", tmp_path / "alone"
    with sweeping(out, tiny_path) as first:
        for changes in ({}, {"force": True}, {"force": True, "strengths": (-1.0, 1.0)}):
            with pytest.raises(RunError, match=TOLD.format(first.pid)):
                small_sweep(tiny_engine, out, **changes)
        assert open_run(out).strengths.tolist() == [-0.5, 0.0, 0.5]  # readers are let in
        result = CliRunner().invoke(main, ["report", str(out)])
        assert result.exit_code == 0, result.output
        assert go_on(first) == 0
    small_sweep(tiny_engine, alone)
    assert numbers(out) == numbers(alone)
    assert small_sweep(tiny_engine, out).decoded_now == 0
    assert not [path.name for path in out.iterdir() if path.name.startswith(".")]


def test_after_a_kill_the_same_sweep_goes_on(tiny_engine: Engine, tiny_path: Path, tmp_path: Path) -> None:
    out, alone = tmp_path / "run", tmp_path / "alone"
    with sweeping(out, tiny_path) as first:
        first.kill()
        first.wait()
    assert (out / MEASURING).exists()
    refuse_second_writer(out)  # nobody's
    small_sweep(tiny_engine, out)
    small_sweep(tiny_engine, alone)
    assert numbers(out) == numbers(alone) and not (out / MEASURING).exists()


def of_sweep(engine: Engine, out: Path) -> None:
    small_sweep(engine, out)


def of_cross(engine: Engine, out: Path) -> None:
    cross(engine, [Push("v", small_vector(engine), 1.0)], {"b": BEHAVIOR}, out=out, force=True)


def of_scan(engine: Engine, out: Path) -> None:
    scan(engine, PAIRS, behavior=BEHAVIOR, choice=CHOICE, out=out, windows=[(1,)], force=True)


def of_transfer(engine: Engine, out: Path) -> None:
    transfer(engine.path, engine.path, small_vector(engine), Material(PAIRS, method="mean"), out=out, force=True)


def of_study(engine: Engine, out: Path) -> None:
    text = 'about = "None."\n[vectors.v]\nmodel = "chat"\npairs = "refusal"\nmethod = "mean"\nlayers = "1-2"\n'
    text += '[runs.r]\nmodel = "chat"\nvector = "v"\nstrengths = "-1,1"\nbehavior = "refusal"\nlimit = 4\n'
    study(parse_preset(text, name="small", place="small"), {"chat": engine.path}, load=Engine, out=out, force=True)


def of_constants(engine: Engine, out: Path) -> None:
    write_constants(out, Constants({}, {"a": np.zeros(1)}))


def of_code(engine: Engine, out: Path) -> None:
    judge_run(out, allow=True)


def of_fetching(engine: Engine, out: Path) -> None:
    fetch_set(out.name, base_url="http://localhost:9", cache=out.parent)


WRITERS = (of_sweep, of_cross, of_scan, of_transfer, of_study, of_constants, of_code, of_fetching)


@pytest.mark.parametrize("write", WRITERS, ids=lambda write: write.__name__)
def test_whatever_writes_into_a_folder_leaves_it_to_its_first_process(
    tiny_engine: Engine, tmp_path: Path, write: Callable[[Engine, Path], None]
) -> None:
    out = tmp_path / ("advbench" if write is of_fetching else "run")
    error = DataSetError if write is of_fetching else RunError
    with holding(out) as first:
        with pytest.raises(error, match=rf"{out.name}: process {first.pid} \(since .*\) is writing there; wait until"):
            write(tiny_engine, out)
        assert [path.name for path in out.iterdir()] == [MEASURING]
        assert go_on(first) == 0


@pytest.mark.parametrize(
    "command",
    [
        ["sweep", "--behavior", "b.jsonl", "--force"],
        ["scan", "--force"],
        ["cross", "--force"],
    ],
)
def test_commands_say_so_before_a_model_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    source = EMBEDDED.parent / "refusal.behavior.jsonl"
    Path("b.jsonl").write_text(source.read_text())
    monkeypatch.setattr("steercpp.cli.options.engine.EngineOptions.open", lambda *_: pytest.fail("was loaded"))
    with holding(tmp_path / "run") as first:
        result = CliRunner().invoke(main, [*command, "--out", "run"])
    assert result.exit_code == 1
    assert f"error: run: process {first.pid} (since" in result.stderr
    assert result.stderr.endswith("is writing there; wait until it has ended, or choose another folder with --out\n")


def test_two_commands_at_once(tmp_path: Path) -> None:
    """Whoever comes second, the run is one command's alone, and whole."""
    command = [
        sys.executable, "-m", "steercpp.cli.main", "sweep", "--strengths=-0.5:0.5:0.5", "--limit", "12", "--random",
        "1", "--threads", "1", "--out", "run", "--json",
    ]  # fmt: skip
    pipe = subprocess.PIPE
    processes = [subprocess.Popen(command, cwd=tmp_path, stdout=pipe, stderr=pipe, text=True) for _ in range(2)]
    ended = [(*process.communicate(), process.returncode) for process in processes]
    assert sorted(status for *_, status in ended) in ([0, 0], [0, 1])  # the second may have come after the end
    for _, talk, status in ended:
        assert (
            status == 0 or "is writing there; wait until it has ended, or choose another folder with --out" in talk
        ), talk
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert again.returncode == 0 and "finished already, nothing was computed" in again.stderr


def test_another_thread_is_another_writer(tmp_path: Path) -> None:
    caught: list[SteerError] = []

    def write() -> None:
        try:
            with writing(tmp_path):
                pass
        except SteerError as error:
            caught.append(error)

    with writing(tmp_path), writing(tmp_path):  # one's own lock may be taken again
        thread = threading.Thread(target=write)
        thread.start()
        thread.join()
    assert "another thread of this process is writing there" in str(caught[0])
    with writing(tmp_path):
        pass


def test_a_folder_made_for_nothing_goes_again_with_its_parents(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="wrong"), writing(tmp_path / "a" / "b"):
        raise ValueError("wrong")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="wrong"), writing(tmp_path / "a" / "b"):
        (tmp_path / "a" / "b" / "file").write_text("kept")
        raise ValueError("wrong")
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["file"]


def test_who_draws_waits_for_who_draws_and_not_for_who_measures(tmp_path: Path) -> None:
    with writing(tmp_path):
        thread = threading.Thread(target=write_together, args=(tmp_path, {"a.csv": b"1\n"}))
        thread.start()
        thread.join()
        assert (tmp_path / "a.csv").read_bytes() == b"1\n"
    with writing(tmp_path, lock=DRAWING):
        thread = threading.Thread(target=write_together, args=(tmp_path, {"a.csv": b"2\n"}))
        thread.start()
        assert (tmp_path / "a.csv").read_bytes() == b"1\n"
    thread.join()
    assert (tmp_path / "a.csv").read_bytes() == b"2\n" and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": 999999999, "host": "HOST", "since": "", "command": ""}'])
def test_a_lock_that_does_not_name_its_holder_is_one_all_the_same(tmp_path: Path, content: str) -> None:
    with holding(tmp_path):
        (tmp_path / MEASURING).write_text(content.replace("HOST", os.uname().nodename))
        with pytest.raises(RunError, match=": another process is writing there"), writing(tmp_path):
            pass


def test_what_cannot_be_locked_is_written_as_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on network mounts without locks; no such file system can be mounted here."""

    def refuse(file: int, *, blocking: bool) -> bool:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("filelock.lock_descriptor", refuse)
    with writing(tmp_path / "run"):
        pass
    assert (tmp_path / "run").is_dir()


def test_a_place_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(RunError, match="file: is a file, not a folder; choose another place"),
        writing(tmp_path / "file"),
    ):
        pass
    below = tmp_path / "file" / "below"
    with (
        pytest.raises(
            RunError, match=r"no file can be written there \(Not a directory\); choose another folder with `out`"
        ),
        writing(below),
    ):
        pass
