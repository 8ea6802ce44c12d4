"""Sides take turns, and what comes of it as data: their times, figures made of them, what each figure was to be.

A machine does other things too, so sides run by turns and medians are compared.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, TypeAlias

from steercpp.errors import InputError

Run: TypeAlias = Callable[[], float | None]  # one run of a side; a number is its own count of its seconds
Fact: TypeAlias = str | int | float | bool


@dataclass(frozen=True, slots=True)
class Timed:
    """Seconds of one side's runs, in the order of the rounds."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Median of the runs, in seconds."""
        return statistics.median(self.seconds)

    @property
    def minimum(self) -> float:
        """The fastest run, in seconds."""
        return min(self.seconds)

    def over(self, other: Timed) -> float:
        """Ratio of the medians, this one's to the other's."""
        return self.median / other.median


@dataclass(frozen=True, slots=True)
class Promise:
    """What a figure is to be: at most, or at least, a number."""

    limit: float
    at_most: bool

    def kept_by(self, value: float) -> bool:
        """Whether a value is on the right side."""
        return value <= self.limit if self.at_most else value >= self.limit


def at_most(limit: float) -> Promise:
    """No more than this."""
    return Promise(limit, True)


def at_least(limit: float) -> Promise:
    """No less than this."""
    return Promise(limit, False)


@dataclass(frozen=True, slots=True)
class Side:
    """One way of doing the same thing.

    Attributes:
        name: of the side.
        timed: seconds of its runs.
        token_layers: tokens times blocks that one run computes; 0 where a tool of llama.cpp does not tell.
    """

    name: str
    timed: Timed
    token_layers: int = 0


@dataclass(frozen=True, slots=True)
class Figure:
    """A number made of the sides."""

    name: str
    value: float
    promise: Promise | None = None

    @property
    def kept(self) -> bool | None:
        """Whether the promise is kept; None where there is none."""
        return None if self.promise is None else self.promise.kept_by(self.value)


@dataclass(frozen=True, slots=True)
class Comparison:
    """One line of the benchmark.

    Attributes:
        name: what `only` calls it.
        title: what is compared, in words.
        model: shape and type of the model.
        sides: what was run.
        figures: what follows.
        facts: numbers of questions, tokens, layers, and whether the sides agree.
    """

    name: str
    title: str
    model: str
    sides: tuple[Side, ...]
    figures: tuple[Figure, ...]
    facts: Mapping[str, Fact] = field(default_factory=dict)

    def figure(self, name: str) -> Figure:
        """The figure of that name."""
        return next(figure for figure in self.figures if figure.name == name)


@dataclass(frozen=True, slots=True)
class Skipped:
    """A line that was not run; `failed` where something went wrong, not where a tool is missing."""

    name: str
    reason: str
    failed: bool = False


Line: TypeAlias = Comparison | Skipped


@dataclass(frozen=True, slots=True)
class BenchResult:
    """A whole benchmark: on what, and the lines in the order they were run."""

    machine: Mapping[str, Fact]
    lines: tuple[Line, ...]

    @property
    def comparisons(self) -> tuple[Comparison, ...]:
        """The lines that were run."""
        return tuple(line for line in self.lines if isinstance(line, Comparison))

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        """The lines that were not."""
        return tuple(line for line in self.lines if isinstance(line, Skipped))

    @property
    def failed(self) -> bool:
        """Whether something went wrong."""
        return any(line.failed for line in self.skipped)

    def to_json(self) -> dict[str, Any]:
        """All of it in JSON's own types."""
        return {
            "machine": dict(self.machine),
            "comparisons": [_comparison_json(comparison) for comparison in self.comparisons],
            "skipped": [asdict(line) for line in self.skipped],
        }


def time_ratio(sides: Sequence[Side], of: str, to: str, promise: Promise | None = None) -> Figure:
    """Ratio of two sides' median times."""
    by_name = {side.name: side for side in sides}
    return Figure(f"time, {of} / {to}", by_name[of].timed.over(by_name[to].timed), promise)


def work_ratio(sides: Sequence[Side], of: str, to: str, promise: Promise | None = None) -> Figure:
    """Ratio of two sides' token-layers."""
    by_name = {side.name: side for side in sides}
    return Figure(f"token-layers, {of} / {to}", by_name[of].token_layers / by_name[to].token_layers, promise)


def take_turns(
    sides: Mapping[str, Run], repeats: int, *, warm_ups: int = 0, tick: Callable[[float], None] | None = None
) -> dict[str, Timed]:
    """Seconds of every side over so many rounds.

    Args:
        sides: by name, what to run; a side that returns a number is taken at its word instead of the clock's.
        repeats: rounds.
        warm_ups: rounds before, which are not counted.
        tick: called after each run with the share of all runs that is done, 0..1.

    Raises:
        InputError: no rounds.
    """
    if repeats < 1:
        raise InputError(f"repeats is {repeats}; give at least 1")
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    n_runs, n_done = (warm_ups + repeats) * len(sides), 0
    for number in range(warm_ups + repeats):
        for name in turn(tuple(sides), number):
            taken = _timed(sides[name])
            if number >= warm_ups:
                seconds[name].append(taken)
            n_done += 1
            if tick is not None:
                tick(n_done / n_runs)
    return {name: Timed(tuple(values)) for name, values in seconds.items()}


def turn(names: Sequence[str], number: int) -> tuple[str, ...]:
    """The order of round `number`: one place further each time, backwards in every second cycle."""
    start = number % len(names)
    order = (*names[start:], *names[:start])
    return order[::-1] if number // len(names) % 2 else order


def _timed(run: Run) -> float:
    """Seconds of a run, with garbage collected before it and never within."""
    gc.collect()
    gc.disable()
    try:
        start = time.perf_counter()
        seconds = run()
        return time.perf_counter() - start if seconds is None else seconds
    finally:
        gc.enable()


def _comparison_json(comparison: Comparison) -> dict[str, Any]:
    return {
        "name": comparison.name,
        "title": comparison.title,
        "model": comparison.model,
        "facts": dict(comparison.facts),
        "sides": [
            {
                "name": side.name, "median_s": side.timed.median, "minimum_s": side.timed.minimum,
                "seconds": list(side.timed.seconds), "token_layers": side.token_layers or None,
            }
            for side in comparison.sides
        ],
        "figures": [
            {"name": f.name, "value": f.value, "promise": _promise_json(f.promise), "kept": f.kept}
            for f in comparison.figures
        ],
    }  # fmt: skip


def _promise_json(promise: Promise | None) -> dict[str, float] | None:
    return None if promise is None else {"at_most" if promise.at_most else "at_least": promise.limit}
