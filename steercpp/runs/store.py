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
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from steercpp.data.items import Item, item_json, parse_item
from steercpp.errors import InputError, RunError
from steercpp.judging.texts import GeneratedText, Verdict

# FOLD: The part of a sweep that is said in words: which prompts, and reading what was said; read this to use a run  # noqa
BEHAVIOR, CODE, VECTOR, PROMPT = "behavior", "code", "vector", "prompt"
GENERATED = (BEHAVIOR, CODE)  # the kinds that can be

# FOLD: The SQLite file of a sweep: making, opening, checking and writing it; store.py tells what is in it.
FORMAT = "steercpp sweep 4"
# Whichever command finds a run damaged: most that read one have no --force of their own.
AGAIN = (
    "measure it again (steercpp sweep, or what else made it) with another --out, or with --force, which discards "
    "what is there"
)
_FINISHED = "SELECT 1 FROM groups UNION ALL SELECT 1 FROM said LIMIT 1"


class StoreFile:
    """An open file; made by `create`, `reopen` or `read`. Use it as a context manager.

    Attributes:
        schema: the tables that `create` makes; at least meta(key, value), groups and said.
        path: where it is.
    """

    schema: ClassVar[str] = ""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._db = connection

    @classmethod
    def create(cls, path: Path, *, plan_sha256: str) -> Self:
        """A new, empty store.

        Raises:
            RunError: the file exists or cannot be written.
        """
        if path.exists():
            raise RunError(f"{path}: exists already")
        store = cls(path, _connect(path, "rwc"))
        meta = [("format", FORMAT), ("plan_sha256", plan_sha256)]
        try:
            with store._transaction():
                for statement in filter(str.strip, cls.schema.split(";")):
                    store._db.execute(statement)
                store._db.executemany("INSERT INTO meta VALUES (?, ?)", meta)
        except BaseException:
            store.close()
            raise
        return store

    @classmethod
    def reopen(cls, path: Path) -> Self:
        """A store to go on writing to.

        Raises:
            RunError: missing, damaged, or not a store of this format.
        """
        return cls(path, _connect(path, "rw"))._checked()

    @classmethod
    def read(cls, path: Path, *, settled: bool = False) -> Self:
        """A store to read only, also from a folder that cannot be written to.

        Args:
            path: the file.
            settled: nobody writes to it any more, so that it can be read without SQLite's index files beside it.

        Raises:
            RunError: missing, damaged, or not a store of this format.
        """
        log = path.with_name(f"{path.name}-wal")
        if settled and not (log.is_file() and log.stat().st_size):
            return cls(path, _connect(path, "ro&immutable=1"))._checked()
        try:
            return cls(path, _connect(path, "ro"))._checked()
        except RunError:
            if not path.is_file() or os.access(path.parent, os.W_OK):
                raise
            return cls(path, _connect(path, "ro&immutable=1"))._checked()  # no place for the index files

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; every finished group is in it already."""
        self._db.close()

    @property
    def plan_sha256(self) -> str:
        """Hash of the plan whose measurements these are."""
        return str(self._rows("SELECT value FROM meta WHERE key = 'plan_sha256'")[0][0])

    def _checked(self) -> Self:
        try:
            form = self._rows("SELECT value FROM meta WHERE key = 'format'")
            if self._rows("PRAGMA quick_check(1)") != [("ok",)]:
                raise damaged(self.path, "its pages do not fit together")
            if form != [(FORMAT,)]:
                raise damaged(self.path, f"its format is not {FORMAT!r}")
        except RunError:
            self.close()
            raise
        return self

    def _rows(self, query: str, *values: str | float) -> list[tuple[Any, ...]]:
        try:
            return self._db.execute(query, values).fetchall()
        except sqlite3.DatabaseError as error:
            raise damaged(self.path, str(error)) from error

    def _holds_groups(self) -> bool:
        try:
            return self._db.execute(_FINISHED).fetchone() is not None
        except sqlite3.DatabaseError:  # not even the tables could be written
            return False

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            with self._db:
                self._db.execute("BEGIN IMMEDIATE")
                yield
        except sqlite3.OperationalError as error:
            kept = "; what was finished is kept" if self._holds_groups() else ""
            raise RunError(
                f"{self.path}: cannot be written ({error}); free some space or check the folder's rights, "
                f"then run the same command again{kept}"
            ) from error
        except sqlite3.DatabaseError as error:
            raise damaged(self.path, str(error)) from error


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    if mode != "rwc" and not path.is_file():
        raise damaged(path, "it is missing")
    uri = path.absolute().as_uri()
    try:
        # Autocommit with explicit transactions; another process may hold the file for a moment while it commits.
        db = sqlite3.connect(f"{uri}?mode={mode}", uri=True, isolation_level=None, timeout=10.0)
        if mode.startswith("rw"):
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=NORMAL")
        return db
    except sqlite3.OperationalError as error:
        raise RunError(f"{path}: cannot be opened ({error}); check the folder's rights, or use --out") from error
    except sqlite3.DatabaseError as error:
        raise damaged(path, str(error)) from error


def damaged(path: Path, reason: str) -> RunError:
    """What to say of a file that cannot be used."""
    return RunError(f"{path}: not a usable sweep store ({reason}); {AGAIN}")


# FOLD: The texts of a sweep on disk: what was said at each strength, and the verdicts on code among it. |     said  # noqa
TEXTS = """
CREATE TABLE said (label TEXT, kind TEXT, item INTEGER, token_layers INTEGER NOT NULL,
    token_layers_plain INTEGER NOT NULL, PRIMARY KEY (label, kind, item)) WITHOUT ROWID;
