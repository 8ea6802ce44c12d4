r"""Task items: what a sweep can ask a model, as data and as files; read this to write a task file, or to add a kind.

A task file is JSON Lines, UTF-8, one item a line, blank lines skipped. There are six kinds of items:

    {"kind": "behavior", "prompt": "How do I ...?", "aligned": [" I cannot"], "misaligned": [" Sure"]}
    {"kind": "choice", "subject": "trees", "question": "Which ...?", "choices": ["oak", "ash"], "answer": "B"}
    {"kind": "answer", "prompt": "The capital of France is", "answers": [" Paris"]}
    {"kind": "text", "text": "Once upon a time ..."}
    {"kind": "code", "prompt": "def one():\n", "entry_point": "one", "test": "def check(f):\n    assert f() == 1\n"}
    {"kind": "own", "prompt": [{"role": "user", "content": "How do I cook rice?"}]}

`id` (by default the file's name and the line), `subject` (the group in which an item is counted) and `couple` (shared
by items that ask for the same with one difference, such as a harmful request and its harmless twin; not of texts and
code) are optional everywhere. `prompt` is a text, a list of chat messages, or {"template": "Request: {request}",
"request": "..."}, whose special tokens count in the template alone; `system` is an optional system message; `template`
is "auto" (chat for messages, raw for a text), "chat" or "raw". A continuation or an answer carries its own leading
space. An answer item may have the `number` that a generated text must come to. An own item has an `answer`, the text
that the unsteered model itself gave, and its `tokens`, or neither as long as it is not answered. A choice's `answer` is
a letter or an index from 0; see `ChoiceItem` for how it is asked. MMLU's own files (headerless CSV:
question,A,B,C,D,letter) are read by `read_mmlu_csv`. docs/tasks.md shows more.

Items have a `place` too, the path:line that they were read from, for messages; it is not part of what an item says.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import MISSING, dataclass, field, fields
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast

from steercpp.data.choice_form import CHOICE_FORM, LETTERS, ChoiceForm, choice_form
from steercpp.data.json_stream import refuse_long
from steercpp.data.prompts import Prompt, Template, parse_prompt, prompt_json, with_system
from steercpp.data.sets.knowledge import read_mmlu_file
from steercpp.data.templates import within
from steercpp.encoding import refuse_half_characters
from steercpp.errors import DataSetError, InputError, PromptError, TaskError
from steercpp.inputs import read_input, reading, stem
from steercpp.pipes import once
from steercpp.provenance import json_sha256

TEMPLATES: tuple[Template, ...] = ("auto", "chat", "raw")
WAYS: tuple[Literal["letter", "text"], ...] = ("letter", "text")
AMBIGUOUS, DISAMBIGUATED = "ambiguous", "disambiguated"  # contexts of questions on bias
MORE, LESS = "more", "less"  # stereotyped: sides of a pair of texts
HARMLESS, HARMFUL = "harmless", "harmful"  # subjects of requests: what one wants is to comply with the one alone


class Kind(StrEnum):
    """Kinds of items."""

    BEHAVIOR = "behavior"
    CHOICE = "choice"
    ANSWER = "answer"
    TEXT = "text"
    CODE = "code"
    OWN = "own"


KINDS = tuple(Kind)
_DECIMAL = re.compile(r"-?\d+(?:\.\d+)?", re.ASCII)
_LINE_END = re.compile(r"\r\n?")


@dataclass(frozen=True, slots=True)
class BehaviorItem:
    """A prompt with continuations that show the behavior and others that show its opposite.

    >>> item = BehaviorItem("copy", "May I copy your answers?", aligned=(" No", " I cannot"), misaligned=(" Yes",))
    >>> item.aligned, item.misaligned
    ((' No', ' I cannot'), (' Yes',))
    """

    id: str
    prompt: Prompt
    aligned: tuple[str, ...]
    misaligned: tuple[str, ...]
    template: Template = "auto"
    place: str = field(default="", compare=False, repr=False)
    subject: str = ""
    couple: str = ""

    def __post_init__(self) -> None:
        for name, side in (("aligned", self.aligned), ("misaligned", self.misaligned)):
            if not side or not all(text.strip() for text in side):
                raise TaskError(
                    f'{name} needs at least one continuation, and none of them blank; write it like [" I cannot"]'
                )
        if both := set(self.aligned) & set(self.misaligned):
            raise TaskError(f"{min(both)!r} is both aligned and misaligned; keep it on one side")
        _one_of("template", self.template, TEMPLATES)


@dataclass(frozen=True, slots=True)
class ChoiceItem:
    """A question with choices, of which one is right.

    Attributes:
        question: the question; asked by text, all of the prompt that is not in `head`.
        choices: 2 to 26 of them.
        answer: index of the right one.
        head: text before the question, such as solved examples; it ends as it should, with its own blank line.
        by: "letter", a listed choice is answered by its letter; or "text", nothing is listed and a choice is answered
            by its own words, all of which are scored.
        template: "raw", the prompt stands as it is; "chat", it is the user's message. "auto" is "raw".
        context: of a question that bias is measured on (statistics/bias.py), "ambiguous" or "disambiguated"; else "".
        biased, unknown: index of the choice that agrees with the stereotype, and of the one that names nobody; -1
            where there is none, or it is not known.

    >>> item = ChoiceItem("planet", "Which planet is the largest?", ("Mars", "Jupiter"), answer=1)
    >>> item.choices[item.answer]
    'Jupiter'
    """

    id: str
    question: str
    choices: tuple[str, ...]
    answer: int
    subject: str = ""
    place: str = field(default="", compare=False, repr=False)
    head: str = ""
    by: Literal["letter", "text"] = "letter"
    template: Template = "raw"
    couple: str = ""
    context: str = ""
    biased: int = -1
    unknown: int = -1

    def __post_init__(self) -> None:
        if not self.question.strip():
            raise TaskError("the question is empty")
        if not 2 <= (n := len(self.choices)) <= len(LETTERS):
            raise TaskError(f"{n} {'choice' if n == 1 else 'choices'}; give 2 to {len(LETTERS)}")
        if not 0 <= self.answer < len(self.choices):
            raise TaskError(f"answer {self.answer} is none of the choices 0..{len(self.choices) - 1}; use one of them")
        _one_of("by", self.by, WAYS)
        _one_of("context", self.context, ("", AMBIGUOUS, DISAMBIGUATED))
        for name, index in (("biased", self.biased), ("unknown", self.unknown)):
            if not -1 <= index < len(self.choices):
                raise TaskError(f"{name} {index} is none of the choices 0..{len(self.choices) - 1}; use one, or -1")
        _one_of("template", self.template, TEMPLATES)
        if self.by == "text":
            if not all(choice.strip() for choice in self.choices):
                raise TaskError('a choice is blank; by "text" each needs words of its own')
            if twice := repeated(choice.strip() for choice in self.choices):
                raise TaskError(f'the choice {twice!r} stands twice; by "text" each needs words of its own')


@dataclass(frozen=True, slots=True)
class AnswerItem:
    """A prompt with one or more answers of any length, each of which would be right.

    Attributes:
        number: what a generated text must come to, such as "42"; "" where answers are no numbers. Prompts of items
            with a number are continued by generated text, whose last number is compared (judging/numbers.py).

    >>> item = AnswerItem("capital", "The capital of France is", (" Paris", " the city of Paris"))
    >>> item.answers
    (' Paris', ' the city of Paris')
    """

    id: str
    prompt: Prompt
    answers: tuple[str, ...]
    subject: str = ""
    template: Template = "auto"
    couple: str = ""
    place: str = field(default="", compare=False, repr=False)
    number: str = ""

    def __post_init__(self) -> None:
        if self.number and not _DECIMAL.fullmatch(self.number):
            raise TaskError(f'number {self.number!r} is none; write it without commas and units, like "-1250.5"')
        if not self.answers or not all(text.strip() for text in self.answers):
            raise TaskError('answers needs at least one answer, and none of them blank; write it like [" Paris"]')
        if twice := repeated(self.answers):
            raise TaskError(f"the answer {twice!r} stands twice; keep one of them")
        _one_of("template", self.template, TEMPLATES)


@dataclass(frozen=True, slots=True)
class TextItem:
    """A text as it stands, whose perplexity is measured.

    Attributes:
        couple: shared by the two texts of a pair whose ln P are compared (statistics/text_pairs.py); "" for none.
        side: of such a pair, "more" for the stereotyped text and "less" for the other; else "".

    >>> TextItem("moon", "The moon is far away.").text
    'The moon is far away.'
    """

    id: str
    text: str
    subject: str = ""
    place: str = field(default="", compare=False, repr=False)
    couple: str = ""
    side: str = ""

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise TaskError("the text is empty")
        _one_of("side", self.side, ("", MORE, LESS))
        if bool(self.side) != bool(self.couple):
            raise TaskError("a text of a pair has a couple and a side; give both, or neither")


@dataclass(frozen=True, slots=True)
class CodeItem:
    """The head of a Python function to be completed, and a program that tests the completion.

    Attributes:
        prompt: imports, the line of the def, its docstring.
        entry_point: the function's name.
        test: defines check(candidate), which raises where the function is wrong.
        canonical_solution: a body that passes, or "".

    >>> test = "def check(candidate): assert candidate(2) == 4"
    >>> item = CodeItem("double", "def double(x):", "double", test, canonical_solution=" return 2 * x")
    >>> item.entry_point
    'double'
    """

    id: str
    prompt: str
    entry_point: str
    test: str
    canonical_solution: str = ""
    subject: str = ""
    place: str = field(default="", compare=False, repr=False)

    def __post_init__(self) -> None:
        if not self.prompt.strip():
            raise TaskError("the prompt is empty; give the head of the function")
        if not self.entry_point.isidentifier():
            raise TaskError(f"entry_point {self.entry_point!r} is no name of a function")
        if "check" not in self.test:
            raise TaskError("test defines no check(candidate), which is what is called")


@dataclass(frozen=True, slots=True)
class OwnItem:
    """A request, and what the unsteered model itself answered to it; docs/own-answers.md says what is measured.

    Attributes:
        answer: the text of the answer, "" before the request is answered.
        tokens: exactly those that the model drew, the end-of-generation token not among them; as ids of its vocabulary.

    >>> item = OwnItem("moon", "What is the moon?")
    >>> item.answer, item.tokens  # not answered yet
    ('', ())
    """

    id: str
    prompt: Prompt
    answer: str = ""
    tokens: tuple[int, ...] = ()
    subject: str = ""
    template: Template = "auto"
    couple: str = ""
    place: str = field(default="", compare=False, repr=False)

    def __post_init__(self) -> None:
        if any(token < 0 for token in self.tokens):
            raise TaskError(f"token {min(self.tokens)} is no id of a vocabulary; give those that the model drew")
        if self.answer and not self.tokens:
            raise TaskError("an answer without its tokens is not the model's own; leave both out and it is drawn again")
        _one_of("template", self.template, TEMPLATES)


Item: TypeAlias = BehaviorItem | ChoiceItem | AnswerItem | TextItem | CodeItem | OwnItem
_CLASSES: dict[str, type[Item]] = dict(
    zip(KINDS, (BehaviorItem, ChoiceItem, AnswerItem, TextItem, CodeItem, OwnItem), strict=True)
)
_ALWAYS = {"behavior": "template", "choice": "subject"}  # written at their defaults ever since, see `item_json`


def kind_of(item: Item) -> str:
    """The kind that an item's JSON names: behavior, choice, answer, text, code or own."""
    return next(kind for kind, item_class in _CLASSES.items() if type(item) is item_class)


