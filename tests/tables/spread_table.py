"""What it costs to have other processes measure, and what two of them gain.

    python tests/tables/spread_table.py [--shape 135m] [--layers N] [--items 24] [--tokens 96] [--strengths 5]
                                        [--repeats 5]

Sweeps of behavior items on a random model, by turns: in one process, over one worker and over two, each of one thread,
and in one process with two threads. Choose items and shape so that a group, a batch of items at one strength, takes
about a second. Seconds are by the clock: "measuring" from the first group's beginning to the last one's commit, with
workers that are there and have the model; "whole" with loading the model and starting the workers.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from plain_sweep import plain_sweep

from steercpp.bench.models import SHAPES, cache_folder, make_model, with_layers, words
from steercpp.bench.result import Timed, take_turns
from steercpp.bench.sweep_size import SweepSize
from steercpp.data.items import BehaviorItem
from steercpp.engine.engine import Engine
from steercpp.runs.folder import STORE
from steercpp.runs.store import Store
from steercpp.sweeps.stages import Stage

HERE, ONE, TWO, THREADS = "one process", "one worker", "two workers", "one process, 2 threads"


def items_of(size: SweepSize, n_vocab: int) -> tuple[BehaviorItem, ...]:
    """Items of so many tokens, no two of which begin alike."""
    alphabet, rng = words(n_vocab), np.random.default_rng(3)

    def text(n: int) -> str:
        return " ".join(alphabet[i] for i in rng.integers(0, len(alphabet), n))

    n_prompt, n_answer = size.tokens_per_item - 2, size.answer_tokens - 1
    return tuple(
        BehaviorItem(
            f"b-{i}", f"{alphabet[2 + i]} {text(n_prompt)}", (f" {alphabet[0]} {text(n_answer)}",),
            (f" {alphabet[1]} {text(n_answer)}",),
        )
        for i in range(size.n_items)
    )  # fmt: skip


class Watch:
    """The clock at a sweep's first stage, and at the last group that it has finished."""

    def __init__(self) -> None:
        self.begun = self.last = 0.0

    def on_stage(self, stage: Stage) -> None:
        """Called by `sweep`."""
        self.begun = self.begun or time.perf_counter()

    def progress(self, done: int, total: int, label: str) -> None:
        """Called by `sweep`."""
        self.last = time.perf_counter()


def swept(engine: Engine, size: SweepSize, n_vocab: int, executor: Executor | int | None) -> tuple[float, int]:
    """Seconds from a sweep's first group to its last, and how many there were."""
    watch = Watch()
    with tempfile.TemporaryDirectory(dir=cache_folder()) as folder:
        result = plain_sweep(
            engine, items_of(size, n_vocab), size.n_strengths - 1, Path(folder) / "run", executor=executor,
            progress=watch.progress, on_stage=watch.on_stage,
        )  # fmt: skip
        with Store.read(result.folder / STORE, settled=True) as store:
            return watch.last - watch.begun, len(store.finished())


def main() -> None:
    """Measure by turns, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default="135m", choices=SHAPES)
    parser.add_argument("--layers", type=int)
    parser.add_argument("--items", type=int, default=24)
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--strengths", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=5)
    asked = parser.parse_args()
    shape = with_layers(SHAPES[asked.shape], asked.layers)
    size = replace(SweepSize(n_own=0, finds=False), n_items=asked.items, tokens_per_item=asked.tokens,
                   n_strengths=asked.strengths)  # fmt: skip
    path = make_model(shape, "q4_0")
    spawn = multiprocessing.get_context("spawn")
    n_groups = 0

    def whole(threads: int, workers: int | None) -> None:
        with Engine(path, threads=threads) as engine:
            swept(engine, size, shape.n_vocab, workers)

    def measuring(engine: Engine, executor: Executor | None) -> float:
        nonlocal n_groups
        seconds, n_groups = swept(engine, size, shape.n_vocab, executor)
        return seconds

    with (
        Engine(path, threads=1) as engine,
        Engine(path, threads=2) as threaded,
        ProcessPoolExecutor(1, mp_context=spawn) as one,
        ProcessPoolExecutor(2, mp_context=spawn) as two,
    ):
        sides: dict[str, Callable[[], float | None]] = {
            HERE: partial(measuring, engine, None),
            ONE: partial(measuring, engine, one),
            TWO: partial(measuring, engine, two),
            THREADS: partial(measuring, threaded, None),
        }
        warm = take_turns(sides, asked.repeats, warm_ups=1)
    cold = take_turns(
        {
            HERE: partial(whole, 1, None),
            ONE: partial(whole, 1, 1),
            TWO: partial(whole, 1, 2),
            THREADS: partial(whole, 2, None),
        },
        asked.repeats,
    )
    print(
        f"{asked.shape} q4_0, {shape.n_layer} blocks; {size.n_items} items of {size.tokens_per_item} tokens, "
        f"{size.n_strengths} strengths: {n_groups} groups, {asked.repeats} rounds, {os.cpu_count()} CPUs\n"
    )
    print("| who measures | a group, s | groups an hour | measuring / one process | whole, s | whole / one process |")
    print("|---|--:|--:|--:|--:|--:|")
    for name in sides:
        print(
            f"| {name} | {warm[name].median / n_groups:.3f} | {3600 * n_groups / warm[name].median:,.0f} | "
            f"{_ratio(warm, name)} | {cold[name].median:.1f} | {_ratio(cold, name)} |"
        )


def _ratio(timed: dict[str, Timed], name: str) -> str:
    """Of the medians, and the lowest and highest of the rounds."""
    rounds = [a / b for a, b in zip(timed[name].seconds, timed[HERE].seconds, strict=True)]
    return f"{timed[name].over(timed[HERE]):.3f} ({min(rounds):.3f} to {max(rounds):.3f})"


if __name__ == "__main__":  # workers import this file
    main()
