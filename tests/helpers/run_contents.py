"""All that a run's folder says, whatever tables its store has; read this to compare runs that ended in other ways."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from steercpp.runs.folder import STORE, VECTOR_FILE
from steercpp.runs.manifest import MANIFEST
from steercpp.runs.result import open_run

# A pass that is resumed costs less than one in full, and a process that goes on may have to make the first one again.
_COSTS = {"token_layers", "token_layers_plain", "in_full"}
_OF_THE_CALL = {"command", "begun", "finished", "tokens", "resume", "machine", "rows_sha256"}


def rows(folder: Path) -> dict[str, list[str]]:
    """The rows of every table, in the order of their text, but for hosts and what the rows have cost."""
    found: dict[str, list[str]] = {}
    with closing(sqlite3.connect(folder / STORE)) as db:
        tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            columns = [name for _, name, *_ in db.execute(f"PRAGMA table_info({table})") if name not in _COSTS]
            lines = map(repr, db.execute(f"SELECT {', '.join(columns)} FROM {table}"))
            found[table] = sorted(line for line in lines if not line.startswith("('hosts'"))
    return found


def contents(folder: Path) -> dict[str, Any]:
    """Rows, vector, manifest and recommendation of a finished run, but for dates, hosts and costs."""
    result = open_run(folder)
    assert result.finished
    manifest = json.loads((folder / MANIFEST).read_bytes())
    return {
        **rows(folder), "vector": (folder / VECTOR_FILE).read_bytes(), "recommendation": repr(result.recommend()),
        "manifest": {key: value for key, value in manifest.items() if key not in _OF_THE_CALL},
    }  # fmt: skip


def differing(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Which parts of two contents are not the same."""
    return [name for name in sorted({*one, *other}) if one.get(name) != other.get(name)]


def strays(folder: Path) -> list[str]:
    """Files that no ended command should leave."""
    return [
        path.name for path in folder.rglob("*") if path.name.startswith(".") or path.name.endswith(("-wal", "-shm"))
    ]
