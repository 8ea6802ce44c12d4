"""Prompts as a model gets them, to be looked at: text, tokens, which of them are special, and where data stand."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal, NamedTuple, TypeAlias

from steercpp.data.items import CodeItem, Item, choice_form_of, code_prompt, kind_of, named, prompt_of
from steercpp.data.pairs import ContrastPair
from steercpp.data.prompts import Part, Prompt, Template, with_instruction
from steercpp.engine.engine import Engine
from steercpp.errors import PromptError

Source: TypeAlias = Literal["template", "special", "data"]  # of a piece of a text


class Span(NamedTuple):
    """Where data stand in a prompt's text: characters `start` to before `end`."""

    field: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class PromptView:
    """One prompt.

    Attributes:
        kind: "behavior", "choice", "answer", "text", "code", "pair" or "prompt".
        name: of its item or pair.
        segments: its text in pieces, with what each is.
        spans: where data stand in the text.
        tokens: all of them, with the begin-of-sequence token.
        pieces: their texts, as the vocabulary writes them.
        special: whether each is a special token.
        bos: who wrote the begin-of-sequence token at the start: "tokenizer", "template", or "" where there is none.
        scored: what is scored after it, by name.
        notes: what is not as usual in how it is written, see `Vocabulary.chat_notes`.
        foreign: what its template takes for special tokens and the model does not, see `Vocabulary.foreign_texts`.
    """

    kind: str
    name: str
    segments: tuple[tuple[str, Source], ...]
    spans: tuple[Span, ...]
    tokens: tuple[int, ...]
    pieces: tuple[str, ...]
    special: tuple[bool, ...]
    bos: Literal["tokenizer", "template", ""]
    scored: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    foreign: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The whole text, without a begin-of-sequence token that the tokenizer adds."""
        return "".join(text for text, _ in self.segments)

    def to_json(self) -> dict[str, Any]:
        """All of it in JSON's types."""
        tokens = zip(self.tokens, self.pieces, self.special, strict=True)
        return {
            "kind": self.kind, "name": self.name, "text": self.text, "n_tokens": len(self.tokens), "bos": self.bos,
            "tokens": [{"id": token, "piece": piece, "special": special} for token, piece, special in tokens],
            "data": [span._asdict() for span in self.spans],
            "scored": {name: list(texts) for name, texts in self.scored.items()}, "foreign": list(self.foreign),
            "notes": list(self.notes),
        }  # fmt: skip


def prompt_view(
    engine: Engine,
    prompt: Prompt,
    answer: str = "",
    *,
    template: Template = "auto",
    kind: str = "prompt",
    name: str = "",
    scored: Mapping[str, tuple[str, ...]] | None = None,
) -> PromptView:
    """A prompt, with the start of its answer if there is one, as `Engine.encode_answered` reads it.

    Raises:
        PromptError: it cannot be rendered; the message starts with its name.
    """
    try:
        parts, answer = engine.vocabulary.answered_parts(prompt, answer, template=template)
        tokens = engine.encode_answered(prompt, answer, template=template)[0]
    except PromptError as error:
        raise type(error)(f"{name}: {error}" if name else str(error)) from error
    parts = (*parts, Part(answer, "answer")) if answer else parts
    segments = tuple(_segments(engine, parts))
    starts = tokens[:1] == (engine.bos,)
    written = starts and segments[:1] == ((engine.bos_piece, "special"),)
    return PromptView(
        kind=kind, name=name, segments=segments, spans=tuple(_spans(parts)), tokens=tokens,
        pieces=tuple(engine.pieces[token] for token in tokens),
        special=tuple(token in engine.vocabulary.special_tokens for token in tokens),
        bos="template" if written else "tokenizer" if starts else "",
        scored=scored or {}, foreign=engine.vocabulary.foreign_texts(prompt),
        notes=engine.vocabulary.chat_notes([(prompt, template)]),
    )  # fmt: skip


def item_views(
    engine: Engine, items: Iterable[Item], *, n: int = 2, instruction: str = "", code_template: str = "raw"
) -> tuple[PromptView, ...]:
    """The first prompts of task items.

    Args:
        engine: the model.
        items: of any kinds, in any order.
        n: how many of each kind.
        instruction: what asks for the behavior in words; the first prompt of behavior and of choice items is shown
            a second time with it.
        code_template: how code items are asked, see `code_prompt`.

    Raises:
        PromptError: a prompt cannot be rendered.
    """
    items, seen, views = tuple(items), dict[str, int](), []
    form = choice_form_of(items, engine.vocabulary.writes)
    for item in items:
        kind = kind_of(item)
        seen[kind] = seen.get(kind, 0) + 1
        if seen[kind] > n:
            continue
        prompt, template, scored = prompt_of(item, form)
        if isinstance(item, CodeItem):
            prompt, template = code_prompt(item, code_template)
        views.append(prompt_view(engine, prompt, template=template, kind=kind, name=named(item), scored=scored))
        if instruction and seen[kind] == 1 and kind in ("behavior", "choice"):
            instructed = with_instruction(prompt, instruction, template=template, between=engine.vocabulary.paragraph)
            name = f"{named(item)}, with the instruction"
            views.append(prompt_view(engine, instructed, template=template, kind=kind, name=name, scored=scored))
    return tuple(views)


def pair_views(
    engine: Engine, pairs: Iterable[ContrastPair], *, template: Template = "auto", n: int = 2
) -> tuple[PromptView, ...]:
    """Both prompts of the first n pairs, with their answers.

    Raises:
        PairsError, PromptError: a pair cannot be read or rendered.
    """
    return tuple(
        prompt_view(engine, prompt, answer, template=template, kind="pair", name=f"{pair.where}: {side}")
        for pair in islice(pairs, n)
        for side, prompt, answer in pair.sides
    )


def _segments(engine: Engine, parts: Sequence[Part]) -> Iterator[tuple[str, Source]]:
    for part in parts:
        if part.field:
            if part.text:
                yield part.text, "data"
            continue
        done = 0
        for place, token in engine.vocabulary.special_tokens.places(part.text):
            if place > done:
                yield part.text[done:place], "template"
            done = place + len(engine.pieces[token])
            yield part.text[place:done], "special"
        if done < len(part.text):
            yield part.text[done:], "template"


def _spans(parts: Sequence[Part]) -> Iterator[Span]:
    start = 0
    for part in parts:
        if part.field:
            yield Span(part.field, start, start + len(part.text))
        start += len(part.text)
