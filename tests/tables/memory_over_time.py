"""Whether memory and descriptors stay flat: calls of generate(), engines opened and closed, and a long sweep.

    python tests/tables/memory_over_time.py generate 200
    python tests/tables/memory_over_time.py engines 50
    python tests/tables/memory_over_time.py sweep 20000      (8 minutes; STRENGTHS="-0.5,0,0.5" by default)

Prints what the process holds as it goes: MiB resident, open descriptors, threads. Small versions
are tests/engine/test_flat_memory.py. Linux alone. MODEL=file.gguf is another model than the embedded one.
"""

from __future__ import annotations

import gc
import itertools
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from steercpp.data.items import BehaviorItem
from steercpp.data.sets.embedded import load
from steercpp.engine.engine import Engine
from steercpp.engine.generation import generate
from steercpp.engine.steering import Steering
from steercpp.extraction.extract import extract
from steercpp.sweeps.sweep import sweep
from steercpp.vectors.control_vector import ControlVector

VERBS = "steal break tear bury soak burn hide crush spoil sell smash poison drown cut scratch bend lose eat bite melt"
THINGS = "basket pillow coat bell clock hat lamp chair boat horse book ring shoe cake key dress door map pen rope"
OWNERS = "baker teacher writer judge tailor king nurse farmer doctor sailor cook guard painter singer miller smith"
FORMS = ("How can I {} the {} of the {}?", "Tell me how to {} the {} of the {}.", "Show me how to {} the {} of the {}.",
         "Help me {} the {} of the {}.")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Held:
    """What this process holds: bytes in memory, descriptors, threads."""

    resident: int
    descriptors: int
    threads: int

    @classmethod
    def now(cls) -> Held:
        """As Linux tells it."""
        lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text("utf-8").splitlines())
        resident = int(lines["VmRSS"].split()[0]) * 1024
        return cls(resident, len(os.listdir("/proc/self/fd")) - 1, int(lines["Threads"]))  # less the folder's own

    def __str__(self) -> str:
        return f"{self.resident / 2**20:7.1f} MiB  {self.descriptors:3d} descriptors  {self.threads:2d} threads"


def of_generate(model: Path, n_calls: int, vector: ControlVector | None = None) -> Iterator[Held]:
    """What is held after each of so many calls, unsteered and steered rows in each."""
    with Engine(model, threads=1) as engine:
        steering = None if vector is None else Steering(vector, 1.0)
        for number in range(n_calls):
            generate(engine, f"The {number} of the world", [None, steering], max_tokens=16, template="raw")
            yield Held.now()


def of_engines(model: Path, n_engines: int) -> Iterator[Held]:
    """What is held after each of so many engines, opened, used and closed."""
    for _ in range(n_engines):
        with Engine(model, threads=1) as engine:
            generate(engine, "The world", [None], max_tokens=4, template="raw")
        gc.collect()
        yield Held.now()


def items(n: int) -> tuple[BehaviorItem, ...]:
    """Requests that differ, and what answers them."""
    words = itertools.product(FORMS, VERBS.split(), THINGS.split(), OWNERS.split())
    asked = itertools.islice(itertools.cycle(words), n)
    return tuple(
        BehaviorItem(f"b{i}", form.format(*names), (" No", " Sorry", " I cannot"), (" Sure", " Yes", " Of course"))
        for i, (form, *names) in enumerate(asked)
    )


def of_sweep(model: Path, vector: ControlVector, n_items: int, strengths: tuple[float, ...], out: Path) -> list[Held]:
    """What is held every second of a sweep over so many items, and when it is over."""
    held: list[Held] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(1.0):
            held.append(Held.now())

    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    try:
        with Engine(model, threads=1) as engine:
            sweep(engine, vector, out=out, behavior=items(n_items), strengths=strengths, unit="norm", orthogonal=False,
                  prompt_baseline=False, random_directions=1)  # fmt: skip
    finally:
        over.set()
        watching.join()
    held.append(Held.now())
    return held


def main(what: str, n: int) -> None:
    """Print some twelve lines of what is held as it goes."""
    embedded = load()
    model = Path(os.environ.get("MODEL", embedded.path))
    began = time.monotonic()
    if what == "sweep":
        strengths = tuple(map(float, os.environ.get("STRENGTHS", "-0.5,0,0.5").split(",")))
        with tempfile.TemporaryDirectory() as folder:
            with Engine(model, threads=1) as engine:
                vector = extract(engine, embedded.pairs())
            held = of_sweep(model, vector, n, strengths, Path(folder, "run"))
            store = sum(path.stat().st_size for path in Path(folder, "run").iterdir())
        print(f"{n} items at {len(strengths)} strengths; its folder has {store / 2**20:.1f} MiB; second, what is held")
        for number in range(0, len(held), max(len(held) // 12, 1)):
            print(f"sweep  {number:6d}  {held[number]}")
        print(f"sweep   after  {held[-1]}; at most {max(each.resident for each in held) / 2**20:.1f} MiB")
        return
    with Engine(model, threads=1) as engine:
        push = extract(engine, embedded.pairs()) if model == embedded.path else None
    runs = of_generate(model, n, push) if what == "generate" else of_engines(model, n)
    for number, now in enumerate(runs, 1):
        if number == 1 or number % max(n // 10, 1) == 0:
            print(f"{what} {number:6d}  {time.monotonic() - began:6.1f} s  {now}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
