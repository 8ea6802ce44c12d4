"""From logits to text: how the next token is drawn, by llama.cpp's own samplers, and how the text of tokens grows."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from dataclasses import dataclass

from steercpp.errors import InputError


@dataclass(frozen=True, slots=True)
class Sampling:
    """One sampler chain: top-k, top-p, min-p, then temperature, in llama.cpp's order.

    Attributes:
        temperature: 0 takes the most likely token, and nothing else counts.
        top_k: the most likely tokens that stay; 0 for all.
        top_p: the share of probability that stays; 1 for all.
        min_p: the least probability that stays, relative to the most likely token's; 0 for all.
        seed: of the draws.

    Raises:
        InputError: a value out of range.

    >>> Sampling(temperature=0.7, top_p=0.9, seed=1)
    Sampling(temperature=0.7, top_k=0, top_p=0.9, min_p=0.0, seed=1)
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < 100:
            raise InputError(f"temperature is {self.temperature}; give 0 for the most likely token, or up to 100")
        if self.top_k < 0:
            raise InputError(f"top_k is {self.top_k}; give 0 for all tokens, or how many")
        if not 0 < self.top_p <= 1 or not 0 <= self.min_p <= 1:
            raise InputError(f"top_p is {self.top_p} and min_p {self.min_p}; give shares of 1")
        if not 0 <= self.seed < 2**32 - 1:  # the last one is LLAMA_DEFAULT_SEED, a new seed each time
            raise InputError(f"seed is {self.seed}; give 0..4294967294")


class TextStream:
    """The text of one row as it grows: whole characters only, and nothing of a stop string.

    Attributes:
        text: what was given out.
        stopped: whether a stop string was met; then no more comes.
    """

    def __init__(self, stop: Sequence[str] = ()) -> None:
        self.text = ""
        self.stopped = False
        self._stop = tuple(stop)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""  # may be the start of a stop string

    def add(self, piece: bytes) -> str:
        """The text that is certain once these bytes are there: characters cut in two wait, as may a stop string."""
        return self._give(self._held + self._decoder.decode(piece))

    def finish(self) -> str:
        """What was held back, once nothing more can come."""
        if self.stopped:
            return ""
        rest = self._give(self._held + self._decoder.decode(b"", True))
        if not self.stopped:
            rest += self._held
            self.text += self._held
            self._held = ""
        return rest

    def _give(self, text: str) -> str:
        starts = [text.index(stop) for stop in self._stop if stop in text]
        if starts:
            self.stopped = True
            text, self._held = text[: min(starts)], ""
        else:
            n_held = max((_overlap(text, stop) for stop in self._stop), default=0)
            text, self._held = text[: len(text) - n_held], text[len(text) - n_held :]
        self.text += text
        return text


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of the text that a stop string starts with."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)
