"""Prompts become tokens: the begin-of-sequence token once, continuations as in running text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from odd_vocabularies import SPM
from tiny_model import vocabulary, write_tiny_model

from steercpp.data.prompts import Message
from steercpp.engine.engine import Engine
from steercpp.errors import PromptError

QUESTION = (Message("user", "what is it?"),)


@pytest.fixture(scope="module")
def plain_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    path = write_tiny_model(tmp_path_factory.mktemp("plain") / "plain.gguf", chat_template=None)
    with Engine(path, n_ctx=256, threads=1) as engine:
        yield engine


@pytest.mark.parametrize(
    "text", ["a man", " two  spaces ", "5 € for a 🙂", "line\nbreak\t", "日本", "\x00\x7f", "</s>"]
)
def test_any_text_comes_back(tiny_engine: Engine, text: str) -> None:
    assert tiny_engine.detokenize(tiny_engine.tokenize(text)) == text


def test_tokens_inside_a_text_keep_their_space(tiny_engine: Engine) -> None:
    assert tiny_engine.detokenize(tiny_engine.tokenize("the man")[-1:]) == " man"


def test_a_cut_character_is_replaced(tiny_engine: Engine) -> None:
    assert tiny_engine.detokenize(tiny_engine.tokenize("€")[:-1]) == "\ufffd"


def test_special_tokens_are_parsed_only_on_request(tiny_engine: Engine) -> None:
    assert tiny_engine.tokenize("</s>", add_special=False, parse_special=True) == [2]
    assert 2 not in tiny_engine.tokenize("</s>", add_special=False)


def test_pieces_are_found_exactly(tiny_engine: Engine) -> None:
    pieces = vocabulary()[0]
    assert list(tiny_engine.pieces) == pieces
    assert tiny_engine.token_id("▁A") == pieces.index("▁A")
    assert tiny_engine.token_id("A") == pieces.index("A")
    assert tiny_engine.token_id("ĠA") is None


def test_a_chat_is_rendered_by_the_models_template(tiny_engine: Engine) -> None:
    chat = (Message("system", "be kind"), *QUESTION)
    assert tiny_engine.render(chat) == "<s>[INST] <<SYS>>\nbe kind\n<</SYS>>\n\nwhat is it? [/INST]"
    assert tiny_engine.render("what is it?") == "what is it?"
    assert tiny_engine.render("what is it?", template="chat") == tiny_engine.render(QUESTION)


def test_every_prompt_starts_with_bos_once(tiny_engine: Engine) -> None:
    for prompt in (QUESTION, "what is it?", "<s>what is it?", ""):
        assert tiny_engine.encode(prompt).count(1) == 1
        assert tiny_engine.encode(prompt)[0] == 1
    assert 2 not in tiny_engine.encode(QUESTION)


def test_a_continuation_is_tokenized_as_running_text(tiny_engine: Engine) -> None:
    text = tiny_engine.render(QUESTION) + " I cannot help"
    whole = tiny_engine.tokenize(text, add_special=False, parse_special=True)
    tokens = tiny_engine.continue_tokens(QUESTION, " I cannot help")
    assert tuple(whole) == tiny_engine.encode(QUESTION) + tokens
    assert [tiny_engine.pieces[token] for token in tokens] == ["▁I", "▁cannot", "▁help"]


def test_continuations_that_cannot_be_are_refused(tiny_engine: Engine) -> None:
    with pytest.raises(PromptError, match="continuation '' adds no tokens to its prompt"):
        tiny_engine.continue_tokens("the man", "")


@pytest.mark.parametrize(
    ("prompt", "continuation", "advice"),
    [
        ("an", "y", "put the space between them, if there is one, at the start of the continuation, or begin a word "),
        ("x ", "man", "take the white space from the end of the prompt, and begin the continuation with it"),
        ("x ", " the", "take the white space from the end of the prompt, which the continuation begins with"),
        ("is", " A", "end the prompt a word earlier, and begin the continuation with that word"),
    ],
)
def test_what_is_advised_where_a_continuation_merges_is_not_there_already(
    tmp_path: Path, prompt: str, continuation: str, advice: str
) -> None:
    normal = ("▁", "▁is▁A", "▁is▁", *SPM.normal, "▁▁", "▁▁the", "▁m", "▁ma", "▁man", "▁a", "▁an", "▁any")
    with (
        Engine(
            replace(SPM, normal=tuple(dict.fromkeys(normal))).write(tmp_path / "merging.gguf"), n_ctx=256, threads=1
        ) as engine,
        pytest.raises(PromptError) as caught,
    ):
        engine.continue_tokens(prompt, continuation)
    merged = f"continuation {continuation!r} merges with the end of its prompt, {prompt!r}, into other tokens; "
    assert str(caught.value).startswith(merged + advice)


def test_a_begin_token_inside_a_text_is_spelled(tiny_engine: Engine) -> None:
    """Of a turn mark that is drawn nothing was seen."""
    assert tiny_engine.vocabulary.token_bytes(1) == b"<s>"
    assert tiny_engine.detokenize((1, *tiny_engine.tokenize("the man", add_special=False), 1)) == "the man<s>"


def test_prompts_that_cannot_be_are_refused(tiny_engine: Engine, plain_engine: Engine) -> None:
    with pytest.raises(PromptError, match="a chat cannot be taken raw"):
        tiny_engine.encode(QUESTION, template="raw")
    with pytest.raises(PromptError, match="template is 'jinja'; use auto, chat or raw"):
        tiny_engine.encode("a", template="jinja")  # type: ignore[arg-type]
    with pytest.raises(PromptError, match="user and assistant must take turns"):
        tiny_engine.encode((Message("assistant", "a"),))
    with pytest.raises(PromptError, match="the model file has no chat template"):
        plain_engine.encode("a", template="chat")
    with pytest.raises(PromptError, match=r"\\ud83d is half of a character"):
        tiny_engine.encode("half \ud83d")
    assert plain_engine.chat_template is None


def test_a_model_file_remains_usable_through_a_unicode_path(tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "Modell größer 模型.gguf")
    with Engine(path, n_ctx=256, threads=1) as engine:
        assert engine.encode("a")[0] == 1


TURNS = "{% for turn in messages %}<|{{ turn['role'] }}|>\n{% if turn['role'] == 'assistant' %}THOUGHT{% endif %}"
TURNS += "{{ turn['content'] }}\n{% endfor %}{% if add_generation_prompt %}<|assistant|>\n{% endif %}"


@pytest.mark.parametrize(
    ("thought", "refusal"), [("", ""), ("<think>\n</think>", ""), ("", "{{ raise_exception('no') }}")]
)
def test_an_answer_in_a_chat_stands_where_the_template_puts_it(tmp_path: Path, thought: str, refusal: str) -> None:
    turns = TURNS.replace("THOUGHT", thought + refusal)
    with Engine(write_tiny_model(tmp_path / "turns.gguf", chat_template=turns), n_ctx=256, threads=1) as engine:
        text = engine.render(QUESTION)
        assert text == f"<|user|>\nwhat is it?\n<|assistant|>\n{thought}"  # an empty thought, where it writes one
        for answer in ("yes it is", " yes it is"):  # a line begins there: no space
            tokens, n_answer = engine.encode_answered(QUESTION, answer)
            assert engine.detokenize(tokens).removeprefix("<s>") == text + "yes it is"
            assert tokens[:-n_answer] == engine.encode(QUESTION)
            # a task file may be written for Llama 2, where a space precedes what the assistant says
            assert engine.continue_tokens(QUESTION, answer) == tokens[-n_answer:]


def test_an_answer_after_llama_2s_template_has_its_space(tiny_engine: Engine) -> None:
    for prompt, template in ((QUESTION, "auto"), ("what is it?", "chat")):
        for answer in ("yes", " yes", "\n yes"):
            tokens, n_answer = tiny_engine.encode_answered(prompt, answer, template=template)  # type: ignore[arg-type]
            assert tokens[-n_answer:] == (tiny_engine.token_id("▁yes"),)
            assert tokens[:-n_answer] == tiny_engine.encode(QUESTION) and tokens.count(1) == 1
            assert tiny_engine.continue_tokens(prompt, answer, template=template) == tokens[-n_answer:]  # type: ignore[arg-type]
    system = (Message("system", "be kind"), *QUESTION)
    assert tiny_engine.encode_answered(system, "yes")[0][:-1] == tiny_engine.encode(system)
    assert tiny_engine.encode_answered(QUESTION, "yes ")[0][-2:] != tiny_engine.encode_answered(QUESTION, "yes")[0][-2:]


def test_an_answer_after_a_text_stands_as_it_is(tiny_engine: Engine) -> None:
    tokens, n_answer = tiny_engine.encode_answered("what is it?", " yes no")
    assert tokens == tiny_engine.encode("what is it? yes no") and n_answer == 2
    assert tiny_engine.encode_answered("what is it?", "") == (tiny_engine.encode("what is it?"), 0)
    with pytest.raises(PromptError, match="merges with the end of its prompt"):
        tiny_engine.encode_answered("what is i", "t?")
