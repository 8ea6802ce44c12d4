"""From prompts to tokens: templates, the begin-of-sequence token, continuations; read this when tokens surprise you.

Two rules hold throughout. A prompt starts with the begin-of-sequence token exactly once if the model wants one, whether
its chat template writes it or not. A continuation is what the tokens of prompt and continuation together have beyond
the prompt's own, as in lm-evaluation-harness, so that a leading space is tokenized as in running text.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Protocol

from steercpp.errors import PromptError
from steercpp.prompts import Message, Prompt, Template, as_chat, render_chat


class Tokenizer(Protocol):
    """What a loaded model offers; bos and eos are -1, chat_template is empty where there is none."""

    bos: int
    eos: int
    adds_bos: bool
    chat_template: str

    def tokenize(self, text: str, add_special: bool, parse_special: bool) -> list[int]:
        """Tokens of a text."""

    def detokenize(self, tokens: Sequence[int]) -> bytes:
        """Text of tokens."""

    def pieces(self) -> list[bytes]:
        """The vocabulary's text of every token."""

    def ends_generation(self, token: int) -> bool:
        """Whether a model draws it to say that it has finished."""


class Vocabulary:
    """The tokens of one model and how its prompts are written."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.chat_template = tokenizer.chat_template or None

    @cached_property
    def pieces(self) -> tuple[str, ...]:
        """Text of every token as the vocabulary writes it, such as "▁A"; undecodable bytes become U+FFFD."""
        return tuple(piece.decode("utf-8", errors="replace") for piece in self._tokenizer.pieces())

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {piece: token for token, piece in reversed(list(enumerate(self.pieces)))}

    @property
    def bos(self) -> int:
        """The begin-of-sequence token, -1 where there is none."""
        return self._tokenizer.bos

    @property
    def bos_piece(self) -> str:
        """Text of the begin-of-sequence token, "" where there is none."""
        return self.pieces[self._tokenizer.bos] if self._tokenizer.bos >= 0 else ""

    @property
    def eos_piece(self) -> str:
        """Text of the end-of-sequence token, "" where there is none."""
        return self.pieces[self._tokenizer.eos] if self._tokenizer.eos >= 0 else ""

    def token_id(self, piece: str) -> int | None:
        """The token that the vocabulary writes exactly so; None where there is none."""
        return self._ids.get(piece)

    def tokenize(self, text: str, *, add_special: bool = True, parse_special: bool = False) -> list[int]:
        """Tokens of a text.

        Args:
            text: any text.
            add_special: with the begin- and end-of-sequence tokens that the model asks for.
            parse_special: "</s>" in the text becomes the token instead of four characters.
        """
        return self._tokenizer.tokenize(_checked(text), add_special, parse_special)

    def detokenize(self, tokens: Sequence[int]) -> str:
        """Text of tokens; characters that are cut become U+FFFD.

        Tokens that start with the begin-of-sequence token are a whole text, whose tokenizer-made leading space goes
        with that token; others are the inside of a text and keep theirs. Other special tokens are spelled out.
        """
        return self._tokenizer.detokenize(list(tokens)).decode("utf-8", errors="replace")

    def token_bytes(self, token: int) -> bytes:
        """Bytes that a token adds to a running text; they may end inside a character."""
        return self._tokenizer.detokenize([token])

    def ends_generation(self, token: int) -> bool:
        """Whether a model draws it to say that it has finished."""
        return self._tokenizer.ends_generation(token)

    def render(self, prompt: Prompt, *, template: Template = "auto") -> str:
        """Text of a prompt.

        Args:
            prompt: a text, a chat, or a template with its data.
            template: "raw" takes the text as it stands; "chat" makes it the user's message of a chat and writes that
                in the model's template; "auto" is "chat" for a chat and "raw" for all else.

        Raises:
            PromptError: the model has no chat template or it refuses the messages; or "raw" with a chat.
        """
        if template not in ("auto", "chat", "raw"):
            raise PromptError(f"template is {template!r}; use auto, chat or raw")
        if not isinstance(prompt, tuple) and template != "chat":
            return prompt if isinstance(prompt, str) else prompt.text
        if template == "raw":
            raise PromptError("a chat cannot be taken raw; give its text, or use the chat template")
        if self.chat_template is None:
            raise PromptError(
                "the model file has no chat template; give the prompt as a text and take it raw, with --raw or, in an "
                'item, "template": "raw"'
            )
        return render_chat(as_chat(prompt), chat_template=self.chat_template, bos=self.bos_piece, eos=self.eos_piece)

    def encode(self, prompt: Prompt, *, template: Template = "auto") -> tuple[int, ...]:
        """Tokens of a prompt, special tokens in its text included.

        Raises:
            PromptError: as `render`; or nothing is left to decode.
        """
        tokens = self._encode_text(self.render(prompt, template=template))
        if not tokens:
            raise PromptError("the prompt has no tokens; give it some text")
        return tokens

    def continue_tokens(self, prompt_text: str, continuation: str) -> tuple[int, ...]:
        """Tokens that a continuation adds to those of a rendered prompt.

        Raises:
            PromptError: it adds none, or the tokenizer merges its start with the prompt's end.
        """
        return self._continued(prompt_text, continuation)[1]

    def encode_answered(
        self, prompt: Prompt, answer: str, *, template: Template = "auto"
    ) -> tuple[tuple[int, ...], int]:
        """Tokens of a prompt and the start of its answer, and how many of them are the answer's.

        After a text the answer stands as it is. In a chat it stands as the model's template writes an assistant's
        message: what space precedes it is the template's.

        Raises:
            PromptError: as `encode` and `continue_tokens`.
        """
        if not answer:
            return self.encode(prompt, template=template), 0
        text = self.render(prompt, template=template)
        if isinstance(prompt, tuple) or template == "chat":
            answer = self._answer_in_chat(as_chat(prompt), text, answer)
        before, after = self._continued(text, answer)
        return (*before, *after), len(after)

    def _answer_in_chat(self, messages: tuple[Message, ...], text: str, answer: str) -> str:
        """The answer with the space that the template writes before it; `text` is the chat up to there."""
        assert self.chat_template is not None
        own = answer.lstrip()
        turns = (*messages, Message("assistant", own))
        try:
            whole = render_chat(
                turns, chat_template=self.chat_template, bos=self.bos_piece, eos=self.eos_piece, assistant_speaks=False
            )
        except PromptError:
            whole = ""
        space, found, _ = whole.removeprefix(text).partition(own.rstrip())
        if whole.startswith(text) and found and not space.strip():
            return space + own
        return own if text[-1:].isspace() else answer  # the template writes something else there, such as thoughts

    def _continued(self, prompt_text: str, continuation: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        prompt = self._encode_text(prompt_text)
        whole = self._encode_text(prompt_text + continuation)
        if whole[: len(prompt)] != prompt:
            raise PromptError(
                f"continuation {continuation!r} merges with the end of its prompt, {prompt_text[-16:]!r}, into other "
                "tokens; put the space between them at the start of the continuation"
            )
        if len(whole) == len(prompt):
            raise PromptError(f"continuation {continuation!r} adds no tokens to its prompt; give it some text")
        return prompt, whole[len(prompt) :]

    def _encode_text(self, text: str) -> tuple[int, ...]:
        tokenizer = self._tokenizer
        tokens = tuple(tokenizer.tokenize(_checked(text), False, True))
        if tokenizer.adds_bos and tokenizer.bos >= 0 and tokens[:1] != (tokenizer.bos,):
            return (tokenizer.bos, *tokens)
        return tokens


def _checked(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise PromptError(
            f"\\u{ord(text[error.start]):04x} in a text is half of a character; write it whole"
        ) from error
    return text
