"""Where the answer starts in the chats of models that think first."""

from __future__ import annotations

from typing import Any

import pytest

from steercpp.data.prompts import Message
from steercpp.engine.chat_template import ChatTemplate, WrittenChat

ASKED = (Message("user", "why?"),)
TURNS = (
    "{% for m in messages %}<{{ m.role }}>{% if m.role == 'assistant' %}BEFORE{% endif %}{{ m.content }}\n{% endfor %}"
)
SPEAKS = "{% if add_generation_prompt %}<assistant>END{% endif %}"
QWEN = "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}"


def template(before: str, end: str, **template_kwargs: Any) -> ChatTemplate:
    source = TURNS.replace("BEFORE", before) + SPEAKS.replace("END", end)
    return ChatTemplate(source, "", "", template_kwargs)


def written(of: ChatTemplate) -> WrittenChat:
    return of.written(ASKED, lambda text: [])


THOUGHT = "{% if m.reasoning_content %}<think>\n{{ m.reasoning_content }}\n</think>\n\n{% endif %}"


@pytest.mark.parametrize(
    ("before", "end", "start"),
    [
        ("", "", ""),  # no word of thoughts
        ("", QWEN, "<think>\n\n</think>\n\n"),  # a switch
        ("", "{% if not thinking %}</think>{% else %}<think>{% endif %}", "</think>"),
        ("", "{% if thinking_budget == 0 %}<seed:think></seed:think>{% endif %}", "<seed:think></seed:think>"),
        ("", "{% if reasoning_effort == 'none' %}<t/>{% endif %}<think>", "<t/><think></think>"),
        ("", "<think>\n", "<think>\n\n</think>\n\n"),  # an open thought, closed by its tag
        ("", "<think>", "<think></think>"),
        ("", "[THINK]", "[THINK][/THINK]"),
        ("", "<|START_THINKING|>", "<|START_THINKING|><|END_THINKING|>"),
        ("", "<think:open>", "<think:open></think:open>"),
        ("", "Here are my reasoning steps:\n", "Here are my reasoning steps:\n\n[BEGIN FINAL RESPONSE]\n\n"),
        (THOUGHT, "<think>\n", "<think>\n\n</think>\n\n"),  # closed as the template closes thoughts
        (THOUGHT.replace("\n</think>\n\n", "</think>"), "<think>\n", "<think>\n</think>"),
        (THOUGHT, "", "<think>\n\n</think>\n\n"),  # begun and closed
        ("<think></think>", "", "<think></think>"),  # the template's own empty thought
        ("{% if m.thinking %}x{% endif %}<|channel|>final<|message|>", "", "<|channel|>final<|message|>"),
        ("<|START_TEXT|>", "<|START_THINKING|><|END_THINKING|>", "<|START_THINKING|><|END_THINKING|><|START_TEXT|>"),
        ("</think>", "<think></think>", "<think></think>"),
    ],
)
def test_the_answer_starts_at_the_end_of_the_prompt(before: str, end: str, start: str) -> None:
    chat = written(template(before, end))
    assert chat.text == f"<user>why?\n<assistant>{start}"
    assert [part.field for part in chat.parts] in (["", "user", ""], ["", "user", "", ""])  # tags are no data


@pytest.mark.parametrize(
    ("end", "variables", "start"),
    [
        (QWEN, {"enable_thinking": True}, ""),
        ("<think>\n", {"enable_thinking": True}, "<think>\n"),  # also where the template has no switch
        ("<think>\n", {"reasoning_effort": "high"}, "<think>\n"),
        (QWEN, {"enable_thinking": False}, "<think>\n\n</think>\n\n"),
        ("<think>\n", {"reasoning_effort": "none"}, "<think>\n\n</think>\n\n"),
    ],
)
def test_who_sets_a_switch_decides(end: str, variables: dict[str, Any], start: str) -> None:
    assert written(template("", end, **variables)).text == f"<user>why?\n<assistant>{start}"


def test_what_is_done_is_told() -> None:
    def notes(before: str, end: str, **variables: Any) -> tuple[str, ...]:
        of = template(before, end, **variables)
        return of.notes([written(of)])

    assert notes("", "") == ()
    (off,) = notes("", QWEN)
    assert off.endswith("thinking is switched off (enable_thinking=false)")
    assert notes("", QWEN, enable_thinking=False) == (off,)
    (on,) = notes("", QWEN, enable_thinking=True)
    assert on.startswith("thinking is on (enable_thinking=true): what is scored at the start of an answer stands where")
    (closed,) = notes("", "<think>\n")
    assert r"'\n</think>\n\n' is added to its prompts" in closed
    (nothing,) = notes("{{ (m.content.split('</think>') | last)[:0] }}", "")
    assert nothing.endswith("nothing is known that switches them off: an answer may begin with one")


def test_a_message_that_ends_in_a_tag_is_no_open_thought() -> None:
    of = ChatTemplate("{# reasoning_content #}{% for m in messages %}{{ m.content }}{% endfor %}", "", "")
    assert of.written((Message("user", "what is <think>"),), lambda text: []).text == "what is <think>"
