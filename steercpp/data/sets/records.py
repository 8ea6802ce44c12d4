"""Rows of CSV, JSON and JSON Lines files as they stand; read this to add a reader of a data set.

Every reader gives `Record`s: the fields of a row by name, unchanged, and the path:line where the row begins, which
messages start with. Files are UTF-8; a byte-order mark is skipped; line ends inside a field are kept.
"""

from __future__ import annotations

import csv
import difflib
import gzip
import io
import json
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from steercpp.data.json_stream import iter_items
from steercpp.encoding import refuse_half_characters
from steercpp.errors import DataSetError, PairsError
from steercpp.inputs import open_input, reading
from steercpp.spreadsheets import n_columns

LARGEST = 1 << 28  # bytes, unpacked; the largest official file has 3 MB, and a gzip file may claim anything
_GZIP = b"\x1f\x8b"
_Row = TypeVar("_Row")


@dataclass(frozen=True, slots=True)
class Record:
    """Fields of one row by their official names, and where it stands."""

    place: str
    fields: Mapping[str, Any]

    def error(self, what: str) -> DataSetError:
        """The error that says so at this place."""
        return DataSetError(f"{self.place}: {what}")

    def text(self, key: str, *, may_be_blank: bool = False) -> str:
        """The field, a text.

        Raises:
            DataSetError: it is missing, no text, blank although it must not be, or half of a character.
        """
        value = self.fields.get(key)
        if not isinstance(value, str):
            problem = f"is {json.dumps(value)[:40]} and no text" if key in self.fields else "is missing"
            raise self.error(f"{key!r} {problem}; give the official file, unchanged")
        if not (value.strip() or may_be_blank):
            raise self.error(f"{key!r} is blank; give the official file, unchanged")
        return refuse_half_characters(value, DataSetError, where=f"{self.place}: {key!r}: ")

    def texts(self, *keys: str, may_be_blank: Collection[str] = ()) -> tuple[str, ...]:
        """These fields, texts in this order, and the place last, as dataclasses of rows take them; raises as `text`."""
        return *(self.text(key, may_be_blank=key in may_be_blank) for key in keys), self.place

    def all_texts(self, key: str) -> tuple[str, ...]:
        """The field, a list of texts of which none is blank; raises as `text`."""
        value = self.fields.get(key)
        if not isinstance(value, list) or not value:
            raise self.error(f"{key!r} must be a list of texts; give the official file, unchanged")
        return tuple(Record(self.place, {key: text}).text(key) for text in value)

    def one_of(self, key: str, allowed: Iterable[str]) -> str:
        """The field, which says one of these."""
        value = self.text(key)
        if value not in (names := tuple(allowed)):
            raise self.error(f"{key!r} is {value!r}; expected {' or '.join(names)}")
        return value

    def records(self, key: str) -> tuple[Record, ...]:
        """The field, a list of objects, which all stand at this place."""
        value = self.fields.get(key)
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise self.error(f"{key!r} must be a list of objects; give the official file, unchanged")
        return tuple(Record(self.place, item) for item in value)


def known(name: str, names: Iterable[str], what: str, *, where: Path | str = "") -> str:
    """The name itself, if it is one of these.

    Raises:
        DataSetError: it is not; the message offers those that look like it, or else all of them.
    """
    offered = sorted(names)
    if name in offered:
        return name
    near = difflib.get_close_matches(name.lower().replace(" ", "_"), offered)
    advice = f"did you mean {' or '.join(near)}?" if near else f"use one of {', '.join(offered)}"
    raise DataSetError(f"{where}{': ' if where else ''}{what} {name!r} is unknown; {advice}")


def refuse_parts(path: Path | str, **parts: str | None) -> None:
    """Nothing, unless a part of a folder was asked of a single file.

    Raises:
        DataSetError: one was, which the message names.
    """
    if given := [name for name, part in parts.items() if part is not None]:
        raise DataSetError(f"{path}: a file is read whole; give the folder, or leave out {' and '.join(given)}")


def filled(rows: Iterable[_Row], path: Path | str) -> tuple[_Row, ...]:
    """The rows, of which there is at least one.

    Raises:
        DataSetError: there is none.
    """
    with reading(path, DataSetError):
        if filled_rows := tuple(rows):
            return filled_rows
        raise DataSetError(f"{path}: the set is empty; give the official file, unchanged")


