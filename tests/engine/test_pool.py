"""Rows that join, leave, are cancelled and fail: each has the logits of a row that is alone in a pool, bit for bit.

`STEERCPP_PLANS` says how many random plans run: 500 by default, 10,000 before a release.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from architectures import ARCHITECTURES, STEERABLE
from places import ModelMaker
from random_queries import random_vector
from tiny_model import Shape, quantize, write_tiny_model

from steercpp.choices import OPERATORS
from steercpp.engine.batch import Pass, Query
from steercpp.engine.engine import Engine
from steercpp.engine.operations import Operation
from steercpp.engine.pool import Pool
from steercpp.engine.reference import log_softmax
from steercpp.engine.request import Failed, Finished, Generated, GenerationRequest, Text
from steercpp.engine.sampling import Sampling
from steercpp.engine.session import Result, Wanted
from steercpp.engine.steering import Gate, Steering
from steercpp.errors import ContextOverflowError, EngineError, InputError, LayerError
from steercpp.vectors.control_vector import ControlVector

N_PLANS = int(os.environ.get("STEERCPP_PLANS", "500"))
SEED = 20_261_130
POSITIONS = ("all", "all", "prompt", "generated", "last")


class RecordingPool(Pool):
    """Keeps the logits of every token of each row, by ticket, and how many were computed of which prompts."""

    def __init__(self, engine: Engine, **options: Any) -> None:
        super().__init__(engine, **options)
        self.logits: dict[int, list[np.ndarray]] = {}

    def _decode(
        self, pass_: Pass, operations: Sequence[Operation], wanted: Wanted | None = None, **options: Any
    ) -> Result:
        rows = [self._rows[place] for place in pass_.seq_ids] if options.get("samplers") else []
        result = super()._decode(pass_, operations, replace(wanted or Wanted(), logits=bool(rows)), **options)
        for row, logits in zip(rows, result.logits, strict=True) if rows else ():
            self.logits.setdefault(row.ticket, []).append(logits.copy())
        return result


@dataclass(slots=True)
class Outcome:
    row: Generated | None = None
    error: Exception | None = None
    logits: list[np.ndarray] = field(default_factory=list)


def outcomes(pool: RecordingPool, tickets: Sequence[int]) -> list[Outcome]:
    """What came of some requests."""
    found = {ticket: Outcome() for ticket in tickets}
    while pool.is_busy:
        take(pool.step(), found)
    for ticket in tickets:
        found[ticket].logits = pool.logits.get(ticket, [])
    return [found[ticket] for ticket in tickets]


def take(events: Sequence[Text | Finished | Failed], found: dict[int, Outcome]) -> None:
    for event in events:
        if isinstance(event, Finished):
            found[event.ticket].row = event.row
        elif isinstance(event, Failed):
            found[event.ticket].error = event.error


def alone(engine: Engine, request: GenerationRequest) -> Outcome:
    pool = RecordingPool(engine, n_cells=len(request.tokens) + request.max_tokens, n_rows=1)
    return outcomes(pool, [pool.add(request)])[0]


def check_equal(found: Outcome, own: Outcome, name: str, tolerance: float = 0.0) -> None:
    """The same in every bit; or, with a tolerance, up to it, and the same tokens but where two are as likely."""
    assert str(found.error) == str(own.error), name
    for step, (one, other) in enumerate(zip(found.logits, own.logits, strict=False)):
        difference = float(np.abs(one - other).max())
        assert difference <= tolerance, f"{name}, token {step}: logits differ by {difference}"
        if tolerance and found.row and own.row and found.row.tokens[: step + 1] != own.row.tokens[: step + 1]:
            return  # near a tie; what follows has another text
    assert found.row == own.row and len(found.logits) == len(own.logits), name


@dataclass(slots=True)
class Draw:
    """A random plan: requests, when they come, which are cancelled, and the pool's own numbers."""

    engine: Engine
    vectors: Sequence[ControlVector]
    rng: np.random.Generator

    def chance(self, share: float) -> bool:
        return bool(self.rng.random() < share)

    def one_of(self, things: Sequence[Any]) -> Any:
        return things[int(self.rng.integers(len(things)))]

    def steering(self) -> tuple[Steering, ...]:
        return tuple(
            Steering(
                self.one_of(self.vectors),
                1e30 if self.chance(0.03) else float(self.one_of((-1.0, 0.0, 0.3, 0.3, 1.0))),
                operator="add" if self.chance(0.7) else self.one_of(OPERATORS),
                positions=self.one_of(POSITIONS),
            )
            for _ in range(self.one_of((0, 1, 1, 1, 2)))
        )

    def requests(self) -> list[GenerationRequest]:
        """Many begin as another one does, or are the same prompt."""
        made: list[GenerationRequest] = []
        for _ in range(int(self.rng.integers(1, 8))):
            head: tuple[int, ...] = ()
            if made and self.chance(0.8):
                head = self.one_of(made).tokens
                head = head if self.chance(0.6) else head[: int(self.rng.integers(1, len(head) + 1))]
            n_tail = 0 if head and self.chance(0.6) else int(self.rng.integers(1, 40))
            tail = tuple(self.rng.integers(3, self.engine.n_vocab, n_tail).tolist())
            sampling = Sampling(temperature=1.5, seed=int(self.rng.integers(9))) if self.chance(0.3) else Sampling()
            made.append(GenerationRequest((head + tail)[:60], self.steering(), sampling, int(self.rng.integers(1, 6))))
        return made


