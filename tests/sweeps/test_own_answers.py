"""Own answers: drawn as the model draws, kept token by token, and KL as stock llama.cpp's logits have it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from scipy.special import logsumexp
from small_sweep import INSTRUCTION, WORDS, small_vector
from stock_llama import StockRunner

from steercpp.aliases import Floats
from steercpp.data.items import OwnItem
from steercpp.data.prompts import Message, with_instruction
from steercpp.data.sets.builtin import capability_set
from steercpp.data.sets.embedded import load
from steercpp.engine import reference
from steercpp.engine.batch import Query
from steercpp.engine.engine import Engine
from steercpp.engine.generation import GREEDY, generate, generate_each
from steercpp.engine.sampling import Sampling
from steercpp.engine.steering import Steering
from steercpp.errors import ContextOverflowError, InputError, PromptError, ShapeError, TaskError
from steercpp.extraction.extract import extract
from steercpp.sweeps.own_answers import choosing, own_answers, own_prompt, own_query, query_groups, telling, words_kl
from steercpp.vectors.control_vector import ControlVector

REQUESTS = tuple(OwnItem(f"o-{word}", f"What of the {word}?") for word in WORDS)


@pytest.fixture(scope="module")
def chat(chat_path: Path) -> Iterator[Engine]:
    with Engine(chat_path, threads=1, n_ctx=512) as engine:
        yield engine


@pytest.fixture(scope="module")
def answered(chat: Engine) -> tuple[OwnItem, ...]:
    requests = [item for item in capability_set("everyday")[:4] if isinstance(item, OwnItem)]
    return own_answers(chat, requests, max_tokens=12, seed=3)


# Drawing


def test_each_prompt_gets_what_it_gets_alone(tiny_engine: Engine) -> None:
    """In F32 a row's distributions do not depend on its neighbors, up to rounding, and so neither do the draws."""
    prompts = [tiny_engine.encode(f"{'The old ' * n}{word}") for n, word in enumerate(WORDS)]
    chains = [Sampling(temperature=1.0, seed=i) for i in range(len(prompts))]
    together = generate_each(tiny_engine, prompts, sampling=chains, max_tokens=12)
    assert len({len(row.tokens) for row in together.rows} | {len(prompt) for prompt in prompts}) > 3
    for row, prompt, chain in zip(together.rows, prompts, chains, strict=True):
        (alone,) = generate(tiny_engine, prompt, [None], sampling=chain, max_tokens=12).rows
        assert (row.tokens, row.text, row.finish, row.end_token) == (
            alone.tokens, alone.text, alone.finish, alone.end_token,
        )  # fmt: skip
    again = generate_each(tiny_engine, prompts, sampling=chains, max_tokens=12)
    assert again.rows == together.rows
    assert together.token_layers < together.token_layers_plain + 12 * len(prompts) * tiny_engine.n_layer


def test_each_prompt_is_steered_for_itself(tiny_engine: Engine) -> None:
    steering = Steering(small_vector(tiny_engine))
    prompts = [tiny_engine.encode(f"{'The old ' * n}{word}") for n, word in enumerate(WORDS[:4])]
    acts = [steering.at(6.0), None, steering.at(-6.0), [steering.at(2.0), steering.at(4.0)]]
    together = generate_each(tiny_engine, prompts, sampling=[GREEDY] * 4, max_tokens=8, steering=acts)
    alone = [
        generate(tiny_engine, *one, max_tokens=8).rows[0] for one in zip(prompts, ([act] for act in acts), strict=True)
    ]
    assert [row.tokens for row in together.rows] == [row.tokens for row in alone]
    unsteered = generate_each(tiny_engine, prompts, sampling=[GREEDY] * 4, max_tokens=8)
    differ = [a.tokens != b.tokens for a, b in zip(together.rows, unsteered.rows, strict=True)]
    assert differ == [True, False, True, True]
    with pytest.raises(ShapeError, match="expected one for all or 4"):
        generate_each(tiny_engine, prompts, sampling=[GREEDY] * 4, max_tokens=8, steering=acts[:2])


