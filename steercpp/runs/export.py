"""A run's numbers as one table in a file: CSV, JSON Lines or Parquet, by the name's ending.

    export_run(open_run("runs/refusal"), "items", Path("refusal.parquet"))

Three tables: `strengths` has a row for each strength, as `SweepResult.to_frame`; `items` one for each log-probability
that was measured, controls among them; `texts` one for each generated text. The last two are written piece by piece, so
that a large run needs no more memory than a strength of it. Their columns stand in docs/measures.md.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial
from io import RawIOBase
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from steercpp.choices import TABLES, TableName
from steercpp.encoding import json_ready
from steercpp.errors import InputError
from steercpp.files import Draft, write_whole
from steercpp.runs.folder import STORE
from steercpp.runs.labels import SHOWCASE
from steercpp.runs.store import Store
from steercpp.spreadsheets import csv_bytes

if TYPE_CHECKING:
    from steercpp.runs.result import SweepResult

Columns: TypeAlias = Mapping[str, Sequence[Any]]


def export_run(result: SweepResult, table: TableName, path: Path, *, force: bool = False) -> int:
    """Write a table of a run to a file.

    Args:
        result: the run, finished or not.
        table: which.
        path: ends in .csv, .jsonl or .parquet; CSV has 10 digits of a number, the others all.
        force: whether it may replace a file.

    Returns:
        how many rows it has.

    Raises:
        InputError: another ending or table, a run without texts, pyarrow is not installed, or the file cannot be
            written. RunError: the run is damaged.

    >>> export_run(open_run("run"), "items", Path("items.csv"))
    672
    """
    if table not in TABLES:
        raise InputError(f"there is no table {table!r}; use one of {', '.join(TABLES)}")
    if path.suffix not in _WRITERS:
        raise InputError(f"{path}: its ending says no form of table; use {', '.join(_WRITERS)}")
    write = _WRITERS[path.suffix]
    n_rows = 0

    def counted() -> Iterator[Columns]:
        nonlocal n_rows
        for columns in _pieces(result, table):
            n_rows += len(next(iter(columns.values())))
            yield columns

    write_whole(path, lambda draft: write(draft, counted()), force=force, error=InputError)
    return n_rows


def _pieces(result: SweepResult, table: TableName) -> Iterator[Columns]:
    """The table in pieces with the same columns, at least one."""
    if table == "strengths":
        yield result.columns()
        return
    with Store.read(result.folder / STORE, settled=result.finished) as store:
        measured = sorted({(group.label, group.kind, group.strength) for group in store.finished()})
        if table == "items":
            of_kind = cache(partial(_item_columns, store))  # the same under all labels and strengths
            for label, kind, strength in measured:
                yield _item_rows(store, of_kind(kind), label, kind, strength)
            return
        labels = store.text_labels()
        if not labels:
            raise InputError(f"{result.folder}: holds no generated texts; sweep with `max_tokens` to have some")
        for label, kind in labels:
            yield _text_rows(store, label, kind)


def _item_columns(store: Store, kind: str) -> Columns:
    """What there is to say of each continuation of one kind of item."""
    rows = [
        (number, item.id, i, continuation.side, len(continuation.tokens))
        for number, (item, of_item) in enumerate(zip(store.items(kind), store.continuations(kind), strict=True))
        for i, continuation in enumerate(of_item)
    ]
    names = ("item", "id", "continuation", "side", "n_tokens")
    return {name: [row[place] for row in rows] for place, name in enumerate(names)}


def _item_rows(store: Store, of_kind: Columns, label: str, kind: str, strength: float) -> Columns:
    """The log-probabilities of one kind of item under a label at a strength, where they are measured."""
    (nats,) = store.logprobs(label, kind, [strength])
    there = np.flatnonzero(~np.isnan(nats)).tolist()
    return {
        "label": [label] * len(there), "kind": [kind] * len(there), "strength": [strength] * len(there),
        **{name: [values[place] for place in there] for name, values in of_kind.items()}, "nats": nats[there].tolist(),
    }  # fmt: skip


def _text_rows(store: Store, label: str, kind: str) -> Columns:
    """The texts of one kind of item under a label."""
    texts = store.texts(label, kind)
    ids = [item.id for item in (store.requests() if kind == SHOWCASE else store.items(kind))]
    return {
        "label": [label] * len(texts), "kind": [kind] * len(texts), "strength": [text.strength for text in texts],
        "item": [text.item for text in texts], "id": [ids[text.item] for text in texts],
        "sample": [text.sample for text in texts], "text": [text.text for text in texts],
        "n_tokens": [text.n_tokens for text in texts], "finish": [text.finish for text in texts],
        "nats": [text.nats for text in texts],
    }  # fmt: skip


def _write_csv(draft: Draft, pieces: Iterator[Columns]) -> None:
    for number, columns in enumerate(pieces):
        heading, _, rows = csv_bytes(columns).partition(b"\n")
        draft.write(rows if number else heading + b"\n" + rows)


def _write_jsonl(draft: Draft, pieces: Iterator[Columns]) -> None:
    for columns in pieces:
        rows = zip(*columns.values(), strict=True)
        lines = (json.dumps(json_ready(dict(zip(columns, row, strict=True))), allow_nan=False) for row in rows)
        draft.write("".join(f"{line}\n" for line in lines).encode())


def _write_parquet(draft: Draft, pieces: Iterator[Columns]) -> None:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise InputError("pyarrow is not installed; `pip install 'steercpp[parquet]'` does") from error
    writer = None
    for columns in pieces:
        table = pyarrow.table(dict(columns), schema=None if writer is None else writer.schema)
        if writer is None:
            schema = pyarrow.schema([_settled(pyarrow, field) for field in table.schema])
            table, writer = table.cast(schema), pyarrow.parquet.ParquetWriter(_Stream(draft), schema)
        writer.write_table(table)
    if writer is not None:
        writer.close()


def _settled(pyarrow: Any, field: Any) -> Any:
    """A column whose first piece has no value in it: of numbers, as all columns are that may lack some."""
    return field.with_type(pyarrow.float64()) if pyarrow.types.is_null(field.type) else field


class _Stream(RawIOBase):
    """A draft as a stream that is only written."""

    def __init__(self, draft: Draft) -> None:
        self._draft = draft

    def writable(self) -> bool:
        """Yes."""
        return True

    def write(self, data: Any) -> int:
        """Write all of it."""
        return self._draft.write(memoryview(data))

    def tell(self) -> int:
        """Bytes so far."""
        return self._draft.size


_WRITERS: Mapping[str, Callable[[Draft, Iterator[Columns]], None]] = {
    ".csv": _write_csv, ".jsonl": _write_jsonl, ".parquet": _write_parquet
}  # fmt: skip
