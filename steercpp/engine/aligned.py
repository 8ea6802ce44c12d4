"""Batches in which every query has the bits of its own run; read this to see where rows lie in the K/V buffer.

llama.cpp sums attention over the cells of the K/V buffer a vector's width at a time, masked cells included, as zeros
that change nothing. So a row keeps its bits where what it sees lies in whole chunks of that width, each token at its
position modulo the width, the chunks in order. A query that branches off in the middle of a chunk needs a chunk of its
own there, with the tokens before it once more: those of the trunk are copied, those of the same piece decoded again.

The numbers of a decode's rows and outputs decide too which of llama.cpp's kernels computes a row: both are filled up.
"""

from __future__ import annotations

from dataclasses import dataclass

from steercpp.engine.batch import Piece
from steercpp.engine.tree_walk import Walk

N_OWN_SEQUENCES = 2  # the session's: of cells that nobody sees, and of what it moves

_N_KV = 256  # llama.cpp attends over a multiple of so many cells
_ROOM = 128  # cells that a piece has beside the trunk, at the least
_MOST_AGAIN = 8  # rows that a piece decodes again rather than end where they branch off


@dataclass(slots=True)
class _Chain:
    """Rows of a piece of which each is the next one's parent.

    Attributes:
        nodes: from the first one that nothing before it in the piece is.
        depth: of the first node.
        base: position from which on it has chunks of its own.
        cell: where that is; for the first chain where its first node lies.
        n_held: how many tokens before it are the trunk's.
    """

    nodes: list[int]
    depth: int
    base: int
    cell: int
    n_held: int

    @property
    def n_again(self) -> int:
        """Rows of the same piece that are decoded again for it."""
        return self.depth - max(self.n_held, self.base) if self.depth > self.n_held else 0

    @property
    def end(self) -> int:
        """The cell behind its last one."""
        return self.cell + self.depth - self.base + len(self.nodes)


