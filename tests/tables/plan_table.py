"""Forecasts of `steercpp plan` beside measured sweeps, and the table of large models; shown in docs/plan.md.

`python tests/tables/plan_table.py validate [SHAPE ...]` calibrates and sweeps by turns on random models of the shapes
below, with one thread, and prints forecast, measured and their ratio. Both are told in seconds of the CPU, which other
programs on the machine hardly change, and in seconds of the clock. `... workers` does so with two processes.
`python tests/tables/plan_table.py large CALIBRATION ...` prints the table of docs/plan.md from kept calibrations.
"""

from __future__ import annotations

import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from string import ascii_uppercase

import numpy as np

from steercpp.bench.models import N_SPECIAL, SHAPES, Shape, block_shapes, cache_folder, make_model, words
from steercpp.bench.plan import plan
from steercpp.bench.speed import Speed, measure_speed, read_speed
from steercpp.bench.sweep_size import SweepSize
from steercpp.data.items import BehaviorItem, OwnItem
from steercpp.engine.engine import Engine
from steercpp.sweeps.sweep import sweep
from steercpp.sweeps.texts import TextPlan
from steercpp.vectors.control_vector import ControlVector
from steercpp.vectors.layers import default_layers

QUANT = "q4_0"
REPEATS = 1  # more where the machine is less busy
WORKERS = (1, 2, 4, 8, 16, 32, 64)
_PLAIN = SweepSize(n_items=24, n_own=30, finds=False)
# Of each shape so many blocks, and a sweep of it that takes one core 20 to 120 seconds.
SWEEPS: dict[str, tuple[int, SweepSize]] = {
    "15m": (6, _PLAIN),
    "135m": (12, replace(_PLAIN, n_items=8, n_own=6, n_strengths=13)),
    "1.1b": (6, replace(_PLAIN, n_items=5, n_own=0, n_strengths=9, n_directions=3)),
    "15m texts": (6, replace(_PLAIN, n_items=4, n_own=0, n_texts=4, text_tokens=24, n_directions=2)),
}


def items_of(size: SweepSize, n_vocab: int) -> tuple[tuple[BehaviorItem, ...], tuple[OwnItem, ...]]:
    """Items of so many tokens."""
    alphabet, rng = words(n_vocab), np.random.default_rng(3)

    def text(n: int) -> str:
        return " ".join(alphabet[i] for i in rng.integers(0, len(alphabet), n))

    n_prompt, n_answer = size.tokens_per_item - 2, size.answer_tokens - 1
    behavior = tuple(
        BehaviorItem(
            f"b-{first}", f"{first} {text(n_prompt)}", (f" {alphabet[0]} " + text(n_answer),),
            (f" {alphabet[1]} " + text(n_answer),),
        )
        for first in islice(ascii_uppercase, size.n_items)
    )  # fmt: skip
    own = []
    for number in range(size.n_own):
        tokens = tuple(int(token) for token in rng.integers(N_SPECIAL, n_vocab, size.own_tokens))
        own.append(OwnItem(f"o-{number}", text(size.tokens_per_item - 1), answer="words", tokens=tokens))
    return behavior, tuple(own)


def swept(path: Path, shape: Shape, size: SweepSize, *, workers: int | None = None) -> tuple[int, dict[str, float]]:
    """Token-layers of a real sweep, and its seconds by the CPU and by the clock."""
    behavior, own = items_of(size, shape.n_vocab)
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory(dir=cache_folder()) as folder:
        before = {name: clock() for name, clock in CLOCKS.items()}
        with Engine(path, threads=1) as engine:
            band = [il for il in default_layers(engine.n_layer) if il]
            push = {il: (0.02 * rng.standard_normal(engine.n_embd)).astype(np.float32) for il in band}
            result = sweep(
                engine, ControlVector(push, "llama", engine.n_layer), behavior=behavior, own=own,
                strengths=tuple(0.1 * (i + 1) for i in range(size.n_strengths - 1)),
                out=Path(folder) / "run", random_directions=size.n_directions - 1, orthogonal=True,
                instruction=" ".join(words(shape.n_vocab)[: size.instruction_tokens - 2]), executor=workers,
                text_plan=TextPlan(max_tokens=size.text_tokens, temperature=1.0) if size.n_texts else None,
            )  # fmt: skip
        taken = {name: clock() - before[name] for name, clock in CLOCKS.items()}
    assert result.manifest.tokens is not None
    return result.manifest.tokens.token_layers, taken


