"""The sweep: the numbers are the model's own, an interrupted run goes on to the same bits, and nothing is lost."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from places import ROOT
from scipy.special import log_softmax
from small_sweep import BEHAVIOR, CHOICE, STRENGTHS, numbers, small_sweep, small_vector, write_items

from steercpp.data.items import BehaviorItem, ChoiceItem, choice_prompt, read_behavior, read_choices
from steercpp.engine.engine import Engine
from steercpp.engine.packing import Query
from steercpp.errors import (
    ContextOverflowError,
    InputError,
    LayerError,
    PromptError,
    RunError,
    ShapeError,
    TaskError,
)
from steercpp.runs.folder import STORE, VECTOR_FILE
from steercpp.runs.manifest import MANIFEST
from steercpp.runs.result import SweepResult, open_run
from steercpp.runs.scores import StrengthMeans
from steercpp.runs.store import Store
from steercpp.sweeps.sweep import sweep
from steercpp.sweeps.work import behavior_work, choice_work
from steercpp.vectors.control_vector import ControlVector
from steercpp.vectors.gguf import read_vector


@pytest.fixture(scope="module")
def finished(tiny_engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> SweepResult:
    return small_sweep(tiny_engine, tmp_path_factory.mktemp("finished") / "run")


def test_scores_are_the_probabilities_of_the_model(tiny_engine: Engine, finished: SweepResult) -> None:
    """One item by hand: a decode of its prompt and continuation alone, softmax over whole logits."""
    vector = read_vector(finished.vector_path)
    i = finished.strengths.tolist().index(0.5)
    prompt = tiny_engine.encode(BEHAVIOR[2].prompt)

    def logprob(tokens: tuple[int, ...]) -> float:
        total = 0.0
        for k, token in enumerate(tokens):
            (batch,) = tiny_engine.pack([Query(prompt + tokens[:k])])
            logits = tiny_engine.logits(batch, vector=vector, strengths=0.5)[-1].astype(np.float64)
            total += float(log_softmax(logits)[token])
        return total

    def summed(texts: tuple[str, ...]) -> float:
        return sum(float(np.exp(logprob(tiny_engine.continue_tokens("Do you like the man", text)))) for text in texts)

    aligned, misaligned = summed(BEHAVIOR[2].aligned), summed(BEHAVIOR[2].misaligned)
    assert finished.behavior is not None
    # The batch has other rows than the single decodes; F32 without flash attention agrees to 1e-4 nats.
    assert np.log(finished.behavior.p_aligned[i, 2]) == pytest.approx(np.log(aligned), abs=1e-4)
    assert np.log(finished.behavior.p_misaligned[i, 2]) == pytest.approx(np.log(misaligned), abs=1e-4)


def test_choices_are_read_at_the_letter_and_its_likeliest_spelling(tiny_engine: Engine, finished: SweepResult) -> None:
    (batch,) = tiny_engine.pack([Query(tiny_engine.encode(choice_prompt(CHOICE[5]), template="raw"))])
    logits = tiny_engine.logits(batch)[-1].astype(np.float64)
    ids = [[tiny_engine.token_id(spelling + letter) for spelling in ("", "▁")] for letter in "ABCD"]
    letters = np.exp([max(log_softmax(logits)[token] for token in pair if token is not None) for pair in ids])
    assert finished.choice is not None
    at_0 = finished.strengths.tolist().index(0.0)
    # abs 1e-4 nats between packed and single, as above
    assert np.log(finished.choice.p_free[at_0, 5]) == pytest.approx(np.log(letters[1]), abs=1e-4)
    assert finished.choice.p_restricted[at_0, 5] == pytest.approx(letters[1] / letters.sum(), rel=1e-3)


def test_the_written_vector_gives_the_stored_numbers_bit_for_bit(tiny_engine: Engine, finished: SweepResult) -> None:
    vector = read_vector(finished.folder / VECTOR_FILE)
    work = behavior_work(tiny_engine, BEHAVIOR)
    items = [item for batch in work.batches for item in tiny_engine.logprobs(batch, vector=vector, strengths=1.0)]
    again = np.concatenate(items).tolist()
    stored = [row[5] for row in numbers(finished.folder) if row[:3] == ("vector", "behavior", 1.0)]
    assert stored == again  # ==: the same batches give the same bits


def test_norm_unit_brings_each_tensor_to_the_residual_norm(tiny_engine: Engine, finished: SweepResult) -> None:
    prompts = [tiny_engine.encode(item.prompt) for item in BEHAVIOR]
    expected = tiny_engine.residual_norms(prompts, [1, 2])
    assert read_vector(finished.vector_path).norms == pytest.approx(expected, rel=1e-6)  # float32 products
    assert finished.manifest.vector.residual_norms == pytest.approx(list(expected.values()))


def test_length_unit_leaves_the_tensors_alone(tiny_engine: Engine, tmp_path: Path) -> None:
    result = small_sweep(tiny_engine, tmp_path / "run", unit="length", strengths=(1.0,), choice=(), random_directions=0)
    vector = small_vector(tiny_engine)
    for il, row in read_vector(result.vector_path).directions.items():
        np.testing.assert_array_equal(row, vector.directions[il])
    assert result.choice is None and result.recommend() is None
    assert set(result.controls.off) == {"random", "orthogonal", "prompt"}


def test_a_run_keeps_no_older_runs_recommendation(tiny_engine: Engine, tmp_path: Path) -> None:
    """The run's vector used to say what an earlier sweep or calibration had found with another model."""
    old = {"recommended_strength": 123.0, "max_loss": 0.5, "calibration.strength": 7.0}
    found = small_sweep(tiny_engine, tmp_path / "run", vector=small_vector(tiny_engine).with_metadata(**old),
                        unit="length", strengths=(1.0,), choice=(), random_directions=0)  # fmt: skip
    assert not set(old) & set(read_vector(found.vector_path).metadata)


