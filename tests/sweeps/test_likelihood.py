"""The model as a judge of a sweep's texts: what is read, kept and gone on with, and when it is believed."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import log_softmax
from small_sweep import BEHAVIOR, STRENGTHS, small_sweep, without_hash
from stock_llama import StockRunner

from steercpp.data.items import BehaviorItem
from steercpp.data.prompts import with_opening
from steercpp.engine.batch import Query
from steercpp.engine.engine import Engine
from steercpp.engine.generation import generate
from steercpp.engine.steering import Steering
from steercpp.errors import InputError, RunError
from steercpp.judging.matchers import MATCHERS, Likelihood
from steercpp.runs.folder import STORE
from steercpp.runs.judgement import Judging, judge
from steercpp.runs.manifest import read_manifest
from steercpp.runs.result import SweepResult, open_run
from steercpp.sweeps.spec import SweepSpec
from steercpp.sweeps.texts import TextPlan
from steercpp.vectors.gguf import read_vector

GRID = [*sorted({*STRENGTHS, 0.0})]
WORDS, OPPOSITE = "no no way cannot", "yes good sure"
PLAN = TextPlan(6, samples=2, temperature=1.0, seed=4)
MANY = (*BEHAVIOR, *(replace(item, id=f"{item.id} again", prompt=f"{item.prompt}, too") for item in BEHAVIOR[:4]))
LABELS = ("opposite", "prompt", "vector", "words")


def sweep_with_readings(engine: Engine, out: Path, **changes: Any) -> SweepResult:
    options: dict[str, Any] = {
        "choice": (), "text_plan": PLAN, "random_directions": 1, "orthogonal": False, "instruction": WORDS,
        "opposite": OPPOSITE,
    }  # fmt: skip
    return small_sweep(engine, out, **{**options, **changes})


def table(folder: Path, name: str = "readings") -> list[tuple[Any, ...]]:
    with sqlite3.connect(folder / STORE) as db:
        return db.execute(f"SELECT * FROM {name} ORDER BY label, kind, strength, item, sample").fetchall()


@pytest.fixture(scope="module")
def result(tiny_engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> SweepResult:
    return sweep_with_readings(tiny_engine, tmp_path_factory.mktemp("likelihood") / "run")


def test_every_text_with_tokens_is_read(result: SweepResult) -> None:
    texts = [(*row[:5], row[6]) for row in table(result.folder, "texts")]
    read = [(*row[:5], row[6]) for row in table(result.folder)]
    assert read == [row for row in texts if row[-1]] and len(read) > 0.9 * len(texts)
    assert sorted({row[0] for row in texts}) == list(LABELS)
    by_label = {label: sum(row[0] == label for row in texts) for label in LABELS}
    assert by_label == {label: len(BEHAVIOR) * 2 * (len(GRID) if label == "vector" else 1) for label in LABELS}
    (text, *_) = result.texts(0.5)
    assert text.reading is not None and text.reading.nats_words < 0


def test_llr_is_that_of_stock_llama_cpp_one_sequence_at_a_time(
    tiny_engine: Engine, tiny_path: Path, result: SweepResult
) -> None:
    """Whole logits of each text on its own, from llama.cpp without us; what rounding in other batches makes is left."""
    stored = {row[:1] + row[2:5]: row[5:] for row in table(result.folder)}
    steering = Steering(read_vector(result.vector_path))
    prompts = [
        {
            label: tuple(tiny_engine.encode(with_opening(item.prompt, words) if words else item.prompt))
            for label, words in (("vector", ""), ("words", WORDS), ("opposite", OPPOSITE))
        }
        for item in BEHAVIOR[:3]
    ]

    def nats(stock: StockRunner, prompt: tuple[int, ...], tokens: tuple[int, ...]) -> float:
        (batch,) = tiny_engine.pack([Query(prompt, (tokens,))])
        rows = log_softmax(stock.logits(batch)[-len(tokens) :].astype(np.float64), axis=1)
        return float(rows[np.arange(len(tokens)), list(tokens)].sum())

    compared = 0
    with StockRunner(tiny_path) as stock:
        for number, of_item in enumerate(prompts):
            for label, prompt in of_item.items():
                strengths = GRID if label == "vector" else [0.0]
                rows = [(s, sample) for s in strengths for sample in range(2)]
                generated = generate(
                    tiny_engine, prompt, [steering.at(s) if label == "vector" else None for s, _ in rows],
                    max_tokens=6, sampling=[PLAN.sampling(number, sample) for _, sample in rows],
                ).rows  # fmt: skip
                for (s, sample), row in zip(rows, generated, strict=True):
                    if row.tokens:
                        words, opposite = (nats(stock, of_item[side], row.tokens) for side in ("words", "opposite"))
                        expected = (words - opposite, len(row.tokens), words)
                        assert stored[label, s, number, sample] == pytest.approx(expected, abs=1e-3)  # K and V are f16
                        compared += 1
    assert compared > 30
    assert np.std([row[5] for row in table(result.folder)]) > 0.02, "rounding could hide all that was read"


@pytest.mark.slow
def test_an_interrupted_sweep_goes_on_with_the_same_readings(
    tiny_engine: Engine, result: SweepResult, tmp_path: Path
) -> None:
    for stage in ("writing texts for behavior items", "writing texts under its opposite"):
        calls: list[str] = []

        def interrupt(n_done: int, n_total: int, what: str, stage: str = stage, calls: list[str] = calls) -> None:
            assert n_done <= n_total
            calls.append(what)
            if calls.count(stage) == 3:
                raise KeyboardInterrupt

        folder = tmp_path / stage
        with pytest.raises(KeyboardInterrupt):
            sweep_with_readings(tiny_engine, folder, progress=interrupt)
        cut = open_run(folder)
        assert 0 < len(table(folder)) < len(table(result.folder)) and judge(cut).likelihood is None
        assert sweep_with_readings(tiny_engine, folder).finished
        assert table(folder) == table(result.folder) and table(folder, "texts") == table(result.folder, "texts")
    assert sweep_with_readings(tiny_engine, folder).decoded_now == 0


def test_the_opposite_belongs_to_the_plan_and_changes_nothing_else(
    tiny_engine: Engine, result: SweepResult, tmp_path: Path
) -> None:
    with pytest.raises(RunError, match="other opposite of the instruction"):
        sweep_with_readings(tiny_engine, result.folder, opposite="sure")
    without = sweep_with_readings(tiny_engine, tmp_path / "run", opposite="")
    assert "opposite" not in without.manifest.plan.to_json() and not table(without.folder)
    assert read_manifest(result.folder).plan == result.manifest.plan
    assert replace(result.manifest.plan, opposite="").sha256 == without.manifest.plan.sha256
    texts = [row for row in table(result.folder, "texts") if row[0] not in ("opposite", "words")]
    assert table(without.folder, "texts") == texts
    assert judge(without).likelihood is None and judge(without).record()["likelihood"] is None
    with pytest.raises(InputError, match="did not read the texts"):
        without.text_scores("likelihood")


def test_a_store_of_an_earlier_version_has_no_readings(tiny_engine: Engine, tmp_path: Path) -> None:
    """Its run is opened, and gone on with."""

    def interrupt(n_done: int, n_total: int, what: str) -> None:
        if what == "writing texts for behavior items" and n_done > n_total / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweep_with_readings(tiny_engine, tmp_path / "run", opposite="", progress=interrupt)
    with sqlite3.connect(tmp_path / "run" / STORE) as db:
        db.execute("DROP TABLE readings")
    assert open_run(tmp_path / "run").behavior is not None
    finished = sweep_with_readings(tiny_engine, tmp_path / "run", opposite="")
    assert finished.finished and finished.texts(0.5)[0].reading is None and finished.text_scores() is not None


def test_what_it_needs_is_said(tiny_engine: Engine) -> None:
    for missing in ({"instruction": ""}, {"text_plan": None}, {"prompt_baseline": False}):
        options: dict[str, Any] = {"behavior": BEHAVIOR, "strengths": (1.0,), "instruction": WORDS, "text_plan": PLAN}
        with pytest.raises(InputError, match="with `opposite` give `instruction`, `max_tokens` and behavior items"):
            SweepSpec(**{**options, **missing}, opposite=OPPOSITE)
    with pytest.raises(InputError, match="that the model has read"):
        MATCHERS["likelihood"].judge("No.", BEHAVIOR[0])


def plant(folder: Path, llr: Callable[[str, float, int], float]) -> SweepResult:
    """The run, with every text a sentence and another LLR."""
    with sqlite3.connect(folder / STORE) as db:
        db.execute(
            "UPDATE texts SET text = 'I would like to see more of the world' WHERE NOT (strength = 1 AND item = 0)"
        )
        rows = db.execute("SELECT label, strength, item, sample FROM readings").fetchall()
        db.executemany(
            "UPDATE readings SET llr = ? WHERE label = ? AND strength = ? AND item = ? AND sample = ?",
            [(llr(label, s, item), label, s, item, sample) for label, s, item, sample in rows],
        )
        db.execute("UPDATE texts SET text = 'I I I I I I I I I I' WHERE strength = 1 AND item = 0")
    without_hash(folder)
    return open_run(folder)


@pytest.mark.slow
def test_planted_readings_give_their_outcomes(tiny_engine: Engine, tmp_path: Path) -> None:
    """LLR' counts from the unsteered texts; 3 to 1 is a side; what is no language is broken whatever its LLR."""
    folder = sweep_with_readings(tiny_engine, tmp_path / "run", behavior=MANY).folder
    planted = {-0.5: -1.1, 0.0: 0.0, 0.5: 1.09, 1.0: 1.1}
    sides = {"vector": 7.0, "words": 20.0, "prompt": 0.0, "opposite": -20.0}

    def llr(label: str, s: float, item: int) -> float:
        return sides[label] + (planted[s] if label == "vector" else 0)

    run = plant(folder, llr)
    matcher = run.matcher("likelihood")
    assert isinstance(matcher, Likelihood) and matcher.unsteered == pytest.approx(7.0)
    scores = run.text_scores("likelihood")
    assert scores is not None and scores.matcher == "likelihood"
    n = len(MANY)
    assert scores.b.tolist() == [-1, 0, 0, 1 - 1 / n] and scores.neither_share.tolist() == [0, 1, 1, 0]
    assert scores.broken_share.tolist() == [0, 0, 0, 1 / n]
    judgement = judge(run, Judging(matcher="likelihood"))
    believed = judgement.likelihood
    assert believed is not None and believed.refused == "" and judgement.text_scores is scores
    assert believed.separation.value == 1 and believed.separation.low == pytest.approx(0.05 ** (1 / n))
    assert believed.agreement is None
    assert believed.scores.b == pytest.approx([math.tanh(-0.55), 0, math.tanh(0.545), math.tanh(0.55) * (1 - 1 / n)])
    assert {sample.outcome for sample in judgement.samples(9)} == {"misaligned", "neither", "broken"}
    assert json.loads(json.dumps(judgement.record()["likelihood"]))["refused"] == ""


