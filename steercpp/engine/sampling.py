"""From logits to text: how the next token is drawn, by llama.cpp's own samplers, and how the text of tokens grows."""

from __future__ import annotations

import codecs
import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from steercpp.engine.session import Sampler
from steercpp.errors import InputError

# Beyond these a logit could leave float32's range.
LEAST_TEMPERATURE = 1e-6
MOST_ADDED = 1e6
MOST_REPEAT_PENALTY = 1000.0
MOST_LAST_N = 2**20  # llama.cpp makes room for as many at once


@dataclass(frozen=True, slots=True)
class Sampling:
    """One sampler chain: logit bias, penalties, top-k, top-p, min-p, then temperature, in llama.cpp's order.

    Attributes:
        temperature: 0 takes the most likely token once bias and penalties are applied; the rest does not count.
        top_k: the most likely tokens that stay; 0 for all.
        top_p: the share of probability that stays; 1 for all.
        min_p: the least probability that stays, relative to the most likely token's; 0 for all.
        seed: of the draws.
        repeat_penalty: the logit of a token among the last ones is divided by it where it is above 0, else multiplied;
            1 for none.
        frequency_penalty: taken from a token's logit for each time it is among the last ones.
        presence_penalty: taken from a token's logit once if it is among them.
        repeat_last_n: how many tokens penalties look back over, those of the prompt among them.
        logit_bias: (token, bias) pairs: what is added to a token's logit; -infinity bans it.

    Raises:
        InputError: a value out of range.

    >>> sampling = Sampling(temperature=0.7, top_p=0.9, seed=1, logit_bias=((15, -2.0),))
    >>> sampling.repeat_penalty, sampling.repeat_last_n, sampling.logit_bias
    (1.0, 64, ((15, -2.0),))
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    seed: int = 0
    repeat_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    repeat_last_n: int = 64
    logit_bias: tuple[tuple[int, float], ...] = ()

    def __post_init__(self) -> None:
        if not (self.temperature == 0 or LEAST_TEMPERATURE <= self.temperature < 100):
            raise InputError(
                f"temperature is {self.temperature}; give 0 for the most likely token, or a number from "
                f"{LEAST_TEMPERATURE:g} to less than 100"
            )
        for name, value in (("top_k", self.top_k), ("seed", self.seed), ("repeat_last_n", self.repeat_last_n)):
            if not isinstance(value, int | np.integer):
                raise InputError(f"{name} is {value!r}; give a whole number")
        if not 0 <= self.top_k < 2**31:
            raise InputError(f"top_k is {self.top_k}; give 0 for all tokens, or how many")
        if not 0 < self.top_p <= 1:
            raise InputError(f"top_p is {self.top_p}; give 1 for all tokens, or a share above 0")
        if not 0 <= self.min_p <= 1:
            raise InputError(f"min_p is {self.min_p}; give 0 for all tokens, or a share up to 1")
        if not 0 <= self.seed < 2**32 - 1:  # the last one is LLAMA_DEFAULT_SEED, a new seed each time
            raise InputError(f"seed is {self.seed}; give 0..4294967294")
        if not 1 / MOST_REPEAT_PENALTY <= self.repeat_penalty <= MOST_REPEAT_PENALTY:
            raise InputError(
                f"`repeat_penalty` is {self.repeat_penalty}; give 1 for none, or 0.001 to {MOST_REPEAT_PENALTY:g}"
            )
        for name in ("frequency_penalty", "presence_penalty"):
            if not abs(penalty := getattr(self, name)) <= MOST_ADDED:
                raise InputError(f"`{name}` is {penalty}; give 0 for none, or -1000000 to 1000000")
        if not 0 <= self.repeat_last_n <= MOST_LAST_N:
            raise InputError(f"`repeat_last_n` is {self.repeat_last_n}; give 0 to {MOST_LAST_N} tokens")
        named: set[int] = set()
        for token, bias in self.logit_bias:
            if not isinstance(token, int | np.integer):
                raise InputError(f"`logit_bias` names token {token!r}; give the number of a token")
            if not (abs(bias) <= MOST_ADDED or bias == -math.inf):
                raise InputError(
                    f"`logit_bias` of token {token} is {bias}; give -1000000 to 1000000, or -inf to ban it"
                )
            if token in named:
                raise InputError(f"`logit_bias` names token {token} twice; give one bias for each token")
            named.add(token)

    def check_tokens(self, n_vocab: int) -> None:
        """Refuse biases of tokens that a vocabulary of this size does not have, and a ban on all that it has.

        Raises:
            InputError: which token, and what the vocabulary has.
        """
        for token, _ in self.logit_bias:
            if not 0 <= token < n_vocab:
                raise InputError(f"`logit_bias` names token {token}; the model has tokens 0 to {n_vocab - 1}")
        if sum(bias == -math.inf for _, bias in self.logit_bias) == n_vocab:
            raise InputError("`logit_bias` bans every token of the model; leave some")

    def sampler(self, n_vocab: int, tokens: Sequence[int]) -> Sampler:
        """A new sampler of this kind for one row.

        Args:
            n_vocab: of the model.
            tokens: the row's so far, which penalties look back over.

        Raises:
            InputError: a bias of a token that the model does not have.
        """
        self.check_tokens(n_vocab)
        made = Sampler(n_vocab=n_vocab, **asdict(self))
        for token in tokens[max(len(tokens) - self.repeat_last_n, 0) :]:
            made.accept(token)
        return made


def parse_bias(words: str) -> tuple[int, float]:
    """A token and its bias, written as llama.cpp's programs take them.

    Raises:
        InputError: it is not written like that.

    >>> parse_bias("15043+1.5"), parse_bias("2-inf")
    ((15043, 1.5), (2, -inf))
    """
    found = re.fullmatch(r"\s*(\d{1,9})\s*([+-])\s*(inf|\d*\.?\d+(?:[eE][+-]?\d+)?|\d+\.)\s*", words)
    if not found:
        raise InputError(f"{words!r} is no token with its bias; write it as 15043+1, 15043-1 or 15043-inf")
    token, sign, amount = found.groups()
    return int(token), float(sign + amount)


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
