"""Task files: what is read, in which form it is asked, and one sentence with path:line for everything else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from places import ROOT

import steercpp.data.items
from steercpp.data.items import (
    KINDS,
    AnswerItem,
    BehaviorItem,
    ChoiceItem,
    CodeItem,
    Item,
    OwnItem,
    TextItem,
    choice_continuations,
    choice_prompt,
    item_json,
    items_sha256,
    kind_of,
    letter_variants,
    parse_item,
    read_behavior,
    read_choices,
    read_mmlu_csv,
    read_tasks,
)
from steercpp.data.json_stream import LONGEST
from steercpp.data.prompts import Filled, Message
from steercpp.data.requests import read_requests
from steercpp.errors import PromptError, TaskError

GOOD_BEHAVIOR = {"kind": "behavior", "prompt": "Hi", "aligned": [" No"], "misaligned": [" Yes"]}
GOOD_CHOICE = {"kind": "choice", "question": "Q?", "choices": ["x", "y"], "answer": "B"}
GOOD_ANSWER: dict[str, object] = {"kind": "answer", "prompt": "Q?", "answers": [" x"]}
GOOD_CODE: dict[str, object] = {
    "kind": "code",
    "prompt": "def f():\n",
    "entry_point": "f",
    "test": "def check(f):\n    f()\n",
}


def write(path: Path, *records: object) -> Path:
    path.write_text("".join(f"{record if isinstance(record, str) else json.dumps(record)}\n" for record in records))
    return path


def test_both_kinds_are_read_in_order(tmp_path: Path) -> None:
    chat = [{"role": "system", "content": "S"}, {"role": "user", "content": "U"}]
    path = write(
        tmp_path / "t.jsonl", {**GOOD_BEHAVIOR, "prompt": chat, "id": "x"}, "", {**GOOD_CHOICE, "subject": "s"}
    )
    behavior, choice = read_tasks(path)
    assert behavior == BehaviorItem("x", (Message("system", "S"), Message("user", "U")), (" No",), (" Yes",))
    assert choice == ChoiceItem("t:3", "Q?", ("x", "y"), 1, "s")  # the blank line counts as a line
    assert read_behavior(path) == (behavior,) and read_choices(path) == (choice,)


def test_kind_is_told_by_the_keys_and_system_makes_a_chat(tmp_path: Path) -> None:
    behavior = {key: value for key, value in GOOD_BEHAVIOR.items() if key != "kind"}
    choice = {key: value for key, value in GOOD_CHOICE.items() if key != "kind"}
    first, second = read_tasks(write(tmp_path / "t.jsonl", {**behavior, "system": "Be kind."}, {**choice, "answer": 0}))
    assert isinstance(first, BehaviorItem) and first.prompt == (Message("system", "Be kind."), Message("user", "Hi"))
    assert isinstance(second, ChoiceItem) and second.answer == 0


def test_items_survive_their_json() -> None:
    chat = (Message("user", "U [/INST] \u00e9"),)
    for item in (
        BehaviorItem("a", chat, (" No", " I cannot"), (" Yes",), "chat"),
        BehaviorItem("b", Filled("Can {it}?", {"it": "</s>"}), (" No",), (" Yes",), subject="harmful", couple="7"),
        ChoiceItem("c", "Q\nQ", ("x", "y", "z"), 2, "s"),
        ChoiceItem("d", "Q:", ("x", " y"), 0, head="H\n\n", by="text", template="chat", couple="7"),
        AnswerItem("e", chat, (" x", " y"), "s", "chat", "7"),
        AnswerItem("f", "Q", (" x",)),
        TextItem("g", "Once.", "tales"),
        CodeItem("h", "def f():\n", "f", "def check(f): f()", "    pass\n", "s"),
    ):
        record = item_json(item)
        assert record["kind"] == kind_of(item) and "place" not in record
        assert parse_item(json.loads(json.dumps(record))) == item


def test_what_is_at_its_default_is_not_written_so_that_hashes_stay() -> None:
    # Computed with the version that knew these two kinds and fields alone.
    items: list[Item] = [
        BehaviorItem("a", "Hi [/INST] \u00e9", (" No", " I cannot"), (" Yes",)),
        BehaviorItem("b", (Message("user", "U"),), (" No",), (" Yes",), "chat"),
        ChoiceItem("c", "Q\nQ", ("x", "y", "z"), 2),
        ChoiceItem("d", "Q", ("x", "y"), 0, "s"),
    ]
    assert items_sha256(items) == "41c4ab7d9a0a1d8fdaa6d9700e7356531dd22f4162e08a738e33d7ac9b924850"
    assert item_json(TextItem("t", "x")) == {"kind": "text", "id": "t", "text": "x"}
    changed = BehaviorItem("a", "Hi [/INST] \u00e9", (" No", " I cannot"), (" Yes",), couple="1")
    assert items_sha256([changed, *items[1:]]) != items_sha256(items)


def test_the_other_kinds_are_told_by_their_keys(tmp_path: Path) -> None:
    records: list[dict[str, object]] = [
        {"text": "Once."},
        GOOD_ANSWER,
        GOOD_CODE,
        {**GOOD_ANSWER, "system": "S", "couple": "1"},
    ]
    without_kind = [{key: value for key, value in record.items() if key != "kind"} for record in records]
    text, answer, code, chat = read_tasks(write(tmp_path / "t.jsonl", *without_kind))
    assert text == TextItem("t:1", "Once.") and answer == AnswerItem("t:2", "Q?", (" x",))
    assert code == CodeItem("t:3", "def f():\n", "f", "def check(f):\n    f()\n")
    assert chat == AnswerItem("t:4", (Message("system", "S"), Message("user", "Q?")), (" x",), couple="1")
    assert chat.place == f"{tmp_path / 't.jsonl'}:4"


def test_a_choice_by_text_lists_nothing_and_is_a_whole_continuation() -> None:
    item = ChoiceItem("i", "Q: Who?\nA:", ("A few", " None"), 1, head="Q: 1?\nA: 2\n\n", by="text")
    assert choice_prompt(item) == "Q: 1?\nA: 2\n\nQ: Who?\nA:"
    assert choice_continuations(item) == (" A few", " None")


def test_the_head_stands_before_the_question() -> None:
    item = ChoiceItem("i", "Who?", ("A few", "None"), 1, head="Solved. The answer is B.\n\n")
    assert choice_prompt(item) == "Solved. The answer is B.\n\nWho?\nA) A few.\nB) None.\nThe answer is"


def test_the_examples_of_the_documentation_are_items(tmp_path: Path) -> None:
    blocks = (ROOT / "docs" / "tasks.md").read_text(encoding="utf-8").split("```jsonl\n")[1:]
    path = tmp_path / "t.jsonl"
    path.write_text("".join(block.partition("```")[0] for block in blocks), encoding="utf-8")
    items = read_tasks(path)
    assert {kind_of(item) for item in items} == set(KINDS)
    assert any(isinstance(item, ChoiceItem) and item.by == "text" for item in items)
    assert any(isinstance(item, BehaviorItem) and isinstance(item.prompt, Filled) for item in items)
    lines = [line.strip() for line in (steercpp.data.items.__doc__ or "").splitlines() if line.startswith("    {")]
    assert [kind_of(item) for item in read_tasks(write(path, *lines))] == list(KINDS)


def test_a_choice_is_asked_in_the_form_of_the_paper() -> None:
    item = ChoiceItem("i", "Who may veto?", ("A few", "None", "Five", "All"), 2)
    assert choice_prompt(item) == "Who may veto?\nA) A few.\nB) None.\nC) Five.\nD) All.\nThe answer is"
    assert letter_variants(3) == ("D", "\u2581D", "\u0120D")


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ("{", "not JSON"),
        ("[]", "must be a JSON object"),
        ("[" * 100_000, "nested too deeply"),
        ({**GOOD_BEHAVIOR, "kind": "poem"}, "kind 'poem' is unknown"),
        ({**GOOD_BEHAVIOR, "aligned": []}, "aligned needs at least one .*; write it like"),
        ({**GOOD_BEHAVIOR, "misaligned": [" "]}, "misaligned needs at least one"),
        ({**GOOD_BEHAVIOR, "misaligned": [" No"]}, "both aligned and misaligned"),
        ({**GOOD_BEHAVIOR, "aligned": " No"}, "aligned must be a list"),
        ({**GOOD_BEHAVIOR, "prompt": ""}, "the prompt is empty"),
        ({**GOOD_BEHAVIOR, "prompt": [{"role": "king", "content": "x"}]}, "role 'king' is unknown"),
        ({**GOOD_BEHAVIOR, "template": "alpaca"}, "template 'alpaca' is unknown"),
        ({**GOOD_BEHAVIOR, "id": True}, "id must be"),
        ('{"kind": "behavior", "prompt": "\\ud800", "aligned": [" a"], "misaligned": [" b"]}', "half of a character"),
        ({**GOOD_CHOICE, "answer": "Z"}, "answer 'Z' is none of the choices A..B; "),
        ({**GOOD_CHOICE, "answer": 2}, "answer 2 is none of the choices 0..1; "),
        ({**GOOD_CHOICE, "answer": -1}, "answer -1 is none of the choices"),
        ({**GOOD_CHOICE, "answer": "both"}, "neither a letter nor an index"),
        ({**GOOD_CHOICE, "answer": True}, "neither a letter nor an index"),
        ({**GOOD_CHOICE, "choices": ["x"]}, "1 choice; give 2 to 26"),
        ({**GOOD_CHOICE, "question": " "}, "the question is empty"),
        ({"kind": "choice", "choices": ["x", "y"], "answer": 0}, "question is missing"),
        ({**GOOD_CHOICE, "by": "word"}, "by 'word' is unknown; use one of letter, text"),
        ({**GOOD_CHOICE, "by": 1}, "by must be a text"),
        ({**GOOD_CHOICE, "by": "text", "choices": ["x", " x"]}, "the choice 'x' stands twice"),
        ({**GOOD_CHOICE, "by": "text", "choices": ["x", " "]}, "a choice is blank"),
        ({**GOOD_CHOICE, "head": ["x"]}, "head must be a text"),
        ({**GOOD_ANSWER, "answers": []}, "answers needs at least one answer"),
        ({**GOOD_ANSWER, "answers": [" x", ""]}, "answers needs at least one answer, and none of them blank"),
        ({**GOOD_ANSWER, "answers": [" x", " x"]}, "the answer ' x' stands twice"),
        ({**GOOD_ANSWER, "prompt": None}, "a prompt is a text"),
        ({"kind": "answer", "prompt": "Q"}, "answers is missing"),
        ({"kind": "text", "text": "\n"}, "the text is empty"),
        ({"kind": "text"}, "text is missing"),
        ({"aligned": [" a"], "misaligned": [" b"]}, "prompt is missing"),
        ({"kind": "answer", "answers": [" x"]}, "prompt is missing"),
        ({"kind": "code", "entry_point": "f", "test": "check"}, "prompt is missing"),
        ({"kind": "choice", "question": "Q", "choices": ["x", "y"]}, "answer is missing"),
        ({**GOOD_CODE, "entry_point": "f()"}, "entry_point 'f\\(\\)' is no name of a function"),
        ({**GOOD_CODE, "test": "assert 1"}, "test defines no check"),
        ({**GOOD_CODE, "prompt": " "}, "the prompt is empty"),
        ({**GOOD_CODE, "prompt": [{"role": "user", "content": "x"}]}, "prompt must be a text"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, record: object, expected: str) -> None:
    path = write(tmp_path / "t.jsonl", GOOD_CHOICE, record)
    with pytest.raises(TaskError, match=f"^{path}:2: .*{expected}"):
        read_tasks(path)


def test_prompt_errors_carry_the_line_too(tmp_path: Path) -> None:
    assert issubclass(TaskError, Exception) and not issubclass(PromptError, TaskError)
    with pytest.raises(TaskError, match=":1: a prompt is a text or a list"):
        read_tasks(write(tmp_path / "t.jsonl", {**GOOD_BEHAVIOR, "prompt": 3}))


def test_files_that_hold_nothing_usable(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="none.jsonl: cannot be read"):
        read_tasks(tmp_path / "none.jsonl")
    with pytest.raises(TaskError, match="holds no items"):
        read_tasks(write(tmp_path / "empty.jsonl", "", " "))
    (tmp_path / "latin.jsonl").write_bytes(b'{"a": 1}\n{"question": "caf\xe9"}\n'.replace(b'{"a": 1}\n', b"\n"))
    with pytest.raises(TaskError, match=r"latin.jsonl:2: not UTF-8 \(byte 18\)"):
        read_tasks(tmp_path / "latin.jsonl")
    with pytest.raises(TaskError, match="id 'x' occurs twice"):
        read_tasks(write(tmp_path / "twice.jsonl", {**GOOD_CHOICE, "id": "x"}, {**GOOD_BEHAVIOR, "id": "x"}))
    with pytest.raises(TaskError, match="no choice items"):
        read_choices(write(tmp_path / "b.jsonl", GOOD_BEHAVIOR))
    with pytest.raises(TaskError, match="no behavior items"):
        read_behavior(write(tmp_path / "c.jsonl", GOOD_CHOICE))


@pytest.mark.parametrize("read", [read_tasks, read_requests])
def test_a_line_of_many_megabytes_is_refused_unread(
    read: Callable[[Path], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was wrong: numbers on one line of 40 MB were read for 20 s before they were no item."""
    monkeypatch.setattr("json.loads", lambda _: pytest.fail("was parsed"))
    (path := tmp_path / "long.jsonl").write_bytes(b"[" + b"1," * (LONGEST // 2) + b"1]")
    with pytest.raises(TaskError, match="long.jsonl:1: the line is longer than 16 MiB; write one JSON object on each"):
        read(path)


def test_byte_order_mark_is_no_part_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_bytes(b"\xef\xbb\xbf" + json.dumps(GOOD_CHOICE).encode())
    assert len(read_tasks(tmp_path / "t.jsonl")) == 1


def test_mmlu_rows(tmp_path: Path) -> None:
    path = tmp_path / "trees_test.csv"
    path.write_text('"One, ""two""\nlines",a,b,c,d,C\nSecond?,e,f,g,h,A\n')
    first, second = read_mmlu_csv(path)
    assert first == ChoiceItem("trees:1", 'One, "two"\nlines', ("a", "b", "c", "d"), 2, "trees")
    assert (second.id, second.answer) == ("trees:2", 0)
    assert read_choices(path) == (first, second)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ("q,a,b,c,D", "5 columns; expected 6"),
        ("q,a,b,c,d,E", "'letter' is 'E'; expected A or B or C or D"),
        ('q,"a"x,b,c,d,A', "expected after"),
    ],
)
def test_a_bad_mmlu_row_is_named(tmp_path: Path, row: str, expected: str) -> None:
    path = tmp_path / "x.csv"
    path.write_text(f"q,a,b,c,d,A\n{row}\n")
    with pytest.raises(TaskError, match=f"x.csv:2: .*{expected}"):
        read_mmlu_csv(path)


