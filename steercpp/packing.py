"""From prompts and their continuations to batches of tokens; read this to see what is decoded, and how often.

The prompt of a query is decoded once and shared by all its continuations, and so is what continuations have in
common: the tokens of a query form a tree, and a token belongs to every sequence that passes through it. The last token
of a continuation is only looked up, never decoded, so continuations of one token cost nothing beyond the prompt.

Packing is pure and deterministic: queries are taken in their order, and a batch is closed when the next query does not
fit. The same queries give the same batches, and the same batch decoded again gives the same bits.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from steercpp.errors import ContextOverflowError, InputError

Tokens: TypeAlias = tuple[int, ...]
IntArray: TypeAlias = npt.NDArray[np.int32]


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


@dataclass(frozen=True, slots=True)
class Limits:
    """What one decode may hold: tokens of a batch, tokens of the context, sequences."""

    n_batch: int
    n_ctx: int
    n_seq_max: int


@dataclass(frozen=True, slots=True, eq=False)
class Pass:
    """One decode from an empty memory, as arrays for the native session. A row is a token; all arrays are read-only.

    Attributes:
        tokens, positions, owners: (n_tokens,) int32; owners holds the place of a row's query in the batch.
        seq_offsets, seq_ids: the sequences of row i are seq_ids[seq_offsets[i]:seq_offsets[i + 1]].
        outputs: (n_tokens,) int8, 1 where logits are needed.
        prompt_ends: (n_queries,) int32, the row of each query's last prompt token, for the queries of `prompt_owners`.
        score_rows, score_tokens, score_targets: (n_scores,) int32, ascending by row: the probability of score_tokens[k]
            after row score_rows[k] is a factor of continuation score_targets[k], counted through the batch.
    """

    tokens: IntArray
    positions: IntArray
    owners: IntArray
    seq_offsets: IntArray
    seq_ids: IntArray
    outputs: npt.NDArray[np.int8]
    prompt_ends: IntArray
    prompt_owners: IntArray
    score_rows: IntArray
    score_tokens: IntArray
    score_targets: IntArray


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Whole queries that are decoded together: nearly always in one pass, a query too large for one in several.

    Attributes:
        queries: the queries, in order.
        first: place of the first one among all queries that were packed.
        passes: the decodes, each from an empty memory.
    """

    queries: tuple[Query, ...]
    first: int
    passes: tuple[Pass, ...]

    @property
    def n_tokens(self) -> int:
        """Tokens that one run of the batch decodes."""
        return sum(len(part.tokens) for part in self.passes)

    @property
    def n_continuations(self) -> int:
        """Continuations of all queries."""
        return sum(len(query.continuations) for query in self.queries)


@dataclass(slots=True)
class _Tree:
    """One query, or a part of its continuations, as rows: the prompt, then branches in the order they are met."""

    tokens: list[int]
    n_prompt: int
    parents: list[int] = field(default_factory=list)  # row before each row; -1 before the first
    scores: list[tuple[int, int, int]] = field(default_factory=list)  # row, token looked up, continuation
    children: dict[tuple[int, int], int] = field(default_factory=dict)  # (row, token) -> row

    @classmethod
    def of(cls, query: Query, continuations: Iterable[int]) -> _Tree:
        n_prompt = len(query.tokens)
        tree = cls(list(query.tokens), n_prompt, parents=list(range(-1, n_prompt - 1)))
        for index in continuations:
            row = n_prompt - 1
            *inner, last = query.continuations[index]
            for token in inner:
                tree.scores.append((row, token, index))
                row = tree._child(row, token)
            tree.scores.append((row, last, index))
        return tree

    def _child(self, row: int, token: int) -> int:
        if (row, token) not in self.children:
            self.children[row, token] = len(self.tokens)
            self.tokens.append(token)
            self.parents.append(row)
        return self.children[row, token]

    @property
    def leaves(self) -> list[int]:
        """Rows that nothing follows: a sequence runs from the first row to each of them."""
        inner = set(self.parents)
        return [row for row in range(self.n_prompt - 1, len(self.tokens)) if row not in inner]

    def positions(self) -> list[int]:
        """Number of rows before each row in its sequences."""
        found: list[int] = []
        for parent in self.parents:
            found.append(found[parent] + 1 if parent >= 0 else 0)
        return found

    def memberships(self, first: int) -> list[list[int]]:
        """Sequences of each row, numbered from `first`."""
        rows: list[list[int]] = [[] for _ in self.tokens]
        for seq_id, leaf in enumerate(self.leaves, start=first):
            row = leaf
            while row >= 0:
                rows[row].append(seq_id)
                row = self.parents[row]
        return rows