def named(item: Item) -> str:
    """What a message calls an item: where it was read, and its id."""
    return f"{item.place}: {item.id}" if item.place else item.id


def choice_prompt(item: ChoiceItem, form: ChoiceForm = CHOICE_FORM) -> str:
    """The head and the question as the model sees them before any chat template.

    By letter the choices are listed, and the answer is the next token, a letter; the form is that of Wolf et al. 2024.
    By text the question stands alone, and what follows is a choice, see `choice_continuations`.
    """
    return item.head + (item.question if item.by == "text" else form.asked(item.question, item.choices))


def choice_continuations(item: ChoiceItem) -> tuple[str, ...]:
    """What answers a question that is asked by text: each choice, after a space if it has none of its own."""
    return tuple(choice if choice[0].isspace() else f" {choice}" for choice in item.choices)


def letter_variants(index: int) -> tuple[str, str, str]:
    """Vocabulary pieces that stand for choice `index`: bare, SentencePiece's and byte-level BPE's after a space."""
    letter = LETTERS[index]
    return letter, f"\u2581{letter}", f"\u0120{letter}"


def code_prompt(item: CodeItem, template: str) -> tuple[Prompt, Template]:
    """A code item's prompt in a template: "raw" as it stands, "chat" for the model's own, a name or text of ours.

    Raises:
        PromptError: the template has not one place.
    """
    if template in ("raw", "chat"):
        return item.prompt, cast("Template", template)
    try:
        return within(template, item.prompt), "raw"
    except PromptError as error:
        raise PromptError(f"{named(item)}: {error}") from error


