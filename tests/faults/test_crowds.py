"""Several processes and one folder: one measures, others are told who does, and readers see what is there.

`STEERCPP_FAULTS=all` takes 50 trials of writers that begin at once, and readers at 20 instants.
"""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from forked import Forked
from run_contents import contents, strays
from traced import Trace

from steercpp.runs.result import open_run

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name != "posix", reason="needs fork and signals")]

IS_ALL = os.environ.get("STEERCPP_FAULTS") == "all"
TRIALS = {2: 25 if IS_ALL else 2, 8: 25 if IS_ALL else 1}  # by how many begin at once
N_READINGS = 20 if IS_ALL else 1
TOLD = re.compile(
    r"\S+/run: process (\d+) \(since 20\d\d-\S+: \S.*\) is writing there; "
    r"wait until it has ended, or choose another folder with `out`\n"
)


@pytest.fixture(scope="module")
def forked() -> Iterator[Forked]:
    with Forked() as running:
        yield running


@pytest.fixture(scope="module")
def undisturbed(forked: Forked, tiny_path: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Trace]:
    """A finished run of the same plan, and what was done for it."""
    folder = tmp_path_factory.mktemp("undisturbed")
    assert forked.start("plain", tiny_path, folder / "run", folder=folder, trace=folder / "trace").wait() == 0
    return folder / "run", Trace.read(folder / "trace")


@pytest.mark.parametrize("n", TRIALS)
def test_of_processes_that_begin_at_once_one_measures(
    n: int, forked: Forked, tiny_path: Path, tmp_path: Path, undisturbed: tuple[Path, Trace],
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    run, trace = undisturbed
    wanted, ends = contents(run), Counter[int]()
    for trial in range(TRIALS[n]):
        folder = tmp_path / str(trial)
        folder.mkdir()
        children = [
            forked.start("plain", tiny_path, folder / "run", folder=folder, trace=folder / f"{i}.trace")
            for i in range(n)
        ]
        codes = [child.wait() for child in children]
        ends.update(codes)
        assert set(codes) <= {0, 1} and 0 in codes, [child.stderr for child in children]
        pids = {str(child.pid) for child in children}
        for code, child in zip(codes, children, strict=True):
            told = TOLD.fullmatch(child.stderr)
            assert (told is not None and told[1] in pids - {str(child.pid)}) if code else child.stderr == ""
        assert contents(folder / "run") == wanted and strays(folder) == []
        done = [Trace.read(folder / f"{i}.trace") for i in range(n)]
        assert sorted(name for of in done for name in of.kept) == sorted(trace.kept)  # each once
        late = forked.start("plain", tiny_path, folder / "run", folder=folder, trace=folder / "late.trace")
        assert late.wait() == 0 and Trace.read(folder / "late.trace").begun == []
    if IS_ALL:
        with capsys.disabled():
            print(f"\n{TRIALS[n]} trials of {n} processes: exit codes {dict(ends)}")


def numbers_of(record: dict[str, Any]) -> dict[float, dict[str, Any]]:
    """What a report says of each strength."""
    return {row["strength"]: row for row in record["strengths"]}


def test_readers_of_a_run_that_is_measured(
    forked: Forked, tiny_path: Path, tmp_path: Path, undisturbed: tuple[Path, Trace]
) -> None:
    run, trace = undisturbed
    whole = forked.start("command", "report", run, "--json", folder=tmp_path)
    assert whole.wait() == 0, whole.stderr
    wanted = numbers_of(json.loads(whole.stdout))
    for reading in range(N_READINGS):
        folder = tmp_path / str(reading)
        folder.mkdir()
        child = forked.start("plain", tiny_path, folder / "run", folder=folder, trace=folder / "trace")
        n = 1 + (len(trace.kept) - 1) * (reading + 1) // (N_READINGS + 1)
        while len(Trace.read(folder / "trace").kept) < n:
            time.sleep(0.002)
        os.kill(child.pid, signal.SIGSTOP)
        try:
            assert not open_run(folder / "run").finished
            for command in (
                ["report", "run"], ["report", "run", "--json"], ["score", "run"], ["runs", "."],
                ["runs", ".", "--json"], ["show", "run/vector.gguf"], ["export", "run", "-o", "rows.csv"],
                ["fit", "run"],
            ):  # fmt: skip
                looked = forked.start("command", *command, folder=folder)
                code = looked.wait()
                said = looked.stdout + looked.stderr
                assert code in (0, 1) and "Traceback" not in said and "fault of steercpp" not in said, said
                if code:
                    assert looked.stderr.count("\n") == 1, said
                if "--json" not in command and command[0] in ("report", "score", "runs"):
                    assert ("is writing there" if command[0] == "runs" else "unfinished") in said, (command, said)
                if command[:3] == ["report", "run", "--json"]:
                    assert code == 0, said
                    record = json.loads(looked.stdout)
                    assert not record["finished"]
                    for strength, row in numbers_of(record).items():
                        assert all(value == wanted[strength][key] for key, value in row.items() if value is not None)
        finally:
            os.kill(child.pid, signal.SIGCONT)
        assert child.wait() == 0
        assert contents(folder / "run") == contents(run)
