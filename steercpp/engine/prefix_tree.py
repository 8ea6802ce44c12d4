"""All queries as one tree, in which every distinct beginning is one node; packing cuts it into batches.

What queries have in common from their first token on, tokens and treatment alike, is one branch, however many pass
through it: a system prompt, a few-shot head, the question above its choices.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from steercpp.engine.batch import Query

# Of a query's regions: before its last prompt token, at it, after it.
Keys: TypeAlias = tuple[Hashable, Hashable, Hashable]
Score: TypeAlias = tuple[int, int, int]  # node, token looked up after it, continuation


@dataclass(slots=True)
class Path:
    """One query in the tree.

    Attributes:
        nodes: those of its prompt, then those of its continuations, each once.
        n_prompt: how many of them are the prompt's.
        scores: the lookups whose log-probabilities make up its continuations.
    """

    nodes: list[int]
    n_prompt: int
    scores: list[Score] = field(default_factory=list)

    @property
    def prompt_end(self) -> int:
        """The node of the last prompt token."""
        return self.nodes[self.n_prompt - 1]

    def region(self, place: int) -> int:
        """Region of the node at a place of `nodes`."""
        return 2 if place >= self.n_prompt else int(place == self.n_prompt - 1)


@dataclass(slots=True)
class Tree:
    """All nodes, numbered as they were met.

    Attributes:
        tokens, parents, depths: of each node; parent -1 and depth 0 for a first token.
        paths: one for each query.
    """

    tokens: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    depths: list[int] = field(default_factory=list)
    paths: list[Path] = field(default_factory=list)
    _children: dict[tuple[int, int, Hashable], int] = field(default_factory=dict)

    @classmethod
    def of(cls, queries: Sequence[Query], keys: Sequence[Keys] | None) -> Tree:
        """The tree of all queries; without keys all rows are treated alike."""
        tree = cls()
        for index, query in enumerate(queries):
            tree.paths.append(tree._path(query, keys[index] if keys else (None, None, None)))
        return tree

    def _path(self, query: Query, keys: Keys) -> Path:
        before, last, after = keys
        nodes: list[int] = []
        node = -1
        for token in query.tokens[:-1]:
            node = self._child(node, token, before)
            nodes.append(node)
        end = self._child(node, query.tokens[-1], last)
        path = Path([*nodes, end], len(query.tokens))
        seen = set()
        for index, continuation in enumerate(query.continuations):
            node = end
            *inner, final = continuation
            for token in inner:
                path.scores.append((node, token, index))
                node = self._child(node, token, after)
                if node not in seen:
                    seen.add(node)
                    path.nodes.append(node)
            path.scores.append((node, final, index))
        return path

    def _child(self, parent: int, token: int, key: Hashable) -> int:
        known = self._children.get((parent, token, key))
        if known is not None:
            return known
        node = self._children[parent, token, key] = len(self.tokens)
        self.tokens.append(token)
        self.parents.append(parent)
        self.depths.append(self.depths[parent] + 1 if parent >= 0 else 0)
        return node

    def depth_first(self) -> list[int]:
        """All nodes, each before its children, children in the order in which they were met."""
        children: list[list[int]] = [[] for _ in self.tokens]
        waiting: list[int] = []
        for node, parent in enumerate(self.parents):
            (children[parent] if parent >= 0 else waiting).append(node)
        waiting.reverse()
        order = []
        while waiting:
            node = waiting.pop()
            order.append(node)
            waiting += reversed(children[node])
        return order

    def ancestors(self, node: int) -> list[int]:
        """The nodes before a node on its path, from the first on."""
        upwards = []
        node = self.parents[node]
        while node >= 0:
            upwards.append(node)
            node = self.parents[node]
        return upwards[::-1]
