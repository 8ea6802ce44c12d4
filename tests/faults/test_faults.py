"""Every file operation of a command fails once: a kill, a full disk, a broken one; nothing that was there is lost.

After each the same command ends as an undisturbed one does, and leaves nothing behind; and before it, where the fault
was told in a sentence, all that was there is there still. A seeded sample of the operations is tried;
`STEERCPP_FAULTS=all` tries every one, prints the counts, and takes a quarter of an hour.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from fault_scenarios import SCENARIOS
from faults import Faults, Outcome, compiled
from small_sweep import numbers

from steercpp.errors import RunError
from steercpp.experiments.constants.derive import Constants
from steercpp.experiments.constants.store import write_constants
from steercpp.runs.manifest import read_manifest
from steercpp.runs.result import open_run

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux" or shutil.which("cc") is None, reason="needs Linux and a C compiler"),
]

IS_ALL = os.environ.get("STEERCPP_FAULTS") == "all"
N_SAMPLED = 2  # points for each scenario and each kind of fault
FAULTS_OF = ("kill", "full", "broken")


@dataclass(frozen=True)
class Place:
    """Where a scenario works, and what it is given.

    Attributes:
        model: the tiny one.
        ready: folders that are copied before each try: "old" a finished run, "planted" one without a model.
        work: the folder of a try; its files count.
    """

    model: Path
    ready: Path
    work: Path

    @property
    def out(self) -> Path:
        """What the scenario writes."""
        return self.work / "out"


@pytest.fixture(scope="module")
def faults(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Faults]:
    with Faults(compiled(tmp_path_factory.mktemp("shim"))) as running:
        yield running


@pytest.fixture(scope="module")
def place(tiny_path: Path, faults: Faults, tmp_path_factory: pytest.TempPathFactory) -> Place:
    folder = tmp_path_factory.mktemp("faults")
    made = Place(tiny_path, folder / "ready", folder / "work")
    nowhere = folder / "nowhere"
    assert faults.run("sweep", tiny_path, made.ready / "old", folder=nowhere).end == "done"
    assert faults.run("planted", "", made.ready / "planted", folder=nowhere).end == "done"
    return made


class Scenario:
    """What is begun with, what must hold after a fault, and at the end. A command that writes into an empty folder."""

    name = ""

    def __init__(self, place: Place) -> None:
        self.place = place

    @property
    def arguments(self) -> tuple[Path, Path]:
        """Of the scenario."""
        return self.place.model, self.place.out

    def prepare(self) -> None:
        """Lay out what is there before."""
        shutil.rmtree(self.place.work, ignore_errors=True)
        self.place.work.mkdir()

    def check_after(self, outcome: Outcome) -> None:
        """What must be there after a fault."""

    def result(self, outcome: Outcome) -> object:
        """What an undisturbed command and one after a fault have in common."""
        raise NotImplementedError


class Sweep(Scenario):
    """A new run."""

    name = "sweep"

    def result(self, outcome: Outcome) -> object:
        result = open_run(self.place.out)
        assert result.finished
        return numbers(self.place.out), result.recommend(), (self.place.out / "vector.gguf").read_bytes()


class Force(Sweep):
    """Another run in the place of a finished one."""

    name = "force"

    def prepare(self) -> None:
        super().prepare()
        shutil.copytree(self.place.ready / "old", self.place.out)

    def check_after(self, outcome: Outcome) -> None:
        old = self.place.ready / "old"
        if read_manifest(self.place.out).plan == read_manifest(old).plan:
            assert open_run(self.place.out).finished and numbers(self.place.out) == numbers(old)


class Cross(Scenario):
    """A new matrix."""

    name = "cross"

    def result(self, outcome: Outcome) -> object:
        return outcome.said


class Vector(Scenario):
    """A vector in the place of another file."""

    name = "vector"

    def prepare(self) -> None:
        super().prepare()
        self.place.out.mkdir()
        self.arguments[1].write_bytes(b"old")

    @property
    def arguments(self) -> tuple[Path, Path]:
        return self.place.model, self.place.out / "v.gguf"

    def check_after(self, outcome: Outcome) -> None:
        data = self.arguments[1].read_bytes()
        assert data == b"old" or (outcome.end != "refused" and len(data) > 17_000)

    def result(self, outcome: Outcome) -> object:
        return self.arguments[1].read_bytes()


class Score(Scenario):
    """Files that belong together, in the places of earlier ones."""

    name = "score"
    FILES = ("alignment.csv", "fits.csv", "score.json")

    def prepare(self) -> None:
        super().prepare()
        self.place.out.mkdir()
        for name in self.FILES:
            (self.place.out / name).write_text("old")

    @property
    def arguments(self) -> tuple[Path, Path]:
        return self.place.ready / "planted", self.place.out

    def check_after(self, outcome: Outcome) -> None:
        found = {name: (self.place.out / name).read_bytes() for name in self.FILES if (self.place.out / name).exists()}
        if outcome.end == "refused":
            assert found == dict.fromkeys(self.FILES, b"old")
        assert all(data == b"old" or len(data) > 10 for data in found.values())

    def result(self, outcome: Outcome) -> object:
        return {path.name: path.read_bytes() for path in self.place.out.iterdir()}


class Measured(Scenario):
    """Constants in the place of earlier ones, beside a run."""

    name = "constants"

    @property
    def arguments(self) -> tuple[Path, Path]:
        return self.place.model, self.place.out

    def prepare(self) -> None:
        super().prepare()
        shutil.copytree(self.place.ready / "planted", self.place.out)
        plan = read_manifest(self.place.out).plan.sha256
        write_constants(self.place.out, Constants({"plan_sha256": plan, "x": [0.0]}, {"a": np.zeros(3)}))

    def check_after(self, outcome: Outcome) -> None:
        record, arrays = self.place.out / "constants.json", self.place.out / "constants.npz"
        if not record.exists():
            assert outcome.end == "killed"
            return
        found = json.loads(record.read_bytes())
        assert found["x"] == [0.0] or (outcome.end != "refused" and found["x"] == [1.0, 2.0])
        assert found["arrays_sha256"] == sha256(arrays.read_bytes()).hexdigest()

    def result(self, outcome: Outcome) -> object:
        return (self.place.out / "constants.json").read_bytes(), (self.place.out / "constants.npz").read_bytes()


SCENARIO_CLASSES: tuple[Callable[[Place], Scenario], ...] = (Sweep, Force, Cross, Vector, Score, Measured)


def leftovers(folder: Path) -> list[str]:
    """What a command should not leave."""
    return [
        path.name for path in folder.rglob("*") if path.name.startswith(".") or path.name.endswith(("-wal", "-shm"))
    ]


@pytest.mark.parametrize("what", FAULTS_OF)
@pytest.mark.parametrize("of", SCENARIO_CLASSES, ids=[cls.name for cls in SCENARIO_CLASSES])  # type: ignore[attr-defined]
def test_no_fault_loses_anything(
    of: Callable[[Place], Scenario], what: str, place: Place, faults: Faults, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was wrong: after 28 of 79 kills at a run's birth, and a full disk at its end, no command went on."""
    scenario = of(place)
    scenario.prepare()
    undisturbed = faults.run(
        scenario.name, *scenario.arguments, folder=place.work, what=what
    )  # counts as the fault does
    assert undisturbed.end == "done", undisturbed.said
    expected = scenario.result(undisturbed)
    points = list(range(1, undisturbed.n + 1))
    if not IS_ALL:
        points = sorted(random.Random(f"{scenario.name} {what}").sample(points, min(N_SAMPLED, len(points))))
    ends: Counter[str] = Counter()
    problems = []
    for n in points:
        scenario.prepare()
        outcome = faults.run(scenario.name, *scenario.arguments, folder=place.work, n=n, what=what)
        ends[outcome.end] += 1
        try:
            assert outcome.end in ("done", "refused", *(["killed"] if what == "kill" else [])), outcome.said
            assert outcome.end != "refused" or outcome.said.count("\n") == 0
            scenario.check_after(outcome)
            again = faults.run(scenario.name, *scenario.arguments, folder=place.ready / "nowhere")
            assert again.end == "done", f"{outcome.said} | again: {again.said}"
            assert scenario.result(again) == expected
            assert leftovers(place.work) == []
        except (AssertionError, OSError, RunError) as problem:
            problems.append(f"{what} at {n} of {undisturbed.n} ({outcome.end}: {outcome.said}): {problem!r:.600}")
    if IS_ALL:
        with capsys.disabled():
            print(f"\n{scenario.name}, {what}: {len(points)} points, {dict(ends)}, {len(problems)} wrong")
    assert not problems, "\n".join(problems)


def test_every_scenario_is_tried() -> None:
    assert {cls.name for cls in SCENARIO_CLASSES} == set(SCENARIOS) - {"planted"}  # type: ignore[attr-defined]