def test_prompts_that_do_not_fit_together_are_continued_in_turns(tiny_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    with Engine(tiny_path, threads=1, n_batch=4) as engine:  # four rows at once
        prompts = [engine.encode(word) for word in WORDS]
        chains = [Sampling(temperature=1.0, seed=i) for i in range(len(prompts))]
        rows = generate_each(
            engine, prompts, sampling=chains, max_tokens=5, progress=lambda *done: seen.append(done)
        ).rows
        assert len(rows) == len(prompts) and seen == [(n, 8) for n in range(1, 9)]
        with pytest.raises(InputError, match="7 samplings for 8 prompts"):
            generate_each(engine, prompts, sampling=chains[1:], max_tokens=5)


def test_answers_are_the_same_for_the_same_seed_and_differ_for_another(tiny_engine: Engine) -> None:
    seen: list[tuple[int, int, str]] = []
    items = own_answers(tiny_engine, REQUESTS, max_tokens=9, progress=lambda *done: seen.append(done))
    assert [item.id for item in items] == [item.id for item in REQUESTS]
    for item in items:
        assert item.answer.strip() and 1 <= len(item.tokens) <= 9
        assert item.answer == tiny_engine.detokenize(item.tokens) or "�" in item.answer
    assert own_answers(tiny_engine, REQUESTS, max_tokens=9) == items
    others = own_answers(tiny_engine, REQUESTS, max_tokens=9, seed=1)
    assert sum(one.tokens != other.tokens for one, other in zip(items, others, strict=True)) >= len(items) - 1
    assert len({item.tokens for item in items}) > 1  # a seed of its own for each
    assert seen[-1] == (8, 8, "collecting the model's answers")


def test_what_is_answered_stays(tiny_engine: Engine) -> None:
    given = replace(REQUESTS[2], answer="no", tokens=(5, 6))
    items = own_answers(tiny_engine, [*REQUESTS[:2], given, *REQUESTS[3:]], max_tokens=4)
    assert items[2] == given and all(item.tokens for item in items)
    assert items[0] == own_answers(tiny_engine, REQUESTS, max_tokens=4)[0]
    assert own_answers(tiny_engine, items, max_tokens=4) == items


def test_an_end_at_once_is_drawn_again_and_at_last_left_out(
    tiny_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[int] = []
    genuine = type(tiny_engine.vocabulary).ends_generation

    def ends(vocabulary: object, token: int) -> bool:
        drawn.append(token)
        return True

    monkeypatch.setattr(type(tiny_engine.vocabulary), "ends_generation", ends)
    with pytest.raises(TaskError, match="answers none of the 8 requests"):
        own_answers(tiny_engine, REQUESTS, max_tokens=4)
    assert len(drawn) == 3 * len(REQUESTS) and len(set(drawn)) > len(REQUESTS)  # other seeds draw otherwise
    first = set(drawn[: len(REQUESTS)])

    def ends_at_first(vocabulary: object, token: int) -> bool:
        return token in first or genuine(vocabulary, token)  # type: ignore[arg-type]

    monkeypatch.setattr(type(tiny_engine.vocabulary), "ends_generation", ends_at_first)
    items = own_answers(tiny_engine, REQUESTS, max_tokens=4)
    assert 0 < len(items) <= len(REQUESTS) and all(item.answer.strip() for item in items)


def test_the_end_is_a_token_of_the_answer(tiny_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A push that makes answers longer or shorter moves the distribution that the end is drawn from."""
    (item,) = own_answers(tiny_engine, REQUESTS[:1], max_tokens=6)
    end = item.tokens[3]
    monkeypatch.setattr(type(tiny_engine.vocabulary), "ends_generation", lambda vocabulary, token: token == end)
    (cut,) = own_answers(tiny_engine, REQUESTS[:1], max_tokens=6)
    stop = item.tokens.index(end)
    if stop:  # else it was drawn again
        assert cut.tokens == item.tokens[: stop + 1]
        assert tiny_engine.detokenize(item.tokens[:stop]) == cut.answer


def test_every_third_chooses_and_the_others_tell() -> None:
    assert [item.id for item in choosing(REQUESTS)] == ["o-the", "o-day", "o-state"]
    assert {*choosing(REQUESTS), *telling(REQUESTS)} == set(REQUESTS)
    assert not {*choosing(REQUESTS)} & {*telling(REQUESTS)}


# Asking


def test_a_base_model_is_asked_the_text(tiny_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiny_engine, "chat_template", None)
    monkeypatch.setattr(tiny_engine.vocabulary, "chat_template", None)
    item = OwnItem("o", (Message("user", "Name a herb."),))
    prompt, template = own_prompt(tiny_engine, item)
    assert template == "raw" and prompt == f"Name a herb.{tiny_engine.vocabulary.paragraph}"
    assert own_answers(tiny_engine, [item], max_tokens=3)[0].tokens
    in_words, _ = own_prompt(tiny_engine, item, "Say no.")
    assert isinstance(in_words, str) and in_words.startswith("Say no.") and in_words.endswith(prompt)


def test_what_cannot_be_asked(tiny_engine: Engine) -> None:
    with pytest.raises(TaskError, match="o-the: is not answered yet; .* `own_answers`"):
        own_query(tiny_engine, REQUESTS[0])
    with pytest.raises(TaskError, match="is beyond this model's vocabulary of"):
        own_query(tiny_engine, replace(REQUESTS[0], tokens=(tiny_engine.n_vocab,)))
    long = OwnItem("long", "the " * 2000)
    with pytest.raises(ContextOverflowError, match="long: .* and 24 new ones need more than the context's"):
        own_answers(tiny_engine, [long])
    with pytest.raises(ContextOverflowError, match="long: needs"):
        own_query(tiny_engine, replace(long, tokens=(5,)))
    thinking = OwnItem("thinks", "Hm <think>")
    with pytest.raises(PromptError, match="thinks: the prompt ends inside a thought"):
        own_answers(tiny_engine, [thinking])


def test_groups_hold_no_more_rows_than_there_is_memory_for() -> None:
    queries = [Query((1,), ((5,) * n,)) for n in (3, 3, 4, 9, 1, 1)]
    assert query_groups(queries, 6) == [[0, 1], [2], [3], [4, 5]]
    assert query_groups([], 6) == []


# Measuring


@pytest.mark.slow
def test_kl_is_that_of_stock_llama_cpp(chat: Engine, chat_path: Path, answered: tuple[OwnItem, ...]) -> None:
    """One sequence at a time, whole logits, float64 arithmetic; the vector is llama.cpp's own."""
    vector = _vector(chat)
    together, _ = _measured(chat, answered, vector, 1.0)
    alone = []
    with StockRunner(chat_path, n_ctx=512, n_batch=256) as stock:
        for item in answered:
            query = own_query(chat, item)
            (kl,), (twin,) = _measured(chat, [item], vector, 1.0)
            (batch,) = chat.pack([query])
            rows = []
            for directions in (None, vector.directions):
                stock.set_vector(directions)
                rows.append(stock.logits(batch).astype(np.float64))
                assert rows[-1].shape == (len(item.tokens), chat.n_vocab)
            p, q = (row - logsumexp(row, axis=1, keepdims=True) for row in rows)
            expected = (np.exp(p) * (p - q)).sum(axis=1)
            assert expected.max() > 0.01
            # float32 exponentials in native code
            np.testing.assert_allclose(kl, expected, atol=1e-5, rtol=1e-4)
            np.testing.assert_allclose(twin, q[np.arange(len(item.tokens)), list(item.tokens)], atol=1e-5)
            alone.append(expected.mean())
    # Packed with others, quantized weights round otherwise, by some tenths of KL at a token and less in the mean.
    np.testing.assert_allclose(np.mean([kl.mean() for kl in together]), np.mean(alone), rtol=0.15)


def test_kl_is_nothing_at_0_never_below_and_quadratic_near_it(tiny_engine: Engine) -> None:
    items = own_answers(tiny_engine, REQUESTS, max_tokens=8)
    vector = small_vector(tiny_engine)
    means = []
    for strength in (0.0, 0.05, 0.1, 0.2, 1.0, -0.1, 8.0):
        found, _ = _measured(tiny_engine, items, vector, strength)
        assert min(kl.min() for kl in found) >= 0
        means.append(np.mean([kl.mean() for kl in found]))
    assert means[0] == 0 and means[1] > 0
    for once, twice in pairwise(means[1:4]):
        assert 3.5 < twice / once < 4.5  # 4 up to the cubic term and the roundings of float32
    assert means[5] == pytest.approx(means[2], rel=0.3)


@pytest.mark.slow
def test_the_twin_has_the_mean_of_kl(tiny_engine: Engine) -> None:
    """Over many sampled answers ln p0(y) - ln ps(y) and KL per position, summed over an answer, agree on average."""
    items = [replace(REQUESTS[i % len(REQUESTS)], id=f"o{i}") for i in range(480)]
    items = list(own_answers(tiny_engine, items, max_tokens=6))
    vector = small_vector(tiny_engine)
    found, steered = _measured(tiny_engine, items, vector, 10.0)
    _, unsteered = _measured(tiny_engine, items, vector, 0.0)
    sums = np.array([kl.sum() for kl in found])
    twins = np.array([(p - q).sum() for p, q in zip(unsteered, steered, strict=True)])
    error = (twins - sums).std(ddof=1) / np.sqrt(len(items))
    assert sums.mean() > 5 * error  # there is something to agree on
    assert abs((twins - sums).mean()) < 3.5 * error
    assert twins.min() < 0 <= sums.min()
    assert twins.std() > 2 * sums.std()  # why the twin only checks


def test_words_move_own_answers_as_whole_logits_have_it(tiny_engine: Engine) -> None:
    items = own_answers(tiny_engine, REQUESTS[:3], max_tokens=5)
    found = words_kl(tiny_engine, items, INSTRUCTION)
    for value, item in zip(found, items, strict=True):
        rows = []
        for prompt in (item.prompt, with_instruction(item.prompt, INSTRUCTION)):
            query = Query(tiny_engine.encode(prompt), (item.tokens,))
            (batch,) = tiny_engine.pack([query])
            rows.append(tiny_engine.logits(batch))
        assert value == pytest.approx(reference.kl(*rows).mean(), rel=1e-3)
    assert (found > 0).all()


def test_words_in_small_groups_give_the_same(tiny_path: Path) -> None:
    with Engine(tiny_path, threads=1) as engine:
        items = own_answers(engine, REQUESTS, max_tokens=5)
        at_once = words_kl(engine, items, INSTRUCTION)
        engine.keep_bytes = 2 * 4 * engine.n_vocab * 7  # seven rows of logits in a half of it
        np.testing.assert_allclose(words_kl(engine, items, INSTRUCTION), at_once, rtol=1e-3)


def _vector(engine: Engine) -> ControlVector:
    """A third as long as the residual stream."""
    il = engine.n_layer // 2
    vector = extract(engine, load().pairs()[:12], layers=(il,))
    norm = engine.residual_norms([engine.encode("The king went home to his old mother.")], [il])[il]
    return ControlVector({il: np.float32(0.3 * norm) * vector.directions[il]}, engine.architecture, engine.n_layer)


def _measured(
    engine: Engine, items: tuple[OwnItem, ...] | list[OwnItem], vector: ControlVector, strength: float
) -> tuple[list[Floats], list[Floats]]:
    """KL at each token of each answer, and ln P of the tokens."""
    kl: list[Floats] = [np.empty(0)] * len(items)
    logprobs = list(kl)
    for batch in engine.pack([own_query(engine, item) for item in items]):
        base = engine.base(batch, first_layer=vector.layers[0], keep_logits=True)
        found = engine.answer_kl(batch, steering=Steering(vector, strength), base=base)
        for member, of_item in zip(batch.members, found, strict=True):
            kl[member], logprobs[member] = of_item.kl, of_item.logprobs
    return kl, logprobs
