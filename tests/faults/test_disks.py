"""A full disk, a read-only one, and a clock that is set back: a sentence, and the same command goes on."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from faults import compiled
from forked import Child, Forked
from run_contents import contents, strays
from traced import Trace

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux" or shutil.which("cc") is None, reason="needs Linux and a C compiler"),
]
DISK_BYTES = 1_000_000
DAY_S = 86_400


@pytest.fixture(scope="module")
def forked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forked]:
    clock = compiled(tmp_path_factory.mktemp("shim"), Path(__file__).with_name("clock.c"))
    with Forked(preload=clock) as running:
        yield running


@pytest.fixture(scope="module")
def wanted(forked: Forked, tiny_path: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What an undisturbed sweep ends with."""
    folder = tmp_path_factory.mktemp("undisturbed")
    assert forked.start("plain", tiny_path, folder / "run", folder=folder).wait() == 0
    return contents(folder / "run")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here; run the tests as root")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def half_of(child: Child, trace: Path) -> None:
    """Wait until a sweep has finished strength 0, and kill it."""
    while not any(" 0.5 " in name for name in Trace.read(trace).kept):
        time.sleep(0.002)
    os.kill(child.pid, signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL


@pytest.mark.parametrize("free", [8_000, 60_000, 120_000])
def test_a_full_disk(
    free: int, forked: Forked, tiny_path: Path, tmp_path: Path, disk: Path, wanted: dict[str, Any]
) -> None:
    out, filler = disk / "run", disk / "filler"
    left = os.statvfs(disk)
    filler.write_bytes(bytes(left.f_bavail * left.f_frsize - free))
    first = forked.start("plain", tiny_path, out, folder=tmp_path, trace=tmp_path / "first")
    assert first.wait() == 1
    assert first.stderr.count("\n") == 1, first.stderr
    assert "No space left" in first.stderr or "is full" in first.stderr, first.stderr
    kept = set(Trace.read(tmp_path / "first").kept)
    filler.unlink()
    again = forked.start("plain", tiny_path, out, folder=tmp_path, trace=tmp_path / "second")
    assert again.wait() == 0, again.stderr
    assert contents(out) == wanted and strays(out) == []
    assert not kept & set(Trace.read(tmp_path / "second").begun)


def test_a_read_only_disk(forked: Forked, tiny_path: Path, tmp_path: Path, disk: Path, wanted: dict[str, Any]) -> None:
    out = disk / "run"
    half_of(forked.start("plain", tiny_path, out, folder=tmp_path, trace=tmp_path / "first"), tmp_path / "first")

    def turned(how: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{how}", str(disk)], check=True)

    turned("ro")
    refused = forked.start("plain", tiny_path, out, folder=tmp_path)
    assert refused.wait() == 1
    assert refused.stderr.count("\n") == 1 and "Read-only file system" in refused.stderr, refused.stderr
    looked = forked.start("command", "runs", disk, folder=tmp_path)
    assert looked.wait() == 0 and "unfinished" in looked.stdout, looked.stderr
    turned("rw")
    assert forked.start("plain", tiny_path, out, folder=tmp_path).wait() == 0
    assert contents(out) == wanted
    turned("ro")  # what is finished is read from there
    trace = tmp_path / "third"
    assert forked.start("plain", tiny_path, out, folder=tmp_path, trace=trace).wait() == 0
    assert Trace.read(trace).begun == []
    turned("rw")
    assert contents(out) == wanted


def test_a_clock_that_was_set_back_before_the_same_command(
    forked: Forked, tiny_path: Path, tmp_path: Path, wanted: dict[str, Any]
) -> None:
    out, back = tmp_path / "run", {"CLOCK_BACK_S": str(DAY_S)}
    half_of(forked.start("plain", tiny_path, out, folder=tmp_path, trace=tmp_path / "first"), tmp_path / "first")
    again = forked.start("plain", tiny_path, out, folder=tmp_path, environment=back)
    assert again.wait() == 0, again.stderr
    assert contents(out) == wanted and strays(out) == []
    for command in (["report", out], ["runs", tmp_path], ["runs", tmp_path, "--json"]):
        looked = forked.start("command", *command, folder=tmp_path, environment=back)
        assert looked.wait() == 0, looked.stderr


def test_a_clock_that_is_set_back_while_a_sweep_measures(
    forked: Forked, tiny_path: Path, tmp_path: Path, wanted: dict[str, Any]
) -> None:
    out, trace, file = tmp_path / "run", tmp_path / "trace", tmp_path / "back"
    child = forked.start(
        "plain", tiny_path, out, folder=tmp_path, trace=trace,
        environment={"CLOCK_BACK_S": str(DAY_S), "CLOCK_FILE": str(file)},
    )  # fmt: skip
    while not Trace.read(trace).kept:
        time.sleep(0.002)
    file.touch()
    assert child.wait() == 0, child.stderr
    assert contents(out) == wanted