def choice_form_of(items: Iterable[Item], writes: Callable[[str], bool]) -> ChoiceForm:
    """The form that the choice items among some are asked in by letter, see `choice_form`."""
    numbers = [len(item.choices) for item in items if isinstance(item, ChoiceItem) and item.by == "letter"]
    return choice_form(writes, n_choices=max(numbers)) if numbers else CHOICE_FORM


def prompt_of(item: Item, form: ChoiceForm = CHOICE_FORM) -> tuple[Prompt, Template, dict[str, tuple[str, ...]]]:
    """An item's prompt, how it is written, and what is scored after it; `form` is of choices, see `choice_form_of`."""
    if isinstance(item, BehaviorItem):
        return item.prompt, item.template, {"aligned": item.aligned, "misaligned": item.misaligned}
    if isinstance(item, ChoiceItem):
        texts = choice_continuations(item) if item.by == "text" else tuple(form.letters[: len(item.choices)])
        return choice_prompt(item, form), "chat" if item.template == "chat" else "raw", {"choices": texts}
    if isinstance(item, AnswerItem):
        return item.prompt, item.template, {"answers": item.answers}
    if isinstance(item, OwnItem):
        return item.prompt, item.template, {"answer": (item.answer,)} if item.tokens else {}
    return (item.prompt if isinstance(item, CodeItem) else item.text), "raw", {}


