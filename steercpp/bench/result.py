"""What a benchmark found, as data: sides with their times, figures made of them, what each figure was to be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, TypeAlias

from steercpp.bench.timing import Timed

Fact: TypeAlias = str | int | float | bool


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
            "comparisons": [_comparison_json(one) for one in self.comparisons],
            "skipped": [asdict(one) for one in self.skipped],
        }


def time_ratio(sides: Sequence[Side], of: str, to: str, promise: Promise | None = None) -> Figure:
    """Ratio of two sides' median times."""
    by_name = {side.name: side for side in sides}
    return Figure(f"time, {of} / {to}", by_name[of].timed.over(by_name[to].timed), promise)


def work_ratio(sides: Sequence[Side], of: str, to: str, promise: Promise | None = None) -> Figure:
    """Ratio of two sides' token-layers."""
    by_name = {side.name: side for side in sides}
    return Figure(f"token-layers, {of} / {to}", by_name[of].token_layers / by_name[to].token_layers, promise)


def _comparison_json(one: Comparison) -> dict[str, Any]:
    return {
        "name": one.name,
        "title": one.title,
        "model": one.model,
        "facts": dict(one.facts),
        "sides": [
            {
                "name": side.name,
                "median_s": side.timed.median,
                "minimum_s": side.timed.minimum,
                "seconds": list(side.timed.seconds),
                "token_layers": side.token_layers or None,
            }
            for side in one.sides
        ],
        "figures": [
            {"name": f.name, "value": f.value, "promise": _promise_json(f.promise), "kept": f.kept} for f in one.figures
        ],
    }


def _promise_json(promise: Promise | None) -> dict[str, float] | None:
    return None if promise is None else {"at_most" if promise.at_most else "at_least": promise.limit}
