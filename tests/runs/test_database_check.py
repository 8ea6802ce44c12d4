"""A run from a stranger: only our own tables, values of their columns' types, and the rows that were measured."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from places import ROOT
from planted_run import write_planted_run

from steercpp.errors import RunError
from steercpp.runs.database_check import Patience, bound, rows_sha256
from steercpp.runs.folder import STORE
from steercpp.runs.manifest import MANIFEST
from steercpp.runs.result import open_run
from steercpp.runs.store import Store

# other first 8 bytes of the numbers
SPOILED = "nats = CAST(x'{}' || substr(nats, 9) AS BLOB)"
ENDLESS = "WITH RECURSIVE r(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM r) SELECT x FROM r"


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_planted_run(tmp_path_factory.mktemp("runs") / "run", strengths="-0.5:0.5:0.5", n_random=0)


@pytest.fixture
def run(planted: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(planted, tmp_path / "run"))


def change(run: Path, script: str) -> None:
    with closing(sqlite3.connect(run / STORE)) as connection:
        connection.executescript(script)
        connection.commit()


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (f"ALTER TABLE groups RENAME TO zz; CREATE VIEW groups AS {ENDLESS}", "holds a table 'zz' that is not ours"),
        (f"DROP TABLE groups; CREATE VIEW groups AS {ENDLESS}", "holds a view 'groups' that is not ours"),
        ("CREATE TRIGGER t AFTER INSERT ON verdicts BEGIN DELETE FROM meta; END", "holds a trigger 't'"),
        ("CREATE INDEX i ON logprobs(batch)", "holds a index 'i'"),
        ("ALTER TABLE logprobs ADD COLUMN y", "holds a table 'logprobs' that is not ours"),
        ("DROP TABLE texts", "lacks the table texts"),
        ("UPDATE logprobs SET nats = -1.5 WHERE kind = 'choice'", "table logprobs has a value of another type"),
        ("UPDATE items SET record = x'00' WHERE item = 1", "table items has a value of another type"),
        ("UPDATE groups SET n_tokens = 1.5", "table groups has a value of another type"),
        ("UPDATE continuations SET side = '999999' WHERE kind = 'choice'", "the sides of item 0"),
        ("UPDATE continuations SET side = '3' WHERE kind = 'choice' AND side = '2'", "the sides of item 0"),
        ("UPDATE continuations SET side = 'x' WHERE kind = 'behavior'", "the sides of item 0"),
        (f"UPDATE logprobs SET {SPOILED.format('000000000000f0ff')}", "a log-probability cannot be read: -inf nats"),
        (f"UPDATE logprobs SET {SPOILED.format('000000000000f87f')}", "a log-probability cannot be read: nan nats"),
        (f"UPDATE logprobs SET {SPOILED.format('0000000000000054')}", "a log-probability cannot be read: .* nats"),
        ("UPDATE logprobs SET items = CAST(items || x'00000000' AS BLOB)", "item 0 is in two groups"),
        ("UPDATE logprobs SET items = CAST(x'ffffffff' || substr(items, 5) AS BLOB)", "it is of item -1"),
        ("UPDATE logprobs SET items = CAST(x'00000001' || substr(items, 5) AS BLOB)", "it is of item 16777216, of"),
        ("UPDATE logprobs SET items = CAST(items || x'00' AS BLOB)", "has no numbers of items"),
        ("UPDATE logprobs SET items = x''", "has no numbers of items"),
        ("UPDATE logprobs SET items = substr(items, 5)", "more or fewer of them than its items have continuations"),
        ("UPDATE groups SET label = 'random-x'", "a group cannot be read"),
        ("UPDATE OR REPLACE groups SET strength = 9e999", "a group cannot be read"),
        ("UPDATE items SET item = 9999 WHERE item = 0", "an item cannot be read"),
        ("UPDATE items SET record = hex(zeroblob(10)) || printf('%.*c', 100000, '[')", "an item cannot be read"),
        ("UPDATE items SET record = '[]'", "an item cannot be read"),
        ("UPDATE items SET record = CAST(x'0a0aff' AS TEXT) WHERE item = 1", "Could not decode to UTF-8"),
    ],
)
def test_what_is_not_ours_is_refused(run: Path, script: str, reason: str) -> None:
    change(run, script)
    with pytest.raises(RunError, match=f"{STORE}: not a usable sweep store .*{reason}") as raised:
        open_run(run)
    assert "\n" not in str(raised.value)


def test_a_changed_row_is_noticed(run: Path) -> None:
    """One flipped bit in the rows was read as another measurement."""
    with Store.read(run / STORE) as store:
        sha256 = store.rows_sha256()
    record = json.loads((run / MANIFEST).read_bytes())
    (run / MANIFEST).write_text(json.dumps({**record, "rows_sha256": sha256}))
    assert open_run(run).finished
    change(run, "UPDATE logprobs SET nats = CAST(x'00' || substr(nats, 2) AS BLOB) WHERE kind = 'choice'")
    with pytest.raises(RunError, match="its rows are not those that were measured"):
        open_run(run)


def test_verdicts_may_come_later(run: Path) -> None:
    with Store.reopen(run / STORE) as store:
        before = store.rows_sha256()
        change(run, "INSERT INTO verdicts VALUES ('vector', 'code', 0.0, 0, 0, 1, '')")
        assert store.rows_sha256() == before


def test_the_hash_is_of_the_rows_alone(run: Path) -> None:
    """Neither the order in which they were written nor the file's pages count."""
    with closing(sqlite3.connect(run / STORE)) as connection:
        before = rows_sha256(connection, ["logprobs"])
        connection.executescript("CREATE TEMP TABLE t AS SELECT * FROM logprobs; DELETE FROM logprobs; "
                                 "INSERT INTO logprobs SELECT * FROM t ORDER BY nats; VACUUM")  # fmt: skip
        assert rows_sha256(connection, ["logprobs"]) == before
        connection.execute("DELETE FROM logprobs WHERE strength = 0")
        assert rows_sha256(connection, ["logprobs"]) != before


