"""How large a sweep is: numbers of items, tokens and strengths, and the queries that such items are to an engine.

size = SweepSize(n_items=44, n_own=200)
size.queries("scored", n_vocab=32000)
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from steercpp.bench.models import N_SPECIAL
from steercpp.engine.batch import Query
from steercpp.errors import InputError
from steercpp.sweeps.estimate import LoadName

_BOS = 1
MOST = 10_000_000  # of any of the numbers: beyond any sweep


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepSize:
    """A sweep of so much; the numbers by default are those of the built-in set `sentiment` and 200 everyday requests.

    Attributes:
        n_items: behavior and choice items.
        tokens_per_item: of their prompts, what all have in common left out but the begin-of-sequence token.
        answer_tokens: of each of the two continuations of an item.
        n_own: requests that the model answers itself, a third of which choose the strength; 0 for none.
        own_tokens: of their answers; the requests have `tokens_per_item`.
        n_strengths: of the grid, 0 among them.
        n_directions: random ones, and the orthogonal one.
        instruction_tokens: of the prompt baseline's instruction; 0: there is none.
        n_texts: items that are continued by texts at every strength.
        text_tokens, samples: of each text, and how many at each strength.
        finds: whether layers, strengths and the model's own words are found before.

    Raises:
        InputError: a number out of range.

    >>> SweepSize(n_items=8, n_own=9).n_of("telling")
    6
    """

    n_items: int = 44
    tokens_per_item: int = 40
    answer_tokens: int = 4
    n_own: int = 200
    own_tokens: int = 24
    n_strengths: int = 17
    n_directions: int = 9
    instruction_tokens: int = 16
    n_texts: int = 0
    text_tokens: int = 64
    samples: int = 1
    finds: bool = True

    def __post_init__(self) -> None:
        least = {"n_own": 0, "n_directions": 0, "instruction_tokens": 0, "n_texts": 0, "n_strengths": 2}
        for field in fields(self):
            value = getattr(self, field.name)
            if not least.get(field.name, 1) <= value <= MOST and field.name != "finds":
                raise InputError(f"`{field.name}` is {value}; give {least.get(field.name, 1)} to {MOST}")
        if self.n_texts > self.n_items:
            raise InputError(f"`n_texts` is {self.n_texts} of {self.n_items} items; give at most as many")

    def n_of(self, load: LoadName) -> int:
        """How many items of a load there are."""
        choosing = math.ceil(self.n_own / 3)
        return {"scored": self.n_items, "choosing": choosing, "telling": self.n_own - choosing}[load]

    def queries(self, load: LoadName, *, n_vocab: int, n: int | None = None, in_words: bool = False) -> list[Query]:
        """Items as an engine decodes them: what they have in common is their first token, and an instruction.

        Args:
            load: which items.
            n_vocab: of the model.
            n: how many of them; by default all.
            in_words: whether the instruction stands before them.
        """
        rng = np.random.default_rng(0)
        common = (_BOS, *range(N_SPECIAL, N_SPECIAL + self.instruction_tokens * in_words))
        firsts = _different(n_vocab)
        queries = []
        for _ in range(self.n_of(load) if n is None else n):
            prompt = (*common, *next(firsts), *map(int, rng.integers(N_SPECIAL, n_vocab, self.tokens_per_item)))
            tokens = tuple(map(int, rng.integers(N_SPECIAL, n_vocab, self.own_tokens)))
            if load == "scored":
                more = tokens[0] % (n_vocab - N_SPECIAL - 1) + N_SPECIAL
                rest = (*tokens, *tokens * (self.answer_tokens // len(tokens)))[1 : self.answer_tokens]
                answers: tuple[tuple[int, ...], ...] = ((more, *rest), (more + 1, *rest))
            else:
                answers = (tokens,)
            queries.append(Query(prompt[: len(common) + self.tokens_per_item - 1], answers))
        return queries

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def _different(n_vocab: int) -> Iterator[tuple[int, ...]]:
    """Beginnings of prompts of which no two share a first token, as far as there are tokens; then two tokens each."""
    yield from ((token,) for token in range(N_SPECIAL, n_vocab))
    while True:
        yield from ((first, second) for first in range(N_SPECIAL, n_vocab) for second in range(N_SPECIAL, n_vocab))
