"""Matrices on tiny models: what is made once, what is kept, what fails, and what the report says."""

from __future__ import annotations

import csv
import io
import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from planted_run import write_planted_run
from small_sweep import numbers, write_items

from steercpp.cli.main import main
from steercpp.engine.engine import Engine
from steercpp.errors import RunError
from steercpp.experiments.study.matrix_estimate import MatrixEstimate
from steercpp.experiments.study.matrix_report import MatrixOutcome, MatrixResult, write_matrix
from steercpp.experiments.study.matrix_work import study_matrix
from steercpp.experiments.study.preset import Preset, load_preset, parse_preset
from steercpp.reports.compared import ComparedRun
from steercpp.runs.judgement import judge
from steercpp.runs.result import open_run
from steercpp.runs.verdict import verdict_of
from steercpp.vectors.control_vector import ControlVector
from steercpp.vectors.gguf import read_vector, write_vector

pytestmark = pytest.mark.slow

TEXT = """
about = "Two tiny models."

[matrix]
models = {{ one = "{one}", two = "{two}" }}
bands = ["1-2", "2"]
strengths = "-0.5,0.5"
random_directions = 1
exclude = [{{ model = "two", band = "2" }}, {{ vector = "mine", band = "2" }}, {{ vector = "mine", operator = "away" }},
           {{ vector = "mine", model = "two" }}, {{ band = "2", operator = "away" }}]

[matrix.operators.add]

[matrix.operators.away]
operator = "ablate"
positions = "prompt"
strengths = "0.5,1"

[matrix.vectors.words]
pairs = "{pairs}"

[matrix.vectors.mine]
file = "{folder}/{{model}}.gguf"

[matrix.sets.small]
behavior = "{behavior}"
tasks = ["{choice}"]
instruction = "no no way cannot"
limit = 4
"""
NAMES = ["one/words/1-2/add/small", "one/words/1-2/away/small", "one/words/2/add/small", "one/mine/1-2/add/small",
         "two/words/1-2/add/small", "two/words/1-2/away/small"]  # fmt: skip
MINE = NAMES[3]
KILLED = """
import os, signal, sys
from pathlib import Path
from steercpp.engine.engine import Engine
from steercpp.experiments.study.matrix_work import study_matrix
from steercpp.experiments.study.preset import load_preset

def progress(done, total, label):
    if label.startswith("2 of 6") and "3 of 3" in label:
        os.kill(os.getpid(), signal.SIGKILL)

study_matrix(load_preset(sys.argv[1]), {}, load=lambda path: Engine(path, threads=1), out=Path(sys.argv[2]),
             progress=progress)
"""


class Watched:
    """Loads models and hears of progress, and remembers both."""

    def __init__(self) -> None:
        self.loaded: list[str] = []
        self.labels: list[str] = []

    def load(self, path: Path) -> Engine:
        self.loaded.append(path.name)
        return Engine(path, threads=1)

    def progress(self, done: int, total: int, label: str) -> None:
        if done == total and label not in self.labels:
            self.labels.append(label)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory, model_maker: Callable[[str], Path]) -> Path:
    folder = tmp_path_factory.mktemp("matrix")
    behavior, choice, pairs = write_items(folder)
    path = folder / "small.toml"
    path.write_text(TEXT.format(
        one=model_maker("tiny-F32"), two=model_maker("tiny-Q8_0"), folder=folder, behavior=behavior, choice=choice,
        pairs=pairs,
    ))  # fmt: skip
    write_vector(folder / "one.gguf", ControlVector({1: np.ones(24, np.float32)}, "llama", 4))  # of another width
    return path


