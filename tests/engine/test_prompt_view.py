"""Prompts as a model gets them: the same tokens as are decoded, marks where data stand, and nothing measured."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from steercpp.cli import output
from steercpp.cli.main import main
from steercpp.cli.options.prompts import LONGEST, prompt_pieces
from steercpp.data.items import AnswerItem, BehaviorItem, ChoiceItem, CodeItem, Item, TextItem, kind_of
from steercpp.data.pairs import ContrastPair
from steercpp.data.prompts import Filled, Message
from steercpp.data.templates import fill
from steercpp.engine.engine import Engine
from steercpp.engine.prompt_view import Span, item_views, pair_views, prompt_view
from steercpp.errors import PromptError
from steercpp.sweeps.work import WORKS

CHAT = (Message("system", "be kind"), Message("user", " what is it?\n"))
ITEMS: tuple[Item, ...] = (
    *(BehaviorItem(f"b{i}", "Do you?", (" I cannot",), (" Sure",)) for i in range(3)),
    ChoiceItem("c", "Which?", ("oak", "ash"), 0),
    ChoiceItem("t", "Which?", ("oak", "ash"), 0, by="text", template="chat"),
    AnswerItem("a", fill("wolf2024/fairness-asked", statement="All is one."), (" Yes", " No")),
    TextItem("x", "the man and the world"),
    CodeItem("h", "def f():\n", "f", "def check(f): f()"),
)


def test_a_text_with_its_data(tiny_engine: Engine) -> None:
    view = prompt_view(tiny_engine, Filled("</s>Can you {it}?</s>", {"it": "so</s>"}))
    assert view.segments == (
        ("</s>", "special"), ("Can you ", "template"), ("so</s>", "data"), ("?", "template"), ("</s>", "special")
    )  # fmt: skip
    assert view.spans == (Span("it", 12, 18),) and view.text[12:18] == "so</s>"
    assert view.tokens == tiny_engine.encode(Filled("</s>Can you {it}?</s>", {"it": "so</s>"}))
    assert [piece for piece, special in zip(view.pieces, view.special, strict=True) if special] == [
        "<s>", "</s>", "</s>"
    ]  # fmt: skip
    assert view.bos == "tokenizer"


def test_a_template_for_another_family_is_told(tiny_engine: Engine) -> None:
    view = prompt_view(tiny_engine, fill("llama-3-chat", message="<|data|>"))
    assert view.foreign == ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
    assert prompt_view(tiny_engine, Filled("<s>a</s>{x}", {"x": "<|data|>"})).foreign == ()
    assert prompt_view(tiny_engine, "<|data|>").foreign == ()


def test_a_chat_with_its_data(tiny_engine: Engine) -> None:
    view = prompt_view(tiny_engine, CHAT)
    assert [(name, view.text[start:end]) for name, start, end in view.spans] == [
        ("system", "be kind"), ("user", "what is it?")  # spaces around a message are nobody's
    ]  # fmt: skip
    assert view.text == tiny_engine.render(CHAT) and view.tokens == tiny_engine.encode(CHAT)
    assert view.bos == "template" and view.segments[0] == ("<s>", "special")


def test_the_first_of_each_kind(tiny_engine: Engine) -> None:
    views = item_views(tiny_engine, ITEMS)
    assert [(view.kind, view.name) for view in views] == [
        ("behavior", "b0"), ("behavior", "b1"), ("choice", "c"), ("choice", "t"), ("answer", "a"), ("text", "x"),
        ("code", "h"),
    ]  # fmt: skip
    scored = [view.scored for view in views]
    assert scored[0] == {"aligned": (" I cannot",), "misaligned": (" Sure",)}
    assert scored[2:5] == [{"choices": ("A", "B")}, {"choices": (" oak", " ash")}, {"answers": (" Yes", " No")}]
    assert views[2].text == "Which?\nA) oak.\nB) ash.\nThe answer is" and views[3].text.endswith("Which? [/INST]")
    asked = item_views(tiny_engine, ITEMS, n=1, instruction="Say no.")
    assert [view.name for view in asked][:4] == ["b0", "b0, with the instruction", "c", "c, with the instruction"]
    assert asked[1].text == "Say no.\n\nDo you?"


@pytest.mark.parametrize("instruction", ["", "Say no."])
def test_what_is_shown_is_what_is_measured(tiny_engine: Engine, instruction: str) -> None:
    chats = (BehaviorItem("chat", CHAT, ("no",), ("yes",)), BehaviorItem("text", "Do", ("no",), ("yes",), "chat"))
    for kind in ("behavior", "choice", "answer"):
        for item in (one for one in (*ITEMS, *chats) if kind_of(one) == kind):
            view = item_views(tiny_engine, [item], instruction=instruction)[-1]
            (query,) = WORKS[kind](tiny_engine, [item], instruction=instruction if kind != "answer" else "").queries
            assert view.tokens == query.tokens


def test_pairs_with_their_answers(tiny_engine: Engine) -> None:
    pairs = [ContrastPair(str(i), CHAT, CHAT, " I cannot", " sure") for i in range(3)]
    views = pair_views(tiny_engine, pairs, n=2)
    assert [view.name for view in views] == [f"pair {i}: {side}" for i in (0, 1) for side in ("positive", "negative")]
    assert views[0].tokens == tiny_engine.encode_answered(CHAT, " I cannot")[0]
    assert views[0].spans[-1].field == "answer" and views[0].text.endswith("[/INST] I cannot")


def test_a_prompt_that_cannot_be_shown_is_named(tiny_engine: Engine) -> None:
    with pytest.raises(PromptError, match="b: a chat cannot be taken raw"):
        item_views(tiny_engine, [BehaviorItem("b", CHAT, ("a",), ("b",), template="raw")])


def test_long_prompts_are_cut_where_they_are_shown(tiny_engine: Engine) -> None:
    from rich.console import Console

    console = Console(width=80)
    with console.capture() as shown:
        console.print(*prompt_pieces(prompt_view(tiny_engine, "the man " * LONGEST)))
    assert f"{7 * LONGEST} more characters" in shown.get() and f"… {LONGEST + 2} more" in " ".join(shown.get().split())


@pytest.fixture
def pairs_file(tmp_path: Path) -> Iterator[str]:
    path = tmp_path / "pairs.jsonl"
    lines = [
        {"positive": f"be [/INST] kind {i}", "negative": {"template": "be {how}</s>", "how": f"bad {i}"}} for i in "abc"
    ]
    path.write_text("\n".join(map(json.dumps, lines)) + "\n")
    yield str(path)


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [*map(str, arguments), "--threads", "1"], env={"COLUMNS": "80"})


def shown(result: Result) -> list[dict[str, Any]]:
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    prompts: list[dict[str, Any]] = json.loads(result.stdout)["prompts"]
    return prompts


@pytest.mark.parametrize("command", ["extract", "dump"])
def test_pairs_of_a_command_line(command: str, tiny_path: Path, tiny_engine: Engine, pairs_file: str) -> None:
    """No file to write has to be named, for none is written."""
    found = shown(run(command, tiny_path, "--pairs", pairs_file, "--show-prompts", "--json"))
    assert [prompt["text"] for prompt in found] == [
        "be [/INST] kind a", "be bad a</s>", "be [/INST] kind b", "be bad b</s>"
    ]  # fmt: skip
    assert [token["id"] for token in found[1]["tokens"]] == list(
        tiny_engine.encode(Filled("be {how}</s>", {"how": "bad a"}))
    )
    assert found[1]["data"] == [{"field": "how", "start": 3, "end": 8}] and found[1]["n_tokens"] == len(
        found[1]["tokens"]
    )
    result = run(command, tiny_path, "--pairs", pairs_file, "--show-prompts=1")
    assert (result.exit_code, result.stderr) == (0, "")
    assert "«be [/INST] kind a»" in result.stdout and "be «bad a»⟦</s>⟧" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80
    result = run(command, tiny_path, "--pairs", pairs_file)
    assert result.exit_code == 2 and "Missing option '-o' / '--out'" in result.stderr


def test_the_prompt_of_generate(tiny_path: Path, tiny_engine: Engine) -> None:
    (found,) = shown(
        run("generate", tiny_path, "-p", "be </s>", "--template", "<s>a {x}</s>", "--show-prompts", "--json")
    )
    assert found["text"] == "<s>a be </s></s>" and found["bos"] == "template"
    assert [token["piece"] for token in found["tokens"] if token["special"]] == ["<s>", "</s>"]
    (chat,) = shown(run("generate", tiny_path, "-p", "be", "--chat", "--show-prompts", "--json"))
    assert chat["text"] == tiny_engine.render("be", template="chat")


def test_generate_tells_what_is_taken_by_the_letter() -> None:
    for arguments, message in (
        (("-p", "a </s>"), "</s> in the prompt is text; special tokens are read in templates only: see --template"),
        (
            ("-p", "a", "--template", "llama-3-chat"),
            "the model has no <|start_header_id|>, <|end_header_id|>, <|eot_id|>",
        ),
        (("-p", "a </s>", "--template", "<s>{x}"), ""),
    ):
        result = run("generate", *arguments, "-n", "1", "--strengths", "0", "--json")
        assert result.exit_code == 0 and message in result.stderr and bool(message) == bool(result.stderr)


def test_the_prompts_of_a_sweep(tmp_path: Path) -> None:
    """The embedded model's own: pairs, behavior and choices, with and without what asks for the behavior in words."""
    out = tmp_path / "run"
    found = shown(run("sweep", "--out", out, "--show-prompts=1", "--json"))
    assert [prompt["kind"] for prompt in found] == ["pair", "pair", "behavior", "behavior", "choice", "choice"]
    assert found[3]["name"] == f"{found[2]['name']}, with the instruction" and not out.exists()
    plain = shown(run("sweep", "--no-prompt-baseline", "--show-prompts=1", "--json"))
    assert [prompt["kind"] for prompt in plain] == ["pair", "pair", "behavior", "choice"]


def test_wrong_usage(tiny_path: Path, pairs_file: str) -> None:
    for arguments, message in (
        (("generate", "--show-prompts", "x", "-p", "a"), "no number of prompts; put the option last"),
        (("generate", "--show-prompts=0"), "'0' is no number of prompts"),
        (("generate", "-p", "a", "--template", "llama-3-chat", "--raw"), "in place of --raw and --chat"),
        (("extract", "--activations", pairs_file, "--show-prompts"), "--show-prompts shows pairs"),
    ):
        result = run(*arguments)
        assert result.exit_code == 2 and message in " ".join(result.stderr.split()), result.stderr
    result = run("generate", "-p", "a", "--template", "llama-3", "--show-prompts")
    assert result.exit_code == 1
    assert "no template is named 'llama-3'; use wolf2024/llama-3 or llama-3-chat" in " ".join(result.stderr.split())


def test_the_view_keeps_a_terminal_safe(tiny_engine: Engine) -> None:
    pieces = prompt_pieces(prompt_view(tiny_engine, "[red]x[/red]\x1b[31m"))
    assert isinstance(pieces[1], type(output.text(""))) and "\\x1b" in str(pieces[1]) and "[red]x" in str(pieces[1])
