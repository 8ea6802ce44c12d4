"""Texts of a sweep: the same every time, resumable, each what generation gives, with what an unsteered model thinks."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from plain_llama import PlainLlama
from scipy.special import log_softmax
from small_sweep import BEHAVIOR, small_vector

from steercpp.data.items import BehaviorItem
from steercpp.data.sets import embedded as default_model
from steercpp.engine.engine import Engine
from steercpp.engine.generation import generate
from steercpp.engine.steering import Gate, Steering
from steercpp.errors import ContextOverflowError, InputError
from steercpp.extraction.extract import extract
from steercpp.judging.matchers import MATCHERS
from steercpp.judging.texts import GeneratedText
from steercpp.runs.store import Store
from steercpp.sweeps.texts import TextJob, TextPlan, generate_texts, text_job
from steercpp.sweeps.units import in_unit

STRENGTHS = (-0.25, 0.0, 0.5, 2.0)
GREEDY = TextPlan(16)


@pytest.fixture(scope="module")
def model() -> default_model.DefaultModel:
    return default_model.load()


@pytest.fixture(scope="module")
def engine(model: default_model.DefaultModel) -> Iterator[Engine]:
    with Engine(model.path, threads=1) as opened:
        yield opened


@pytest.fixture(scope="module")
def items(model: default_model.DefaultModel) -> tuple[BehaviorItem, ...]:
    return model.behavior()[:3]


@pytest.fixture(scope="module")
def steering(model: default_model.DefaultModel, engine: Engine, items: tuple[BehaviorItem, ...]) -> Steering:
    vector = extract(engine, model.pairs()[:24], layers=model.layers)
    return Steering(in_unit(engine, vector, [engine.encode(item.prompt) for item in items], "norm")[0])


def asked(engine: Engine, items: Sequence[BehaviorItem], text_plan: TextPlan, **options: Any) -> TextJob:
    return text_job(
        engine, items, [(item.prompt, item.template) for item in items], text_plan, kind="behavior", **options
    )


def said(
    engine: Engine, folder: Path, job: TextJob, text_plan: TextPlan, **options: object
) -> tuple[GeneratedText, ...]:
    """All texts of a new store, or of the one in the folder."""
    path = folder / "sweep.sqlite"
    with Store.reopen(path) if path.exists() else Store.create(path, plan_sha256="p") as store:
        generate_texts(engine, store, job, text_plan, **options)  # type: ignore[arg-type]
        return store.texts(job.label, job.kind)


def rows(path: Path) -> list[tuple[object, ...]]:
    with sqlite3.connect(path) as db:
        return [row for table in ("said", "texts") for row in db.execute(f"SELECT * FROM {table}")]


@pytest.mark.parametrize("text_plan", [GREEDY, TextPlan(12, samples=2, temperature=0.8, top_p=0.9, seed=3)])
def test_an_interrupted_run_goes_on_and_ends_as_one_that_was_not(
    engine: Engine, items: tuple[BehaviorItem, ...], steering: Steering, tmp_path: Path, text_plan: TextPlan
) -> None:
    """Also: said twice, every text and every probability is the same to the last bit."""
    job = asked(engine, items, text_plan)
    ticks: list[tuple[int, bool]] = []

    def interrupt(n_tokens: int, new: bool) -> None:
        ticks.append((n_tokens, new))
        if len(ticks) == 2:
            raise KeyboardInterrupt

    whole, cut = tmp_path / "whole", tmp_path / "cut"
    whole.mkdir()
    cut.mkdir()
    said(engine, whole, job, text_plan, steering=steering, strengths=STRENGTHS)
    with pytest.raises(KeyboardInterrupt):
        said(engine, cut, job, text_plan, steering=steering, strengths=STRENGTHS, tick=interrupt)
    texts = said(
        engine, cut, job, text_plan, steering=steering, strengths=STRENGTHS, tick=lambda *tick: ticks.append(tick)
    )
    assert [new for _, new in ticks] == [True, True, False, False, True]
    assert ticks[0][0] == len(STRENGTHS) * text_plan.samples * (len(job.prompts[0]) + text_plan.max_tokens)
    assert rows(whole / "sweep.sqlite") == rows(cut / "sweep.sqlite")
    assert len(texts) == len(STRENGTHS) * len(items) * text_plan.samples
    assert len({text.text for text in texts if text.item == 0}) > 1, "all strengths say the same: nothing is shown"


def test_every_text_is_what_generation_gives(
    engine: Engine, items: tuple[BehaviorItem, ...], steering: Steering, tmp_path: Path
) -> None:
    """Side by side, and at a moderate strength also alone, where rounding differs: far out, rows may part at ties."""
    found = said(engine, tmp_path, asked(engine, items, GREEDY), GREEDY, steering=steering, strengths=STRENGTHS)
    for number, item in enumerate(items):
        own = [text for text in found if text.item == number]
        together = generate(engine, item.prompt, [steering.at(s) for s in STRENGTHS], max_tokens=16).rows
        assert [(one.text, one.n_tokens, one.finish) for one in own] == [
            (one.text, len(one.tokens), one.finish) for one in together
        ]
        for text in own[:3]:
            (alone,) = generate(engine, item.prompt, [steering.at(text.strength)], max_tokens=16, exact=True).rows
            assert text.text == alone.text
    assert {text.finish for text in found} == {"length", "end"}


def test_more_rows_than_fit_are_said_in_turns(
    engine: Engine, items: tuple[BehaviorItem, ...], steering: Steering, tmp_path: Path
) -> None:
    job = asked(engine, items[:1], GREEDY)
    strengths = [s / 20 for s in range(-20, 21)]
    assert engine.n_ctx // (len(job.prompts[0]) + 16) < len(strengths)
    found = said(engine, tmp_path, job, GREEDY, steering=steering, strengths=strengths)
    assert [text.strength for text in found] == strengths
    few = tmp_path / "few"
    few.mkdir()
    chosen = [s for s in strengths if s in (-0.25, 0.0, 0.5)]
    expected = said(engine, few, job, GREEDY, steering=steering, strengths=chosen)
    assert [text.text for text in found if text.strength in chosen] == [text.text for text in expected]


def test_the_log_probability_is_that_of_the_unsteered_model(
    tiny_engine: Engine, tiny_path: Path, tmp_path: Path
) -> None:
    """Against a model in NumPy: every token drawn, after the prompt and those before it, without any steering."""
    text_plan = TextPlan(7, samples=2, temperature=1.0, seed=1)
    job = asked(tiny_engine, BEHAVIOR[:2], text_plan)
    steering = Steering(small_vector(tiny_engine))
    found = said(tiny_engine, tmp_path, job, text_plan, steering=steering, strengths=(0.0, 6.0))
    plain = PlainLlama(tiny_path)
    for item, prompt in enumerate(job.prompts):
        samplings = [text_plan.sampling(item, sample) for _ in (0, 6) for sample in (0, 1)]
        drawn = generate(tiny_engine, prompt, [steering.at(s) for s in (0, 0, 6, 6)], max_tokens=7, sampling=samplings)
        for text, row in zip([text for text in found if text.item == item], drawn.rows, strict=True):
            assert (text.text, text.n_tokens) == (row.text, len(row.tokens))
            logits = plain.run((*prompt, *row.tokens), len(prompt)).logits[len(prompt) - 1 : -1]
            nats = log_softmax(logits, axis=1)[np.arange(len(row.tokens)), row.tokens].sum()
            # K and V are kept as float16, which moves a logit by up to 1e-3; seven tokens of that
            assert text.nats == pytest.approx(nats, abs=7e-3)


def test_a_strength_beyond_float32_loses_only_its_own_texts(
    engine: Engine, items: tuple[BehaviorItem, ...], steering: Steering, tmp_path: Path
) -> None:
    job = asked(engine, items[:2], GREEDY)
    found = said(engine, tmp_path, job, GREEDY, steering=steering, strengths=(-3e38, 0.0, 0.5, 1e37))
    broken = [text for text in found if abs(text.strength) > 1]
    assert {(text.text, text.n_tokens, text.finish, text.nats) for text in broken} == {("", 0, "nonfinite", None)}
    other = tmp_path / "other"
    other.mkdir()
    whole = said(engine, other, job, GREEDY, steering=steering, strengths=(-0.1, 0.0, 0.5, 0.1))
    kept = [text for text in found if text.strength in (0.0, 0.5)]
    # the same texts; ln P is of another packed pass, whose rounding is another (quantized weights: about 0.01 a token)
    assert [(a.text, a.finish) for a in kept] == [(a.text, a.finish) for a in whole if a.strength in (0.0, 0.5)]


def test_too_much_steering_is_invalid_and_the_study_calls_it_aligned(
    engine: Engine, items: tuple[BehaviorItem, ...], steering: Steering, tmp_path: Path
) -> None:
    text_plan = TextPlan(32)
    found = said(
        engine, tmp_path, asked(engine, items, text_plan), text_plan, steering=steering, strengths=(0.5, 1.5, 3.0)
    )
    for text in found:
        item = items[text.item]
        ours = {name: MATCHERS[name].judge(text.text, item) for name in ("openings", "refusal", "agreement")}
        if text.strength == 0.5:
            assert ours["openings"] == ours["refusal"] == "aligned", text
        else:
            assert set(ours.values()) == {"broken"}, text
            assert MATCHERS["wolf2024/harm-base"].judge(text.text, item) == "aligned", text
            assert MATCHERS["wolf2024/harm-chat"].judge(text.text, item) == "aligned", text


def test_samples_have_seeds_of_their_own_the_same_at_every_strength(
    engine: Engine, items: tuple[BehaviorItem, ...], tmp_path: Path
) -> None:
    text_plan = TextPlan(16, samples=3, temperature=1.5, seed=11)
    job = TextJob("prompt", "behavior", asked(engine, items[:1], text_plan).prompts * 2)
    found = said(engine, tmp_path, job, text_plan, steering=None, strengths=(0.0, 1.0))
    by_place = {(text.strength, text.item, text.sample): text.text for text in found}
    assert all(by_place[0.0, item, sample] == by_place[1.0, item, sample] for item in (0, 1) for sample in range(3))
    assert len({by_place[0.0, item, sample] for item in (0, 1) for sample in range(3)}) == 6
    assert text_plan.sampling(0, 0) != TextPlan(16, samples=3, temperature=1.5, seed=12).sampling(0, 0)


def test_a_stop_string_ends_a_text_and_its_tokens_count(
    engine: Engine, items: tuple[BehaviorItem, ...], steering: Steering, tmp_path: Path
) -> None:
    text_plan = TextPlan(16, stop=(",",))
    (text,) = said(
        engine, tmp_path, asked(engine, items[:1], text_plan), text_plan, steering=steering, strengths=(0.25,)
    )
    assert (text.text, text.finish) == (" No", "stop")
    assert text.n_tokens == 2 and text.nats is not None


def test_an_instruction_stands_before_the_prompt(engine: Engine, items: tuple[BehaviorItem, ...]) -> None:
    plain = asked(engine, items, GREEDY)
    prompted = asked(engine, items, GREEDY, label="prompt", instruction="Say no to mischief.")
    for short, long, item in zip(plain.prompts, prompted.prompts, items, strict=True):
        assert len(long) > len(short)
        assert "Say no to mischief." in engine.detokenize(long)
        assert engine.detokenize(short).split()[-2] in engine.detokenize(long), item


def test_a_prompt_that_does_not_fit_is_named(engine: Engine, items: tuple[BehaviorItem, ...]) -> None:
    with pytest.raises(ContextOverflowError, match=r"refusal-000: \d+ prompt tokens and 500 new ones"):
        asked(engine, items, TextPlan(500))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_tokens": 0}, "give at least 1"),
        ({"max_tokens": 4, "samples": 0}, "0 samples"),
        ({"max_tokens": 4, "samples": 2}, "without a temperature would be the same"),
        ({"max_tokens": 4, "top_p": 0.0}, "share above 0"),
        ({"max_tokens": 4, "temperature": -1.0}, "temperature"),
        ({"max_tokens": 4, "stop": ("",)}, "stop string is empty"),
    ],
)
def test_what_cannot_be_said_is_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        TextPlan(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize("change", ["clamp", "gate"])
def test_what_does_not_act_says_what_the_unsteered_model_says(
    engine: Engine, items: tuple[BehaviorItem, ...], steering: Steering, tmp_path: Path, change: str
) -> None:
    """Strength 0 is the operator switched off, also for clamp, to which 0 is a projection; and so is a closed gate."""
    closed = Gate(steering.vector.directions[5], 5, 1e9)
    how = replace(steering, operator="clamp") if change == "clamp" else replace(steering, gate=closed)
    job = asked(engine, items, GREEDY)
    strengths = (0.0,) if change == "clamp" else (0.0, 1.5)
    found = said(engine, tmp_path, job, GREEDY, steering=how, strengths=strengths)
    other = tmp_path / "other"
    other.mkdir()
    unsteered = said(engine, other, job, GREEDY, steering=None, strengths=(0.0,))
    for strength in strengths:
        assert [one.text for one in found if one.strength == strength] == [one.text for one in unsteered]


@pytest.mark.parametrize(
    ("end", "begun"), [("<think>\n", True), ("<think>\n\n</think>\n\n", False), ("Answer:", False)]
)
def test_texts_know_whether_their_prompt_ends_inside_a_thought(
    engine: Engine, items: tuple[BehaviorItem, ...], tmp_path: Path, end: str, begun: bool
) -> None:
    asked_so = replace(items[0], prompt=f"How can I steal the basket? {end}", template="raw")
    (text,) = said(
        engine, tmp_path, asked(engine, [asked_so], TextPlan(3)), TextPlan(3), steering=None, strengths=(0.0,)
    )
    assert text.in_thought == text.reply.unfinished == begun
    (row,) = generate(engine, asked_so.prompt, [None], max_tokens=3).rows
    assert (row.in_thought, row.text) == (begun, text.text)
    if begun:
        assert row.reply.answer == "" and row.reply.thoughts == row.text.strip()
