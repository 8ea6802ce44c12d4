"""The measurements of a sweep on disk, in SQLite; read this when you want the numbers behind a run.

`sweep.sqlite` holds, in plain tables:

    meta(key, value)                                  format, plan_sha256
    items(kind, item, id, record)                     the task items as JSON, numbered from 0 within their kind
    continuations(kind, item, continuation, side, tokens)   what each number belongs to: side is "aligned",
                                                      "misaligned" or the index of a choice; tokens is a JSON list
    groups(label, kind, strength, batch, n_tokens, token_layers, in_full)   what is finished: the unit of work and of
                                                      going on; token_layers = tokens times blocks computed for it;
                                                      in_full = why a steered pass was not resumed above the lower
                                                      layers, "" where it was, NULL where nothing was steered
    logprobs(label, kind, strength, item, continuation, nats)
    said, texts, verdicts                             what was said, and verdicts on it: see store_texts.py

`label` is "vector" or "random-0", "random-1", ...; strength 0 is measured once, under "vector". Every group is
committed with its numbers in one transaction, so that an interrupted sweep loses at most the group in work.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from steercpp.data.tasks import Item, item_json, parse_item
from steercpp.errors import InputError
from steercpp.runs.store_file import FORMAT, damaged
from steercpp.runs.store_texts import SCHEMA as TEXTS
from steercpp.runs.store_texts import TextStore

__all__ = ["FORMAT", "SCHEMA", "Continuation", "Group", "Store"]

SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE items (kind TEXT, item INTEGER, id TEXT NOT NULL, record TEXT NOT NULL,
    PRIMARY KEY (kind, item)) WITHOUT ROWID;
CREATE TABLE continuations (kind TEXT, item INTEGER, continuation INTEGER, side TEXT NOT NULL, tokens TEXT NOT NULL,
    PRIMARY KEY (kind, item, continuation)) WITHOUT ROWID;
CREATE TABLE groups (label TEXT, kind TEXT, strength REAL, batch INTEGER, n_tokens INTEGER NOT NULL,
    token_layers INTEGER NOT NULL, in_full TEXT, PRIMARY KEY (label, kind, strength, batch)) WITHOUT ROWID;
CREATE TABLE logprobs (label TEXT, kind TEXT, strength REAL, item INTEGER, continuation INTEGER, nats REAL NOT NULL,
    PRIMARY KEY (label, kind, strength, item, continuation)) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Group:
    """A unit of work: one packed batch of one kind of item, under one vector at one strength."""

    label: str
    kind: str
    strength: float
    batch: int


@dataclass(frozen=True, slots=True)
class Continuation:
    """One scored continuation of an item: its side and its tokens."""

    item: int
    side: str
    tokens: tuple[int, ...]


class Store(TextStore):
    """An open sweep.sqlite; made by `create`, `reopen` or `read`. Use it as a context manager."""

    schema = SCHEMA + TEXTS

    def add_items(self, kind: str, items: Sequence[Item], continuations: Sequence[Continuation]) -> None:
        """Keep the items of one kind with the continuations that will be scored, in the order of their numbers."""
        numbers: dict[int, int] = {}
        rows = []
        for part in continuations:
            number = numbers[part.item] = numbers.get(part.item, -1) + 1
            rows.append((kind, part.item, number, part.side, json.dumps(part.tokens)))
        records = [(kind, i, item.id, json.dumps(item_json(item))) for i, item in enumerate(items)]
        with self._transaction():
            self._db.executemany("INSERT INTO items VALUES (?, ?, ?, ?)", records)
            self._db.executemany("INSERT INTO continuations VALUES (?, ?, ?, ?, ?)", rows)

    def items(self, kind: str) -> tuple[Item, ...]:
        """The items of one kind, as they were asked."""
        rows = self._rows("SELECT record FROM items WHERE kind = ? ORDER BY item", kind)
        try:
            return tuple(parse_item(json.loads(record)) for (record,) in rows)
        except (ValueError, InputError) as error:
            raise damaged(self.path, f"an item cannot be read: {error}") from error

    def continuations(self, kind: str) -> tuple[tuple[Continuation, ...], ...]:
        """For each item of one kind its scored continuations."""
        query = "SELECT item, side, tokens FROM continuations WHERE kind = ? ORDER BY item, continuation"
        grouped: dict[int, list[Continuation]] = {}
        try:
            for item, side, tokens in self._rows(query, kind):
                grouped.setdefault(item, []).append(Continuation(item, side, tuple(json.loads(tokens))))
        except (ValueError, TypeError) as error:
            raise damaged(self.path, f"a continuation cannot be read: {error}") from error
        return tuple(tuple(grouped[item]) for item in sorted(grouped))

    def add(
        self,
        group: Group,
        n_tokens: int,
        token_layers: int,
        in_full: str | None,
        rows: Iterable[tuple[int, npt.NDArray[np.float64]]],
    ) -> None:
        """Commit a finished group.

        Args:
            group: what was measured.
            n_tokens: tokens decoded for it.
            token_layers: tokens times blocks computed for it.
            in_full: why it was not resumed; "" where it was, None where nothing was steered.
            rows: (item, log-probabilities of its continuations in nats).

        Raises:
            RunError: it cannot be written, for example because the disk is full; what was committed stays.
        """
        where = (group.label, group.kind, group.strength)
        values = [(*where, item, i, float(nats)) for item, logprobs in rows for i, nats in enumerate(logprobs)]
        with self._transaction():
            self._db.executemany("INSERT OR REPLACE INTO logprobs VALUES (?, ?, ?, ?, ?, ?)", values)
            row = (*where, group.batch, n_tokens, token_layers, in_full)
            self._db.execute("INSERT OR REPLACE INTO groups VALUES (?, ?, ?, ?, ?, ?, ?)", row)

    def finished(self) -> dict[Group, int]:
        """Every finished group with the tokens decoded for it."""
        rows = self._rows("SELECT label, kind, strength, batch, n_tokens FROM groups")
        return {Group(label, kind, strength, batch): n for label, kind, strength, batch, n in rows}

    def token_layers(self) -> int:
        """Tokens times blocks computed for all finished groups."""
        return int(self._rows("SELECT coalesce(sum(token_layers), 0) FROM groups")[0][0])

    def in_full(self) -> dict[str, int]:
        """Why steered groups were not resumed, "" for those that were, each with how many there are."""
        return dict(self._rows("SELECT in_full, count(*) FROM groups WHERE in_full IS NOT NULL GROUP BY in_full"))

    def n_continuations(self, kind: str) -> int:
        """How many continuations of one kind are to be measured at each strength."""
        return int(self._rows("SELECT count(*) FROM continuations WHERE kind = ?", kind)[0][0])

    def n_measured(self, label: str, kind: str) -> dict[float, int]:
        """At each strength, how many continuations of one kind are measured under a label."""
        query = """SELECT strength, count(*) FROM logprobs JOIN continuations USING (kind, item, continuation)
            WHERE label = ? AND kind = ? GROUP BY strength"""
        return dict(self._rows(query, label, kind))

    def logprobs(self, label: str, kind: str, strength: float) -> list[npt.NDArray[np.float64]]:
        """For each item its continuations' log-probabilities in nats; an empty array where not measured."""
        count = self._rows("SELECT count(*) FROM items WHERE kind = ?", kind)[0][0]
        found: list[list[float]] = [[] for _ in range(count)]
        query = "SELECT item, nats FROM logprobs WHERE label=? AND kind=? AND strength=? ORDER BY item, continuation"
        for item, nats in self._rows(query, label, kind, strength):
            found[item].append(nats)
        return [np.array(values, dtype=np.float64) for values in found]
