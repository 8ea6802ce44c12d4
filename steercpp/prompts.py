"""Prompts as data: a plain text or a list of chat messages; read this when you prepare either.

A `Prompt` is a string, taken as it stands, or a tuple of `Message`, which a model's own chat template
turns into text. The template is Jinja code from a model file, so it runs in Jinja's sandbox.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from steercpp.errors import PromptError

if TYPE_CHECKING:
    import jinja2

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


Prompt: TypeAlias = str | tuple[Message, ...]


def parse_prompt(value: object) -> Prompt:
    """Read a prompt from parsed JSON: a string, or a list of {"role": ..., "content": ...}.

    Raises:
        PromptError: any other shape, an unknown role, or nothing in it.
    """
    if isinstance(value, str):
        if not value.strip():
            raise PromptError("the prompt is empty; give it some text")
        return value
    if isinstance(value, list) and value and all(_is_message(turn) for turn in value):
        return tuple(Message(turn["role"], turn["content"]) for turn in value)
    raise PromptError('a prompt is a text or a list of {"role": ..., "content": ...} messages')


def _is_message(turn: object) -> bool:
    return isinstance(turn, dict) and all(isinstance(turn.get(key), str) for key in ("role", "content"))


def prompt_json(prompt: Prompt) -> Any:
    """The JSON form that `parse_prompt` reads back."""
    if isinstance(prompt, str):
        return prompt
    return [{"role": turn.role, "content": turn.content} for turn in prompt]


def with_system(prompt: Prompt, system: str) -> tuple[Message, ...]:
    """The prompt as a chat that starts with the system message `system`, replacing one that is there."""
    turns = (Message("user", prompt),) if isinstance(prompt, str) else prompt
    return (Message("system", system), *(turn for turn in turns if turn.role != "system"))


def render_chat(
    messages: tuple[Message, ...], *, chat_template: str, bos: str, eos: str, assistant_speaks: bool = True
) -> str:
    """Text of a chat up to where the assistant speaks, by the model's own template.

    Args:
        messages: the turns; the last one is usually the user's.
        chat_template: Jinja source (GGUF key tokenizer.chat_template).
        bos: text of the begin-of-sequence token; templates of Llama 2 write it themselves.
        eos: text of the end-of-sequence token.
        assistant_speaks: whether what introduces the assistant's next message is written at the end.

    Raises:
        PromptError: the template is broken or refuses these messages.
    """
    from jinja2 import TemplateError

    turns = [{"role": turn.role, "content": turn.content} for turn in messages]
    try:
        return _compiled(chat_template).render(
            messages=turns, bos_token=bos, eos_token=eos, add_generation_prompt=assistant_speaks
        )
    except TemplateError as error:
        raise PromptError(f"the model's chat template cannot be used: {error}; try --raw") from error


@lru_cache(maxsize=4)
def _compiled(chat_template: str) -> jinja2.Template:
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def refuse(reason: str) -> None:
        raise PromptError(f"the model's chat template refuses these messages: {reason}")

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.globals["raise_exception"] = refuse
    return environment.from_string(chat_template)
