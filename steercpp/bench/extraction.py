"""Extraction: a direction at every layer from short pairs, against llama-cvector-generator and against a bare decode.

Three sides share one open engine: extraction at all layers, extraction at those it takes by default, which are lower
ones, and the same batches decoded without the hook. The fourth is llama.cpp's tool with the same prompts. They are
equally long on both sides of a pair, so that it pads none. What is compared is the time after the model is loaded: ours
from the texts to the vector with its quality, the tool's from its tokens to its directions, see cvector.py.
Imports, loads and the hash of the model's file, which the tool does not take, are told apart.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np

from steercpp.bench import cvector
from steercpp.bench.cvector import Stages
from steercpp.bench.extraction_process import LOADED, OURS, TOOL, ExtractionTask
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
from steercpp.bench.setting import Setting, run_program
from steercpp.data.pairs import ContrastPair
from steercpp.engine.engine import Engine
from steercpp.engine.model_file import model_bytes
from steercpp.engine.packing import Query
from steercpp.engine.session import Session
from steercpp.extraction.extract import extract
from steercpp.vectors.layers import default_layers

Pairs: TypeAlias = list[tuple[str, str]]
Runs: TypeAlias = dict[str, list[dict[str, float]]]  # by side: what each process tells

FASTER = {16: 2.5, 100: 1.6}  # by number of pairs
_N_WORDS = 9  # of a prompt, a token each behind the begin-of-sequence token
_OF_DECODE = 1.1
_BARE = "bare decode"
_SHARE = 0.9  # of the time that all of it takes
_MOST_MIB = 300.0  # above the model's file
_MIB = 2**20


def compare_extraction(setting: Setting) -> Line:
    """16 and 100 pairs by turns, then whole processes for their memory."""
    if sys.platform == "win32":
        return Skipped(setting.name, "the peak memory of a process is not read on Windows")
    path = setting.tool(cvector.NAME)
    with tempfile.TemporaryDirectory(prefix="steercpp-bench-") as name, setting.engine(n_ctx=cvector.N_CTX) as engine:
        start = time.perf_counter()
        assert engine.sha256
        hashed = time.perf_counter() - start
        bare = engine.open_session(hook=False)
        sizes = [_Size(setting, engine, bare, drawn(setting, n_pairs)) for n_pairs in FASTER]
        sides = {side: run for size in sizes for side, run in size.sides(path, Path(name)).items()}
        sizes[0].warm_up()
        timed = take_turns(sides, setting.rounds(5), tick=lambda share: setting.tick(_SHARE * share))
        settings = engine.settings()
    made = [
        Side(side, seconds, size.work[side]) for size in sizes for side, seconds in timed.items() if side in size.work
    ]
    processes = compare_processes(setting, drawn(setting, max(FASTER)), path)
    figures = [figure for size in sizes for figure in size.figures(made, path)]
    figures += [Figure("seconds of hashing the model's file, steercpp", hashed), *_loads(sizes), *processes.figures]
    facts: dict[str, Fact] = {
        "tokens of a prompt": _N_WORDS + 1,
        "n_ctx": settings["n_ctx"],
        "n_batch": settings["n_batch"],
        cvector.NAME: f"not installed, {WHERE}" if path is None else version(path),
    }
    title = f"Extraction: {' and '.join(map(str, FASTER))} pairs, a direction at each layer"
    return Comparison(setting.name, title, setting.model, (*made, *processes.sides), tuple(figures), facts)


def drawn(setting: Setting, n_pairs: int) -> Pairs:
    """Pairs of prompts in which every word is a token, the same ones at each call."""
    words = np.array(setting.words)
    prompts = words[setting.rng.integers(len(words), size=(n_pairs, 2, _N_WORDS))]
    return [(" ".join(positive), " ".join(negative)) for positive, negative in prompts]


class _Size:
    """The sides for one number of pairs; `work` is the token-layers of the latest run by side."""

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
        runs: dict[str, Run] = {
            self.name(OURS): lambda: self._extract(self.name(OURS), range(self.engine.n_layer)),
            self.lower_name: lambda: self._extract(self.lower_name, self.lower),
            self.name(_BARE): self._decode,
        }
        if tool is not None:
            prompts = folder / str(len(self.pairs))
            prompts.mkdir()
            cvector.write_prompts(prompts, self.texts)
            runs[self.name(tool.name)] = lambda: self._run(tool, prompts)
        return runs

    def warm_up(self) -> None:
        """Import what is imported late, and read the model's file once."""
        self._extract("", range(self.engine.n_layer))
        self._decode()
        self.work.clear()

    def figures(self, made: Sequence[Side], tool: Path | None) -> list[Figure]:
        """What follows for this size."""
        promised = self.setting.promised
        ours, bare = self.name(OURS), self.name(_BARE)
        figures = [
            time_ratio(made, ours, bare, promised(at_most(_OF_DECODE))),
            time_ratio(made, self.lower_name, bare, promised(at_most(1.0))),
            work_ratio(made, self.lower_name, ours),
        ]
        if tool is None:
            return figures
        theirs = self.name(tool.name)
        least = promised(at_least(FASTER[len(self.pairs)]))
        decode = statistics.median(stages.decode_s for stages in self.stages)
        pca = statistics.median(stages.pca_s for stages in self.stages)
        return [
            time_ratio(made, theirs, ours, least),
            *figures,
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
            for pass_ in batch.passes:
                self.bare.decode(pass_)
        self.work[self.name(_BARE)] = self.bare.token_layers - before

    def _run(self, tool: Path, folder: Path) -> float:
        stages = cvector.run(tool, self.setting, folder)
        assert stages.n_tokens == self.n_tokens, "both sides decode the same prompts"
        self.stages.append(stages)
        self.work[self.name(tool.name)] = stages.n_tokens * self.setting.shape.n_layer
        return stages.own_s


def _loads(sizes: Sequence[_Size]) -> list[Figure]:
    """What the tool takes to load the model, if it was run."""
    seconds = [stages.load_s for size in sizes for stages in size.stages]
    return [Figure(f"seconds of a model load, {cvector.NAME}", statistics.median(seconds))] if seconds else []


@dataclass(frozen=True, slots=True)
class Processes:
    """Whole processes that extract, from start to end: a side for each, and figures of memory, imports and loading."""

    sides: tuple[Side, ...]
    figures: tuple[Figure, ...]


def compare_processes(setting: Setting, pairs: Pairs, tool: Path | None) -> Processes:
    """Our process and the tool's by turns, and one that loads the model and does nothing else.

    Raises:
        EngineError: one of them failed.
    """
    runs: Runs = {}
    with tempfile.TemporaryDirectory(prefix="steercpp-bench-") as name:
        cvector.write_prompts(Path(name), pairs)
        task = ExtractionTask(
            path=str(setting.path), n_ctx=cvector.N_CTX, threads=setting.threads, flash_attn=setting.flash_attn,
            gpu_layers=setting.gpu_layers, folder=name, pairs=pairs,
            command=[] if tool is None else cvector.command(tool, setting),
        )  # fmt: skip
        ours = f"whole process, {OURS}"
        sides: dict[str, Callable[[], float]] = {ours: lambda: _kept(runs, OURS, task)}
        if tool is not None:
            theirs = f"whole process, {tool.name}"
            sides[theirs] = lambda: _kept(runs, TOOL, task)
        timed = take_turns(sides, setting.rounds(2))
        _kept(runs, LOADED, replace(task, pairs=[]))
    made = tuple(Side(side, seconds) for side, seconds in timed.items())
    figures = [] if tool is None else [time_ratio(made, theirs, ours)]
    return Processes(made, (*figures, *_figures(setting, runs)))


def _figures(setting: Setting, runs: Runs) -> list[Figure]:
    names = {OURS: OURS, TOOL: cvector.NAME, LOADED: LOADED}
    peaks = {side: max(run["peak"] for run in of_side) / _MIB for side, of_side in runs.items()}
    model = model_bytes(setting.path) / _MIB
    return [
        *(Figure(f"seconds of {what}, {OURS}", statistics.median(run[key] for run in runs[OURS]))
          for what, key in (("imports", "imports_s"), ("a model load", "load_s"))),
        *(Figure(f"peak MiB, {names[side]}", peak) for side, peak in peaks.items()),
        Figure("MiB of the model's file", model),
        Figure(f"MiB above the model's file, {OURS}", peaks[OURS] - model, setting.promised(at_most(_MOST_MIB))),
        Figure(f"MiB above the loaded model, {OURS}", peaks[OURS] - peaks[LOADED]),
    ]  # fmt: skip


def _kept(runs: Runs, side: str, task: ExtractionTask) -> float:
    """Run a process and keep what it tells; the seconds from its start to its end."""
    start = time.perf_counter()
    numbers = run_program("steercpp.bench.extraction_process", side, task, doing="extracts by")
    seconds = time.perf_counter() - start
    runs.setdefault(side, []).append(numbers)
    return numbers.get("whole_s", seconds)
