"""Cross effects: the numbers against those of one item at a time, the floor, going on, and what the command shows."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from scipy import stats
from scipy.special import logsumexp
from small_sweep import BEHAVIOR, CHOICE, small_vector, write_items

from steercpp.cli.main import main
from steercpp.data.items import BehaviorItem, read_behavior
from steercpp.data.pairs import read_pairs
from steercpp.data.sets.embedded import load
from steercpp.engine.engine import Engine
from steercpp.engine.steering import Steering
from steercpp.errors import InputError, RunError
from steercpp.experiments.cross import Change, CrossEffects, Push, cross
from steercpp.experiments.figures import cross_figure
from steercpp.extraction.extract import extract
from steercpp.reports.style import rendered
from steercpp.sweeps.work import behavior_work, choice_work
from steercpp.vectors.control_vector import ControlVector
from steercpp.vectors.gguf import write_vector

OTHERS = tuple(replace(item, id=f"o-{i}", aligned=(" one",), misaligned=(" two",)) for i, item in enumerate(BEHAVIOR))
BEHAVIORS = {"first": BEHAVIOR, "second": OTHERS[:6]}


@pytest.fixture
def pushes(tiny_engine: Engine) -> list[Push]:
    vector = small_vector(tiny_engine)
    rng = np.random.default_rng(5)
    other = {3: (3 * rng.standard_normal(tiny_engine.n_embd)).astype(np.float32)}
    return [
        Push("low", vector, 4.0),
        Push("high", ControlVector(other, vector.model_hint, vector.n_layer), -1.5),
    ]


def raw(engine: Engine, item: BehaviorItem, steering: Steering | None) -> tuple[float, float]:
    """P+ - P- and the same over P+ + P-, of one item alone."""
    work = behavior_work(engine, [item])
    (nats,) = engine.logprobs(work.batches[0], steering=steering)
    sides = np.array(work.sides()[0])
    plus, minus = (np.exp(logsumexp(nats[sides == side])) for side in ("aligned", "misaligned"))
    return float(plus - minus), float((plus - minus) / (plus + minus))


def test_each_cell_is_the_mean_change_of_its_items(tiny_engine: Engine, pushes: list[Push]) -> None:
    found = cross(tiny_engine, pushes, BEHAVIORS, choice=CHOICE, n_random=2)
    assert found.behaviors == ("first", "second") and found.n_items == {"first": 8, "second": 6}
    for push, row in zip(pushes, found.rows, strict=True):
        steering = Steering(push.vector, push.strength)
        for name, items in BEHAVIORS.items():
            alone = np.array([np.subtract(raw(tiny_engine, i, steering), raw(tiny_engine, i, None)) for i in items])
            # float32 logits of other batches differ by 1e-5 of a nat
            assert row.raw[name].value == pytest.approx(alone[:, 0].mean(), abs=1e-5)
            assert row.normalized[name].value == pytest.approx(alone[:, 1].mean(), abs=1e-5)
            assert row.raw[name].low < row.raw[name].value < row.raw[name].high
            assert len(row.raw[name].floor) == 2
        work = choice_work(tiny_engine, CHOICE)
        assert row.p_correct is not None and found.unsteered_p is not None
        means = []
        for batch in work.batches:
            logprobs = tiny_engine.logprobs(batch, steering=steering)
            for member, nats in zip(batch.members, logprobs, strict=True):
                right = [side == str(CHOICE[member].answer) for side in work.sides()[member]]
                means.append(np.exp(nats[right]).max())
        assert row.p_correct.value == pytest.approx(np.mean(means) - found.unsteered_p, abs=1e-6)
    assert np.isnan(found.cosines[0][1])  # no layer in common


def test_intervals_are_those_of_a_mean_over_items(tiny_engine: Engine, pushes: list[Push]) -> None:
    items = [replace(BEHAVIOR[i % 8], id=str(i), prompt=f"{BEHAVIOR[i % 8].prompt} {i}") for i in range(40)]
    found = cross(tiny_engine, pushes[:1], {"many": items}, n_random=0)
    one, steering = found.rows[0].raw["many"], Steering(pushes[0].vector, pushes[0].strength)
    changes = np.array([raw(tiny_engine, i, steering)[0] - raw(tiny_engine, i, None)[0] for i in items])
    error = changes.std(ddof=1) / np.sqrt(40)
    low, high = stats.t.interval(0.95, 39, changes.mean(), error)
    # 1000 resamples place each end within 0.1 standard errors or so; 0.5 leaves room for what is skewed
    np.testing.assert_allclose([one.low, one.high], [low, high], atol=0.5 * error)
    assert one.floor == () and not one.beyond
    few = cross(tiny_engine, pushes[:1], {"few": BEHAVIOR[:4]}, n_random=0).rows[0].raw["few"]
    assert np.isnan([few.low, few.high]).all() and np.isfinite(few.value)


def test_beyond_is_sure_and_larger_than_every_random_direction() -> None:
    assert Change(-0.3, -0.4, -0.2, floor=(0.1, -0.2)).beyond
    assert not Change(-0.3, -0.7, 0.1, floor=(0.1, -0.2)).beyond
    assert (
        not Change(-0.3, float("nan"), float("nan"), floor=(0.1, -0.2)).beyond and not Change(-0.3, -0.4, -0.2).beyond
    )
    assert not Change(0.15, 0.1, 0.2, floor=(0.1, -0.2)).beyond


@pytest.fixture(scope="module")
def own_matrix() -> CrossEffects:
    """The embedded model's refusal and fairness vectors, each on both behaviors."""
    own = load()
    folder = own.path.parent
    with Engine(own.path, threads=1) as engine:
        pushes = []
        for name in ("refusal", "fairness"):
            vector = extract(engine, read_pairs(folder / f"{name}.pairs.jsonl"), layers=own.layers)
            norms = engine.residual_norms([engine.encode(item.prompt) for item in own.behavior()[:6]], vector.layers)
            pushes.append(Push(name, vector.scaled(norms), 0.25))
        items = {name: read_behavior(folder / f"{name}.behavior.jsonl")[:12] for name in ("refusal", "fairness")}
        return cross(engine, pushes, items, n_random=4)


