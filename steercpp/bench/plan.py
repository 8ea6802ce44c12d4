"""What a sweep would take: token-layers, memory, time and cost on any number of equal machines, from a calibration.

speed = measure_speed(SHAPES["7b"], "q4_0", size := SweepSize(), threads=8)
forecast = plan(speed, size, n_workers=(1, 4, 16), price=0.5)
[(course.n_workers, course.seconds, course.cost) for course in forecast.courses]

Items are packed by the very code that packs those of a sweep, and the passes over them are those that it makes
(sweeps/estimate.py). Each batch is a job, as sweeps/spread.py makes them; jobs go, in their order, to the worker that
is free first. A stage begins when the one before it has ended. What is found on the model before a sweep is found by
one machine while the others wait.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any

from steercpp.bench.models import Shape, model_bytes
from steercpp.bench.speed import KEEP_MIB, N_CTX, Cost, Speed
from steercpp.bench.sweep_size import SweepSize
from steercpp.engine.engine import MAX_SEQUENCES, limits_of
from steercpp.engine.packing import pack
from steercpp.errors import InputError
from steercpp.sweeps.estimate import LoadName, Loads, Passes, passes_of, work_of
from steercpp.sweeps.measure import pays
from steercpp.sweeps.own_answers import query_groups, rows_at_once
from steercpp.sweeps.own_continuations import LONGEST, SAMPLES
from steercpp.sweeps.spread import n_parts
from steercpp.sweeps.windows import windows_to_try
from steercpp.vectors.layers import default_layers

DISK_MB_S = 500.0
START_S = 4.0  # for a process to import what it needs
N_PAIRS = 72  # of the built-in sets
MOST_WORKERS = 100_000
_LOADS: tuple[LoadName, ...] = ("scored", "choosing", "telling")


@dataclass(frozen=True, slots=True)
class Work:
    """Token-layers of a sweep on one machine.

    Attributes:
        to_find: of what is found before; about.
        measured: of the items, exactly for items as they are planned.
        telling: of it, of the own answers that are measured at the candidate, where there is one.
        texts: of generated texts, at most.
    """

    to_find: int
    measured: int
    telling: int
    texts: int


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes that a process holds, about.

    Attributes:
        weights: of the model, as in its file.
        kv: K and V of the context.
        kept: rows that unsteered passes keep, and their logits.
        logits: of a batch, every row an output.
    """

    weights: int
    kv: int
    kept: int
    logits: int

    @property
    def total(self) -> int:
        """Of all."""
        return self.weights + self.kv + self.kept + self.logits


