"""Scores of whole sequences: free answers of several tokens, and running texts; read this for what is averaged.

By the chain rule ln P of a sequence is the sum of ln P(token | what is before it). A long one has a tiny P, so means
over items are of the mean per token: its exponential, the geometric mean of the tokens' probabilities, lies between 0
and 1 whatever the length, and its inverse is the perplexity. Pure NumPy; arrays are (n_s, n_items), a row for each
strength, natural logs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from steercpp.errors import InputError, ShapeError, StrengthError
from steercpp.statistics.intervals import RESAMPLES, Resampled, resample
from steercpp.statistics.scores import ROUNDING, Floats

Integers = npt.NDArray[np.int64]
_Self = TypeVar("_Self", bound="SequenceScores")


@dataclass(frozen=True, slots=True)
class SequenceScores:
    """ln P of one sequence for each item.

    Args:
        strengths: (n_s,), each once.
        nats: (n_s, n_items) ln P of the sequence, summed over its tokens.
        n_tokens: (n_items,) how many tokens that are, the same at every strength.

    Raises:
        ShapeError, StrengthError: arrays that do not fit together, strengths that are not distinct numbers.
        InputError: no log-probabilities, or no tokens.
    """

    strengths: Floats
    nats: Floats
    n_tokens: Integers

    def __post_init__(self) -> None:
        strengths = np.asarray(self.strengths, np.float64)
        nats, n_tokens = np.asarray(self.nats, np.float64), np.asarray(self.n_tokens, np.int64)
        if strengths.ndim != 1 or not np.isfinite(strengths).all() or len(np.unique(strengths)) < len(strengths):
            raise StrengthError(f"strengths must be finite and each given once, got {strengths.tolist()}")
        if nats.ndim != 2 or not nats.size or nats.shape != (len(strengths), len(n_tokens)):
            raise ShapeError(f"nats: expected ({len(strengths)}, {len(n_tokens)} >= 1), got {nats.shape}")
        if not (nats <= ROUNDING).all():
            raise InputError(f"nats: expected natural logs of probabilities, found {nats[~(nats <= ROUNDING)][0]}")
        if not (n_tokens > 0).all():
            raise InputError(f"sequence {int(np.argmin(n_tokens > 0))} has no tokens")
        for name, value in zip(("strengths", "nats", "n_tokens"), (strengths, nats, n_tokens), strict=True):
            object.__setattr__(self, name, value)

    @property
    def per_token(self) -> Floats:
        """(n_s, n_items) mean ln P per token."""
        return self.nats / self.n_tokens

    @property
    def p_token(self) -> Floats:
        """(n_s, n_items) geometric mean of the tokens' probabilities, between 0 and 1."""
        return np.asarray(np.exp(np.minimum(self.per_token, 0.0)))

    @property
    def item_perplexity(self) -> Floats:
        """(n_s, n_items) perplexity of each sequence, 1 / p_token."""
        with np.errstate(over="ignore"):
            return np.asarray(np.exp(-self.per_token))

    @property
    def perplexity(self) -> Floats:
        """(n_s,) perplexity over all tokens of all items."""
        with np.errstate(over="ignore"):
            return np.asarray(np.exp(-self.nats.sum(axis=1) / self.n_tokens.sum()))

    @property
    def mean_nats(self) -> Floats:
        """(n_s,) mean of `nats` over items."""
        return np.asarray(self.nats.mean(axis=1))

    @property
    def mean_per_token(self) -> Floats:
        """(n_s,) mean of `per_token` over items."""
        return np.asarray(self.per_token.mean(axis=1))

    @property
    def mean_p_token(self) -> Floats:
        """(n_s,) mean of `p_token` over items."""
        return np.asarray(self.p_token.mean(axis=1))

    def p_token_interval(
        self, *, rng: np.random.Generator, resamples: int = RESAMPLES, confidence: float = 0.95
    ) -> Resampled:
        """Bounds of `mean_p_token`, k = n_s, by resampling items; see intervals.py for how few items it takes."""
        return resample(self.p_token, lambda m: m, rng=rng, resamples=resamples, confidence=confidence)

    def perplexity_interval(
        self, *, rng: np.random.Generator, resamples: int = RESAMPLES, confidence: float = 0.95
    ) -> Resampled:
        """Bounds of `perplexity`, k = n_s, by resampling items: a text is drawn with all its tokens."""

        def of(means: Floats) -> Floats:
            with np.errstate(over="ignore"):
                return np.asarray(np.exp(-means[:, :-1] / means[:, -1:]))

        rows = np.vstack([self.nats, self.n_tokens.astype(np.float64)])
        return resample(rows, of, rng=rng, resamples=resamples, confidence=confidence)

    def take(self: _Self, items: npt.NDArray[np.intp]) -> _Self:
        """The same strengths, these items only."""
        return type(self)(self.strengths, self.nats[:, items], self.n_tokens[items])


@dataclass(frozen=True, slots=True)
class AnswerScores(SequenceScores):
    """ln P of the answer of each item. Of several right answers it is the one that is likeliest per token unsteered."""


@dataclass(frozen=True, slots=True)
class TextScores(SequenceScores):
    """ln P of the tokens of each text after the first one, which is the begin-of-sequence token where there is one."""


def likeliest_answer(chains: list[Floats]) -> int:
    """Which of an item's answers has the highest mean ln P per token; of equal ones the first.

    Args:
        chains: for each answer (n_tokens,) ln P(token | prompt and tokens before).
    """
    return int(np.argmax([chain.mean() for chain in chains]))