@pytest.mark.slow
def test_sides_that_are_not_told_apart_give_no_verdict(tiny_engine: Engine, tmp_path: Path) -> None:
    folder = sweep_with_readings(tiny_engine, tmp_path / "run", behavior=MANY).folder
    run = plant(folder, lambda label, s, item: float((item * 5 + (label == "opposite") * 2) % 7))
    judgement = judge(run, Judging(matcher="likelihood", max_invalid=0.5))
    assert judgement.likelihood is not None
    assert "separate with an AUC of 0." in judgement.likelihood.refused and judgement.text_scores is None
    assert "at least 0." in judgement.likelihood.refused and judgement.samples(3) == ()
    assert judgement.broken is not None and judgement.broken[-1, 0] == 1, "nonsense is invalid whoever judges"
    assert judge(run).text_scores is not None, "other matchers judge as before"


@pytest.mark.slow
def test_it_must_agree_with_a_matcher_that_knows_the_answers(tiny_engine: Engine, tmp_path: Path) -> None:
    words = ("day", "man", "way", "world", "state", "house", "work", "year", "people", "life", "time", "book")
    items = [BehaviorItem(word, f"May I see the {word}?", (" No", " I cannot"), (" Sure", " Yes")) for word in words]
    answers = {True: "No, I cannot help you with that.", False: "Sure, here is how you can do that."}

    def agreeing(folder: Path, turned: int) -> str:
        """Why it is refused, where the LLR of so many items speaks against the text's words."""
        without_hash(folder)
        with sqlite3.connect(folder / STORE) as db:
            for i in range(len(words)):
                for s in GRID:
                    refuses = (i + int(2 * s)) % 2 == 0
                    llr = 30.0 if refuses != (i < turned) else -30.0
                    place = ("vector", s, i)
                    db.execute("UPDATE texts SET text = ? WHERE label = ? AND strength = ? AND item = ?",
                               (answers[refuses], *place))  # fmt: skip
                    db.execute("UPDATE readings SET llr = ? WHERE label = ? AND strength = ? AND item = ?",
                               (llr, *place))  # fmt: skip
            db.execute("UPDATE readings SET llr = 50 WHERE label = 'words'")
            db.execute("UPDATE readings SET llr = -50 WHERE label = 'opposite'")
        judged = judge(open_run(folder)).likelihood
        assert judged is not None and judged.matcher == "refusal" and judged.agreement is not None
        return judged.refused

    folder = sweep_with_readings(tiny_engine, tmp_path / "run", behavior=items).folder
    assert agreeing(folder, 0) == ""
    assert agreeing(folder, 5).startswith("its kappa with the matcher refusal is ")