@pytest.fixture(scope="module")
def measured(file: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[MatrixResult, Watched, MatrixEstimate]:
    watched, estimates = Watched(), list[MatrixEstimate]()
    out = tmp_path_factory.mktemp("measured") / "out"
    found = study_matrix(
        load_preset(str(file)), {}, load=watched.load, out=out, progress=watched.progress, on_estimate=estimates.append
    )
    (estimate,) = estimates
    return found, watched, estimate


def outcomes(found: MatrixResult) -> dict[str, MatrixOutcome]:
    return {outcome.cell.name: outcome for outcome in found.outcomes}


def test_two_processes_give_the_rows_of_one(
    measured: tuple[MatrixResult, Watched, MatrixEstimate], file: Path, tmp_path: Path
) -> None:
    found, _, _ = measured
    spread = study_matrix(
        load_preset(str(file)), {}, load=lambda path: Engine(path, threads=1), out=tmp_path / "out", executor=2
    )
    ours, theirs = outcomes(spread), outcomes(found)
    assert list(ours) == list(theirs) and [name for name in ours if ours[name].run is None] == [MINE]
    for name in set(ours) - {MINE}:
        assert numbers(ours[name].folder) == numbers(theirs[name].folder)


def test_each_combination_lies_in_its_folder_and_one_that_fails_stops_no_other(
    measured: tuple[MatrixResult, Watched, MatrixEstimate],
) -> None:
    found, _, estimate = measured
    assert list(outcomes(found)) == NAMES
    for name, outcome in outcomes(found).items():
        assert outcome.folder == found.folder / "small" / "runs" / name
        assert (outcome.run is None) == (name == MINE)
    run = open_run(found.folder / "small" / "runs" / NAMES[1])
    assert (run.manifest.plan.operator, run.manifest.plan.positions) == ("ablate", "prompt")
    assert run.strengths.tolist() == [0.0, 0.5, 1.0] and run.manifest.vector.layers == (1, 2)
    (reason,) = found.failed
    assert "has 24 values per layer" in reason and found.failure.startswith(f"{found.folder}: 1 of 6 runs could not")
    assert dict(estimate.problems) == {MINE: reason}  # which was said before


def test_the_estimate_is_what_the_manifests_tell(measured: tuple[MatrixResult, Watched, MatrixEstimate]) -> None:
    found, _, estimate = measured
    said = {step.title: step.token_layers for step in estimate.steps}
    tokens = {outcome.cell.name: outcome.run.judgement.result.manifest.tokens
              for outcome in found.outcomes if outcome.run}  # fmt: skip
    assert {name: told and told.token_layers for name, told in tokens.items()} == {
        name: said[name] for name in NAMES if name != MINE
    }
    assert estimate.token_layers == sum(step.token_layers for step in estimate.steps) and estimate.seconds > 0
    assert (estimate.n_runs, estimate.n_finished) == (6, 0)


def test_vectors_are_made_once_on_each_model_and_cut_for_each_band(
    measured: tuple[MatrixResult, Watched, MatrixEstimate],
) -> None:
    found, watched, _ = measured
    made = [label for label in watched.labels if "reading the pairs" in label]
    assert made == ["one, vector words: reading the pairs", "two, vector words: reading the pairs"]
    whole = read_vector(found.folder / "small" / "vectors" / "one" / "words.gguf")
    assert whole.layers == (1, 2)
    direction = whole.directions[2] / np.linalg.norm(whole.directions[2])
    for name in (NAMES[0], NAMES[2]):
        cut = read_vector(found.folder / "small" / "runs" / name / "vector.gguf").directions[2]
        np.testing.assert_allclose(cut / np.linalg.norm(cut), direction, atol=1e-6)  # float32


def test_the_same_study_again_loads_each_model_once_and_measures_what_failed(
    measured: tuple[MatrixResult, Watched, MatrixEstimate], file: Path, tmp_path: Path
) -> None:
    """A copy of the folder, since other tests read it; another plan is refused, or with force takes what it can."""
    first, _, _ = measured
    out = tmp_path / "again"
    subprocess.run(["cp", "-a", str(first.folder), str(out)], check=True)
    assert json.loads((out / "study.json").read_text())["finished"] is None
    mine = file.parent / "one.gguf"
    bad = mine.read_bytes()
    vector = read_vector(out / "small" / "vectors" / "one" / "words.gguf")
    mine.unlink()
    write_vector(mine, vector)
    try:
        watched = Watched()
        found = study_matrix(load_preset(str(file)), {}, load=watched.load, out=out, progress=watched.progress)
    finally:
        mine.write_bytes(bad)
    assert not found.failed and watched.loaded == ["tiny-F32.gguf", "tiny-Q8_0.gguf"]
    decoded = {
        name: outcome.run.judgement.result.decoded_now for name, outcome in outcomes(found).items() if outcome.run
    }
    assert [name for name, n in decoded.items() if n] == [MINE]
    assert not any("reading the pairs" in label for label in watched.labels)
    record = json.loads((out / "study.json").read_text())
    assert record["finished"] and list(record["runs"]) == NAMES
    assert numbers(found.outcomes[3].folder) == numbers(found.outcomes[0].folder)  # the same vector, from its file

    text = file.read_text().replace("two =", "three =").replace('model = "two"', 'model = "three"')
    other = parse_preset(text, name="small", place="small")
    with pytest.raises(RunError, match="holds a study of another plan"):
        study_matrix(other, {}, load=watched.load, out=out)


def test_a_killed_study_goes_on_to_the_same_rows(
    measured: tuple[MatrixResult, Watched, MatrixEstimate], file: Path, tmp_path: Path
) -> None:
    first, _, _ = measured
    out = tmp_path / "killed"
    child = subprocess.run([sys.executable, "-c", KILLED, str(file), str(out)], check=False, capture_output=True)
    assert child.returncode == -signal.SIGKILL, child.stderr
    store = out / "small" / "runs" / NAMES[0] / "sweep.sqlite"
    before = store.stat().st_mtime_ns
    begun = open_run(out / "small" / "runs" / NAMES[1])
    assert not begun.finished and not (out / "small" / "runs" / NAMES[2]).exists()
    found = study_matrix(load_preset(str(file)), {}, load=Watched().load, out=out)
    assert store.stat().st_mtime_ns == before and list(found.failed) == list(first.failed)
    for name in NAMES:
        if name != MINE:
            assert numbers(out / "small" / "runs" / name) == numbers(first.folder / "small" / "runs" / name)


def test_the_report_has_the_runs_own_values(measured: tuple[MatrixResult, Watched, MatrixEstimate]) -> None:
    found, _, _ = measured
    data = json.loads((found.folder / "matrix.json").read_text())
    rows = {row["run"]: row for row in data["runs"]}
    table = {row["run"]: row for row in csv.DictReader(io.StringIO((found.folder / "matrix.csv").read_text()))}
    assert list(rows) == list(table) == NAMES
    for name in NAMES:
        row, line = rows[name], table[name]
        assert list(row) == list(line) and row["folder"] == f"small/runs/{name}"
        if name == MINE:
            assert row["verdict"] == "failed" and row["gain"] is None and "24 values" in line["reason"]
            continue
        own = verdict_of(judge(open_run(found.folder / row["folder"])))
        assert (row["verdict"], row["recommended"], row["at"]) == (own.kind, own.strength, own.at)
        assert row["gain"] == (own.gain and own.gain.value) and row["loss"] == (own.cost and own.cost.value)
        assert row["n_behavior"] == (own.gain and own.gain.n_items) and int(line["token_layers"]) == row["token_layers"]
    page = (found.folder / "study.html").read_text()
    links = set(re.findall(r'<a href="([^"]+)"', page))
    assert links == {f"small/runs/{name}/report.html" for name in NAMES if name != MINE}
    assert all((found.folder / link).is_file() for link in links)
    assert "24 values per layer" in page and page.count("<svg") == 2


def test_the_best_of_a_model_is_chosen_and_told_on_other_items(tmp_path: Path) -> None:
    """Planted runs with a strength to recommend: the surer gain wins, and the page says it first."""
    preset = parse_preset("""
about = "Planted"
[matrix]
models = { m = "embedded" }
bands = ["3-4", "5"]
strengths = "1"
[matrix.vectors.v]
pairs = "refusal"
[matrix.sets.s]
behavior = "refusal"
""", name="p", place="p")  # fmt: skip
    found = planted(preset, tmp_path)
    (best,) = found.best
    assert [outcome.kind for outcome in found.outcomes] == ["use", "use"]
    gains = [outcome.chosen_by for outcome in found.outcomes]
    assert gains[0] != gains[1] and best.outcome is found.outcomes[int(np.argmax(gains))]
    assert best.verdict is not None and best.verdict.gain is not None and best.nearest == ""
    told = best.outcome.run.judgement.recommendation if best.outcome and best.outcome.run else None
    assert told is not None and told.reported_on is not None and best.verdict.gain.value == told.reported_on.gain
    write_matrix(found)
    page = (tmp_path / "study.html").read_text()
    assert page.index(best.headline()) < page.index("The matrix") and page.count('use best"') == 1
    assert json.loads((tmp_path / "matrix.json").read_text())["best"][0]["run"] == best.outcome.cell.name


def planted(preset: Preset, folder: Path) -> MatrixResult:
    assert preset.matrix is not None
    found = []
    for cell, strengths in zip(preset.matrix.cells, ("-0.3:0.3:0.05", "-0.05:0.05:0.05"), strict=True):
        run = folder / "p" / "runs" / cell.folder
        write_planted_run(run, strengths=strengths, n_random=0)
        judgement = judge(open_run(run))
        found.append(MatrixOutcome(cell, run, ComparedRun(cell.name, judgement, verdict_of(judgement))))
    return MatrixResult(folder, preset, {"m": Path("m.gguf")}, tuple(found))


def command(*arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "80"}).invoke(main, ["study", *arguments], catch_exceptions=False)


