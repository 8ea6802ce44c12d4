"""The store and the run directory: what was committed comes back, and what is damaged or foreign is refused."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from planted_run import BEHAVIOR, CHOICE, write_planted_run

from steercpp.cli.main import main
from steercpp.errors import RunError
from steercpp.files import write_atomically
from steercpp.reports import report
from steercpp.runs import judgement as judging
from steercpp.runs import result
from steercpp.runs.folder import STORE, examine, prepare
from steercpp.runs.judgement import judge
from steercpp.runs.manifest import MANIFEST, read_manifest
from steercpp.runs.result import open_run
from steercpp.runs.store import Continuation, Group, Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(tmp_path / STORE, plan_sha256="p")


def test_what_was_committed_comes_back(store: Store) -> None:
    parts = [Continuation(i, side, (5 + i, 6)) for i in range(2) for side in ("aligned", "misaligned")]
    store.add_items("behavior", BEHAVIOR[:2], parts)
    store.add(
        Group("vector", "behavior", 0.1, 3), 9, 36, "", [(0, np.array([-1.5, -np.pi])), (1, np.array([-0.1, -2]))]
    )
    store.close()
    with Store.read(store.path) as again:
        assert again.plan_sha256 == "p"
        assert again.items("behavior") == BEHAVIOR[:2]
        assert again.continuations("behavior") == (tuple(parts[:2]), tuple(parts[2:]))
        assert again.finished() == {Group("vector", "behavior", 0.1, 3): 9}
        assert again.layout("behavior").offsets.tolist() == [0, 2, 4]
        assert again.n_measured("vector", "behavior") == {0.1: 4} and again.n_rows() == 2
        there, nothing = again.logprobs("vector", "behavior", [0.1, 0.2])
        np.testing.assert_array_equal(there, [-1.5, -np.pi, -0.1, -2])  # float64 goes in and comes out
        assert np.isnan(nothing).all()


def test_a_commit_is_brought_to_the_disk(store: Store) -> None:
    with Store.reopen(store.path) as again:
        assert again._database.rows("PRAGMA synchronous") == [(2,)]  # FULL
        assert again._database.rows("PRAGMA journal_mode") == [("wal",)]


def test_numbers_of_several_groups_come_in_the_order_of_their_items(store: Store) -> None:
    sides = [Continuation(i, side, (5,)) for i, n in enumerate((1, 2, 1, 3)) for side in ("aligned", "misaligned") * n]
    store.add_items("behavior", BEHAVIOR[:4], sides)
    nats = [np.arange(2.0 * n) - 10 * i - 7 for i, n in enumerate((1, 2, 1, 3))]
    for batch, members in enumerate(((3, 0), (2,), (1,))):
        store.add(Group("vector", "behavior", 0.5, batch), 1, 4, "", [(i, nats[i]) for i in members])
        if batch == 1:
            (half,) = store.logprobs("vector", "behavior", [0.5])
            assert np.isnan(half).tolist() == [False] * 2 + [True] * 4 + [False] * 8
    (found,) = store.logprobs("vector", "behavior", [0.5])
    np.testing.assert_array_equal(found, np.concatenate(nats))
    np.testing.assert_array_equal(found[store.layout("behavior").of_item(3)], nats[3])


def test_a_group_is_there_whole_or_not_at_all(store: Store) -> None:
    store.add_items("behavior", BEHAVIOR[:1], [Continuation(0, "aligned", (1,))])

    def interrupted() -> object:
        yield 0, np.array([-1.0])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.add(Group("vector", "behavior", 0.0, 0), 1, 4, None, interrupted())  # type: ignore[arg-type]
    assert store.finished() == {}
    assert store.n_measured("vector", "behavior") == {}


def test_a_failing_write_keeps_what_was_committed(store: Store) -> None:
    store.add_items("behavior", BEHAVIOR[:1], [Continuation(0, "aligned", (1,))])
    store.add(Group("vector", "behavior", 0.0, 0), 1, 4, None, [(0, np.array([-1.0]))])
    pages = store._database.rows("PRAGMA page_count")[0][0]
    store._database.rows(f"PRAGMA max_page_count = {pages}")  # what SQLite does when the disk is full
    big = [(i, np.full(4, -1.0)) for i in range(10_000)]
    with pytest.raises(RunError, match=r"cannot be written \(database or disk is full\).*was finished is kept"):
        store.add(Group("vector", "behavior", 1.0, 0), 1, 4, "", big)
    assert list(store.finished()) == [Group("vector", "behavior", 0.0, 0)]


def test_a_failing_write_does_not_speak_of_what_was_never_finished(store: Store) -> None:
    pages = store._database.rows("PRAGMA page_count")[0][0]
    store._database.rows(f"PRAGMA max_page_count = {pages}")
    parts = [Continuation(0, "aligned", tuple(range(9000)))]
    with pytest.raises(RunError, match=r"\(database or disk is full\); free some space.* the same command again$"):
        store.add_items("behavior", BEHAVIOR[:1], parts)


def test_a_store_is_never_made_over_another(store: Store) -> None:
    with pytest.raises(RunError, match="exists already"):
        Store.create(store.path, plan_sha256="q")


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5000])


def _scribble(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[4096:12288] = b"\x5a" * 8192
    path.write_bytes(data)


def _foreign(path: Path) -> None:
    path.unlink()
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE songs (title TEXT)")
    db.close()


def _other_format(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("UPDATE meta SET value = 'steercpp sweep 3' WHERE key = 'format'")
    db.close()


@pytest.mark.parametrize(
    "damage",
    [
        Path.unlink,
        _truncate,
        _scribble,
        _foreign,
        _other_format,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_text("no database at all" * 500),
    ],
)
def test_a_damaged_store_is_one_sentence(tmp_path: Path, damage: object) -> None:
    folder = write_planted_run(tmp_path / "run", strengths="-0.1:0.1:0.1", n_random=1)
    damage(folder / STORE)  # type: ignore[operator]
    with pytest.raises(
        RunError, match=rf"^{folder / STORE}: not a usable sweep store \(.*; measure it again .*`out`.*`force=True`"
    ) as caught:
        open_run(folder)
    assert "\n" not in str(caught.value)
    with pytest.raises(RunError, match="not a usable sweep store"):
        Store.reopen(folder / STORE)


def _newer(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("UPDATE meta SET value = 'steercpp sweep 99' WHERE key = 'format'")
    db.close()


@pytest.mark.parametrize(
    ("damage", "says"), [(_newer, "a newer steercpp"), (_truncate, "not a usable"), (_foreign, "not a usable")]
)
def test_commands_tell_of_a_bad_store_in_a_line_and_leave_it(
    tmp_path: Path, damage: Callable[[Path], None], says: str
) -> None:
    folder = write_planted_run(tmp_path / "run", strengths="-0.1:0.1:0.1", n_random=1)
    damage(folder / STORE)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    for command in ("report", "score"):
        told = CliRunner().invoke(main, [command, str(folder)])
        assert (told.exit_code, told.stdout) == (1, "") and told.stderr.count("\n") == 1, told.output
        assert told.stderr.startswith(f"error: {folder / STORE}: ") and says in told.stderr
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "damaged, not JSON"),
        ('{"format": "steercpp sweep 5", "plan"', "damaged, not JSON"),
        ("[]", "not the manifest"),
        ('{"format": "other"}', "not the manifest"),
        ('{"format": "steercpp sweep 5"}', "plan is not complete"),
    ],
)
def test_a_damaged_manifest_is_one_sentence(tmp_path: Path, text: str, expected: str) -> None:
    folder = write_planted_run(tmp_path / "run", strengths="0:0:1", n_random=0)
    (folder / MANIFEST).write_text(text)
    for look in (examine, open_run):
        with pytest.raises(
            RunError, match=f"^{folder / MANIFEST}: .*{expected}.*; measure it again .*`out`.*`force=True`"
        ):
            look(folder)


def test_a_plan_that_was_edited_is_found_out(tmp_path: Path) -> None:
    folder = write_planted_run(tmp_path / "run", strengths="0:0:1", n_random=0)
    manifest = read_manifest(folder).to_json()
    manifest["plan"]["seed"] = 7
    (folder / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(RunError, match="does not have the hash"):
        examine(folder)


@pytest.mark.parametrize("part", ["model", "vector", "items", "finished", "tokens"])
def test_a_manifest_with_a_part_missing_is_found_out(tmp_path: Path, part: str) -> None:
    folder = write_planted_run(tmp_path / "run", strengths="0:0:1", n_random=0)
    manifest = read_manifest(folder).to_json()
    del manifest[part]
    (folder / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(RunError, match="parts of it are missing"):
        open_run(folder)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("UPDATE items SET record = '{'", "an item cannot be read"),
        ("UPDATE items SET record = '{}'", "an item cannot be read"),
        ("UPDATE logprobs SET nats = substr(nats, 9)", r"lacks behavior measurements at strength \+0,"),
    ],
)
def test_rows_that_make_no_sense_are_found_out(tmp_path: Path, change: str, expected: str) -> None:
    folder = write_planted_run(tmp_path / "run", strengths="0:0:1", n_random=0)
    with Store.reopen(folder / STORE) as store:
        store._database.rows(change)
    with pytest.raises(RunError, match=expected):
        open_run(folder)


def test_a_store_of_another_plan_is_found_out(tmp_path: Path) -> None:
    one = write_planted_run(tmp_path / "one", strengths="0:0:1", n_random=0)
    two = write_planted_run(tmp_path / "two", strengths="-1:1:1", n_random=0)
    (two / STORE).replace(one / STORE)
    with pytest.raises(RunError, match="belongs to another plan"):
        open_run(one)


def test_what_a_folder_may_hold(tmp_path: Path) -> None:
    assert examine(tmp_path / "new") is None
    assert examine(tmp_path) is None
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="is a file, not a folder"):
        examine(tmp_path / "file")
    with pytest.raises(
        RunError, match="holds 'file', which is not a sweep's.*`out`, or write the run beside it with `force=True`"
    ):
        examine(tmp_path)
    (tmp_path / MANIFEST).write_text("{}")
    with pytest.raises(RunError, match=f"{MANIFEST}: is a file; give the folder of the run"):
        read_manifest(tmp_path / MANIFEST)
    (tmp_path / MANIFEST).unlink()
    with pytest.raises(RunError, match="nothere: does not exist; give the `out` of a sweep"):
        read_manifest(tmp_path / "nothere")
    with pytest.raises(RunError, match=f"holds no {MANIFEST}, so it is not a run directory"):
        open_run(tmp_path)


def test_the_files_of_a_start_that_was_interrupted_are_no_obstacle(tmp_path: Path) -> None:
    Store.create(tmp_path / STORE, plan_sha256="p").close()
    assert examine(tmp_path) is None


def test_measurements_without_a_manifest_are_not_thrown_away(tmp_path: Path) -> None:
    folder = write_planted_run(tmp_path / "run", strengths="0:0:1", n_random=0)
    (folder / MANIFEST).unlink()
    with pytest.raises(RunError, match="measurements but no manifest.json"):
        examine(folder)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder in which nobody can make files")
def test_a_folder_that_cannot_be_written_is_refused_at_once(tmp_path: Path) -> None:
    for folder in (Path("/proc/self/run"), Path("/proc/self")):
        with pytest.raises(RunError, match=f"^{folder}: no file can be written there .*`out`"):
            prepare(folder)
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="no file can be written there"):
        prepare(tmp_path / "file" / "run")


def test_atomic_writing_leaves_nothing_behind(tmp_path: Path) -> None:
    target = tmp_path / "x.json"
    write_atomically(target, b"one")
    write_atomically(target, b"two")
    assert target.read_bytes() == b"two"
    (tmp_path / "folder").mkdir()
    with pytest.raises(RunError, match="cannot be written"):
        write_atomically(tmp_path / "folder", b"three")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "x.json"]


def test_a_finished_run_is_read_without_leaving_files(tmp_path: Path) -> None:
    folder = write_planted_run(tmp_path / "run", strengths="0:0:1", n_random=0)
    before = sorted(path.name for path in folder.iterdir())
    assert open_run(folder).choice is not None and len(CHOICE) == 400
    assert sorted(path.name for path in folder.iterdir()) == before


def test_what_a_caller_does_within_is_not_told_as_damage(tmp_path: Path) -> None:
    """What was wrong: any slip within `with` was a damaged store, to be discarded."""
    folder = write_planted_run(tmp_path / "run")
    for slip in (IndexError, MemoryError, AssertionError):
        with pytest.raises(slip), Store.read(folder / STORE, settled=True):
            raise slip


@pytest.mark.parametrize("fault", [ZeroDivisionError, MemoryError, AssertionError])
def test_a_fault_of_a_computation_is_not_told_as_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: type[Exception]
) -> None:
    folder = write_planted_run(tmp_path / "run")

    def fail(*_: object, **__: object) -> object:
        raise fault

    judgement = judge(open_run(folder))
    for module, name, use in (
        (result, "stored_scores", lambda: open_run(folder)),
        (result.SweepResult, "recommend", judgement.result.to_json),
        (judging, "code_record", judgement.record),
        (report, "tables", lambda: report.write_report(judgement)),
    ):
        with monkeypatch.context() as patched, pytest.raises(fault):
            patched.setattr(module, name, fail)
            use()
