"""A model's own chat template: the text of a chat, and which of it is the messages' own; read this when one misbehaves.

The template is Jinja code from a model file and may do anything with a message: trim it, cut it, look into it, leave it
out. What of the text it left as data is found by writing the chat a second time with marks around each message. Where
the marks change what the template writes, the messages' special tokens are broken by a mark instead, which is enough to
keep them from being read as tokens. Marks are characters of the last private-use plane that occur nowhere in the chat.

Every message must be in the text. Where one is not, the template is given its content as a list of typed parts, as
templates of models that see images want it; then a system message is put before the first message of the user, as
llama.cpp does; then the chat is refused. Thoughts are in thoughts.py.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from steercpp.data.prompts import Message, Part
from steercpp.engine import thoughts
from steercpp.errors import PromptError

if TYPE_CHECKING:
    from steercpp.engine.compiled_template import CompiledTemplate

_MARKS = range(0xF0000, 0xFFFFE)  # private use
_TYPED = "{'type': 'text'"  # how typed content looks where a template takes it for a text
# What transformers and llama-cpp-python hand over for chats without tools. Where a template cannot do with None, an
# empty one of the type that it wants.
_NO_TOOLS: Mapping[str, Any] = {
    "tools": None,
    "documents": None,
    "functions": None,
    "function_call": None,
    "tool_choice": None,
}
_EMPTY_TOOLS: Mapping[str, Any] = {**_NO_TOOLS, "tools": [], "documents": [], "functions": ""}


@dataclass(frozen=True, slots=True)
class _Manner:
    """How a chat is handed to a template.

    Attributes:
        typed: roles whose content is a list of typed parts.
        merged: the messages, where a system message had to be put before the user's first one; else None.
    """

    typed: frozenset[str] = frozenset()
    merged: tuple[Message, ...] | None = None


@dataclass(frozen=True, slots=True)
class WrittenChat:
    """A chat as the model gets it, up to where its answer starts.

    Attributes:
        parts: the template's own pieces, and those of messages, whose `field` is the role.
        closing: what of the end was added so that the answer starts there and no thoughts, see thoughts.py.
        merged: whether a system message had to be put before the user's first one.
        manner: how the template was handed the chat.
    """

    parts: tuple[Part, ...]
    closing: str
    manner: _Manner

    @property
    def text(self) -> str:
        """All of it."""
        return "".join(part.text for part in self.parts)

    @property
    def merged(self) -> bool:
        """Whether a system message had to be put before the user's first one."""
        return self.manner.merged is not None


