"""Whole processes that extract, from start to end: their memory, and what they spend on imports and the model."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from steercpp.bench import cvector as bench_cvector
from steercpp.bench.extraction_process import LOADED, OURS, TOOL
from steercpp.bench.result import Figure, Side, at_most, time_ratio
from steercpp.bench.setting import Setting
from steercpp.bench.timing import take_turns
from steercpp.errors import EngineError

Pairs: TypeAlias = list[tuple[str, str]]

_MOST_MIB = 300.0  # above the model's file
_MIB = 2**20


@dataclass(frozen=True, slots=True)
class Whole:
    """What was found: a side for each process, and figures."""

    sides: tuple[Side, ...]
    figures: tuple[Figure, ...]


def compare_processes(setting: Setting, pairs: Pairs, tool: Path | None) -> Whole:
    """Our process and the tool's by turns, and one that loads the model and does nothing else.

    Raises:
        EngineError: one of them failed.
    """
    found: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory(prefix="steercpp-bench-") as name:
        bench_cvector.write_prompts(Path(name), pairs)
        asked = {
            "path": str(setting.path), "n_ctx": bench_cvector.N_CTX, "threads": setting.threads,
            "flash_attn": setting.flash_attn, "gpu_layers": setting.gpu_layers, "folder": name, "pairs": pairs,
            "command": [] if tool is None else bench_cvector.command(tool, setting),
        }  # fmt: skip
        ours = f"whole process, {OURS}"
        sides: dict[str, Callable[[], float]] = {ours: lambda: _kept(found, OURS, asked)}
        if tool is not None:
            theirs = f"whole process, {tool.name}"
            sides[theirs] = lambda: _kept(found, TOOL, asked)
        timed = take_turns(sides, setting.rounds(2))
        _kept(found, LOADED, asked | {"pairs": []})
    made = tuple(Side(side, one) for side, one in timed.items())
    figures = [] if tool is None else [time_ratio(made, theirs, ours)]
    return Whole(made, (*figures, *_figures(setting, found)))


def _figures(setting: Setting, found: dict[str, list[dict[str, float]]]) -> list[Figure]:
    names = {OURS: OURS, TOOL: bench_cvector.NAME, LOADED: LOADED}
    peaks = {side: max(one["peak"] for one in runs) / _MIB for side, runs in found.items()}
    model = setting.path.stat().st_size / _MIB
    return [
        *(Figure(f"seconds of {what}, {OURS}", statistics.median(one[key] for one in found[OURS]))
          for what, key in (("imports", "imports_s"), ("a model load", "load_s"))),
        *(Figure(f"peak MiB, {names[side]}", peak) for side, peak in peaks.items()),
        Figure("MiB of the model's file", model),
        Figure(f"MiB above the model's file, {OURS}", peaks[OURS] - model, setting.promised(at_most(_MOST_MIB))),
        Figure(f"MiB above the loaded model, {OURS}", peaks[OURS] - peaks[LOADED]),
    ]  # fmt: skip


def _kept(found: dict[str, list[dict[str, float]]], side: str, asked: dict[str, Any]) -> float:
    """Run a process and keep what it tells; the seconds from its start to its end."""
    start = time.perf_counter()
    ended = subprocess.run(
        [sys.executable, "-m", "steercpp.bench.extraction_process", side],
        input=json.dumps(asked), capture_output=True, text=True, errors="replace",
    )  # fmt: skip
    seconds = time.perf_counter() - start
    if ended.returncode:
        last = (ended.stderr.strip().splitlines() or ["it says nothing"])[-1]
        raise EngineError(f"the process that extracts by {side} ended with code {ended.returncode}: {last}")
    told: dict[str, float] = json.loads(ended.stdout)
    found.setdefault(side, []).append(told)
    return told.get("whole_s", seconds)
