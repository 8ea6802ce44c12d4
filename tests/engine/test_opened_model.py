"""A model is its bytes: another of the same name, size and time of change is another model, also in use."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from places import ROOT
from small_sweep import numbers, small_sweep
from tiny_model import TINY, split, write_tiny_model

from steercpp.engine import opened_model
from steercpp.engine.engine import Engine
from steercpp.engine.model_file import model_files, model_sha256
from steercpp.engine.opened_model import OpenedModel
from steercpp.errors import ModelError, RunError
from steercpp.runs.manifest import read_manifest


@pytest.fixture
def model(tiny_path: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model, of a certain time."""
    return Path(shutil.copyfile(tiny_path, tmp_path / "m.gguf"))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another model of the same size."""
    write_tiny_model(path := tmp_path_factory.mktemp("other") / "m.gguf", seed=1, shape=TINY)
    return path


def in_place(path: Path, other: Path) -> None:
    """Write another model into a file, which keeps its size and its time of change."""
    before = path.stat()
    with path.open("r+b") as file:
        file.write(other.read_bytes())
    assert path.stat().st_size == before.st_size
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def renamed_over(path: Path, other: Path) -> None:
    """Put another model in the place of a file, with its size and its time of change."""
    before = path.stat()
    new = Path(shutil.copyfile(other, path.with_name("new")))
    os.utime(new, ns=(before.st_atime_ns, before.st_mtime_ns))
    new.replace(path)


SWAPS = (in_place, renamed_over)


@pytest.mark.parametrize("swap", SWAPS)
def test_a_begun_run_does_not_go_on_with_another_model(
    swap: Callable[[Path, Path], None], model: Path, other: Path, tmp_path: Path
) -> None:
    """What was wrong: it did where name, size and time were the same: 80 rows of one model, 256 of the other."""
    out = tmp_path / "run"

    def stop(means: object) -> None:
        raise KeyboardInterrupt

    with Engine(model, threads=1) as engine, pytest.raises(KeyboardInterrupt):
        small_sweep(engine, out, random_directions=0, on_strength=stop)
    before = numbers(out)
    swap(model, other)
    with Engine(model, threads=1) as engine, pytest.raises(RunError, match=r"another plan \(other model\)"):
        small_sweep(engine, out, random_directions=0)
    assert numbers(out) == before


def test_a_finished_run_is_not_read_as_that_of_another_model(model: Path, other: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with Engine(model, threads=1) as engine:
        small_sweep(engine, out, random_directions=0)
    renamed_over(model, other)
    with Engine(model, threads=1) as engine, pytest.raises(RunError, match=r"another plan \(other model\)"):
        small_sweep(engine, out, random_directions=0)


def test_a_mapped_model_that_is_written_to_ends_the_run_that_measures_it(
    model: Path, other: Path, tmp_path: Path
) -> None:
    """No row of the other model is kept."""
    out, alone = tmp_path / "run", tmp_path / "alone"
    with Engine(model, threads=1, use_mmap=True) as engine:
        small_sweep(engine, alone, random_directions=0)
    before = model.read_bytes()
    with (
        Engine(model, threads=1, use_mmap=True) as engine,
        pytest.raises(ModelError, match="was written to while it was in use"),
    ):
        small_sweep(engine, out, random_directions=0, on_strength=lambda means: in_place(model, other))
    assert len(numbers(out)) > 0 and set(numbers(out)) <= set(numbers(alone))
    assert read_manifest(out).finished is None
    model.write_bytes(before)
    with Engine(model, threads=1, use_mmap=True) as engine:
        small_sweep(engine, out, random_directions=0)
    assert numbers(out) == numbers(alone)


def test_a_model_that_is_written_to_does_not_matter_where_it_is_in_memory(
    model: Path, other: Path, tmp_path: Path
) -> None:
    out, alone, sha256 = tmp_path / "run", tmp_path / "alone", model_sha256(model)
    with Engine(model, threads=1) as engine:
        small_sweep(engine, alone, random_directions=0)
        small_sweep(engine, out, random_directions=0, on_strength=lambda means: in_place(model, other))
        assert engine.sha256 == sha256
    assert numbers(out) == numbers(alone) and read_manifest(out).model.sha256 == sha256


def test_a_model_that_is_written_to_before_it_is_hashed_is_refused(model: Path, other: Path) -> None:
    """Its hash would be the other one's."""
    for is_mapped in (False, True):
        opened = OpenedModel(model, is_mapped=is_mapped)
        in_place(model, other)
        with pytest.raises(ModelError, match="m.gguf: was written to after it was loaded; load it again"):
            opened.sha256()


def test_a_model_renamed_over_does_not_matter_to_the_one_that_is_measured(
    model: Path, other: Path, tmp_path: Path
) -> None:
    """The mapped file stays what it was, and its hash is the one that is recorded."""
    out, alone = tmp_path / "run", tmp_path / "alone"
    sha256 = model_sha256(model)
    with Engine(model, threads=1) as engine:
        small_sweep(engine, alone, random_directions=0)
    with Engine(model, threads=1) as engine:
        renamed_over(model, other)  # before it is hashed
        small_sweep(engine, out, random_directions=0, on_strength=lambda means: model.unlink(missing_ok=True))
        assert engine.sha256 == sha256
    assert numbers(out) == numbers(alone) and read_manifest(out).model.sha256 == sha256


