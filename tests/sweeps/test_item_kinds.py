"""Free answers, texts and choices by their words: what a sweep stores of them are the model's own probabilities."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from architectures import ARCHITECTURES
from scipy.special import log_softmax
from small_sweep import ANSWER, BEHAVIOR, CHOICE, TEXT, WORDS, small_sweep, small_vector
from stock_llama import StockRunner

from steercpp.data.items import AnswerItem, ChoiceItem, TextItem, choice_prompt
from steercpp.data.sets.embedded import load
from steercpp.engine.batch import Query
from steercpp.engine.engine import Engine
from steercpp.errors import ContextOverflowError, InputError, PromptError, TaskError
from steercpp.reports.tables import tables
from steercpp.runs.judgement import judge
from steercpp.runs.result import SweepResult, open_run
from steercpp.spreadsheets import csv_bytes
from steercpp.sweeps.work import answer_work, choice_work, text_work
from steercpp.vectors.control_vector import ControlVector
from steercpp.vectors.gguf import read_vector

BY_TEXT = tuple(
    ChoiceItem(f"w-{word}", f"Which {word} is it?", ("the old man", "the old way", "new"), i % 3, by="text")
    for i, word in enumerate(WORDS)
)
# A pass over packed rows and one over a row alone add up in other orders; F32 without flash attention agrees to 1e-4.
NATS = 1e-4


@pytest.fixture(scope="module")
def embedded() -> Iterator[Engine]:
    with Engine(load().path, threads=1) as engine:
        yield engine


@pytest.fixture(scope="module")
def result(tiny_engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> SweepResult:
    folder = tmp_path_factory.mktemp("kinds") / "run"
    return small_sweep(tiny_engine, folder, choice=(), answer=ANSWER, text=TEXT, strengths=(-0.5, 0.5))


def chain(
    engine: Engine, prompt: tuple[int, ...], tokens: tuple[int, ...], vector: ControlVector, s: float
) -> np.ndarray:
    """ln P(token | all before), each read off whole logits of a decode of nothing else."""
    found = []
    for k, token in enumerate(tokens):
        (batch,) = engine.pack([Query(prompt + tokens[:k])])
        logits = engine.logits(batch, vector=vector, strengths=s)[-1].astype(np.float64)
        found.append(log_softmax(logits)[token])
    return np.array(found)


@pytest.mark.parametrize("strength", [0.0, 0.5])
def test_answers_are_scored_token_by_token(tiny_engine: Engine, result: SweepResult, strength: float) -> None:
    vector = read_vector(result.vector_path)
    chains = result.answer_chains(strength)
    for i in (0, 3):
        item = ANSWER[i]
        assert isinstance(item.prompt, str)
        prompt = tiny_engine.encode(item.prompt)
        for text, stored in zip(item.answers, chains[i], strict=True):
            tokens = tiny_engine.continue_tokens(item.prompt, text)
            np.testing.assert_allclose(stored, chain(tiny_engine, prompt, tokens, vector, strength), atol=NATS)
    assert sorted(map(len, chains[0])) == [1, 5, 7]


def test_an_items_answer_is_the_likeliest_per_token_unsteered(result: SweepResult) -> None:
    scores = result.answer
    assert scores is not None and result.strengths.tolist() == [-0.5, 0.0, 0.5]
    chosen = [max(range(3), key=lambda k: chains[k].mean()) for chains in result.answer_chains(0.0)]
    assert scores.n_tokens.tolist() == [len(c[k]) for c, k in zip(result.answer_chains(0.0), chosen, strict=True)]
    for row, s in enumerate(result.strengths):
        expected = [chains[k].sum() for chains, k in zip(result.answer_chains(float(s)), chosen, strict=True)]
        np.testing.assert_allclose(scores.nats[row], expected, rtol=1e-14)  # the same sums of float64
    np.testing.assert_allclose(scores.p_token, np.exp(scores.nats / scores.n_tokens), rtol=1e-14)


def test_texts_are_scored_after_their_first_token(tiny_engine: Engine, result: SweepResult) -> None:
    first, *rest = tiny_engine.encode(TEXT[2].text, template="raw")
    assert first == tiny_engine.bos and result.text is not None
    vector = read_vector(result.vector_path)
    for row, s in enumerate(result.strengths):
        expected = chain(tiny_engine, (first,), tuple(rest), vector, float(s))
        assert result.text.nats[row, 2] == pytest.approx(expected.sum(), abs=NATS * len(rest))
        assert result.text.n_tokens[2] == len(rest)
        perplexity = np.exp(-result.text.nats[row, 2] / len(rest))
        assert perplexity == pytest.approx(np.exp(-expected.mean()), rel=2 * NATS)
    assert result.rows()[0].perplexity == result.text.perplexity[0]


def test_the_loss_is_of_the_answers_where_there_are_no_choices(result: SweepResult) -> None:
    found = result.recommend()
    assert found is not None and found.measure == "p_token" and result.answer is not None
    assert "too few behavior items" in found.reason  # 8; of the 12 answers there are enough
    data = result.to_json()
    assert data["items"] == {"behavior": 8, "answer": 12, "text": 8} and data["notes"] == []
    (row,) = (row for row in data["strengths"] if row["strength"] == 0)
    assert row["p_token"] == pytest.approx(result.answer.p_token[1].mean()) and row["p_correct"] is None
    assert set(result.fit()) == {"alignment", "helpfulness"}
    assert result.items("answer") == ANSWER and result.items("text") == TEXT and result.items("choice") == ()


def test_choices_by_text_are_scored_by_all_their_words(tiny_engine: Engine, tmp_path: Path) -> None:
    found = small_sweep(
        tiny_engine, tmp_path / "run", behavior=(), choice=BY_TEXT, strengths=(0.5,), random_directions=0
    )
    vector = read_vector(found.vector_path)
    assert found.choice is not None
    for row, s in enumerate(found.strengths):
        item = BY_TEXT[4]
        prompt = tiny_engine.encode(item.question)
        tokens = [tiny_engine.continue_tokens(item.question, f" {choice}") for choice in item.choices]
        assert tokens[0][0] == tokens[1][0] and len(tokens[0]) > 1  # the first word says nothing yet
        nats = np.array([chain(tiny_engine, prompt, part, vector, float(s)).sum() for part in tokens])
        assert np.log(found.choice.p_free[row, 4]) == pytest.approx(nats[item.answer], abs=3 * NATS)
        share = np.exp(nats[item.answer] - np.logaddexp.reduce(nats))
        assert found.choice.p_restricted[row, 4] == pytest.approx(share, rel=6 * NATS)
        assert found.choice.correct[row, 4] == (nats.argmax() == item.answer)
    assert found.notes == (
        "8 of 8 choice items are asked by text: a choice is scored as a whole, P(correct) over the choices is its "
        "share of their summed P",
    )


def test_choices_by_text_are_length_normalized_as_lm_eval_does(
    tiny_engine: Engine, tiny_path: Path, tmp_path: Path
) -> None:
    """Against stock llama.cpp, one sequence at a time, and acc_norm's own arithmetic: argmax of ln P / len(choice)."""
    found = small_sweep(
        tiny_engine, tmp_path / "run", behavior=(), choice=BY_TEXT, strengths=(0.5,), random_directions=0
    )
    vector = read_vector(found.vector_path)
    assert found.choice is not None
    with StockRunner(tiny_path, n_batch=256) as stock:
        for row, s in enumerate(found.strengths):
            stock.set_vector(vector.directions, float(s))
            for place, item in enumerate(BY_TEXT):
                prompt = tiny_engine.encode(item.question)
                nats = np.zeros(len(item.choices))
                for i, choice in enumerate(item.choices):
                    tokens = tiny_engine.continue_tokens(item.question, f" {choice}")
                    for k, token in enumerate(tokens):
                        (batch,) = tiny_engine.pack([Query(prompt + tokens[:k])])
                        nats[i] += log_softmax(stock.logits(batch)[-1].astype(np.float64))[token]
                lengths = np.array([len(choice) for choice in item.choices])
                assert found.choice.correct_norm[row, place] == ((nats / lengths).argmax() == item.answer)
                powers = np.exp(nats / lengths * lengths.mean())
                expected = powers[item.answer] / powers.sum()
                assert found.choice.p_restricted_norm[row, place] == pytest.approx(expected, rel=40 * NATS)
    assert (found.choice.correct != found.choice.correct_norm).any()  # the short choice wins by ln P alone
    (at_0,) = (row for row in found.rows() if row.strength == 0)
    assert at_0.accuracy_norm == found.choice.correct_norm[0].mean()
    assert (
        at_0.record()["p_correct_restricted_norm"] == at_0.p_restricted_norm == found.choice.p_restricted_norm[0].mean()
    )
    reopened = open_run(found.folder).choice
    assert reopened is not None
    np.testing.assert_array_equal(reopened.p_restricted_norm, found.choice.p_restricted_norm)
    header = csv_bytes(tables(judge(found))["helpfulness"]).decode().splitlines()[0].split(",")
    assert {"p_correct_restricted_norm", "p_correct_restricted_norm_se", "accuracy_norm"} <= set(header)


