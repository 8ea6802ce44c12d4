"""The embedded model and its default sweep: what the README promises to a user who types `steercpp sweep`."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import llama_cpp
import numpy as np
import pytest
from places import EMBEDDED, ModelMaker
from stock_llama import StockRunner
from vector_bytes import load_like_llama_cpp

from steercpp.data.prompts import Message
from steercpp.data.sets.embedded import DefaultModel, load
from steercpp.engine.engine import Engine
from steercpp.errors import ModelError
from steercpp.extraction.extract import extract
from steercpp.runs.result import SweepResult
from steercpp.sweeps.sweep import sweep
from steercpp.sweeps.work import behavior_work, choice_work
from steercpp.vectors.gguf import read_vector

pytestmark = pytest.mark.slow

TEXTS = ("What is the capital of France?", " two  spaces", "héllo\t世界 🙂\n\nﬁ", "\u200b½ [/INST]")


@pytest.fixture(scope="module")
def own() -> DefaultModel:
    return load()


@pytest.fixture(scope="module")
def engine(own: DefaultModel) -> Iterator[Engine]:
    with Engine(own.path, threads=2) as engine:
        yield engine


@pytest.fixture(scope="module")
def result(own: DefaultModel, engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> SweepResult:
    """The default sweep, as the command runs it."""
    return sweep(
        engine,
        extract(engine, own.pairs(), layers=own.layers),
        behavior=own.behavior(),
        choice=own.choice(),
        strengths=own.strengths,
        unit=own.unit,
        out=tmp_path_factory.mktemp("embedded") / "run",
    )


def directions(path: Path) -> dict[int, np.ndarray]:
    """A vector file's tensors by the rules of llama.cpp's loader, read by the tests' own reader."""
    return {il: row for il, row in enumerate(load_like_llama_cpp(path), start=1) if row.any()}


def test_the_file_is_small_and_of_the_promised_shape(engine: Engine, own: DefaultModel) -> None:
    assert EMBEDDED.stat().st_size <= 9_000_000
    assert engine.n_layer >= 8
    assert engine.n_embd % 256 == 0
    assert own.card["shape"]["n_ff"] % 256 == 0
    assert engine.n_ctx_train >= 512
    assert own.card["largest_logit_difference_f32_against_torch"] < 1e-3


def test_another_file_than_the_cards_is_refused(tmp_path: Path, own: DefaultModel) -> None:
    (tmp_path / "embedded.json").write_text(json.dumps(own.card), encoding="utf-8")
    with pytest.raises(ModelError, match=r"embedded\.gguf: the embedded model is missing"):
        load(tmp_path)
    (tmp_path / "embedded.gguf").write_bytes(own.path.read_bytes()[:-1] + b"x")
    with pytest.raises(ModelError, match="sha256"):
        load(tmp_path)


def test_the_chat_template_is_llama_2s(engine: Engine) -> None:
    chat = (Message("system", "Be kind."), Message("user", "Hello"))
    assert engine.render(chat) == "<s>[INST] <<SYS>>\nBe kind.\n<</SYS>>\n\nHello [/INST]"
    tokens = engine.encode(chat)
    assert tokens.count(1) == 1  # BOS once
    assert tokens[0] == 1


@pytest.mark.parametrize("letter", "ABCD")
def test_answer_letters_are_single_tokens(engine: Engine, letter: str) -> None:
    assert engine.continue_tokens("The answer is", f" {letter}") == (engine.token_id(f"▁{letter}"),)


@pytest.mark.parametrize("text", TEXTS)
def test_any_text_goes_in_and_comes_back(engine: Engine, text: str) -> None:
    assert engine.detokenize(engine.tokenize(text)) == text


def test_unsteered_it_knows_by_degrees_and_does_either(result: SweepResult, own: DefaultModel) -> None:
    assert result.behavior is not None and result.choice is not None
    zero = int(np.flatnonzero(result.strengths == 0)[0])
    assert -0.6 <= result.behavior.mean_normalized[zero] <= 0.2
    by_subject = defaultdict(list)
    for index, item in enumerate(own.choice()):
        by_subject[item.subject].append(result.choice.p_restricted[zero, index])
    assert len(by_subject) >= 4
    for subject, values in by_subject.items():
        assert 0.5 <= np.mean(values) <= 0.85, subject


