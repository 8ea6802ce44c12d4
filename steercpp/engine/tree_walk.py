"""The tree of queries in the order in which it is decoded, and where in it a batch may end."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from steercpp.engine.batch import BatchLimits, Query
from steercpp.engine.prefix_tree import Tree

_WORTH_KEEPING = 32  # a batch goes on as long as its trunk is more than this share of it


class Walk:
    """Walks the tree depth first and cuts it into pieces, and the pieces into batches.

    A cut is clean where the row before it is a query's last one, and no query has rows of continuations on both sides
    of it; a batch ends only there. A prompt's rows may lie before it: the next batch begins with all it depends on.
    Pieces end, where they can, at a clean cut at which a new branch begins: just before a query's first own row.
    """

    def __init__(self, queries: Sequence[Query], tree: Tree, limits: BatchLimits) -> None:
        self.queries, self.tree, self.limits = queries, tree, limits
        self.order = tree.depth_first()
        self.place_of = [0] * len(self.order)
        for place, node in enumerate(self.order):
            self.place_of[node] = place
        n_open = np.zeros(len(self.order) + 1, np.int64)
        completes = np.zeros(len(self.order) + 1, bool)
        stops = []
        for path in tree.paths:
            places = [self.place_of[node] for node in path.nodes[path.n_prompt :]]
            places = places or [self.place_of[path.prompt_end]]
            stop = max(places) + 1
            n_open[min(places) + 1] += 1
            n_open[stop] -= 1
            completes[stop] = True
            stops.append(stop)
        self.clean = ((np.cumsum(n_open) == 0) & completes).tolist()
        self.by_stop = sorted(range(len(queries)), key=lambda index: (stops[index], index))
        self.stops = [stops[index] for index in self.by_stop]
        self.n_taken = 0  # of by_stop
        self.output_nodes = {path.prompt_end for path in tree.paths}
        self.output_nodes.update(node for path in tree.paths for node, *_ in path.scores)

    def worth_ending(self, n_own: int, n_trunk: int, n_rows: int) -> bool:
        """Whether a batch should end that has so many rows, so many of them not its head's, and a trunk that long."""
        # the head is not counted: then all that is decoded again is at most 1/32 of all that is different
        return n_own >= _WORTH_KEEPING * n_trunk or n_rows >= self.limits.n_group

    def members(self, stop: int) -> tuple[int, ...]:
        """The queries whose rows all lie before a place, without those taken before, by the ends of their prompts."""
        first = self.n_taken
        while self.n_taken < len(self.stops) and self.stops[self.n_taken] <= stop:
            self.n_taken += 1
        taken = self.by_stop[first : self.n_taken]
        return tuple(sorted(taken, key=lambda index: (self.place_of[self.tree.paths[index].prompt_end], index)))
