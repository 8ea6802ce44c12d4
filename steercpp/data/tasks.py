r"""Files of task items; read this when you write one.

A task file is JSON Lines, UTF-8, one item a line, blank lines skipped. There are five kinds of items:

    {"kind": "behavior", "prompt": "How do I ...?", "aligned": [" I cannot"], "misaligned": [" Sure"]}
    {"kind": "choice", "subject": "trees", "question": "Which ...?", "choices": ["oak", "ash"], "answer": "B"}
    {"kind": "answer", "prompt": "The capital of France is", "answers": [" Paris"]}
    {"kind": "text", "text": "Once upon a time ..."}
    {"kind": "code", "prompt": "def one():\n", "entry_point": "one", "test": "def check(f):\n    assert f() == 1\n"}

`id` (by default the file's name and the line), `subject` (a group) and `couple` (a name that items share which belong
together; not of texts and code) are optional everywhere. `prompt` is a text, a list of chat messages, or {"template":
"Request: {request}", "request": "..."}, whose special tokens count in the template alone; `system` is an optional
system message; `template` is "auto" (chat for messages, raw for a text), "chat" or "raw". A continuation or an answer
carries its own leading space.

A choice's `answer` is a letter or an index from 0. It is asked in the form of Wolf et al. 2024, arXiv:2401.16332,
section 5, with the choices under letters, and answered by a letter. With "by": "text" the question stands alone, and
each choice is scored as a whole, after a space if it has none. `head` stands before the question, such as solved
examples; `template` is "raw" or "chat". MMLU's own files (headerless CSV: question,A,B,C,D,letter) are read by
`read_mmlu_csv`. docs/tasks.md shows more.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from steercpp.data.items import (
    HARMFUL,
    HARMLESS,
    KINDS,
    LETTERS,
    TEMPLATES,
    AnswerItem,
    BehaviorItem,
    ChoiceItem,
    CodeItem,
    Item,
    TextItem,
    choice_continuations,
    choice_prompt,
    item_json,
    kind_of,
    letter_variants,
    listed,
    named,
    parse_item,
    repeated,
)
from steercpp.errors import InputError, TaskError

__all__ = [
    "HARMFUL",
    "HARMLESS",
    "KINDS",
    "LETTERS",
    "TEMPLATES",
    "AnswerItem",
    "BehaviorItem",
    "ChoiceItem",
    "CodeItem",
    "Item",
    "TextItem",
    "choice_continuations",
    "choice_prompt",
    "item_json",
    "kind_of",
    "letter_variants",
    "listed",
    "named",
    "parse_item",
    "read_behavior",
    "read_choices",
    "read_mmlu_csv",
    "read_tasks",
    "repeated",
]


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
            name = f"{subject}:{len(items) + 1}"
            item = parse_item(record, default_id=name, place=f"{path}:{reader.line_num}")
            assert isinstance(item, ChoiceItem)
            items.append(item)
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
