"""Requests of an event loop, decoded together by one thread that owns the pool; read this for what is served when.

    scheduler = Scheduler(engine, n_rows=4)
    job = scheduler.submit([GenerationRequest(tokens, (Steering(vector, 1.5),), max_tokens=64)])
    try:
        await job.accepted()
        async for row, event in job.events():
            ...  # Text, Finished or Failed
    finally:
        job.close()

The loop puts jobs into an inbox; the thread takes them out between two steps of the pool, so nothing waits for a step
but the work itself. What a step brings goes back to the loop in one call. A job is open until it is closed, whoever
reads it and how slowly: no more rows than `n_rows + max_waiting` are, and each keeps as many events as it may draw
tokens. So a reader that stands still costs others nothing but its place, which it loses with its time.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from steercpp.engine.engine import Engine
from steercpp.engine.pool import Pool
from steercpp.engine.request import Event, Failed, Finished, GenerationRequest
from steercpp.errors import (
    BusyError,
    ClosingError,
    ContextOverflowError,
    EngineError,
    InputError,
    OutOfTimeError,
    SteerError,
)

N_CHUNK = 256  # tokens of prompts in a step: what a short request waits for while a long one is read
_IN_TIME_S = 600.0
_USUAL_ROWS = 4
_USUAL_BYTES = 4 << 30  # of K and V, of rows and of what is kept


@dataclass(frozen=True, slots=True)
class Work:
    """What a scheduler has done and has to do.

    Attributes:
        in_work, waiting: rows that are decoded, and that wait for one to end.
        n_steps: of the pool.
        n_prompt, n_cached: tokens of finished prompts, and how many of them were there from another row.
        n_drawn: tokens drawn.
        token_layers: tokens times blocks computed.
    """

    in_work: int = 0
    waiting: int = 0
    n_steps: int = 0
    n_prompt: int = 0
    n_cached: int = 0
    n_drawn: int = 0
    token_layers: int = 0


class Job:
    """Some rows that were submitted together; its methods are for the loop that submitted it.

    Attributes:
        requests: one for each row.
        until: when its time is over, of `time.monotonic`.
    """

    def __init__(self, requests: Sequence[GenerationRequest], until: float, on_close: Callable[[Job], None]) -> None:
        self.requests = tuple(requests)
        self.until = until
        self.loop = asyncio.get_running_loop()
        self._on_close = on_close
        self._is_closed = False
        self._answered = asyncio.Event()
        self._error: SteerError | None = None
        self._events: asyncio.Queue[tuple[int, Event]] = asyncio.Queue()

    async def accepted(self) -> None:
        """Wait until the rows are in the pool.

        Raises:
            SteerError: why they are not.
        """
        await self._answered.wait()
        if self._error is not None:
            raise self._error

    async def events(self) -> AsyncIterator[tuple[int, Event]]:
        """What comes of the rows, each with its row's place, until all have ended."""
        n_left = len(self.requests)
        while n_left:
            row, event = await self._events.get()
            n_left -= isinstance(event, Finished | Failed)
            yield row, event

    def close(self) -> None:
        """Give up what is not done, and the rows' places; nothing where it is closed already."""
        if not self._is_closed:
            self._is_closed = True
            self._on_close(self)

    def answer(self, error: SteerError | None) -> None:
        """Say that the rows are in the pool, or why they are not."""
        self._error = error
        self._answered.set()

    def put(self, row: int, event: Event) -> None:
        """Give what came of a row to who reads the events."""
        if not self._is_closed:
            self._events.put_nowait((row, event))


