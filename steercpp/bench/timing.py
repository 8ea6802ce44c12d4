"""Comparing how long things take on a machine that does other things too: sides take turns, medians are compared.

In every round each side runs once, and the order turns from round to round: what slows the machine down for a while
slows all sides down alike, and none of them always runs in the warm or the throttled moment.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from steercpp.errors import InputError

Run: TypeAlias = Callable[[], float | None]  # one run of a side; a number is its own count of its seconds


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


def take_turns(
    sides: Mapping[str, Run],
    repeats: int,
    *,
    warm_ups: int = 0,
    tick: Callable[[float], None] | None = None,
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
        own = run()
        return time.perf_counter() - start if own is None else own
    finally:
        gc.enable()
