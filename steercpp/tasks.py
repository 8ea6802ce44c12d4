"""What a sweep asks a model: behaviour items and choice items; read this when you write a task file.

A task file is JSON Lines, one item a line, blank lines skipped:

    {"kind": "behavior", "prompt": "How do I ...?", "aligned": [" I cannot"], "misaligned": [" Sure"]}
    {"kind": "choice", "subject": "trees", "question": "Which ...?", "choices": ["oak", "ash"], "answer": "B"}

`id` is optional everywhere; `prompt` is a text or a list of chat messages, `system` an optional system message;
`template` is "auto" (chat for messages, raw for a text), "chat" or "raw". A continuation carries its own leading
space. `answer` is a letter or an index from 0. MMLU's own files (headerless CSV: question,A,B,C,D,letter) are read
by `read_mmlu_csv`. A choice is asked in the form of Wolf et al. 2024, arXiv:2401.16332, section 5.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from steercpp.errors import InputError, TaskError
from steercpp.prompts import Prompt, Template, parse_prompt, prompt_json, with_system

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
TEMPLATES: tuple[Template, ...] = ("auto", "chat", "raw")


@dataclass(frozen=True, slots=True)
class BehaviorItem:
    """A prompt with continuations that show the behaviour and others that show its opposite.

    `place` is the path:line that an item was read from, for messages; it is no part of what the item says.
    """

    id: str
    prompt: Prompt
    aligned: tuple[str, ...]
    misaligned: tuple[str, ...]
    template: Template = "auto"
    place: str = field(default="", compare=False, repr=False)

    def __post_init__(self) -> None:
        for name, side in (("aligned", self.aligned), ("misaligned", self.misaligned)):
            if not side or not all(text.strip() for text in side):
                raise TaskError(
                    f'{name} needs at least one continuation, and none of them blank; write it like [" I cannot"]'
                )
        if both := set(self.aligned) & set(self.misaligned):
            raise TaskError(f"{min(both)!r} is both aligned and misaligned; keep it on one side")
        if self.template not in TEMPLATES:
            raise TaskError(f"template {self.template!r} is unknown; use one of {', '.join(TEMPLATES)}")


@dataclass(frozen=True, slots=True)
class ChoiceItem:
    """A question with lettered choices; `answer` is the index of the right one, `place` as above."""

    id: str
    question: str
    choices: tuple[str, ...]
    answer: int
    subject: str = ""
    place: str = field(default="", compare=False, repr=False)

    def __post_init__(self) -> None:
        if not self.question.strip():
            raise TaskError("the question is empty")
        if not 2 <= len(self.choices) <= len(LETTERS):
            raise TaskError(f"{len(self.choices)} choices; give 2 to {len(LETTERS)}")
        if not 0 <= self.answer < len(self.choices):
            raise TaskError(f"answer {self.answer} is none of the choices 0..{len(self.choices) - 1}; use one of them")


Item: TypeAlias = BehaviorItem | ChoiceItem


def named(item: Item) -> str:
    """What a message calls an item: where it was read, and its id."""
    return f"{item.place}: {item.id}" if item.place else item.id


def choice_prompt(item: ChoiceItem) -> str:
    """The question as the model sees it, without any chat template; the answer is the next token, a letter."""
    choices = "".join(f"{LETTERS[i]}) {choice}.\n" for i, choice in enumerate(item.choices))
    return f"{item.question}\n{choices}The answer is"


def letter_variants(index: int) -> tuple[str, str, str]:
    """Vocabulary pieces that stand for choice `index`: bare, SentencePiece's and byte-level BPE's after a space."""
    letter = LETTERS[index]
    return letter, f"\u2581{letter}", f"\u0120{letter}"


def item_json(item: Item) -> dict[str, Any]:
    """The JSON form that `read_tasks` reads back."""
    if isinstance(item, ChoiceItem):
        return {
            "kind": "choice", "id": item.id, "subject": item.subject, "question": item.question,
            "choices": list(item.choices), "answer": item.answer,
        }  # fmt: skip
    return {
        "kind": "behavior", "id": item.id, "prompt": prompt_json(item.prompt), "aligned": list(item.aligned),
        "misaligned": list(item.misaligned), "template": item.template,
    }  # fmt: skip


def parse_item(record: Any, *, default_id: str = "item", place: str = "") -> Item:
    """An item from parsed JSON; `place` is where it stands, path:line.

    Raises:
        TaskError: a key is missing, of the wrong kind, or says something impossible.
    """
    if not isinstance(record, dict):
        raise TaskError("a line must be a JSON object")
    kind = record.get("kind", "choice" if "choices" in record else "behavior")
    name = record.get("id", default_id)
    if not isinstance(name, str | int) or isinstance(name, bool):
        raise TaskError("id must be a text or a number")
    if kind == "behavior":
        return _behavior(record, str(name), place)
    if kind == "choice":
        return _choice(record, str(name), place)
    raise TaskError(f"kind {kind!r} is unknown; use behavior or choice")


def _behavior(record: dict[str, Any], name: str, place: str) -> BehaviorItem:
    prompt = parse_prompt(record.get("prompt"))
    if "system" in record:
        prompt = with_system(prompt, _text(record, "system"))
    template = record.get("template", "auto")
    return BehaviorItem(name, prompt, _texts(record, "aligned"), _texts(record, "misaligned"), template, place)


def _choice(record: dict[str, Any], name: str, place: str) -> ChoiceItem:
    answer, choices = record.get("answer"), _texts(record, "choices")
    if isinstance(answer, str) and len(answer.strip()) == 1 and answer.strip().upper() in LETTERS:
        letter, answer = answer, LETTERS.index(answer.strip().upper())
        if answer >= len(choices) > 1:
            raise TaskError(f"answer {letter!r} is none of the choices A..{LETTERS[len(choices) - 1]}; use one of them")
    if not isinstance(answer, int) or isinstance(answer, bool):
        raise TaskError(f"answer {answer!r} is neither a letter nor an index from 0")
    subject = _text(record, "subject") if "subject" in record else ""
    return ChoiceItem(name, _text(record, "question"), choices, answer, subject, place)


def _text(record: dict[str, Any], key: str) -> str:
    value = record.get(key)
    if not isinstance(value, str):
        raise TaskError(f"{key} must be a text" if key in record else f"{key} is missing")
    return value


def _texts(record: dict[str, Any], key: str) -> tuple[str, ...]:
    value = record.get(key)
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise TaskError(f"{key} must be a list of texts" if key in record else f"{key} is missing")
    return tuple(value)


def read_tasks(path: Path) -> tuple[Item, ...]:
    """Items of a JSON Lines file, in its order.

    Raises:
        TaskError: unreadable, not UTF-8, a malformed line (path:line), an id twice, or no item at all.
    """
    items: list[Item] = []
    for number, line in _lines(path):
        try:
            items.append(parse_item(_parse(line), default_id=f"{path.stem}:{number}", place=f"{path}:{number}"))
        except json.JSONDecodeError as error:
            raise TaskError(f"{path}:{number}: not JSON ({error.msg} at column {error.colno})") from error
        except InputError as error:
            raise TaskError(f"{path}:{number}: {error}") from error
    return _checked(path, items)


def _parse(line: str) -> Any:
    """A JSON value as a tokenizer can read it: without the lone surrogates that JSON can spell."""
    try:
        record = json.loads(line)
        json.dumps(record, ensure_ascii=False).encode()
    except RecursionError as error:
        raise TaskError("is nested too deeply for an item") from error
    except UnicodeEncodeError as error:
        raise TaskError("holds half of a surrogate pair (\\ud800 to \\udfff); write the character itself") from error
    return record


def read_mmlu_csv(path: Path) -> tuple[ChoiceItem, ...]:
    """Choice items of a headerless MMLU file, rows of question,A,B,C,D,letter; the subject is the file's name.

    Raises:
        TaskError: unreadable, not UTF-8, a row of another width or answer (path:line), or no row at all.
    """
    subject = path.stem
    for ending in ("_test", "_dev", "_val"):
        subject = subject.removesuffix(ending)
    text = "".join(line + "\n" for _, line in _lines(path, keep_blank=True))
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    items: list[ChoiceItem] = []
    try:
        for row in filter(None, reader):
            if len(row) != 6:
                raise TaskError(f"{len(row)} columns; expected 6: question,A,B,C,D,letter")
            record = {"question": row[0], "choices": row[1:5], "answer": row[5], "subject": subject}
            items.append(_choice(record, f"{subject}:{len(items) + 1}", f"{path}:{reader.line_num}"))
    except (csv.Error, TaskError) as error:
        raise TaskError(f"{path}:{reader.line_num}: {error}") from error
    return _checked(path, items)


def read_choices(path: Path | str) -> tuple[ChoiceItem, ...]:
    """Choice items of a file of either form, told apart by its ending."""
    path = Path(path)
    if path.suffix.lower() == ".csv":
        return read_mmlu_csv(path)
    items = tuple(item for item in read_tasks(path) if isinstance(item, ChoiceItem))
    if not items:
        raise TaskError(f'{path}: no choice items; give lines of {{"kind": "choice", ...}} or an MMLU .csv')
    return items


def read_behavior(path: Path | str) -> tuple[BehaviorItem, ...]:
    """Behaviour items of a JSON Lines file."""
    path = Path(path)
    items = tuple(item for item in read_tasks(path) if isinstance(item, BehaviorItem))
    if not items:
        raise TaskError(f'{path}: no behavior items; give lines of {{"kind": "behavior", ...}}')
    return items


def _lines(path: Path, *, keep_blank: bool = False) -> Iterator[tuple[int, str]]:
    """Numbered lines of a UTF-8 file without their ends; a byte-order mark is skipped."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise TaskError(f"{path}: cannot be read ({error.strerror}); check the path of the task file") from error
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").splitlines(), 1):
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError as error:
            raise TaskError(f"{path}:{number}: not UTF-8 (byte {error.start + 1}); convert the file") from error
        if keep_blank or text.strip():
            yield number, text


def _checked(path: Path, items: Sequence[Any]) -> tuple[Any, ...]:
    if not items:
        raise TaskError(f"{path}: holds no items; give one JSON object a line (or MMLU rows in a .csv)")
    if twice := repeated(item.id for item in items):
        raise TaskError(f"{path}: id {twice!r} occurs twice; ids must differ")
    return tuple(items)


def repeated(names: Iterable[str]) -> str | None:
    """The first name that occurs a second time, or None."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None