@dataclass(frozen=True)
class ChatTemplate:
    """A model's template with the texts that it may ask for.

    Attributes:
        source: Jinja code, the GGUF key tokenizer.chat_template.
        bos: text of the begin-of-sequence token; templates of Llama 2 write it themselves.
        eos: text of the end-of-sequence token.
        template_kwargs: variables of the user's.
        date: the day that the template is told, as "2026-11-29"; "" for today.
    """

    source: str
    bos: str
    eos: str
    template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    date: str = ""

    @cached_property
    def _compiled(self) -> CompiledTemplate:
        from steercpp.engine.compiled_template import compile_template

        return compile_template(self.source)

    @property
    def day(self) -> str:
        """The day that the template is told."""
        return self.date or datetime.date.today().isoformat()

    @property
    def asks_for_date(self) -> bool:
        """Whether its text may depend on the day."""
        return "strftime_now" in self._compiled.free

    @property
    def unused(self) -> tuple[str, ...]:
        """Names of the user's variables that the template does not look at."""
        known = {*self._compiled.free, *(thoughts.SWITCHES if self.thinking.is_spoken_of else ())}
        return tuple(name for name in self.template_kwargs if name not in known)

    @cached_property
    def thinking(self) -> thoughts.Thinking:
        """What is done about thoughts."""
        return thoughts.thinking(self.source, self._compiled.free, self.template_kwargs)

    @property
    def variables(self) -> dict[str, Any]:
        """What it is handed beside the messages and the texts of tokens: switches for thoughts, and the user's."""
        return {**self.thinking.switches, **self.template_kwargs}

    def notes(self, chats: Iterable[WrittenChat]) -> tuple[str, ...]:
        """What is not as usual in how chats are written, in sentences.

        Args:
            chats: those that are measured.
        """
        closings: dict[str, None] = {}
        merged = False
        for chat in chats:
            closings |= {chat.closing: None} if chat.closing else {}
            merged |= chat.merged
        notes = []
        if merged:
            notes.append(
                "the model's chat template leaves system messages out: they stand before the user's first message"
            )
        if self.thinking.wanted:
            notes.append(
                f"thinking is on ({self.thinking.wanted}): what is scored at the start of an answer stands where "
                "thoughts begin"
            )
        elif self.thinking.off:
            notes.append(
                "the model's chat template speaks of thoughts: thinking is switched off "
                f"({thoughts.in_words(self.thinking.off)})"
            )
        if closings:
            added = " or ".join(repr(closing) for closing in closings)
            notes.append(
                f"the model's chat template speaks of thoughts: {added} is added to its prompts, behind which the "
                "answer starts"
            )
        elif self.thinking.is_spoken_of and not self.thinking.off and not self.thinking.wanted:
            notes.append(
                "the model's chat template speaks of thoughts, and nothing is known that switches them off: an answer "
                "may begin with one"
            )
        if self.asks_for_date:
            notes.append(f"the model's chat template receives the day {self.day}")
        return tuple(notes)

    def render(self, messages: Sequence[Message], *, assistant_speaks: bool = True) -> str:
        """Text of a chat up to where the assistant speaks, as the template writes it.

        Args:
            messages: the turns; the last one is usually the user's.
            assistant_speaks: whether what introduces the assistant's next message is written at the end.

        Raises:
            PromptError: the template is broken, refuses these messages, or leaves one of them out.
        """
        from steercpp.engine.template_budget import limited_time

        with limited_time():
            return self._rendered(messages, self._manner(messages)[0], assistant_speaks=assistant_speaks)

    def written(self, messages: Sequence[Message], specials: Callable[[str], Sequence[int]]) -> WrittenChat:
        """The text in pieces, up to where the assistant's answer starts.

        Args:
            messages: the turns.
            specials: where special tokens begin in a text, were they read there.

        Raises:
            PromptError: as `render`; or a message spells a special token and the template changes messages in a way
                that cannot be followed.
        """
        from steercpp.engine.template_budget import limited_time

        with limited_time():
            return self._written(messages, specials)

    def _written(self, messages: Sequence[Message], specials: Callable[[str], Sequence[int]]) -> WrittenChat:
        manner, text, marked = self._manner(messages)
        pieces = marked
        if pieces is None or "".join(piece.text for piece in pieces) != text:
            pieces = self._broken(manner.merged or messages, manner, text, specials)
        closing = ""
        if self.thinking.closes and (not pieces or not pieces[-1].field):
            closing = thoughts.closing(text, self._answered(messages, manner), "" if self.thinking.off else self.source)
        parts = (*pieces, Part(closing, "")) if closing else pieces
        return WrittenChat(parts, closing, manner)

    def answered(self, messages: Sequence[Message], answer: str, written: WrittenChat) -> str:
        """Text of a chat with an answer, as the template writes an assistant's message.

        Args:
            messages: the turns before it.
            answer: what the assistant says.
            written: these turns.

        Raises:
            PromptError: as `render`.
        """
        manner = written.manner
        return self._rendered(
            (*(manner.merged or messages), Message("assistant", answer)), manner, assistant_speaks=False
        )

    def _answered(self, messages: Sequence[Message], manner: _Manner) -> thoughts.Answered:
        """What the template writes around an assistant's answer, without thoughts and with some."""
        chat = manner.merged or tuple(messages)
        marks = _unused("".join((self.source, *(turn.content for turn in chat))))
        answer, thought = next(marks), next(marks)
        turn = Message("assistant", answer)
        texts = []
        for extra in ({}, dict.fromkeys(thoughts.KEYS, thought)):
            try:
                texts.append(self._rendered((*chat, turn), manner, assistant_speaks=False, extra=extra))
            except PromptError:
                texts.append("")
        return thoughts.Answered(texts[0], texts[1], answer, thought, chat[-1].content.strip() if chat else "")

    def _rendered(
        self,
        messages: Sequence[Message],
        manner: _Manner,
        *,
        assistant_speaks: bool = True,
        extra: Mapping[str, str] | None = None,
    ) -> str:
        """The template's text of these very messages; the last one has `extra` keys."""
        from steercpp.engine.compiled_template import RefusedError, StoppedError

        turns: list[dict[str, Any]] = [
            {"role": turn.role, "content": [{"type": "text", "text": turn.content}]}
            if turn.role in manner.typed
            else {"role": turn.role, "content": turn.content}
            for turn in messages
        ]
        if extra:
            turns[-1] |= extra
        known = {
            "messages": turns, "bos_token": self.bos, "eos_token": self.eos, "add_generation_prompt": assistant_speaks,
        }  # fmt: skip
        try:
            return self._compiled.run({**_NO_TOOLS, **known, **self.variables}, date=self.day)
        except (RefusedError, StoppedError):
            raise
        except PromptError as error:
            try:
                return self._compiled.run({**_EMPTY_TOOLS, **known, **self.variables}, date=self.day)
            except PromptError:
                raise error from None

    def _manner(self, messages: Sequence[Message]) -> tuple[_Manner, str, tuple[Part, ...] | None]:
        """A manner in which the template writes every message, its text, and the text's pieces if marks are followed.

        Raises:
            PromptError: there is none.
        """
        from steercpp.engine.compiled_template import StoppedError

        plain = _Manner()
        reason: PromptError | None = None
        try:
            attempt = self._attempt(messages, plain)
        except StoppedError:
            raise
        except PromptError as error:
            reason, missing = error, list(messages)
        else:
            if not (missing := attempt.missing):
                return plain, attempt.text, attempt.pieces
        typed = _Manner(frozenset(turn.role for turn in missing))
        merged = _with_system_merged(messages)
        manners = [typed]
        if merged is not None:
            dropped = any(turn.role == "system" for turn in missing) and reason is None
            manners += [replace(plain, merged=merged)] if dropped else []
            manners += [replace(typed, merged=merged)]
        for manner in manners:
            try:
                attempt = self._attempt(manner.merged or messages, manner)
            except StoppedError:
                raise
            except PromptError:
                continue
            if not attempt.missing and (_TYPED not in attempt.text or not manner.typed):
                return manner, attempt.text, attempt.pieces
        if reason is not None:
            raise reason
        owner = "the system message" if missing[0].role == "system" else f"the {missing[0].role}'s message"
        raise PromptError(
            f"the model's chat template does not write {owner} {_shortened(missing[0].content)!r}, or not all of it; "
            'write the prompt as a text, and take it with `template=raw` or, in an item, "template": "raw"'
        )

    def _attempt(self, messages: Sequence[Message], manner: _Manner) -> _Attempt:
        """Write a chat, and see which messages are in the text."""
        from steercpp.engine.compiled_template import StoppedError

        text = self._rendered(messages, manner)
        marks = _unused("".join((self.source, text, *(turn.content for turn in messages))))
        end, starts, marked = next(marks), {}, []
        for place, turn in enumerate(messages):
            words = turn.content.strip()  # marks stand within the white space: templates trim that
            if words:
                begin = turn.content.index(words)
                start = next(marks)
                starts[start] = place
                content = f"{turn.content[:begin]}{start}{words}{end}{turn.content[begin + len(words) :]}"
                turn = replace(turn, content=content)
            marked.append(turn)
        try:
            text_with_marks = self._rendered(marked, manner)
        except StoppedError:
            raise
        except PromptError:
            text_with_marks = ""
        pieces: list[Part] = []
        seen: set[int] = set()
        inside = f"[^{end}{re.escape(''.join(starts))}]*"
        cuts = re.split(f"([{re.escape(''.join(starts))}]{inside}{end})", text_with_marks) if starts else [text]
        for piece in cuts:
            if piece[:1] in starts and piece.endswith(end):
                place = starts[piece[0]]
                if piece[1:-1] == messages[place].content.strip() or self._reacts(messages, place, manner, text):
                    seen.add(place)
                pieces.append(Part(piece[1:-1], messages[place].role))
            elif piece:
                pieces.append(Part(piece, ""))
        missing = [
            messages[place]
            for place in starts.values()
            if place not in seen and not self._reacts(messages, place, manner, text)
        ]
        return _Attempt(text, tuple(pieces) if text_with_marks or not starts else None, missing)

    def _reacts(self, messages: Sequence[Message], place: int, manner: _Manner, text: str) -> bool:
        """Whether the text changes with the first, a middle and the last letter of a message.

        Of an assistant's, which may begin with thoughts that are left out, with the last.
        """
        from steercpp.engine.compiled_template import StoppedError

        content = messages[place].content
        last = len(content.rstrip()) - 1
        first = len(content) - len(content.lstrip())
        for letter in {last} if messages[place].role == "assistant" else {first, (first + last) // 2, last}:
            other = "y" if content[letter].lower() == "x" else "x"
            changed = replace(messages[place], content=f"{content[:letter]}{other}{content[letter + 1 :]}")
            try:
                if self._rendered((*messages[:place], changed, *messages[place + 1 :]), manner) == text:
                    return False
            except StoppedError:
                raise
            except PromptError:
                continue  # it looks at the letter
        return True

    def _broken(
        self, messages: Sequence[Message], manner: _Manner, text: str, specials: Callable[[str], Sequence[int]]
    ) -> tuple[Part, ...]:
        """The text in which only the first letter of each special token of the messages counts as theirs."""
        mark = next(_unused("".join((self.source, text, *(turn.content for turn in messages)))))
        broken = []
        for turn in messages:
            content = turn.content
            for place in reversed(specials(content)):
                content = content[: place + 1] + mark + content[place + 1 :]
            broken.append(replace(turn, content=content))
        pieces = self._rendered(broken, manner).split(mark)
        if "".join(pieces) != text:
            raise PromptError(
                "a message spells a special token, and the model's chat template changes it; take it out, or give "
                "the prompt as a text"
            )
        parts = [part for piece in pieces[:-1] for part in (Part(piece[:-1], ""), Part(piece[-1:], "text"))]
        return tuple(part for part in (*parts, Part(pieces[-1], "")) if part.text)


@dataclass(frozen=True, slots=True)
class _Attempt:
    """A chat that was written in one manner.

    Attributes:
        text: what the template writes.
        pieces: of the text with marks around messages, None where the template does not take that.
        missing: messages that are not in the text.
    """

    text: str
    pieces: tuple[Part, ...] | None
    missing: list[Message]


def _with_system_merged(messages: Sequence[Message]) -> tuple[Message, ...] | None:
    """The messages with all system messages before the first message of the user; None where there is nothing to do."""
    system = [turn.content for turn in messages if turn.role == "system" and turn.content.strip()]
    others = [turn for turn in messages if turn.role != "system"]
    first = next((place for place, turn in enumerate(others) if turn.role == "user"), None)
    if not system or first is None:
        return None
    others[first] = Message("user", "\n".join((*system, others[first].content)))
    return tuple(others)


def _shortened(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= 40 else f"{words[:39]}…"


def _unused(text: str) -> Iterator[str]:
    letters = set(text)
    return (chr(code) for code in _MARKS if chr(code) not in letters)
