"""From prompts and their continuations to batches of tokens; read this to see what is decoded, and how often.

What queries have in common from their first token on, tokens and treatment alike, is decoded once and belongs to every
sequence that passes through it: a system prompt, a few-shot head, the question above its choices. So all queries are
one tree, in which every distinct beginning is one node. The last token of a continuation is only looked up, never
decoded, so continuations of one token cost nothing beyond the prompt.

A batch is one run from an empty memory, in pieces that are decoded one after the other. What the next piece shares with
those before it, the trunk, stays in the memory; everything else is dropped. docs/packing.md tells the rules.

Packing is pure and deterministic: the same queries give the same batches, and the same batch decoded again gives the
same bits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from steercpp.engine.aligned import AlignedDraft
from steercpp.engine.batch import Alignment, Batch, BatchLimits, Pass, Piece, Query, Shared, with_more_outputs
from steercpp.engine.prefix_tree import Keys, Path, Tree
from steercpp.engine.tree_walk import Walk
from steercpp.errors import ContextOverflowError, InputError

__all__ = ["Batch", "BatchLimits", "Pass", "Piece", "Query", "lay_out_together", "pack"]


def pack(queries: Sequence[Query], limits: BatchLimits, *, keys: Sequence[Keys] | None = None) -> tuple[Batch, ...]:
    """Batches of whole queries within the limits.

    Args:
        queries: what is to be decoded.
        limits: of the context.
        keys: for each query how the rows of its three regions are treated; only rows treated alike are shared.

    Raises:
        ContextOverflowError: a query's prompt with its longest continuation needs more positions than the context has.
    """
    for index, query in enumerate(queries):
        _check_length(index, query, limits)
    if limits.n_seq_max < 3 or limits.alone:  # no room for the trunk
        return tuple(_alone(index, query, limits) for index, query in enumerate(queries))
    return tuple(_batches(Walk(queries, Tree.of(queries, keys), limits))) if queries else ()


def lay_out_together(queries: Sequence[Query], limits: BatchLimits, *, keys: Sequence[Keys] | None = None) -> Pass:
    """One pass that holds all queries' prompts at once, query i in sequence i, to go on from token by token.

    Raises:
        ContextOverflowError: they do not fit into the context together.
        InputError: more queries than sequences.
    """
    if not 1 <= len(queries) <= limits.n_seq_max:
        raise InputError(f"{len(queries)} rows do not fit into {limits.n_seq_max} sequences; give 1 to that many")
    tree = Tree.of([Query(query.tokens) for query in queries], keys)
    n_rows = len(tree.tokens)
    if n_rows > limits.n_ctx:
        raise ContextOverflowError(
            f"the prompts need {n_rows} tokens together, the context holds {limits.n_ctx}; "
            "shorten them, or raise `n_ctx`"
        )
    sequences: list[list[int]] = [[] for _ in tree.tokens]
    for index, path in enumerate(tree.paths):
        for node in path.nodes:
            sequences[node].append(index)
    pieces = [Piece(min(limits.n_batch, n_rows - first)) for first in range(0, n_rows, limits.n_batch)]
    return _arrays(tree, list(range(n_rows)), sequences, pieces, tree.paths)[0]


def _check_length(index: int, query: Query, limits: BatchLimits) -> None:
    longest = max((len(continuation) for continuation in query.continuations), default=1)
    n_positions = len(query.tokens) + longest - 1
    n_filled = limits.alignment.n_rows(1, 1) - 1 if limits.alignment else 0
    if n_positions + n_filled > limits.n_ctx:
        more = f" and `exact` {n_filled} more" if n_filled else ""
        raise ContextOverflowError(
            f"query {index}: {len(query.tokens)} prompt tokens and {longest - 1} more of its longest continuation "
            f"need {n_positions} positions{more}, the context holds {limits.n_ctx}; shorten it or raise `n_ctx`"
        )


def _alone(index: int, query: Query, limits: BatchLimits) -> Batch:
    """A query of a recurrent model: each of its longer continuations in a pass of its own, with what begins it."""
    single = [i for i, tokens in enumerate(query.continuations) if len(tokens) == 1]
    chains = _chains(query.continuations)
    passes = []
    for members in [(chains[0] if chains else []) + single, *chains[1:]]:
        tree = Tree.of([Query(query.tokens, tuple(query.continuations[i] for i in members))], None)
        (path,) = tree.paths
        path.scores = [(node, token, members[i]) for node, token, i in path.scores]
        n_rows = len(tree.tokens)
        pieces = [Piece(min(limits.n_batch, n_rows - first)) for first in range(0, n_rows, limits.n_batch)]
        passes.append(_arrays(tree, list(range(n_rows)), [[0]] * n_rows, pieces, [path])[0])
    return Batch((query,), (index,), tuple(passes))


def _chains(continuations: Sequence[tuple[int, ...]]) -> list[list[int]]:
    """Indices of the longer continuations, those together of which one is the beginning of the other."""
    chains: dict[tuple[int, ...], list[int]] = {}  # by the longest of each
    longer = [i for i, tokens in enumerate(continuations) if len(tokens) > 1]
    for i in sorted(longer, key=lambda i: (-len(continuations[i]), i)):
        tokens = continuations[i]
        longest = next((chain for chain in chains if chain[: len(tokens)] == tokens), tokens)
        chains.setdefault(longest, []).append(i)
    return sorted(chains.values(), key=lambda chain: chain[0])


def _batches(walk: Walk) -> Iterator[Batch]:
    """All batches, one after the other."""
    tree, alignment, start = walk.tree, walk.limits.alignment, 0
    while start < len(walk.order):
        batch = _Draft(walk, start) if alignment is None else AlignedDraft(walk, start)
        batch.fill()
        start = batch.stop
        members = walk.members(start)
        paths = [tree.paths[index] for index in members]
        pass_, shared = _arrays(tree, batch.nodes, batch.sequences, batch.pieces, paths, alignment)
        yield Batch(tuple(walk.queries[index] for index in members), members, (pass_,), shared)


class _Draft:
    """A batch in work: its rows are the head, on which its first own node depends, and then nodes in their order."""

    def __init__(self, walk: Walk, start: int) -> None:
        self.walk, self.tree, self.start = walk, walk.tree, start
        self.head = walk.tree.ancestors(walk.order[start])
        self.n_rows = len(self.head) + len(walk.order) - start  # if it took all that is left
        self.sequences: list[list[int]] = []
        self.pieces: list[Piece] = []

    def node(self, row: int) -> int:
        """The node of a row."""
        return self.head[row] if row < len(self.head) else self.walk.order[self.place(row)]

    @property
    def nodes(self) -> list[int]:
        """The node of each row."""
        return [self.node(row) for row in range(len(self.sequences))]

    @property
    def stop(self) -> int:
        """Place in the tree's order behind its last row."""
        return self.place(len(self.sequences))

    def place(self, row: int) -> int:
        """Place in the tree's order of a row behind the head."""
        return self.start + row - len(self.head)

    def fill(self) -> None:
        """Add pieces until the batch may end."""
        trunk = -1
        while True:
            first = len(self.sequences)
            stop = self._piece_stop(first)
            goes_on = not self._may_end(stop)
            copies = self._add_sequences(first, stop, trunk, goes_on)
            trunk = 1 if trunk == 0 else 0
            self.pieces.append(Piece(stop - first, tuple(copies), trunk if goes_on else -1))
            if not goes_on:
                return

    def _may_end(self, stop: int) -> bool:
        if stop == self.n_rows:
            return True
        if stop <= len(self.head) or not self.walk.clean[self.place(stop)]:
            return False
        n_trunk = self.tree.depths[self.node(stop)]
        return self.walk.worth_ending(stop - len(self.head), n_trunk, stop)

    def _piece_stop(self, first: int) -> int:
        """Where a piece ends that begins at row `first`."""
        limits, tree = self.walk.limits, self.tree
        most = min(self.n_rows, first + limits.n_batch, first + limits.n_ctx - tree.depths[self.node(first)])
        inside, inner, n_leaves, best = set(), set(), 0, None
        for row in range(first, most):
            node = self.node(row)
            parent = tree.parents[node]
            if row > first and self._begins_branch(row, parent):
                best = row
            if parent not in inside or parent in inner:
                n_leaves += 1
            if n_leaves > limits.n_seq_max - 2:
                most = row
                break
            inside.add(node)
            inner.add(parent)
        if most == self.n_rows or (most > len(self.head) and self._begins_branch(most, tree.parents[self.node(most)])):
            return most
        return best or most

    def _begins_branch(self, row: int, parent: int) -> bool:
        """Whether a clean cut lies before the row, and it does not just go on from the row before."""
        if row <= len(self.head):
            return False
        place = self.place(row)
        return bool(self.walk.clean[place]) and self.walk.order[place - 1] != parent

    def _add_sequences(self, first: int, stop: int, trunk: int, goes_on: bool) -> list[tuple[int, int, int]]:
        """Give the rows of a piece their sequences; the copies from the trunk that these need before it."""
        tree = self.tree
        nodes = [self.node(row) for row in range(first, stop)]
        row_of = {node: first + i for i, node in enumerate(nodes)}
        self.sequences += [[] for _ in nodes]
        copies: list[tuple[int, int, int]] = []

        def climb(node: int, sequence: int) -> None:
            n_before = tree.depths[node] + 1
            while node in row_of:
                self.sequences[row_of[node]].append(sequence)
                n_before = tree.depths[node]
                node = tree.parents[node]
            if n_before:
                copies.append((trunk, sequence, n_before))

        inner = {tree.parents[node] for node in nodes}
        kept: set[int] = set()
        if goes_on:
            kept = {tree.parents[self.node(stop)], *tree.ancestors(tree.parents[self.node(stop)])}
        leaves = [node for node in nodes if node not in inner and node not in kept]
        for sequence, leaf in enumerate(leaves, start=2):
            climb(leaf, sequence)
        if goes_on:
            climb(tree.parents[self.node(stop)], 1 if trunk == 0 else 0)
        return copies