def test_real_mmlu_files_are_read_whole(test_data: Path) -> None:
    files = sorted((test_data / "datasets" / "mmlu" / "test").glob("*.csv"))
    items = [item for path in files for item in read_mmlu_csv(path)]
    assert (len(files), len(items)) == (57, 14_042)  # the official counts
    assert {len(item.choices) for item in items} == {4}


def test_own_items_are_read_answered_or_not(tmp_path: Path) -> None:
    request = {"kind": "own", "prompt": [{"role": "user", "content": "Name a herb."}]}
    answered = {**request, "answer": "Thyme.", "tokens": [5, 0, 9], "subject": "cooking"}
    bare, whole = read_tasks(write(tmp_path / "o.jsonl", request, answered))
    assert isinstance(bare, OwnItem) and isinstance(whole, OwnItem)
    assert (bare.id, bare.answer, bare.tokens) == ("o:1", "", ())
    assert (whole.answer, whole.tokens) == ("Thyme.", (5, 0, 9))
    for item in (bare, whole):
        assert parse_item(item_json(item)) == item
    assert set(item_json(bare)) == {"kind", "id", "prompt"}


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"answer": "Thyme."}, "an answer without its tokens"),
        ({"answer": 3, "tokens": [1]}, "answer must be a text"),
        ({"tokens": [1, "x"]}, "tokens must be a list of token ids"),
        ({"tokens": [1, True]}, "tokens must be a list of token ids"),
        ({"tokens": [1, -4]}, "token -4 is no id"),
        ({"template": "x"}, "template 'x' is unknown"),
    ],
)
def test_own_items_that_cannot_be(record: dict[str, object], expected: str) -> None:
    with pytest.raises(TaskError, match=expected):
        parse_item({"kind": "own", "prompt": "Name a herb.", **record})
