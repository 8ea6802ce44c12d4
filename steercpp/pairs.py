"""Contrast pairs: two prompts that differ in one behaviour; read this to write, check or read a pair file.

A pair file is UTF-8 JSON Lines, a pair on each line and no empty lines:

    {"positive": PROMPT, "negative": PROMPT, "system": "optional", "id": "optional"}

PROMPT is a text or a list of {"role": ..., "content": ...} messages, the same form on both sides. `system` becomes the
system message of both prompts, which makes them chats. `id` defaults to the line number. Other keys are ignored.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from steercpp.errors import PairsError, PromptError
from steercpp.prompts import Prompt, parse_prompt, prompt_json, with_system


@dataclass(frozen=True, slots=True)
class ContrastPair:
    """Two prompts; a direction points from the activations of `negative` to those of `positive`.

    `place` is the path:line that the pair was read from, for messages; it is no part of what the pair says.
    """

    id: str
    positive: Prompt
    negative: Prompt
    place: str = field(default="", compare=False, repr=False)

    def __post_init__(self) -> None:
        if isinstance(self.positive, str) != isinstance(self.negative, str):
            raise PairsError(f"pair {self.id}: one prompt is a text and the other a chat; give both in the same form")
        if self.positive == self.negative:
            raise PairsError(f"pair {self.id}: positive and negative are identical; a pair must differ")


def read_pairs(path: Path | str) -> tuple[ContrastPair, ...]:
    """All pairs of a file, in its order.

    Raises:
        PairsError: see `iter_pairs`; or the file holds no pair.
    """
    pairs = tuple(iter_pairs(path))
    if not pairs:
        raise PairsError(f'{path}:1: no pairs; write one {{"positive": ..., "negative": ...}} on each line')
    return pairs


def iter_pairs(path: Path | str) -> Iterator[ContrastPair]:
    """Pairs of a file, read line by line, so that its size does not matter.

    Raises:
        PairsError: the file cannot be read; or, starting with path:line, a line that is empty, not UTF-8, not a
            JSON object, one-sided, with identical or empty prompts, or with an id that an earlier line has.
    """
    seen: dict[str, int] = {}
    for number, pair in _parsed_lines(path):
        if pair.id in seen:
            raise PairsError(f"{path}:{number}: id {pair.id!r} is on line {seen[pair.id]} already; make ids unique")
        seen[pair.id] = number
        yield pair


def pairs_sha256(pairs: Iterable[ContrastPair]) -> str:
    """Hash of what the pairs say, in their order; neither ids nor a file's spacing change it."""
    digest = hashlib.sha256()
    for pair in pairs:
        both = [prompt_json(pair.positive), prompt_json(pair.negative)]
        digest.update(json.dumps(both, ensure_ascii=False, sort_keys=True).encode() + b"\n")
    return digest.hexdigest()


def _parsed_lines(path: Path | str) -> Iterator[tuple[int, ContrastPair]]:
    try:
        with open(path, "rb") as file:  # bytes: only \n ends a line, and a bad byte can be named by its line
            for number, line in enumerate(file, start=1):
                try:
                    yield number, _parse_line(line, number, f"{path}:{number}")
                except (PairsError, PromptError) as error:
                    raise PairsError(f"{path}:{number}: {error}") from error
    except OSError as error:
        raise PairsError(f"{path}: cannot be read: {error.strerror or error}; check the path") from error


def _parse_line(line: bytes, number: int, place: str) -> ContrastPair:
    record = _json_object(line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line)
    system = _optional_text(record, "system")
    positive, negative = (_side(record, key) for key in ("positive", "negative"))
    if system is not None:
        positive, negative = with_system(positive, system), with_system(negative, system)
    if type(record.get("id")) is int:
        record["id"] = str(record["id"])
    return ContrastPair(_optional_text(record, "id") or str(number), positive, negative, place)


def _json_object(line: bytes) -> dict[str, Any]:
    try:
        content = line.decode("utf-8").strip()
    except UnicodeDecodeError as error:
        found = f"byte 0x{line[error.start]:02x} at column {error.start + 1} is not UTF-8"
        raise PairsError(f"{found}; save the file as UTF-8") from error
    if not content:
        raise PairsError("empty line; delete it")
    try:
        record = json.loads(content)
    except (ValueError, RecursionError) as error:  # ValueError: also a number of more digits than Python converts
        raise PairsError(f"not JSON: {error}; each line is one JSON object") from error
    if not isinstance(record, dict):
        raise PairsError(f'a JSON {type(record).__name__}; expected {{"positive": ..., "negative": ...}}')
    return record


def _side(record: dict[str, Any], key: str) -> Prompt:
    if key not in record:
        raise PairsError(f"{key!r} is missing; a pair has a positive and a negative side")
    try:
        prompt = parse_prompt(record[key])
    except PromptError as error:
        raise PairsError(f"{key}: {error}") from error
    texts = (prompt,) if isinstance(prompt, str) else tuple(turn.content for turn in prompt)
    if not any(text.strip() for text in texts):
        raise PairsError(f"{key}: every message is empty; give it some text")
    for text in texts:
        _check_unicode(text, key)
    return prompt


def _optional_text(record: dict[str, Any], key: str) -> str | None:
    value = record.get(key)
    if value is None:
        return None
    if not isinstance(value, str) or not value.strip():
        raise PairsError(f"{key}: expected a text, got {json.dumps(value)}; leave the key out if there is none")
    _check_unicode(value, key)
    return value


def _check_unicode(text: str, key: str) -> None:
    """JSON can escape half of a surrogate pair, which no tokenizer can take."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise PairsError(f"{key}: \\u{ord(text[error.start]):04x} is half of a character; write it whole") from error