def run_plan(
    engine: Engine, vectors: Sequence[ControlVector], number: int, met: Counter[str], tolerance: float
) -> None:
    draw = Draw(engine, vectors, np.random.default_rng([SEED, number]))
    requests = draw.requests()
    n_chunk = draw.one_of((None, None, 3, 7, 20))
    pool = RecordingPool(
        engine, n_cells=70, n_rows=int(draw.rng.integers(1, 6)), n_kept=draw.one_of((0, 0, 1, 3)), n_chunk=n_chunk,
        exact=draw.chance(0.1),
    )  # fmt: skip
    found, tickets, cancelled = {}, [], set()
    waiting = list(requests)
    while waiting or pool.is_busy:
        while waiting and (not pool.is_busy or draw.chance(0.5)):
            tickets.append(pool.add(waiting.pop(0)))
            found[tickets[-1]] = Outcome()
        if tickets and draw.chance(0.05):
            ticket = draw.one_of(tickets)
            if pool.cancel(ticket):
                cancelled.add(ticket)
        take(pool.step(), found)
    for ticket, request in zip(tickets, requests, strict=True):
        own, outcome = alone(engine, request), found[ticket]
        outcome.logits = pool.logits.get(ticket, [])
        name = f"plan {number}, request {ticket} of {len(requests)}"
        if ticket in cancelled:
            assert outcome.row is None and outcome.error is None, name
            own = replace(own, row=None, error=None, logits=own.logits[: len(outcome.logits)])
        check_equal(outcome, own, name, tolerance)
        met["failed"] += outcome.error is not None
        met["rows"] += 1
    met["cancelled"] += len(cancelled)
    met["in chunks"] += n_chunk is not None
    n_alone = sum(len(request.tokens) for request in requests) * engine.n_layer
    met["shared"] += pool.token_layers < n_alone
    met["based"] += any(sequence.base is not None for sequence in pool._sequences)


@pytest.fixture(scope="module", params=["q8_0", "q4_0", "f32"])
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    shape = Shape(n_layer=4, n_embd=64, n_ff=96, n_head=4, n_head_kv=2, words="", random_norms=True)
    path = write_tiny_model(tmp_path_factory.mktemp("pool") / "model.gguf", seed=SEED, shape=shape)
    if request.param != "f32":
        path = quantize(path, path.with_name(f"{request.param}.gguf"), request.param.upper())
    with Engine(path, n_ctx=128, n_batch=32, threads=1) as opened:
        yield opened


@pytest.fixture
def vectors(engine: Engine) -> list[ControlVector]:
    rng = np.random.default_rng(1)
    return [random_vector(engine, rng, layers) for layers in ((2,), (1, 3), (0, 2))]