def _arrays(
    tree: Tree, nodes: Sequence[int], sequences: Sequence[Sequence[int]], pieces: Sequence[Piece],
    paths: Sequence[Path], alignment: Alignment | None = None,
) -> tuple[Pass, Shared]:  # fmt: skip
    """The arrays of a pass over these nodes, and which of its queries share rows."""
    row_of: dict[int, int] = {}  # of a node that is decoded again, the first row
    for row, node in enumerate(nodes):
        row_of.setdefault(node, row)
    first_row = np.array([row_of[node] for node in nodes])
    owners, regions = np.full(len(nodes), -1), np.zeros(len(nodes), int)
    shared: set[tuple[tuple[int, int], tuple[int, int]]] = set()
    ends, scores, first_target = [], [], 0
    for owner, path in enumerate(paths):
        for place, node in enumerate(path.nodes):
            row, region = row_of[node], path.region(place)
            if owners[row] < 0:
                owners[row], regions[row] = owner, region
            else:
                shared.add(((int(owners[row]), int(regions[row])), (owner, region)))
        ends.append(row_of[path.prompt_end])
        scores += [(row_of[node], token, first_target + index) for node, token, index in path.scores]
        first_target += 1 + max((index for *_, index in path.scores), default=-1)
    columns = np.array(sorted(scores), np.int32).reshape(-1, 3)
    outputs = np.zeros(len(nodes), np.int8)
    outputs[ends] = 1
    outputs[columns[:, 0]] = 1
    outputs = with_more_outputs(outputs, pieces, alignment)
    pass_ = Pass(
        tokens=_frozen([tree.tokens[node] for node in nodes]),
        positions=_frozen([tree.depths[node] for node in nodes]),
        owners=_frozen(owners[first_row]), regions=_frozen(regions[first_row], np.int8),
        seq_offsets=_frozen(np.cumsum([0, *map(len, sequences)])),
        seq_ids=_frozen([sequence for row in sequences for sequence in row]),
        outputs=_frozen(outputs, np.int8), prompt_ends=_frozen(ends), prompt_owners=_frozen(range(len(ends))),
        score_rows=_frozen(columns[:, 0]), score_tokens=_frozen(columns[:, 1]), score_targets=_frozen(columns[:, 2]),
        pieces=tuple(pieces),
    )  # fmt: skip
    return pass_, frozenset(shared)


def _frozen(values: Any, kind: Any = np.int32) -> Any:
    array = np.array(values, kind)
    array.setflags(write=False)
    return array