def items_sha256(items: Iterable[Item]) -> str:
    """Hash of task items, in their order."""
    return json_sha256([item_json(item) for item in items])


def item_json(item: Item) -> dict[str, Any]:
    """The JSON form that `parse_item` reads back, without what is at its default.

    Of behavior items the template and of choice items the subject are always written, so that the hash of a set of
    items does not change when items get new fields.
    """
    kind = kind_of(item)
    record: dict[str, Any] = {"kind": kind}
    for key in fields(item):
        value = getattr(item, key.name)
        if key.name != "place" and (value != key.default or key.name == _ALWAYS.get(kind)):
            record[key.name] = list(value) if isinstance(value, tuple) else value
    if isinstance(item, BehaviorItem | AnswerItem | OwnItem):
        record["prompt"] = prompt_json(item.prompt)
    return record


def parse_item(record: Any, *, default_id: str = "item", place: str = "") -> Item:
    """An item from parsed JSON; `place` is where it stands, path:line.

    Raises:
        TaskError: a key is missing, of the wrong kind, or says something impossible.
    """
    if not isinstance(record, dict):
        raise TaskError("a line must be a JSON object")
    kind = record.get("kind", _likely_kind(record))
    name = record.get("id", default_id)
    if not isinstance(name, str | int) or isinstance(name, bool):
        raise TaskError("id must be a text or a number")
    if kind not in KINDS:
        raise TaskError(f"kind {kind!r} is unknown; use {', '.join(KINDS[:-1])} or {KINDS[-1]}")
    # A field is read where the record has it, or must have it; the class fills in the rest and checks what it is given.
    values: dict[str, Any] = {"id": str(name), "place": place}
    for key, is_needed in _fields_of(kind):
        if key not in values and (is_needed or key in record):
            values[key] = _READ.get(key, _text)(record, key)
    if kind == "choice":
        values["answer"] = _answer(values["answer"], values["choices"])
    if kind == "own" and "answer" in values:
        values["answer"] = _text(record, "answer")
    if kind == "code":
        values["prompt"] = _text(record, "prompt")
    elif "system" in record and "prompt" in values:
        values["prompt"] = with_system(values["prompt"], _text(record, "system"))
    return _CLASSES[kind](**values)


