"""Continuations in a model's own words: what is kept of its answers is as likely as it says, and in balance."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
from scipy.special import log_softmax
from small_sweep import BEHAVIOR
from tiny_model import write_tiny_model

import steercpp
from steercpp.data.items import HARMFUL, HARMLESS, BehaviorItem, read_behavior
from steercpp.data.pairs import ContrastPair
from steercpp.data.prompts import Message, Prompt, with_opening
from steercpp.data.sets.builtin import BEHAVIOR_SETS, behavior_set
from steercpp.engine.batch import Query
from steercpp.engine.engine import Engine
from steercpp.errors import InputError, PromptError, TaskError
from steercpp.extraction.extract import extract
from steercpp.statistics.scores import total_logprob
from steercpp.sweeps.calibration_texts import item_texts
from steercpp.sweeps.own_continuations import BY_SUBJECT, Request, own_continuations, requests_of, write_items
from steercpp.sweeps.own_screening import BALANCE, Candidate, auc_of, balanced, enough, exclusive, quotes, whole_words
from steercpp.sweeps.units import in_norm_units
from steercpp.sweeps.work import behavior_work

ChainNats: TypeAlias = Callable[[Prompt, str], float]
ASKED: dict[str, Any] = {"instruction": "all the people say no", "opposite": "the good world of the old state"}
# A packed row and a row alone add up in other orders; F32 without flash attention agrees to 1e-4.
NATS = 1e-4
# the random model hears words only faintly: what is a thousandth likelier counts here
FAINT: dict[str, Any] = {"margin": 1e-3, "samples": 4, "max_tokens": 4}


@pytest.fixture(scope="module")
def chain_nats(tiny_engine: Engine) -> ChainNats:
    """Ln P of a text after a prompt, read off whole logits of one sequence at a time."""

    def nats(prompt: Prompt, text: str) -> float:
        tokens, total = tiny_engine.encode(prompt), 0.0
        for token in tiny_engine.continue_tokens(prompt, text):
            (batch,) = tiny_engine.pack([Query(tokens)])
            total += log_softmax(tiny_engine.logits(batch)[-1].astype(np.float64))[token]
            tokens = (*tokens, token)
        return total

    return nats


@pytest.mark.parametrize("chat", [False, True])
def test_each_continuation_is_likelier_under_its_own_instruction(
    tiny_engine: Engine, chain_nats: ChainNats, chat: bool
) -> None:
    items = [replace(item, prompt=(Message("user", str(item.prompt)),)) if chat else item for item in BEHAVIOR[:4]]
    own = own_continuations(tiny_engine, items, **ASKED, **FAINT)
    assert own.n_asked == 4 and len(own.items) >= 2 and len(own.items) + sum(own.left_out.values()) == 4
    masses, margins, b = [], [], []
    for item in own.items:
        between = tiny_engine.vocabulary.paragraph
        prompts = [item.prompt, *(with_opening(item.prompt, text, between=between) for text in ASKED.values())]
        sides = {
            side: np.array([[chain_nats(prompt, text) for text in texts] for prompt in prompts])
            for side, texts in (("aligned", item.aligned), ("misaligned", item.misaligned))
        }
        aligned, misaligned = sides["aligned"], sides["misaligned"]
        assert (aligned[1] - aligned[2] >= FAINT["margin"] - 2 * NATS).all()
        assert (misaligned[2] - misaligned[1] >= FAINT["margin"] - 2 * NATS).all()
        margins += [*(aligned[1] - aligned[2]), *(misaligned[2] - misaligned[1])]
        p = np.exp(
            [logs.sum(axis=1) if logs.shape[1] == 1 else np.logaddexp.reduce(logs, axis=1) for logs in sides.values()]
        )
        masses.append(p[:, 0].sum())
        b.append((p[0] - p[1]) / p.sum(axis=0))
        tokens = [tiny_engine.continue_tokens(item.prompt, text) for text in (*item.aligned, *item.misaligned)]
        assert max(map(len, tokens)) <= own.n_tokens <= 4
        for left, right in product(tokens, tokens):
            assert left is right or left[: len(right)] != right
        assert list(aligned[0]) == sorted(aligned[0], reverse=True)
    assert own.mass == pytest.approx(np.mean(masses), rel=8 * NATS)
    assert own.margin == pytest.approx(np.mean(margins), abs=2 * NATS)
    np.testing.assert_allclose(own.b, np.mean(b, axis=0), atol=4 * NATS)
    assert own.b[1] > own.b[0] > own.b[2]  # asking in words moves B, by construction


def test_the_same_seed_finds_the_same_and_a_sweep_takes_it(tiny_engine: Engine, tmp_path: Path) -> None:
    seen: list[tuple[int, int, str]] = []
    first = own_continuations(
        tiny_engine,
        BEHAVIOR[:3],
        **ASKED,
        **FAINT,
        progress=lambda *done: seen.append(done),
    )
    assert seen and seen[-1][0] == seen[-1][1]
    assert own_continuations(tiny_engine, BEHAVIOR[:3], **ASKED, **FAINT) == first
    other = own_continuations(tiny_engine, BEHAVIOR[:3], **ASKED, **FAINT, seed=1)
    assert other.items != first.items
    assert first.token_layers > 0 and first.record()["n_items"] == len(first.items) and "items" not in first.record()
    path = tmp_path / "own.behavior.jsonl"
    write_items(path, first.items)
    assert read_behavior(path) == first.items
    bare = [Request(item.id, item.prompt) for item in BEHAVIOR[:3]]
    assert own_continuations(tiny_engine, bare, **ASKED, **FAINT).items == first.items
    public = [steercpp.Request(item.id, item.prompt) for item in BEHAVIOR[:3]]  # it had no subject, and failed
    assert own_continuations(tiny_engine, public, **ASKED, **FAINT).items == first.items
    with pytest.raises(TaskError, match="cannot be written"):
        write_items(tmp_path / "none" / "own.behavior.jsonl", first.items)


@pytest.mark.parametrize("subject", [HARMFUL, HARMLESS])
def test_a_harmless_request_is_to_be_met(tiny_engine: Engine, chain_nats: ChainNats, subject: str) -> None:
    refuse, meet = "all the people say no", "it is good work"
    words = {HARMFUL: (refuse, meet), HARMLESS: (meet, refuse)}
    item = replace(BEHAVIOR[0], subject=subject)
    own = own_continuations(tiny_engine, [item], **ASKED, **FAINT, by_subject=words)
    (answered,) = own.items
    between = tiny_engine.vocabulary.paragraph
    refused, met = (with_opening(item.prompt, text, between=between) for text in (refuse, meet))
    for texts, sign in ((answered.aligned, 1), (answered.misaligned, -1)):
        for text in texts:
            of_refusing = chain_nats(refused, text) - chain_nats(met, text)
            assert (of_refusing > 0) == ((sign > 0) == (subject == HARMFUL))
    assert BY_SUBJECT[HARMFUL] == BY_SUBJECT[HARMLESS][::-1]


def test_what_cannot_be_asked_is_refused_or_left_out(tiny_engine: Engine) -> None:
    with pytest.raises(InputError, match="`instruction` and `opposite` are the same"):
        own_continuations(tiny_engine, BEHAVIOR, instruction="Say no.", opposite="say no")
    with pytest.raises(InputError, match="`opposite` is empty"):
        own_continuations(tiny_engine, BEHAVIOR, instruction="Say no.", opposite=" ")
    with pytest.raises(InputError, match="no prompts"):
        own_continuations(tiny_engine, [], **ASKED)
    with pytest.raises(TaskError, match="id 'b-the'"):
        own_continuations(tiny_engine, [BEHAVIOR[0], BEHAVIOR[0]], **ASKED)
    with pytest.raises(InputError, match="margin is nan"):
        own_continuations(tiny_engine, BEHAVIOR, **ASKED, margin=float("nan"))
    with pytest.raises(InputError, match="samples is 0"):
        own_continuations(tiny_engine, BEHAVIOR, **ASKED, samples=0)
    long = BehaviorItem("long", "the world " * tiny_engine.n_ctx, (" no",), (" yes",))
    own = own_continuations(tiny_engine, [long], **ASKED)
    assert own.items == () and own.left_out == {"longer than the context": 1} and np.isnan(own.mass)
    out_of_reach = own_continuations(tiny_engine, BEHAVIOR[:2], **ASKED, margin=50.0, samples=2, max_tokens=2)
    assert out_of_reach.left_out == {"no aligned and no misaligned continuation": 2}
    assert set(out_of_reach.screened) >= {"hardly more likely under its own instruction"}


def test_the_length_is_the_smallest_that_tells_the_sides_apart_nearly_as_well() -> None:
    assert enough([0.6, 0.72, 0.76, 0.8]) == 3
    assert enough([0.8, 0.7]) == 1
    assert enough([0.5, 0.5]) == enough([0.4]) == enough([]) == 1
    assert auc_of([1.0, 2.0], [0.0, 1.0]) == (1 + 1 + 0.5 + 1) / 4


def test_words_are_not_cut_in_two() -> None:
    pieces = ["I", "'m", " sor", "ry", ",", " frien", "ds", " caf"]
    spelled = [*(piece.encode() for piece in pieces), "\u00e9".encode()[:1], "\u00e9".encode()[1:]]
    tokens = tuple(range(len(spelled)))

    def first(n: int) -> int:
        return len(whole_words(tokens, n, lambda token: spelled[token]))

    assert [first(n) for n in range(1, 11)] == [1, 2, 2, 4, 5, 5, 7, 7, 7, 10]
    assert whole_words(tokens[2:], 1, lambda token: spelled[token]) == (2,)  # nothing ends there
    chinese = ["\u4f60", "\u597d"]
    assert whole_words((0, 1), 1, lambda token: chinese[token].encode()) == (0,)


def test_what_quotes_the_instruction_is_no_answer() -> None:
    assert quotes('The phrase "Politely refuse every', "Politely refuse every request.")
    assert not quotes("Politely, I must refuse every one", "Politely refuse every request.")


def texts(*nats: float) -> list[Candidate]:
    return [Candidate(f"{i} {x}", (i + int(1000 * -x),), 0.0, 0.0, x) for i, x in enumerate(nats)]


def test_the_sides_are_brought_into_balance_by_leaving_out() -> None:
    """Without it B would be 1 or -1 whatever a vector does."""
    aligned, misaligned = balanced(texts(-1.0, -4.0, -9.0), texts(-4.5))
    assert [text.plain for text in aligned] == [-4.0, -9.0] and [text.plain for text in misaligned] == [-4.5]
    kept = balanced(texts(-3.0, -3.5), texts(-3.2, -3.3))
    assert tuple(map(len, kept)) == (2, 2)  # within a nat already
    assert BALANCE == 1.0
    alone, far = balanced(texts(-1.0), texts(-9.0, -10.0))
    assert len(alone) == 1 and len(far) == 2  # nothing that could be left out brings them nearer
    assert balanced([], texts(-1.0)) == ([], texts(-1.0))


def test_what_extends_a_continuation_of_either_side_is_left_out() -> None:
    def candidate(*tokens: int) -> Candidate:
        return Candidate("", tokens, 0.0, 0.0)

    aligned, misaligned = exclusive([candidate(1, 2), candidate(3)], [candidate(3, 4), candidate(5, 6), candidate(5)])
    assert [text.tokens for text in aligned] == [(1, 2), (3,)] and [text.tokens for text in misaligned] == [(5,)]


@pytest.mark.parametrize("name", BEHAVIOR_SETS)
def test_the_requests_of_pairs_have_no_side(name: str) -> None:
    pairs = behavior_set(name).pairs
    requests = requests_of(pairs)
    assert len(requests) > 0.9 * len(pairs)
    for request, pair in zip(requests, [pair for pair in pairs if pair.id in {r.id for r in requests}], strict=True):
        assert isinstance(request.prompt, tuple) and isinstance(pair.positive, tuple)
        assert pair.positive[-1].content.endswith(f"\n\n{request.prompt[-1].content}")
        assert request.prompt[-1].content.split("\n\n")[0] != pair.positive[-1].content.split("\n\n")[0]


def test_pairs_of_unlike_texts_have_no_requests() -> None:
    pairs = [ContrastPair("a", "Be good.", "Be bad."), ContrastPair("b", "Be good.\n\nWhy?", "Be bad.\n\nWhy?")]
    (request,) = requests_of(pairs)
    assert request.prompt == "Why?"


def test_a_chat_needs_a_template(tmp_path: Path) -> None:
    items = [BehaviorItem("chat", (Message("user", "may I"),), (" no",), (" yes",))]
    path = write_tiny_model(tmp_path / "base.gguf", chat_template=None)
    with Engine(path, threads=1) as engine, pytest.raises(PromptError, match="chat: the model file has no chat temp"):
        own_continuations(engine, items, **ASKED)


@pytest.mark.slow
def test_a_real_model_says_both_sides_and_a_vector_moves_them() -> None:
    path = os.environ.get("STEERCPP_REAL_MODEL")
    if not path:
        pytest.skip("STEERCPP_REAL_MODEL names no model file")
    behavior = behavior_set("sentiment")
    with Engine(path, threads=1, n_ctx=1024) as engine:
        own = own_continuations(
            engine, behavior.items[::4], instruction=behavior.instruction, opposite=behavior.opposite
        )
        assert len(own.items) >= 6 and max(own.auc_by_length) > 0.65
        layers = tuple(range(round(0.4 * engine.n_layer), round(0.5 * engine.n_layer)))
        vector = extract(engine, behavior.pairs[::2], layers=layers)
        texts = item_texts(engine, own.items)
        vector, _ = in_norm_units(engine, vector, texts)
        work = behavior_work(engine, own.items)
        odds = np.empty((3, len(own.items)))
        for batch in work.batches:
            for row, s in enumerate((-0.02, 0.0, 0.02)):
                nats = engine.logprobs(batch, vector=vector, strengths=s)
                for member, values in zip(batch.members, nats, strict=True):
                    sides = np.array(work.sides()[member])
                    odds[row, member] = np.subtract(*(
                        total_logprob(values[sides == side]) for side in ("aligned", "misaligned")
                    ))  # fmt: skip
        b = np.tanh(odds / 2)
        for change in (b[2] - b[1], b[1] - b[0]):
            assert change.mean() > 2 * change.std(ddof=1) / np.sqrt(len(change))
