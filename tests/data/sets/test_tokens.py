"""Prompts of real data sets through a real tokenizer: what goes in comes out again, byte for byte."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from places import EMBEDDED

from steercpp.data.items import ChoiceItem, CodeItem, Item, TextItem, choice_continuations, choice_prompt
from steercpp.data.prompts import Prompt, prompt_texts
from steercpp.data.sets.knowledge import MmluQuestion
from steercpp.data.sets.knowledge_items import mmlu_items
from steercpp.data.sets.names import behavior_items, task_items
from steercpp.engine.engine import Engine
from steercpp.sweeps.work import choice_work

BEHAVIOR = (
    "advbench", "instructions", "strongreject", "jailbreakbench", "malicious-instruct", "xstest", "stereoset",
    "caa:refusal", "caa:sycophancy",
)  # fmt: skip
TASKS = ("mmlu", "truthfulqa", "truthfulqa:answers", "humaneval", "caa-choices:mmlu", "caa-choices:truthfulqa")


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    if not EMBEDDED.exists():
        pytest.skip("models/embedded.gguf is not there; make it with `make model`")
    with Engine(EMBEDDED, threads=1) as opened:
        yield opened


def prompt_of(item: Item) -> Prompt:
    assert not isinstance(item, TextItem)
    return choice_prompt(item) if isinstance(item, ChoiceItem) else item.prompt


@pytest.mark.parametrize("name", [*BEHAVIOR, *TASKS])
def test_twenty_random_rows_survive_tokenizing(engine: Engine, test_data: Path, name: str) -> None:
    read = behavior_items if name in BEHAVIOR else task_items
    items = read(name, data=test_data / "datasets")
    for i in np.random.default_rng(3).choice(len(items), 20, replace=False):
        prompt = prompt_of(items[i])
        text = engine.detokenize(engine.encode(prompt, template="auto"))
        if isinstance(prompt, tuple):
            assert prompt_texts(prompt)[0].strip() in text  # a chat template may strip a message
        else:
            whole = "".join(prompt_texts(prompt))
            assert text.endswith(whole) and len(text) - len(whole) <= len(engine.bos_piece) + 1, items[i].place


@pytest.mark.parametrize("name", ["advbench", "stereoset:race", "truthfulqa", "truthfulqa:all", "truthfulqa:answers"])
def test_what_is_scored_adds_its_own_tokens(engine: Engine, test_data: Path, name: str) -> None:
    # No continuation merges with the end of its prompt, and none is lost.
    read = behavior_items if name in ("advbench", "stereoset:race") else task_items
    items = read(name, data=test_data / "datasets")
    for i in np.random.default_rng(4).choice(len(items), 10, replace=False):
        item = items[i]
        assert not isinstance(item, TextItem | CodeItem)
        if isinstance(item, ChoiceItem):
            scored = choice_continuations(item)
        else:
            scored = getattr(item, "answers", None) or (*item.aligned, *item.misaligned)
        for text in scored:
            tokens = engine.continue_tokens(prompt_of(item), text)
            assert engine.detokenize(tokens).strip() == text.strip()


def test_the_head_of_a_subject_is_computed_once(engine: Engine) -> None:
    def asked(subject: str, n: int) -> MmluQuestion:
        return MmluQuestion(subject, f"Which {subject} is number {n}?", ("red", "blue", "green", "grey"), "ABCD"[n % 4])

    dev = [asked(subject, n) for subject in ("law", "art") for n in range(5)]
    test = [asked(subject, n) for subject in ("law", "art") for n in range(10, 18)]
    work = {shots: choice_work(engine, mmlu_items(test, dev, shots=shots)) for shots in (0, 3)}
    for part in work.values():
        # The tokens that a tree of all prompts has, by another count: the different beginnings within each batch.
        queries = [[part.queries[member].tokens for member in batch.members] for batch in part.batches]
        beginnings = [{tokens[: n + 1] for tokens in group for n in range(len(tokens))} for group in queries]
        assert part.n_tokens == sum(map(len, beginnings))
    heads = {item.head for item in mmlu_items(test, dev, shots=3)}
    n_head = sum(len(engine.encode(head, template="raw")) for head in heads)
    added = work[3].n_tokens - work[0].n_tokens
    assert len(heads) == 2 and added <= n_head  # once for each subject, not for each of the 16 questions
    assert work[3].n_tokens_plain - work[0].n_tokens_plain > 7 * n_head
