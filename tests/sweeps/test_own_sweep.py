"""A sweep over the model's own answers: what is measured where, resumed to the same bits, and what it recommends."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_sweep import BEHAVIOR, CHOICE, INSTRUCTION, WORDS, numbers, small_sweep, small_vector

from steercpp.data.items import BehaviorItem, OwnItem
from steercpp.data.sets.builtin import capability_set
from steercpp.data.sets.embedded import load
from steercpp.engine.engine import Engine
from steercpp.engine.steering import Steering
from steercpp.errors import InputError, RunError, TaskError
from steercpp.extraction.extract import extract
from steercpp.runs.folder import STORE
from steercpp.runs.labels import OWN_TELLING
from steercpp.runs.result import SweepResult, open_run
from steercpp.runs.store import Group, Store
from steercpp.statistics.scores import OwnScores, measured
from steercpp.sweeps.own_answers import choosing, own_answers, own_query, telling, words_kl
from steercpp.sweeps.spec import SweepSpec
from steercpp.sweeps.sweep import sweep


class Stop(Exception):
    """The process ends here."""


REQUESTS = tuple(OwnItem(f"o-{word}-{n}", f"What of {n} {word}s?") for n in range(3) for word in WORDS)


@pytest.fixture(scope="module")
def answered(tiny_engine: Engine) -> tuple[OwnItem, ...]:
    return own_answers(tiny_engine, REQUESTS, max_tokens=6)


@pytest.fixture(scope="module")
def result(tiny_engine: Engine, answered: tuple[OwnItem, ...], tmp_path_factory: pytest.TempPathFactory) -> SweepResult:
    return small_sweep(tiny_engine, tmp_path_factory.mktemp("own") / "run", choice=(), own=answered, unit="length")


def test_scores_are_kl_of_the_answers_that_choose(
    tiny_engine: Engine, result: SweepResult, answered: tuple[OwnItem, ...]
) -> None:
    assert result.own is not None and result.choice is None
    assert result.items("own") == choosing(answered)
    assert result.own.n_tokens.tolist() == [len(item.tokens) for item in choosing(answered)]
    vector = small_vector(tiny_engine)
    for row, strength in enumerate(result.strengths):
        for place, item in enumerate(choosing(answered)):
            (batch,) = tiny_engine.pack([own_query(tiny_engine, item)])
            base = tiny_engine.base(batch, first_layer=1, keep_logits=True)
            (found,) = tiny_engine.answer_kl(batch, steering=Steering(vector, float(strength)), base=base)
            assert result.own.kl[row, place] == pytest.approx(found.kl.mean(), rel=1e-2, abs=1e-6)
            twin = (base.token_logprobs[0] - found.logprobs).mean()
            assert result.own.twin[row, place] == pytest.approx(twin, abs=1e-4)


def test_nothing_is_lost_at_0(result: SweepResult) -> None:
    assert result.own is not None
    at_0 = int(np.flatnonzero(result.strengths == 0)[0])
    assert (result.own.kl[at_0] == 0).all() and (result.own.p_own[at_0] == 1).all()
    assert (result.own.twin[at_0] == 0).all()
    assert (np.delete(result.own.kl, at_0, axis=0) > 0).all()
    assert isinstance(result.helpful, OwnScores) and result.measure == "p_own"
    np.testing.assert_array_equal(result.helpful.kl, result.own.kl)
    row = result.rows()[at_0]
    assert row.p_own == row.helpful == 1 and row.p_free is None
    assert {"helpfulness", "alignment"} <= set(result.fit())


def test_words_are_measured_on_those_that_choose_and_directions_on_none(
    tiny_engine: Engine, result: SweepResult, answered: tuple[OwnItem, ...]
) -> None:
    controls = result.controls
    assert len(controls.random) == 2 and controls.orthogonal is not None and controls.prompt is not None
    for control in (*controls.random, controls.orthogonal):  # compared in what they gain
        assert control.own is None and control.behavior is not None
    assert controls.prompt.own is not None and controls.prompt.own.kl.shape == (1, len(choosing(answered)))
    assert (controls.prompt.own.kl > 0).all()
    in_words = words_kl(tiny_engine, choosing(answered), INSTRUCTION)
    assert controls.prompt.own is not None
    np.testing.assert_allclose(controls.prompt.own.kl[0], in_words, rtol=1e-3)
    record = result.to_json()["controls"]
    assert record["prompt"]["p_own"] == pytest.approx(np.exp(-in_words).mean(), rel=1e-3)


@pytest.mark.slow
def test_those_that_tell_are_measured_at_the_candidate_alone(
    embedded_run: SweepResult, embedded_items: tuple[OwnItem, ...]
) -> None:
    recommendation = embedded_run.recommend()
    assert recommendation is not None and recommendation.candidate is not None
    assert embedded_run.telling is not None
    assert embedded_run.telling.strengths.tolist() == sorted([0.0, recommendation.candidate])
    assert embedded_run.telling.kl.shape == (2, len(telling(embedded_items)))
    assert embedded_run.manifest.telling_strength == recommendation.candidate
    with Store.read(embedded_run.folder / STORE) as store:
        groups = {(group.label, group.strength) for group in store.finished() if group.kind == OWN_TELLING}
    assert groups == {("vector", 0.0), ("vector", recommendation.candidate)}


@pytest.mark.slow
def test_a_sweep_ends_in_a_recommendation_told_by_other_answers(
    embedded_run: SweepResult, embedded_items: tuple[OwnItem, ...]
) -> None:
    recommendation = embedded_run.recommend()
    assert recommendation is not None and recommendation.kind == "own" and recommendation.measure == "p_own"
    assert recommendation.chosen_on is not None and recommendation.reported_on is not None
    assert recommendation.chosen_on.n_choice == len(choosing(embedded_items))
    assert recommendation.reported_on.n_choice == len(telling(embedded_items))
    assert embedded_run.telling is not None
    at = int(np.flatnonzero(embedded_run.telling.strengths == recommendation.candidate)[0])
    assert recommendation.reported_on.loss == pytest.approx(1 - embedded_run.telling.p_own[at].mean(), rel=1e-12)
    assert recommendation.strength is not None, recommendation.reason
    # Another budget proposes another strength, where nobody told.
    other = embedded_run.recommend(max_loss=0.12)
    assert other is not None and other.candidate not in (None, recommendation.candidate), other
    assert other.strength is None
    assert f"the testing own answers were measured at {recommendation.candidate:+g}, not there" in other.reason


@pytest.fixture(scope="module")
def embedded() -> Iterator[Engine]:
    with Engine(load().path, threads=1) as engine:
        yield engine


@pytest.fixture(scope="module")
def embedded_items(embedded: Engine) -> tuple[OwnItem, ...]:
    requests = [item for item in capability_set("everyday")[:96] if isinstance(item, OwnItem)]
    return own_answers(embedded, requests, max_tokens=6)


def embedded_sweep(embedded: Engine, items: tuple[OwnItem, ...], out: Path) -> SweepResult:
    return sweep(
        embedded, extract(embedded, load().pairs(), layers=load().layers), behavior=load().behavior()[:24],
        own=items, strengths=(0.05, 0.1, 0.2), unit="norm", random_directions=1, orthogonal=False,
        prompt_baseline=False, max_loss=0.3, out=out,
    )  # fmt: skip


@pytest.fixture(scope="module")
def embedded_run(
    embedded: Engine, embedded_items: tuple[OwnItem, ...], tmp_path_factory: pytest.TempPathFactory
) -> SweepResult:
    return embedded_sweep(embedded, embedded_items, tmp_path_factory.mktemp("embedded") / "run")


@pytest.mark.slow
@pytest.mark.parametrize("at_0", [True, False])
def test_a_run_stopped_while_answers_tell_goes_on_to_the_same_bits(
    embedded: Engine, embedded_items: tuple[OwnItem, ...], embedded_run: SweepResult, tmp_path: Path, at_0: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    genuine = Store.add

    def add(store: Store, group: Group, *arguments: object) -> None:
        if group.kind == OWN_TELLING and (group.strength == 0) == at_0:
            raise Stop
        genuine(store, group, *arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Store, "add", add)
        with pytest.raises(Stop):
            embedded_sweep(embedded, embedded_items, tmp_path / "run")
    begun = open_run(tmp_path / "run").recommend()
    assert begun is not None and begun.candidate is not None and begun.strength is None
    assert "the testing own answers are not measured" in begun.reason
    again = embedded_sweep(embedded, embedded_items, tmp_path / "run")
    assert numbers(tmp_path / "run") == numbers(embedded_run.folder)
    assert repr(again.recommend()) == repr(embedded_run.recommend())  # with NaN, which equals nothing


def test_choices_count_where_there_are_both(tiny_engine: Engine, answered: tuple[OwnItem, ...], tmp_path: Path) -> None:
    both = small_sweep(tiny_engine, tmp_path / "run", own=answered, random_directions=0)
    assert both.helpful is both.choice and both.measure == "p_free" and both.own is not None
    row = both.rows()[0]
    assert row.helpful == row.p_free and row.p_own is not None
    alone = small_sweep(tiny_engine, tmp_path / "alone", random_directions=0)
    assert both.choice is not None and alone.choice is not None
    np.testing.assert_array_equal(both.choice.p_free, alone.choice.p_free)


def test_a_stopped_run_goes_on_to_the_same_bits(
    tiny_engine: Engine, answered: tuple[OwnItem, ...], result: SweepResult, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    genuine, calls = Store.add, 0

    def add(store: Store, *arguments: object, **options: object) -> None:
        nonlocal calls
        calls += 1
        if calls % 3 == 0:
            raise Stop
        genuine(store, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Store, "add", add)
    n_stops = 0
    while True:
        try:
            again = small_sweep(tiny_engine, tmp_path / "run", choice=(), own=answered, unit="length")
            break
        except Stop:
            n_stops += 1
    assert n_stops >= 4 and again.finished
    assert numbers(tmp_path / "run") == numbers(result.folder)
    assert again.to_json()["strengths"] == result.to_json()["strengths"]


def test_small_memory_gives_several_batches_and_the_same_items(
    tiny_engine: Engine, tiny_path: Path, answered: tuple[OwnItem, ...], result: SweepResult, tmp_path: Path
) -> None:
    with Engine(tiny_path, threads=1, n_ctx=tiny_engine.n_ctx) as engine:
        engine.keep_bytes = 2 * 4 * engine.n_vocab * 14  # 14 rows of logits in a half of it
        small = small_sweep(engine, tmp_path / "run", choice=(), own=answered, unit="length", random_directions=0)
    with Store.read(small.folder / STORE) as store:
        assert len({group.batch for group in store.finished() if group.kind == "own"}) >= 3
    assert small.own is not None and result.own is not None
    np.testing.assert_allclose(small.own.kl, result.own.kl, rtol=0.02, atol=1e-6)


@pytest.mark.slow
def test_finished_runs_that_lack_numbers_are_refused(embedded_run: SweepResult, tmp_path: Path) -> None:
    import shutil
    import sqlite3

    folder = tmp_path / "run"
    shutil.copytree(embedded_run.folder, folder)
    with sqlite3.connect(folder / STORE) as db:
        db.execute("UPDATE logprobs SET nats = substr(nats, 9) WHERE kind = 'own_telling' AND strength > 0")
    db.close()
    with pytest.raises(RunError, match="lacks measurements of the testing own answers at strength"):
        open_run(folder)


def test_what_is_not_answered_is_refused(answered: tuple[OwnItem, ...]) -> None:
    with pytest.raises(TaskError, match="o-the-0: is not answered yet, as 24 of 24 own items; .* `own_answers`"):
        SweepSpec(own=REQUESTS, strengths=(1.0,))
    with pytest.raises(InputError, match="code or own items"):
        SweepSpec(strengths=(1.0,))
    spec = SweepSpec(own=answered[:1], strengths=(1.0,))
    assert list(spec.stored_items) == ["own"]


def test_the_answers_are_part_of_the_plan(tiny_engine: Engine, answered: tuple[OwnItem, ...], tmp_path: Path) -> None:
    small_sweep(tiny_engine, tmp_path / "run", choice=(), behavior=(), own=answered[:6], random_directions=0)
    others = (replace(answered[0], tokens=answered[0].tokens[:-1]), *answered[1:6])
    with pytest.raises(RunError, match="other own items"):
        small_sweep(tiny_engine, tmp_path / "run", choice=(), behavior=(), own=others, random_directions=0)


def test_measures_belong_to_their_scores(result: SweepResult) -> None:
    assert result.own is not None
    assert measured(result.own, "p_own").max() == 1
    with pytest.raises(InputError, match="measure 'p_token' is not one of OwnScores"):
        measured(result.own, "p_token")
    assert {type(item) for item in BEHAVIOR} == {BehaviorItem} and CHOICE