def test_the_command_estimates_measures_and_tells_what_failed(
    measured: tuple[MatrixResult, Watched, MatrixEstimate], file: Path, tmp_path: Path
) -> None:
    found, _, estimate = measured
    given = (str(file), "--threads", "1")
    dry = command(*given, "--out", str(tmp_path / "none"), "--dry-run")
    assert dry.exit_code == 0 and not (tmp_path / "none").exists()
    assert f"5 of 6 runs to measure, 1 that cannot be measured: {estimate.token_layers:,} token-layers" in (
        " ".join(dry.stdout.split())
    )
    data = json.loads(command(*given, "--out", str(found.folder), "--dry-run", "--json").stdout)
    assert (data["n_runs"], data["n_finished"], data["token_layers"], list(data["problems"])) == (6, 5, 0, [MINE])

    shown = command(*given, "--out", str(found.folder))
    assert (
        shown.exit_code == 1
        and "error:" in shown.stderr
        and f"1 of 6 runs could not be measured ({MINE})" in shown.stderr
    )
    assert "5 finished already" in shown.stderr and "not measured: one/mine" in shown.stdout
    for line in (*dry.stdout.splitlines(), *shown.stdout.splitlines()):
        assert len(line) <= 80 or str(found.folder) in line
    asked = command(*given, "--out", str(found.folder), "--json")
    stored = json.loads((found.folder / "matrix.json").read_text())
    assert asked.exit_code == 1 and json.loads(asked.stdout) == {**stored, "folder": str(found.folder)}