class AlignedDraft:
    """A batch in work, as in packing.py: the nodes of the head, on which its first own node depends, then others.

    Attributes:
        nodes, sequences: of each row; a node can have several rows.
        pieces: of the rows.
        stop: place in the tree's order behind its last node.
    """

    def __init__(self, walk: Walk, start: int) -> None:
        alignment = walk.limits.alignment
        assert alignment is not None
        self.walk, self.tree, self.start, self.alignment = walk, walk.tree, start, alignment
        self.head = walk.tree.ancestors(walk.order[start])
        self.n_line = len(self.head) + len(walk.order) - start
        self.nodes: list[int] = []
        self.sequences: list[list[int]] = []
        self.pieces: list[Piece] = []
        self.stop = start

    def fill(self) -> None:
        """Add pieces until the batch may end."""
        first, trunk = 0, -1
        while True:
            chains = self._chains(first)
            stop = first + sum(len(chain.nodes) for chain in chains)
            goes_on = not self._may_end(stop)
            n_kept = self.tree.depths[self._node(stop)] if goes_on else 0
            self._lay_out(chains, trunk, n_kept)
            if not goes_on:
                self.stop = self._place(stop)
                return
            first, trunk = stop, 1 if trunk == 0 else 0

    def _node(self, index: int) -> int:
        return self.head[index] if index < len(self.head) else self.walk.order[self._place(index)]

    def _place(self, index: int) -> int:
        return self.start + index - len(self.head)

    def _may_end(self, stop: int) -> bool:
        if stop == self.n_line:
            return True
        if stop <= len(self.head) or not self.walk.clean[self._place(stop)]:
            return False
        n_trunk = self.tree.depths[self._node(stop)]
        return self.walk.worth_ending(stop - len(self.head), n_trunk, max(stop, len(self.nodes)))

    def _chains(self, first: int) -> list[_Chain]:
        """The nodes of the piece that begins with one, in chains, with their places."""
        limits, tree, alignment = self.walk.limits, self.tree, self.alignment
        width = alignment.width
        n_trunk = n_held = tree.depths[self._node(first)]
        most_cells = min(limits.n_ctx, -(-(n_trunk + _ROOM) // _N_KV) * _N_KV)
        most_chains = limits.n_seq_max - N_OWN_SEQUENCES - 2 - alignment.n_rows(1, 1)
        chains: list[_Chain] = []
        n_rows = n_outputs = n_nodes = 0
        best = None  # nodes up to the last clean cut
        for index in range(first, self.n_line):
            node = self._node(index)
            depth = tree.depths[node]
            goes_down = index == first or tree.parents[node] == self._node(index - 1)
            if not goes_down and self._begins_branch(index):
                best = n_nodes
            if goes_down and chains:
                chain = chains[-1]
                more = 1
                end = chain.end + 1
            else:
                base = depth if not chains else depth - depth % width
                cell = n_trunk if not chains else -(-chains[-1].end // width) * width
                n_held = min(n_held, depth)
                chain = _Chain([], depth, base, cell, n_held)
                more = 1 + chain.n_again
                end = chain.end + 1
            n_more = n_outputs + (node in self.walk.output_nodes)
            n_filled = alignment.n_rows(n_rows + more, n_more)
            full = (
                n_filled > limits.n_batch
                or end + n_filled - n_rows - more > most_cells
                or (not goes_down and len(chains) == most_chains)
            )
            if full and n_nodes:
                break
            if not goes_down or not chains:
                chains.append(chain)
            chains[-1].nodes.append(node)
            n_rows, n_outputs, n_nodes = n_rows + more, n_more, n_nodes + 1
        else:
            index = self.n_line
        begins_branch = index == self.n_line or (
            tree.parents[self._node(index)] != self._node(index - 1) and self._begins_branch(index)
        )
        wanted = n_nodes if begins_branch or best is None else best
        return self._first_nodes(chains, min(wanted, self._before_much_again(chains, n_trunk)))

    def _begins_branch(self, index: int) -> bool:
        return index > len(self.head) and bool(self.walk.clean[self._place(index)])

    @staticmethod
    def _before_much_again(chains: list[_Chain], n_trunk: int) -> int:
        """How many nodes of the first chain make a piece of their own, as too much would be decoded again behind it."""
        behind = []  # chains that branch off from the first one, or from one of these
        for chain in chains[1:]:
            if chain.depth <= n_trunk:
                break
            behind.append(chain)
        n_again = sum(chain.n_again for chain in behind)
        n_first = min((chain.depth for chain in behind), default=0) - n_trunk
        return n_first if n_again > _MOST_AGAIN else sum(len(chain.nodes) for chain in chains)

    @staticmethod
    def _first_nodes(chains: list[_Chain], n: int) -> list[_Chain]:
        first = []
        for chain in chains:
            if n > 0:
                chain.nodes = chain.nodes[:n]
                first.append(chain)
            n -= len(chain.nodes)
        return first

    def _lay_out(self, chains: list[_Chain], trunk: int, n_kept: int) -> None:
        """Give the rows of a piece their cells and sequences; what is copied before it, and moved after it."""
        tree, n_trunk = self.tree, chains[0].depth
        row_first = len(self.nodes)
        places: list[int] = []
        copies: list[tuple[int, int, int]] = []
        tails: list[tuple[int, int, int, int, int]] = []
        rows: dict[int, int] = {}  # by position: what the chain before sees of this piece
        in_place = n_trunk  # how much of what it sees lies at its position, as the trunk does
        n_outputs, cell = 0, n_trunk

        def add(node: int, *sequences: int) -> int:
            self.nodes.append(node)
            self.sequences.append(list(sequences))
            return len(self.nodes) - 1

        for sequence, chain in enumerate(chains, start=2):
            base, n_held, cell = chain.base, chain.n_held, chain.cell
            if base > n_held:  # it shares rows of this piece, and all that these see
                if n_held:
                    copies.append((sequence - 1, sequence, n_held))
                for position in range(n_held, base):
                    self.sequences[rows[position]].append(sequence)
            elif base:
                copies.append((trunk, sequence, base))
            if base < n_held:
                tails.append((trunk, sequence, base, n_held, cell))
                cell += n_held - base
            in_place = min(in_place, base)
            first = max(base, n_held)
            for position, node in enumerate([*tree.ancestors(chain.nodes[0])[first:], *chain.nodes], start=first):
                rows[position] = add(node, sequence)
                places.append(cell)
                in_place += position == cell == in_place
                cell += 1
            n_outputs += sum(node in self.walk.output_nodes for node in chain.nodes)

        kept = 1 if trunk == 0 else 0
        settle = -1
        if n_kept:
            last, n_held = len(chains) + 1, chains[-1].n_held
            if n_kept <= n_held and trunk >= 0:
                copies.append((trunk, kept, n_kept))
            else:
                if n_held:
                    copies.append((last, kept, n_held))
                for position in range(n_held, n_kept):
                    self.sequences[rows[position]].append(kept)
                settle = in_place if in_place < n_kept else -1
        n_rows = len(self.nodes) - row_first
        last_node = chains[-1].nodes[0]
        root = (tree.ancestors(last_node) or [last_node])[0]  # so that a prompt's first row is never another prompt's
        for extra in range(self.alignment.n_rows(n_rows, n_outputs) - n_rows):
            add(root, len(chains) + 2 + extra)
            places.append(cell)
            cell += 1
        self.pieces.append(
            Piece(
                len(places), tuple(copies), kept if n_kept else -1,
                places=tuple(places), n_held=n_trunk, tails=tuple(tails), settle=settle,
            )
        )  # fmt: skip
