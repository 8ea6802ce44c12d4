"""Questions without meaning, of known length, for measuring speed; read this to see what a comparison decodes."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np

from steercpp.data.choice_form import LETTERS
from steercpp.data.items import ChoiceItem, choice_prompt

N_CHOICES = 4
_QUESTION_WORDS = 64  # with choices and "The answer is" about 100 tokens
_SHOTS = 5


def questions(words: Sequence[str], n_items: int, rng: np.random.Generator) -> tuple[ChoiceItem, ...]:
    """Choice questions of about 100 tokens each where every word is one token."""
    items = []
    for number in range(n_items):
        drawn = [words[place] for place in rng.integers(len(words), size=_QUESTION_WORDS + N_CHOICES)]
        question, choices = " ".join(drawn[:_QUESTION_WORDS]) + "?", tuple(drawn[_QUESTION_WORDS:])
        items.append(ChoiceItem(f"question {number}", question, choices, int(rng.integers(N_CHOICES))))
    return tuple(items)


def solved(items: Sequence[ChoiceItem]) -> str:
    """Questions with their answers, one after the other: what few-shot prompts begin with."""
    return "".join(f"{choice_prompt(item)} {LETTERS[item.answer]}\n\n" for item in items)


def few_shot_head(words: Sequence[str], rng: np.random.Generator) -> str:
    """Five solved questions, about 500 tokens."""
    return solved(questions(words, _SHOTS, rng))


def perplexity_tasks(items: Sequence[ChoiceItem]) -> bytes:
    """The same questions as llama-perplexity --multiple-choice reads them.

    Source: multiple_choice_score in tools/perplexity/perplexity.cpp of llama.cpp 0c1e57098: the number of tasks, where
    each starts, and for each the question, its answers with a label each, and as many again of a second kind, none
    here. It joins question and answer by a space, so an answer of one letter is scored by that letter's token alone;
    of an item that is asked by text the answers are its choices.
    """
    tasks = []
    for item in items:
        words = item.choices if item.by == "text" else LETTERS[: len(item.choices)]
        answers = b"".join(_text(each) for each in words)
        labels = b"".join(struct.pack("<i", i == item.answer) for i in range(len(item.choices)))
        n_answers = struct.pack("<I", len(item.choices))
        tasks.append(_text(choice_prompt(item)) + n_answers + answers + labels + struct.pack("<I", 0))
    start = 4 + 4 * len(tasks)
    places = [start + sum(len(task) for task in tasks[:number]) for number in range(len(tasks))]
    return struct.pack(f"<I{len(places)}I", len(tasks), *places) + b"".join(tasks)


def _text(content: str) -> bytes:
    data = content.encode()
    return struct.pack("<I", len(data)) + data
