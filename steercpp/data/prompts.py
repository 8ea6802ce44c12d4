"""Prompts as data: a plain text, a list of chat messages, or a template with its data; read this when you prepare one.

A `Prompt` is a string, taken as it stands; a tuple of `Message`, which a model's own chat template turns into text; or
a `Filled`, a text with places such as {instruction} and what stands in them. What of a prompt is data and what is
template decides where special tokens are read: see engine/vocabulary.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

from steercpp.errors import PromptError

ROLES = ("system", "user", "assistant")
Template: TypeAlias = Literal["auto", "chat", "raw"]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a chat; `role` is system, user or assistant."""

    role: str
    content: str

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise PromptError(f"chat role {self.role!r} is unknown; use one of {', '.join(ROLES)}")


class Part(NamedTuple):
    """A piece of a prompt: the template's own text, where `field` is "", or data, named by its place or its role."""

    text: str
    field: str


@dataclass(frozen=True, slots=True)
class Filled:
    """A template and the data in its places.

    Attributes:
        template: a text with places such as {instruction}; {{ and }} stand for the braces themselves.
        fields: name and text of each place; given in any order or as a mapping, kept in the template's order.

    Raises:
        PromptError: a brace that is no place, a place that is not filled, a field that has no place, or an empty text.
    """

    template: str
    fields: Mapping[str, str] | tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        given = dict(self.fields)
        places = template_places(self.template)
        for name, text in given.items():
            if name not in places:
                known = ", ".join(places) or "no place at all"
                raise PromptError(f"field {name!r} has no place in the template; it has {known}")
            if not isinstance(text, str):
                raise PromptError(f"field {name!r} must be a text, and is {text!r}")
        if missing := [name for name in places if name not in given]:
            raise PromptError(f"the template's place {{{missing[0]}}} is not filled; give a text for {missing[0]!r}")
        object.__setattr__(self, "fields", tuple((name, given[name]) for name in places))
        if not self.text.strip():
            raise PromptError("the prompt is empty; give it some text")

    @property
    def values(self) -> dict[str, str]:
        """The text of each field, by its name."""
        return dict(self.fields)

    @property
    def parts(self) -> tuple[Part, ...]:
        """The pieces that make up the text, in order; fields may be empty, the template's pieces are not."""
        values = self.values
        return tuple(
            piece if not piece.field else Part(values[piece.field], piece.field)
            for piece in template_pieces(self.template)
        )

    @property
    def text(self) -> str:
        """The whole text."""
        return "".join(piece.text for piece in self.parts)


Prompt: TypeAlias = str | tuple[Message, ...] | Filled

_BRACES = re.compile(r"\{\{|\}\}|\{([A-Za-z_][A-Za-z0-9_]*)\}|[{}]")


def template_places(template: str) -> tuple[str, ...]:
    """Names of a template's places, each once, in their order.

    Raises:
        PromptError: a brace that is neither doubled nor around a name; a place named "template".
    """
    return tuple(dict.fromkeys(piece.field for piece in template_pieces(template) if piece.field))


def template_pieces(template: str) -> Iterator[Part]:
    """A template's own text, with single braces, and its places, the text of which is "".

    Raises:
        PromptError: as `template_places`.
    """
    text, done = "", 0  # the template's own text up to here, since the last place
    for brace in _BRACES.finditer(template):
        text, done = text + template[done : brace.start()], brace.end()
        if brace[0] in ("{{", "}}"):
            text += brace[0][0]
            continue
        if brace[1] is None:
            near = template[max(brace.start() - 12, 0) : brace.end() + 12]
            raise PromptError(
                f"a single {brace[0]} in the template at {near!r}; double it, or write a place as {{name}}"
            )
        if brace[1] == "template":
            raise PromptError("a place cannot be named {template}; call it something else")
        if text:
            yield Part(text, "")
        yield Part("", brace[1])
        text = ""
    if text := text + template[done:]:
        yield Part(text, "")


def escaped(text: str) -> str:
    """A text as a template writes it: with its braces doubled."""
    return text.replace("{", "{{").replace("}", "}}")


def parse_prompt(value: object) -> Prompt:
    """Read a prompt from parsed JSON.

    It is a string; a list of {"role": ..., "content": ...}; or {"template": "... {name} ...", "name": "..."}.

    Raises:
        PromptError: any other shape, an unknown role, a template that is not filled, or nothing in it.
    """
    if isinstance(value, str):
        if not value.strip():
            raise PromptError("the prompt is empty; give it some text")
        return value
    if isinstance(value, list) and value and all(_is_message(turn) for turn in value):
        return tuple(Message(turn["role"], turn["content"]) for turn in value)
    if isinstance(value, dict) and isinstance(value.get("template"), str):
        return Filled(value["template"], {name: text for name, text in value.items() if name != "template"})
    raise PromptError(
        'a prompt is a text or a list of {"role": ..., "content": ...} messages, or a template with its fields, '
        '{"template": "... {name} ...", "name": ...}'
    )