def test_zero_is_measured_once_and_the_grid_is_complete(finished: SweepResult) -> None:
    assert finished.strengths.tolist() == [-0.5, 0.0, 0.5, 1.0]
    assert finished.finished and finished.decoded_now == finished.manifest.to_json()["tokens"]["decoded"]
    groups = {(label, kind, strength) for label, kind, strength, *_ in numbers(finished.folder)}
    assert ("vector", "choice", 0.0) in groups and ("random-0", "behavior", 0.0) not in groups
    # " yes good" of 8 items shares its prompt with the other continuations, as a plain loop does not
    assert finished.manifest.to_json()["tokens"]["plain_loop"] >= finished.manifest.to_json()["tokens"]["decoded"]


def test_controls_have_the_vectors_norms_and_the_strength_of_its_largest_gain(finished: SweepResult) -> None:
    assert finished.controls is not None and finished.behavior is not None
    assert len(finished.controls.raw_changes) == 2
    recommended = finished.recommend()
    assert recommended is not None
    if recommended.strength is None:
        positive = finished.strengths > 0
        best = finished.strengths[positive][finished.behavior.mean_raw[positive].argmax()]
        assert finished.controls.strength == best
    else:
        assert finished.controls.strength == recommended.strength


def test_an_interrupted_sweep_goes_on_to_the_same_bits(
    tiny_engine: Engine, tmp_path: Path, finished: SweepResult
) -> None:
    calls = 0

    def interrupt(done: int, total: int, label: str) -> None:
        nonlocal calls
        calls += 1
        if calls == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        small_sweep(tiny_engine, tmp_path / "run", progress=interrupt)
    kept = numbers(tmp_path / "run")
    assert kept and set(kept) < set(numbers(finished.folder))
    half = open_run(tmp_path / "run")
    assert not half.finished and 0 < len(half.strengths) < 4
    notes: list[str] = []
    result = small_sweep(tiny_engine, tmp_path / "run", note=notes.append)
    with Store.read(finished.folder / STORE, settled=True) as store:
        n_rows, n_all = len({row[:4] for row in kept}), store.n_rows()
    assert notes == [f"resumes {tmp_path / 'run'}: {n_rows} of {n_all} rows are there"] and 0 < n_rows < n_all
    small_sweep(tiny_engine, tmp_path / "run", note=notes.append)
    small_sweep(tiny_engine, tmp_path / "new", note=notes.append, strengths=(1.0,), random_directions=0)
    assert len(notes) == 1, "nothing is resumed where all is there, or nothing"
    assert numbers(tmp_path / "run") == numbers(finished.folder)
    assert 0 < result.decoded_now < result.manifest.to_json()["tokens"]["decoded"]
    tokens, whole = result.manifest.to_json()["tokens"], finished.manifest.to_json()["tokens"]
    assert {**tokens, "token_layers": 0} == {**whole, "token_layers": 0}
    assert tokens["token_layers"] > whole["token_layers"]  # the unsteered passes were run again, to start from


