"""A sweep over several processes or machines: jobs go to an executor, numbers come back into one store.

    sweep(engine, vector, spec, out="runs/refusal", executor=4)                      # four processes here
    sweep(engine, vector, spec, out="runs/refusal", executor=client.get_executor())   # a Dask cluster

A job is a task, one batch of items, under all its variants, so that its unsteered pass is computed once; where there
are fewer tasks than workers, their variants are shared out too. Numbers are committed as they come back, and a group
that is in the store is not asked for again. Who is lost is replaced where the processes are ours, and what it had to do
is done again; of other executors their own rules hold.
"""

from __future__ import annotations

import multiprocessing
import os
import secrets
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    ProcessPoolExecutor,
    wait,
)
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from multiprocessing import resource_tracker
from typing import Any, Protocol, TypeAlias

from steercpp.engine.engine import Engine
from steercpp.engine.model_file import model_bytes
from steercpp.engine.steering import Steering
from steercpp.errors import InputError, SteerError, WorkerError
from steercpp.provenance import physical_cores
from steercpp.sweeps.measure import Here, Measured, Measurer, Task, Tick, Variant
from steercpp.sweeps.texts import ItemTexts, TextJob, TextPlan, missing_draws
from steercpp.sweeps.worker import Host, Lacking, MeasureJob, Sent, Setup, WriteJob, perform, version

_LOSSES = 3  # workers lost in a row, without a job done between them
_AHEAD = 2  # jobs for each worker that are sent before they can begin
_LOOK_S = 10.0  # between two looks at who is there
_PATIENCE_S = 120.0  # without any worker
LOADING = "waiting for workers, which load the model"

Work: TypeAlias = MeasureJob | WriteJob


class Spreading(Protocol):
    """`spread` over a chosen executor."""

    def __call__(self, engine: Engine, here: Here) -> AbstractContextManager[Measurer]:
        """See `spread`."""


