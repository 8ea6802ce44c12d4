"""What passes over a batch give: the unsteered base, and measures of the next token."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from steercpp.engine.batch import Batch, Pass

if TYPE_CHECKING:
    from steercpp.engine.session import Kept, Result, Session

Floats: TypeAlias = npt.NDArray[np.float64]


@dataclass(slots=True, eq=False)
class Base:
    """The unsteered pass of a batch, and what it kept so that steered ones start above the layers below.

    Attributes:
        session, batch: whose.
        first_layer: the lowest layer that may be steered.
        logprobs: as `Engine.logprobs`, unsteered.
        reason: why passes are run in full; "" where they are resumed.
        keeps_logits: whether KL can be told.
        n_bytes: memory of what is kept.
        token_layers: tokens times blocks computed for it.
    """

    session: Session
    batch: Batch
    first_layer: int
    logprobs: list[Floats]
    reason: str
    keeps_logits: bool
    n_bytes: int
    token_layers: int
    kept: tuple[Kept, ...]

    @property
    def resumed(self) -> bool:
        """Whether passes start above the layers below."""
        return not self.reason


@dataclass(frozen=True, slots=True, eq=False)
class Measures:
    """What a batch's output rows say about the next token, in the order of the rows.

    Attributes:
        prompt_outputs: (n_queries,) the output row at the end of each query's prompt.
        entropy: (n_outputs,) nats.
        kl: (n_outputs,) nats, KL(steered || unsteered).
        top_tokens, top_logprobs: (n_outputs, top_k), most likely first.
        token_layers: tokens times blocks computed for them.
    """

    prompt_outputs: npt.NDArray[np.int64]
    entropy: Floats
    kl: Floats
    top_tokens: npt.NDArray[np.int32]
    top_logprobs: Floats
    token_layers: int


def summed(batch: Batch, runs: Iterable[tuple[Pass, Result]]) -> list[Floats]:
    """Each continuation's log-probability, (n_continuations,) for each query, from the runs of a batch's passes."""
    total = np.zeros(batch.n_continuations)
    for part, result in runs:
        total += np.bincount(part.score_targets, weights=result.logprobs, minlength=len(total))
    return np.split(total, np.cumsum([len(query.continuations) for query in batch.queries])[:-1])