def test_a_finished_sweep_is_shown_without_computing(tiny_engine: Engine, finished: SweepResult) -> None:
    def never() -> ControlVector:
        raise AssertionError("the vector was asked for")

    before = {path.name: path.read_bytes() for path in finished.folder.iterdir()}
    seen: list[StrengthMeans] = []
    identity = finished.manifest.plan.vector
    result = small_sweep(tiny_engine, finished.folder, vector=never, vector_id=identity, on_strength=seen.append)
    assert result.decoded_now == 0 and [row.strength for row in seen] == [-0.5, 0.0, 0.5, 1.0]
    assert {path.name: path.read_bytes() for path in finished.folder.iterdir()} == before


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"strengths": (1.0,)}, "fewer strengths"),
        ({"strengths": (1.0, 2.0)}, "other strengths"),
        ({"seed": 1}, "other seed"),
        ({"unit": "length"}, "other unit"),
        ({"max_loss": 0.1}, "other max loss"),
        ({"behavior": BEHAVIOR[1:]}, "fewer behavior items"),
        ({"behavior": BEHAVIOR[::-1]}, "other behavior items"),
        ({"choice": CHOICE[1:]}, "fewer choice items"),
        ({"choice": ()}, "fewer choice items"),
        ({"random_directions": 3}, "other number of random directions"),
    ],
)
def test_another_plan_is_refused(
    tiny_engine: Engine, finished: SweepResult, changes: dict[str, Any], named: str
) -> None:
    before = numbers(finished.folder)
    with pytest.raises(RunError, match=rf"another plan \({named}\); .*`out`.*`force=True`"):
        small_sweep(tiny_engine, finished.folder, **changes)
    assert numbers(finished.folder) == before


def test_force_replaces_a_run_and_nothing_else(tiny_engine: Engine, tmp_path: Path) -> None:
    small_sweep(tiny_engine, tmp_path, strengths=(1.0,), random_directions=0)
    (tmp_path / "notes.txt").write_text("mine")
    result = small_sweep(tiny_engine, tmp_path, strengths=(0.5,), random_directions=0, force=True)
    assert result.strengths.tolist() == [0.0, 0.5]
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_bad_vector_does_not_cost_the_old_run(tiny_engine: Engine, tmp_path: Path) -> None:
    small_sweep(tiny_engine, tmp_path, strengths=(1.0,), random_directions=0)
    narrow = ControlVector({1: np.ones(8, np.float32)}, "llama", 4)
    with pytest.raises(ShapeError, match="has 8 values per layer.*n_embd .* is 256"):
        small_sweep(tiny_engine, tmp_path, vector=narrow, force=True)
    deep = ControlVector({9: np.ones(256, np.float32)}, "llama", 12)
    with pytest.raises(LayerError, match=r"steers layer 9.*layers 0\.\.3"):
        small_sweep(tiny_engine, tmp_path, vector=deep, force=True)
    assert open_run(tmp_path).finished


def test_an_exchanged_vector_is_found_out(tiny_engine: Engine, tmp_path: Path) -> None:
    small_sweep(tiny_engine, tmp_path / "a", strengths=(1.0,), random_directions=0)
    small_sweep(tiny_engine, tmp_path / "b", strengths=(1.0,), random_directions=0, unit="length")
    (tmp_path / "b" / VECTOR_FILE).replace(tmp_path / "a" / VECTOR_FILE)
    manifest = json.loads((tmp_path / "a" / MANIFEST).read_text())
    (tmp_path / "a" / MANIFEST).write_text(json.dumps({**manifest, "finished": None}))
    with pytest.raises(RunError, match="is not the vector that this run began with"):
        small_sweep(tiny_engine, tmp_path / "a", strengths=(1.0,), random_directions=0)
    (tmp_path / "a" / VECTOR_FILE).write_bytes(b"GGUF")
    for finished in (None, manifest["finished"]):
        (tmp_path / "a" / MANIFEST).write_text(json.dumps({**manifest, "finished": finished}))
        with pytest.raises(RunError, match=f"{VECTOR_FILE}: .*`force=True`"):
            small_sweep(tiny_engine, tmp_path / "a", strengths=(1.0,), random_directions=0)


def test_a_finished_sweep_that_lacks_measurements_is_refused(tiny_engine: Engine, tmp_path: Path) -> None:
    small_sweep(tiny_engine, tmp_path, strengths=(1.0,), random_directions=0)
    with sqlite3.connect(tmp_path / STORE) as db:
        db.execute("DELETE FROM groups WHERE strength = 1")
    db.close()
    with pytest.raises(RunError, match=rf"{STORE}: lacks behavior measurements at strength \+1, .*`out`.*`force=True`"):
        small_sweep(tiny_engine, tmp_path, strengths=(1.0,), random_directions=0)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no RLIMIT_FSIZE on Windows")
@pytest.mark.parametrize("size", [0, 6000, 20_000])
def test_a_start_on_a_full_disk_leaves_nothing(tiny_path: Path, tmp_path: Path, size: int) -> None:
    """At 0 bytes no file can be made; with more the vector is written, and the store fails sooner or later."""
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / f"{STORE}-wal").touch()  # of a start that was interrupted, and in the way of nothing
    for name in ("new", "kept"):
        command = [sys.executable, "-c", PROGRAM, HELPERS, str(tiny_path), str(tmp_path / name)]
        ended = subprocess.run([*command, str(size), "512"], capture_output=True, text=True, check=False)
        assert ended.returncode == 0 and "Error " in ended.stdout, ended.stderr
        assert "kept;" not in ended.stdout and "was finished" not in ended.stdout
    assert not (tmp_path / "new").exists()
    assert [path.name for path in (tmp_path / "kept").iterdir() if path.name != f"{STORE}-wal"] == []


