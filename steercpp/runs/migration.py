"""Runs of the format before: read from a copy in memory, brought to today's format where they are written to.

Format 4 kept each log-probability as a row of its own; today's keeps those of a group together (store.py). Everything
else is the same in both. Reading changes nothing on the disk. A process that holds the run's lock makes the new store
and manifest aside, and renames them together: whenever it is killed, the run is the old one or the new one, whole.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from contextlib import closing
from dataclasses import replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from steercpp.errors import RunError
from steercpp.files import take_places
from steercpp.runs.aside import LOGS, made_aside
from steercpp.runs.database import AGAIN, FORMAT, Database, damaged
from steercpp.runs.layout import packed
from steercpp.runs.manifest import MANIFEST, Manifest, read_manifest, write_manifest

SCHEMA_4 = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE items (kind TEXT, item INTEGER, id TEXT NOT NULL, record TEXT NOT NULL,
    PRIMARY KEY (kind, item)) WITHOUT ROWID;
CREATE TABLE continuations (kind TEXT, item INTEGER, continuation INTEGER, side TEXT NOT NULL, tokens TEXT NOT NULL,
    PRIMARY KEY (kind, item, continuation)) WITHOUT ROWID;
CREATE TABLE groups (label TEXT, kind TEXT, strength REAL, batch INTEGER, n_tokens INTEGER NOT NULL,
    token_layers INTEGER NOT NULL, in_full TEXT, PRIMARY KEY (label, kind, strength, batch)) WITHOUT ROWID;
CREATE TABLE logprobs (label TEXT, kind TEXT, strength REAL, item INTEGER, continuation INTEGER, nats REAL NOT NULL,
    PRIMARY KEY (label, kind, strength, item, continuation)) WITHOUT ROWID;
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
_ALIKE = ("items", "continuations", "groups", "readings", "said", "texts", "verdicts")  # in both formats
Integers: TypeAlias = npt.NDArray[np.int64]
_last: dict[tuple[int, ...], tuple[bytes, str]] = {}  # the settled file that was copied last, and the hash of its rows


def copied(old: Database, *, schema: str, measured: Collection[str], settled: bool) -> tuple[Database, str]:
    """A store of format 4 as one of today's, in memory.

    Args:
        old: the store.
        schema: of today's.
        measured: the tables of what was measured.
        settled: nobody writes to it any more, so that it is copied once.

    Returns:
        the copy, and the hash of what was measured as the file has it.

    Raises:
        RunError: it is damaged, or cannot be read.
    """
    identity = old.identity()
    if settled and identity in _last:
        image, rows_sha256 = _last[identity]
        return Database.of_image(old.path, image), rows_sha256
    with old.snapshot():
        rows_sha256 = old.rows_sha256(measured)
        new = Database.in_memory(old.path, schema=schema, meta=_meta(old))
        with new.transaction() as connection:
            _copy(old, connection)
    if settled:
        _last.clear()
        _last[identity] = new.image(), rows_sha256
    return new, rows_sha256


def bring_to_today(old: Database, *, schema: str, measured: Collection[str]) -> None:
    """Put a store of today's format into the place of one of format 4, and the manifest that belongs to it.

    Args:
        old: the store, open for writing; it is closed. The folder's lock must be held.
        schema: of today's.
        measured: the tables of what was measured.

    Raises:
        RunError: it is damaged, holds other rows than were measured, or the new one cannot be written; nothing is lost.
        SteerError: what a fence around the folder raises, see `files.fenced`.
    """
    path, folder = old.path, old.path.parent
    with (
        closing(old),
        made_aside(
            folder,
            lambda reason: (
                f"{folder}: the run there cannot be brought to the format of this steercpp ({reason}); free some space "
                "or check the folder's rights, then run the same command again; all is kept as it was"
            ),
        ) as aside,
    ):
        places = {path: aside / path.name}
        manifest = _manifest_of(old)
        said = None if manifest is None else manifest.rows_sha256
        if said not in (None, old.rows_sha256(measured)):
            raise RunError(f"{path}: its rows are not those that were measured, though it is intact; {AGAIN}")
        with closing(Database.create(places[path], schema=schema, plan_sha256=old.plan_sha256, meta=_meta(old))) as new:
            with new.transaction() as connection:
                _copy(old, connection)
            rows_sha256 = new.rows_sha256(measured)
        old.close()  # before its file is replaced
        Database.reopen(places[path], schemas={FORMAT: schema}).close()  # has it keep a log from now on
        if manifest is not None:
            write_manifest(aside, replace(manifest, rows_sha256=None if said is None else rows_sha256))
            places[folder / MANIFEST] = aside / MANIFEST
        take_places(places, gone=[folder / f"{path.name}-{kind}" for kind in LOGS])


def _manifest_of(old: Database) -> Manifest | None:
    """The manifest of the run that a store belongs to; a matrix of cross effects has none."""
    folder = old.path.parent
    if not (folder / MANIFEST).is_file():
        return None
    manifest = read_manifest(folder)
    return manifest if manifest.plan.sha256 == old.plan_sha256 else None


def _meta(old: Database) -> dict[str, str]:
    return {**dict(old.rows("SELECT key, value FROM meta")), "format": FORMAT}


def _copy(old: Database, new: sqlite3.Connection) -> None:
    """All rows but those of meta, in one transaction of the new store."""
    there = {name for (name,) in old.rows("SELECT name FROM sqlite_master WHERE type = 'table'")}
    for table in (name for name in _ALIKE if name in there):
        for rows in old.pieces(f"SELECT * FROM {table}"):
            new.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(rows[0]))})", rows)
    first_batch = {
        tuple(group): batch
        for *group, batch in old.rows("SELECT label, kind, strength, min(batch) FROM groups GROUP BY 1, 2, 3")
    }
    counts = {kind: _counts(old, kind) for (kind,) in old.rows("SELECT DISTINCT kind FROM continuations")}
    for group in old.rows("SELECT DISTINCT label, kind, strength FROM logprobs"):
        rows = old.rows(
            "SELECT item, continuation, nats FROM logprobs WHERE label = ? AND kind = ? AND strength = ? "
            "ORDER BY item, continuation", *group
        )  # fmt: skip
        if whole := _whole(old, rows, counts.get(group[1], np.empty(0, np.int64))):
            blobs = packed(whole)
            new.execute("INSERT INTO logprobs VALUES (?, ?, ?, ?, ?, ?)", (*group, first_batch.get(group, 0), *blobs))


def _counts(old: Database, kind: str) -> Integers:
    """(n_items,) how many continuations each item of a kind has."""
    ((n_items,),) = old.rows("SELECT count(*) FROM items WHERE kind = ?", kind)
    counts = np.zeros(n_items, np.int64)
    for item, n in old.rows("SELECT item, count(*) FROM continuations WHERE kind = ? GROUP BY item", kind):
        if 0 <= item < n_items:  # of another, today's store says what is wrong
            counts[item] = n
    return counts


def _whole(
    old: Database, rows: list[tuple[int, int, float]], counts: Integers
) -> list[tuple[int, npt.NDArray[np.float64]]]:
    """(item, its log-probabilities) of each item that has all of them, from rows in order."""
    items, continuations, nats = (np.array(column) for column in zip(*rows, strict=True))
    if items[0] < 0 or items[-1] >= len(counts):
        raise damaged(old.path, f"a log-probability cannot be read: it is of no item, among {len(counts)}")
    there, starts, n = np.unique(items, return_index=True, return_counts=True)
    is_whole = (n == counts[there]) & (np.maximum.reduceat(continuations, starts) == n - 1)
    return [(int(there[i]), nats[starts[i] : starts[i] + n[i]].astype(np.float64)) for i in np.flatnonzero(is_whole)]
