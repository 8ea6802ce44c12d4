"""Contrast pairs in the forms that other tools use; read this to add one, or for which file is read how.

`open_pairs` gives pairs that can be gone through again and again and are never in memory together. The forms:

jsonl    this project's own, see pairs.py
caa      `generate_dataset.json` of Contrastive Activation Addition: a JSON array of {"question",
         "answer_matching_behavior", "answer_not_matching_behavior"}; the answers, " (A)", continue the question
repeng   a JSON array of texts, each the start of an answer, told by two personas: the prompts are the persona template
         filled in with either, as in repeng's notebooks/emotion.ipynb

and, of two text files, what llama-cvector-generator takes: `open_text_pairs`. What is a question or an instruction
becomes the user's message of a chat, or with `raw` a text to be continued as it stands.
Sources: github.com/nrimsky/CAA and github.com/vgel/repeng, as of their file formats in 2024 and 2025;
tools/cvector-generator/cvector-generator.cpp and string_process_escapes in common/common.cpp of llama.cpp 0c1e57098.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any, Literal, Protocol

from steercpp.choices import PairFormat
from steercpp.data.json_stream import LONGEST, iter_items
from steercpp.data.pairs import ContrastPair, iter_pairs, pairs_sha256
from steercpp.data.prompts import Filled, Message, Prompt, escaped, with_system
from steercpp.encoding import refuse_half_characters
from steercpp.errors import PairsError, PromptError
from steercpp.inputs import open_input, reading
from steercpp.pipes import Copies, once

PERSONA_TEMPLATE = "Act as if you're extremely {persona}."
_CAA_KEYS = ("question", "answer_matching_behavior", "answer_not_matching_behavior")


class PairSource(Protocol):
    """Contrast pairs that can be gone through more than once."""

    def __iter__(self) -> Iterator[ContrastPair]:
        """The pairs, from the first on.

        Raises:
            PairsError: what is wrong, with path:line.
        """

    def sha256(self) -> str:
        """`pairs_sha256` of them."""


@dataclass(frozen=True, slots=True)
class PairFile:
    """A `PairSource` that reads its file again each time.

    Attributes:
        name: what messages call it.
        read: opens it.
        copies: of a named pipe, which is read once.
    """

    name: str
    read: Callable[[], Iterable[ContrastPair]]
    copies: Copies = field(default_factory=dict, repr=False, compare=False)

    def __iter__(self) -> Iterator[ContrastPair]:
        """The pairs, at least one."""
        is_empty, pairs = True, iter(self.read())
        while True:
            with once(self.copies):
                pair = next(pairs, None)
            if pair is None:
                break
            is_empty = False
            yield pair
        if is_empty:
            raise PairsError(f"{self.name}: no pairs in the file; write at least one")

    def sha256(self) -> str:
        """`pairs_sha256` of the file's pairs."""
        return pairs_sha256(self)


def open_pairs(
    path: Path | str,
    *,
    format: PairFormat = "auto",
    personas: Sequence[tuple[str, str]] = (),
    persona_template: str = PERSONA_TEMPLATE,
    raw: bool = False,
) -> PairFile:
    """Pairs of one file.

    Args:
        path: the file.
        format: how it is written; "auto" looks at how it begins.
        personas: positive and negative, for "repeng": each suffix makes a pair of each.
        persona_template: the instruction, with {persona} in it.
        raw: for "caa" and "repeng", prompts that are texts and no chats.

    Raises:
        PairsError: the file cannot be read or is none of these; personas missing, or given for another form.

    >>> _ = Path("pairs.jsonl").write_text('{"positive": "You are careful.", "negative": "You are reckless."}')
    >>> [pair.positive for pair in open_pairs("pairs.jsonl")]
    ['You are careful.']
    """
    copies: Copies = {}
    with once(copies):
        kind = _detected(path) if format == "auto" else format
    if kind != "repeng" and personas:
        raise PairsError(f"{path}: personas are for repeng's lists of suffixes; leave them out")
    if kind == "jsonl":
        return PairFile(str(path), lambda: iter_pairs(path), copies)
    if kind == "caa":
        return PairFile(str(path), lambda: _caa(path, raw=raw), copies)
    if kind != "repeng":
        raise PairsError(f"{path}: pairs format {kind!r} is unknown; use auto, jsonl, caa or repeng")
    if not personas:
        raise PairsError(f"{path}: a list of suffixes needs two personas; give `personas` POSITIVE NEGATIVE")
    if "{persona}" not in persona_template:
        raise PairsError(f"persona template {persona_template!r} lacks {{persona}}; put it where the persona stands")
    return PairFile(str(path), lambda: _repeng(path, tuple(personas), persona_template, raw=raw), copies)


def open_text_pairs(positive: Path | str, negative: Path | str) -> PairFile:
    r"""Pairs of two text files as llama-cvector-generator reads them.

    A prompt stands on each line, with escapes such as \n in it; blank lines are skipped; the k-th prompts of both
    files make a pair. As there, a line is a template: special tokens such as </s> are read in it. Unlike there, no
    prompt is padded.

    Raises:
        PairsError: when read: different numbers of prompts, both of which the message names; not UTF-8; identical
            prompts; a file that cannot be read.
    """
    return PairFile(f"{positive} and {negative}", lambda: _text_pairs(positive, negative))


