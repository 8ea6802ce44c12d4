"""The chat templates that llama.cpp ships, rendered here and by llama-cpp-python.

They are in llama-cpp-python's source package: STEERCPP_LLAMA_SOURCE names the folder that it was unpacked into.
"""

from __future__ import annotations

import datetime
import os
from pathlib import Path

import pytest
from llama_cpp import llama_chat_format

from steercpp.data.prompts import Message
from steercpp.engine.chat_template import ChatTemplate
from steercpp.engine.compiled_template import compile_template
from steercpp.errors import PromptError

N_TEMPLATES = 70
DAY = datetime.datetime(2026, 11, 29)
CHATS = {
    "a system message": (
        Message("system", "Speak <b>kindly</b> & briefly."),
        Message("user", "What is 'it'?"),
        Message("assistant", "It is a man."),
        Message("user", "And who is the other?"),
    ),
    "none": (
        Message("user", "What is 'it'?"), Message("assistant", "It is a man."), Message("user", "And the other?"),
    ),
    "one message": (Message("user", "Do you know the way?"),),
}  # fmt: skip
# They loop over tools, which are None; here they get an empty list then.
FAIL_IN_THE_LIBRARY = {
    "CohereForAI-c4ai-command-r-plus-tool_use",
    "NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use",
    "NousResearch-Hermes-3-Llama-3.1-8B-tool_use",
}
NEEDS_VARIABLES = {"fireworks-ai-llama-3-firefunction-v2"}  # of which neither has a value by itself
NO_SYSTEM = {"google-gemma-2-2b-it"}  # says so


@pytest.fixture(scope="module")
def templates() -> dict[str, str]:
    source = os.environ.get("STEERCPP_LLAMA_SOURCE")
    if not source:
        pytest.skip("STEERCPP_LLAMA_SOURCE names no folder of llama-cpp-python's unpacked source package")
    files = sorted(Path(source).glob("vendor/llama.cpp/models/templates/*.jinja"))
    assert len(files) == N_TEMPLATES, f"{source}: expected {N_TEMPLATES} templates, found {len(files)}"
    return {path.stem: path.read_text(encoding="utf-8") for path in files}


@pytest.fixture(autouse=True)
def _fixed_day(monkeypatch: pytest.MonkeyPatch) -> None:
    class Day(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:  # type: ignore[override]
            return DAY

    monkeypatch.setattr(llama_chat_format, "datetime", Day)


def by_library(of: ChatTemplate, chat: tuple[Message, ...]) -> str:
    formatter = llama_chat_format.Jinja2ChatFormatter(of.source, eos_token=of.eos, bos_token=of.bos)
    turns = [{"role": turn.role, "content": turn.content} for turn in chat]
    return str(formatter(messages=turns, **of.variables).prompt)  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize("chat", CHATS.values(), ids=CHATS.keys())
def test_they_are_rendered_as_by_the_library(templates: dict[str, str], chat: tuple[Message, ...]) -> None:
    """With the same variables, by which thinking is switched off, on the same day."""
    failed_there, failed_here, differ = set(), set(), set()
    for name, source in templates.items():
        of = ChatTemplate(source, "<s>", "</s>", {}, DAY.date().isoformat())
        theirs = ours = None
        try:
            theirs = by_library(of, chat)
        except (TypeError, ValueError):
            failed_there.add(name)
        try:
            ours = of.render(chat)
        except PromptError:
            failed_here.add(name)
        else:
            # each message is found, and what is added behind the library's text is the end of an empty thought
            whole = of.written(chat, lambda text: [])
            assert whole.text == ours + whole.closing
            assert all(turn.content in ours for turn in chat), name
            assert sorted(part.field for part in whole.parts if part.field) == sorted(turn.role for turn in chat), name
        if ours != theirs and theirs is not None:
            differ.add(name)
    refuse = NO_SYSTEM if chat[0].role == "system" else set()
    assert differ == set()
    assert failed_there == FAIL_IN_THE_LIBRARY | NEEDS_VARIABLES | refuse
    assert failed_here == NEEDS_VARIABLES | refuse


@pytest.mark.slow
def test_long_chats_are_rendered(templates: dict[str, str]) -> None:
    """A thousand messages of 300 characters, where each loop that asks for their number once weighed them all."""
    chat = [{"role": "assistant" if i % 2 else "user", "content": f"{i:04d} " + "word " * 59} for i in range(1000)]
    variables = {"messages": chat, "bos_token": "<s>", "eos_token": "</s>", "add_generation_prompt": True, "tools": []}
    for name in sorted(templates.keys() - NEEDS_VARIABLES):
        text = compile_template(templates[name]).run(variables, date=DAY.date().isoformat())
        assert all(turn["content"].strip() in text for turn in chat), name


def test_variables_help_a_template_that_needs_some(templates: dict[str, str]) -> None:
    (name,) = NEEDS_VARIABLES
    variables = {"functions": "[]", "datetime": "29 November 2026"}
    of = ChatTemplate(templates[name], "<s>", "</s>", variables)
    chat = CHATS["a system message"]
    assert all(turn.content in of.render(chat) for turn in chat) and "29 November 2026" in of.render(chat)


def test_answers_start_behind_all_thoughts(templates: dict[str, str]) -> None:
    """Where a template speaks of thoughts, its prompts end in none that is open."""
    ends = {}
    for name, source in templates.items():
        of = ChatTemplate(source, "<s>", "</s>", {}, DAY.date().isoformat())
        if name not in NEEDS_VARIABLES and of.thinking.is_spoken_of:
            ends[name] = of.written(CHATS["one message"], lambda text: []).text[-200:]
    assert len(ends) >= 40
    for name, end in ends.items():
        for opened, closed in (
            ("<think>", "</think>"), ("<|START_THINKING|>", "<|END_THINKING|>"), ("[THINK]", "[/THINK]"),
            ("<|channel>thought", "<channel|>"), ("<seed:think>", "</seed:think>"),
            ("reasoning steps:", "[BEGIN FINAL"),
        ):  # fmt: skip
            assert end.count(opened) <= end.count(closed), name
    assert ends["openai-gpt-oss-120b"].endswith("<|start|>assistant<|channel|>final<|message|>")
    assert ends["Qwen-Qwen3-0.6B"].endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")
    assert ends["deepseek-ai-DeepSeek-R1-Distill-Llama-8B"].endswith("<think>\n\n</think>\n\n")
    assert ends["upstage-Solar-Open-100B"].endswith("<|think|><|end|><|begin|>assistant<|content|>")
