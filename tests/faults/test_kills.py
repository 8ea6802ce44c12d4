"""A sweep that is killed at any instant: the same command ends with an undisturbed run's rows, none computed twice.

A seeded sample of instants is tried; `STEERCPP_FAULTS=all` tries 200 of the tiny model and prints the counts;
`python tests/faults/test_kills.py` kills a command line of its own, such as a sweep of a model that is given.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "helpers"))  # as a script

from forked import Forked
from run_contents import contents, differing, strays
from small_sweep import write_items
from traced import Trace

from steercpp.data.items import Kind
from steercpp.runs.folder import STORE
from steercpp.runs.labels import SHOWCASE
from steercpp.runs.manifest import MANIFEST
from steercpp.runs.store import Store

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="needs /proc, fork and signals")]

IS_ALL = os.environ.get("STEERCPP_FAULTS") == "all"
N_KILLS = {"plain": (70, 8), "texts": (65, 6), "code": (65, 6)}  # in all, and of them as ordinary tests
SIGNALLED = 50, 3
ENDED_BEFORE = "ended before"


class Process(Protocol):
    """A command that was begun."""

    pid: int

    def wait(self) -> int:
        """Its exit code."""


Begin = Callable[[Path, Path], Process]  # a command into a folder, whose work is traced into a file


def kept_in(out: Path) -> set[str]:
    """Names, as in a trace, of all that a store holds."""
    if not (out / MANIFEST).exists():
        return set()
    with Store.read(out / STORE) as store:
        found = {f"group {group.label} {group.kind} {group.strength} {group.batch}" for group in store.finished()}
        for label in ("vector", "prompt", "words", "opposite"):
            for kind in (*Kind, SHOWCASE):
                found |= {f"texts {label} {kind} {item}" for item in store.items_with_texts(label, kind)}
        return found | {
            f"verdict {name} {Kind.CODE} {one.strength} {one.item} {one.sample}"
            for name in _names_of_verdicts(store)
            for one in store.verdicts(name, Kind.CODE)
        }


def _names_of_verdicts(store: Store) -> list[str]:
    from steercpp.choices import CODE_WAYS
    from steercpp.runs.code import verdict_label

    return [verdict_label("vector", way) for way in CODE_WAYS]


@dataclass(frozen=True)
class Instant:
    """When a command is sent a signal: once its trace has so many lines, and so many seconds later.

    So instants are spread over the work however busy the machine is.
    """

    n_lines: int
    later_s: float

    def wait(self, process: int, trace: Path) -> None:
        """Wait for it, or until the process has ended."""
        while (
            not _has_ended(process) and (len(trace.read_bytes().splitlines()) if trace.exists() else 0) < self.n_lines
        ):
            time.sleep(0.001)
        time.sleep(self.later_s)


def _has_ended(process: int) -> bool:
    """Whether it waits for being reaped."""
    return Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2][0] == "Z"


def killed_and_resumed(
    begin: Begin, folder: Path, instant: Instant, *, number: int = signal.SIGKILL
) -> tuple[str, list[str]]:
    """Begin a command, send it a signal, and run it again.

    Returns:
        how the first one ended, and what is wrong but for the contents.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    out = folder / "run"
    first = begin(out, folder / "first.trace")
    instant.wait(first.pid, folder / "first.trace")
    os.kill(first.pid, number)  # it is not reaped yet, so its number is its own still
    code = first.wait()
    told = Trace.read(folder / "first.trace")
    there = kept_in(out)
    wrong = [f"{name} was committed and is lost" for name in told.kept if name not in there]
    status = begin(out, folder / "second.trace").wait()
    if status:
        wrong.append(f"the second command ended with {status}")
    again = Trace.read(folder / "second.trace")
    wrong += [f"{name} was there and is computed again" for name in {*again.begun, *again.kept} & there]
    if not wrong:
        wrong += [f"{name} is left" for name in strays(out)]
    if number == signal.SIGTERM and code not in (0, 128 + number):
        wrong.append(f"the first command ended with {code}")
    end = {0: ENDED_BEFORE, -signal.SIGKILL: f"killed with {'something' if there else 'nothing'} measured"}
    return end.get(code, f"exit {code}"), wrong