def test_b_goes_from_answering_to_refusing_along_a_tanh(result: SweepResult) -> None:
    assert result.behavior is not None
    b, mass = result.behavior.mean_normalized, result.behavior.mean_mass
    assert b[0] < -0.8 and b[-1] > 0.8
    assert np.diff(b).min() >= -0.05
    assert mass[np.abs(b) > 0.8].min() >= 0.5
    (fit,) = result.fit()["alignment"]
    assert fit.valid and fit.n_points == len(result.strengths)
    assert fit.r2 >= 0.97


def test_p_correct_is_highest_in_the_middle_and_falls_to_both_sides(result: SweepResult) -> None:
    assert result.choice is not None
    p = result.choice.mean_p_free
    third = len(p) / 3
    assert third <= p.argmax() < 2 * third
    assert max(p[0], p[-1]) <= 0.8 * p.max()


def test_the_recommended_strength_pays_and_random_directions_do_not(result: SweepResult) -> None:
    found = result.recommend(max_loss=0.05)
    assert found is not None and found.strength is not None
    assert found.confirmed
    assert found.gain >= 0.3 and found.loss_high <= 0.05
    assert result.controls is not None
    changes = np.abs(result.controls.normalized_changes)
    assert len(changes) >= 8
    assert np.median(changes) < (found.b_normalized - found.b_normalized_at_0) / 3
    assert np.median(np.abs(result.controls.raw_changes)) < found.gain / 3


@pytest.mark.parametrize("index", [0, -3, -1])
def test_the_written_vector_gives_stock_llama_cpp_the_sweeps_own_probabilities(
    result: SweepResult, own: DefaultModel, engine: Engine, index: int
) -> None:
    assert result.behavior is not None
    strength = float(result.strengths[index])
    work = behavior_work(engine, own.behavior())
    vector, swept = directions(result.vector_path), read_vector(result.vector_path)
    stored: list[tuple[int, np.ndarray]] = []
    with StockRunner(own.path, threads=2, n_batch=256) as stock:
        stock.set_vector(vector, strength)
        for batch in work.batches:
            np.testing.assert_array_equal(stock.logits(batch), engine.logits(batch, vector=swept, strengths=strength))
            found = engine.logprobs(batch, vector=swept, strengths=strength)
            stored += zip(batch.members, found, strict=True)
    n_aligned = len(own.behavior()[0].aligned)
    aligned = [np.exp(each[:n_aligned]).sum() for _, each in sorted(stored, key=lambda one: one[0])]
    # the store holds log-probabilities as they were: only the summing may differ in the last bits
    np.testing.assert_allclose(aligned, result.behavior.p_aligned[index], rtol=1e-12)


def test_one_by_one_in_f32_the_vector_gives_the_same_probabilities(
    result: SweepResult, own: DefaultModel, model_maker: ModelMaker
) -> None:
    path = model_maker("embedded-F32")
    strength = 0.5
    items = own.choice()[:12]
    with (
        Engine(path, threads=2, type_k="f32", type_v="f32") as engine,
        StockRunner(path, threads=2, cache_type=llama_cpp.GGML_TYPE_F32) as stock,
    ):
        work = choice_work(engine, items)
        vector = read_vector(result.vector_path)
        packed = {
            member: logprobs
            for batch in work.batches
            for member, logprobs in zip(
                batch.members, engine.logprobs(batch, vector=vector, strengths=strength), strict=True
            )
        }
        stock.set_vector(directions(result.vector_path), strength)
        for place, query in enumerate(work.queries):
            (alone,) = engine.pack([query])
            logits = stock.logits(alone)[0].astype(np.float64)
            logprobs = logits - np.logaddexp.reduce(logits)
            found = [logprobs[tokens[0]] for tokens in query.continuations]
            # float32 sums in another order: attention sees other prompts' cells, masked, when packed
            np.testing.assert_allclose(found, packed[place], atol=1e-4)
