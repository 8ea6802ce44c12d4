"""Two processes and one folder, one of them stopped at some operation: what is there at the end is one whole run.

Of 50 pairs, seeded, a sample is tried; `STEERCPP_FAULTS=all` tries them all and prints how they ended.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from faults import Faults, Outcome, compiled, wait_until_stopped
from small_sweep import numbers

from steercpp.locks import MEASURING
from steercpp.runs.result import open_run

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux" or shutil.which("cc") is None, reason="needs Linux and a C compiler"),
]

N_PAIRS = 50
PLANS = ("sweep", "force")  # of fault_scenarios.py: one plan, and another with `force`
BETWEEN = ("nothing", "nothing", "lock removed", "folder removed", "folder moved")
IS_ALL = os.environ.get("STEERCPP_FAULTS") == "all"


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Faults, Faults]]:
    library = compiled(tmp_path_factory.mktemp("shim"))
    with ExitStack() as stack:
        yield stack.enter_context(Faults(library)), stack.enter_context(Faults(library))


def disturb(out: Path, how: str) -> None:
    """What a user might do while a process is stopped."""
    if how == "lock removed":
        (out / MEASURING).unlink(missing_ok=True)
    elif how == "folder removed":
        shutil.rmtree(out, ignore_errors=True)
    elif how == "folder moved" and out.exists():
        out.rename(out.with_name("moved"))


def kind_of(said: str) -> str:
    """What an end was, in a few words."""
    words = {"no longer holds": "lost its place", "is writing there": "told who writes", "another plan": "other plan"}
    return next((name for part, name in words.items() if part in said), said)


def one_pair(two: tuple[Faults, Faults], model: Path, work: Path, seed: int, n_operations: int) -> tuple[str, str]:
    """How both ended; the folder holds one whole run of the one that wrote last."""
    draw = random.Random(seed)
    a, b = draw.choice(PLANS), draw.choice(PLANS)
    how, is_stopped = draw.choice(BETWEEN), seed % 5 > 0
    out = work / "out"
    expected = {plan: numbers(work / plan) for plan in PLANS}
    if draw.random() < 0.5:
        shutil.copytree(work / "sweep", out)  # a finished run was there before
    stops_at = draw.randrange(1, n_operations + 1) if is_stopped else 0
    first = two[0].start(a, model, out, folder=out, n=stops_at, what="stop")
    stopped = is_stopped and wait_until_stopped(first)
    if stopped:
        disturb(out, how)
    two[1].start(b, model, out, folder=out)
    second: Outcome = two[1].finish()
    if stopped:
        os.kill(first, signal.SIGCONT)
    outcome: Outcome = two[0].finish()
    for ended in (outcome, second):
        assert ended.end in ("done", "refused") and "\n" not in ended.said, ended.said
    if stopped and how == "nothing" and second.end == "refused" and "is writing there" in second.said:
        assert f"process {first} " in second.said
    if "done" not in (outcome.end, second.end) and how == "lock removed":  # the stopped one held SQLite's own lock
        assert "cannot be read (" in second.said, second.said
        second = two[1].run(b, model, out, folder=out)
    assert "done" in (outcome.end, second.end), f"{a}, {b}, {how}, {stops_at} {stopped}: {outcome.said} | {second.said}"
    last = a if outcome.end == "done" and (second.end == "refused" or stopped) else b
    whole = [plan for plan in PLANS if numbers(out) == expected[plan]]
    assert open_run(out).finished and len(whole) == 1
    if is_stopped:
        assert whole == [last], (whole, outcome, second)
    again = two[1].run(whole[0], model, out, folder=work / "nowhere")
    assert again.end == "done" and numbers(out) == expected[whole[0]]
    assert not [path.name for path in out.iterdir() if path.name.startswith(".")]
    return (outcome.said or outcome.end, second.said or second.end)


def test_of_two_processes_one_whole_run_is_left(
    two: tuple[Faults, Faults], tiny_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was wrong: a sweep that was stopped, and went on after another plan's `force`, spoiled the other's run."""
    for plan in PLANS:
        undisturbed = two[0].run(plan, tiny_path, tmp_path / plan, folder=tmp_path / plan, what="stop")
        assert undisturbed.end == "done", undisturbed.said
    ends: Counter[tuple[str, str]] = Counter()
    seeds = range(N_PAIRS) if IS_ALL else (1, 2, 4)
    for seed in seeds:
        for name in ("out", "moved"):
            shutil.rmtree(tmp_path / name, ignore_errors=True)
        said = one_pair(two, tiny_path, tmp_path, seed, undisturbed.n)
        ends[kind_of(said[0]), kind_of(said[1])] += 1
    if IS_ALL:
        with capsys.disabled():
            print(f"\n{len(seeds)} pairs, how the stopped one and the other ended: {dict(ends)}")