def test_the_loss_of_choices_by_text_is_over_the_choices(tiny_engine: Engine, tmp_path: Path) -> None:
    """The P of all words of a choice is that of a long answer: its mean over items would be that of the shortest."""
    items = BY_TEXT + tuple(replace(item, id=f"{item.id}-again", head="The. ") for item in BY_TEXT[:4])
    found = small_sweep(tiny_engine, tmp_path / "run", choice=items, strengths=(0.5,), random_directions=0)
    recommended = found.recommend()
    assert recommended is not None and recommended.measure == found.measure == "p_restricted"
    assert found.choice is not None and found.helpful_values is not None
    np.testing.assert_array_equal(found.helpful_values, found.choice.p_restricted)
    fits = [found.fit()[name] for name in ("helpfulness", "helpfulness_restricted")]
    assert [[fit.form for fit in of_measure] for of_measure in fits] == [[fit.form for fit in fits[1]]] * 2


def test_a_choice_that_extends_another_is_told(tiny_engine: Engine) -> None:
    item = ChoiceItem("x", "Which?", ("the old", "the old man"), 0, by="text")
    assert choice_work(tiny_engine, [item]).notes[-1].startswith("1 of them have a choice that extends another")


def test_a_letter_without_a_token_is_scored_as_a_continuation(embedded: Engine, tmp_path: Path) -> None:
    """The embedded model's vocabulary spells U by its byte."""
    item = ChoiceItem("many", "Which is it?", tuple(f"number {i}" for i in range(22)), 20)
    vector = ControlVector({5: np.ones(embedded.n_embd, np.float32)}, embedded.architecture, embedded.n_layer)
    found = small_sweep(
        embedded, tmp_path / "run", vector=vector, unit="length", behavior=(), choice=(item,), strengths=(1.0,),
        random_directions=0,
    )  # fmt: skip
    assert embedded.token_id("▁U") is embedded.token_id("U") is None and embedded.token_id("▁V") is not None
    tokens = embedded.continue_tokens(choice_prompt(item), " U")
    expected = chain(embedded, embedded.encode(choice_prompt(item)), tokens, vector, 1.0).sum()
    assert found.choice is not None and len(tokens) == 2
    assert np.log(found.choice.p_free[1, 0]) == pytest.approx(expected, abs=2 * NATS)
    assert found.notes == ("the vocabulary has no single token for U, scored as a whole continuation after a space",)
    assert open_run(found.folder).to_json()["notes"] == list(found.notes)