@dataclass(frozen=True, slots=True)
class Course:
    """A sweep on some machines.

    Attributes:
        n_workers: how many; 1 is a sweep without workers.
        seconds: from the command to the recommendation.
        speed_up: over one.
        machine_hours: all machines, all the time.
        cost: of these.
    """

    n_workers: int
    seconds: float
    speed_up: float
    machine_hours: float
    cost: float


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a sweep would take.

    Attributes:
        size: the sweep.
        first_layer: the lowest that is steered.
        work, memory: of one machine.
        alone: seconds of each stage on one machine.
        courses: for each number of machines.
    """

    size: SweepSize
    first_layer: int
    work: Work
    memory: Memory
    alone: Mapping[str, float]
    courses: tuple[Course, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {**asdict(self), "memory": {**asdict(self.memory), "total": self.memory.total}}


def plan(
    speed: Speed,
    size: SweepSize,
    *,
    n_workers: Iterable[int] = (1,),
    price: float = 0.0,
    disk_mb_s: float = DISK_MB_S,
    first_layer: int | None = None,
) -> Forecast:
    """What a sweep would take.

    Args:
        speed: how fast the machines are, and of which model.
        size: the sweep.
        n_workers: numbers of machines.
        price: of a machine for an hour, in any money.
        disk_mb_s: megabytes a second at which a machine reads its model.
        first_layer: the lowest that is steered; by default that of the default band.

    Raises:
        InputError: a number out of range, or items that are longer than the context.
    """
    numbers = tuple(n_workers)
    for n in numbers:
        if not 1 <= n <= MOST_WORKERS:
            raise InputError(f"{n} `workers`: give 1 to {MOST_WORKERS}")
    if not 0 <= price < math.inf or not 0 < disk_mb_s < math.inf:
        raise InputError(f"`price` is {price} and `disk_mb_s` {disk_mb_s}: give a price from 0 on and a speed above 0")
    made = _Sweep(speed, size, disk_mb_s, first_layer)
    alone = made.stages(1)
    first = sum(alone.values())
    courses = []
    for n in numbers:
        seconds = first if n == 1 else sum(made.stages(n).values())
        hours = n * seconds / 3600
        courses.append(Course(n, seconds, first / seconds, hours, hours * price))
    return Forecast(size, made.first_layer, made.work, made.memory, alone, tuple(courses))


def finish(jobs: Iterable[float], n_workers: int) -> float:
    """Seconds until all jobs are done that go, in their order, to the worker that is free first.

    >>> finish([3.0, 1.0, 1.0, 1.0], 2), finish([3.0, 1.0, 1.0, 1.0], 1)
    (3.0, 6.0)
    """
    free = [0.0] * n_workers
    for seconds in jobs:
        heapq.heapreplace(free, free[0] + seconds)
    return max(free)


@dataclass(frozen=True, slots=True)
class _Sizes:
    """What decides the work; see `Sizes` in sweeps/estimate.py."""

    n_layer: int
    n_embd: int
    n_vocab: int
    keep_bytes: int = KEEP_MIB * 2**20


class _Sweep:
    """A sweep that is only reckoned."""

    def __init__(self, speed: Speed, size: SweepSize, disk_mb_s: float, first_layer: int | None) -> None:
        self.speed, self.size, shape = speed, size, speed.shape
        self.sizes = _Sizes(shape.n_layer, shape.n_embd, shape.n_vocab)
        band = [il for il in default_layers(shape.n_layer) if il]
        self.first_layer = (band[0] if band else 1) if first_layer is None else first_layer
        if not 0 < self.first_layer < shape.n_layer:
            raise InputError(f"layer {self.first_layer} of {shape.n_layer} blocks; steer 1 to {shape.n_layer - 1}")
        self.load_s = model_bytes(shape, speed.quant) / (disk_mb_s * 1e6)
        self.passes = passes_of(
            n_strengths=size.n_strengths, n_directions=size.n_directions, in_words=size.instruction_tokens > 0
        )
        self.batches = {load: self._packed(load) for load in _LOADS}
        self.in_words = {load: self._packed(load, in_words=True) for load in ("scored", "choosing")}

    def _packed(self, load: LoadName, *, in_words: bool = False) -> list[tuple[int, int]]:
        """Tokens of each batch, and of its items without the instruction."""
        sizes = self.sizes
        limits = limits_of(
            n_batch=self.speed.n_batch, n_ctx=N_CTX, n_seq_max=min(MAX_SEQUENCES, self.speed.n_batch),
            n_embd=sizes.n_embd, keep_bytes=sizes.keep_bytes,
        )  # fmt: skip
        queries = self.size.queries(load, n_vocab=sizes.n_vocab, in_words=in_words)
        plain = self.size.queries(load, n_vocab=sizes.n_vocab) if in_words else queries
        groups = [range(len(queries))] if load == "scored" else query_groups(queries, rows_at_once(sizes))
        batches = []
        for group in groups:
            for batch in pack([queries[number] for number in group], limits):
                n_plain = batch.n_tokens
                if in_words:
                    members = [plain[group[member]] for member in batch.members]
                    n_plain = sum(other.n_tokens for other in pack(members, limits))
                batches.append((batch.n_tokens, n_plain))
        return batches

    @property
    def loads(self) -> Loads:
        """Tokens of one pass over the items."""
        scored, choosing, telling = (sum(n for n, _ in self.batches[load]) for load in _LOADS)
        return Loads(scored, choosing=choosing, telling=telling)

    @property
    def work(self) -> Work:
        """Token-layers on one machine."""
        n_layer, size = self.sizes.n_layer, self.size
        measured = {passes: sum(self._token_layers(passes, *batch) for batch in self._batches(passes))
                    for passes in self.passes}  # fmt: skip
        telling = sum(n for passes, n in measured.items() if passes.stage == "telling")
        found = work_of(
            self.sizes, self.loads, first_layer=self.first_layer, n_strengths=size.n_strengths,
            n_directions=size.n_directions, in_words=size.instruction_tokens > 0,
            n_windows=len(windows_to_try(n_layer)),
        ).to_find  # fmt: skip
        n_read, n_generated = self._found_tokens
        to_find = (found + n_layer * (n_read + n_generated)) * size.finds
        n_rows = size.n_texts * size.samples * (size.n_strengths + (size.instruction_tokens > 0))
        texts = n_rows * (size.tokens_per_item + size.text_tokens) * n_layer
        return Work(round(to_find), sum(measured.values()), telling, texts)

    @property
    def memory(self) -> Memory:
        """Of one process."""
        shape = self.speed.shape
        loads = self.loads
        kept = 4 * shape.n_embd * (loads.scored + loads.choosing) + 4 * shape.n_vocab * (
            self.size.n_of("choosing") * self.size.own_tokens
        )
        kv = 2 * 2 * N_CTX * shape.n_layer * (shape.n_embd // shape.n_head) * shape.n_head_kv
        return Memory(
            model_bytes(shape, self.speed.quant), kv, round(min(kept, self.sizes.keep_bytes)),
            4 * self.speed.n_batch * shape.n_vocab,
        )  # fmt: skip

    @property
    def keeps_all(self) -> bool:
        """Whether the unsteered passes of all items are kept at once, so that the directions start from them."""
        loads = self.loads
        n_outputs = self.size.n_of("choosing") * self.size.own_tokens
        n_bytes = 4 * self.sizes.n_embd * (loads.scored + loads.choosing) + 4 * self.sizes.n_vocab * n_outputs
        return n_bytes <= self.sizes.keep_bytes

    @property
    def _found_tokens(self) -> tuple[int, int]:
        """Tokens read and generated to find the model's own words and answers, and to make a vector; about."""
        size = self.size
        n_words = 2 * (SAMPLES + 1) * LONGEST * size.n_items * (size.instruction_tokens > 0)
        n_read = size.n_items * 8 * size.tokens_per_item + 3 * n_words + size.n_own * size.tokens_per_item
        n_read += 2 * N_PAIRS * (size.tokens_per_item + size.instruction_tokens)
        return n_read, n_words + size.n_own * size.own_tokens

    def _batches(self, passes: Passes) -> list[tuple[int, int]]:
        return self.in_words[passes.load] if passes.in_words else self.batches[passes.load]

    def _token_layers(self, passes: Passes, n: int, n_plain: int) -> int:
        """Of all passes over a batch of so many tokens, on one machine."""
        n_layer, above = self.sizes.n_layer, self.sizes.n_layer - self.first_layer - 1
        if passes.in_words:
            return n_layer * (n if passes.load == "scored" else n + n_plain)
        if passes.unsteered or self.keeps_all:
            return n * (n_layer * passes.unsteered + above * passes.steered)
        if pays(passes.steered, self.first_layer, n_layer):
            return n * (n_layer + above * passes.steered)
        return n * n_layer * passes.steered

    def stages(self, n_workers: int) -> dict[str, float]:
        """Seconds of each stage on so many machines."""
        finding = self._finding_s if self.size.finds else 0.0
        is_spread = n_workers > 1
        stages = {"loading": START_S + self.load_s + is_spread * (START_S + self.load_s), "finding": finding}
        for stage, group in groupby(self.passes, key=lambda passes: passes.stage):
            of_stage = list(group)
            stages[stage] = self._stage_s(of_stage, n_workers)
        if self.size.n_texts:
            stages["texts"] = finish(self._texts_s, n_workers)
        return stages

    def _stage_s(self, of_stage: Sequence[Passes], n_workers: int) -> float:
        """Of passes that are measured together."""
        batches = [(passes, *batch) for passes in of_stage for batch in self._batches(passes)]
        jobs: list[float] = []
        n_commits = 0
        for passes, n, n_plain in batches:
            variants = [True] * passes.unsteered + [False] * passes.steered  # whether each is unsteered
            n_commits += len(variants) + passes.in_words
            if passes.in_words:
                jobs.append(self._in_words_s(passes, n, n_plain))
                continue
            parts = min(n_parts(len(batches), n_workers), len(variants)) if n_workers > 1 else 1
            for i in range(parts):
                part = variants[len(variants) * i // parts : len(variants) * (i + 1) // parts]
                is_kept = n_workers == 1 and self.keeps_all
                jobs.append(self._job_s(passes.load, n, sum(part), len(part) - sum(part), is_kept=is_kept))
        commits = n_commits * self.speed.commit_s
        # one process commits what all have measured
        return sum(jobs) + commits if n_workers == 1 else max(finish(jobs, n_workers), commits)

    def _job_s(self, load: LoadName, n: int, n_unsteered: int, n_steered: int, *, is_kept: bool) -> float:
        """Of some passes over a batch of so many tokens, with the unsteered one that they need."""
        name = "scored" if load == "scored" else "own"
        n_layer = self.sizes.n_layer
        unsteered = self._cost(f"{name} unsteered").seconds(n, n_layer)
        steered = self._cost(f"{name} steered").seconds(n, n_layer - self.first_layer - 1)
        if n_unsteered or is_kept:
            return n_unsteered * unsteered + n_steered * steered
        if load != "scored" or pays(n_steered, self.first_layer, n_layer):
            return unsteered + n_steered * steered
        return n_steered * unsteered

    def _in_words_s(self, passes: Passes, n: int, n_plain: int) -> float:
        n_layer = self.sizes.n_layer
        if passes.load == "scored":
            return self._cost("scored unsteered").seconds(n, n_layer)
        return self._cost("own in words").seconds(n + n_plain, n_layer)

    @property
    def _texts_s(self) -> list[float]:
        """Of each item whose prompt is continued."""
        size = self.size

        def of_item(n_rows: int, n_prompt: int) -> float:
            return n_rows * self._generating_s(n_prompt, size.text_tokens)

        steered = [of_item(size.samples * size.n_strengths, size.tokens_per_item)] * size.n_texts
        if not size.instruction_tokens:
            return steered
        return steered + [of_item(size.samples, size.tokens_per_item + size.instruction_tokens)] * size.n_texts

    def _generating_s(self, n_prompt: float, n_new: float) -> float:
        n_layer = self.sizes.n_layer
        return self._cost("scored unsteered").seconds(n_prompt, n_layer) + self._cost("texts").seconds(n_new, n_layer)

    @property
    def _finding_s(self) -> float:
        n_layer = self.sizes.n_layer
        _, n_generated = self._found_tokens
        n_read = self.work.to_find / n_layer - n_generated
        return self._cost("scored unsteered").seconds(n_read, n_layer) + self._generating_s(0, n_generated)

    def _cost(self, way: str) -> Cost:
        return self.speed.costs[way]


def shape_name(shape: Shape, names: Mapping[str, Shape]) -> str:
    """What a shape is called, or its sizes."""
    known = next((name for name, other in names.items() if other == shape), None)
    return known or f"{shape.n_layer} blocks of {shape.n_embd}"