def test_each_vector_moves_its_own_behavior_most(own_matrix: CrossEffects) -> None:
    """Planted by training: two behaviors with vectors of their own. Measured 0.87 and 0.58, crosswise -0.11, -0.32."""
    for row in own_matrix.rows:
        own = row.raw[row.name]
        assert own.value > 0.4 and own.low > 0.3 and own.beyond
        assert all(abs(other.value) < own.value - 0.2 for name, other in row.raw.items() if name != row.name)


def test_the_picture_is_the_same_each_time(own_matrix: CrossEffects) -> None:
    for kind, start in (("png", b"\x89PNG"), ("svg", b"<?xml")):
        data = rendered(cross_figure(own_matrix), kind)
        assert data.startswith(start) and data == rendered(cross_figure(own_matrix), kind)
    texts = rendered(cross_figure(own_matrix), "svg").decode()
    assert "refusal" in texts and "largest of" in texts


class _Interrupt(Exception):
    pass


def test_an_interrupted_matrix_goes_on_to_the_same_numbers(
    tiny_engine: Engine, pushes: list[Push], tmp_path: Path
) -> None:
    steps: list[int] = []

    def stop(done: int, total: int, label: str) -> None:
        steps.append(done)
        if len(steps) == 3:
            raise _Interrupt

    options: dict[str, Any] = {"choice": CHOICE, "n_random": 1, "out": tmp_path / "m"}
    with pytest.raises(_Interrupt):
        cross(tiny_engine, pushes, BEHAVIORS, progress=stop, **options)
    before = tiny_engine.token_layers
    asked = [replace(item, id=f"{name}: {item.id}") for name, part in BEHAVIORS.items() for item in part]
    behavior_work(tiny_engine, asked)
    choice_work(tiny_engine, CHOICE)
    asking = tiny_engine.token_layers - before  # a few prompts, for what the model opens its answers with
    before = tiny_engine.token_layers
    found = cross(tiny_engine, pushes, BEHAVIORS, **options)
    rest = tiny_engine.token_layers - before - asking
    whole = cross(tiny_engine, pushes, BEHAVIORS, choice=CHOICE, n_random=1)
    assert [row.raw for row in found.rows] == [row.raw for row in whole.rows]
    assert 0 < rest < whole.token_layers
    before = tiny_engine.token_layers
    cross(tiny_engine, pushes, BEHAVIORS, **options)
    assert tiny_engine.token_layers - before == asking  # all there: nothing else is computed
    with pytest.raises(RunError, match="holds other vectors, strengths or items"):
        cross(tiny_engine, pushes[:1], BEHAVIORS, **options)
    cross(tiny_engine, pushes[:1], BEHAVIORS, force=True, **options)


def test_what_cannot_be_crossed_is_refused(tiny_engine: Engine, pushes: list[Push], tmp_path: Path) -> None:
    one, two = pushes
    for wrong, words in (
        ([], "nothing to cross"),
        ([one, replace(two, name="low")], "two vectors are called 'low'"),
        ([replace(one, strength=0.0)], "low has the strength 0"),
        ([replace(one, vector=one.vector.with_metadata(operator="clamp"))], "low is meant for"),
    ):
        with pytest.raises(InputError, match=words):
            cross(tiny_engine, wrong, BEHAVIORS)
    with pytest.raises(InputError, match="nothing to cross"):
        cross(tiny_engine, pushes, {"none": ()})
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="is a file, not a folder; choose another place"):
        cross(tiny_engine, pushes, BEHAVIORS, out=tmp_path / "file")