def read_text(path: Path | str) -> str:
    """All of a text file, unpacked if it is a gzip file, without a byte-order mark.

    Raises:
        DataSetError: unreadable, a gzip file cut off or damaged, larger than 256 MiB, or not UTF-8 (path:line).
    """
    with reading(path, DataSetError):
        try:
            with open_input(path) as file:
                is_packed = file.read(len(_GZIP)) == _GZIP
                file.seek(0)
                with gzip.open(file) if is_packed else file as content:
                    data = content.read(LARGEST + 1)
        except EOFError as error:
            raise DataSetError(f"{path}: the gzip file is cut off; fetch it again") from error
        except (gzip.BadGzipFile, zlib.error) as error:
            raise DataSetError(f"{path}: the gzip file is damaged ({error}); fetch it again") from error
        except OSError as error:
            raise _unreadable(path, error) from error
        if len(data) > LARGEST:
            raise DataSetError(f"{path}: larger than 256 MiB, as no data set is; check the path")
        try:
            return data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = error.object.count(b"\n", 0, error.start) + 1
            raise DataSetError(
                f"{path}:{line}: byte 0x{error.object[error.start]:02x} is not UTF-8; save the file as UTF-8"
            ) from error


def csv_records(path: Path | str, *headers: tuple[str, ...]) -> Iterator[Record]:
    """Rows under a header.

    Args:
        path: the file.
        headers: those it may have, the usual one first.

    Raises:
        DataSetError: another header, a row of another width, or one that is no CSV, with path:line.
    """
    rows = _csv_rows(path)
    line, header = next(rows, (1, []))
    if tuple(header) not in headers:
        raise DataSetError(
            f"{path}:{line}: the header is {','.join(header)[:80]!r}; expected {','.join(headers[0])!r}, as in the "
            "official file"
        )
    return _named(path, tuple(header), rows)


def csv_rows_with(path: Path | str, columns: tuple[str, ...]) -> Iterator[Record]:
    """Rows under a header that has at least these columns, in any order.

    Raises:
        DataSetError: a column is missing, a row of another width, or one that is no CSV, with path:line.
    """
    rows = _csv_rows(path)
    line, header = next(rows, (1, []))
    if missing := [column for column in columns if column not in header]:
        raise DataSetError(f"{path}:{line}: the column {missing[0]!r} is missing; give the official file, unchanged")
    return _named(path, tuple(header), rows)


def headerless_records(path: Path | str, columns: tuple[str, ...]) -> Iterator[Record]:
    """Rows of a file without header; raises like `csv_records`."""
    return _named(path, columns, _csv_rows(path))


def _named(path: Path | str, columns: tuple[str, ...], rows: Iterator[tuple[int, list[str]]]) -> Iterator[Record]:
    for line, row in rows:
        if len(row) != len(columns):
            raise DataSetError(f"{path}:{line}: {n_columns(row)}; expected {len(columns)}: {','.join(columns)}")
        yield Record(f"{path}:{line}", dict(zip(columns, row, strict=True)))


def _csv_rows(path: Path | str) -> Iterator[tuple[int, list[str]]]:
    """Rows that are not blank, with the line on which each begins."""
    with reading(path, DataSetError):
        reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
        line = 1
        try:
            for row in reader:
                if row:
                    yield line, row
                line = reader.line_num + 1
        except csv.Error as error:
            raise DataSetError(f"{path}:{line}: not CSV ({error}); give the official file, unchanged") from error


def json_records(path: Path | str) -> Iterator[Record]:
    """Objects of one JSON array.

    Raises:
        DataSetError: unreadable, not UTF-8, no array, cut off, or an item that is no object, with path:line.
    """
    with reading(path, DataSetError):
        try:
            for line, item in iter_items(path):
                yield _object(f"{path}:{line}", item)
        except PairsError as error:
            raise DataSetError(str(error)) from error
        except OSError as error:
            raise _unreadable(path, error) from error


def json_line_records(path: Path | str) -> Iterator[Record]:
    """Objects of JSON Lines, one a line, blank lines skipped; raises like `json_records`."""
    for number, line in enumerate(read_text(path).split("\n"), start=1):  # a text may hold U+2028, no line end here
        if line.strip():
            yield _object(f"{path}:{number}", parse_json(line, path, first_line=number))


def parse_json(text: str, path: Path | str, *, first_line: int = 1) -> Any:
    """The value of a JSON text that begins on this line of the file.

    Raises:
        DataSetError: not JSON, with path:line.
    """
    with reading(path, DataSetError):
        try:
            return json.loads(text)
        except json.JSONDecodeError as error:
            place = f"{path}:{first_line + error.lineno - 1}"
            raise DataSetError(f"{place}: not JSON ({error.msg} at column {error.colno}); fetch it again") from error
        except RecursionError as error:
            raise DataSetError(f"{path}:{first_line}: nested too deeply; give the official file, unchanged") from error


def _object(place: str, item: Any) -> Record:
    if not isinstance(item, dict):
        raise DataSetError(f"{place}: expected an object, found {json.dumps(item)[:40]}; give the official file")
    return Record(place, item)


def _unreadable(path: Path | str, error: OSError) -> DataSetError:
    return DataSetError(f"{path}: cannot be read ({error.strerror}); check the path of the data set")