@contextmanager
def spread(executor: Executor | int, engine: Engine, here: Here, *, models: Sequence[str] = ()) -> Iterator[Spread]:
    """What measures over an executor; processes of ours end with it.

    Args:
        executor: where jobs go, or how many processes to run here.
        engine: as its own, the workers run the model.
        here: its store takes the numbers.
        models: folders in which workers look for the model.

    Raises:
        InputError: as `check_executor`.
    """
    check_executor(executor)
    options = engine.options()
    if engine.settings()["flash_attn"] != "off":  # its bits depend on the number of threads
        options |= {"threads": engine.settings()["threads"]}
    elif isinstance(executor, int):
        options |= {"threads": max(1, (options["threads"] or physical_cores()) // executor)}
    setup = Setup(
        engine.sha256, model_bytes(engine.path), str(engine.path.resolve()), tuple(map(str, models)), options,
        {name: value for name, value in engine.settings().items() if name not in engine.vocabulary.chat_texts},
    )  # fmt: skip
    if isinstance(executor, Executor):
        yield Spread(here, setup, executor, None)
        return
    make = _Processes(executor).start
    made = Spread(here, setup, make(), make)
    try:
        yield made
    finally:
        _end(made.executor)


def check_executor(executor: object) -> None:
    """See that jobs can be sent to what was given as an executor, before anything is begun.

    Raises:
        InputError: it is neither an executor nor a number of processes, or there are none.
    """
    if isinstance(executor, bool) or not isinstance(executor, int | Executor | None):
        given = repr(executor)[:40] if isinstance(executor, str | bool) else f"a {type(executor).__name__}"
        raise InputError(
            f"executor is {given}; give a number of processes, or an executor of concurrent.futures, which a Dask "
            "client's get_executor(pure=False) is"
        )
    if isinstance(executor, int) and executor < 1:
        raise InputError(f"{executor} workers: give at least 1")


def _n_of(executor: Executor) -> int:
    """Workers that an executor has now; of one that does not tell, the cores of this machine."""
    client: Any = getattr(executor, "_client", None)
    if hasattr(client, "nthreads"):  # Dask's
        return len(client.nthreads())
    return int(getattr(executor, "_max_workers", None) or os.cpu_count() or 1)


@dataclass(slots=True)
class Spread:
    """Measures in other processes; see `Measurer`.

    Attributes:
        here: has the store, and what is finished.
        setup: which model the workers need.
        executor: where jobs go.
        renew: makes another executor where this one is broken; None where it is not ours.
    """

    here: Here
    setup: Setup
    executor: Executor
    renew: Callable[[], Executor] | None
    _run: str = field(default_factory=lambda: secrets.token_hex(8))
    _sent: Sent = field(default_factory=Sent)
    _used: set[str] = field(default_factory=set)  # vectors that were sent
    _is_begun: bool = False  # whether a worker has done anything

    def measure(
        self,
        chunked: Sequence[Sequence[Task]],
        variants: Sequence[Variant],
        *,
        keeps: bool = True,
        tick: Tick,
        after: Callable[[Variant], None] = lambda _: None,
    ) -> None:
        """See `Measurer`."""
        tasks = [task for chunk in chunked for task in chunk]
        places = {(variant.label, variant.strength): place for place, variant in enumerate(variants)}
        left = [len(tasks)] * len(variants)
        untold = deque(range(len(variants)))

        def tell() -> None:
            """Tell of variants in their order: what is made of one may need those before it."""
            while untold and left[untold[0]] == 0:
                after(variants[untold.popleft()])

        def count(task: Task, place: int, *, is_new: bool) -> None:
            tick(variants[place], task.batch.n_tokens, is_new)
            left[place] -= 1
            tell()

        jobs: list[tuple[Task, MeasureJob]] = []
        n_of_each = n_parts(len(tasks), _n_of(self.executor))
        tick(variants[0], 0, False)
        for task in tasks:
            missing = []
            for place, variant in enumerate(variants):
                if task.group(variant.label, variant.strength) in self.here.done:
                    count(task, place, is_new=False)
                else:
                    missing.append(variant)
            name = f"{self._run} {task.kind} {task.number} {keeps}"
            for part in _parts(missing, n_of_each):
                first_layer = self.here.bases.first_layer
                jobs.append((task, MeasureJob(self.setup, name, task, part, first_layer, keeps)))
        tell()  # of no tasks

        def take(place: int, measured: list[Measured]) -> None:
            for numbers in measured:
                if numbers.group not in self.here.done:
                    self.here.commit(numbers)
                    count(jobs[place][0], places[numbers.group.label, numbers.group.strength], is_new=True)

        loading = replace(variants[0], words=LOADING)
        self._do([job for _, job in jobs], take, wait_for_first=lambda: tick(loading, 0, False))

    def write(
        self,
        job: TextJob,
        text_plan: TextPlan,
        *,
        steering: Steering | None,
        strengths: Sequence[float],
        tick: Callable[[int, bool], None],
    ) -> None:
        """See `Measurer`."""
        n_tokens, n_draws = job.n_tokens_of_a_text(text_plan), len(strengths) * text_plan.samples
        missing = []
        for item, draws in enumerate(missing_draws(self.here.store, job, text_plan, strengths)):
            if len(draws) < n_draws:
                tick(n_tokens[item] * (n_draws - len(draws)), False)
            if draws:
                missing.append((item, draws))

        def take(place: int, texts: ItemTexts) -> None:
            texts.add_to(self.here.store)
            item, draws = missing[place]
            tick(n_tokens[item] * len(draws), True)

        self._do(
            [WriteJob(self.setup, job.task(item), text_plan, steering, draws) for item, draws in missing], take,
            wait_for_first=lambda: tick(0, False),
        )  # fmt: skip

    def _do(
        self, jobs: Sequence[Work], take: Callable[[int, Any], None], *, wait_for_first: Callable[[], None]
    ) -> None:
        """Have jobs done.

        Args:
            jobs: which.
            take: gets the place of each and what it gave, in the order in which they end.
            wait_for_first: called now and then as long as no worker has done anything.
        """
        waiting, running = deque(range(len(jobs))), dict[Future[tuple[Any, Host]], int]()
        lacking = set[int]()  # places of jobs whose worker did not have their vectors
        n_losses = 0
        alone_since = None
        try:
            while waiting or running:
                n_workers = _n_of(self.executor)  # of a cluster some come later
                try:
                    while waiting and len(running) < _AHEAD * max(n_workers, 1):
                        future = self._submit(jobs[waiting[0]], again=waiting[0] in lacking)
                        running[future] = waiting.popleft()
                    if running and not self._is_begun:
                        wait_for_first()
                    done = wait(running, timeout=_LOOK_S, return_when=FIRST_COMPLETED).done
                    for future in sorted(done, key=_is_lost):  # what there is first
                        result, host = _result(future)
                        place = running.pop(future)
                        if isinstance(result, Lacking):
                            lacking.add(place)
                            waiting.appendleft(place)
                            continue
                        self._is_begun = True
                        self.here.store.note_host(host.name, host.cpu)
                        take(place, result)
                        n_losses = 0
                except BrokenExecutor as error:
                    n_losses += 1
                    if self.renew is None:
                        raise WorkerError(f"the executor is broken ({error}); the same command resumes") from error
                    if n_losses == _LOSSES:
                        raise WorkerError(
                            f"the worker processes ended {n_losses} times before they had done anything ({error}): is "
                            "there memory for a model in each? A script that calls this needs "
                            'its code below `if __name__ == "__main__":`'
                        ) from error
                    waiting.extendleft(sorted(running.values(), reverse=True))
                    running.clear()
                    _end(self.executor)
                    self.executor = self.renew()
                    continue
                alone_since = None if n_workers or done else alone_since or time.monotonic()
                if alone_since is not None and time.monotonic() - alone_since > _PATIENCE_S:
                    raise WorkerError("the cluster has no workers any more; start some, then the same command resumes")
        finally:
            for future in running:
                future.cancel()

    def _submit(self, job: Work, *, again: bool) -> Future[tuple[Any, Host]]:
        """Send a job, with its vectors where they have not been used before."""
        data, vectors = self._sent.pickled(job)
        if not again and self._is_begun and self._used.issuperset(vectors):
            vectors = {}
        self._used |= vectors.keys()
        return self.executor.submit(perform, version(), data, vectors)


def _is_lost(future: Future[tuple[Any, Host]]) -> bool:
    """Whether a job that has ended gave nothing."""
    return future.cancelled() or future.exception() is not None


def _result(future: Future[tuple[Any, Host]]) -> tuple[Any, Host]:
    """What a job gave.

    Raises:
        BrokenExecutor: the worker was lost.
        SteerError: what it raised; WorkerError for anything else.
    """
    try:
        return future.result()
    except (SteerError, BrokenExecutor):
        raise
    except CancelledError as error:
        raise WorkerError("the scheduler went away; start it again, then the same command resumes") from error
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        if type(error).__name__ == "KilledWorker":  # Dask's
            raise WorkerError(
                f"workers are lost again and again ({reason}); is there memory for the model? See Dask's memory limit"
            ) from error
        raise WorkerError(f"a worker failed ({reason}); is steercpp {version()} installed where it runs?") from error


def n_parts(n_tasks: int, n_workers: int) -> int:
    """Into how many jobs the variants of one task are shared out, at most."""
    return max(1, -(-_AHEAD * n_workers // max(n_tasks, 1)))


def _parts(variants: Sequence[Variant], n: int) -> list[tuple[Variant, ...]]:
    """Variants in runs of nearly one length, at most n of them."""
    n = min(n, len(variants))
    return [tuple(variants[len(variants) * i // n : len(variants) * (i + 1) // n]) for i in range(n)]


@dataclass(frozen=True, slots=True)
class _Processes:
    """Processes of ours on this machine."""

    n: int

    def start(self) -> ProcessPoolExecutor:
        """So many, started anew: a fork would share the threads' locks of this one."""
        return _Pool(self.n, mp_context=multiprocessing.get_context("spawn"), initializer=_begin)


class _Pool(ProcessPoolExecutor):
    """Processes that Ctrl-C does not reach, from their first moment on."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """As of any executor; a process that is started for it inherits which signals wait."""
        if not hasattr(signal, "pthread_sigmask"):
            return super().submit(fn, *args, **kwargs)
        resource_tracker.ensure_running()  # which lets signals through again where it starts
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            return super().submit(fn, *args, **kwargs)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)  # one that came meanwhile comes now


def _begin() -> None:
    """Leave Ctrl-C to who sends the jobs, and end with it, however that ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def end() -> None:
        if parent is not None:
            parent.join()
        os._exit(1)

    threading.Thread(target=end, daemon=True).start()


def _end(executor: Executor) -> None:
    """End processes of ours at once, in the middle of a job too."""
    processes = list((getattr(executor, "_processes", None) or {}).values())
    executor.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        with suppress(Exception):  # it may have ended
            process.kill()
    for process in processes:
        process.join()
