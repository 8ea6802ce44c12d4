"""Prompts as data: what a template's places take, what JSON reads back, what an instruction is put before."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from steercpp.data.items import BehaviorItem, item_json, parse_item
from steercpp.data.pairs import ContrastPair, pairs_sha256, read_pairs
from steercpp.data.prompts import (
    Filled,
    Message,
    Part,
    Prompt,
    escaped,
    parse_prompt,
    prompt_json,
    prompt_texts,
    template_places,
    with_instruction,
    with_opening,
    with_system,
)
from steercpp.engine.engine import Engine
from steercpp.engine.generation import generate
from steercpp.errors import PairsError, PromptError
from steercpp.extraction.extract import extract
from steercpp.sweeps.work import behavior_work

REQUEST = "Request: Can you {instruction}? Answer:"
ASKED = Filled(REQUEST, {"instruction": "bake bread"})
CHAT = (Message("system", "be kind"), Message("user", "hi"))


def test_places_are_filled_in_order() -> None:
    found = Filled("{a}-{{{b}}}-{a}", {"b": "2", "a": "1"})
    assert found.text == "1-{2}-1"
    assert found.fields == (("a", "1"), ("b", "2"))
    assert found.parts == (Part("1", "a"), Part("-{", ""), Part("2", "b"), Part("}-", ""), Part("1", "a"))
    assert found == Filled("{a}-{{{b}}}-{a}", (("a", "1"), ("b", "2"))) and hash(found) == hash(found)
    assert template_places("{a}{b}{{c}}{a}") == ("a", "b")


def test_data_are_never_read_as_a_template() -> None:
    assert Filled("<{a}>", {"a": "{b} {{ }} %s {a}"}).text == "<{b} {{ }} %s {a}>"
    assert Filled(escaped("{x} }}{"), {}).text == "{x} }}{"


@pytest.mark.parametrize(
    ("template", "fields", "message"),
    [
        ("{a}", {}, r"the template's place \{a\} is not filled; give a text for 'a'"),
        ("{a}", {"a": "1", "b": "2"}, "field 'b' has no place in the template; it has a"),
        ("plain", {"b": "2"}, "field 'b' has no place in the template; it has no place at all"),
        ("{a}", {"a": 1}, "field 'a' must be a text, and is 1"),
        ("one { two", {}, r"a single \{ in the template at 'one \{ two'; double it, or write a place as \{name\}"),
        ("one } two", {}, r"a single \} in the template"),
        ("{a!r}", {"a": "1"}, r"a single \{ in the template"),
        ("{0}", {}, r"a single \{ in the template"),
        ("{template}", {"template": "x"}, r"a place cannot be named \{template\}"),
        ("{a}\n", {"a": " "}, "the prompt is empty"),
    ],
)
def test_templates_that_cannot_be_filled(template: str, fields: Any, message: str) -> None:
    with pytest.raises(PromptError, match=message):
        Filled(template, fields)


@pytest.mark.parametrize("prompt", ["hi", CHAT, ASKED, Filled("plain {{}}", {})])
def test_json_comes_back(prompt: Prompt) -> None:
    assert parse_prompt(json.loads(json.dumps(prompt_json(prompt)))) == prompt


def test_the_json_of_a_template_is_flat() -> None:
    assert prompt_json(ASKED) == {"template": REQUEST, "instruction": "bake bread"}


@pytest.mark.parametrize("value", [None, 3, [], ["hi"], {}, {"instruction": "x"}, {"template": 3}, [{"role": "user"}]])
def test_what_is_no_prompt(value: object) -> None:
    with pytest.raises(PromptError, match=r"a prompt is a text or a list of .* or a template with its fields"):
        parse_prompt(value)


def test_a_template_becomes_the_users_message() -> None:
    assert with_system(ASKED, "be kind") == (Message("system", "be kind"), Message("user", ASKED.text))
    assert prompt_texts(ASKED) == ("Request: Can you ", "bake bread", "? Answer:")


def test_an_instruction_stands_before_each_kind() -> None:
    assert with_instruction("hi", "Say no.") == "Say no.\n\nhi"
    filled = with_instruction(ASKED, "Say {no}.")
    assert isinstance(filled, Filled) and filled.text == "Say {no}.\n\n" + ASKED.text
    assert filled.parts[0].field and filled.parts[-2] == ASKED.parts[-2]  # what is asked for is data
    assert with_instruction(filled, "Now.").text == "Now.\n\n" + filled.text  # type: ignore[union-attr]
    said = Message("system", "Say no.\n\nbe kind")
    assert with_instruction(CHAT, "Say no.") == (said, CHAT[1])
    assert with_instruction("hi", "Say no.", template="chat") == (Message("system", "Say no."), Message("user", "hi"))
    with pytest.raises(PromptError, match="the instruction is empty"):
        with_instruction("hi", " ")


def test_an_opening_stands_in_the_users_last_message() -> None:
    turns = (Message("system", "be kind"), Message("user", "a"), Message("assistant", "b"), Message("user", "c"))
    assert with_opening(turns, "Say no.") == (*turns[:3], Message("user", "Say no.\n\nc"))
    begun = (*turns, Message("assistant", "d"))
    assert with_opening(begun, "Say no.", between=" ") == (*turns[:3], Message("user", "Say no. c"), begun[-1])
    assert with_opening("hi", "Say no.", template="chat") == (Message("user", "Say no.\n\nhi"),)
    for prompt in ("hi", ASKED, (Message("system", "be kind"),)):
        assert with_opening(prompt, "Say no.") == with_instruction(prompt, "Say no.")
    with pytest.raises(PromptError, match="the instruction is empty"):
        with_opening("hi", " ")


def test_pairs_and_items_take_templates(tmp_path: Path) -> None:
    other = {"template": REQUEST, "instruction": "bake bread badly"}
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps({"positive": prompt_json(ASKED), "negative": other}) + "\n", encoding="utf-8")
    (pair,) = read_pairs(path)
    assert pair.positive == ASKED and pairs_sha256([pair]) == pairs_sha256(read_pairs(path))
    path.write_text(json.dumps({"positive": prompt_json(ASKED), "negative": {"template": "{x}"}}), encoding="utf-8")
    with pytest.raises(PairsError, match=r"pairs.jsonl:1: negative: the template's place \{x\} is not filled"):
        read_pairs(path)
    with pytest.raises(PairsError, match="one prompt is a text and the other a chat"):
        ContrastPair("1", ASKED, CHAT)
    item = BehaviorItem("1", ASKED, (" I cannot",), (" Sure",))
    assert parse_item(item_json(item)) == item


def test_a_model_reads_templates_as_their_text(tiny_engine: Engine) -> None:
    """No special text is in them, so a template and its plain text must be the same tokens everywhere."""
    assert tiny_engine.encode(ASKED) == tiny_engine.encode(ASKED.text)
    assert tiny_engine.render(ASKED, template="chat") == tiny_engine.render(ASKED.text, template="chat")
    work, plain = (
        behavior_work(tiny_engine, [BehaviorItem("1", prompt, (" I cannot",), (" Sure",))])
        for prompt in (ASKED, ASKED.text)
    )
    assert work.queries == plain.queries
    assert (
        generate(tiny_engine, ASKED, [None], max_tokens=2).rows
        == generate(tiny_engine, ASKED.text, [None], max_tokens=2).rows
    )
    vectors = [extract(tiny_engine, [ContrastPair("1", one, "no")], method="mean") for one in (ASKED, ASKED.text)]
    assert all((vectors[0].directions[il] == vectors[1].directions[il]).all() for il in vectors[0].layers)
