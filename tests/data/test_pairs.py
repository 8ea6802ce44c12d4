"""Pair files: what is read, and the sentence for each line that cannot be."""

from __future__ import annotations

import hashlib
import json
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steercpp.data.json_stream import LONGEST
from steercpp.data.pairs import ContrastPair, iter_pairs, pairs_sha256, read_pairs
from steercpp.data.prompts import Message, prompt_json
from steercpp.errors import PairsError


def put(tmp_path: Path, raw: bytes | str) -> Path:
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(raw if isinstance(raw, bytes) else raw.encode())
    return path


def message(path: Path) -> str:
    with pytest.raises(PairsError) as caught:
        read_pairs(path)
    return str(caught.value)


def test_texts_chats_system_and_id(tmp_path: Path) -> None:
    lines = [
        {"positive": "I love it", "negative": "I hate it"},
        {
            "positive": [{"role": "user", "content": "hi"}],
            "negative": [{"role": "user", "content": "go"}],
            "id": "chat",
        },
        {"positive": "yes", "negative": "no", "system": "Be brief.", "id": 7, "source": "ignored"},
    ]
    pairs = read_pairs(put(tmp_path, "\n".join(map(json.dumps, lines))))  # no line end at the end of the file
    system = Message("system", "Be brief.")
    assert pairs == (
        ContrastPair("1", "I love it", "I hate it"),
        ContrastPair("chat", (Message("user", "hi"),), (Message("user", "go"),)),
        ContrastPair("7", (system, Message("user", "yes")), (system, Message("user", "no"))),
    )


def test_answers_beside_a_prompt_and_as_the_last_message(tmp_path: Path) -> None:
    ask, say = {"role": "user", "content": "Stop?"}, {"role": "assistant", "content": "Yes"}
    lines = [
        {"prompt": "Shall I stop?", "positive": " Yes", "negative": " No"},
        {"prompt": [ask], "positive": "Yes", "negative": "No", "system": "Be brief."},
        {"positive": [ask, say], "negative": [{"role": "user", "content": "Go on?"}, say]},
        {"positive": [ask, say, ask], "negative": [ask]},  # the assistant's, but not the last
    ]
    pairs = read_pairs(put(tmp_path, "\n".join(map(json.dumps, lines))))
    stop, system = Message("user", "Stop?"), Message("system", "Be brief.")
    assert pairs == (
        ContrastPair("1", "Shall I stop?", "Shall I stop?", " Yes", " No"),
        ContrastPair("2", (system, stop), (system, stop), "Yes", "No"),
        ContrastPair("3", (stop,), (Message("user", "Go on?"),), "Yes", "Yes"),
        ContrastPair("4", (stop, Message("assistant", "Yes"), stop), (stop,)),
    )
    assert [pair.sides[1][2] for pair in pairs] == [" No", "No", "Yes", ""]


def test_windows_line_ends_byte_order_mark_and_unicode_line_separators(tmp_path: Path) -> None:
    raw = '\ufeff{"positive": "a\u2028b", "negative": "c"}\r\n{"positive": "d", "negative": "e"}\r\n'
    assert [pair.positive for pair in read_pairs(put(tmp_path, raw))] == ["a\u2028b", "d"]


