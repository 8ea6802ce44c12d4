"""A sweep over other processes: the same rows, whoever measures them, whoever is lost, and no wrong worker."""

from __future__ import annotations

import io
import os
import pickle
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from forked_jobs import CODE
from small_sweep import ANSWER, BEHAVIOR, CHOICE, STRENGTHS, numbers, small_sweep

from steercpp.engine.engine import Engine
from steercpp.engine.model_search import FOLDERS, find_model
from steercpp.errors import InputError, WorkerError
from steercpp.experiments.study.matrix_work import study_matrix
from steercpp.experiments.study.preset import parse_preset
from steercpp.judging.sandbox import WAYS, why_not
from steercpp.runs.folder import STORE
from steercpp.runs.result import SweepResult
from steercpp.sweeps import spread, worker
from steercpp.sweeps.texts import TextPlan

MATRIX = """
about = "One run"

[matrix]
models = { small = "embedded" }
strengths = "1"

[matrix.vectors.refusal]
pairs = "refusal"

[matrix.sets.own]
behavior = "refusal"
"""


@pytest.fixture(scope="module")
def here(tiny_engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> SweepResult:
    """What one process measures: letters, answers, generated text, controls."""
    return swept(tiny_engine, tmp_path_factory.mktemp("here") / "run")


def swept(engine: Engine, out: Path, **changes: Any) -> SweepResult:
    return small_sweep(engine, out, **{"answer": ANSWER, "text_plan": TextPlan(4), **changes})


def texts(result: SweepResult) -> list[tuple[Any, ...]]:
    return [(text.strength, text.item, text.text, text.nats) for text in result.all_texts()]


def stored_texts(result: SweepResult) -> list[tuple[Any, ...]]:
    """Every text of every kind, programs with what came of running them."""
    with closing(sqlite3.connect(result.folder / STORE)) as db:
        return db.execute("SELECT * FROM texts ORDER BY label, kind, strength, item, sample").fetchall()


Change = Callable[[str, bytes, dict[str, bytes]], tuple[str, bytes, dict[str, bytes]]]


@dataclass(frozen=True)
class Named:
    """The place of a vector in a job that was sent."""

    name: str


def read_job(job: bytes) -> Any:
    """A job that was sent, with the names of its vectors in their places."""
    unpickler = pickle.Unpickler(io.BytesIO(job))
    unpickler.persistent_load = Named  # type: ignore[method-assign]
    return unpickler.load()


class Direct(Executor):
    """Does each job as it comes, in this process; `jobs` are what it was sent, `vectors` how many with each."""

    def __init__(self, change: Change = lambda *sent: sent) -> None:
        self.vectors: list[int] = []
        self.jobs: list[worker.MeasureJob | worker.WriteJob] = []
        self._change = change

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.jobs.append(read_job(args[1]))
        self.vectors.append(len(args[2]))
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*self._change(*args)))
        except Exception as error:
            future.set_exception(error)
        return future