def test_what_was_replaced_while_it_was_loaded_is_refused(
    model: Path, other: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for swap in SWAPS:
        opened = OpenedModel(model, is_mapped=True)
        opened.refuse_replaced()
        swap(model, other)
        with pytest.raises(ModelError, match="m.gguf: was replaced while it was loaded; load it again"):
            opened.refuse_replaced()


def test_each_shard_counts(tiny_path: Path, other: Path, tmp_path: Path) -> None:
    ours = model_files(split(tiny_path, tmp_path / "ours"))
    theirs = model_files(split(other, tmp_path / "theirs"))
    whole = OpenedModel(ours[0], is_mapped=True)
    assert whole.sha256() == model_sha256(ours[0]) == whole.identity()["sha256"]
    for shard, its in zip(ours[1:], theirs[1:], strict=True):
        opened = OpenedModel(ours[0], is_mapped=True)
        first = opened.sha256()
        in_place(shard, its)
        with pytest.raises(ModelError, match="was written to while it was in use"):
            opened.refuse_changed()
        assert OpenedModel(ours[0], is_mapped=True).sha256() == model_sha256(ours[0]) != first


def test_files_are_read_once_a_process_and_closed(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opened_model, "_SETTLED_S", 0)
    gc.collect()
    n_open = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
    first, second = (OpenedModel(model, is_mapped=True) for _ in range(2))
    sha256 = first.sha256()
    with monkeypatch.context() as patch:
        patch.setattr(os, "pread", lambda *_: pytest.fail("read again"))
        assert first.sha256() == second.sha256() == sha256
        first.refuse_changed()
    del first, second
    assert not n_open or len(os.listdir("/proc/self/fd")) == n_open


def test_a_clock_that_differs_from_the_file_servers_does_not_matter(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was wrong: a mapped model was hashed at every commit where this machine's clock was behind."""
    now = 0.0
    monkeypatch.setattr(time, "time_ns", lambda: 0)
    monkeypatch.setattr(time, "monotonic", lambda: now)
    opened = OpenedModel(model, is_mapped=True)
    opened.refuse_changed()
    now = 1.0
    opened.refuse_changed()  # a second look
    with monkeypatch.context() as patch:
        patch.setattr(os, "pread", lambda *_: pytest.fail("read again"))
        opened.refuse_changed()


@pytest.mark.parametrize("is_mapped", [False, True])
def test_a_second_name_or_other_rights_are_no_other_content(is_mapped: bool, model: Path) -> None:
    """What was wrong: "was written to after it was loaded"."""
    sha256 = model_sha256(model)
    changes: tuple[Callable[[], None], ...] = (
        lambda: os.link(model, model.with_name("second")),
        lambda: model.chmod(0o600),
    )
    for change in changes:
        opened = OpenedModel(model, is_mapped=is_mapped)
        change()
        assert opened.sha256() == sha256
        model.chmod(0o640)
        assert opened.sha256() == sha256


_IMPORTED = """
import signal, numpy
import steercpp.engine.model
with open("mapped", "wb") as file:
    file.write(bytes(8192))
mapped = numpy.memmap("mapped", mode="r")
open("mapped", "wb").close()
mapped[4096]
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's SIGBUS")
def test_the_library_leaves_signals_to_the_users_process(tmp_path: Path) -> None:
    """What was wrong: a file of the user's that was cut ended his process with a sentence of ours."""
    ended = subprocess.run([sys.executable, "-c", _IMPORTED], cwd=tmp_path, capture_output=True, text=True)
    assert ended.returncode == -signal.SIGBUS and "steercpp" not in ended.stderr


_CUT = """
import os, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from small_sweep import small_sweep
from steercpp.engine.engine import Engine
from steercpp.engine.model import end_with_code
end_with_code()
model = sys.argv[2]
with Engine(model, threads=1, use_mmap=True) as engine:
    small_sweep(engine, Path(sys.argv[3]), random_directions=0, on_strength=lambda means: os.truncate(model, 4096))
"""


@pytest.mark.slow
def test_a_model_that_is_cut_ends_the_process_with_a_sentence(model: Path, tmp_path: Path) -> None:
    """As `cp` of another model over it does; what was wrong: "Bus error"."""
    out, alone, before = tmp_path / "run", tmp_path / "alone", model.read_bytes()
    arguments = [sys.executable, "-c", _CUT, str(ROOT / "tests" / "helpers"), str(model), str(out)]
    ended = subprocess.run(arguments, capture_output=True, text=True)
    assert ended.returncode == 1, ended.stderr
    assert ended.stderr.startswith("steercpp: a file that is in use, such as the model, was cut") and "\n" not in (
        ended.stderr.rstrip("\n")
    )
    model.write_bytes(before)
    with Engine(model, threads=1, use_mmap=True) as engine:
        small_sweep(engine, out, random_directions=0)
        small_sweep(engine, alone, random_directions=0)
    assert numbers(out) == numbers(alone)