GOOD = '{"positive": "a", "negative": "b"}\n'
BAD: dict[str, tuple[str | bytes, str]] = {
    "empty line": ("\n", "empty line; delete it"),
    "blanks": ("  \t\n", "empty line; delete it"),
    "not UTF-8": (b'{"positive": "\xe9", "negative": "b"}\n', "byte 0xe9 at column 15 is not UTF-8; save"),
    "UTF-16": ("\ufeff{}".encode("utf-16-le"), "byte 0xff at column 1 is not UTF-8"),
    "not JSON": ("positive,negative\n", "not JSON: Expecting value at column 1; each line is one JSON object"),
    "an object over several lines": ("{\n", "not JSON: Expecting property name enclosed in double quotes at column 2;"),
    "cut off": ('{"positive": "a", "nega', "not JSON"),
    "endless nesting": ("[" * 200_000 + "\n", "not JSON"),
    "number of 5000 digits": ('{"positive": ' + "1" * 5000 + "}\n", "not JSON"),
    "list": ('["a", "b"]\n', "a JSON list; expected"),
    "no negative": ('{"positive": "a"}\n', "'negative' is missing"),
    "no positive": ('{"negative": "a"}\n', "'positive' is missing"),
    "empty side": ('{"positive": "a", "negative": " "}\n', "negative: the prompt is empty"),
    "number": ('{"positive": 3, "negative": "b"}\n', "positive: a prompt is a text or a list"),
    "no messages": ('{"positive": [], "negative": "b"}\n', "positive: a prompt is a text or a list"),
    "empty messages": ('{"positive": [{"role": "user", "content": ""}], "negative": "b"}\n', "positive: every message"),
    "unknown role": ('{"positive": [{"role": "bot", "content": "a"}], "negative": "b"}\n', "role 'bot' is unknown"),
    "two forms": ('{"positive": [{"role": "user", "content": "a"}], "negative": "b"}\n', "in the same form"),
    "identical": ('{"positive": "a", "negative": "a"}\n', "positive and negative are identical"),
    "half a character": ('{"positive": "\\ud83d", "negative": "b"}\n', "positive: \\ud83d is half of a character"),
    "empty system": ('{"positive": "a", "negative": "b", "system": ""}\n', 'system: expected a text, got ""'),
    "answer is a list": (
        '{"prompt": "p", "positive": ["a"], "negative": "b"}\n',
        'positive: beside "prompt" stands an',
    ),
    "empty answer": ('{"prompt": "p", "positive": "a", "negative": " "}\n', 'negative: beside "prompt" stands an'),
    "no answer": ('{"prompt": "p", "positive": "a"}\n', "'negative' is missing"),
    "same answers": ('{"prompt": "p", "positive": "a", "negative": "a"}\n', "positive and negative are identical"),
    "half an answer": ('{"prompt": "p", "positive": "a", "negative": "\\ud83d"}\n', "negative: \\ud83d is half of"),
    "an answer alone": (
        '{"positive": [{"role": "assistant", "content": "a"}], "negative": [{"role": "user", "content": "b"}]}\n',
        "positive: the chat is an assistant's message alone",
    ),
    "an answer of blanks": (
        '{"positive": [{"role": "user", "content": "a"}, {"role": "assistant", "content": " "}], "negative": '
        '[{"role": "user", "content": "b"}]}\n',
        "positive: the assistant's last message is empty",
    ),
    "one answer": (
        '{"positive": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], "negative": '
        '[{"role": "user", "content": "a"}]}\n',
        "only one side has an answer",
    ),
    "endless line": (b"[" * (LONGEST + 1), "longer than 16 MiB"),
    "id is a list": ('{"positive": "a", "negative": "b", "id": [1]}\n', "id: expected a text, got [1]"),
    "id twice": ('{"positive": "a", "negative": "c", "id": "1"}\n', "id '1' is on line 1 already"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_line_is_named_by_path_and_line(tmp_path: Path, name: str) -> None:
    line, expected = BAD[name]
    raw = line if isinstance(line, bytes) else line.encode()
    path = put(tmp_path, GOOD.encode() + raw)
    found = message(path)
    assert found.startswith(f"{path}:2: ") and expected in found and "\n" not in found


def test_no_pairs_no_file_no_folder(tmp_path: Path) -> None:
    assert "pairs.jsonl:1: no pairs; write one" in message(put(tmp_path, ""))
    assert "cannot be read: No such file" in message(tmp_path / "none.jsonl")
    assert "cannot be read: Is a directory" in message(tmp_path)


def test_lines_are_read_one_by_one(tmp_path: Path) -> None:
    path = put(tmp_path, GOOD + "broken")  # a reader of the whole file would have failed before the first pair
    assert [pair.positive for pair in islice(iter_pairs(path), 1)] == ["a"]


def test_a_repeated_id_is_found_at_the_end(tmp_path: Path) -> None:
    lines = [f'{{"positive": "{i}", "negative": "x", "id": "{i % 700}"}}\n' for i in range(701)]
    assert ":701: id '0' is on line 1 already" in message(put(tmp_path, "".join(lines)))


def test_ids_of_equal_hash_are_no_repetition(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("steercpp.data.pairs.hash", lambda text: len(text), raising=False)
    lines = [f'{{"positive": "{i}", "negative": "x", "id": "{i}"}}\n' for i in (1, 2, 3)]
    assert len(read_pairs(put(tmp_path, "".join(lines)))) == 3
    assert ":4: id '2' is on line 2" in message(put(tmp_path, "".join([*lines, lines[1]])))


def test_hash_is_of_content_and_order() -> None:
    one, two = ContrastPair("1", "a", "b"), ContrastPair("2", "c", "d")
    assert pairs_sha256([one, two]) == pairs_sha256([ContrastPair("x", "a", "b"), ContrastPair("y", "c", "d")])
    assert pairs_sha256([one]) == hashlib.sha256(b'["a", "b"]\n').hexdigest()  # files hold it: it must not change
    different = {pairs_sha256(pairs) for pairs in ([one, two], [two, one], [one], [ContrastPair("1", "b", "a"), two])}
    assert len(different) == 4
    answered = [ContrastPair("1", "a", "b", *answers) for answers in (("c", "d"), ("d", "c"))]
    assert len({pairs_sha256([one]), *(pairs_sha256([pair]) for pair in answered)}) == 3


words = st.text(min_size=1).filter(lambda text: text.strip() and not any("\ud800" <= c <= "\udfff" for c in text))
turns = st.builds(Message, st.sampled_from(["system", "user", "assistant"]), words)
chats = st.builds(  # one that ended with the assistant's message would be split
    lambda before, last: (*before, last),
    st.lists(turns),
    st.builds(Message, st.sampled_from(["system", "user"]), words),
)
pairs_of = st.one_of(st.tuples(words, words), st.tuples(chats, chats)).filter(lambda both: both[0] != both[1])


@given(made=st.lists(pairs_of, min_size=1, max_size=5))
def test_any_pairs_come_back(tmp_path_factory: pytest.TempPathFactory, made: list[tuple[object, object]]) -> None:
    pairs = tuple(ContrastPair(str(i), p, n) for i, (p, n) in enumerate(made, start=1))  # type: ignore[arg-type]
    lines = (json.dumps({"positive": prompt_json(p.positive), "negative": prompt_json(p.negative)}) for p in pairs)
    assert read_pairs(put(tmp_path_factory.getbasetemp(), "\n".join(lines) + "\n")) == pairs
