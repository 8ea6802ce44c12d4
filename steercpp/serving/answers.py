"""What clients of OpenAI's API expect back: texts with their log-probabilities, whole or in pieces, as plain data."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from steercpp.engine.request import Alternatives, Finish, Generated, Text

LEAST_LOGPROB = -9999.0  # for what is impossible, as JSON has no infinities
FINISHES: Mapping[Finish, str] = {"length": "length", "stop": "stop", "end": "stop"}
Spell = Callable[[int], bytes]  # the bytes that a token adds to a text


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token with its natural-log P, None of the first token of a prompt, and what was likely in its place."""

    token: int
    logprob: float | None
    top: Alternatives = ()


@dataclass(frozen=True, slots=True)
class Envelope:
    """What is alike in all pieces of an answer.

    Attributes:
        id, created, model: of the answer; `created` in seconds.
        of_chat: whether it answers a chat.
        steering: what was applied, as plain data.
    """

    id: str
    created: int
    model: str
    of_chat: bool
    steering: tuple[dict[str, Any], ...]

    def whole(self, choices: Sequence[dict[str, Any]], usage: Mapping[str, Any]) -> dict[str, Any]:
        """The answer in one piece."""
        kind = "chat.completion" if self.of_chat else "text_completion"
        return {**self._head(kind), "choices": list(choices), "usage": dict(usage), "steering": list(self.steering)}

    def piece(self, choices: Sequence[dict[str, Any]], **more: Any) -> dict[str, Any]:
        """A piece of an answer that is streamed."""
        kind = "chat.completion.chunk" if self.of_chat else "text_completion"
        return {**self._head(kind), "choices": list(choices), **more}

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}


def usage(*, n_prompt: int, n_cached: int, n_drawn: int) -> dict[str, Any]:
    """What an answer took: tokens of its prompts, those of them that were there already, and tokens drawn."""
    return {
        "prompt_tokens": n_prompt, "completion_tokens": n_drawn, "total_tokens": n_prompt + n_drawn,
        "prompt_tokens_details": {"cached_tokens": n_cached},
    }  # fmt: skip


def drawn_tokens(events: Sequence[Text], end_token: int | None, *, with_end: bool) -> Iterator[TokenLogprob]:
    """The tokens of a text with their log-probabilities; with the one that ended it, where that is wanted."""
    for event in events:
        token = event.token if event.token is not None else end_token
        if token is not None and (event.token is not None or with_end):
            yield TokenLogprob(token, event.logprob, event.top)


def prompt_tokens(tokens: Sequence[int], row: Generated) -> Iterator[TokenLogprob]:
    """The tokens of a prompt with their log-probabilities, which the first one has not."""
    yield TokenLogprob(tokens[0], None)
    for token, logprob, top in zip(tokens[1:], row.prompt_logprobs, row.prompt_top, strict=True):
        yield TokenLogprob(token, logprob, top)


def chat_logprobs(tokens: Sequence[TokenLogprob], spell: Spell) -> dict[str, Any]:
    """Log-probabilities as an answer to a chat has them."""

    def entry(token: int, logprob: float | None) -> dict[str, Any]:
        data = spell(token)
        return {
            "token": data.decode("utf-8", "replace"), "logprob": _finite(logprob), "bytes": list(data)
        }  # fmt: skip

    return {
        "content": [
            {**entry(each.token, each.logprob), "top_logprobs": [entry(*other) for other in each.top]}
            for each in tokens
        ],
        "refusal": None,
    }


def text_logprobs(tokens: Sequence[TokenLogprob], spell: Spell, offset: int = 0) -> dict[str, Any]:
    """Log-probabilities as a completion has them.

    Args:
        tokens: in order.
        spell: the bytes that a token adds.
        offset: characters before the first one; below 0 where the text lacks some that its first tokens spell.
    """
    offsets = []
    for each in tokens:
        offsets.append(max(offset, 0))
        offset += n_chars(spell, each.token)
    names = [_named(spell(each.token)) for each in tokens]
    return {
        "tokens": names,
        "token_logprobs": [None if each.logprob is None else _finite(each.logprob) for each in tokens],
        "top_logprobs": [
            None if each.logprob is None else {_named(spell(token)): _finite(logprob) for token, logprob in each.top}
            for each in tokens
        ],
        "text_offset": offsets,
    }  # fmt: skip


def n_chars(spell: Spell, token: int) -> int:
    """Characters of a token; 0 of one that is a part of a character."""
    return len(spell(token).decode("utf-8", "ignore"))


def _named(data: bytes) -> str:
    """A token's text, which tells tokens apart also where they cut a character."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)


def _finite(logprob: float | None) -> float:
    return LEAST_LOGPROB if logprob is None or not math.isfinite(logprob) else max(logprob, LEAST_LOGPROB)
