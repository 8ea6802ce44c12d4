"""A model's thoughts apart from its answer, in one piece and as the text grows."""

from __future__ import annotations

import pytest
from served import Served, events

from steercpp.judging.answers import BEGUN, parted
from steercpp.serving.thoughts import ThoughtStream

TEXTS = [
    ("<think>\nThat is <b>illegal</b>.\n</think>\n\nI cannot help.", False),
    ("That is.\n</think>\n\nNo <b>x</b>.", True),
    ("Hello <there> you", False),
    ("<b>bold</b> hi", False),
    ("<|channel|>analysis<|message|>We need to.<|end|><|start|>assistant<|channel|>final<|message|>Sure thing.", False),
    ("[THINK]abc[/THINK]def", False),
    ("\u25c1think\u25b7so\u25c1/think\u25b7then", False),
    ("<think>never ends, a < b", False),
    ("<think>x</think>", False),
    ("Here's my thought process: a Here is", False),
    ("  x", False),
    ("<", False),
    ("a < b", True),
    ("", False),
    ("", True),
]


@pytest.mark.parametrize(("text", "in_thought"), TEXTS, ids=lambda value: repr(value)[:30])
@pytest.mark.parametrize("step", [1, 3, 7, 1000])
def test_pieces_add_up_to_the_whole(text: str, in_thought: bool, step: int) -> None:
    stream = ThoughtStream(in_thought)
    pieces = [stream.add(text[i : i + step]) for i in range(0, len(text), step)]
    pieces.append(stream.finish())
    reply = parted((BEGUN if in_thought else "") + text)
    assert ("".join(thought for thought, _ in pieces), "".join(answer for _, answer in pieces)) == (
        reply.thoughts, reply.answer
    )  # fmt: skip


def test_an_answer_is_not_held_back() -> None:
    stream = ThoughtStream(False)
    assert [stream.add(piece) for piece in ("Hello", " <x", " you")] == [("", "Hello"), ("", " <x"), ("", " you")]
    stream = ThoughtStream(True)
    assert stream.add("I see") == ("I see", "") and stream.add(" a <") == (" a", "")
    assert stream.add("b> c") == (" <b> c", "") and stream.add("</think>\n\nSo") == ("", "So")


def test_thoughts_are_a_field_of_their_own(served: Served) -> None:
    chat = [{"role": "user", "content": "the man"}, {"role": "assistant", "content": "<think>\nthe"}]
    asked = {"messages": chat, "max_tokens": 6, "temperature": 0, "logit_bias": [[2, False]]}
    message = served.post("/v1/chat/completions", asked).json()["choices"][0]["message"]
    assert message["content"] == "" and message["reasoning_content"]
    with served.http.stream("POST", "/v1/chat/completions", json={**asked, "stream": True}) as answer:
        deltas = [piece["choices"][0]["delta"] for piece in events(answer)]
    assert "".join(delta.get("reasoning_content", "") for delta in deltas) == message["reasoning_content"]
    assert not any(delta.get("content") for delta in deltas)