def test_no_query_goes_on_for_ever(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE t (x)")
        bound(connection)
        patience = Patience(connection, path)
        patience.renew()
        with pytest.raises(sqlite3.OperationalError, match="interrupted"):
            connection.execute(f"SELECT max(x) FROM ({ENDLESS})").fetchall()
        patience.renew()
        assert connection.execute("SELECT count(*) FROM t").fetchall() == [(0,)]
        with pytest.raises(sqlite3.DataError, match="too big"):
            connection.execute("SELECT randomblob(1000000000)")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seed": -1}, "its plan is not complete"),
        ({"strengths": ["a"]}, "its plan is not complete"),
        ({"strengths": [float("nan")]}, "its plan is not complete"),
        ({"items": {"behavior": 5}}, "its plan is not complete"),
        ({"n_ctx": "many"}, "its plan is not complete"),
        ({"unit": "miles"}, "its plan is not complete"),
        ({"gate": "below"}, "its plan is not complete"),
    ],
)
def test_a_plan_of_other_types_is_damage(run: Path, change: dict[str, object], words: str) -> None:
    record = json.loads((run / MANIFEST).read_bytes())
    record["plan"] |= change
    (run / MANIFEST).write_text(json.dumps(record))
    with pytest.raises(RunError, match=words):
        open_run(run)


def test_an_earlier_run_has_no_hash_and_opens() -> None:
    assert open_run(ROOT / "tests" / "runs" / "earlier_run").manifest.rows_sha256 is None


@pytest.mark.parametrize(
    ("row", "table"),
    [
        ("'vector', 'behavior', 0.0, -1, 0, 'x', 1, 'end', -1.0", "texts"),
        ("'vector', 'behavior', 0.0, 999, 0, 'x', 1, 'end', -1.0", "texts"),
        ("'vector', 'behavior', 9e999, 0, 0, 'x', 1, 'end', -1.0", "texts"),
        ("'vector', 'behavior', 0.0, 0, -5, 'x', 1, 'end', -1.0", "texts"),
        ("'vector', 'behavior', 0.0, 0, 0, 'x', 1, 'gone', -1.0", "texts"),
        ("'vector', 'behavior', 0.0, 0, 0, 'x', 1, 'end', 9e999", "texts"),
        ("'vector', 'behavior', 0.0, 0, 0, 9e999, 1, -1.0", "readings"),
        ("'vector', 'behavior', 0.0, 999, 0, 1, ''", "verdicts"),
        ("'vector', 'behavior', 0.0, 0, 0, 7, ''", "verdicts"),
        ("'vector', 'behavior', 0.0, 1, x'63000000', zeroblob(8)", "logprobs"),
        ("'behavior', 999, 0, 'aligned', '[1]'", "continuations"),
    ],
)
def test_rows_out_of_range_are_refused_where_they_are_read(run: Path, row: str, table: str) -> None:
    change(run, f"INSERT INTO {table} VALUES ({row})")
    with Store.read(run / STORE) as store, pytest.raises(RunError, match="not a usable sweep store .*cannot be read"):
        if table == "verdicts":
            store.verdicts("vector", "behavior")
        elif table in ("logprobs", "continuations"):
            store.logprobs("vector", "behavior", [0.0])
            store.continuations("behavior")
        else:
            store.texts("vector", "behavior")


@pytest.mark.parametrize("tokens", ["x", "[1e999]", "5"])
def test_tokens_that_are_none_are_refused_where_they_are_read(run: Path, tokens: str) -> None:
    change(run, f"UPDATE continuations SET tokens = '{tokens}'")
    with Store.read(run / STORE) as store, pytest.raises(RunError, match="a continuation cannot be read"):
        store.continuations("behavior")
