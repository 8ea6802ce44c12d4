"""The measurements of a sweep on disk, in SQLite; read this when you want the numbers behind a run.

`sweep.sqlite` holds, in plain tables:

    meta(key, value)                                  format, plan_sha256; the date of chats in `steercpp cross`;
                                                      "hosts": a JSON object of machines' names and CPUs;
                                                      "in_thought LABEL KIND": a JSON list of the items whose prompts
                                                      end inside a thought, where there are any
    items(kind, item, id, record)                     the task items as JSON, numbered from 0 within their kind; under
                                                      "showcase" requests that are only continued
    continuations(kind, item, continuation, side, tokens)   what each number belongs to: side is "aligned",
                                                      "misaligned" or the index of a choice; tokens is a JSON list
    groups(label, kind, strength, batch, n_tokens, token_layers, in_full)   what is finished: the unit of work and of
                                                      going on; token_layers = tokens times blocks computed for it;
                                                      in_full = why a steered pass was not resumed above the lower
                                                      layers, "" where it was, NULL where nothing was steered
    logprobs(label, kind, strength, batch, items, nats)   what was measured of a group: items = the numbers of its
                                                      items, int32; nats = the log-probabilities of their
                                                      continuations in order, float64; both little-endian. Groups of
                                                      a run of format 4 stand together under the first one's batch
    texts(label, kind, strength, item, sample, text, n_tokens, finish, nats)   generated texts; nats = ln P of the text
                                                      under the unsteered model, NULL where there is none
    readings(label, kind, strength, item, sample, llr, n_tokens, nats_words)   how the unsteered model, asked in words
                                                      for either side, reads a text: llr = ln P with the instruction
                                                      less that with its opposite, nats_words = the former; of no
                                                      text where it was not asked; no such table in earlier versions
    said(label, kind, item, token_layers, token_layers_plain)   items whose texts are all there, but for those of
                                                      strengths or samples that were added to the run since; their work
    verdicts(label, kind, strength, item, sample, passed, reason)   what became of programs among them

`label` is "vector" or "random-0", "random-1", ...; strength 0 is measured once, under "vector". Every group is
committed with its numbers in one transaction, so that an interrupted sweep loses at most the group in work.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from math import isfinite
from operator import index
from pathlib import Path
from types import TracebackType
from typing import Self, get_args

import numpy as np

from steercpp.aliases import Floats
from steercpp.data.items import Item, Kind, item_json, kind_of, parse_item
from steercpp.data.requests import Request, parse_request, request_json
from steercpp.errors import RunError
from steercpp.inputs import what_was_said
from steercpp.judging.texts import GeneratedText, Reading, TextFinish, Verdict
from steercpp.runs.database import FORMAT, FORMAT_4, Database, damaged
from steercpp.runs.labels import OWN_TELLING, SHOWCASE, Label
from steercpp.runs.layout import ITEM, NATS, Layout, packed
from steercpp.runs.migration import SCHEMA_4, bring_to_today, copied

SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE items (kind TEXT, item INTEGER, id TEXT NOT NULL, record TEXT NOT NULL,
    PRIMARY KEY (kind, item)) WITHOUT ROWID;
CREATE TABLE continuations (kind TEXT, item INTEGER, continuation INTEGER, side TEXT NOT NULL, tokens TEXT NOT NULL,
    PRIMARY KEY (kind, item, continuation)) WITHOUT ROWID;
CREATE TABLE groups (label TEXT, kind TEXT, strength REAL, batch INTEGER, n_tokens INTEGER NOT NULL,
    token_layers INTEGER NOT NULL, in_full TEXT, PRIMARY KEY (label, kind, strength, batch)) WITHOUT ROWID;
CREATE TABLE logprobs (label TEXT, kind TEXT, strength REAL, batch INTEGER, items BLOB NOT NULL, nats BLOB NOT NULL,
    PRIMARY KEY (label, kind, strength, batch)) WITHOUT ROWID;
CREATE TABLE readings (label TEXT, kind TEXT, strength REAL, item INTEGER, sample INTEGER, llr REAL NOT NULL,
    n_tokens INTEGER NOT NULL, nats_words REAL NOT NULL,
    PRIMARY KEY (label, kind, strength, item, sample)) WITHOUT ROWID;
CREATE TABLE said (label TEXT, kind TEXT, item INTEGER, token_layers INTEGER NOT NULL,
    token_layers_plain INTEGER NOT NULL, PRIMARY KEY (label, kind, item)) WITHOUT ROWID;
CREATE TABLE texts (label TEXT, kind TEXT, strength REAL, item INTEGER, sample INTEGER, text TEXT NOT NULL,
    n_tokens INTEGER NOT NULL, finish TEXT NOT NULL, nats REAL,
    PRIMARY KEY (label, kind, strength, item, sample)) WITHOUT ROWID;
CREATE TABLE verdicts (label TEXT, kind TEXT, strength REAL, item INTEGER, sample INTEGER, passed INTEGER NOT NULL,
    reason TEXT NOT NULL, PRIMARY KEY (label, kind, strength, item, sample)) WITHOUT ROWID;
"""
_SCHEMAS = {FORMAT: SCHEMA, FORMAT_4: SCHEMA_4}
_LATER = ("readings",)  # tables that stores of earlier versions lack
# the last three are a matrix of cross effects', see experiments/cross.py
_LABEL = re.compile(
    "|".join((*Label, r"random-\d{1,9}", r"random-\d{1,9}-\d{1,9}", r"vector-\d{1,9}", "unsteered")), re.ASCII
)
_LARGEST_NATS = 1e30  # with which anything can be computed
# All that is measured; verdicts on programs may come later, and the rest of meta with them.
_MEASURED = ("items", "continuations", "groups", "logprobs", "texts", "readings", "said")


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


