"""A Dask cluster on loopback: three workers, one of which is killed while it measures, and what is no such cluster."""

from __future__ import annotations

import os
import platform
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from small_sweep import ANSWER, BEHAVIOR, STRENGTHS, numbers, small_sweep, write_items

from steercpp.cli.main import main
from steercpp.engine.engine import Engine
from steercpp.engine.model_search import FOLDERS
from steercpp.errors import WorkerError
from steercpp.sweeps import dask_cluster, spread
from steercpp.sweeps.dask_cluster import cluster
from steercpp.sweeps.worker import Setup

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


def test_workers_of_a_cluster_that_lack_the_model_or_have_another_version_are_refused_by_name(
    workers: Any, tiny_engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is lost: the same call goes on where they have it."""
    out = tmp_path / "run"
    worker = rf"worker on {re.escape(platform.node())} \(process \d+\)"
    with cluster(workers.scheduler_address) as executor:
        with monkeypatch.context() as patch:
            patch.setattr(spread, "Setup", lambda *sent: replace(Setup(*sent), path="/nowhere/a.gguf", sha256="0" * 64))
            with pytest.raises(WorkerError, match=rf"^{worker}: .*a\.gguf.*{FOLDERS} names no folder") as caught:
                small_sweep(tiny_engine, out, executor=executor)
            assert "\n" not in str(caught.value)
        with monkeypatch.context() as patch:
            patch.setattr(spread, "version", lambda: "0.0.9")
            with pytest.raises(WorkerError, match=rf"^{worker}: has steercpp .*, and jobs come from 0\.0\.9; install"):
                small_sweep(tiny_engine, out, executor=executor)
        found = small_sweep(tiny_engine, out, executor=executor)
    assert numbers(found.folder) == numbers(small_sweep(tiny_engine, tmp_path / "here").folder)


def test_adding_strengths_then_items_over_a_cluster_gives_one_processs_rows(
    workers: Any, tiny_engine: Engine, tmp_path: Path
) -> None:
    steps: list[dict[str, Any]] = [
        {"behavior": BEHAVIOR[:5], "unit": "length"},
        {"behavior": BEHAVIOR[:5], "unit": "length", "strengths": (*STRENGTHS, 1.5)},
        {"unit": "length", "strengths": (*STRENGTHS, 1.5), "answer": ANSWER},
    ]
    with cluster(workers.scheduler_address) as executor:
        for step in steps:
            ours = small_sweep(tiny_engine, tmp_path / "cluster", executor=executor, **step)
            theirs = small_sweep(tiny_engine, tmp_path / "here", **step)
            assert numbers(ours.folder) == numbers(theirs.folder)
            assert len(ours.manifest.additions) == len(theirs.manifest.additions)
    assert len(ours.manifest.additions) == 2


@contextmanager
def server(handle: Callable[[socket.socket], Any]) -> Iterator[int]:
    """A port at which each connection is handled so."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listening.accept()
                    open_ones.append(connection)
                    handle(connection)

        open_ones: list[socket.socket] = []
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()
        for connection in open_ones:
            connection.close()


SILENT = "no Dask scheduler answers there; start one with `dask scheduler`, or check the address"


def refusal_of(address: str) -> str:
    """The one sentence that an address is refused with."""
    with pytest.raises(WorkerError) as caught, cluster(address):
        pass
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_no_scheduler_is_told_within_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    assert dask_cluster._PATIENCE_S == 10
    monkeypatch.setattr(dask_cluster, "_PATIENCE_S", 1)
    begun = time.monotonic()
    assert refusal_of("tcp://127.0.0.1:1") == f"tcp://127.0.0.1:1: {SILENT}"
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize(
    "handle",
    [
        lambda connection: None,  # and never says a word: Dask's client waits for it for ever
        socket.socket.close,
        lambda connection: connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"),
        lambda connection: connection.sendall(b"SSH-2.0-OpenSSH_9.6\r\n" * 20),
    ],
    ids=["silent", "closing", "http", "ssh"],
)
def test_something_else_at_the_port_is_told(handle: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr(dask_cluster, "_PATIENCE_S", 1)
    with server(handle) as port:
        assert refusal_of(f"tcp://127.0.0.1:{port}") == f"tcp://127.0.0.1:{port}: {SILENT}"


def test_a_worker_in_the_schedulers_place_and_a_scheduler_of_another_version_are_told(
    workers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = next(iter(workers.workers.values())).worker_address
    assert refusal_of(address) == f"{address}: {SILENT}"
    ours = "2024.1.0"
    theirs = pytest.importorskip("distributed").__version__
    monkeypatch.setattr("distributed.__version__", ours)
    assert refusal_of(workers.scheduler_address) == (
        f"{workers.scheduler_address}: the scheduler has version {theirs} of Dask's distributed, and this process "
        f"{ours}; install the same version on all machines"
    )


@pytest.mark.parametrize(
    "address",
    ["celery://host:8786", "http://host:8786", "inproc://host", "nonsense", "tcp://", "tcp://host", "tcp://host:99999",
     "tcp://:8786", ""],
)  # fmt: skip
def test_what_is_no_address_is_told(address: str) -> None:
    pytest.importorskip("distributed")
    assert refusal_of(address).startswith(
        f"{address}: this is not the address of a Dask scheduler; give tcp://HOST:PORT"
    )


@pytest.mark.parametrize(("address", "says"), [("tcp://127.0.0.1:1", SILENT), ("redis://host:1", "this is not the")])
def test_the_command_ends_with_a_sentence_and_loses_nothing(
    address: str, says: str, tmp_path: Path, tiny_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr(dask_cluster, "_PATIENCE_S", 1)
    monkeypatch.chdir(tmp_path)
    write_items(tmp_path)
    command = ["sweep", str(tiny_path), "--pairs", "p.jsonl", "--behavior", "b.jsonl", "--unit", "norm", "--random",
               "0", "--threads", "1", "--no-texts", "--out", "run"]  # fmt: skip
    run = CliRunner().invoke
    assert run(main, [*command, "--strengths", "0.5"]).exit_code == 0
    before = numbers(tmp_path / "run")
    refused = run(main, [*command, "--strengths", "0.5,1", "--dask", address])
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert refused.stderr.startswith(f"error: {address}: {says}") and refused.stderr.count("\n") == 1
    assert numbers(tmp_path / "run") == before and len(list((tmp_path / "run").glob(".steercpp*"))) == 0
    assert run(main, [*command, "--strengths", "0.5,1"]).exit_code == 0
    assert set(before) < set(numbers(tmp_path / "run"))
