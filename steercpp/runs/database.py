"""The SQLite file of a run: making, opening, checking and writing it; store.py tells what is in it."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Self

from steercpp.encoding import spelled
from steercpp.errors import RunError
from steercpp.files import check_fences
from steercpp.runs.database_check import Patience, bound, rows_sha256, strange

FORMAT = "steercpp sweep 4"
# Whichever command finds a run damaged: most that read one cannot replace it.
AGAIN = (
    "measure it again (steercpp sweep, or what else made it) into another folder with `out`, or with `force=True`, "
    "which discards what is there"
)
# What SQLite says where the machine fails and not the file.
_PASSING = (
    sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM,
)  # fmt: skip
_FINISHED = "SELECT 1 FROM groups UNION ALL SELECT 1 FROM said LIMIT 1"
_sound: set[tuple[int, ...]] = set()  # settled files that were found to be sound: device, number, size and times


class Database:
    """An open file; made by `create`, `reopen` or `read`.

    Attributes:
        path: where it is.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection
        self._patience: Patience | None = None  # of one that is read only

    @classmethod
    def create(cls, path: Path, *, schema: str, plan_sha256: str, meta: Mapping[str, str] | None = None) -> Self:
        """A new file with empty tables, a single one until it is reopened: whatever was committed is in it.

        Args:
            path: where.
            schema: the statements that make the tables; meta(key, value), groups and said are among them.
            plan_sha256: hash of the plan whose measurements it takes.
            meta: more that it says of itself.

        Raises:
            RunError: the file exists or cannot be written.
        """
        if path.exists():
            raise RunError(f"{path}: exists already")
        check_fences(path)
        database = cls(path, _connect(path, "rwc"))
        known = {**(meta or {}), "format": FORMAT, "plan_sha256": plan_sha256}
        try:
            with database.transaction() as connection:
                for statement in filter(str.strip, schema.split(";")):
                    connection.execute(statement)
                connection.executemany("INSERT INTO meta VALUES (?, ?)", known.items())
        except BaseException:
            database.close()
            raise
        return database

    @classmethod
    def reopen(cls, path: Path, *, schema: str, optional: Collection[str] = ()) -> Self:
        """A file to go on writing to.

        Args:
            path: the file.
            schema: as of `create`.
            optional: tables that files of earlier versions lack.

        Raises:
            RunError: missing, damaged, or not a store of this format.
        """
        return cls(path, _connect(path, "rw"))._checked(schema, optional)._unhurried()

    @classmethod
    def read(cls, path: Path, *, schema: str, optional: Collection[str] = (), settled: bool = False) -> Self:
        """A file to read only, also from a folder that cannot be written to.

        Args:
            path: the file.
            schema: as of `create`.
            optional: as of `reopen`.
            settled: nobody writes to it any more, so that it can be read without SQLite's index files beside it.

        Raises:
            RunError: missing, damaged, or not a store of this format.
        """
        log = path.with_name(f"{path.name}-wal")
        if settled and not (log.is_file() and log.stat().st_size):
            return cls(path, _connect(path, "ro&immutable=1"))._checked(schema, optional, settled=True)
        try:
            return cls(path, _connect(path, "ro"))._checked(schema, optional)
        except RunError:
            if not path.is_file() or os.access(path.parent, os.W_OK):
                raise
            return cls(path, _connect(path, "ro&immutable=1"))._checked(
                schema, optional
            )  # no place for the index files

    def close(self) -> None:
        """Close the file; every finished group is in it already."""
        self._connection.close()

    @property
    def plan_sha256(self) -> str:
        """Hash of the plan whose measurements these are."""
        return str(self.meta("plan_sha256"))

    def meta(self, key: str) -> str | None:
        """What the file says of itself under a key."""
        rows = self.rows("SELECT value FROM meta WHERE key = ?", key)
        return str(rows[0][0]) if rows else None

    def _unhurried(self) -> Self:
        if self._patience is not None:
            self._patience.end()
            self._patience = None
        return self

    def rows_sha256(self, tables: Collection[str]) -> str:
        """Hash of all rows of some tables.

        Raises:
            RunError: the file is damaged.
        """
        try:
            if self._patience is not None:
                self._patience.renew()
            return rows_sha256(self._connection, tables)
        except sqlite3.DatabaseError as error:
            raise damaged(self.path, str(error)) from error

    def _checked(self, schema: str, optional: Collection[str], *, settled: bool = False) -> Self:
        """Make sure that the file is sound; a settled one is read through once a process."""
        found = self.path.stat()
        identity = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
        try:
            self._patience = Patience(self._connection, self.path)
            self._patience.renew()
            if identity not in _sound and (reason := strange(self._connection, schema, optional=optional)):
                raise damaged(self.path, reason)
            if settled:
                _sound.add(identity)
            if self.rows("SELECT value FROM meta WHERE key = 'format'") != [(FORMAT,)]:
                raise damaged(self.path, f"its format is not {FORMAT!r}")
        except sqlite3.DatabaseError as error:
            self.close()
            raise damaged(self.path, str(error)) from error
        except RunError:
            self.close()
            raise
        return self

    def rows(self, query: str, *values: str | float) -> list[tuple[Any, ...]]:
        """All rows of a query.

        Raises:
            RunError: the file is damaged, or cannot be read.
        """
        try:
            if self._patience is not None:
                self._patience.renew()
            return self._connection.execute(query, values).fetchall()
        except sqlite3.DatabaseError as error:
            raise _refusal(self.path, error) from error

    def _holds_groups(self) -> bool:
        try:
            return self._connection.execute(_FINISHED).fetchone() is not None
        except sqlite3.DatabaseError:  # not even the tables could be written
            return False

    @staticmethod
    def holds_groups(path: Path) -> bool | None:
        """Whether anything was measured into a file; nothing was where it has no tables. None: it is damaged.

        Raises:
            RunError: it cannot be read at the moment.
        """
        if not path.exists():
            return False
        try:
            with closing(_connect(path, "ro")) as connection:
                return connection.execute(_FINISHED).fetchone() is not None
        except sqlite3.DatabaseError as error:
            if _code(error) == sqlite3.SQLITE_ERROR:  # no such table
                return False
            code = _code(error)
            if code in _PASSING and code != sqlite3.SQLITE_READONLY:  # that: half of a change is to be taken back
                raise _refusal(path, error) from error
            return None

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """A connection whose statements are committed together, or not at all.

        Raises:
            RunError: the file is damaged, or cannot be written to, for example because the disk is full.
            SteerError: what a fence around the folder raises, see `files.fenced`; nothing is committed.
        """
        try:
            with self._connection:
                check_fences(self.path)
                self._connection.execute("BEGIN IMMEDIATE")
                yield self._connection
                check_fences(self.path)
        except sqlite3.OperationalError as error:
            check_fences(self.path)  # which say more than that a file is not there
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
        try:
            bound(db)
            if mode == "rw":
                db.execute("PRAGMA journal_mode=WAL")
                db.execute("PRAGMA synchronous=NORMAL")
        except BaseException:
            db.close()
            raise
        return db
    except sqlite3.OperationalError as error:
        raise RunError(
            f"{path}: cannot be opened ({error}); check the folder's rights, or choose another folder with `out`"
        ) from error
    except sqlite3.DatabaseError as error:
        raise damaged(path, str(error)) from error


def _code(error: sqlite3.DatabaseError) -> int:
    """SQLite's number of an error; of one that Python made, such as for a text that is not UTF-8, that of damage."""
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF


def _refusal(path: Path, error: sqlite3.DatabaseError) -> RunError:
    """What to say where SQLite fails to read."""
    if _code(error) in _PASSING:
        return RunError(f"{path}: cannot be read ({error}); check the disk and the folder's rights, then try again")
    return damaged(path, str(error))


def damaged(path: Path, reason: str) -> RunError:
    """What to say of a file that cannot be used."""
    return RunError(f"{path}: not a usable sweep store ({' '.join(spelled(reason).split())[:200]}); {AGAIN}")