@cache
def _fields_of(kind: str) -> tuple[tuple[str, bool], ...]:
    """Of each field of a kind's items its name, and whether a record must have it."""
    return tuple((key.name, key.default is MISSING) for key in fields(_CLASSES[kind]))


def _likely_kind(record: dict[str, Any]) -> str:
    signs = {"choices": "choice", "answers": "answer", "text": "text", "entry_point": "code", "tokens": "own"}
    return next((kind for key, kind in signs.items() if key in record), "behavior")


def _answer(answer: Any, choices: tuple[str, ...]) -> int:
    """Index of the right choice, given as a letter or an index."""
    if isinstance(answer, str) and len(answer.strip()) == 1 and answer.strip().upper() in LETTERS:
        letter, answer = answer, LETTERS.index(answer.strip().upper())
        if answer >= len(choices) > 1:
            raise TaskError(f"answer {letter!r} is none of the choices A..{LETTERS[len(choices) - 1]}; use one of them")
    if not isinstance(answer, int) or isinstance(answer, bool):
        raise TaskError(f"answer {answer!r} is neither a letter nor an index from 0")
    return answer


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


def _tokens(record: dict[str, Any], key: str) -> tuple[int, ...]:
    value = record.get(key)
    if not isinstance(value, list) or not all(
        isinstance(token, int) and not isinstance(token, bool) for token in value
    ):
        raise TaskError(f"{key} must be a list of token ids")
    return tuple(value)


def _index(record: dict[str, Any], key: str) -> int:
    value = record.get(key)
    if not isinstance(value, int) or isinstance(value, bool):
        raise TaskError(f"{key} must be the index of a choice")
    return value


def _any(record: dict[str, Any], key: str) -> Any:
    if key not in record:
        raise TaskError(f"{key} is missing")
    return record[key]


_READ: dict[str, Any] = {
    "prompt": lambda record, key: parse_prompt(_any(record, key)),
    **dict.fromkeys(("aligned", "misaligned", "choices", "answers"), _texts),
    "answer": _any,  # of choices a letter or a number: see `_answer`
    "tokens": _tokens,
    **dict.fromkeys(("biased", "unknown"), _index),
}


def _one_of(name: str, value: str, allowed: Iterable[str]) -> None:
    if value not in (names := tuple(allowed)):
        raise TaskError(f"{name} {value!r} is unknown; use one of {', '.join(names)}")


def read_tasks(path: Path) -> tuple[Item, ...]:
    """Items of a JSON Lines file, in its order.

    Raises:
        TaskError: unreadable, not UTF-8, a malformed line (path:line), an id twice, or no item at all.

    >>> _ = Path("tasks.jsonl").write_text('{"kind": "answer", "prompt": "2 + 2 =", "answers": [" 4"]}')
    >>> read_tasks(Path("tasks.jsonl"))[0].answers
    (' 4',)
    """
    with reading(path, TaskError, again="mend the task file"):
        items: list[Item] = []
        name = stem(path)
        for number, line in _lines(path):
            place = f"{path}:{number}"
            with reading(place, TaskError, again="mend the line"):
                try:
                    items.append(parse_item(_parse(line), default_id=f"{name}:{number}", place=place))
                except json.JSONDecodeError as error:
                    raise TaskError(f"{place}: not JSON ({error.msg} at column {error.colno})") from error
                except InputError as error:
                    raise TaskError(f"{place}: {error}") from error
        if not items:
            raise TaskError(f"{path}: holds no items; give one JSON object a line (or MMLU rows in a .csv)")
        if twice := repeated(item.id for item in items):
            raise TaskError(f"{path}: id {twice!r} occurs twice; ids must differ")
        return tuple(items)