def _cpu() -> float:
    """Seconds of this process and of those that it has waited for."""
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


CLOCKS: dict[str, Callable[[], float]] = {"cpu": _cpu, "wall": time.perf_counter}


def validate(names: Sequence[str], *, workers: int | None = None) -> None:
    """Print forecasts beside what was measured."""
    print(
        "| shape | blocks | token-layers, planned / counted | planned, s | measured, s | planned / measured | wall, s |"
    )
    print("|---|--:|--:|--:|--:|--:|--:|", flush=True)
    for name in names:
        n_layer, size = SWEEPS[name]
        shape = replace(SHAPES[name.split()[0]], n_layer=n_layer)
        path = make_model(shape, QUANT)
        planned, measured, wall = [], [], []
        for _ in range(REPEATS):
            speed = measure_speed(shape, QUANT, size, threads=1, budget_s=10.0, is_cpu_time=True)
            # a random model has no candidate, at which answers that tell would be measured
            forecast = plan(speed, size, n_workers=(workers or 1,))
            aside = forecast.alone["telling"] + forecast.alone["loading"]
            planned.append(forecast.courses[0].seconds - aside)
            counted, taken = swept(path, shape, size, workers=workers)
            measured.append(taken["cpu"])
            wall.append(taken["wall"])
        here, there = statistics.median(planned), statistics.median(measured)
        n_planned = forecast.work.measured - forecast.work.telling
        print(
            f"| {name} | {n_layer} | {n_planned:,} / {counted:,} | {here:.1f} | {there:.1f} "
            f"({min(measured):.1f} to {max(measured):.1f}) | {here / there:.2f} | {statistics.median(wall):.0f} |",
            flush=True,
        )


def large(paths: Sequence[str]) -> None:
    """Print the table of large models; of 70b, whose blocks take a night here, from the last calibration."""
    speeds = {Path(path).stem: read_speed(Path(path), elsewhere=True) for path in paths}
    *_, last = speeds.values()
    speeds["70b"] = scaled(last, SHAPES["70b"])
    print(f"| model | memory, GB | token-layers | {' | '.join(map(str, WORKERS))} |")
    print("|---|--:|--:|" + "--:|" * len(WORKERS))
    for name, speed in speeds.items():
        forecast = plan(speed, SweepSize(finds=False), n_workers=WORKERS, price=0.5)
        taken = " | ".join(f"{course.seconds / 3600:.1f} h, {course.cost:.1f}" for course in forecast.courses)
        print(f"| {name} | {forecast.memory.total / 1e9:.1f} | {forecast.work.measured:,} | {taken} |")


def scaled(speed: Speed, shape: Shape) -> Speed:
    """The calibration of a larger model, reckoned by the weights of its blocks."""

    def weights(shape: Shape) -> int:
        return sum(int(np.prod(sizes)) for sizes in block_shapes(shape).values())

    share = weights(shape) / weights(speed.shape)
    costs = {
        way: replace(cost, token_s=cost.token_s * share, token_layer_s=cost.token_layer_s * share)
        for way, cost in speed.costs.items()
    }
    return replace(speed, shape=shape, costs=costs)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["validate", *names]:
            validate(names or list(SWEEPS))
        case ["workers", *names]:
            validate(names or ["15m"], workers=2)
        case ["large", *paths]:
            large(paths)
        case _:
            sys.exit(__doc__)
