"""Extraction: a direction at every layer from short pairs, against llama-cvector-generator and against a bare decode.

Three sides share one open engine: extraction at all layers, extraction at those it takes by default, which are lower
ones, and the same batches decoded without the hook. The fourth is llama.cpp's tool with the same prompts. They are
equally long on both sides of a pair, so that it pads none. What is compared is the time after the model is loaded: ours
from the texts to the vector with its quality, the tool's from its tokens to its directions, see bench_cvector.py.
Imports, loads and the hash of the model's file, which the tool does not take, are told apart.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from steercpp.bench import cvector as bench_cvector
from steercpp.bench.cvector import Stages
from steercpp.bench.extraction_process import LOADED, OURS, TOOL
from steercpp.bench.peers import WHERE, version
from steercpp.bench.result import (
    Comparison,
    Fact,
    Figure,
    Line,
    Run,
    Side,
    Skipped,
    at_least,
    at_most,
    take_turns,
    time_ratio,
    work_ratio,
)
from steercpp.bench.setting import Setting
from steercpp.data.pairs import ContrastPair
from steercpp.engine.engine import Engine
from steercpp.engine.packing import Query
from steercpp.engine.session import Session
from steercpp.errors import EngineError
from steercpp.extraction.extract import extract
from steercpp.vectors.layers import default_layers

# FOLD: Whole processes that extract, from start to end: their memory, and what they spend on imports and the model.
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


FASTER = {16: 2.5, 100: 1.6}  # by number of pairs
_N_WORDS = 9  # of a prompt, a token each behind the begin-of-sequence token
_OF_DECODE = 1.1
_BARE = "bare decode"
_SHARE = 0.9  # of the time that all of it takes


def compare_extraction(setting: Setting) -> Line:
    """16 and 100 pairs by turns, then whole processes for their memory."""
    if sys.platform == "win32":
        return Skipped(setting.name, "the peak memory of a process is not read on Windows")
    path = setting.tool(bench_cvector.NAME)
    with (
        tempfile.TemporaryDirectory(prefix="steercpp-bench-") as name,
        setting.engine(n_ctx=bench_cvector.N_CTX) as engine,
    ):
        start = time.perf_counter()
        assert engine.sha256
        hashed = time.perf_counter() - start
        bare = engine.open_session(hook=False)
        sizes = [_Size(setting, engine, bare, drawn(setting, n_pairs)) for n_pairs in FASTER]
        sides = {side: run for size in sizes for side, run in size.sides(path, Path(name)).items()}
        sizes[0].warm_up()
        timed = take_turns(sides, setting.rounds(5), tick=lambda share: setting.tick(_SHARE * share))
        settings = engine.settings()
    made = [Side(side, one, size.work[side]) for size in sizes for side, one in timed.items() if side in size.work]
    whole = compare_processes(setting, drawn(setting, max(FASTER)), path)
    figures = [figure for size in sizes for figure in size.figures(made, path)]
    figures += [Figure("seconds of hashing the model's file, steercpp", hashed), *_loads(sizes), *whole.figures]
    facts: dict[str, Fact] = {
        "tokens of a prompt": _N_WORDS + 1,
        "n_ctx": settings["n_ctx"],
        "n_batch": settings["n_batch"],
        bench_cvector.NAME: f"not installed, {WHERE}" if path is None else version(path),
    }
    title = f"Extraction: {' and '.join(map(str, FASTER))} pairs, a direction at each layer"
    return Comparison(setting.name, title, setting.model, (*made, *whole.sides), tuple(figures), facts)


def drawn(setting: Setting, n_pairs: int) -> Pairs:
    """Pairs of prompts in which every word is a token, the same ones at each call."""
    words = np.array(setting.words)
    prompts = words[setting.rng.integers(len(words), size=(n_pairs, 2, _N_WORDS))]
    return [(" ".join(positive), " ".join(negative)) for positive, negative in prompts]


class _Size:
    """The sides for one number of pairs.

    Attributes:
        work: token-layers of the latest run, by side.
        stages: of the tool's runs.
    """

    def __init__(self, setting: Setting, engine: Engine, bare: Session, texts: Pairs) -> None:
        self.setting, self.engine, self.bare, self.texts = setting, engine, bare, texts
        self.pairs = [ContrastPair(str(i), positive, negative) for i, (positive, negative) in enumerate(texts)]
        prompts = [engine.encode(text) for pair in texts for text in pair]
        self.n_tokens = sum(map(len, prompts))
        self.batches = engine.pack([Query(prompt) for prompt in prompts])
        self.lower = default_layers(engine.n_layer)
        self.work: dict[str, int] = {}
        self.stages: list[Stages] = []

    def name(self, side: str) -> str:
        """A side's name among those of other sizes."""
        return f"{len(self.pairs)} pairs, {side}"

    @property
    def lower_name(self) -> str:
        """The name of the side that extracts at lower layers."""
        return self.name(f"layers {self.lower[0]}-{self.lower[-1]}")

    def sides(self, tool: Path | None, folder: Path) -> dict[str, Run]:
        """What takes turns; the tool, where there is one, in a folder of its own."""
        found: dict[str, Run] = {
            self.name(OURS): lambda: self._extract(self.name(OURS), range(self.engine.n_layer)),
            self.lower_name: lambda: self._extract(self.lower_name, self.lower),
            self.name(_BARE): self._decode,
        }
        if tool is not None:
            own = folder / str(len(self.pairs))
            own.mkdir()
            bench_cvector.write_prompts(own, self.texts)
            found[self.name(tool.name)] = lambda: self._run(tool, own)
        return found

    def warm_up(self) -> None:
        """Import what is imported late, and read the model's file once."""
        self._extract("", range(self.engine.n_layer))
        self._decode()
        self.work.clear()

    def figures(self, made: Sequence[Side], tool: Path | None) -> list[Figure]:
        """What follows for this size."""
        promised = self.setting.promised
        ours, bare = self.name(OURS), self.name(_BARE)
        found = [
            time_ratio(made, ours, bare, promised(at_most(_OF_DECODE))),
            time_ratio(made, self.lower_name, bare, promised(at_most(1.0))),
            work_ratio(made, self.lower_name, ours),
        ]
        if tool is None:
            return found
        theirs = self.name(tool.name)
        least = promised(at_least(FASTER[len(self.pairs)]))
        decode, pca = (
            statistics.median(one) for one in zip(*((s.decode_s, s.pca_s) for s in self.stages), strict=True)
        )
        return [
            time_ratio(made, theirs, ours, least),
            *found,
            Figure(f"seconds of decoding, {theirs}", decode),
            Figure(f"seconds of PCA, {theirs}", pca),
        ]

    def _extract(self, side: str, layers: Sequence[int]) -> None:
        before = self.engine.token_layers
        extract(self.engine, self.pairs, method="pca", layers=layers)
        self.work[side] = self.engine.token_layers - before

    def _decode(self) -> None:
        before = self.bare.token_layers
        for batch in self.batches:
            for part in batch.passes:
                self.bare.decode(part)
        self.work[self.name(_BARE)] = self.bare.token_layers - before

    def _run(self, tool: Path, folder: Path) -> float:
        stages = bench_cvector.run(tool, self.setting, folder)
        assert stages.n_tokens == self.n_tokens, "both sides decode the same prompts"
        self.stages.append(stages)
        self.work[self.name(tool.name)] = stages.n_tokens * self.setting.shape.n_layer
        return stages.own_s


def _loads(sizes: Sequence[_Size]) -> list[Figure]:
    """What the tool takes to load the model, if it was run."""
    seconds = [stages.load_s for size in sizes for stages in size.stages]
    return [Figure(f"seconds of a model load, {bench_cvector.NAME}", statistics.median(seconds))] if seconds else []
