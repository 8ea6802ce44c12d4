"""Pairs in the forms of other tools: what is read, from the official files too, and the sentence where it cannot be."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from steercpp.data.json_stream import LONGEST, iter_items
from steercpp.data.pair_formats import PairFile, open_pairs, open_text_pairs, with_system_message
from steercpp.data.pairs import ContrastPair, pairs_sha256
from steercpp.data.prompts import Filled, Message
from steercpp.engine.engine import Engine
from steercpp.errors import PairsError


def put(path: Path, content: Any) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return path


def message(source: PairFile) -> str:
    with pytest.raises(PairsError) as caught:
        list(source)
    return str(caught.value)


def user(text: str) -> tuple[Message, ...]:
    return (Message("user", text),)


QUESTION = {"question": "Stop?\n (A) Yes\n (B) No", "answer_matching_behavior": "(A)"} | {
    "answer_not_matching_behavior": " (B)"
}


def test_caa_questions_are_chats_with_answers(tmp_path: Path) -> None:
    path = put(tmp_path / "generate_dataset.json", [QUESTION, QUESTION | {"question": "Go on?"}])
    for source in (open_pairs(path), open_pairs(path, format="caa")):
        first, second = source
        ask = user(QUESTION["question"])
        assert first == ContrastPair("1", ask, ask, " (A)", " (B)")
        assert second.positive == user("Go on?") and second.place == f"{path}:1"
    assert next(iter(open_pairs(path, raw=True))).positive == QUESTION["question"]


def test_repeng_suffixes_are_the_start_of_what_two_personas_say(tmp_path: Path) -> None:
    path = put(tmp_path / "suffixes.json", ["", "That game", " I can see "])
    source = open_pairs(path, personas=[("happy", "sad")])
    happy, sad = user("Act as if you're extremely happy."), user("Act as if you're extremely sad.")
    assert tuple(source) == (
        ContrastPair("1", happy, sad),
        ContrastPair("2", happy, sad, " That game", " That game"),
        ContrastPair("3", happy, sad, " I can see ", " I can see "),
    )
    personas = [("happy", "sad"), ("glad", "{persona}")]
    many = tuple(open_pairs(path, personas=personas, persona_template="Be {persona}, {persona}!", raw=True))
    assert [pair.id for pair in many] == ["1.1", "1.2", "2.1", "2.2", "3.1", "3.2"]
    assert (many[1].positive, many[3].negative, many[3].negative_answer) == (
        "Be glad, glad!",
        "Be {persona}, {persona}!",  # a persona is never a template itself
        " That game",
    )


def test_json_lines_are_told_from_arrays(tmp_path: Path) -> None:
    line = b'\xef\xbb\xbf{"positive": "a", "negative": "b"}\n'
    assert tuple(open_pairs(put(tmp_path / "p.jsonl", line))) == (ContrastPair("1", "a", "b"),)
    array = b'\xef\xbb\xbf\r\n [\n  "a b"\n,\t"c" ] \n'
    assert len(tuple(open_pairs(put(tmp_path / "p.json", array), personas=[("x", "y")]))) == 2


def test_a_source_can_be_gone_through_again_and_hashed(tmp_path: Path) -> None:
    source = open_pairs(put(tmp_path / "p.json", [QUESTION]))
    assert tuple(source) == tuple(source) and source.sha256() == pairs_sha256(tuple(source))


def official_rows(folder: Path) -> dict[str, int]:
    """Row counts from the README of CAA's folder, by the start of a behavior's name."""
    told = re.search(r"generate: ([^;]*);", (folder / "README").read_text())
    assert told is not None
    return {name: int(count) for name, count in re.findall(r"([a-z]+) (\d+)", told[1])}


def test_the_official_caa_files(test_data: Path) -> None:
    folder = test_data / "datasets" / "caa"
    rows, found = official_rows(folder), {}
    for path in sorted(folder.glob("generate/*/generate_dataset.json")):
        pairs = tuple(open_pairs(path))
        (name,) = [name for name in rows if path.parent.name.startswith(name)]
        found[name] = len(pairs)
        answers = {answer for pair in pairs for answer in (pair.positive_answer, pair.negative_answer)}
        assert {" (A)", " (B)"} <= answers and all(re.fullmatch(r" \([A-H]\)", answer) for answer in answers)
        assert all(pair.positive == pair.negative for pair in pairs)
    assert found == rows and len(rows) == 7


def test_the_official_repeng_files(test_data: Path) -> None:
    folder = test_data / "datasets" / "repeng"
    told = re.search(r"rows: ([\d /]+)", (folder / "README").read_text())
    assert told is not None
    names = ("all_truncated_outputs", "true_facts", "code_questions", "reasoning")
    counts = [len(tuple(open_pairs(folder / f"{name}.json", personas=[("a", "b")]))) for name in names]
    assert counts == [int(count) for count in told[1].split("/")]


def test_what_llama_cvector_generator_takes(tmp_path: Path) -> None:
    # string_process_escapes: \n, \r, \t, \', \", \\ and \xHH; anything else stays as it is
    positive = put(tmp_path / "positive.txt", b"one\\ntwo \\x41\\t\\\\n\r\n\n\nlast \\q \\x4 \\xzz\\")
    negative = put(tmp_path / "negative.txt", "uno\nfín \\xc3\\xad\n".encode())
    pairs = tuple(open_text_pairs(positive, negative))
    texts = [tuple(prompt.text for _, prompt, _ in pair.sides if isinstance(prompt, Filled)) for pair in pairs]
    assert texts == [("one\ntwo A\t\\n", "uno"), ("last \\q \\x4 \\xzz\\", "fín í")]
    assert pairs[1].place == f"{positive}:4"


def test_unequal_line_counts_are_named(tmp_path: Path) -> None:
    positive, negative = put(tmp_path / "p.txt", b"a\n\nb\n"), put(tmp_path / "n.txt", b"c\nd\ne\nf")
    assert f"{positive} has 2 prompts and {negative} has 4; " in message(open_text_pairs(positive, negative))
    assert f"{negative} has 4 prompts and {positive} has 2; " in message(open_text_pairs(negative, positive))


def test_bad_text_files(tmp_path: Path) -> None:
    good, same = put(tmp_path / "p.txt", b"a\nb\n"), put(tmp_path / "same.txt", b"c\nb\n")
    assert f"{good}:2 and {same}:2: pair 2: positive and negative are identical" in message(open_text_pairs(good, same))
    bad = put(tmp_path / "bad.txt", b"z\n\\xff\n")
    assert f"{bad}:2: byte 0xff is not UTF-8" in message(open_text_pairs(good, bad))
    assert "none.txt: cannot be read: No such file" in message(open_text_pairs(good, tmp_path / "none.txt"))
    endless = put(tmp_path / "endless.txt", b"a\n" + b"b" * (LONGEST + 1))
    assert f"{endless}:2: the line is longer than 16 MiB" in message(open_text_pairs(endless, same))
    empty = put(tmp_path / "empty.txt", b"\n\n")
    assert f"{empty} and {empty}: no pairs in the file" in message(open_text_pairs(empty, empty))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'[{"question": "a"}]', ":1: item 1: 'answer_matching_behavior' is missing or no text"),
        (b'["a",\n\n3]', ":3: item 2: expected a text"),
        (b'["a" "b"]', ":1: expected a comma or ] after an item, found '\"'"),
        (b'["a",', ":1: not JSON: Expecting value"),
        (b'["a"', ":1: the array is cut off"),
        (b'["a",\n\n{"question": "b",\n"answer": }]', ":4: not JSON: Expecting value"),  # an item over several lines
        (b'[\n{"question":\n\n"a"},\n3]', ":2: item 1: 'answer_matching_behavior' is missing or no text"),
        (b'["a\n', ":1: not JSON: Invalid control character"),
        (b'["a"] x', ":1: something follows the array's end"),
        (b'["\\ud83d"]', ":1: item 1: \\ud83d is half of a character"),
        (b'["\xff"]', ": byte 0xff is not UTF-8"),
        (b"[" * 100_000, ":1: not JSON: maximum recursion depth exceeded"),
        (b"[1]", ": a JSON array of neither questions with two answers (caa) nor texts (repeng)"),
        (b"[]", ": a JSON array of neither"),
        (json.dumps([QUESTION | {"answer_matching_behavior": "(B)"}]).encode(), ":1: item 1: pair 1: positive and"),
    ],
)
def test_bad_arrays(tmp_path: Path, content: bytes, expected: str) -> None:
    path = put(tmp_path / "p.json", content)
    with pytest.raises(PairsError) as caught:
        personas = [("x", "y")] if content.startswith(b'["') else []
        list(open_pairs(path, personas=personas))
    assert str(caught.value).startswith(f"{path}{expected}") and "\n" not in str(caught.value)


def test_what_does_not_go_together(tmp_path: Path) -> None:
    suffixes, lines = put(tmp_path / "s.json", ["a"]), put(tmp_path / "p.jsonl", b'{"positive": "a", "negative": "b"}')
    with pytest.raises(PairsError, match=r"s\.json: a list of suffixes needs two personas; give `personas`"):
        open_pairs(suffixes)
    with pytest.raises(PairsError, match=r"p\.jsonl: personas are for repeng's lists"):
        open_pairs(lines, personas=[("a", "b")])
    with pytest.raises(PairsError, match="'Be it' lacks {persona}"):
        open_pairs(suffixes, personas=[("a", "b")], persona_template="Be it")
    with pytest.raises(PairsError, match="pairs format 'csv' is unknown"):
        open_pairs(suffixes, format="csv")  # type: ignore[arg-type]
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(PairsError, match="cannot be read"):
            open_pairs(path)


def test_a_system_message_for_the_pairs_that_have_none(tmp_path: Path) -> None:
    lines = [
        {"positive": "a", "negative": "b"},
        {"prompt": [{"role": "user", "content": "c"}], "positive": "d", "negative": "e"},
        {"positive": "f", "negative": "g", "system": "Own."},
    ]
    path = put(tmp_path / "p.jsonl", "\n".join(map(json.dumps, lines)).encode())
    first, second, third = with_system_message(open_pairs(path), "Be brief.")
    brief = Message("system", "Be brief.")
    assert first.positive == (brief, Message("user", "a")) and first.place == f"{path}:1"
    assert (second.negative, second.negative_answer) == ((brief, Message("user", "c")), "e")
    assert third.positive == (Message("system", "Own."), Message("user", "f"))


def test_items_may_lie_across_the_pieces_that_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    items = ["é" * n for n in range(40)] + [{"k": [1, {"x": "]"}]}, 12345678901234567890, -1.5e300, None]
    path = put(tmp_path / "p.json", json.dumps(items, ensure_ascii=False, indent=1).encode())
    for piece in (1, 2, 3, 7, 1000):
        monkeypatch.setattr("steercpp.data.json_stream._PIECE", piece)
        found = list(iter_items(path))
        assert [value for _, value in found] == items
        assert [line for line, _ in found[:40]] == list(range(2, 42))


def test_the_lines_of_text_files_are_templates(tiny_engine: Engine, tmp_path: Path) -> None:
    """llama-cvector-generator tokenizes them with parse_special: a user writes the model's template into them."""
    lines = ("[INST] be happy [/INST]</s>{x}", "[INST] be sad [/INST]</s>{x}")
    files = [put(tmp_path / f"{i}.txt", f"{line}\n  \n".encode()) for i, line in enumerate(lines)]
    (pair,) = open_text_pairs(*files)
    for (_, prompt, _), line in zip(pair.sides, lines, strict=True):
        assert list(tiny_engine.encode(prompt)) == tiny_engine.tokenize(line, parse_special=True)
    blank = put(tmp_path / "blank.txt", b"\\n\n")
    assert f"{blank}:1: the prompt is empty" in message(open_text_pairs(blank, blank))