def test_beginnings_of_an_answer_cost_nothing(tiny_engine: Engine) -> None:
    work = answer_work(tiny_engine, ANSWER)
    whole = [Query(query.tokens, answers) for query, answers in zip(work.queries, work.chains, strict=True)]
    assert work.n_tokens == sum(batch.n_tokens for batch in tiny_engine.pack(whole))
    assert work.n_tokens_plain == sum(query.n_tokens_plain for query in whole)


def test_a_recurrent_model_decodes_an_answer_in_one_pass(tmp_path: Path) -> None:
    """Sequences one by one: every beginning of an answer used to have a pass of its own."""
    with Engine(ARCHITECTURES["mamba"].write(tmp_path / "model.gguf"), threads=1) as engine:
        work = answer_work(engine, ANSWER[:2])
        assert [len(batch.passes) for batch in work.batches] == [2, 2]  # the answers of one token share the first
        result = small_sweep(
            engine, tmp_path / "run", vector=small_vector(engine), behavior=(), choice=(), answer=ANSWER[:2],
            strengths=(0.5,), random_directions=0,
        )  # fmt: skip
        item = ANSWER[1]
        assert isinstance(item.prompt, str)
        prompt, vector = engine.encode(item.prompt), read_vector(result.vector_path)
        for text, stored in zip(item.answers, result.answer_chains(0.5)[1], strict=True):
            tokens = engine.continue_tokens(item.prompt, text)
            np.testing.assert_allclose(stored, chain(engine, prompt, tokens, vector, 0.5), atol=NATS)


