"""Runs of format 4: they open and report as they did, go on, and are brought to today's format whole or not at all.

format_4/ holds a finished and an unfinished run of the tiny model, with texts, as the release that wrote them left
them; finished.json is what it read from the finished one.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from places import ROOT
from small_sweep import ANSWER, BEHAVIOR, CHOICE, TEXT, numbers, small_sweep

from steercpp.engine.engine import Engine
from steercpp.errors import RunError
from steercpp.runs import migration
from steercpp.runs.database import FORMAT, FORMAT_4
from steercpp.runs.export import export_run
from steercpp.runs.folder import STORE
from steercpp.runs.manifest import MANIFEST, read_manifest, write_manifest
from steercpp.runs.result import open_run
from steercpp.runs.store import Store
from steercpp.sweeps.texts import TextPlan

RUNS = ROOT / "tests" / "runs" / "format_4"
SWEPT: dict[str, Any] = {
    "behavior": BEHAVIOR[:5], "choice": CHOICE[:3], "answer": ANSWER[:3], "text": TEXT[:2],
    "text_plan": TextPlan(3), "opposite": "sure yes good", "random_directions": 2,
}  # fmt: skip


def copy_of(name: str, tmp_path: Path) -> Path:
    return Path(shutil.copytree(RUNS / name, tmp_path / name))


def old_rows(folder: Path) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(folder / STORE)) as db:
        return db.execute("SELECT * FROM logprobs ORDER BY label, kind, strength, item, continuation").fetchall()


def form_of(folder: Path) -> str:
    with closing(sqlite3.connect(folder / STORE)) as db:
        return str(db.execute("SELECT value FROM meta WHERE key = 'format'").fetchone()[0])


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("name", ["finished", "unfinished"])
def test_a_run_of_format_4_is_read_as_it_was_and_stays_as_it_is(name: str, tmp_path: Path) -> None:
    folder = copy_of(name, tmp_path)
    before, rows = files(folder), old_rows(folder)
    assert rows and numbers(folder) == rows
    result = open_run(folder)
    assert result.finished == (name == "finished")
    assert export_run(result, "items", tmp_path / "items.jsonl") == len(rows)
    assert {name: data for name, data in files(folder).items() if name in before} == before


def test_the_numbers_that_follow_are_those_of_the_release_before() -> None:
    read = json.loads(json.dumps(open_run(RUNS / "finished").to_json()))
    expected = json.loads((RUNS / "finished.json").read_text())
    for record in (read, expected):
        del record["run"], record["vector"]["file"]
    assert read["strengths"] == expected["strengths"] and read["controls"] == expected["controls"]
    assert read["plan"] == expected["plan"] and read["recommendation"] == expected["recommendation"]


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")
def test_it_is_read_where_nothing_can_be_written(tmp_path: Path) -> None:
    folder = copy_of("unfinished", tmp_path)
    folder.chmod(0o500)
    try:
        assert len(open_run(folder).strengths) == 3
    finally:
        folder.chmod(0o700)


def test_a_finished_run_is_brought_to_todays_format_when_it_is_written_to(tmp_path: Path) -> None:
    folder = copy_of("finished", tmp_path)
    rows, before = old_rows(folder), read_manifest(folder)
    Store.reopen(folder / STORE).close()
    assert form_of(folder) == FORMAT and json.loads((folder / MANIFEST).read_text())["format"] == FORMAT
    assert sorted(path.name for path in folder.iterdir()) == ["manifest.json", "sweep.sqlite", "vector.gguf"]
    after = read_manifest(folder)
    assert after == replace(before, rows_sha256=after.rows_sha256) and after.rows_sha256 != before.rows_sha256
    assert numbers(folder) == rows
    assert len(open_run(folder).texts(0.5)) == 5 and open_run(folder).finished


def test_rows_that_were_changed_are_not_taken_over(tmp_path: Path) -> None:
    folder = copy_of("finished", tmp_path)
    with closing(sqlite3.connect(folder / STORE)) as db, db:
        db.execute("UPDATE logprobs SET nats = nats - 1e-9 WHERE item = 1 AND kind = 'choice'")
    before = files(folder)
    with pytest.raises(RunError, match="its rows are not those that were measured"):
        open_run(folder)
    with pytest.raises(RunError, match="its rows are not those that were measured"):
        Store.reopen(folder / STORE)
    assert form_of(folder) == FORMAT_4 and files(folder)[MANIFEST] == before[MANIFEST]
    assert not [path for path in folder.iterdir() if path.name.startswith(".steercpp")]


def test_an_unfinished_run_goes_on_to_an_undisturbed_one(tmp_path: Path, tiny_path: Path) -> None:
    folder = copy_of("unfinished", tmp_path)
    with Engine(tiny_path, threads=1, n_batch=32) as engine:
        engine._limits = replace(engine._limits, n_group=32)  # so that there are several groups of a kind
        whole = small_sweep(engine, tmp_path / "whole", **SWEPT)
        # the model and the library may have other hashes here than where the run was begun
        plan = whole.manifest.plan
        rows, manifest = old_rows(folder), read_manifest(folder)
        write_manifest(folder, replace(manifest, plan=plan))
        with closing(sqlite3.connect(folder / STORE)) as db, db:
            db.execute("UPDATE meta SET value = ? WHERE key = 'plan_sha256'", (plan.sha256,))
        result = small_sweep(engine, folder, **SWEPT)
    assert result.finished and form_of(folder) == FORMAT and 0 < result.decoded_now < whole.decoded_now
    found = {row[:5]: row[5] for row in numbers(folder)}
    assert found.keys() == {row[:5] for row in numbers(whole.folder)}
    assert {key: found[key] for key in (row[:5] for row in rows)} == {row[:5]: row[5] for row in rows}
    expected = {row[:5]: row[5] for row in numbers(whole.folder)}
    # another CPU computes other last bits
    np.testing.assert_allclose([found[key] for key in expected], list(expected.values()), rtol=0, atol=1e-3)
    with Store.read(folder / STORE) as here, Store.read(whole.folder / STORE) as there:
        assert here.finished() == there.finished()
    assert [text.text for text in result.texts(0.0)] == [text.text for text in whole.texts(0.0)]


@pytest.mark.parametrize("at", ["_copy", "write_manifest", "take_places"])
def test_what_goes_wrong_midway_leaves_the_old_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str) -> None:
    folder = copy_of("finished", tmp_path)
    rows, manifest = old_rows(folder), (folder / MANIFEST).read_bytes()

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(migration, at, fail)
    with pytest.raises(RunError, match=r"cannot be brought to the format .*No space left.*all is kept as it was"):
        Store.reopen(folder / STORE)
    assert old_rows(folder) == rows and (folder / MANIFEST).read_bytes() == manifest
    assert not [path for path in folder.iterdir() if path.name.startswith(".steercpp")]


@pytest.mark.parametrize("name", [MANIFEST, STORE])
def test_a_newer_format_is_refused_by_its_name(tmp_path: Path, name: str) -> None:
    folder = copy_of("finished", tmp_path)
    if name == MANIFEST:
        record = json.loads((folder / MANIFEST).read_text())
        (folder / MANIFEST).write_text(json.dumps({**record, "format": "steercpp sweep 6", "plan": "other"}))
    else:
        with closing(sqlite3.connect(folder / STORE)) as db, db:
            db.executescript("UPDATE meta SET value = 'steercpp sweep 12' WHERE key = 'format'; CREATE TABLE new (x)")
    told = (
        r"'steercpp sweep (6|12)', which a newer steercpp has written; .*'steercpp sweep 5'.* install a newer version"
    )
    with pytest.raises(RunError, match=rf"^{folder / name}: .*{told}"):
        open_run(folder)
    if name == STORE:
        with pytest.raises(RunError, match=told):
            Store.reopen(folder / STORE)