def with_system_message(pairs: Iterable[ContrastPair], system: str) -> PairFile:
    """The same pairs, but those without a system message are chats that start with this one."""

    def added(prompt: Prompt) -> Prompt:
        has_system = isinstance(prompt, tuple) and any(turn.role == "system" for turn in prompt)
        return prompt if has_system else with_system(prompt, system)

    def read() -> Iterator[ContrastPair]:
        for pair in pairs:
            yield replace(pair, positive=added(pair.positive), negative=added(pair.negative))

    return PairFile(getattr(pairs, "name", "the pairs"), read)


def _detected(path: Path | str) -> Literal["jsonl", "caa", "repeng"]:
    with reading(path, PairsError):
        with open_input(path) as file:
            start = file.read(1 << 16).removeprefix(b"\xef\xbb\xbf").lstrip()
        if not start.startswith(b"["):
            return "jsonl"
        _, first = next(iter_items(path), (1, None))
    if isinstance(first, str):
        return "repeng"
    if isinstance(first, dict) and "question" in first:
        return "caa"
    raise PairsError(
        f"{path}: a JSON array of neither questions with two answers (caa) nor texts (repeng); "
        'write JSON Lines {"positive": ..., "negative": ...}'
    )


def _items(path: Path | str, convert: Callable[[Any, int, str], Iterator[ContrastPair]]) -> Iterator[ContrastPair]:
    """Pairs of each item, counted from 1; messages start with its path:line."""
    with reading(path, PairsError):
        for number, (line, item) in enumerate(iter_items(path), start=1):
            place = f"{path}:{line}"
            try:
                yield from convert(item, number, place)
            except PairsError as error:
                raise PairsError(f"{place}: item {number}: {error}") from error


def _caa(path: Path | str, *, raw: bool) -> Iterator[ContrastPair]:
    def convert(item: Any, number: int, place: str) -> Iterator[ContrastPair]:
        question, matching, other = (_text(item, key) for key in _CAA_KEYS)
        prompt = _instruction(question, raw=raw)
        yield ContrastPair(str(number), prompt, prompt, f" {matching.strip()}", f" {other.strip()}", place)

    return _items(path, convert)


def _text(item: Any, key: str) -> str:
    value = item.get(key) if isinstance(item, dict) else None
    if not isinstance(value, str) or not value.strip():
        raise PairsError(f"{key!r} is missing or no text; expected {', '.join(_CAA_KEYS)}")
    return refuse_half_characters(value, PairsError)


def _repeng(
    path: Path | str, personas: tuple[tuple[str, str], ...], template: str, *, raw: bool
) -> Iterator[ContrastPair]:
    prompts = [[_instruction(template.replace("{persona}", persona), raw=raw) for persona in both] for both in personas]

    def convert(item: Any, number: int, place: str) -> Iterator[ContrastPair]:
        if not isinstance(item, str):
            raise PairsError("expected a text, the start of an answer")
        answer = f" {refuse_half_characters(item, PairsError).lstrip()}" if item.strip() else ""
        for place_of_persona, (positive, negative) in enumerate(prompts, start=1):
            name = str(number) if len(prompts) == 1 else f"{number}.{place_of_persona}"
            yield ContrastPair(name, positive, negative, answer, answer, place)

    return _items(path, convert)


def _instruction(text: str, *, raw: bool) -> Prompt:
    return text if raw else (Message("user", text),)


def _text_pairs(positive: Path | str, negative: Path | str) -> Iterator[ContrastPair]:
    counts = {"positive": 0, "negative": 0}
    for first, second in zip_longest(_prompts(positive), _prompts(negative)):
        counts["positive"] += first is not None
        counts["negative"] += second is not None
        if first is None or second is None:
            continue  # read on: the message names both counts
        (line, prompt), (other_line, other) = first, second
        number = counts["positive"]
        try:
            yield ContrastPair(str(number), prompt, other, place=f"{positive}:{line}")
        except PairsError as error:
            raise PairsError(f"{positive}:{line} and {negative}:{other_line}: {error}") from error
    if counts["positive"] != counts["negative"]:
        raise PairsError(
            f"{positive} has {counts['positive']} prompts and {negative} has {counts['negative']}; "
            "a pair is a line of each, so make their numbers equal"
        )


def _prompts(path: Path | str) -> Iterator[tuple[int, Filled]]:
    with reading(path, PairsError), open_input(path) as file:
        for number, line in enumerate(iter(lambda: file.readline(LONGEST + 1), b""), start=1):
            if len(line) > LONGEST:
                raise PairsError(f"{path}:{number}: the line is longer than 16 MiB; write one prompt on each line")
            line = line.rstrip(b"\r\n")
            if not line.strip():
                continue
            try:
                yield number, Filled(escaped(_unescaped(line).decode("utf-8")))
            except UnicodeDecodeError as error:
                problem = f"byte 0x{error.object[error.start]:02x} is not UTF-8"
                raise PairsError(f"{path}:{number}: {problem}; save the file as UTF-8") from error
            except PromptError as error:
                raise PairsError(f"{path}:{number}: {error}") from error


_ESCAPE = re.compile(rb"\\(?:x([0-9A-Fa-f]{2})|([nrt'\"\\]))")
_ESCAPED = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"'": b"'", b'"': b'"', b"\\": b"\\"}


def _unescaped(line: bytes) -> bytes:
    """As string_process_escapes: what is no escape stays as it stands."""
    return _ESCAPE.sub(lambda match: bytes([int(match[1], 16)]) if match[1] else _ESCAPED[match[2]], line)
