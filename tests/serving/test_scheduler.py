"""The scheduler by itself, without HTTP: what is taken, what fails alone, and how it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from steercpp.engine.engine import Engine
from steercpp.engine.generation import generate
from steercpp.engine.pool import Pool
from steercpp.engine.request import Event, Failed, Finished, GenerationRequest, Text
from steercpp.errors import BusyError, ClosingError, ContextOverflowError, EngineError, InputError, SteerError
from steercpp.serving.scheduler import Job, Scheduler, usual_rows


@asynccontextmanager
async def scheduling(engine: Engine, **options: Any) -> AsyncIterator[Scheduler]:
    scheduler = Scheduler(engine, n_cells=256, **{"n_rows": 2, "n_kept": 1, **options})
    try:
        yield scheduler
    finally:
        await asyncio.to_thread(scheduler.close)


async def all_of(job: Job) -> list[tuple[int, Event]]:
    try:
        await job.accepted()
        return [each async for each in job.events()]
    finally:
        job.close()


def request(engine: Engine, text: str = "the man is", n: int = 5) -> GenerationRequest:
    return GenerationRequest(engine.encode(text), max_tokens=n)


def test_rows_of_a_job(tiny_engine: Engine) -> None:
    async def run() -> None:
        async with scheduling(tiny_engine) as scheduler:
            texts = ("the man is", "the day", "a word")
            events = await all_of(scheduler.submit([request(tiny_engine, text) for text in texts]))
            for row, text in enumerate(texts):
                own = [event for place, event in events if place == row]
                assert isinstance(own[-1], Finished) and all(isinstance(event, Text) for event in own[:-1])
                alone = generate(tiny_engine, text, [None], max_tokens=5).rows[0]
                assert own[-1].row == alone
            assert scheduler.work.n_drawn == 15 and scheduler.work.in_work == 0

    asyncio.run(run())


def test_a_job_whose_row_cannot_be_takes_none(tiny_engine: Engine) -> None:
    async def run() -> None:
        async with scheduling(tiny_engine) as scheduler:
            job = scheduler.submit([request(tiny_engine), request(tiny_engine, n=1000)])
            with pytest.raises(
                ContextOverflowError, match="`max_tokens` is 1000, 10.. together; this server takes 256"
            ):
                await all_of(job)
            assert len(await all_of(scheduler.submit([request(tiny_engine)]))) == 6
            for n in (0, 67):
                with pytest.raises(InputError, match="texts at once; give 1 to 66"):
                    scheduler.submit([request(tiny_engine)] * n)

    asyncio.run(run())


def test_places_are_those_of_open_jobs(tiny_engine: Engine) -> None:
    """Also of one that is done and not read: a reader that stands still takes no memory beyond its place."""

    async def run() -> None:
        async with scheduling(tiny_engine, n_rows=1, n_kept=0, max_waiting=1) as scheduler:
            first, second = (scheduler.submit([request(tiny_engine)]) for _ in range(2))
            with pytest.raises(BusyError, match="2 texts of at most 2"):
                scheduler.submit([request(tiny_engine)])
            assert len([each async for each in first.events()]) == 6
            with pytest.raises(BusyError):
                scheduler.submit([request(tiny_engine)])
            first.close()
            first.close()
            third = scheduler.submit([request(tiny_engine)])
            assert len(await all_of(second)) == len(await all_of(third)) == 6

    asyncio.run(run())


def test_a_step_that_fails_ends_what_is_in_work_and_no_more(
    tiny_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Pool.step
    fails = [True]

    def failing(pool: Pool) -> list[Event]:
        if fails and fails.pop():
            raise EngineError("llama_decode returned -3")
        return step(pool)

    monkeypatch.setattr(Pool, "step", failing)

    async def run() -> None:
        async with scheduling(tiny_engine) as scheduler:
            ((_, event),) = await all_of(scheduler.submit([request(tiny_engine)]))
            assert isinstance(event, Failed) and isinstance(event.error, EngineError)
            assert len(await all_of(scheduler.submit([request(tiny_engine)]))) == 6 and scheduler.is_sound

    asyncio.run(run())


def test_the_end(tiny_engine: Engine) -> None:
    async def run() -> None:
        async with scheduling(tiny_engine) as scheduler:
            job = scheduler.submit([request(tiny_engine, n=200)])
            await job.accepted()
            scheduler.refuse_new()
            with pytest.raises(ClosingError, match="being ended"):
                scheduler.submit([request(tiny_engine)])
            events = job.events()
            assert isinstance((await anext(events))[1], Text)
            await asyncio.to_thread(scheduler.close)
            errors = [event.error async for _, event in events if isinstance(event, Failed)]
            assert len(errors) == 1 and isinstance(errors[0], ClosingError)
            assert all(isinstance(error, SteerError) for error in errors) and not scheduler.is_sound

    asyncio.run(run())


def test_usual_rows_are_those_that_memory_has_room_for(tiny_engine: Engine) -> None:
    assert usual_rows(tiny_engine) == 4