@pytest.fixture
def files(tmp_path: Path, tiny_path: Path, pushes: list[Push], monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """MODEL with two vectors and two behaviors, in the working directory."""
    monkeypatch.chdir(tmp_path)
    items, choices, _ = write_items(tmp_path)
    items.rename("one.behavior.jsonl")
    Path("two.jsonl").write_text(Path("one.behavior.jsonl").read_text())
    choices.rename("c.jsonl")
    for push in pushes:
        write_vector(Path(f"{push.name}.gguf"), push.vector)
    yield [str(tiny_path), "--vector", "low.gguf:4", "--vector", "high.gguf", "--strength", "-1.5",
           "--behavior", "one.behavior.jsonl", "--behavior", "two.jsonl", "--random", "2"]  # fmt: skip


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["cross", *arguments, "--threads", "1"], env={"COLUMNS": "80"})


def test_vectors_of_runs_are_called_after_them(files: list[str]) -> None:
    """Every run's vector is vector.gguf; the matrix called each of them ".gguf:2"."""
    for name in ("refusal", "honesty"):
        Path("runs", name).mkdir(parents=True)
        Path("high.gguf" if name == "honesty" else "low.gguf").rename(f"runs/{name}/vector.gguf")
    vectors = ("--vector", "runs/refusal/vector.gguf:2", "--vector", "runs/honesty/vector.gguf:2")
    result = run(files[0], *vectors, "--behavior", "two.jsonl", "--random", "0")
    assert result.exit_code == 0, result.stderr
    assert "refusal +2" in result.stdout and "honesty +2" in result.stdout and ".gguf" not in result.stdout


def test_the_command_shows_and_keeps_the_matrix(files: list[str], tmp_path: Path) -> None:
    result = run(*files, "--task", "c.jsonl", "--out", "m")
    assert result.exit_code == 0, result.stderr
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert "low +4" in result.stdout and "high -1.5" in result.stdout and "P(correct)" in result.stdout
    assert {path.name for path in Path("m").iterdir()} == {
        f"cross.{k}" for k in ("sqlite", "json", "csv", "png", "svg")
    }
    record = json.loads(Path("m/cross.json").read_text())
    with open("m/cross.csv", newline="") as table:
        rows = list(csv.DictReader(table))
    assert len(rows) == 2 * (2 + 2 + 1)
    told = {(row["vector"], row["behavior"], row["measure"]): float(row["change"]) for row in rows}
    for row in record["rows"]:
        for name in ("one", "two"):
            assert told[row["name"], name, "alignment_raw"] == pytest.approx(
                row["alignment_raw"][name]["value"], rel=1e-9
            )
    assert record["rows"][0]["alignment_raw"]["one"]["value"] == pytest.approx(
        record["rows"][0]["alignment_raw"]["two"]["value"], abs=1e-6
    )
    shown = run(*files, "--task", "c.jsonl", "--out", "m", "--json")
    assert json.loads(shown.stdout)["rows"] == record["rows"]


def test_many_behaviors_and_long_names_fit(files: list[str], tmp_path: Path) -> None:
    names = [f"a-very-long-name-of-a-behavior-{i}" for i in range(6)]
    for name in names:
        Path(f"{name}.jsonl").write_text(Path("two.jsonl").read_text())
    more = [word for name in names for word in ("--behavior", f"{name}.jsonl")]
    result = run(*files[:3], *more, "--strength", "1", "--random", "1")
    assert result.exit_code == 0, result.stderr
    assert max(map(len, result.stdout.splitlines())) <= 80 and "behavior-5" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["m.gguf"], 2, "MODEL needs --vector V.gguf and --behavior B"),
        (["--kl", "1"], 2, "--kl is for --unit kl"),
        (["--behavior", "none.jsonl"], 1, "none.jsonl"),
        (["--behavior", "refusall"], 1, "refusal"),
        (["--strength", "0", "--limit", "2", "--random", "0"], 1, "has the strength 0"),
    ],
)
def test_bad_input_is_one_sentence(arguments: list[str], code: int, words: str) -> None:
    result = run(*arguments)
    assert result.exit_code == code and words in result.stderr and "Traceback" not in result.output


def test_a_vector_needs_a_strength(files: list[str]) -> None:
    result = run(*[word for word in files if word not in ("--strength", "-1.5")])
    assert result.exit_code == 2 and "high.gguf: no strength" in result.stderr
    recommended = small_vector_with(1.25)
    write_vector(Path("high.gguf"), recommended, force=True)
    shown = run(*[word for word in files if word not in ("--strength", "-1.5")], "--json")
    assert [row["strength"] for row in json.loads(shown.stdout)["rows"]] == [4.0, 1.25]


def small_vector_with(strength: float) -> ControlVector:
    rng = np.random.default_rng(2)
    rows = {2: rng.standard_normal(256).astype(np.float32)}
    return ControlVector(rows, "llama", 4).with_metadata(recommended_strength=strength)