def undisturbed(begin: Begin, folder: Path) -> tuple[dict[str, object], int, float]:
    """What a command that nothing happens to ends with, the lines of its trace, and the seconds that each takes."""
    folder.mkdir(parents=True)
    began = time.monotonic()
    assert begin(folder / "run", folder / "trace").wait() == 0
    took = time.monotonic() - began
    trace = Trace.read(folder / "trace")
    assert sorted(set(trace.kept)) == sorted(trace.kept)
    assert set(trace.kept) == {name for name in kept_in(folder / "run") if f" {SHOWCASE} " not in name}
    n_lines = len(trace.begun) + len(trace.kept)
    return contents(folder / "run"), n_lines, took / n_lines


def campaign(
    begin: Begin, folder: Path, n: int, *, seed: str, say: Callable[[str], None], number: int = signal.SIGKILL
) -> list[str]:
    """Send a command a signal at n instants; what went wrong."""
    wanted, n_lines, apart_s = undisturbed(begin, folder / "undisturbed")
    draws, ends, problems = random.Random(seed), Counter[str](), []
    while ends.total() - ends[ENDED_BEFORE] < n:
        instant = Instant(draws.randrange(n_lines), draws.uniform(0, apart_s))
        end, wrong = killed_and_resumed(begin, folder / "try", instant, number=number)
        if not wrong:
            wrong = [f"other {name}" for name in differing(contents(folder / "try" / "run"), wanted)]
        ends[end] += 1
        problems += [f"{seed}, try {ends.total()} at {instant} ({end}): {one}" for one in wrong]
        if wrong:
            shutil.copytree(folder / "try", folder / f"wrong-{ends.total()}")
        say(f"{seed}: {ends.total()} tries, {dict(ends)}, {len(problems)} wrong")
    return problems


@pytest.fixture(scope="module")
def forked() -> Iterator[Forked]:
    with Forked() as running:
        yield running


@pytest.mark.parametrize("job", N_KILLS)
def test_after_a_kill_the_same_sweep_ends_as_an_undisturbed_one(
    job: str, forked: Forked, tiny_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def begin(out: Path, trace: Path) -> Process:
        return forked.start(job, tiny_path, out, folder=out.parent, trace=trace)

    said: list[str] = []
    problems = campaign(begin, tmp_path, N_KILLS[job][0 if IS_ALL else 1], seed=job, say=said.append)
    if IS_ALL:
        with capsys.disabled():
            print(f"\n{said[-1]}")
    assert not problems, "\n".join(problems)


def test_sigterm_ends_a_command_in_order_and_the_same_one_goes_on(
    forked: Forked, tiny_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_items(tmp_path)
    places = {name: str(tmp_path / f"{name}.jsonl") for name in "bcp"}

    def begin(out: Path, trace: Path) -> Process:
        return forked.start(
            "command", "sweep", tiny_path, "--pairs", places["p"], "--behavior", places["b"], "--task", places["c"],
            "--strengths=-0.5,0.5,1", "--random", "2", "--threads", "1", "--no-texts", "--out", out, "--json",
            folder=out.parent, trace=trace,
        )  # fmt: skip

    said: list[str] = []
    n = SIGNALLED[0 if IS_ALL else 1]
    problems = campaign(begin, tmp_path / "runs", n, seed="SIGTERM", say=said.append, number=signal.SIGTERM)
    if IS_ALL:
        with capsys.disabled():
            print(f"\n{said[-1]}")
    assert not problems, "\n".join(problems)


def main(arguments: Sequence[str]) -> None:
    """Kill `steercpp ARGUMENTS --out FOLDER/run` at N instants: `test_kills.py FOLDER N ARGUMENTS`."""
    import subprocess

    folder, n, command = Path(arguments[0]).resolve(), int(arguments[1]), arguments[2:]
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parents[1] / 'helpers')!r})\n"
        "from traced import begin_trace; begin_trace(sys.argv.pop(1))\n"
        "from steercpp.cli.main import main; main(prog_name='steercpp')\n"
    )

    def begin(out: Path, trace: Path) -> Process:
        with Path(f"{trace}.said").open("w") as said:
            return subprocess.Popen(
                [sys.executable, "-c", code, str(trace), *command, "--out", "run"], cwd=out.parent, stdout=said,
                stderr=subprocess.STDOUT,
            )  # fmt: skip

    problems = campaign(begin, folder, n, seed=" ".join(command), say=print)
    sys.exit("\n".join(problems) or 0)


if __name__ == "__main__":
    main(sys.argv[1:])
