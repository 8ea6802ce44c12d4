"""The SQLite file of a run: making, opening, checking and writing it; store.py tells what is in it."""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Self

from steercpp.encoding import spelled
from steercpp.errors import RunError
from steercpp.files import check_fences
from steercpp.runs.database_check import Patience, bound, foreign, rows_sha256, strange

FORMAT = "steercpp sweep 5"
FORMAT_4 = "steercpp sweep 4"  # which is read, and brought to today's where it is written to (migration.py)
_NUMBERED = re.compile(r"steercpp sweep (\d{1,9})", re.ASCII)
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
_AT_ONCE = 10_000  # rows
_FINISHED = "SELECT 1 FROM groups UNION ALL SELECT 1 FROM said LIMIT 1"
_sound: set[tuple[int, ...]] = set()  # settled files that were found to be sound: device, number, size and times


class Database:
    """An open file; made by `create`, `reopen` or `read`.

    Attributes:
        path: where it is.
        format: of its tables, today's or an earlier one that was asked for.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self.format = FORMAT
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
        try:
            with database.transaction() as connection:
                _make_tables(connection, schema, {**(meta or {}), "format": FORMAT, "plan_sha256": plan_sha256})
        except BaseException:
            database.close()
            raise
        return database

    @classmethod
    def in_memory(cls, path: Path, *, schema: str, meta: Mapping[str, str]) -> Self:
        """A file that is nowhere, with empty tables; it passes for the one at a path.

        Args:
            path: of the other file.
            schema: as of `create`.
            meta: all that it says of itself.
        """
        database = cls(path, sqlite3.connect(":memory:", isolation_level=None))
        bound(database._connection)
        _make_tables(database._connection, schema, meta)
        return database

    @classmethod
    def reopen(cls, path: Path, *, schemas: Mapping[str, str], optional: Collection[str] = ()) -> Self:
        """A file to go on writing to.

        Args:
            path: the file.
            schemas: statements as of `create`, for each format that it may have.
            optional: tables that files of earlier versions lack.

        Raises:
            RunError: missing, damaged, or a store of no such format.
        """
        return cls(path, _connect(path, "rw"))._checked(schemas, optional)._unhurried()

    @classmethod
    def read(
        cls, path: Path, *, schemas: Mapping[str, str], optional: Collection[str] = (), settled: bool = False
    ) -> Self:
        """A file to read only, also from a folder that cannot be written to.

        Args:
            path: the file.
            schemas: as of `reopen`.
            optional: as of `reopen`.
            settled: nobody writes to it any more, so that it can be read without SQLite's index files beside it.

        Raises:
            RunError: missing, damaged, or a store of no such format.
        """
        log = path.with_name(f"{path.name}-wal")
        if settled and not (log.is_file() and log.stat().st_size):
            return cls(path, _connect(path, "ro&immutable=1"))._checked(schemas, optional, settled=True)
        try:
            return cls(path, _connect(path, "ro"))._checked(schemas, optional)
        except RunError:
            if not path.is_file() or os.access(path.parent, os.W_OK):
                raise
            return cls(path, _connect(path, "ro&immutable=1"))._checked(
                schemas, optional
            )  # no place for the index files

    @classmethod
    def glance(cls, path: Path, *, schemas: Mapping[str, str], optional: Collection[str] = ()) -> None:
        """See that a settled file is one of ours by its schema and format, without reading its rows.

        Raises:
            RunError: as `read`, as far as that is seen.
        """
        log = path.with_name(f"{path.name}-wal")
        mode = "ro" if log.is_file() and log.stat().st_size else "ro&immutable=1"
        cls(path, _connect(path, mode))._checked(schemas, optional, check=foreign).close()

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

    def identity(self) -> tuple[int, ...]:
        """What changes where the file does: device, number, size and times."""
        found = self.path.stat()
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns

    def _checked(
        self,
        schemas: Mapping[str, str],
        optional: Collection[str],
        *,
        settled: bool = False,
        check: Callable[..., str | None] = strange,
    ) -> Self:
        """Make sure that the file is sound; a settled one is read through once a process."""
        identity = self.identity()
        try:
            self._patience = Patience(self._connection, self.path)
            self._patience.renew()
            self.format = self._said_format()
            refuse_newer(self.path, self.format)
            schema = schemas.get(self.format, schemas[FORMAT])
            self._patience.renew()
            if identity not in _sound and (reason := check(self._connection, schema, optional=optional)):
                raise damaged(self.path, reason)
            if settled:
                _sound.add(identity)
            if self.format not in schemas:
                raise damaged(self.path, f"its format is not {FORMAT!r}")
        except sqlite3.DatabaseError as error:
            self.close()
            if _code(error) == sqlite3.SQLITE_BUSY:  # it is whole, and cannot be locked now
                raise _refusal(self.path, error) from error
            raise damaged(self.path, str(error)) from error
        except RunError:
            self.close()
            raise
        return self

    def _said_format(self) -> str:
        """What it says is its format, before it is known whether it is sound."""
        try:
            row = self._connection.execute("SELECT value FROM meta WHERE key = 'format'").fetchone()
        except sqlite3.DatabaseError:  # what is wrong is told where it is checked
            return ""
        return row[0] if row is not None and isinstance(row[0], str) else ""

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """What is read inside is of one moment, also where another process writes."""
        self._connection.execute("BEGIN")
        try:
            yield
        finally:
            self._connection.execute("COMMIT")

    def pieces(self, query: str, *values: str | float) -> Iterator[list[tuple[Any, ...]]]:
        """All rows of a query, a few at a time.

        Raises:
            RunError: the file is damaged, or cannot be read.
        """
        try:
            if self._patience is not None:
                self._patience.renew()
            found = self._connection.execute(query, values)
            while some := found.fetchmany(_AT_ONCE):
                yield some
        except sqlite3.DatabaseError as error:
            raise _refusal(self.path, error) from error

    def image(self) -> bytes:
        """The whole file, of one that is in memory."""
        return self._connection.serialize()

    @classmethod
    def of_image(cls, path: Path, image: bytes) -> Self:
        """What `image` gave, as it was; it passes for the file at a path."""
        database = cls(path, sqlite3.connect(":memory:", isolation_level=None))
        database._connection.deserialize(image)
        bound(database._connection)
        return database

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


def _make_tables(connection: sqlite3.Connection, schema: str, meta: Mapping[str, str]) -> None:
    for statement in filter(str.strip, schema.split(";")):
        connection.execute(statement)
    connection.executemany("INSERT INTO meta VALUES (?, ?)", meta.items())


def refuse_newer(path: Path, form: object) -> None:
    """See that a file is not of a format that comes after today's.

    Raises:
        RunError: it is.
    """
    of_file, ours = (_NUMBERED.fullmatch(name) if isinstance(name, str) else None for name in (form, FORMAT))
    if of_file and ours and int(of_file[1]) > int(ours[1]):
        raise RunError(
            f"{path}: of a run in the format {form!r}, which a newer steercpp has written; this one reads {FORMAT!r} "
            f"and {FORMAT_4!r}: install a newer version of steercpp"
        )


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
                db.execute("PRAGMA synchronous=FULL")  # a commit that returned outlasts a power cut
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
