"""Questions of known length, and the file in which llama-perplexity reads them."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path

import llama_cpp
import numpy as np

from steercpp.bench.models import Shape, make_model, words
from steercpp.bench.tasks import few_shot_head, perplexity_tasks, questions
from steercpp.data.items import choice_prompt

WORDS = words(700)


def parsed(data: bytes) -> list[tuple[str, list[str], list[int]]]:
    """Tasks as tools/perplexity/perplexity.cpp deserializes them, each found at its place."""

    def number(at: int) -> tuple[int, int]:
        return struct.unpack_from("<i", data, at)[0], at + 4

    def text(at: int) -> tuple[str, int]:
        size, at = number(at)
        return data[at : at + size].decode(), at + size

    n_tasks, at = number(0)
    places = [number(4 + 4 * i)[0] for i in range(n_tasks)]
    at += 4 * n_tasks
    tasks = []
    for place in places:
        assert at == place
        question, at = text(at)
        for kind in range(2):
            n_answers, at = number(at)
            answers, labels = [], []
            for _ in range(n_answers):
                answer, at = text(at)
                answers.append(answer)
            for _ in range(n_answers):
                label, at = number(at)
                labels.append(label)
            if kind == 0:
                tasks.append((question, answers, labels))
            else:
                assert n_answers == 0
    assert at == len(data)
    return tasks


def test_perplexity_reads_the_same_questions(rng: np.random.Generator) -> None:
    items = questions(WORDS, 5, rng)
    found = parsed(perplexity_tasks(items))
    assert [question for question, _, _ in found] == [choice_prompt(item) for item in items]
    for item, (_, answers, labels) in zip(items, found, strict=True):
        assert answers == ["A", "B", "C", "D"]
        assert labels == [int(i == item.answer) for i in range(4)]


def test_questions_by_text_have_their_choices_for_answers(rng: np.random.Generator) -> None:
    (item,) = (replace(item, by="text") for item in questions(WORDS, 1, rng))
    ((question, answers, labels),) = parsed(perplexity_tasks([item]))
    assert (question, answers, labels.index(1)) == (item.question, list(item.choices), item.answer)


def test_lengths(rng: np.random.Generator, tmp_path: Path) -> None:
    shape = Shape(n_layer=2, n_embd=32, n_head=2, n_head_kv=2, n_ff=32, n_vocab=700)
    model = llama_cpp.Llama(str(make_model(shape, "q4_0", folder=tmp_path)), vocab_only=True, verbose=False)
    lengths = {len(model.tokenize(choice_prompt(item).encode())) for item in questions(WORDS, 20, rng)}
    assert lengths == {100}
    head = few_shot_head(WORDS, rng)
    assert 500 <= len(model.tokenize(head.encode())) <= 560  # a first word after a line break is spelled in letters
    assert head.count("The answer is") == 5 and head.endswith("\n\n")
    model.close()


def test_the_same_draws_give_the_same_questions() -> None:
    one, other = (questions(WORDS, 3, np.random.default_rng(1)) for _ in range(2))
    assert one == other and len({item.question for item in one}) == 3
    assert one != questions(WORDS, 3, np.random.default_rng(2))
    assert one == questions(WORDS, 5, np.random.default_rng(1))[:3]


def test_answers_differ() -> None:
    answers = [item.answer for item in questions(WORDS, 12, np.random.default_rng(1))]
    assert set(answers) == {0, 1, 2, 3}
