"""A network file system without locks: a sweep is refused in a sentence before it measures, and runs there are read."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults import compiled
from forked import Forked
from run_contents import contents, strays
from traced import Trace

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux" or shutil.which("cc") is None, reason="needs Linux and a C compiler"),
]
TOLD = "no file can be locked there, which a run's store needs (No locks available: some network file "


@pytest.fixture(scope="module")
def forked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forked]:
    library = compiled(tmp_path_factory.mktemp("shim"), Path(__file__).with_name("no_locks.c"))
    with Forked(preload=library) as running:
        yield running


def test_a_sweep_is_refused_at_once_and_leaves_nothing(forked: Forked, tiny_path: Path, tmp_path: Path) -> None:
    mount = tmp_path / "mount"
    mount.mkdir()
    trace, begun = tmp_path / "trace", time.monotonic()
    child = forked.start(
        "plain", tiny_path, mount / "run", folder=tmp_path, trace=trace, environment={"NO_LOCKS": str(mount)}
    )
    assert child.wait() == 1 and time.monotonic() - begun < 10  # SQLite alone waits 10 seconds for each lock
    assert child.stderr.startswith(f"{mount / 'run'}: {TOLD}") and child.stderr.count("\n") == 1, child.stderr
    assert Trace.read(trace).begun == [] and list(mount.iterdir()) == []


def test_runs_there_are_read_and_nothing_of_them_is_lost(forked: Forked, tiny_path: Path, tmp_path: Path) -> None:
    mount, elsewhere = tmp_path / "mount", tmp_path / "elsewhere"
    whole, half = mount / "whole", mount / "half"
    assert forked.start("plain", tiny_path, whole, folder=tmp_path).wait() == 0
    child = forked.start("plain", tiny_path, half, folder=tmp_path, trace=tmp_path / "trace")
    while not any(" 0.5 " in name for name in Trace.read(tmp_path / "trace").kept):
        time.sleep(0.002)
    os.kill(child.pid, signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    without = {"NO_LOCKS": str(mount)}
    for command in (["report", whole], ["score", whole], ["runs", mount]):
        looked = forked.start("command", *command, folder=tmp_path, environment=without)
        assert looked.wait() == 0, looked.stderr
    assert forked.start("plain", tiny_path, whole, folder=tmp_path, environment=without).wait() == 0  # it is finished
    for refused in (
        forked.start("command", "report", half, folder=tmp_path, environment=without),
        forked.start("plain", tiny_path, half, folder=tmp_path, environment=without),
    ):
        assert refused.wait() == 1
        assert refused.stderr.count("\n") == 1 and "lock" in refused.stderr, refused.stderr
        assert "measure it again" not in refused.stderr and "free some space" not in refused.stderr, refused.stderr
    shutil.copytree(half, elsewhere)
    assert forked.start("plain", tiny_path, elsewhere, folder=tmp_path).wait() == 0
    assert contents(elsewhere) == contents(whole) and strays(elsewhere) == []