def test_an_interrupted_sweep_of_all_kinds_goes_on(tiny_engine: Engine, tmp_path: Path) -> None:
    options = {
        "choice": CHOICE[:3],
        "behavior": BEHAVIOR[:3],
        "answer": ANSWER[:3],
        "text": TEXT[:3],
        "strengths": (0.5,),
    }
    whole = small_sweep(tiny_engine, tmp_path / "whole", **options)
    calls = 0

    def interrupt(done: int, total: int, label: str) -> None:
        nonlocal calls
        assert done <= total
        calls += 1
        if calls == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        small_sweep(tiny_engine, tmp_path / "run", progress=interrupt, **options)
    again = small_sweep(tiny_engine, tmp_path / "run", **options)
    assert again.to_json()["strengths"] == whole.to_json()["strengths"]
    assert again.controls.record() == whole.controls.record()
    for name in ("behavior", "choice", "answer", "text"):
        assert getattr(again, name) is not None


def test_items_of_the_new_kinds_that_cannot_be_asked(tiny_engine: Engine, tmp_path: Path) -> None:
    def refused(error: type[Exception], match: str, **items: object) -> None:
        with pytest.raises(error, match=match):
            small_sweep(tiny_engine, tmp_path / "x", **{"behavior": (), "choice": (), **items})
        assert not (tmp_path / "x").exists()

    refused(InputError, "nothing to measure: give behavior, choice, answer")
    refused(TaskError, "two answer items have the id 'a-the'", answer=(ANSWER[0], ANSWER[0]))
    refused(TaskError, "two text items have the id 't-the'", text=(TEXT[0], TEXT[0]))
    refused(PromptError, "^merged: ", answer=(AnswerItem("merged", "the wa", ("y",)),))
    refused(ContextOverflowError, "^long: needs .*`n_ctx`", text=(TextItem("long", "the " * 2000),))
    refused(ContextOverflowError, "^long: needs .*`n_ctx`", answer=(AnswerItem("long", "the", (" the" * 2000,)),))


def test_without_a_begin_of_sequence_token_a_texts_first_is_left_out(tiny_path: Path, tmp_path: Path) -> None:
    key = b"tokenizer.ggml.add_bos_token"
    data = bytearray(tiny_path.read_bytes())
    value = data.index(key) + len(key) + 4  # behind the type, a bool
    assert data[value] == 1
    data[value] = 0
    (tmp_path / "model.gguf").write_bytes(data)
    with Engine(tmp_path / "model.gguf", threads=1) as engine:
        with pytest.raises(TaskError, match="^one: the text is a single token, so nothing follows it"):
            text_work(engine, [TextItem("one", "the")])
        work = text_work(engine, [TextItem("two", "the world of")])
        assert work.notes == ("no begin-of-sequence token stands before a text, so its first token is not scored",)
        assert work.queries[0].tokens + work.continuations[0].tokens == tuple(engine.tokenize("the world of"))
        assert len(work.continuations[0].tokens) == 2
