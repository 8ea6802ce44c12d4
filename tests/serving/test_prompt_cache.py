"""What a chat's turns have in common is computed once for each steering, and never taken from another steering's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from served import Served, serving

from steercpp.engine.engine import Engine
from steercpp.engine.pool import Pool

TURNS = [f"the man number {i} is in the house and the day is long" for i in range(10)]


def chat_of_ten_turns(served: Served, steering: str | None) -> tuple[list[str], list[dict[str, Any]]]:
    """The answers and what each took."""
    messages: list[dict[str, str]] = []
    answers, took = [], []
    for turn in TURNS:
        messages.append({"role": "user", "content": turn})
        asked = {"messages": messages, "max_tokens": 4, "temperature": 0, "steering": steering}
        answer = served.post("/v1/chat/completions", asked).json()
        # plain words, so that the next prompt has the very tokens of this one
        messages.append({"role": "assistant", "content": "the day is long"})
        answers.append(answer["choices"][0]["message"]["content"])
        took.append(answer["usage"])
    return answers, took


def lone_answers(path: Path, vectors: Path, steering: str | None) -> list[str]:
    with Engine(path, threads=1) as engine, serving(engine, vectors, n_rows=1, n_kept=0, n_cells=1024) as served:
        answers: list[str] = []
        messages: list[dict[str, str]] = []
        for turn in TURNS:
            messages.append({"role": "user", "content": turn})
            asked = {"messages": messages, "max_tokens": 4, "temperature": 0, "steering": steering}
            answers.append(served.post("/v1/chat/completions", asked).json()["choices"][0]["message"]["content"])
            messages.append({"role": "assistant", "content": "the day is long"})
        return answers


STEERINGS = ("refusal:1.5", "refusal:-1.5", None)


def run(path: Path, vectors: Path) -> list[tuple[list[str], list[dict[str, Any]]]]:
    """The same chat under each steering, one after the other, on one server that keeps enough."""
    with Engine(path, threads=1) as engine, serving(engine, vectors, n_rows=1, n_kept=4, n_cells=1024) as served:
        return [chat_of_ten_turns(served, steering) for steering in STEERINGS]


def check(found: list[tuple[list[str], list[dict[str, Any]]]], path: Path, vectors: Path) -> None:
    for (answers, took), steering in zip(found, STEERINGS, strict=True):
        n_prompt = [each["prompt_tokens"] for each in took]
        n_cached = [each["prompt_tokens_details"]["cached_tokens"] for each in took]
        # nothing of another steering's chat, though its tokens are the same
        assert n_cached[0] <= 1, (steering, n_cached)
        for before, now, cached in zip(n_prompt, n_prompt[1:], n_cached[1:], strict=False):
            assert before - 3 <= cached < now, (steering, n_prompt, n_cached)
        assert answers == lone_answers(path, vectors, steering)
    assert len({tuple(answers) for answers, _ in found}) == 3


def test_each_prefix_once_for_each_steering(tiny_path: Path, vectors: Path) -> None:
    check(run(tiny_path, vectors), tiny_path, vectors)


def test_without_the_check_of_steering_it_fails(
    tiny_path: Path, vectors: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pool, "_key", lambda self, steering, region: ())
    found = run(tiny_path, vectors)
    monkeypatch.undo()
    with pytest.raises(AssertionError):
        check(found, tiny_path, vectors)