class Scheduler:
    """One thread that decodes what an event loop submits. Close it at the end.

    Args:
        engine: the model; while the scheduler is open, only its vocabulary is for others.
        n_rows: rows decoded at once.
        n_cells: K/V cells of each row: its prompt and all it may draw; by default the engine's n_ctx.
        n_kept: sequences more, which keep the K and V of prompts for those that begin alike.
        n_chunk: tokens of prompts in a step.
        max_waiting: rows that may wait, and be read, beside those that are decoded.
        timeout_s: seconds that a job has, waiting included.
        exact: see `Pool`.

    Raises:
        InputError, EngineError: as `Pool`.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        n_rows: int = 4,
        n_cells: int | None = None,
        n_kept: int = 4,
        n_chunk: int = N_CHUNK,
        max_waiting: int = 64,
        timeout_s: float = _IN_TIME_S,
        exact: bool = False,
    ) -> None:
        self.engine, self.n_rows, self.max_waiting, self.timeout_s = engine, n_rows, max_waiting, timeout_s

        def make() -> Pool:
            return Pool(
                engine, n_cells=n_cells or engine.n_ctx, n_rows=n_rows, n_kept=n_kept, n_chunk=n_chunk, exact=exact
            )

        self._make, self._pool = make, make()
        self.n_cells = self._pool.n_cells
        self._wake = threading.Condition()
        self._inbox: list[tuple[Job, bool]] = []  # True: to be taken in; False: to be given up
        self._n_open = 0  # rows of jobs that are not closed
        self._is_closing = self._ends = False
        self._broken = ""  # why the model can no longer be used
        # what the thread alone touches
        self._rows: dict[int, tuple[Job, int]] = {}  # by ticket
        self._tickets: dict[Job, list[int]] = {}  # of the rows of each job that have not ended
        self._told: list[tuple[Job, Callable[[], None]]] = []  # to be called in the job's loop
        self._work = Work()
        self._n_steps = self._layers_before = 0  # the latter of pools that are no more
        self._thread = threading.Thread(target=self._serve, name="steercpp-scheduler", daemon=True)
        self._thread.start()

    # For the loop.

    @property
    def capacity(self) -> int:
        """Rows that may be open at once."""
        return self.n_rows + self.max_waiting

    @property
    def n_open(self) -> int:
        """Rows of jobs that are not closed."""
        return self._n_open

    @property
    def work(self) -> Work:
        """What is done and to be done, as of the latest step."""
        return self._work

    @property
    def is_sound(self) -> bool:
        """Whether requests are taken."""
        return not self._broken and not self._is_closing

    def submit(self, requests: Sequence[GenerationRequest]) -> Job:
        """Take some rows in, which begin together; from a running event loop.

        Raises:
            BusyError: too many rows are open.
            ClosingError: the scheduler is being closed, or its model can no longer be used.
            InputError: more rows than could ever be open, or none.
        """
        n = len(requests)
        if not 1 <= n <= self.capacity:
            raise InputError(f"{n} texts at once; give 1 to {self.capacity}")
        with self._wake:
            if self._broken:
                raise ClosingError(self._broken)
            if self._is_closing:
                raise ClosingError("the server is being ended; ask again once it is back")
            if self._n_open + n > self.capacity:
                raise BusyError(
                    f"the server is busy: {self._n_open} texts of at most {self.capacity} are in work; ask again later"
                )
            job = Job(requests, time.monotonic() + self.timeout_s, self._give_up)
            self._n_open += n
            self._inbox.append((job, True))
            self._wake.notify()
        return job

    def refuse_new(self) -> None:
        """Take nothing in any more; what is in work goes on."""
        with self._wake:
            self._is_closing = True

    def close(self) -> None:
        """End the thread after its step; jobs that are not done fail."""
        with self._wake:
            self._is_closing = self._ends = True
            self._wake.notify()
        self._thread.join()

    def _give_up(self, job: Job) -> None:
        with self._wake:
            self._n_open -= len(job.requests)
            self._inbox.append((job, False))
            self._wake.notify()

    # For the thread.

    def _serve(self) -> None:
        while True:
            with self._wake:
                while not (self._inbox or self._rows or self._ends):
                    self._wake.wait()
                inbox, self._inbox = self._inbox, []
                ends = self._ends
            for job, is_new in inbox:
                if is_new:
                    self._take_in(job)
                else:
                    self._drop(job)
            if ends:
                self._fail_all(ClosingError("the server was ended before the text was done"))
                self._tell()
                return
            self._end_late()
            if self._pool.is_busy:
                self._step()
            self._count()
            self._tell()

    def _take_in(self, job: Job) -> None:
        tickets: list[int] = []
        error: SteerError | None = ClosingError(self._broken) if self._broken else None
        try:
            for request in job.requests if error is None else ():
                tickets.append(self._pool.add(request))
        except ContextOverflowError as overflow:
            error = _too_long(overflow, job.requests[len(tickets)], self.n_cells)
        except SteerError as problem:
            error = problem
        except Exception as fault:  # a fault of ours must not end the thread, and others' rows with it
            error = EngineError(f"the request cannot be decoded ({type(fault).__name__}); this is a fault of steercpp")
        if error is not None:
            for ticket in tickets:
                self._pool.cancel(ticket)
            self._told.append((job, lambda: job.answer(error)))
            return
        self._tickets[job] = tickets
        self._rows |= {ticket: (job, row) for row, ticket in enumerate(tickets)}
        self._told.append((job, lambda: job.answer(None)))

    def _drop(self, job: Job) -> None:
        for ticket in self._tickets.pop(job, []):
            self._pool.cancel(ticket)
            self._rows.pop(ticket, None)

    def _end_late(self) -> None:
        now = time.monotonic()
        for job in [job for job in self._tickets if job.until < now]:
            seconds = f"{self.timeout_s:g} seconds"
            self._fail(job, OutOfTimeError(f"the text was not done in {seconds}; ask for fewer tokens or again later"))

    def _step(self) -> None:
        self._n_steps += 1
        try:
            events = self._pool.step()
        except Exception as error:
            problem = error if isinstance(error, SteerError) else EngineError(f"a decode failed: {error}")
            self._renew(problem)
            return
        for event in events:
            self._put(event)

    def _put(self, event: Event) -> None:
        job, row = self._rows[event.ticket]
        if isinstance(event, Finished | Failed):
            del self._rows[event.ticket]
            self._tickets[job].remove(event.ticket)
            if not self._tickets[job]:
                del self._tickets[job]
        if isinstance(event, Finished):
            work, done = self._work, event.row
            self._work = replace(
                work, n_prompt=work.n_prompt + len(job.requests[row].tokens), n_cached=work.n_cached + done.n_cached,
                n_drawn=work.n_drawn + len(done.tokens) + (done.end_token is not None),
            )  # fmt: skip
        self._told.append((job, lambda: job.put(row, event)))

    def _renew(self, error: SteerError) -> None:
        """After a step that failed: all rows fail, and another pool takes the place of this one."""
        self._fail_all(error, cancels=False)
        self._layers_before += self._pool.token_layers
        try:
            self._pool = self._make()
        except Exception as problem:
            self._broken = f"the model can no longer be used: {problem}"

    def _fail_all(self, error: SteerError, *, cancels: bool = True) -> None:
        for job in list(self._tickets):
            self._fail(job, error, cancels=cancels)

    def _fail(self, job: Job, error: SteerError, *, cancels: bool = True) -> None:
        for ticket in self._tickets.pop(job):
            if cancels:
                self._pool.cancel(ticket)
            _, row = self._rows.pop(ticket)
            self._told.append((job, lambda row=row, ticket=ticket: job.put(row, Failed(ticket, error))))  # type: ignore[misc]

    def _count(self) -> None:
        waiting = self._pool.n_waiting
        self._work = replace(
            self._work, in_work=len(self._rows) - waiting, waiting=waiting, n_steps=self._n_steps,
            token_layers=self._layers_before + self._pool.token_layers,
        )  # fmt: skip

    def _tell(self) -> None:
        """Hand over to each loop, in one call, what its jobs are told."""
        told, self._told = self._told, []
        by_loop: dict[asyncio.AbstractEventLoop, list[Callable[[], None]]] = defaultdict(list)
        for job, call in told:
            by_loop[job.loop].append(call)
        for loop, calls in by_loop.items():
            with suppress(RuntimeError):  # the loop is closed: nobody reads
                loop.call_soon_threadsafe(_all, calls)


def usual_rows(engine: Engine) -> int:
    """Rows that have room for the engine's whole context, with as many kept, in 4 GiB; from 1 to 4."""
    n_bytes = 2 * engine.n_ctx * engine.bytes_per_cell
    return max(1, min(_USUAL_ROWS, _USUAL_BYTES // n_bytes))


def _all(calls: Sequence[Callable[[], None]]) -> None:
    for call in calls:
        call()


def _too_long(error: ContextOverflowError, request: GenerationRequest, n_cells: int) -> ContextOverflowError:
    """The error in words of a request, which does not choose how many cells there are."""
    n = len(request.tokens)
    return ContextOverflowError(
        f"the prompt has {n} tokens and `max_tokens` is {request.max_tokens}, {n + request.max_tokens} together; this "
        f"server takes {n_cells}; shorten the prompt or lower `max_tokens`"
    )
