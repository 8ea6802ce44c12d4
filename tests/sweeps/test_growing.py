"""Adding to a run: only what is missing is decoded, what is there keeps its bits, and a kill loses nothing."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from small_sweep import ANSWER, BEHAVIOR, CHOICE, STRENGTHS, WORDS, numbers, small_sweep, write_items

from steercpp.cli.main import main
from steercpp.data.items import BehaviorItem, ChoiceItem, OwnItem, item_json
from steercpp.engine.engine import Engine
from steercpp.engine.steering import Gate
from steercpp.errors import RunError
from steercpp.runs.folder import PAGE, STORE, VECTOR_FILE
from steercpp.runs.labels import OWN_TELLING
from steercpp.runs.manifest import read_manifest
from steercpp.runs.result import SweepResult, open_run
from steercpp.runs.store import Store
from steercpp.sweeps import sweep as sweeping
from steercpp.sweeps.growing import SCALE
from steercpp.sweeps.own_answers import choosing, own_answers, telling, undealt
from steercpp.sweeps.texts import TextPlan
from steercpp.vectors.gguf import read_vector

MORE = (*STRENGTHS, -1.0, 2.0)
LATER = tuple(
    BehaviorItem(f"l-{word}", f"Would you say that the {word} is good", (" cannot", " no"), (" sure", " yes good"))
    for word in WORDS
)
SIZED = {"unit": "length"}  # its strength 1 does not hang on the items


class Stop(Exception):
    """The process ends here."""


def texts(folder: Path) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    """Every text by label, kind, strength, item and sample."""
    with sqlite3.connect(folder / STORE) as db:
        rows = db.execute("SELECT * FROM texts").fetchall()
    db.close()
    return {row[:5]: row[5:] for row in rows}


def groups(folder: Path) -> dict[tuple[Any, ...], int]:
    """Every finished group with the tokens decoded for it."""
    with Store.read(folder / STORE) as store:
        return {(of.label, of.kind, of.strength, of.batch): n for of, n in store.finished().items()}


def of(rows: list[tuple[Any, ...]], *labels: str) -> list[tuple[Any, ...]]:
    return [row for row in rows if row[0] in labels]


@pytest.fixture(scope="module")
def whole(tiny_engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> SweepResult:
    """All strengths and items measured at once."""
    return small_sweep(tiny_engine, tmp_path_factory.mktemp("whole") / "run", strengths=MORE)


def test_added_strengths_give_what_is_measured_at_once(tiny_engine: Engine, tmp_path: Path, whole: SweepResult) -> None:
    first = small_sweep(tiny_engine, tmp_path / "run")
    before, begun = numbers(first.folder), groups(first.folder)
    told: list[str] = []
    result = small_sweep(tiny_engine, tmp_path / "run", strengths=MORE, note=told.append)
    assert of(numbers(result.folder), "vector", "prompt") == of(numbers(whole.folder), "vector", "prompt")
    assert set(before) <= set(numbers(result.folder))
    assert result.decoded_now == sum(groups(result.folder).values()) - sum(begun.values())
    added = {group for group in groups(result.folder) if group[0] == "vector"} - set(begun)
    assert {strength for _, _, strength, _ in added} == {-1.0, 2.0}
    assert told == [f"adds 2 strengths to {result.folder}: {16 * 8} of {16 * 10} rows are there"]

    assert result.finished and result.strengths.tolist() == whole.strengths.tolist()
    assert result.controls.strength == whole.controls.strength
    assert result.rows() == whole.rows() and result.controls.record() == whole.controls.record()
    assert result.to_json()["recommendation"] == whole.to_json()["recommendation"]
    manifest = result.manifest
    assert manifest.plan == whole.manifest.plan and manifest.rows_sha256 is not None
    (addition,) = manifest.additions
    assert addition.plan_sha256 == first.manifest.plan.sha256 == manifest.first_plan_sha256
    assert open_run(result.folder).manifest == manifest

    again = small_sweep(tiny_engine, tmp_path / "run", strengths=MORE, note=told.append)
    assert again.decoded_now == 0 and len(told) == 1


def test_where_the_candidate_moves_controls_are_measured_there(
    tiny_engine: Engine, tmp_path: Path, whole: SweepResult
) -> None:
    best = whole.controls.strength
    assert best is not None
    first = small_sweep(tiny_engine, tmp_path / "run", strengths=[s for s in MORE if s != best])
    assert first.controls.strength not in (None, best)
    before = numbers(first.folder)
    seen: list[tuple[int, int]] = []
    result = small_sweep(
        tiny_engine, tmp_path / "run", strengths=MORE, progress=lambda done, n_all, _: seen.append((done, n_all))
    )
    directions = "random-0", "random-1", "orthogonal"
    found = [row for row in of(numbers(result.folder), *directions) if row[2] == best]
    assert found == of(numbers(whole.folder), *directions) != []
    assert set(before) < set(numbers(result.folder)), "those at the earlier candidate too"
    assert result.controls.strength == best and result.controls.record() == whole.controls.record()
    assert result.to_json()["recommendation"] == whole.to_json()["recommendation"]
    assert seen[-1][0] == seen[-1][1] and all(done <= n_all for done, n_all in seen)


def test_added_items_leave_what_is_there_and_agree_with_all_at_once(tiny_engine: Engine, tmp_path: Path) -> None:
    many = (*BEHAVIOR, *LATER)
    first = small_sweep(tiny_engine, tmp_path / "run", choice=CHOICE[:5], **SIZED)
    before, begun = numbers(first.folder), groups(first.folder)
    told: list[str] = []
    grown = {"behavior": many, "choice": CHOICE, "answer": ANSWER[:2], **SIZED}
    result = small_sweep(tiny_engine, tmp_path / "run", note=told.append, **grown)
    assert told[0].startswith(f"adds 8 behavior items, 3 choice items and 2 answer items to {result.folder}: ")
    assert set(before) <= set(numbers(result.folder)), "to the bit"
    assert begun.items() <= groups(result.folder).items()
    assert result.decoded_now == sum(groups(result.folder).values()) - sum(begun.values())
    assert result.finished and result.items("behavior") == many and result.items("choice") == CHOICE

    at_once = small_sweep(tiny_engine, tmp_path / "at-once", **grown)
    ours, theirs = ({row[:5]: row[5] for row in of(numbers(r.folder), "vector", "prompt")} for r in (result, at_once))
    assert list(ours) == list(theirs)
    # Batches have other rows, whose K and V are kept in half precision: 3e-4 nats were seen.
    np.testing.assert_allclose(list(ours.values()), list(theirs.values()), rtol=0, atol=2e-3)
    assert SCALE not in result.notes
    assert result.manifest.items == at_once.manifest.items
    plain = [r.manifest.tokens.plain_loop for r in (result, at_once) if r.manifest.tokens is not None]
    assert plain[0] == plain[1], "the plain loop does not hang on what was added when"


def test_with_exact_packing_added_items_have_the_bits_of_all_at_once(tiny_path: Path, tmp_path: Path) -> None:
    options = {"choice": (), "random_directions": 0, "strengths": (0.5,), **SIZED}
    with Engine(tiny_path, threads=1, exact=True) as engine:
        small_sweep(engine, tmp_path / "run", behavior=BEHAVIOR[:3], **options)
        result = small_sweep(engine, tmp_path / "run", behavior=(*BEHAVIOR, *LATER[:3]), **options)
        at_once = small_sweep(engine, tmp_path / "at-once", behavior=(*BEHAVIOR, *LATER[:3]), **options)
    assert numbers(result.folder) == numbers(at_once.folder)


def test_an_addition_to_an_addition_keeps_all_batches(tiny_engine: Engine, tmp_path: Path) -> None:
    alone = {"choice": (), "random_directions": 0, **SIZED}
    kept: list[list[tuple[Any, ...]]] = []
    for n in (3, 5, 8):
        result = small_sweep(tiny_engine, tmp_path / "run", behavior=BEHAVIOR[:n], **alone)
        kept.append(numbers(result.folder))
    assert set(kept[0]) < set(kept[1]) < set(kept[2])
    assert result.manifest.starts("behavior") == (0, 3, 5)
    assert [addition.items for addition in result.manifest.additions] == [{"behavior": 3}, {"behavior": 5}]
    for n in (3, 5):
        with pytest.raises(RunError, match=r"another plan \(fewer behavior items\)"):
            small_sweep(tiny_engine, tmp_path / "run", behavior=BEHAVIOR[:n], **alone)


def test_items_of_several_files_grow_in_the_middle(tiny_engine: Engine, tmp_path: Path) -> None:
    """Two tasks and a larger limit: the first task's new items stand before the second one's old ones."""
    other = tuple(replace(item, id=f"other {item.id}", question=f"And {item.question}") for item in CHOICE)
    options = {"behavior": (), "random_directions": 0, **SIZED}

    def asked(limit: int) -> tuple[ChoiceItem, ...]:
        return (*CHOICE[:limit], *other[:limit])

    first = small_sweep(tiny_engine, tmp_path / "run", choice=asked(2), **options)
    before = numbers(first.folder)
    for limit, order in ((4, (*asked(2), *CHOICE[2:4], *other[2:4])), (5, None)):
        result = small_sweep(tiny_engine, tmp_path / "run", choice=asked(limit), **options)
        assert set(before) < set(numbers(result.folder)) and sorted(result.items("choice"), key=str) == sorted(
            asked(limit), key=str
        )
        assert order is None or result.items("choice") == order
        before = numbers(result.folder)
        assert small_sweep(tiny_engine, tmp_path / "run", choice=asked(limit), **options).decoded_now == 0
    with pytest.raises(RunError, match=r"another plan \(other choice items\)"):
        small_sweep(tiny_engine, tmp_path / "run", choice=asked(5)[::-1], **options)
    with pytest.raises(RunError, match=r"another plan \(other choice items\)"):
        small_sweep(tiny_engine, tmp_path / "run", choice=(*asked(5)[1:], *other[5:]), **options)


def test_strength_1_keeps_its_length(tiny_engine: Engine, tmp_path: Path) -> None:
    first = small_sweep(tiny_engine, tmp_path / "run", behavior=BEHAVIOR[:4], random_directions=0)
    directions, before = read_vector(first.vector_path).directions, numbers(first.folder)
    result = small_sweep(tiny_engine, tmp_path / "run", behavior=(*BEHAVIOR[:4], *LATER), random_directions=0)
    for il, row in read_vector(result.vector_path).directions.items():
        np.testing.assert_array_equal(row, directions[il])
    assert result.manifest.vector == first.manifest.vector
    assert SCALE in result.notes and SCALE not in first.notes
    assert set(before) < set(numbers(result.folder))


def test_items_behind_a_gate_are_decided_as_before(tiny_engine: Engine, tmp_path: Path) -> None:
    mixed = tuple(item for pair in zip(BEHAVIOR, LATER, strict=True) for item in pair)
    prompts = [tiny_engine.encode(item.prompt) for item in mixed]
    x = tiny_engine.activations(prompts, layers=[1])[:, 0]
    direction = (x[0] / np.linalg.norm(x[0])).astype(np.float32)
    gate = Gate(direction, 1, float(np.median(x @ direction)))
    options = {"choice": (), "random_directions": 0, "gate": gate, "operator": "add-keep-norm", **SIZED}
    first = small_sweep(tiny_engine, tmp_path / "run", behavior=mixed[:8], **options)
    before = numbers(first.folder)
    result = small_sweep(tiny_engine, tmp_path / "run", behavior=mixed, **options)
    assert set(before) < set(numbers(result.folder))
    assert first.manifest.gate_open is not None and result.manifest.gate_open is not None
    assert 0 <= first.manifest.gate_open["behavior"] < result.manifest.gate_open["behavior"] < 16


def test_testing_own_answers_are_measured_at_the_new_candidate(tiny_engine: Engine, tmp_path: Path) -> None:
    requests = tuple(OwnItem(f"o-{word}-{n}", f"What of {n} {word}s?") for n in range(2) for word in WORDS)
    answered = own_answers(tiny_engine, requests, max_tokens=4)
    assert undealt(choosing(answered), telling(answered)) == answered
    options = {"choice": (), "random_directions": 0, "prompt_baseline": False, **SIZED}
    first = small_sweep(tiny_engine, tmp_path / "run", own=answered[:9], strengths=(0.5,), **options)
    before = numbers(first.folder)
    result = small_sweep(tiny_engine, tmp_path / "run", own=answered, strengths=(0.5, -0.5, 2.0), **options)
    assert set(before) < set(numbers(result.folder))
    assert result.items("own") == choosing(answered) and result.items(OWN_TELLING) == telling(answered)
    assert {row[3] for row in numbers(result.folder) if row[1] == OWN_TELLING} <= set(range(len(telling(answered))))
    recommendation, candidate = result.recommend(), result.manifest.telling_strength
    assert recommendation is not None and recommendation.candidate == candidate
    if candidate is not None:
        assert result.telling is not None and candidate in result.telling.strengths
        assert result.telling.p_own.shape[1] == len(telling(answered))


def test_texts_are_added_where_there_were_none_and_grow(tiny_engine: Engine, tmp_path: Path) -> None:
    options = {"choice": (), "random_directions": 1, "orthogonal": False, **SIZED}

    def swept(name: str, **changes: Any) -> SweepResult:
        return small_sweep(tiny_engine, tmp_path / name, **{**options, **changes})

    first = swept("run", behavior=BEHAVIOR[:3], strengths=(0.5,))
    before = numbers(first.folder)
    told: list[str] = []
    plan = TextPlan(4, temperature=1.0, seed=3)
    kept: dict[tuple[Any, ...], tuple[Any, ...]] = {}
    n_plain = 0
    steps: list[tuple[str, dict[str, Any], int]] = [
        ("generated texts", {"text_plan": plan}, 3 * 2 + 3),
        ("2 samples of each text", {"text_plan": replace(plan, samples=3)}, 2 * (3 * 2 + 3)),
        ("1 strength", {"strengths": (0.5, 1.0)}, 3 * 3),
        ("2 behavior items", {"behavior": BEHAVIOR[:5]}, 2 * 3 * (3 + 1)),
    ]
    asked: dict[str, Any] = {"behavior": BEHAVIOR[:3], "strengths": (0.5,)}
    for words, changes, n_new in steps:
        asked |= changes
        result = swept("run", note=told.append, **asked)
        now = texts(result.folder)
        assert told[-1].startswith(f"adds {words} to ")
        assert kept.items() <= now.items() and len(now) - len(kept) == n_new
        assert set(before) <= set(numbers(result.folder))
        assert result.finished and result.text_scores("openings") is not None and result.decoded_now > 0
        work = result.manifest.to_json()["tokens"]
        assert work["token_layers_texts_plain"] > n_plain
        kept, n_plain = now, work["token_layers_texts_plain"]
        assert swept("run", **asked).decoded_now == 0
    at_once = texts(swept("at-once", **asked).folder)
    assert {key: row[0] for key, row in kept.items()} == {key: row[0] for key, row in at_once.items()}

    with pytest.raises(RunError, match=r"another plan \(fewer generated texts\)"):
        swept("run", **{**asked, "text_plan": plan})
    with pytest.raises(RunError, match=r"another plan \(fewer generated texts\)"):
        swept("run", **{**asked, "text_plan": None})
    with pytest.raises(RunError, match=r"another plan \(other text settings\)"):
        swept("run", **{**asked, "text_plan": replace(plan, samples=4, top_p=0.5)})


GROWN: dict[str, Any] = {
    "behavior": (*BEHAVIOR[:4], *LATER[:2]), "choice": CHOICE[:4], "strengths": (0.5, 1.0), "text_plan": TextPlan(3),
    "orthogonal": False, "random_directions": 1,
}  # fmt: skip
BEGUN: dict[str, Any] = {**GROWN, "behavior": BEHAVIOR[:4], "strengths": (0.5,), "text_plan": None}


@pytest.fixture(scope="module")
def undisturbed(tiny_engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> SweepResult:
    """Begun and added to, without a kill."""
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    small_sweep(tiny_engine, folder, **BEGUN)
    return small_sweep(tiny_engine, folder, **GROWN)


def test_a_killed_addition_goes_on_to_the_same_bits(
    tiny_engine: Engine, tmp_path: Path, undisturbed: SweepResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: Any, **__: Any) -> None:
        raise Stop

    def killed(step: Callable[[], object]) -> None:
        with pytest.raises(Stop):
            step()

    first = small_sweep(tiny_engine, tmp_path / "run", **BEGUN)
    rows = [numbers(first.folder)]

    # before the manifest is written: the run is what it was
    with monkeypatch.context() as patch:
        patch.setattr(sweeping, "grown", stopped)
        killed(lambda: small_sweep(tiny_engine, tmp_path / "run", **GROWN))
    assert read_manifest(first.folder) == first.manifest and open_run(first.folder).finished
    assert small_sweep(tiny_engine, tmp_path / "run", **BEGUN).decoded_now == 0

    # behind it, without the items; what is there is read still
    with monkeypatch.context() as patch:
        patch.setattr(sweeping, "add_missing_items", stopped)
        killed(lambda: small_sweep(tiny_engine, tmp_path / "run", **GROWN))
    half = open_run(first.folder)
    assert not half.finished and half.strengths.tolist() == [0.0, 0.5] and half.text_scores() is None
    assert half.items("behavior") == BEHAVIOR[:4] and len(half.manifest.additions) == 1
    with pytest.raises(RunError, match=r"another plan \(fewer strengths, behavior items, generated texts\)"):
        small_sweep(tiny_engine, tmp_path / "run", **BEGUN)

    # and again and again while it is measured
    told: list[str] = []
    for n_calls in (4, 9, 4, 9, 14):
        seen: list[int] = []

        def stop(done: int, n_all: int, _: str, seen: list[int] = seen, n_calls: int = n_calls) -> None:
            seen.append(done)
            if len(seen) == n_calls:
                raise Stop

        killed(partial(small_sweep, tiny_engine, tmp_path / "run", progress=stop, note=told.append, **GROWN))
        rows.append(numbers(first.folder))
        assert set(rows[-2]) <= set(rows[-1])
    assert all(note.startswith(f"resumes {first.folder}: ") for note in told)
    result = small_sweep(tiny_engine, tmp_path / "run", note=told.append, **GROWN)
    assert numbers(result.folder) == numbers(undisturbed.folder) and texts(result.folder) == texts(undisturbed.folder)
    assert len(result.manifest.additions) == 1 and result.manifest.starts("behavior") == (0, 4)
    assert result.manifest.rows_sha256 is not None and result.rows() == undisturbed.rows()
    assert result.manifest.plan == undisturbed.manifest.plan


def test_an_unfinished_run_can_be_added_to(tiny_engine: Engine, tmp_path: Path, undisturbed: SweepResult) -> None:
    seen: list[int] = []

    def stop(*_: Any) -> None:
        seen.append(1)
        if len(seen) == 5:
            raise Stop

    with pytest.raises(Stop):
        small_sweep(tiny_engine, tmp_path / "run", progress=stop, **BEGUN)
    before = numbers(tmp_path / "run")
    told: list[str] = []
    result = small_sweep(tiny_engine, tmp_path / "run", note=told.append, **GROWN)
    assert before and set(before) < set(numbers(result.folder)) and told[0].startswith("adds 1 strength, 2 behavior ")
    # the same but for controls at the first candidate, which were not measured yet
    assert of(numbers(result.folder), "vector", "prompt") == of(numbers(undisturbed.folder), "vector", "prompt")
    assert texts(result.folder) == texts(undisturbed.folder) and result.rows() == undisturbed.rows()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"strengths": MORE, "seed": 1}, "other seed"),
        ({"strengths": MORE, "choice": CHOICE[:2]}, "fewer choice items"),
        ({"strengths": MORE[1:], "behavior": (*BEHAVIOR, *LATER)}, "other strengths"),
        ({"behavior": (*BEHAVIOR, *LATER), "max_loss": 0.2, "strengths": (0.5,)}, "other max loss; fewer strengths"),
        ({"behavior": (*LATER, *BEHAVIOR[1:])}, "other behavior items"),
        ({"choice": (), "answer": ANSWER}, "fewer choice items"),
        ({"text_plan": TextPlan(4), "unit": "length"}, "other unit"),
    ],
)
def test_an_addition_takes_nothing_away(
    tiny_engine: Engine, whole: SweepResult, tmp_path_factory: pytest.TempPathFactory, changes: dict[str, Any],
    words: str,
) -> None:  # fmt: skip
    folder = _begun(tiny_engine, tmp_path_factory)
    manifest = read_manifest(folder)
    with pytest.raises(RunError, match=rf"another plan \({words}\); .*`out`.*`force=True`"):
        small_sweep(tiny_engine, folder, **{"random_directions": 0, **changes})
    assert read_manifest(folder) == manifest


_FOLDERS: list[Path] = []


def _begun(engine: Engine, places: pytest.TempPathFactory) -> Path:
    """A small run, the same for all."""
    if not _FOLDERS:
        _FOLDERS.append(small_sweep(engine, places.mktemp("small") / "run", random_directions=0).folder)
    return _FOLDERS[0]


def _fits(engine: Engine, n_words: int) -> bool:
    return len(engine.encode("time " * n_words + "is")) < engine.n_ctx - 1


def test_items_that_cost_the_baseline_are_refused(tiny_engine: Engine, tmp_path: Path) -> None:
    """An added item that does not fit after the instruction would take the prompt baseline from the run."""
    first = small_sweep(tiny_engine, tmp_path / "run", choice=())
    n_words = next(n for n in range(tiny_engine.n_ctx, 0, -1) if _fits(tiny_engine, n))
    long = BehaviorItem("long", "time " * n_words + "is", (" cannot",), (" sure",))
    with pytest.raises(RunError, match=r"would lose its prompt baseline \(with the instruction before it, .*`out`"):
        small_sweep(tiny_engine, tmp_path / "run", choice=(), behavior=(*BEHAVIOR, long))
    assert read_manifest(first.folder) == first.manifest


def test_what_is_found_on_the_model_is_not_added_to(tiny_engine: Engine, tmp_path: Path) -> None:
    requests = tuple(OwnItem(f"o-{word}", f"What of the {word}?") for word in WORDS)
    own = own_answers(tiny_engine, requests, max_tokens=4)
    options = {"choice": (), "random_directions": 0, "prompt_baseline": False}
    first = small_sweep(tiny_engine, tmp_path / "run", own=own, strengths="auto", **options)
    with pytest.raises(RunError, match="another plan, and where strengths are left to be found, nothing is added"):
        small_sweep(tiny_engine, tmp_path / "run", own=own, strengths="auto", **options, behavior=(*BEHAVIOR, *LATER))
    named = [float(s) for s in first.strengths]  # named, they take more items
    result = small_sweep(tiny_engine, tmp_path / "run", own=own, strengths=named, **options, behavior=BEHAVIOR + LATER)
    assert len(result.items("behavior")) == 16 and result.finished


@pytest.mark.slow
def test_the_command_line_adds_to_a_folder(tiny_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_items(tmp_path)
    Path("b.jsonl").write_text("".join(json.dumps(item_json(item)) + "\n" for item in (*BEHAVIOR, *LATER)))

    def run(*options: str) -> Any:
        arguments = ["sweep", str(tiny_path), "--pairs", "p.jsonl", "--behavior", "b.jsonl", "--task", "c.jsonl"]
        fixed = ["--unit", "norm", "--random", "1", "--no-orthogonal", "--no-prompt-baseline", "--threads", "1"]
        return CliRunner().invoke(main, [*arguments, *fixed, "--no-texts", "--out", "x", *options])

    assert run("--strengths", "0.5", "--limit", "8").exit_code == 0
    page = Path("x", PAGE).read_text()
    more = run("--strengths", "-0.5:0.5:0.5", "--limit", "12")
    assert more.exit_code == 0, more.stderr
    # 8 behavior and 8 choice items at two strengths, and under one direction; of 12 and 8 at three
    assert f"note: adds 1 strength and 4 behavior items to x: {16 * 3} of {20 * 4} rows are there" in more.stderr
    assert SCALE in more.stderr.replace("\n", " ")
    assert Path("x", PAGE).read_text() != page
    again = run("--strengths", "-0.5:0.5:0.5", "--limit", "12")
    assert again.exit_code == 0 and "nothing was computed" in again.stderr
    fewer = run("--strengths", "0.5", "--limit", "8")
    assert (fewer.exit_code, fewer.stdout) == (1, "") and fewer.stderr.count("\n") == 1
    assert "x: holds a sweep of another plan (fewer strengths, behavior items); choose another" in fewer.stderr
    report = CliRunner().invoke(main, ["report", "x", "--json"])
    assert report.exit_code == 0 and len(json.loads(report.stdout)["strengths"]) == 3
    assert Path("x", VECTOR_FILE).exists()
