"""A model's own chat template: the text of a chat, and which of it is the messages' own; read this when one misbehaves.

The template is Jinja code from a model file and may do anything with a message: trim it, cut it, look into it. What of
the text it left as data is found by writing the chat a second time with marks around each message. Where the marks
change what the template writes, the messages' special tokens are broken by a mark instead, which is enough to keep them
from being read as tokens. Marks are characters of the last private-use plane that occur nowhere in the chat.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from steercpp.data.prompts import Message, Part
from steercpp.errors import PromptError

if TYPE_CHECKING:
    import jinja2

_MARKS = range(0xF0000, 0xFFFFE)  # private use


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """A model's template with the texts that it may ask for.

    Attributes:
        source: Jinja code, the GGUF key tokenizer.chat_template.
        bos: text of the begin-of-sequence token; templates of Llama 2 write it themselves.
        eos: text of the end-of-sequence token.
    """

    source: str
    bos: str
    eos: str

    def render(self, messages: Sequence[Message], *, assistant_speaks: bool = True) -> str:
        """Text of a chat up to where the assistant speaks.

        Args:
            messages: the turns; the last one is usually the user's.
            assistant_speaks: whether what introduces the assistant's next message is written at the end.

        Raises:
            PromptError: the template is broken or refuses these messages.
        """
        from jinja2 import TemplateError

        turns = [{"role": turn.role, "content": turn.content} for turn in messages]
        try:
            return _compiled(self.source).render(
                messages=turns, bos_token=self.bos, eos_token=self.eos, add_generation_prompt=assistant_speaks
            )
        except TemplateError as error:
            raise PromptError(f"the model's chat template cannot be used: {error}; try `template=raw`") from error

    def parts(self, messages: Sequence[Message], specials: Callable[[str], Sequence[int]]) -> tuple[Part, ...]:
        """The same text in pieces: the template's own, and those of messages, whose `field` is the role.

        Args:
            messages: the turns.
            specials: where special tokens begin in a text, were they read there.

        Raises:
            PromptError: as `render`; or a message spells a special token and the template changes messages in a way
                that cannot be followed.
        """
        text = self.render(messages)
        marks = _unused("".join((self.source, text, *(turn.content for turn in messages))))
        pieces = self._marked(messages, marks)
        if pieces is None or "".join(piece.text for piece in pieces) != text:
            pieces = self._broken(messages, text, next(marks), specials)
        return pieces

    def _marked(self, messages: Sequence[Message], marks: Iterator[str]) -> tuple[Part, ...] | None:
        """The text with each message between marks; None where the template does not take that."""
        end, starts = next(marks), {}
        marked = []
        for turn in messages:
            words = turn.content.strip()  # marks stand within the white space: templates trim that
            if words:
                begin = turn.content.index(words)
                start = next(marks)
                starts[start] = turn.role
                content = f"{turn.content[:begin]}{start}{words}{end}{turn.content[begin + len(words) :]}"
                turn = replace(turn, content=content)
            marked.append(turn)
        try:
            text = self.render(marked)
        except PromptError:
            return None
        parts: list[Part] = []
        for piece in re.split(f"([{re.escape(''.join(starts))}][^{end}]*{end})", text) if starts else [text]:
            if piece[:1] in starts:
                parts.append(Part(piece[1:-1], starts[piece[0]]))
            elif piece:
                parts.append(Part(piece, ""))
        return tuple(parts)

    def _broken(
        self, messages: Sequence[Message], text: str, mark: str, specials: Callable[[str], Sequence[int]]
    ) -> tuple[Part, ...]:
        """The text in which only the first letter of each special token of the messages counts as theirs."""
        broken = []
        for turn in messages:
            content = turn.content
            for place in reversed(specials(content)):
                content = content[: place + 1] + mark + content[place + 1 :]
            broken.append(replace(turn, content=content))
        pieces = self.render(broken).split(mark)
        if "".join(pieces) != text:
            raise PromptError(
                "a message spells a special token, and the model's chat template changes it; take it out, or give "
                "the prompt as a text"
            )
        parts = [Part(pieces[-1], "")]
        for piece in reversed(pieces[:-1]):
            parts[:0] = [Part(piece[:-1], ""), Part(piece[-1:], "text")]
        return tuple(piece for piece in parts if piece.text)


def _unused(text: str) -> Iterator[str]:
    letters = set(text)
    return (chr(code) for code in _MARKS if chr(code) not in letters)


@lru_cache(maxsize=4)
def _compiled(source: str) -> jinja2.Template:
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def refuse(reason: str) -> None:
        raise PromptError(f"the model's chat template refuses these messages: {reason}")

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.globals["raise_exception"] = refuse
    return environment.from_string(source)
