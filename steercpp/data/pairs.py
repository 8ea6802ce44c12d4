"""Contrast pairs: two prompts that differ in one behavior; read this to write, check or read a pair file.

A pair file is UTF-8 JSON Lines, a pair on each line and no empty lines, in either form:

    {"positive": PROMPT, "negative": PROMPT, "system": "optional", "id": "optional"}
    {"prompt": PROMPT, "positive": "answer", "negative": "answer", "system": "optional", "id": "optional"}

PROMPT is a text, a list of {"role": ..., "content": ...} messages, or a template with what stands in its places,
{"template": "... {name} ...", "name": ...}; both sides are chats or neither is. An answer is what the assistant has
begun to say: it follows the prompt, with a leading space where the text needs one (in a chat the model's template
decides). A list that ends with an assistant's message is split, and that message is the answer. `system` becomes the
system message of both prompts, which makes them chats. `id` defaults to the line number. Other keys are ignored. What
other tools call pairs is read by pair_formats.py.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from steercpp.data.json_stream import LONGEST
from steercpp.data.prompts import Prompt, parse_prompt, prompt_json, prompt_texts, with_system
from steercpp.encoding import refuse_half_characters
from steercpp.errors import PairsError, PromptError
from steercpp.inputs import open_input, reading
from steercpp.pipes import once


@dataclass(frozen=True, slots=True)
class ContrastPair:
    """Two prompts; a direction points from the activations of `negative` to those of `positive`.

    The answers continue the prompts; both are "" where there are none. `place` is the path:line that the pair was read
    from, for messages; it is no part of what the pair says.

    >>> pair = ContrastPair("pair-1", "You are careful.", "You are reckless.")
    >>> pair.positive, pair.negative
    ('You are careful.', 'You are reckless.')
    """

    id: str
    positive: Prompt
    negative: Prompt
    positive_answer: str = ""
    negative_answer: str = ""
    place: str = field(default="", compare=False, repr=False)

    def __post_init__(self) -> None:
        if isinstance(self.positive, tuple) != isinstance(self.negative, tuple):
            raise PairsError(f"pair {self.id}: one prompt is a text and the other a chat; give both in the same form")
        if (self.positive, self.positive_answer) == (self.negative, self.negative_answer):
            raise PairsError(f"pair {self.id}: positive and negative are identical; a pair must differ")
        if bool(self.positive_answer) != bool(self.negative_answer):
            raise PairsError(f"pair {self.id}: only one side has an answer; give both sides one, or none")

    @property
    def sides(self) -> tuple[tuple[str, Prompt, str], tuple[str, Prompt, str]]:
        """The name, the prompt and the answer of both sides, the positive one first."""
        return (("positive", self.positive, self.positive_answer), ("negative", self.negative, self.negative_answer))

    @property
    def where(self) -> str:
        """What a message calls the pair: its place, or else its id."""
        return self.place or f"pair {self.id}"


@once()
def read_pairs(path: Path | str) -> tuple[ContrastPair, ...]:
    """All pairs of a file, in its order.

    Raises:
        PairsError: see `iter_pairs`; or the file holds no pair.

    >>> _ = Path("one.jsonl").write_text('{"positive": "You are careful.", "negative": "You are reckless."}')
    >>> len(read_pairs("one.jsonl"))
    1
    """
    pairs = tuple(iter_pairs(path))
    if not pairs:
        raise PairsError(f'{path}:1: no pairs; write one {{"positive": ..., "negative": ...}} on each line')
    return pairs


def iter_pairs(path: Path | str) -> Iterator[ContrastPair]:
    """Pairs of a file, read line by line: eight bytes a pair are kept, whatever its size.

    Raises:
        PairsError: the file cannot be read; or, starting with path:line, a line that is empty, not UTF-8, not a
            JSON object, one-sided, with identical or empty prompts; or, at the end, an id that an earlier line has.
    """
    hashes = array("q")
    for _, pair in _parsed_lines(path):
        hashes.append(hash(pair.id))
        yield pair
    _refuse_repeated_ids(path, hashes)


class PairsDigest:
    """Hash of what pairs say, in their order; neither ids nor a file's spacing change it."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def add(self, pair: ContrastPair) -> None:
        """Take in the next pair."""
        texts = [prompt_json(pair.positive), prompt_json(pair.negative)]
        if pair.positive_answer:
            texts += [pair.positive_answer, pair.negative_answer]
        self._digest.update(json.dumps(texts, ensure_ascii=False, sort_keys=True).encode() + b"\n")

    def hexdigest(self) -> str:
        """sha256 of the pairs so far."""
        return self._digest.hexdigest()


def pairs_sha256(pairs: Iterable[ContrastPair]) -> str:
    """Hash of what the pairs say, in their order; see `PairsDigest`."""
    digest = PairsDigest()
    for pair in pairs:
        digest.add(pair)
    return digest.hexdigest()


