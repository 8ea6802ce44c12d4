"""How the next token is drawn: llama.cpp's own samplers by their names."""

from __future__ import annotations

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