CREATE TABLE texts (label TEXT, kind TEXT, strength REAL, item INTEGER, sample INTEGER, text TEXT NOT NULL,
    n_tokens INTEGER NOT NULL, finish TEXT NOT NULL, nats REAL,
    PRIMARY KEY (label, kind, strength, item, sample)) WITHOUT ROWID;
CREATE TABLE verdicts (label TEXT, kind TEXT, strength REAL, item INTEGER, sample INTEGER, passed INTEGER NOT NULL,
    reason TEXT NOT NULL, PRIMARY KEY (label, kind, strength, item, sample)) WITHOUT ROWID;
"""
_FINISHES = ("length", "stop", "end", "nonfinite")


class TextStore(StoreFile):
    """The part of a store that holds texts and verdicts."""

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
        """Commit what was said of one item, under all strengths.

        Args:
            label: under which name.
            kind: of the item.
            item: its number.
            texts: all of it.
            token_layers: tokens times blocks computed for it.
            token_layers_plain: the same for as many runs one after the other.

        Raises:
            RunError: it cannot be written; what was committed stays.
        """
        values = [
            (label, kind, one.strength, item, one.sample, one.text, one.n_tokens, one.finish, one.nats) for one in texts
        ]
        with self._transaction():
            self._db.executemany("INSERT OR REPLACE INTO texts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", values)
            row = (label, kind, item, token_layers, token_layers_plain)
            self._db.execute("INSERT OR REPLACE INTO said VALUES (?, ?, ?, ?, ?)", row)

    def items_with_texts(self, label: str, kind: str) -> set[int]:
        """Numbers of the items of which all has been said under a label."""
        return {item for (item,) in self._rows("SELECT item FROM said WHERE label = ? AND kind = ?", label, kind)}

    def text_work(self) -> tuple[int, int]:
        """Tokens times blocks computed for all texts, and those of as many runs one after the other."""
        query = "SELECT coalesce(sum(token_layers), 0), coalesce(sum(token_layers_plain), 0) FROM said"
        ((done, plain),) = self._rows(query)
        return int(done), int(plain)

    def texts(self, label: str, kind: str) -> tuple[GeneratedText, ...]:
        """Everything said under a label for one kind of item, by strength, item and sample."""
        query = """SELECT strength, item, sample, text, n_tokens, finish, nats FROM texts
            WHERE label = ? AND kind = ? ORDER BY strength, item, sample"""
        found = tuple(GeneratedText(*row) for row in self._rows(query, label, kind))
        if any(one.finish not in _FINISHES for one in found):
            raise damaged(self.path, "a text has ended in an unknown way")
        return found

    def add_verdicts(self, label: str, kind: str, verdicts: Iterable[Verdict]) -> None:
        """Commit verdicts on texts, all or none of them.

        Raises:
            RunError: they cannot be written; what was committed stays.
        """
        values = [(label, kind, one.strength, one.item, one.sample, int(one.passed), one.reason) for one in verdicts]
        with self._transaction():
            self._db.executemany("INSERT OR REPLACE INTO verdicts VALUES (?, ?, ?, ?, ?, ?, ?)", values)

    def verdicts(self, label: str, kind: str) -> tuple[Verdict, ...]:
        """Every verdict on a kind of item, by strength, item and sample."""
        query = """SELECT strength, item, sample, passed, reason FROM verdicts
            WHERE label = ? AND kind = ? ORDER BY strength, item, sample"""
        rows = self._rows(query, label, kind)
        return tuple(
            Verdict(strength, item, sample, bool(passed), reason) for strength, item, sample, passed, reason in rows
        )


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


def missing_texts(store: Store, manifest: Mapping[str, Any]) -> str | None:
    """Which planned texts a run lacks, in a user's words; None where all are there."""
    items = manifest["items"]
    if not manifest["plan"].get("said"):
        return None
    wanted = [(VECTOR, kind) for kind in GENERATED if kind in items]
    if BEHAVIOR in items and PROMPT not in manifest["controls_off"]:
        wanted.append((PROMPT, BEHAVIOR))
    for label, kind in wanted:
        if len(store.items_with_texts(label, kind)) < items[kind]:
            return f"texts of {kind} items" + (" under the prompt baseline" if label == PROMPT else "")
    return None


def whole_texts(store: Store, label: str, kind: str, n_items: int) -> tuple[GeneratedText, ...]:
    """The texts of all items under a label; none where some item is still to be said."""
    return store.texts(label, kind) if len(store.items_with_texts(label, kind)) == n_items else ()
