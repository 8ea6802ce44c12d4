"""Whether a SQLite file is one of ours, before anything in it is believed; read this when a store is refused.

A store may come from a stranger, or have been damaged. A view in place of a table can go on for ever, a trigger acts
when something is written, and SQLite keeps a text where a number is due. So its schema is compared with ours to the
letter, and every value's type with its column's. What is left to go wrong takes a bounded number of SQLite's steps.
"""

from __future__ import annotations

import hashlib
import marshal
import re
import sqlite3
from collections.abc import Collection, Iterator
from pathlib import Path

_STEPS = 1_000_000  # of SQLite's machine, after which it asks whether to go on
_PATIENCE = 300  # times that it may ask for a query, and as often again for each 20 kB of the file
_ROWS, _ROWS_OF_BLOBS = 10_000, 100  # hashed at once, which the hash depends on
_LIMITS = {
    sqlite3.SQLITE_LIMIT_LENGTH: 1 << 28,  # bytes of a text or a row
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: 100_000,
    sqlite3.SQLITE_LIMIT_EXPR_DEPTH: 200,
    sqlite3.SQLITE_LIMIT_COMPOUND_SELECT: 20,
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
    sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH: 1,
}
_TYPES = {"TEXT": "text", "INTEGER": "integer", "REAL": "real", "BLOB": "blob"}
_TABLE = re.compile(r"CREATE TABLE (\w+) ")


class Patience:
    """Ends a query that takes more steps than a file of this size can need."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection, self._path, self._asked = connection, path, 0

    def renew(self) -> None:
        """Before each query."""
        self._asked, most = 0, _PATIENCE + self._path.stat().st_size // 20_000

        def ask() -> bool:
            self._asked += 1
            return self._asked > most

        self._connection.set_progress_handler(ask, _STEPS)

    def end(self) -> None:
        """Let queries take as long as they like."""
        self._connection.set_progress_handler(None, 0)


def bound(connection: sqlite3.Connection) -> None:
    """Let an open file call nothing and claim nothing large."""
    for limit, most in _LIMITS.items():
        connection.setlimit(limit, most)
    connection.execute("PRAGMA trusted_schema=OFF")
    connection.execute("PRAGMA cell_size_check=ON")


def strange(connection: sqlite3.Connection, schema: str, *, optional: Collection[str] = ()) -> str | None:
    """What of a file is not ours, in a user's words; None where all is.

    Args:
        connection: bound.
        schema: the statements that made it.
        optional: tables that files of earlier versions lack.

    Raises:
        sqlite3.DatabaseError: it is damaged.
    """
    if reason := foreign(connection, schema, optional=optional):
        return reason
    if connection.execute("PRAGMA quick_check(1)").fetchall() != [("ok",)]:
        return "its pages do not fit together"
    for (name,) in connection.execute("SELECT name FROM sqlite_master ORDER BY name").fetchall():
        if connection.execute(_wrong_types(connection, name)).fetchone() is not None:
            return f"the table {name} has a value of another type than its column"
    return None


def foreign(connection: sqlite3.Connection, schema: str, *, optional: Collection[str] = ()) -> str | None:
    """As `strange`, of the schema alone, however many rows there are."""
    ours = {match[1]: _plain(sql) for sql in schema.split(";") if (match := _TABLE.search(sql))}
    there: set[str] = set()
    for kind, name, sql in connection.execute("SELECT type, name, sql FROM sqlite_master"):
        if kind != "table" or not isinstance(sql, str) or ours.get(name) != _plain(sql):
            return f"it holds a {kind} {str(name)[:40]!r} that is not ours"
        there.add(name)
    if missing := sorted(ours.keys() - there - set(optional)):
        return f"it lacks the table {missing[0]}"
    return None


def rows_sha256(connection: sqlite3.Connection, tables: Collection[str]) -> str:
    """Hash of all rows of some tables, in the order of their keys; a table that is not there has none."""
    digest = hashlib.sha256()
    known = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    for table in sorted(set(tables) & known):
        columns = list(_columns(connection, table))
        keys = ", ".join(name for name, _, _, in_key in columns if in_key)
        rows = connection.execute(f"SELECT * FROM {table} ORDER BY {keys}")
        at_once = _ROWS_OF_BLOBS if any(kind == "BLOB" for _, kind, _, _ in columns) else _ROWS
        digest.update(f"{table}\n".encode())
        while some := rows.fetchmany(at_once):
            digest.update(marshal.dumps(some, 2))  # version 2: the same values give the same bytes
    return digest.hexdigest()


def _plain(sql: str) -> str:
    return " ".join(sql.split())


def _columns(connection: sqlite3.Connection, table: str) -> Iterator[tuple[str, str, bool, bool]]:
    """Name, declared type, whether there is always a value, and whether it is part of the key."""
    for _, name, kind, not_null, _, in_key in connection.execute(f"PRAGMA table_info({table})"):
        yield name, kind, bool(not_null or in_key), bool(in_key)


def _wrong_types(connection: sqlite3.Connection, table: str) -> str:
    """The query of a row that has a value of a wrong type."""
    wrong = [
        f"typeof({name}) != '{_TYPES[kind]}'" + ("" if always else f" AND {name} IS NOT NULL")
        for name, kind, always, _ in _columns(connection, table)
    ]
    return f"SELECT 1 FROM {table} WHERE {' OR '.join(wrong)} LIMIT 1"