def test_any_executor_gives_the_same_rows(tiny_engine: Engine, here: SweepResult, tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as executor:
        found = swept(tiny_engine, tmp_path / "run", executor=executor)
    assert numbers(found.folder) == numbers(here.folder)
    assert texts(found) == texts(here) and len(texts(found)) > 0
    assert not [note for note in found.manifest.notes if "CPU" in note]


def test_strengths_are_told_once_each_when_all_of_one_is_there(tiny_engine: Engine, tmp_path: Path) -> None:
    told: list[float] = []
    done: list[int] = []
    found = swept(
        tiny_engine, tmp_path / "run", executor=Direct(), on_strength=lambda means: told.append(means.strength),
        progress=lambda n, total, words: done.append(n),
    )  # fmt: skip
    assert sorted(told) == sorted(found.strengths.tolist())
    assert done == sorted(done)


def test_what_is_there_is_not_asked_for_again(tiny_engine: Engine, here: SweepResult, tmp_path: Path) -> None:
    class EnoughError(Exception): ...

    def stop(means: Any) -> None:
        raise EnoughError

    with pytest.raises(EnoughError):
        swept(tiny_engine, tmp_path / "run", on_strength=stop)  # strength 0 of all kinds is there
    executor = Direct()
    found = swept(tiny_engine, tmp_path / "run", executor=executor)
    assert numbers(found.folder) == numbers(here.folder)
    measured = [job for job in executor.jobs if isinstance(job, worker.MeasureJob)]
    assert all(variant.strength for job in measured for variant in job.variants if variant.label == "vector")


def test_a_vector_is_sent_until_a_worker_has_it_and_again_to_one_that_lacks_it(
    tiny_engine: Engine, here: SweepResult, tmp_path: Path
) -> None:
    worker._KEPT._forget()
    executor = Direct()
    found = swept(tiny_engine, tmp_path / "run", executor=executor)
    assert numbers(found.folder) == numbers(here.folder)
    # The swept vector, then the random and orthogonal ones once, of so many jobs
    assert sum(executor.vectors) < len(executor.jobs) and executor.vectors[-1] == 0

    def forget(*sent: Any) -> Any:
        worker._KEPT._vectors.clear()
        return sent

    forgetful = Direct(forget)
    found = swept(tiny_engine, tmp_path / "forgetful", executor=forgetful)
    assert numbers(found.folder) == numbers(here.folder) and texts(found) == texts(here)
    assert len(forgetful.jobs) > len(executor.jobs)  # some were sent again


def test_a_worker_hashes_a_model_once(tiny_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[Path] = []

    def find(*sent: Any, **options: Any) -> Path:
        found.append(find_model(*sent, **options))
        return found[-1]

    monkeypatch.setattr(worker, "find_model", find)
    kept = worker._Kept()
    with spread.spread(ThreadPoolExecutor(1), tiny_engine, None) as made:  # type: ignore[arg-type]
        for options in ({}, {"threads": 2}, {}):
            kept.engine(replace(made.setup, options={**made.setup.options, **options}))
    kept._forget()
    assert len(found) == 1


@pytest.mark.slow
def test_processes_of_ours_that_are_killed_are_replaced(
    tiny_engine: Engine, here: SweepResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pools: list[ProcessPoolExecutor] = []
    start = spread._Processes.start

    def started(self: Any) -> ProcessPoolExecutor:
        pools.append(start(self))
        return pools[-1]

    def kill(done: int, total: int, words: str) -> None:
        if len(pools) == 1 and pools[0]._processes and done:
            for pid in list(pools[0]._processes):
                os.kill(pid, signal.SIGKILL)

    monkeypatch.setattr(spread._Processes, "start", started)
    found = swept(tiny_engine, tmp_path / "run", executor=2, progress=kill)
    assert len(pools) == 2  # the first ones were lost, the second ones did the rest
    assert numbers(found.folder) == numbers(here.folder) and texts(found) == texts(here)
    assert not any(process.is_alive() for process in (pools[1]._processes or {}).values())


@pytest.mark.slow
def test_processes_end_with_who_started_them(tiny_path: Path, tmp_path: Path) -> None:
    code = (
        "import sys, time; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path\n"
        "from steercpp.sweeps.spread import _Processes\n"
        "import os\n"
        "if __name__ == '__main__':\n"
        "    pool = _Processes(1).start(); print(pool.submit(os.getpid).result(), flush=True); time.sleep(60)\n"
    )
    script = tmp_path / "parent.py"
    script.write_text(code)
    with subprocess.Popen(
        [sys.executable, str(script), str(Path(__file__).parents[1] / "helpers")], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
    for _ in range(200):
        if not Path(f"/proc/{pid}").exists() or "State:\tZ" in Path(f"/proc/{pid}/status").read_text():
            return
        os.sched_yield()
        subprocess.run(["sleep", "0.05"], check=True)
    raise AssertionError("the worker lives on")


@pytest.mark.slow
def test_adding_over_processes_of_ours_gives_one_processs_rows(tiny_engine: Engine, tmp_path: Path) -> None:
    first = {"behavior": BEHAVIOR[:5], "unit": "length"}
    more = {**first, "strengths": (*STRENGTHS, 1.5)}
    steps: list[dict[str, Any]] = [first, more, {**more, "behavior": BEHAVIOR, "answer": ANSWER}]
    for step in steps:
        theirs = small_sweep(tiny_engine, tmp_path / "here", **step)
        ours = small_sweep(tiny_engine, tmp_path / "spread", executor=2, **step)
        assert numbers(ours.folder) == numbers(theirs.folder)
        assert ours.decoded_now and ours.manifest.plan == theirs.manifest.plan
    assert len(ours.manifest.additions) == 2


@pytest.mark.slow
def test_programs_that_processes_write_are_one_processs(tiny_engine: Engine, tmp_path: Path) -> None:
    """They are written there and run here; what steers costs is known only then, so controls are sent last."""
    if all(why_not(name) for name in WAYS):
        pytest.skip("no sandbox works here")
    options = {"behavior": BEHAVIOR[:3], "choice": (), "code": CODE, "text_plan": TextPlan(6), "allow_code": True}
    ours, theirs = (
        small_sweep(tiny_engine, tmp_path / str(executor), executor=executor, **options) for executor in (2, None)
    )
    assert numbers(ours.folder) == numbers(theirs.folder)
    assert stored_texts(ours) == stored_texts(theirs) and "code" in {kind for _, kind, *_ in stored_texts(ours)}
    assert ours.rows() == theirs.rows() and ours.controls.record() == theirs.controls.record()


def test_a_worker_that_always_ends_is_told(tiny_engine: Engine, tmp_path: Path) -> None:
    lost = ProcessPoolExecutor(1)
    lost.submit(os._exit, 1)
    with pytest.raises(WorkerError, match="the executor is broken .* the same command resumes"):
        swept(tiny_engine, tmp_path / "run", executor=lost)


def test_a_worker_of_another_version_is_refused(tiny_engine: Engine, tmp_path: Path) -> None:
    executor = Direct(lambda sent_by, job, vectors: ("0.0.9", job, vectors))
    with pytest.raises(WorkerError, match=r"worker on .* has steercpp .* and jobs come from 0\.0\.9"):
        swept(tiny_engine, tmp_path / "run", executor=executor)


@contextmanager
def other_setup(**changes: Any) -> Iterator[Executor]:
    """An executor whose workers read another setup."""

    def change(sent_by: str, job: bytes, vectors: dict[str, bytes]) -> tuple[str, bytes, dict[str, bytes]]:
        made, into = read_job(job), io.BytesIO()
        pickler = pickle.Pickler(into)
        pickler.persistent_id = lambda value: value.name if isinstance(value, Named) else None  # type: ignore[method-assign]
        pickler.dump(replace(made, setup=replace(made.setup, **changes)))
        return sent_by, into.getvalue(), vectors

    def begin_anew() -> None:
        worker._KEPT._forget()
        worker._KEPT._found.clear()

    begin_anew()
    yield Direct(change)
    begin_anew()


def test_a_model_is_found_by_its_hash_or_refused(
    tiny_engine: Engine, here: SweepResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "models" / "deeper"
    folder.mkdir(parents=True)
    (folder / "a.gguf").write_bytes(b"GGUF")
    (folder / "renamed.gguf").write_bytes(tiny_engine.path.read_bytes())
    with other_setup(path="/nowhere/model.gguf") as executor:
        with pytest.raises(WorkerError, match=rf"worker on .*model\.gguf.*{FOLDERS} names no folder"):
            swept(tiny_engine, tmp_path / "none", executor=executor)
        found = swept(tiny_engine, tmp_path / "run", executor=executor, models=[tmp_path / "models"])
        assert numbers(found.folder) == numbers(here.folder)
    monkeypatch.setenv(FOLDERS, str(tmp_path / "models"))
    with other_setup(path="/nowhere/model.gguf") as executor:
        assert numbers(swept(tiny_engine, tmp_path / "two", executor=executor).folder) == numbers(here.folder)
    with other_setup(sha256="0" * 64) as executor, pytest.raises(WorkerError, match="with the hash 000000000000"):
        swept(tiny_engine, tmp_path / "other", executor=executor)


def test_another_build_is_refused(tiny_engine: Engine, tmp_path: Path) -> None:
    """Also by a worker that has an engine already, for a sender of its own build."""
    settings = {**tiny_engine.settings(), "llama_cpp": "b1"}
    with other_setup(settings=settings) as executor:
        small_sweep(tiny_engine, tmp_path / "right", choice=CHOICE[:2], executor=Direct(), random_directions=0)
        with pytest.raises(WorkerError, match="its llama_cpp is"):
            swept(tiny_engine, tmp_path / "run", executor=executor)


def test_flash_attention_has_the_senders_threads(tiny_path: Path, tmp_path: Path) -> None:
    """Its bits depend on their number; others share the machine's out."""
    for flash_attn, threads in (("on", 2), ("off", 1)):
        with Engine(tiny_path, threads=2, flash_attn=flash_attn) as engine:  # type: ignore[arg-type]
            executor = Direct()
            executor._max_workers = 2  # type: ignore[attr-defined]
            small_sweep(engine, tmp_path / flash_attn, choice=CHOICE[:2], executor=executor, random_directions=0)
            assert {job.setup.options["threads"] for job in executor.jobs} == {2}
            with spread.spread(2, engine, None) as made:  # type: ignore[arg-type]
                assert made.setup.options["threads"] == threads


def test_a_scheduler_that_goes_away_and_workers_that_do_are_told(
    tiny_engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Gone(Executor):
        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
            future: Future[Any] = Future()
            future.cancel()
            future.set_running_or_notify_cancel()
            return future

    class Empty(Executor):
        class _client:  # noqa: N801
            nthreads = dict

        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
            return Future()

    monkeypatch.setattr(spread, "_LOOK_S", 0.01)
    monkeypatch.setattr(spread, "_PATIENCE_S", 0.1)
    with pytest.raises(WorkerError, match="the scheduler went away"):
        swept(tiny_engine, tmp_path / "gone", executor=Gone())
    with pytest.raises(WorkerError, match="has no workers any more"):
        swept(tiny_engine, tmp_path / "empty", executor=Empty())


def test_another_type_of_cpu_is_noted(tiny_engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class EnoughError(Exception): ...

    def stop(means: Any) -> None:
        raise EnoughError

    host = worker.Host
    options = {"choice": CHOICE[:2], "random_directions": 0}
    with pytest.raises(EnoughError):
        small_sweep(tiny_engine, tmp_path / "run", on_strength=stop, **options)  # here
    monkeypatch.setattr(worker, "Host", lambda name, cpu: host("node-7", "AVX9"))
    found = small_sweep(tiny_engine, tmp_path / "run", executor=Direct(), **options)
    assert [note for note in found.manifest.notes if "node-7" in note and "several types" in note]


def test_no_workers_are_refused(tiny_engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="0 workers"):
        swept(tiny_engine, tmp_path / "run", executor=0)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("executor", "given"), [("celery", "'celery'"), (2.5, "a float"), (True, "True")])
def test_an_executor_that_is_none_is_refused_before_anything_is_begun(
    tiny_engine: Engine, tmp_path: Path, executor: Any, given: str
) -> None:
    with pytest.raises(InputError, match=f"^executor is {given}; give a number of processes, or an executor of"):
        swept(tiny_engine, tmp_path / "run", executor=executor)
    assert not (tmp_path / "run").exists()
    preset = parse_preset(MATRIX, name="m", place="m.toml")
    with pytest.raises(InputError, match=f"^executor is {given}"):
        study_matrix(preset, {}, load=Engine, out=tmp_path / "study", executor=executor)
    assert not (tmp_path / "study").exists()