def _is_message(turn: object) -> bool:
    return isinstance(turn, dict) and all(isinstance(turn.get(key), str) for key in ("role", "content"))


def prompt_json(prompt: Prompt) -> Any:
    """The JSON form that `parse_prompt` reads back."""
    if isinstance(prompt, str):
        return prompt
    if isinstance(prompt, Filled):
        return {"template": prompt.template, **prompt.values}
    return [{"role": turn.role, "content": turn.content} for turn in prompt]


def prompt_texts(prompt: Prompt) -> tuple[str, ...]:
    """The texts that a prompt is made of: itself, its messages, or a template's pieces and fields."""
    if isinstance(prompt, str):
        return (prompt,)
    return (
        tuple(piece.text for piece in prompt.parts)
        if isinstance(prompt, Filled)
        else tuple(turn.content for turn in prompt)
    )


def as_chat(prompt: Prompt) -> tuple[Message, ...]:
    """The prompt as a chat: a text, or a template with its data, becomes the user's message."""
    if isinstance(prompt, tuple):
        return prompt
    return (Message("user", prompt if isinstance(prompt, str) else prompt.text),)


def with_system(prompt: Prompt, system: str) -> tuple[Message, ...]:
    """The prompt as a chat that starts with the system message `system`, replacing one that is there."""
    return (Message("system", system), *(turn for turn in as_chat(prompt) if turn.role != "system"))


def with_instruction(prompt: Prompt, text: str, *, template: Template = "auto", between: str = "\n\n") -> Prompt:
    """The prompt with `text` before it, which asks for a behavior in words.

    A chat, or what `template` "chat" makes one, has it as its system message, before what its own one says. So has a
    template that is a chat of Llama 2 or 3. All else has it and a blank line before it. In a template it is data.

    Args:
        prompt: any prompt.
        text: the instruction.
        template: as for `Vocabulary.parts`.
        between: what stands between the text and what it is put before; see `Vocabulary.paragraph`.

    Raises:
        PromptError: the text is blank.
    """
    if not text.strip():
        raise PromptError("the instruction is empty; give it some text")
    if isinstance(prompt, tuple) or template == "chat":
        chat = as_chat(prompt)
        before = [turn.content for turn in chat if turn.role == "system"]
        return with_system(chat, between.join((text, *before)))
    if isinstance(prompt, str):
        return f"{text}{between}{prompt}"
    name = "instruction_before"
    while name in prompt.values:
        name += "_"
    return Filled(_with_place_before(prompt.template, f"{{{name}}}", between), {name: text, **prompt.values})


def with_opening(prompt: Prompt, text: str, *, template: Template = "auto", between: str = "\n\n") -> Prompt:
    """The prompt whose user's last message opens with `text`, as the prompts of contrast pairs do.

    A chat, or what `template` "chat" makes one, has it there. All else, and a chat in which no user speaks, has it
    where `with_instruction` puts it.

    Args:
        prompt: any prompt.
        text: the opening, such as an instruction.
        template: as for `Vocabulary.parts`.
        between: what stands between the text and what it is put before; see `Vocabulary.paragraph`.

    Raises:
        PromptError: the text is blank.
    """
    if not text.strip():
        raise PromptError("the instruction is empty; give it some text")
    chat = as_chat(prompt) if isinstance(prompt, tuple) or template == "chat" else ()
    places = [place for place, turn in enumerate(chat) if turn.role == "user"]
    if not places:
        return with_instruction(prompt, text, template=template, between=between)
    turn = Message("user", f"{text}{between}{chat[places[-1]].content}")
    return (*chat[: places[-1]], turn, *chat[places[-1] + 1 :])


_SYSTEM_HEAD, _USER_HEAD = (f"<|start_header_id|>{role}<|end_header_id|>\n\n" for role in ("system", "user"))


def _with_place_before(template: str, place: str, between: str) -> str:
    """The template with a place at the start of its system message; or, where it is no chat, at its own start."""
    begin = next((text for text in ("<s>", "<|begin_of_text|>") if template.startswith(text)), "")
    rest = template.removeprefix(begin)
    if rest.startswith(_USER_HEAD):
        return f"{begin}{_SYSTEM_HEAD}{place}<|eot_id|>{rest}"
    if rest.startswith(_SYSTEM_HEAD):
        return f"{begin}{_SYSTEM_HEAD}{place}\n\n{rest.removeprefix(_SYSTEM_HEAD)}"
    if rest.startswith("[INST]"):
        message = rest.removeprefix("[INST]").lstrip()
        if message.startswith("<<SYS>>\n"):
            return f"{begin}[INST] <<SYS>>\n{place}\n\n{message.removeprefix('<<SYS>>')[1:]}"
        return f"{begin}[INST] <<SYS>>\n{place}\n<</SYS>>\n\n{message}"
    return f"{begin}{place}{between}{rest}"
