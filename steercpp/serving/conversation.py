"""From what a request says to tokens: chats in the model's template, texts, tokens; read this when prompts surprise.

A chat's messages are data, in which special tokens are characters (engine/vocabulary.py). A completion's prompt is what
the model gets: special tokens in it are read, as llama-server reads them. All of it is for one thread, as templates of
models and tokenizing take time, and the event loop has none.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from steercpp.aliases import Tokens
from steercpp.data.prompts import Message, Part
from steercpp.engine.chat_options import ChatOptions
from steercpp.engine.engine import Engine
from steercpp.engine.vocabulary import Vocabulary
from steercpp.errors import ContextOverflowError, PromptError
from steercpp.judging.answers import ends_in_thought, parted

_MOST_MANNERS = 16  # of writing chats, each with a compiled template and the chats that were written last


@dataclass(frozen=True, slots=True)
class Prepared:
    """A prompt as the model gets it.

    Attributes:
        tokens: all of them.
        text: what an echo repeats; "" of a chat.
        in_thought: whether it ends inside a thought.
    """

    tokens: Tokens
    text: str = ""
    in_thought: bool = False


class Conversation:
    """Writes prompts for one model, none with more tokens than a row has cells.

    Args:
        engine: the model.
        n_cells: of a row.
    """

    def __init__(self, engine: Engine, n_cells: int) -> None:
        self._vocabulary, self._n_cells = engine.vocabulary, n_cells
        self._manners: OrderedDict[tuple[str, str], Vocabulary] = OrderedDict()

    def chat(self, messages: Sequence[Message], template_kwargs: Mapping[str, Any]) -> Prepared:
        """A chat up to where the assistant speaks; what it has said already, where the last message is its own.

        Args:
            messages: the turns.
            template_kwargs: variables for the model's template, beside the server's own.

        Raises:
            PromptError: the model has no template, or it refuses the messages.
            InputError: a variable that a template cannot have.
            ContextOverflowError: it is longer than a row.
        """
        self._refuse_long(sum(len(turn.content) for turn in messages))
        vocabulary = self._written_with(template_kwargs)
        begun = messages[-1].content if messages[-1].role == "assistant" else ""
        chat = tuple(messages[:-1] if begun else messages)
        if not chat:
            raise PromptError("the chat has nothing but an assistant's message; begin it with the user's")
        tokens, _ = vocabulary.encode_answered(chat, begun)
        thinks = ends_in_thought(vocabulary.detokenize(tokens)) or parted(begun).unfinished
        return Prepared(self._short(tokens), in_thought=thinks)

    def text(self, text: str) -> Prepared:
        """A text, with the begin-of-sequence token where the model wants one.

        Raises:
            PromptError: it has no tokens, or characters that the model lacks.
            ContextOverflowError: it is longer than a row.
        """
        self._refuse_long(len(text))
        tokens = self._vocabulary.encode_parts((Part(text, ""),))
        if not tokens:
            raise PromptError("the prompt has no tokens; give it some text")
        return Prepared(self._short(tokens), text)

    def tokens(self, tokens: Sequence[int]) -> Prepared:
        """Tokens as they are.

        Raises:
            PromptError: there are none, or one that the model lacks.
            ContextOverflowError: more than a row has cells.
        """
        n_vocab = len(self._vocabulary.pieces)
        if not tokens:
            raise PromptError("the prompt has no tokens; give it some")
        if wrong := [token for token in tokens if not 0 <= token < n_vocab]:
            raise PromptError(f"the prompt has token {str(wrong[0])[:20]}; the model has tokens 0 to {n_vocab - 1}")
        return Prepared(self._short(tuple(tokens)), self._vocabulary.detokenize(tokens))

    def _written_with(self, template_kwargs: Mapping[str, Any]) -> Vocabulary:
        """The vocabulary that writes chats so, on this day."""
        own = self._vocabulary.chat_options
        options = ChatOptions({**own.template_kwargs, **template_kwargs}, own.date)
        key = (json.dumps(options.template_kwargs, sort_keys=True), options.day)
        if key not in self._manners:
            self._manners[key] = self._vocabulary.written_with(options)
        self._manners.move_to_end(key)
        if len(self._manners) > _MOST_MANNERS:
            self._manners.popitem(last=False)
        return self._manners[key]

    @cached_property
    def _longest(self) -> int:
        """Characters of the longest token."""
        return max(map(len, self._vocabulary.pieces))

    def _refuse_long(self, n_chars: int) -> None:
        """Refuse a text whose tokens, were each the longest, have no room: it is not even tokenized."""
        if n_chars > self._longest * self._n_cells:
            raise ContextOverflowError(
                f"the prompt has {n_chars} characters, more than {self._n_cells} tokens can spell; this server takes "
                f"{self._n_cells} tokens; shorten the prompt"
            )

    def _short(self, tokens: Tokens) -> Tokens:
        if len(tokens) >= self._n_cells:
            raise ContextOverflowError(
                f"the prompt has {len(tokens)} tokens, this server takes {self._n_cells} with what is drawn; shorten "
                "the prompt"
            )
        return tokens