def pack(queries: Sequence[Query], limits: Limits) -> tuple[Batch, ...]:
    """Batches of whole queries within the limits, in order.

    Raises:
        ContextOverflowError: a query's prompt with its longest continuation needs more positions than the context has.
    """
    batches: list[Batch] = []
    held: list[_Tree] = []

    def close(stop: int) -> None:
        if held:
            first = stop - len(held)
            members = tuple(queries[first:stop])
            batches.append(Batch(members, first, (_lay_out(list(enumerate(held)), _first_targets(members)),)))
            held.clear()

    for index, query in enumerate(queries):
        _check_length(index, query, limits)
        trees = _split(query, limits)
        if len(trees) > 1 or len(trees[0].tokens) > limits.n_batch:
            close(index)
            batches.append(Batch((query,), index, tuple(_lay_out([(0, tree)], [0]) for tree in trees)))
            continue
        n_tokens = sum(len(tree.tokens) for tree in [*held, trees[0]])
        n_sequences = sum(len(tree.leaves) for tree in [*held, trees[0]])
        if n_tokens > limits.n_batch or n_sequences > limits.n_seq_max:
            close(index)
        held.append(trees[0])
    close(len(queries))
    return tuple(batches)


def _check_length(index: int, query: Query, limits: Limits) -> None:
    longest = max((len(continuation) for continuation in query.continuations), default=1)
    n_positions = len(query.tokens) + longest - 1
    if n_positions > limits.n_ctx:
        raise ContextOverflowError(
            f"query {index}: {len(query.tokens)} prompt tokens and {longest - 1} more of its longest continuation "
            f"need {n_positions} positions, the context holds {limits.n_ctx}; shorten it or raise n_ctx"
        )


def _split(query: Query, limits: Limits) -> list[_Tree]:
    """The query as one tree, or as several with the same prompt where a context cannot hold all its continuations."""
    whole = _Tree.of(query, range(len(query.continuations)))
    if len(whole.tokens) <= limits.n_ctx and len(whole.leaves) <= limits.n_seq_max:
        return [whole]
    return [_Tree.of(query, part) for part in _parts(query, limits)]


def _parts(query: Query, limits: Limits) -> Iterator[list[int]]:
    """Runs of continuations that fit, each counted as if it shared nothing but the prompt."""
    part: list[int] = []
    n_tokens = len(query.tokens)
    for index, continuation in enumerate(query.continuations):
        n_more = len(continuation) - 1
        if part and (n_tokens + n_more > limits.n_ctx or len(part) == limits.n_seq_max):
            yield part
            part, n_tokens = [], len(query.tokens)
        part.append(index)
        n_tokens += n_more
    yield part


def _first_targets(queries: Sequence[Query]) -> list[int]:
    """For each query, the number of continuations before its own."""
    ends = np.cumsum([0, *(len(query.continuations) for query in queries)])
    return [int(end) for end in ends[:-1]]


def _lay_out(trees: Sequence[tuple[int, _Tree]], first_targets: Sequence[int]) -> Pass:
    """Arrays of one pass from (place in the batch, tree) pairs: trees one after the other, sequences numbered on."""
    memberships: list[list[int]] = []
    ends: list[int] = []
    scores: list[tuple[int, int, int]] = []
    n_sequences = 0
    for owner, tree in trees:
        start = len(memberships)
        memberships += tree.memberships(n_sequences)
        n_sequences += len(tree.leaves)
        ends.append(start + tree.n_prompt - 1)
        scores += [(start + row, token, first_targets[owner] + index) for row, token, index in tree.scores]
    columns = np.array(sorted(scores, key=lambda score: score[0]), np.int32).reshape(-1, 3)
    outputs = np.zeros(len(memberships), np.int8)
    outputs[ends] = 1
    outputs[columns[:, 0]] = 1
    outputs.setflags(write=False)
    return Pass(
        tokens=_ints(token for _, tree in trees for token in tree.tokens),
        positions=_ints(position for _, tree in trees for position in tree.positions()),
        owners=_ints(owner for owner, tree in trees for _ in tree.tokens),
        seq_offsets=_ints(np.cumsum([0, *map(len, memberships)])),
        seq_ids=_ints(seq_id for row in memberships for seq_id in row),
        outputs=outputs,
        prompt_ends=_ints(ends),
        prompt_owners=_ints(owner for owner, _ in trees),
        score_rows=_ints(columns[:, 0]),
        score_tokens=_ints(columns[:, 1]),
        score_targets=_ints(columns[:, 2]),
    )


def _ints(values: Iterable[int]) -> IntArray:
    array: IntArray = np.fromiter(values, np.int32)
    array.setflags(write=False)
    return array