class Store:
    """An open sweep.sqlite; made by `create`, `reopen` or `read`. Use it as a context manager."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._rows_sha256: str | None = None  # of the file where its rows are read from a copy
        self._layouts: dict[str, Layout] = {}

    @classmethod
    def create(cls, path: Path, *, plan_sha256: str, meta: Mapping[str, str] | None = None) -> Self:
        """A new, empty store; as `Database.create`."""
        return cls(Database.create(path, schema=SCHEMA, plan_sha256=plan_sha256, meta=meta))

    @classmethod
    def reopen(cls, path: Path) -> Self:
        """A store to go on writing to; as `Database.reopen`.

        One of an earlier format, with the manifest beside it, is brought to today's; the folder's lock must be held.
        """
        database = Database.reopen(path, schemas=_SCHEMAS, optional=_LATER)
        if database.format != FORMAT:
            bring_to_today(database, schema=SCHEMA, measured=_MEASURED)  # which closes it
            database = Database.reopen(path, schemas={FORMAT: SCHEMA})
        return cls(database)

    @classmethod
    def read(cls, path: Path, *, settled: bool = False) -> Self:
        """A store to read only; as `Database.read`. One of an earlier format is copied into memory."""
        database = Database.read(path, schemas=_SCHEMAS, optional=_LATER, settled=settled)
        if database.format == FORMAT:
            return cls(database)
        with closing(database):
            copy, rows_sha256 = copied(database, schema=SCHEMA, measured=_MEASURED, settled=settled)
        store = cls(copy)
        store._rows_sha256 = rows_sha256
        return store

    @staticmethod
    def glance(path: Path) -> None:
        """See that a finished run's file is a store; as `Database.glance`."""
        Database.glance(path, schemas=_SCHEMAS, optional=_LATER)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; every finished group is in it already."""
        self._database.close()

    @property
    def path(self) -> Path:
        """Where it is."""
        return self._database.path

    @property
    def plan_sha256(self) -> str:
        """Hash of the plan whose measurements these are."""
        return self._database.plan_sha256

    def rows_sha256(self) -> str:
        """Hash of all that was measured; verdicts on programs, which may be made again, are not in it."""
        return self._rows_sha256 or self._database.rows_sha256(_MEASURED)

    def meta(self, key: str) -> str | None:
        """What it says of itself under a key."""
        return self._database.meta(key)

    def add_items(
        self, kind: str, items: Sequence[Item], continuations: Sequence[Continuation], *, first: int = 0
    ) -> None:
        """Keep items of one kind with the continuations that will be scored, in the order of their numbers.

        Args:
            kind: of the items.
            items: numbered from `first` on.
            continuations: of all of these items.
            first: how many items of the kind there are already.
        """
        numbers: dict[int, int] = {}
        rows = []
        for scored in continuations:
            number = numbers[scored.item] = numbers.get(scored.item, -1) + 1
            rows.append((kind, scored.item, number, scored.side, json.dumps(scored.tokens)))
        records = [(kind, i, item.id, json.dumps(item_json(item))) for i, item in enumerate(items, first)]
        with self._database.transaction() as connection:
            connection.executemany("INSERT INTO items VALUES (?, ?, ?, ?)", records)
            self._layouts.clear()
            connection.executemany("INSERT INTO continuations VALUES (?, ?, ?, ?, ?)", rows)

    def items(self, kind: str) -> tuple[Item, ...]:
        """The items of one kind, as they were asked."""
        rows = self._database.rows("SELECT item, record FROM items WHERE kind = ? ORDER BY item", kind)
        with self._parsing("an item"):
            items = tuple(parse_item(json.loads(record)) for _, record in rows)
            if [number for number, _ in rows] != list(range(len(rows))):
                raise ValueError("the numbers do not go from 0 on")
            if strangers := {kind_of(item) for item in {type(item): item for item in items}.values()} - {
                "own" if kind == OWN_TELLING else kind
            }:
                raise ValueError(f"one of kind {min(strangers)!r} stands among those of kind {kind!r}")
            return items

    def add_requests(self, requests: Sequence[Request]) -> None:
        """Keep the requests that are only continued, in the order of their numbers."""
        rows = [(SHOWCASE, i, request.id, json.dumps(request_json(request))) for i, request in enumerate(requests)]
        with self._database.transaction() as connection:
            connection.executemany("INSERT INTO items VALUES (?, ?, ?, ?)", rows)

    def requests(self) -> tuple[Request, ...]:
        """The requests that are only continued, as they were asked."""
        rows = self._database.rows("SELECT record FROM items WHERE kind = ? ORDER BY item", SHOWCASE)
        with self._parsing("a request"):
            return tuple(parse_request(json.loads(record)) for (record,) in rows)

    def layout(self, kind: str) -> Layout:
        """How the numbers of one kind lie behind each other; it is settled when the run begins, and read once."""
        if kind not in self._layouts:
            query = "SELECT item, side FROM continuations WHERE kind = ? ORDER BY item, continuation"
            rows, n_items = self._database.rows(query, kind), self.n_items(kind)
            with self._parsing("a continuation"):
                items = np.fromiter((item for item, _ in rows), np.int64, len(rows))
                if rows and not 0 <= items[0] <= items[-1] < n_items:  # they are in order
                    raise ValueError(f"it is of item {items[0]} or {items[-1]}, and there are {n_items}")
                counts = np.bincount(items, minlength=n_items)
                self._layouts[kind] = Layout.read(kind, counts, [side for _, side in rows])
        return self._layouts[kind]

    def continuations(self, kind: str) -> tuple[tuple[Continuation, ...], ...]:
        """For each item of one kind its scored continuations; they are written when the run begins."""
        layout = self.layout(kind)
        rows = self._database.rows(
            "SELECT item, side, tokens FROM continuations WHERE kind = ? ORDER BY item, continuation", kind
        )
        with self._parsing("a continuation"):
            scored = [Continuation(item, side, tuple(map(index, json.loads(tokens)))) for item, side, tokens in rows]
            if kind == Kind.TEXT and not all(continuation.tokens for continuation in scored):
                raise ValueError("a text has no tokens")
        return tuple(tuple(scored[layout.of_item(item)]) for item in range(layout.n_items))

    @contextmanager
    def _parsing(self, what: str) -> Iterator[None]:
        """Where rows become values, and nothing is computed with them: whatever goes wrong is their fault."""
        try:
            yield
        except (MemoryError, AssertionError, RunError):
            raise
        except Exception as error:
            raise damaged(self.path, f"{what} cannot be read: {what_was_said(error)}") from error

    def n_items(self, kind: str) -> int:
        """How many items of one kind there are."""
        return int(self._database.rows("SELECT count(*) FROM items WHERE kind = ?", kind)[0][0])

    @staticmethod
    def _check_item(item: int, count: int) -> None:
        if item < 0 or (count and item >= count):  # where a kind has no items, nobody looks for their texts
            raise ValueError(f"it is of item {item}, and there are {count}")

    def add(
        self, group: Group, n_tokens: int, token_layers: int, in_full: str | None, rows: Iterable[tuple[int, Floats]]
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
        where = (group.label, group.kind, group.strength, group.batch)
        blobs = packed(rows)
        with self._database.transaction() as connection:
            connection.execute("INSERT OR REPLACE INTO logprobs VALUES (?, ?, ?, ?, ?, ?)", (*where, *blobs))
            row = (*where, n_tokens, token_layers, in_full)
            connection.execute("INSERT OR REPLACE INTO groups VALUES (?, ?, ?, ?, ?, ?, ?)", row)

    def finished(self) -> dict[Group, int]:
        """Every finished group with the tokens decoded for it."""
        rows = self._database.rows("SELECT label, kind, strength, batch, n_tokens FROM groups")
        with self._parsing("a group"):
            for label, _, strength, *_ in rows:
                if not (_LABEL.fullmatch(label) and isfinite(strength)):
                    raise ValueError(f"it is of {label[:40]!r} at {strength}")
        return {Group(label, kind, strength, batch): n for label, kind, strength, batch, n in rows}

    def token_layers(self) -> int:
        """Tokens times blocks computed for all finished groups."""
        return int(self._database.rows("SELECT coalesce(sum(token_layers), 0) FROM groups")[0][0])

    def in_full(self) -> dict[str, int]:
        """Why steered groups were not resumed, "" for those that were, each with how many there are."""
        return dict(
            self._database.rows("SELECT in_full, count(*) FROM groups WHERE in_full IS NOT NULL GROUP BY in_full")
        )

    def n_continuations(self, kind: str) -> int:
        """How many continuations of one kind are to be measured at each strength."""
        return int(self._database.rows("SELECT count(*) FROM continuations WHERE kind = ?", kind)[0][0])

    def n_measured(self, label: str, kind: str) -> dict[float, int]:
        """At each strength, how many continuations of one kind are measured under a label; no number is read for it."""
        query = f"""SELECT strength, sum(length(nats)) / {NATS.itemsize} FROM logprobs
            WHERE label = ? AND kind = ? GROUP BY strength"""
        return dict(self._database.rows(query, label, kind))

    def n_rows(self) -> int:
        """How much is there: items measured at a strength under a label, and texts generated of items."""
        query = f"""SELECT (SELECT coalesce(sum(length(items)), 0) / {ITEM.itemsize} FROM logprobs)
            + (SELECT count(*) FROM texts WHERE kind != ?)"""
        return int(self._database.rows(query, SHOWCASE)[0][0])

    def logprobs(self, label: str, kind: str, strengths: Sequence[float]) -> Floats:
        """(n_s, n_continuations) log-probabilities in nats as `layout` has them, a row for each of these strengths.

        NaN stands where nothing is measured.

        Raises:
            RunError: the store is damaged.
        """
        layout = self.layout(kind)
        nats = np.full((len(strengths), len(layout.sides)), np.nan)
        for row, strength in enumerate(strengths):
            query = "SELECT items, nats FROM logprobs WHERE label = ? AND kind = ? AND strength = ?"
            groups = self._database.rows(query, label, kind, strength)
            with self._parsing("a log-probability"):
                layout.fill(nats[row], groups)
        return nats

    def add_texts(
        self,
        label: str,
        kind: str,
        item: int,
        texts: Iterable[GeneratedText],
        *,
        token_layers: int,
        token_layers_plain: int,
    ) -> None:
        """Commit texts of one item, all that are missing, with their readings.

        Args:
            label: under which name.
            kind: of the item.
            item: its number.
            texts: all of it.
            token_layers: tokens times blocks computed for them; more texts add to it.
            token_layers_plain: the same for as many runs one after the other.

        Raises:
            RunError: it cannot be written; what was committed stays.
        """
        texts = tuple(texts)
        values = [
            (label, kind, text.strength, item, text.sample, text.text, text.n_tokens, text.finish, text.nats)
            for text in texts
        ]
        readings = [
            (label, kind, text.strength, item, text.sample, text.reading.llr, text.n_tokens, text.reading.nats_words)
            for text in texts
            if text.reading is not None
        ]
        begun = self._items_in_thought(label, kind)
        with self._database.transaction() as connection:
            if readings:  # a store of an earlier version has no place for them, and its plan no use
                connection.executemany("INSERT OR REPLACE INTO readings VALUES (?, ?, ?, ?, ?, ?, ?, ?)", readings)
            if any(text.in_thought for text in texts):
                known = (_thought_key(label, kind), json.dumps(sorted(begun | {item})))
                connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", known)
            connection.executemany("INSERT OR REPLACE INTO texts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", values)
            row = (label, kind, item, token_layers, token_layers_plain)
            query = """INSERT INTO said VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
                token_layers = token_layers + excluded.token_layers,
                token_layers_plain = token_layers_plain + excluded.token_layers_plain"""
            connection.execute(query, row)

    def draws(self, label: str, kind: str) -> dict[int, set[tuple[float, int]]]:
        """For each item that has texts under a label the strength and the number of the sample of each of them."""
        query = "SELECT item, strength, sample FROM texts WHERE label = ? AND kind = ?"
        there: dict[int, set[tuple[float, int]]] = {}
        for item, strength, sample in self._database.rows(query, label, kind):
            there.setdefault(item, set()).add((strength, sample))
        return there

    def items_with_texts(self, label: str, kind: str) -> set[int]:
        """Numbers of the items whose texts under a label are all there, but for what was added to the run since."""
        return {
            item for (item,) in self._database.rows("SELECT item FROM said WHERE label = ? AND kind = ?", label, kind)
        }

    def note_host(self, name: str, cpu: str) -> None:
        """Keep on which machine something was measured, and its CPU as far as it decides bits."""
        if self.hosts().get(name) != cpu:
            known = json.dumps({**self.hosts(), name: cpu})
            with self._database.transaction() as connection:
                connection.execute("INSERT OR REPLACE INTO meta VALUES ('hosts', ?)", (known,))

    def hosts(self) -> dict[str, str]:
        """The machines that have measured, by name, with their CPUs; none in runs of earlier versions."""
        known = self._database.meta("hosts")
        try:
            return {} if known is None else {str(name): str(cpu) for name, cpu in json.loads(known).items()}
        except (ValueError, AttributeError, RecursionError) as error:
            raise damaged(self.path, f"which machines have measured cannot be read: {error}") from error

    def text_labels(self) -> list[tuple[str, str]]:
        """Each label and kind of item under which there are texts, in order."""
        return self._database.rows("SELECT DISTINCT label, kind FROM said ORDER BY label, kind")

    def text_work(self) -> tuple[int, int]:
        """Tokens times blocks computed for all texts, and those of as many runs one after the other."""
        query = "SELECT coalesce(sum(token_layers), 0), coalesce(sum(token_layers_plain), 0) FROM said"
        ((done, plain),) = self._database.rows(query)
        return int(done), int(plain)

    def texts(self, label: str, kind: str) -> tuple[GeneratedText, ...]:
        """The texts under a label of one kind of item, by strength, item and sample."""
        query = """SELECT strength, item, sample, text, n_tokens, finish, nats FROM texts
            WHERE label = ? AND kind = ? ORDER BY strength, item, sample"""
        begun, readings = self._items_in_thought(label, kind), self._readings(label, kind)
        rows, count = self._database.rows(query, label, kind), self.n_items(kind)
        with self._parsing("a text"):
            for strength, item, sample, _, n_tokens, finish, nats in rows:
                self._check_item(item, count)
                if finish not in get_args(TextFinish):
                    raise ValueError("it has ended in an unknown way")
                if not (isfinite(strength) and sample >= 0 and n_tokens >= 0 and abs(nats or 0.0) <= _LARGEST_NATS):
                    raise ValueError(f"sample {sample} at {strength} has {n_tokens} tokens of {nats} nats")
        return tuple(
            GeneratedText(
                strength,
                item,
                sample,
                text,
                n_tokens,
                finish,
                nats,
                item in begun,
                readings.get((strength, item, sample)),
            )  # fmt: skip
            for strength, item, sample, text, n_tokens, finish, nats in rows
        )

    def _readings(self, label: str, kind: str) -> dict[tuple[float, int, int], Reading]:
        """The readings of texts by strength, item and sample."""
        if not self._database.rows("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'readings'"):
            return {}
        query = "SELECT strength, item, sample, llr, nats_words FROM readings WHERE label = ? AND kind = ?"
        rows = self._database.rows(query, label, kind)
        with self._parsing("a reading of a text"):
            if strange := [nats for *_, llr, nats in rows if not max(abs(llr), abs(nats)) <= _LARGEST_NATS]:
                raise ValueError(f"{strange[0]} nats")
        return {(strength, item, sample): Reading(llr, nats) for strength, item, sample, llr, nats in rows}

    def _items_in_thought(self, label: str, kind: str) -> set[int]:
        """Numbers of the items whose texts begin inside a thought."""
        rows = self._database.rows("SELECT value FROM meta WHERE key = ?", _thought_key(label, kind))
        with self._parsing("which texts begin inside a thought"):
            return {index(item) for (value,) in rows for item in json.loads(value)}

    def add_verdicts(self, label: str, kind: str, verdicts: Iterable[Verdict]) -> None:
        """Commit verdicts on texts, all or none of them.

        Raises:
            RunError: they cannot be written; what was committed stays.
        """
        values = [
            (label, kind, verdict.strength, verdict.item, verdict.sample, int(verdict.passed), verdict.reason)
            for verdict in verdicts
        ]
        with self._database.transaction() as connection:
            connection.executemany("INSERT OR REPLACE INTO verdicts VALUES (?, ?, ?, ?, ?, ?, ?)", values)

    def verdicts(self, label: str, kind: str) -> tuple[Verdict, ...]:
        """Every verdict on a kind of item, by strength, item and sample."""
        query = """SELECT strength, item, sample, passed, reason FROM verdicts
            WHERE label = ? AND kind = ? ORDER BY strength, item, sample"""
        rows, count = self._database.rows(query, label, kind), self.n_items(kind)
        with self._parsing("a verdict"):
            for strength, item, sample, passed, _ in rows:
                self._check_item(item, count)
                if not isfinite(strength) or sample < 0 or passed not in (0, 1):
                    raise ValueError(f"sample {sample} at {strength} has passed {passed}")
        return tuple(
            Verdict(strength, item, sample, bool(passed), reason) for strength, item, sample, passed, reason in rows
        )


def _thought_key(label: str, kind: str) -> str:
    return f"in_thought {label} {kind}"
