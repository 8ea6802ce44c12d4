"""The items of one kind as what is decoded of them and stored; made by task_work.py, measured by measure.py."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from steercpp.data.tasks import Item
from steercpp.engine.batch import Batch, Query, Tokens
from steercpp.engine.steering import PerQuery, Steering
from steercpp.runs.store import Continuation

Floats: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Work:
    """The items of one kind, ready to be decoded.

    Attributes:
        kind: "behavior", "choice", "answer" or "text".
        items: as given.
        continuations: what is scored, item after item.
        queries: one for each item.
        batches: the queries, packed.
        is_open: for each query, whether its gate is open; all are without a gate.
        notes: what of the scoring is not as usual, in sentences.
        chains: for each query the tokens of its answers, whose beginnings its continuations are; empty where
            continuations are scored as a whole.
    """

    kind: str
    items: tuple[Item, ...]
    continuations: tuple[Continuation, ...]
    queries: tuple[Query, ...]
    batches: tuple[Batch, ...]
    is_open: tuple[bool, ...]
    notes: tuple[str, ...] = ()
    chains: tuple[tuple[Tokens, ...], ...] = ()

    def steering(self, batch: Batch, steering: Steering) -> PerQuery:
        """What steers each query of a batch: the same, where its gate is open."""
        ungated = replace(steering, gate=None)
        return [ungated if self.is_open[member] else None for member in batch.members]

    def scores(self, member: int, logprobs: Floats) -> Floats:
        """What is stored of one query: its continuations' logprobs, or those of the answers' tokens one by one."""
        if not self.chains:
            return logprobs
        steps = np.diff(logprobs, prepend=0.0)
        starts = np.cumsum([0, *(len(answer) for answer in self.chains[member])])[:-1]
        steps[starts] = logprobs[starts]
        return steps

    def sides(self) -> list[list[str]]:
        """For each item the sides of its continuations, in order."""
        found: list[list[str]] = [[] for _ in self.items]
        for part in self.continuations:
            found[part.item].append(part.side)
        return found

    @property
    def prompts(self) -> list[Tokens]:
        """Tokens of each query's prompt; of a text, all of them."""
        whole = self.kind == "text"
        return [query.tokens + (query.continuations[0] if whole else ()) for query in self.queries]

    @property
    def n_tokens(self) -> int:
        """Tokens decoded for one pass over the items."""
        return sum(batch.n_tokens for batch in self.batches)

    @property
    def n_tokens_plain(self) -> int:
        """Tokens that a plain loop decodes for it: each prompt anew for each of its longer continuations."""
        queries = self.queries
        if self.chains:
            queries = tuple(Query(query.tokens, one) for query, one in zip(queries, self.chains, strict=True))
        return sum(query.n_tokens_plain for query in queries)
