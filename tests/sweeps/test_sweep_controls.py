"""What a vector is compared with: every control is what its name says, bit for bit, and its absence is told."""

from __future__ import annotations

import itertools
import json
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_sweep import ANSWER, BEHAVIOR, CHOICE, INSTRUCTION, TEXT, numbers, small_sweep, small_vector, without_hash

from steercpp.data.items import ChoiceItem, CodeItem
from steercpp.data.prompts import Message
from steercpp.data.sets.embedded import load
from steercpp.engine.engine import Engine
from steercpp.errors import RunError, ShapeError
from steercpp.runs.folder import STORE
from steercpp.runs.manifest import MANIFEST, read_manifest
from steercpp.runs.result import SweepResult, open_run
from steercpp.runs.scores import Controls, control_strength
from steercpp.runs.store import Store
from steercpp.statistics.scores import BehaviorScores
from steercpp.sweeps import run as sweeps
from steercpp.sweeps.run import directions_for
from steercpp.sweeps.texts import TextPlan
from steercpp.sweeps.work import Work, behavior_work, choice_work
from steercpp.vectors.control_vector import ControlVector, orthogonal_vector, random_vector
from steercpp.vectors.gguf import read_vector


@pytest.fixture(scope="module")
def result(tiny_engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> SweepResult:
    return small_sweep(tiny_engine, tmp_path_factory.mktemp("controls") / "run")


def stored(folder: Path, label: str, kind: str, strength: float) -> list[float]:
    return [row[5] for row in numbers(folder) if row[:3] == (label, kind, strength)]


def direct(engine: Engine, work: Work, vector: ControlVector | None, strength: float) -> list[float]:
    """The engine's own numbers for the items, in their order."""
    found: dict[int, np.ndarray] = {}
    for batch in work.batches:
        found.update(zip(batch.members, engine.logprobs(batch, vector=vector, strengths=strength), strict=True))
    return [float(nats) for place in range(len(work.queries)) for nats in found[place]]


@pytest.mark.parametrize("label", ["random-0", "random-1", "orthogonal"])
def test_directions_give_the_engines_own_numbers_on_all_items(
    tiny_engine: Engine, result: SweepResult, label: str
) -> None:
    swept = read_vector(result.vector_path)
    if label == "orthogonal":
        vector = orthogonal_vector(swept, np.random.default_rng([0, 0, 1]))
    else:
        vector = random_vector(swept, np.random.default_rng([0, int(label[-1])]))
    strength = result.controls.strength
    assert strength is not None and strength > 0
    for kind, work in (
        ("behavior", behavior_work(tiny_engine, BEHAVIOR)),
        ("choice", choice_work(tiny_engine, CHOICE)),
    ):
        assert stored(result.folder, label, kind, strength) == direct(tiny_engine, work, vector, strength)


def test_the_prompt_baseline_is_the_instruction_written_by_hand(tiny_engine: Engine, result: SweepResult) -> None:
    asked = [replace(item, prompt=f"{INSTRUCTION}\n\n{item.prompt}") for item in BEHAVIOR]
    work = behavior_work(tiny_engine, asked)
    assert stored(result.folder, "prompt", "behavior", 0.0) == direct(tiny_engine, work, None, 0.0)
    questions = [replace(item, question=f"{INSTRUCTION}\n\n{item.question}") for item in CHOICE]
    work = choice_work(tiny_engine, questions)
    assert stored(result.folder, "prompt", "choice", 0.0) == direct(tiny_engine, work, None, 0.0)
    baseline = result.controls.prompt
    assert baseline is not None and baseline.behavior is not None and baseline.choice is not None
    assert baseline.behavior.strengths.tolist() == [0.0] and baseline.behavior.p_aligned.shape == (1, 8)
    assert stored(result.folder, "prompt", "behavior", 0.0) != stored(result.folder, "vector", "behavior", 0.0)


def test_a_chat_is_asked_in_its_system_message(tmp_path: Path) -> None:
    own = load()
    with Engine(own.path, threads=1) as engine:
        items = own.behavior()[:4]
        vector = ControlVector({5: np.ones(engine.n_embd, np.float32)}, engine.architecture, engine.n_layer)
        found = small_sweep(
            engine, tmp_path / "run", vector=vector, behavior=items, choice=(), strengths=(0.1,), random_directions=1,
            instruction=own.instruction,
        )  # fmt: skip
        chats = [item.prompt for item in items]
        asked = [
            replace(item, prompt=(Message("system", own.instruction), *chat))
            for item, chat in zip(items, chats, strict=True)
            if isinstance(chat, tuple)
        ]
        assert len(asked) == 4
        expected = direct(engine, behavior_work(engine, asked), None, 0.0)
        assert stored(found.folder, "prompt", "behavior", 0.0) == expected


def test_an_orthogonal_direction_is_orthogonal_and_as_long(rng: np.random.Generator) -> None:
    for n_embd in (2, 3, 256, 4096):
        rows = {il: (il * rng.standard_normal(n_embd)).astype(np.float32) for il in (1, 5, 9)}
        like = ControlVector(rows, "llama", 12)
        found = orthogonal_vector(like, rng)
        assert found.layers == like.layers and found.norms == pytest.approx(like.norms, rel=1e-6)  # float32 elements
        for il, row in rows.items():
            a, b = row.astype(np.float64), found.directions[il].astype(np.float64)
            # the projection is float64; what is left is the rounding of each element to float32, 6e-8 of it
            assert abs(a @ b) / np.linalg.norm(a) / np.linalg.norm(b) < 1e-6
    flat = ControlVector({1: np.zeros(4, np.float32), 2: np.ones(4, np.float32)}, "llama", 3)
    assert orthogonal_vector(flat, rng).norms == pytest.approx({1: 0.0, 2: 2.0})
    with pytest.raises(ShapeError, match="nothing is orthogonal"):
        orthogonal_vector(ControlVector({1: np.ones(1, np.float32)}, "llama", 3), rng)


def test_more_random_directions_leave_the_first_ones_as_they_are(tiny_engine: Engine) -> None:
    like = small_vector(tiny_engine)
    few, many = (directions_for(like, n_random=n, orthogonal=True, seed=3) for n in (2, 5))
    assert list(few) == ["random-0", "random-1", "orthogonal"]
    for label, vector in few.items():
        for il, row in vector.directions.items():
            np.testing.assert_array_equal(row, many[label].directions[il])
    others = directions_for(like, n_random=2, orthogonal=True, seed=4)
    rows = [vector.directions[1].tobytes() for found in (many, others) for vector in found.values()]
    assert len(set(rows)) == len(rows)


def test_changes_are_counted_from_the_unsteered_items(result: SweepResult) -> None:
    controls, behavior = result.controls, result.behavior
    assert behavior is not None and len(controls.raw_changes) == 2
    at_0 = result.strengths == 0
    for i, control in enumerate(controls.random):
        assert control.label == f"random-{i}" and control.behavior is not None
        assert controls.raw_changes[i] == control.behavior.mean_raw[0] - behavior.mean_raw[at_0][0]
        assert controls.normalized_changes[i] == control.behavior.mean_normalized[0] - behavior.mean_normalized[at_0][0]
    record = json.loads(json.dumps(controls.record()))
    assert record["off"] == {} and record["orthogonal"]["p_correct"] == controls.orthogonal.row.p_free  # type: ignore[union-attr]
    assert record["unsteered"]["alignment"] == behavior.mean_normalized[at_0][0]


@pytest.mark.parametrize("at", ["prompt baseline", "random direction 1", "random direction 2", "orthogonal direction"])
@pytest.mark.parametrize("begun", [False, True], ids=["before", "amidst"])
def test_a_sweep_that_is_killed_between_controls_goes_on_to_the_same_bits(
    tiny_engine: Engine, tmp_path: Path, result: SweepResult, at: str, begun: bool
) -> None:
    seen: list[str] = []

    def kill(done: int, total: int, label: str) -> None:
        assert done <= total
        if f" {at}" in label:
            seen.append(label)
            if len(seen) > begun:  # the first tick comes before any batch
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        small_sweep(tiny_engine, tmp_path / "run", progress=kill)
    half = open_run(tmp_path / "run")
    assert len(half.strengths) == 4 and not half.finished  # all strengths are there, not all controls
    assert len(numbers(tmp_path / "run")) < len(numbers(result.folder))
    ticks: list[tuple[int, int]] = []
    again = small_sweep(tiny_engine, tmp_path / "run", progress=lambda done, total, _: ticks.append((done, total)))
    assert ticks[-1][0] == ticks[-1][1]
    n_now = sum(later - before for (before, _), (later, _) in itertools.pairwise(ticks))
    assert ticks[0][0] > 0 and ticks[0][0] + n_now == ticks[-1][1]  # what was finished earlier is done from the start
    assert numbers(tmp_path / "run") == numbers(result.folder)
    assert again.controls.record() == result.controls.record()
    assert again.manifest.to_json()["tokens"]["decoded"] == result.manifest.to_json()["tokens"]["decoded"]
    assert 0 < again.decoded_now < result.decoded_now


def test_a_run_with_some_of_its_random_directions_still_waits_for_the_others(
    tiny_engine: Engine, tmp_path: Path
) -> None:
    def kill(done: int, total: int, label: str) -> None:
        if "random direction 2 of 2" in label:
            raise KeyboardInterrupt

    options: dict[str, Any] = {"orthogonal": False, "prompt_baseline": False}
    with pytest.raises(KeyboardInterrupt):
        small_sweep(tiny_engine, tmp_path / "run", progress=kill, **options)
    half = open_run(tmp_path / "run")
    assert len(half.controls.random) == 1
    assert half.controls.other_directions[1].startswith("the random directions are not measured yet")
    others, pending = small_sweep(tiny_engine, tmp_path / "run", **options).controls.other_directions
    assert others is not None and len(others.random) == 2 and not pending


def test_directions_count_where_most_of_them_were_measured(tiny_engine: Engine, tmp_path: Path) -> None:
    """One was begun at another strength, by a version with another rule."""
    run = small_sweep(tiny_engine, tmp_path / "run")
    there, record = run.controls.strength, run.controls.record()
    with sqlite3.connect(run.folder / STORE) as db:
        for table, columns in (
            ("logprobs", "kind, batch, items, nats"),
            ("groups", "kind, batch, n_tokens, token_layers, in_full"),
        ):
            db.execute(
                f"INSERT INTO {table} (label, strength, {columns}) SELECT label, ?, {columns} FROM {table} "
                "WHERE label = 'random-0'", (there + 1,),  # type: ignore[operator]
            )  # fmt: skip
    db.close()
    without_hash(run.folder)
    assert open_run(run.folder).controls.record() == record


@pytest.mark.parametrize(("choice", "after"), [((), True), (CHOICE, False)], ids=["code alone", "choices too"])
def test_directions_wait_for_programs_where_these_tell_what_steering_costs(
    tiny_engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, choice: tuple[ChoiceItem, ...], after: bool
) -> None:
    """No candidate is known before, and the directions are measured at the candidate."""
    before: list[bool] = []

    def judge(store: Store, *_: object, **__: object) -> int:
        before.append(not any(group.label == "random-0" for group in store.finished()))
        return 0

    monkeypatch.setattr(sweeps, "judge_code", judge)
    code = (CodeItem("add", "def add(a, b):\n", "add", "def check(f):\n    assert f(1, 2) == 3\n"),)
    plan = TextPlan(max_tokens=3)
    found = small_sweep(tiny_engine, tmp_path / "run", choice=choice, code=code, text_plan=plan, instruction="")
    assert before == [after] and found.finished and len(found.controls.random) == 2


def test_what_is_switched_off_is_told_and_another_plan(
    tiny_engine: Engine, tmp_path: Path, result: SweepResult
) -> None:
    def off(name: str, **changes: Any) -> dict[str, str]:
        found = small_sweep(tiny_engine, tmp_path / name, strengths=(0.5,), **changes)
        data = json.loads(json.dumps(found.to_json()))["controls"]
        assert data["off"] == open_run(found.folder).controls.off == read_manifest(found.folder).controls_off
        assert {"random": not data["random"], "orthogonal": not data["orthogonal"], "prompt": not data["prompt"]} == {
            name: name in data["off"] for name in ("random", "orthogonal", "prompt")
        }
        told: dict[str, str] = data["off"]
        return told

    assert off("a", orthogonal=False) == {"orthogonal": "switched off"}
    assert off("b", prompt_baseline=False) == {"prompt": "switched off"}
    assert off("c", instruction=" ") == {"prompt": "no instruction that asks for the behavior was given"}
    assert off("d", random_directions=0, orthogonal=True, prompt_baseline=True) == {"random": "switched off"}
    for name, words in (
        ({"orthogonal": False}, "orthogonal direction"), ({"instruction": "no"}, "instruction"),
        ({"prompt_baseline": False}, "prompt baseline, instruction"),
    ):  # fmt: skip
        with pytest.raises(RunError, match=rf"another plan \(other {words}\); .*`out`.*`force=True`"):
            small_sweep(tiny_engine, result.folder, **name)


def test_controls_that_cannot_be_are_told_and_cost_no_run(tiny_engine: Engine, tmp_path: Path) -> None:
    def off(name: str, **changes: Any) -> Controls:
        return small_sweep(tiny_engine, tmp_path / name, **changes).controls

    long = off("long", strengths=(0.5,), instruction="the " * 1100)
    assert long.prompt is None and len(long.random) == 2 and long.orthogonal is not None
    assert long.off["prompt"].startswith("with the instruction before it, b-the: needs ")
    assert "the context holds 1024" in long.off["prompt"]
    back = off("back", strengths=(-0.5,))
    assert back.strength is None and back.prompt is not None and set(back.off) == {"random", "orthogonal"}
    assert "no strength of the wanted sign" in back.off["random"]
    texts = off("texts", behavior=(), choice=(), text=TEXT, strengths=(0.5,))
    assert (texts.random, texts.orthogonal, texts.prompt, texts.unsteered) == ((), None, None, None)
    assert set(texts.off) == {"random", "orthogonal", "prompt"}


def test_an_instruction_that_leaves_no_room_for_texts_costs_no_run(tiny_engine: Engine, tmp_path: Path) -> None:
    """It fits before the continuations that are scored, but not before so many new tokens."""
    found = small_sweep(
        tiny_engine, tmp_path / "run", strengths=(0.5,), behavior=BEHAVIOR[:2], choice=(),
        said=TextPlan(max_tokens=30), instruction="the " * 990,
    )  # fmt: skip
    assert found.finished and found.controls.prompt is None
    assert found.controls.off["prompt"].startswith("with the instruction before it, b-the: ")
    assert "`max_tokens`" in found.controls.off["prompt"]


def test_answers_have_controls_too(tiny_engine: Engine, tmp_path: Path) -> None:
    found = small_sweep(tiny_engine, tmp_path / "run", behavior=(), choice=(), answer=ANSWER, strengths=(0.5,))
    controls = found.controls
    assert controls.strength == 0.5 and len(controls.raw_changes) == 0
    assert controls.orthogonal is not None and controls.orthogonal.answer is not None and controls.prompt is not None
    assert found.answer is not None and controls.orthogonal.answer.n_tokens.tolist() == found.answer.n_tokens.tolist()
    assert controls.record()["alignment"] is None and 0 < controls.prompt.row.p_answer < 1  # type: ignore[operator]


@pytest.mark.parametrize(
    ("change", "lacking"),
    [
        (
            "DELETE FROM groups WHERE label = 'orthogonal' AND kind = 'choice'",
            "measurements of the orthogonal direction",
        ),
        ("UPDATE logprobs SET nats = substr(nats, 9) WHERE label = 'prompt'", "measurements of the prompt baseline"),
        ("DELETE FROM groups WHERE label = 'random-1' AND kind = 'choice'", "measurements of random direction 1"),
        ("DELETE FROM logprobs WHERE label = 'random-0' AND kind = 'choice'", "measurements of random direction 0"),
    ],
)
def test_a_finished_run_that_lacks_a_control_is_refused(
    tiny_engine: Engine, tmp_path: Path, change: str, lacking: str
) -> None:
    folder = small_sweep(tiny_engine, tmp_path / "run", strengths=(0.5,)).folder
    with Store.reopen(folder / STORE) as store:
        store._database.rows(change)
    with pytest.raises(RunError, match=rf"lacks {lacking}, though"):
        open_run(folder)


def test_runs_of_an_older_format_are_refused_in_one_sentence(tiny_engine: Engine, tmp_path: Path) -> None:
    folder = small_sweep(tiny_engine, tmp_path / "run", strengths=(0.5,), random_directions=0).folder
    manifest = json.loads((folder / MANIFEST).read_text())
    older = {**manifest, "format": "steercpp sweep 3"}
    del older["notes"], older["controls_off"]
    (folder / MANIFEST).write_text(json.dumps(older))
    for again in (False, True):
        with pytest.raises(RunError) as caught:
            small_sweep(tiny_engine, folder, strengths=(0.5,)) if again else open_run(folder)
        told = str(caught.value)
        assert "not the manifest of a 'steercpp sweep 5' run but of a 'steercpp sweep 3' run" in told
        assert "\n" not in told and "`out`" in told and "`force=True`" in told
    assert small_sweep(tiny_engine, folder, strengths=(0.5,), random_directions=0, force=True).finished


STEPS = np.array([-1.0, 0.0, 1.0, 2.0, 3.0])


@pytest.mark.parametrize(
    ("helpful", "raw", "direction", "expected"),
    [
        ([0.2, 0.8, 0.7, 0.45, 0.1], None, 1, 2.0),  # the farthest that leaves half
        ([0.2, 0.8, 0.7, 0.3, 0.7], None, 1, 1.0),  # what comes back beyond is not reached from 0
        ([0.2, 0.8, 0.1, 0.1, 0.1], None, 1, 1.0),  # none leaves half: the nearest
        ([0.2, 0.8, 0.7, 0.6, 0.5], None, -1, -1.0),
        ([0.2, 0.8, 0.7, 0.45, 0.1], [-0.5, 0.0, 0.3, 0.6, 0.4], 1, 2.0),  # the largest gain
        (None, [-0.5, 0.0, 0.7, 0.6, 0.4], 1, 1.0),
        (None, None, 1, None),
    ],
)
def test_directions_are_compared_where_something_can_be_seen(
    helpful: list[float] | None, raw: list[float] | None, direction: int, expected: float | None
) -> None:
    values = None if helpful is None else np.array(helpful)[:, None] * [1.0, 0.9]
    behavior = None
    if raw is not None:
        behavior = BehaviorScores(STEPS, 0.5 + np.array(raw)[:, None] / 2, 0.5 - np.array(raw)[:, None] / 2)
    assert control_strength(STEPS, behavior, values, direction=direction, candidate=None) == expected
    assert control_strength(STEPS, behavior, values, direction=direction, candidate=0.25) == 0.25
