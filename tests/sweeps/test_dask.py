"""A Dask cluster on loopback: a scheduler and three workers, one of which is killed while it measures."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from small_sweep import numbers, small_sweep

from steercpp.engine.engine import Engine
from steercpp.errors import WorkerError
from steercpp.sweeps.dask_cluster import cluster

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # Dask's own warnings are not ours


@pytest.fixture(scope="module")
def workers() -> Iterator[Any]:
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=3, threads_per_worker=1, dashboard_address=None, host="127.0.0.1", scheduler_port=0
    ) as made:
        yield made


def test_rows_are_one_processs_also_where_a_worker_is_killed(workers: Any, tiny_engine: Engine, tmp_path: Path) -> None:
    here = small_sweep(tiny_engine, tmp_path / "here")
    with cluster(workers.scheduler_address) as executor:
        found = small_sweep(tiny_engine, tmp_path / "cluster", executor=executor)
        assert numbers(found.folder) == numbers(here.folder)

        (pid, *_) = [worker.pid for worker in workers.workers.values()]
        killed: list[int] = []

        def kill(done: int, total: int, words: str) -> None:
            if done and not killed:
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)

        after = small_sweep(tiny_engine, tmp_path / "killed", executor=executor, progress=kill)
        assert killed and numbers(after.folder) == numbers(here.folder)


def test_no_scheduler_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr("steercpp.sweeps.dask_cluster._PATIENCE_S", 1)
    with (
        pytest.raises(WorkerError, match=r"tcp://127\.0\.0\.1:1: no Dask scheduler answers there"),
        cluster("tcp://127.0.0.1:1"),
    ):
        pass