@pytest.mark.slow
def test_rows_of_random_plans_are_rows_of_their_own(engine: Engine, vectors: list[ControlVector]) -> None:
    """Whatever joins, leaves, is cancelled or fails beside them, and whatever they share.

    With float32 weights sums over several rows are taken in another order than those of one.
    """
    met: Counter[str] = Counter()
    tolerance = 2e-2 if "Q" not in engine.path.stem.upper() else 0.0
    for number in range(N_PLANS // (1 if tolerance == 0 else 5)):
        run_plan(engine, vectors, number, met, tolerance)
    if met["rows"] > 1000:
        for kind in ("failed", "cancelled", "in chunks", "shared", "based"):
            assert met[kind] > met["rows"] / 500, (kind, met)


def steered(vector: ControlVector, *strengths: float, **options: Any) -> list[GenerationRequest]:
    prompt = tuple(range(3, 53))
    return [GenerationRequest(prompt, (Steering(vector, s),), max_tokens=4, **options) for s in strengths]


@pytest.mark.parametrize("file_type", ["F32", "Q8_0"])
@pytest.mark.parametrize("name", STEERABLE)
def test_architectures(tmp_path: Any, name: str, file_type: str) -> None:
    """Prompts in several pieces, a base made and started from, rows that wait, and one that leaves among others."""
    path = ARCHITECTURES[name].write(tmp_path / "model.gguf")
    if file_type != "F32":
        path = quantize(path, tmp_path / "quantized.gguf", file_type)
    with Engine(path, n_ctx=256, n_batch=16, threads=1) as engine:
        vector = random_vector(engine, np.random.default_rng(0), (2, 4))
        requests = steered(vector, 0.0, 0.5, -0.5, 1.0, 0.7)
        requests[1] = replace(requests[1], max_tokens=2)
        pool = RecordingPool(engine, n_cells=60, n_rows=3)
        for place, found in enumerate(outcomes(pool, [pool.add(request) for request in requests])):
            # sums over the rows of several sequences are rounded otherwise, with float32 weights or recurrent states
            tolerance = 0.0 if file_type == "Q8_0" and not engine.is_recurrent else 2e-2
            check_equal(found, alone(engine, requests[place]), f"row {place}", tolerance)
        above = engine.n_layer - (ARCHITECTURES[name].left_out[2] if not engine.is_recurrent else 0)
        n_steps = sum(request.max_tokens for request in requests)
        expected = 49 * (engine.n_layer + 4 * above) + n_steps * engine.n_layer
        assert pool.token_layers == expected


@pytest.mark.parametrize("name", ["embedded-Q4_K_M", "embedded-Q4_0"])
def test_weights_whose_kernels_depend_on_the_number_of_rows(model_maker: ModelMaker, name: str) -> None:
    """From 8 rows on products with K types are summed otherwise (docs/generation.md). Decoded by itself no row moves.

    Beginnings are of other lengths, so that prompts taken over are cut where others are not.
    """
    with Engine(model_maker(name), n_ctx=512, n_batch=32, threads=1) as engine:
        vector = random_vector(engine, np.random.default_rng(0), (2,))
        tokens = tuple(np.random.default_rng(1).integers(300, engine.n_vocab - 300, 90).tolist())
        requests = [
            GenerationRequest(tokens[: 90 - 7 * (i % 3)], (Steering(vector, 0.5 * (i % 2)),), max_tokens=3)
            for i in range(10)
        ]
        own = [alone(engine, request) for request in requests]
        for exact, tolerance in ((True, 0.0), (False, 0.3)):
            pool = RecordingPool(engine, n_cells=128, n_rows=9, exact=exact)
            found = outcomes(pool, [pool.add(request) for request in requests])
            for place, (one, other) in enumerate(zip(found, own, strict=True)):
                check_equal(one, other, f"row {place}, exact {exact}", tolerance)


def test_what_a_sequence_keeps_serves_later_requests(engine: Engine, vectors: list[ControlVector]) -> None:
    """A chat goes on from its own text, under the steering that it has alone, whoever had rows meanwhile."""
    n_prompt, pool = 40, RecordingPool(engine, n_cells=128, n_rows=1, n_kept=2)
    acts, other = (Steering(vectors[0], 0.5),), (Steering(vectors[0], 0.6),)
    first = GenerationRequest(tuple(range(3, 3 + n_prompt)), acts, max_tokens=6)
    (answer,) = outcomes(pool, [pool.add(first)])
    assert answer.row is not None
    longer = GenerationRequest((*first.tokens, *answer.row.tokens, 7, 8, 9), acts, max_tokens=3)
    n_held = n_prompt + len(answer.row.tokens) - 1  # its last token was drawn, not decoded
    for request, n_reused in ((replace(first, steering=other), 0), (longer, n_held), (replace(longer, steering=()), 0)):
        before = pool.token_layers
        (found,) = outcomes(pool, [pool.add(request)])
        check_equal(found, alone(engine, request), "later", 0.0 if "f32" not in str(engine.path) else 2e-2)
        assert found.row is not None
        n_decoded = len(request.tokens) - n_reused + len(found.row.tokens) - 1
        if engine.path.stem != "model":  # with float32 weights another text may come
            assert pool.token_layers - before == n_decoded * engine.n_layer


def test_a_short_request_does_not_wait_for_a_long_prompt(engine: Engine) -> None:
    pool = Pool(engine, n_cells=128, n_rows=3, n_chunk=8)
    long = pool.add(GenerationRequest(tuple(range(3, 123)), max_tokens=2))
    for _ in range(3):
        assert not pool.step()
    short = pool.add(GenerationRequest((5, 6, 7, 8, 9), max_tokens=2))
    events = [pool.step() for _ in range(3)]
    assert any(isinstance(event, Text) and event.ticket == short for step in events for event in step)
    assert pool.is_busy and pool.cancel(long) and not pool.cancel(long)
    while pool.is_busy:
        assert all(event.ticket == short for event in pool.step())


def test_cancelled_requests_leave_others_as_they_were(engine: Engine, vectors: list[ControlVector]) -> None:
    """One that waits, one in the middle of its prompt, one that draws."""
    requests = steered(vectors[0], 0.3, 0.5, -0.5, 1.0)
    pool = RecordingPool(engine, n_cells=60, n_rows=3, n_chunk=7)
    tickets = [pool.add(request) for request in requests]
    found = {ticket: Outcome() for ticket in tickets}
    assert pool.cancel(tickets[3])  # it waits
    take(pool.step(), found)
    assert pool.cancel(tickets[1])  # in the middle of a prompt
    while not pool.logits.get(tickets[0]):
        take(pool.step(), found)
    assert pool.cancel(tickets[0])
    assert not pool.cancel(99)
    (last,) = outcomes(pool, [tickets[2]])
    check_equal(last, alone(engine, requests[2]), "the row that stays", 0.0 if engine.path.stem != "model" else 2e-2)
    assert all(found[ticket].row is None for ticket in (tickets[0], tickets[1], tickets[3]))


def test_a_thousand_stop_strings(engine: Engine) -> None:
    request = GenerationRequest((5, 6, 7), max_tokens=20, sampling=Sampling(temperature=2.0, seed=3))
    whole = alone(engine, request).row
    assert whole is not None and len(whole.text) > 8
    stops = tuple(f"\ue000{n}" for n in range(999))
    stopped = alone(engine, replace(request, stop=(*stops, whole.text[5:7]))).row
    assert (
        stopped is not None
        and stopped.finish == "stop"
        and stopped.text == whole.text[: whole.text.index(whole.text[5:7])]
    )


def test_log_probabilities_of_drawn_tokens(engine: Engine, vectors: list[ControlVector]) -> None:
    """Under the steered model, before penalties and temperature: those of the row's own logits."""
    sampling = Sampling(temperature=1.3, top_k=5, repeat_penalty=1.5, seed=4)
    asking, other = steered(vectors[0], 0.5, 0.7, sampling=sampling)
    pool = RecordingPool(engine, n_cells=60, n_rows=2)
    found, silent = outcomes(pool, [pool.add(replace(asking, logprobs=True)), pool.add(other)])
    assert found.row is not None and silent.row is not None and silent.row.logprobs == ()
    logits = np.array(found.logits, np.float64)
    expected = [float(row[token]) for row, token in zip(log_softmax(logits), found.row.tokens, strict=False)]
    np.testing.assert_allclose(found.row.logprobs, expected[: len(found.row.tokens)], atol=1e-5)


def test_a_step_that_fails_ends_the_pool(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = Pool(engine, n_cells=60, n_rows=1)
    pool.add(GenerationRequest((5, 6, 7), max_tokens=2))
    monkeypatch.setattr(pool._session, "decode", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        pool.step()
    assert not pool.is_busy
    with pytest.raises(EngineError, match="a step of this pool failed or is not done"):
        pool.step()


def test_bad_input(engine: Engine, vectors: list[ControlVector]) -> None:
    """Each is one error, and rows that go on do not notice."""
    (request,) = steered(vectors[0], 0.5)
    pool = RecordingPool(engine, n_cells=60, n_rows=2)
    ticket = pool.add(request)
    pool.step()
    foreign = ControlVector({9: np.ones(engine.n_embd, np.float32)}, engine.architecture, 12)
    gate = Gate(np.ones(engine.n_embd, np.float32), 9, 0.0)
    for changes, error, message in (
        ({"tokens": ()}, InputError, "the prompt has no tokens"),
        ({"tokens": (10**6,)}, InputError, "a token lies outside the vocabulary"),
        ({"max_tokens": 0}, InputError, "max_tokens is 0"),
        ({"stop": ("a", "")}, InputError, "a stop string is empty"),
        ({"stop": "dea"}, InputError, "stop is 'dea'; give a tuple"),
        ({"stop": (b"a",)}, InputError, "stop holds b'a'"),
        ({"max_tokens": 2.5}, InputError, "max_tokens is 2.5"),
        ({"tokens": (5, 6.5)}, InputError, "tokens holds 6.5"),
        ({"steering": Steering(vectors[0])}, InputError, "give a tuple"),
        ({"sampling": None}, InputError, "give a `Sampling`"),
        ({"tokens": tuple(range(3, 253)), "max_tokens": 7}, ContextOverflowError, "need 257 cells, a row has 256"),
        ({"steering": (Steering(foreign),)}, LayerError, "layer 9 does not exist"),
        ({"steering": (Steering(vectors[0], gate=gate),)}, LayerError, "layer 9 does not exist"),
    ):
        with pytest.raises(error, match=message):
            pool.add(replace(request, **changes))
    (found,) = outcomes(pool, [ticket])
    check_equal(found, alone(engine, request), "the row that goes on", 0.0 if engine.path.stem != "model" else 2e-2)
    wrong: list[tuple[dict[str, int], str]] = [
        ({"n_rows": 0}, "n_rows is 0"),
        ({"n_rows": 250, "n_kept": 7}, "give at most 256 together"),
        ({"n_rows": 1, "n_chunk": 2}, "n_chunk is 2"),
        ({"n_rows": 1, "n_kept": -1}, "n_kept is -1"),
        ({"n_rows": 1, "n_cells": 10**9}, "n_cells is 1000000000; give at most the engine's n_ctx"),
    ]
    for options, message in wrong:
        with pytest.raises(InputError, match=message):
            Pool(engine, **{"n_cells": 60, **options})  # type: ignore[arg-type]


def test_all_sequences_out_of_range(engine: Engine, vectors: list[ControlVector]) -> None:
    """What is not finite is cleared away before another row takes the place."""
    (sound,) = steered(vectors[0], 0.5)
    for n_rows in (1, 2):
        pool = RecordingPool(engine, n_cells=60, n_rows=n_rows)
        failing = [replace(sound, steering=(Steering(vectors[1], s),)) for s in (1e30, -1e30)]
        *failed, found = outcomes(pool, [pool.add(request) for request in (*failing, sound)])
        assert all("leave float32's range; use a smaller strength" in str(outcome.error) for outcome in failed)
        check_equal(found, alone(engine, sound), "after", 0.0 if engine.path.stem != "model" else 2e-2)


def test_what_was_likely_is_told_of_prompts_and_of_what_is_drawn(tiny_engine: Engine, rng: np.random.Generator) -> None:
    """Beside a row that asks for nothing, in chunks, and equal to what `Engine.logprobs` and all logits say."""
    tokens = tiny_engine.encode("the man is in the house and the day is long")
    steering = (Steering(random_vector(tiny_engine, rng, (1, 2)), 0.5),)
    asked = GenerationRequest(tokens, steering, max_tokens=3, logprobs=True, n_top=2, prompt_logprobs=True)
    pool = RecordingPool(tiny_engine, n_cells=64, n_rows=2, n_kept=1, n_chunk=4)
    other, ticket = pool.add(replace(asked, logprobs=False, n_top=0, prompt_logprobs=False)), pool.add(asked)
    events: list[Any] = []
    while pool.is_busy:
        events += pool.step()
    rows = {event.ticket: event.row for event in events if isinstance(event, Finished)}
    row = rows[ticket]
    assert row.tokens == rows[other].tokens and not rows[other].top and not rows[other].logprobs
    (batch,) = tiny_engine.pack([Query(tokens[:1], (tokens[1:],))], [steering])
    (whole,) = tiny_engine.logprobs(batch, steering=[steering])[0]
    assert len(row.prompt_logprobs) == len(row.prompt_top) == len(tokens) - 1
    assert sum(row.prompt_logprobs) == pytest.approx(whole, abs=1e-6)
    for place, logits in enumerate(pool.logits[ticket]):
        expected = log_softmax(logits)
        likely = np.argsort(-expected)[:2]
        assert [token for token, _ in row.top[place]] == likely.tolist()
        assert [logprob for _, logprob in row.top[place]] == pytest.approx(expected[likely])
        assert row.logprobs[place] == pytest.approx(expected[row.tokens[place]])
    told = [(event.token, event.logprob, event.top) for event in events if isinstance(event, Text)]
    assert [each for each in told if each[1] is not None] == [*zip(row.tokens, row.logprobs, row.top, strict=True)]
    assert row.n_cached == 0  # it is decoded whole
    again = pool.add(replace(asked, prompt_logprobs=False))
    assert [event.row.n_cached for event in pool_events(pool) if isinstance(event, Finished)] == [len(tokens) - 1], (
        again
    )


def pool_events(pool: Pool) -> list[Any]:
    events: list[Any] = []
    while pool.is_busy:
        events += pool.step()
    return events
