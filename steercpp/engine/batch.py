"""What a decode is given: queries, and the passes and batches that packing makes of them.

A row is a token of a decode. Its region, as a query sees it: 0 a prompt token before the last one, 1 the prompt's last
token, 2 a token of a continuation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from steercpp.aliases import Tokens
from steercpp.errors import InputError

IntArray: TypeAlias = npt.NDArray[np.int32]
Shared: TypeAlias = frozenset[tuple[tuple[int, int], tuple[int, int]]]


@dataclass(frozen=True, slots=True)
class Query:
    """A prompt and the continuations whose probabilities are wanted; without any, its last activation or logits are."""

    tokens: Tokens
    continuations: tuple[Tokens, ...] = ()

    def __post_init__(self) -> None:
        if not self.tokens:
            raise InputError("a query's prompt has no tokens; give it some text")
        if not all(self.continuations):
            raise InputError(f"continuation {self.continuations.index(())} of a query has no tokens; give it some text")

    @property
    def n_tokens_plain(self) -> int:
        """Tokens that a loop over the continuations decodes: the prompt again for each longer one."""
        longer = [len(tokens) - 1 for tokens in self.continuations if len(tokens) > 1]
        return max(len(longer), 1) * len(self.tokens) + sum(longer)


@dataclass(frozen=True, slots=True)
class Alignment:
    """What must be alike in two decodes so that a row has the same bits in both; see alignment.py.

    Attributes:
        width: cells of the K/V buffer that are summed together: what a query sees begins at a multiple of it.
        rows: a decode has a multiple of so many rows, and at least 2.
        outputs: and of so many outputs.
    """

    width: int
    rows: int
    outputs: int

    def n_outputs(self, n: int) -> int:
        """Outputs of a decode that needs n."""
        return -(-n // self.outputs) * self.outputs

    def n_rows(self, n: int, n_outputs: int) -> int:
        """Rows of a decode that needs n, of which some are outputs."""
        return max(2, -(-max(n, self.n_outputs(n_outputs)) // self.rows) * self.rows)


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """What a decode may hold.

    Attributes:
        n_batch: tokens of one piece.
        n_ctx: tokens of the memory.
        n_seq_max: sequences; 1 for recurrent models, whose rows llama.cpp regroups.
        n_group: tokens at which a batch ends, beyond what one query needs.
        alignment: keep to it, so that each query has the bits of its own run; None: as is cheapest.
        alone: nothing is decoded together but a prompt and one of its longer continuations.
    """

    n_batch: int
    n_ctx: int
    n_seq_max: int
    n_group: int = 8192
    alignment: Alignment | None = None
    alone: bool = False


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows that are decoded together.

    Attributes:
        n_rows: how many.
        copies: (from, to, n): before it, the first n positions of one sequence belong to another one too.
        trunk: the only sequence that is kept after it; -1: all are.
        places: (n_rows) each row's cell in the K/V buffer, ascending; empty: the first ones that are free.
        n_held: how many cells the trunk before it has, the first ones; only with `places`, like what follows.
        tails: (from, to, first, stop, cell): before the copies, what one sequence has at positions first..stop-1 is
            stored again for another one, from a cell on.
        settle: after it, what the trunk has from this position on moves to the first free cells; -1: nothing.
    """

    n_rows: int
    copies: tuple[tuple[int, int, int], ...] = ()
    trunk: int = -1
    places: tuple[int, ...] = ()
    n_held: int = 0
    tails: tuple[tuple[int, int, int, int, int], ...] = ()
    settle: int = -1

    @property
    def cells(self) -> tuple[tuple[int, ...], int, tuple[tuple[int, int, int, int, int], ...], int]:
        """What the native session is told of where rows lie."""
        return self.places, self.n_held, self.tails, self.settle


@dataclass(frozen=True, slots=True, eq=False)
class Pass:
    """One run from an empty memory, as arrays for the native session. A row is a token; all arrays are read-only.

    Attributes:
        tokens, positions: (n_tokens,) int32.
        owners, regions: (n_tokens,) the place in the batch of one query that holds the row, and the row's region in it:
            0 a prompt token before the last one, 1 the prompt's last token, 2 a token of a continuation.
        seq_offsets, seq_ids: the sequences of row i are seq_ids[seq_offsets[i]:seq_offsets[i + 1]].
        outputs: (n_tokens,) int8, 1 where logits are needed.
        prompt_ends: (n_queries,) int32, the row of each query's last prompt token, for the queries of `prompt_owners`.
        score_rows, score_tokens, score_targets: (n_scores,) int32, ascending by row: the probability of score_tokens[k]
            after row score_rows[k] is a factor of continuation score_targets[k], counted through the batch.
        pieces: how the rows are decoded; their n_rows add up to n_tokens.
    """

    tokens: IntArray
    positions: IntArray
    owners: IntArray
    regions: npt.NDArray[np.int8]
    seq_offsets: IntArray
    seq_ids: IntArray
    outputs: npt.NDArray[np.int8]
    prompt_ends: IntArray
    prompt_owners: IntArray
    score_rows: IntArray
    score_tokens: IntArray
    score_targets: IntArray
    pieces: tuple[Piece, ...]

    def prompt_rows(self) -> tuple[IntArray, ...]:
        """Rows of each query's prompt tokens, from the first on, in the order of `prompt_ends`.

        Rows go through the tree depth first, so that the token before a row is the last one a position lower.
        """
        latest: dict[int, int] = {}
        before = []
        for row, position in enumerate(self.positions.tolist()):
            before.append(latest.get(position - 1, -1))
            latest[position] = row
        paths = []
        for row in self.prompt_ends.tolist():
            rows = []
            while row >= 0:
                rows.append(row)
                row = before[row]
            paths.append(np.array(rows[::-1], np.int32))
        return tuple(paths)


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Whole queries that are decoded together: in one pass, or for a recurrent model in several.

    Attributes:
        queries: the queries.
        members: their places among all queries that were packed; they need not be neighbors.
        passes: the runs, each from an empty memory.
        shared: pairs of (place in the batch, region) that hold a row in common, to be treated alike.
    """

    queries: tuple[Query, ...]
    members: tuple[int, ...]
    passes: tuple[Pass, ...]
    shared: Shared = frozenset()

    @property
    def n_tokens(self) -> int:
        """Tokens that one run of the batch decodes."""
        return sum(len(pass_.tokens) for pass_ in self.passes)

    @property
    def n_tokens_plain(self) -> int:
        """Tokens that a loop over prompts and continuations decodes."""
        return sum(query.n_tokens_plain for query in self.queries)

    @property
    def n_continuations(self) -> int:
        """Continuations of all queries."""
        return sum(len(query.continuations) for query in self.queries)


def with_more_outputs(
    outputs: npt.NDArray[np.int8], pieces: Sequence[Piece], alignment: Alignment | None
) -> npt.NDArray[np.int8]:
    """As many outputs in each piece as an alignment asks for; those that are added are the first rows without.

    Args:
        outputs: (n_tokens,) 1 where logits are needed. Not modified.
        pieces: of the pass.
        alignment: None adds nothing.
    """
    if alignment is None:
        return outputs
    more, first = outputs.copy(), 0
    for piece in pieces:
        of_piece = more[first : first + piece.n_rows]
        n = int(of_piece.sum())
        of_piece[np.flatnonzero(of_piece == 0)[: alignment.n_outputs(n) - n]] = 1
        first += piece.n_rows
    return more