def _refuse_repeated_ids(path: Path | str, hashes: array[int]) -> None:
    """Hashes that are there twice are looked at again in the file: they may be those of different ids."""
    ordered = np.sort(np.frombuffer(hashes, np.int64)) if hashes else np.empty(0, np.int64)
    repeated = set(ordered[1:][ordered[1:] == ordered[:-1]].tolist())
    if not repeated:
        return
    seen: dict[str, int] = {}
    for number, pair in _parsed_lines(path):
        if hash(pair.id) not in repeated:
            continue
        if pair.id in seen:
            raise PairsError(f"{path}:{number}: id {pair.id!r} is on line {seen[pair.id]} already; make ids unique")
        seen[pair.id] = number


def _parsed_lines(path: Path | str) -> Iterator[tuple[int, ContrastPair]]:
    # bytes: only \n ends a line, and a bad byte can be named by its line
    with reading(path, PairsError), open_input(path) as file:
        for number, line in enumerate(iter(lambda: file.readline(LONGEST + 1), b""), start=1):
            try:
                if len(line) > LONGEST:
                    raise PairsError("the line is longer than 16 MiB; write one pair on each line")
                yield number, _parse_line(line, number, f"{path}:{number}")
            except (PairsError, PromptError) as error:
                raise PairsError(f"{path}:{number}: {error}") from error


def _parse_line(line: bytes, number: int, place: str) -> ContrastPair:
    record = _json_object(line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line)
    system = _optional_text(record, "system")
    if "prompt" in record:
        prompt = _prompt(record, "prompt")
        sides = [(prompt, _answer(record, key)) for key in ("positive", "negative")]
    else:
        sides = [_split(_prompt(record, key), key) for key in ("positive", "negative")]
    if system is not None:
        sides = [(with_system(prompt, system), answer) for prompt, answer in sides]
    if type(record.get("id")) is int:
        record["id"] = str(record["id"])
    (positive, begun), (negative, other) = sides
    return ContrastPair(_optional_text(record, "id") or str(number), positive, negative, begun, other, place)


def _split(prompt: Prompt, key: str) -> tuple[Prompt, str]:
    """A chat's last message is the answer, if it is the assistant's."""
    if not isinstance(prompt, tuple) or prompt[-1].role != "assistant":
        return prompt, ""
    if len(prompt) == 1:
        raise PairsError(f"{key}: the chat is an assistant's message alone; begin with the user's")
    if not prompt[-1].content.strip():
        raise PairsError(f"{key}: the assistant's last message is empty; leave it out")
    return prompt[:-1], prompt[-1].content


def _json_object(line: bytes) -> dict[str, Any]:
    try:
        content = line.decode("utf-8").strip()
    except UnicodeDecodeError as error:
        problem = f"byte 0x{line[error.start]:02x} at column {error.start + 1} is not UTF-8"
        raise PairsError(f"{problem}; save the file as UTF-8") from error
    if not content:
        raise PairsError("empty line; delete it")
    try:
        record = json.loads(content)
    except (ValueError, RecursionError) as error:  # ValueError: also a number of more digits than Python converts
        reason = f"{error.msg} at column {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)
        raise PairsError(f"not JSON: {reason}; each line is one JSON object") from error
    if not isinstance(record, dict):
        raise PairsError(f'a JSON {type(record).__name__}; expected {{"positive": ..., "negative": ...}}')
    return record


def _present(record: dict[str, Any], key: str) -> Any:
    if key not in record:
        raise PairsError(f"{key!r} is missing; a pair has a positive and a negative side")
    return record[key]


def _answer(record: dict[str, Any], key: str) -> str:
    answer = _present(record, key)
    if not isinstance(answer, str) or not answer.strip():
        raise PairsError(f'{key}: beside "prompt" stands an answer, a text; got {json.dumps(answer)}')
    return refuse_half_characters(answer, PairsError, where=f"{key}: ")


def _prompt(record: dict[str, Any], key: str) -> Prompt:
    value = _present(record, key)
    try:
        prompt = parse_prompt(value)
    except PromptError as error:
        raise PairsError(f"{key}: {error}") from error
    texts = prompt_texts(prompt)
    if not any(text.strip() for text in texts):
        raise PairsError(f"{key}: every message is empty; give it some text")
    for text in texts:
        refuse_half_characters(text, PairsError, where=f"{key}: ")
    return prompt


def _optional_text(record: dict[str, Any], key: str) -> str | None:
    value = record.get(key)
    if value is None:
        return None
    if not isinstance(value, str) or not value.strip():
        raise PairsError(f"{key}: expected a text, got {json.dumps(value)}; leave the key out if there is none")
    return refuse_half_characters(value, PairsError, where=f"{key}: ")
