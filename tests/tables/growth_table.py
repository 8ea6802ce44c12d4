"""How the cost of a sweep grows with items and strengths: token-layers beside the plan, and time beside a line.

    python tests/tables/growth_table.py [15m] [MODEL.gguf ...] [--items 8] [--strengths 4] [--repeats 5]

Plain sweeps of behavior items, without controls, of items x1, x4, x16 and strengths x1, x4, each time all of them by
turns, with one thread and a loaded model. `15m` is the random model of this shape; without models it is measured, and
the real model that STEERCPP_REAL_MODEL names. Planned are token-layers of every batch: all blocks for its unsteered
pass, and for each strength those above the first steered block, whose own rows are kept. Time = fixed + slope x work is
fitted to the medians by least squares of the residuals as shares of the measured time.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from itertools import product
from pathlib import Path

import numpy as np
from plain_sweep import band_of, plain_sweep

from steercpp.bench.models import SHAPES, cache_folder, make_model
from steercpp.bench.result import turn
from steercpp.data.items import BehaviorItem, Kind
from steercpp.engine.engine import Engine
from steercpp.sweeps.growing import Growth
from steercpp.sweeps.prepared import work_of

SIZES = tuple(product((1, 4, 16), (1, 4)))  # items, strengths
CLOCKS = {"CPU": time.process_time, "clock": time.perf_counter}
WORDS = (
    "time", "year", "day", "man", "world", "life", "hand", "part", "child", "eye", "woman", "place", "work", "week",
    "case", "point", "number", "group", "fact", "house", "water", "room", "story", "month",
)  # fmt: skip


def items_of(n: int) -> tuple[BehaviorItem, ...]:
    """Questions of the same words in other orders; the first ones are those of fewer."""
    items = []
    for i in range(n):
        drawn = np.random.default_rng([5, i]).choice(WORDS, 12)
        prompt = f"{WORDS[i % len(WORDS)]} {drawn[0]} is about the {', the '.join(drawn[1:])}. Is that so?"
        items.append(BehaviorItem(f"b-{i}", prompt, (" Yes, it is",), (" No, it is not",)))
    return tuple(items)


def swept(engine: Engine, n_items: int, n_strengths: int) -> tuple[int, int, dict[str, float]]:
    """Token-layers that are planned for a sweep, those that it has counted, and its seconds by each clock."""
    items = items_of(n_items)
    (work,) = work_of(engine, {Kind.BEHAVIOR: items}, None, Growth())
    planned = work.n_tokens * (engine.n_layer + n_strengths * (engine.n_layer - band_of(engine)[0] - 1))
    with tempfile.TemporaryDirectory(dir=cache_folder()) as folder:
        before = {name: clock() for name, clock in CLOCKS.items()}
        result = plain_sweep(engine, items, n_strengths, Path(folder) / "run")
        taken = {name: clock() - before[name] for name, clock in CLOCKS.items()}
    assert result.manifest.tokens is not None
    return planned, result.manifest.tokens.token_layers, taken


def fitted(work: list[float], seconds: list[float]) -> tuple[float, float, list[float]]:
    """Fixed seconds, seconds of a token-layer, and each residual as a share of the measured seconds."""
    x, y = np.array(work), np.array(seconds)
    rows = np.stack([np.ones_like(x), x], axis=1) / y[:, np.newaxis]
    (fixed, slope), *_ = np.linalg.lstsq(rows, np.ones_like(y), rcond=None)
    return float(fixed), float(slope), ((fixed + slope * x - y) / y).tolist()


def table(name: str, path: Path, *, n_items: int, n_strengths: int, repeats: int) -> bool:
    """Print the table of one model; whether all token-layers are as planned."""
    seconds: dict[tuple[int, int], list[dict[str, float]]] = {size: [] for size in SIZES}
    work: dict[tuple[int, int], tuple[int, int]] = {}
    cache_folder().mkdir(parents=True, exist_ok=True)
    with Engine(path, threads=1) as engine:
        swept(engine, n_items, n_strengths)  # reads the file into memory
        for number in range(repeats):
            for place in turn([str(i) for i in range(len(SIZES))], number):
                size = SIZES[int(place)]
                planned, counted, taken = swept(engine, n_items * size[0], n_strengths * size[1])
                seconds[size].append(taken)
                work[size] = planned, counted
    medians = {
        clock: [statistics.median(taken[clock] for taken in seconds[size]) for size in SIZES] for clock in CLOCKS
    }
    lines = {clock: fitted([float(work[size][1]) for size in SIZES], medians[clock]) for clock in CLOCKS}
    print(f"\n{name}: {repeats} rounds; {n_items} items and {n_strengths} strengths beside 0 are x1\n")
    print("| items | strengths | token-layers, planned | counted | CPU, s | off the line | clock, s | off the line |")
    print("|--:|--:|--:|--:|--:|--:|--:|--:|")
    for i, size in enumerate(SIZES):
        cells = " | ".join(f"{medians[clock][i]:.2f} | {100 * lines[clock][2][i]:+.1f} %" for clock in CLOCKS)
        print(f"| x{size[0]} | x{size[1]} | {work[size][0]:,} | {work[size][1]:,} | {cells} |")
    for clock, (fixed, slope, residuals) in lines.items():
        most = max(map(abs, residuals))
        print(f"\n{clock}: {fixed:.2f} s + {1e6 * slope:.3f} µs x token-layers; at most {100 * most:.1f} % off")
    return all(planned == counted for planned, counted in work.values())


def main() -> int:
    """Measure the models, print their tables; 1 where token-layers are not as planned."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*")
    parser.add_argument("--items", type=int, default=8)
    parser.add_argument("--strengths", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=5)
    asked = parser.parse_args()
    real = os.environ.get("STEERCPP_REAL_MODEL")
    is_planned = True
    for model in asked.models or ["15m", *([real] if real else [])]:
        path = make_model(SHAPES[model], "q4_0") if model in SHAPES else Path(model)
        is_planned &= table(
            model if model in SHAPES else path.stem, path,
            n_items=asked.items, n_strengths=asked.strengths, repeats=asked.repeats,
        )  # fmt: skip
    return 0 if is_planned else 1


if __name__ == "__main__":
    sys.exit(main())