def test_items_that_cannot_be_asked(tiny_engine: Engine, tmp_path: Path) -> None:
    long = BehaviorItem("long", "the " * 2000, (" no",), (" yes",))
    with pytest.raises(ContextOverflowError, match=r"^long: needs \d+ tokens but the context holds 1024; .*`n_ctx`"):
        small_sweep(tiny_engine, tmp_path / "x", behavior=(long,))
    with pytest.raises(TaskError, match="two behavior items have the id 'b-the'"):
        small_sweep(tiny_engine, tmp_path / "x", behavior=(BEHAVIOR[0], BEHAVIOR[0]))
    both = BehaviorItem("both", "Do you", (" yes",), (" yes good",))
    with pytest.raises(TaskError, match="^both: .* begin with the same tokens"):
        small_sweep(tiny_engine, tmp_path / "x", behavior=(both,))
    with pytest.raises(PromptError, match="^merged: "):
        small_sweep(tiny_engine, tmp_path / "x", behavior=(BehaviorItem("merged", "the wa", ("y",), (" no",)),))
    with pytest.raises(InputError, match="nothing to measure"):
        small_sweep(tiny_engine, tmp_path / "x", behavior=(), choice=())
    with pytest.raises(InputError, match=r"^sweep takes no parameter `behaviour`; did you mean `behavior`[?]"):
        sweep(tiny_engine, small_vector(tiny_engine), out=tmp_path / "run", behaviour=())
    with pytest.raises(InputError, match="unit 'nats' is unknown"):
        small_sweep(tiny_engine, tmp_path / "x", unit="nats")
    assert not (tmp_path / "x" / MANIFEST).exists()


def test_a_continuation_that_extends_another_is_counted_once(tiny_engine: Engine) -> None:
    item = BehaviorItem("x", "Do you", (" no", " no way", " cannot"), (" yes", " yes good"))
    work = behavior_work(tiny_engine, [item])
    assert [(part.side, tiny_engine.detokenize(part.tokens)) for part in work.continuations] == [
        ("aligned", " no"), ("aligned", " cannot"), ("misaligned", " yes"),
    ]  # fmt: skip


def test_more_choices_than_letters_with_tokens(tiny_engine: Engine) -> None:
    item = ChoiceItem("many", "Which?", tuple(f"x{i}" for i in range(26)), 25)
    assert len({part.side for part in choice_work(tiny_engine, [item]).continuations}) == 26


HELPERS = str(ROOT / "tests" / "helpers")
PROGRAM = """
import resource, signal, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from small_sweep import small_sweep
from steercpp.engine.engine import Engine
from steercpp.errors import SteerError
with Engine(sys.argv[2], threads=1, n_batch=int(sys.argv[5])) as engine:
    def limit(done, total, label):
        if sys.argv[4] == "kill" and done > total // 3:
            signal.raise_signal(signal.SIGKILL)
        if sys.argv[4] == "full" and done > total // 3:
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
    if sys.argv[4].isdigit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[4]), -1))
    try:
        small_sweep(engine, Path(sys.argv[3]), progress=limit)
    except SteerError as error:
        print(type(error).__name__, error)
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", ["kill", "full"])
def test_a_run_survives_a_kill_and_a_full_disk(
    tiny_engine: Engine, tiny_path: Path, tmp_path: Path, finished: SweepResult, how: str
) -> None:
    """A process that is killed in the middle, and one that may write no file beyond 4 KiB any more."""
    if how == "full" and sys.platform == "win32":
        pytest.skip("no RLIMIT_FSIZE on Windows")
    command = [sys.executable, "-c", PROGRAM, HELPERS, str(tiny_path), str(tmp_path / "run"), how]
    command.append(str(tiny_engine.settings()["n_batch"]))
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if how == "kill":
        assert ended.returncode == -signal.SIGKILL
    else:
        assert ended.returncode == 0 and ended.stdout.startswith("RunError "), ended.stderr
        assert "cannot be written" in ended.stdout and "what was finished is kept" in ended.stdout
    assert 0 < len(numbers(tmp_path / "run")) < len(numbers(finished.folder))
    small_sweep(tiny_engine, tmp_path / "run")
    assert numbers(tmp_path / "run") == numbers(finished.folder)
    assert not [path for path in (tmp_path / "run").iterdir() if path.name.startswith(".")]


def test_items_written_to_files_are_the_same_plan(tiny_engine: Engine, tmp_path: Path) -> None:
    behavior, choice, _ = write_items(tmp_path)
    assert read_behavior(behavior) == BEHAVIOR and read_choices(choice) == CHOICE and len(STRENGTHS) == 3