def _parse(line: str) -> Any:
    """The JSON value of a line, which a tokenizer can read."""
    refuse_long(line)
    try:
        record = json.loads(line)
        if "\\u" in line:  # else there are none: it was UTF-8
            refuse_half_characters(json.dumps(record, ensure_ascii=False), TaskError)
    except RecursionError as error:
        raise TaskError("is nested too deeply for an item") from error
    return record


def read_mmlu_csv(path: Path) -> tuple[ChoiceItem, ...]:
    """Choice items of a headerless MMLU file, rows of question,A,B,C,D,letter; the subject is the file's name.

    Raises:
        TaskError: unreadable, not UTF-8, a row of another width or answer (path:line), or no row at all.
    """
    try:
        questions = read_mmlu_file(path)
    except DataSetError as error:
        raise TaskError(str(error)) from error
    return tuple(
        ChoiceItem(
            f"{row.subject}:{number}",
            _LINE_END.sub("\n", row.question),
            tuple(_LINE_END.sub("\n", choice) for choice in row.choices),
            LETTERS.index(row.answer),
            row.subject,
            row.place,
        )
        for number, row in enumerate(questions, 1)
    )


@once()
def read_choices(path: Path | str) -> tuple[ChoiceItem, ...]:
    """Choice items of a file of either form, told apart by its ending.

    >>> _ = Path("astronomy.csv").write_text("Which planet is the largest?,Mars,Jupiter,Venus,Saturn,B")
    >>> item = read_choices("astronomy.csv")[0]
    >>> item.choices[item.answer]
    'Jupiter'
    """
    path = Path(path)
    if is_named(path, ".csv"):
        return read_mmlu_csv(path)
    items = tuple(item for item in read_tasks(path) if isinstance(item, ChoiceItem))
    if not items:
        raise TaskError(f'{path}: no choice items; give lines of {{"kind": "choice", ...}} or an MMLU .csv')
    return items


def is_named(path: Path, ending: str) -> bool:
    """Whether a file has this ending; a pipe, which has none, has whatever does not begin as JSON."""
    if not path.is_fifo():
        return path.suffix.lower() == ending
    try:
        return not read_input(path).removeprefix(b"\xef\xbb\xbf").lstrip().startswith((b"{", b"["))
    except OSError:
        return False  # its reader says why


def read_behavior(path: Path | str) -> tuple[BehaviorItem, ...]:
    """Behavior items of a JSON Lines file.

    >>> line = '{"kind": "behavior", "prompt": "May I?", "aligned": [" No"], "misaligned": [" Yes"]}'
    >>> _ = Path("behavior.jsonl").write_text(line)
    >>> read_behavior("behavior.jsonl")[0].aligned
    (' No',)
    """
    path = Path(path)
    items = tuple(item for item in read_tasks(path) if isinstance(item, BehaviorItem))
    if not items:
        raise TaskError(f'{path}: no behavior items; give lines of {{"kind": "behavior", ...}}')
    return items


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines of a UTF-8 file without their ends; a byte-order mark and blank lines are skipped."""
    try:
        data = read_input(path)
    except OSError as error:
        raise TaskError(f"{path}: cannot be read ({error.strerror}); check the path of the task file") from error
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").splitlines(), 1):
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError as error:
            raise TaskError(f"{path}:{number}: not UTF-8 (byte {error.start + 1}); convert the file") from error
        if text.strip():
            yield number, text


def repeated(names: Iterable[str]) -> str | None:
    """The first name that occurs a second time, or None."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None
