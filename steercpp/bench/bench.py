"""The benchmark: models of given shapes with random weights, and what steercpp costs beside llama.cpp on them.

    result = bench(shape="1.1b", quant="q4_0", threads=2, only=("hook-decode", "sweep"))
    for line in result.comparisons: print(line.title, [(figure.name, figure.value) for figure in line.figures])

Each comparison is a function of a `Setting`, in a module of its kind; `LINES` is the table of them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import llama_cpp

from steercpp.aliases import Progress
from steercpp.bench.extraction import compare_extraction
from steercpp.bench.generation import compare_generation, compare_prompts
from steercpp.bench.hook import compare_decode, compare_prefill
from steercpp.bench.memory import compare_memory
from steercpp.bench.models import SHAPES, Shape, make_model, model_bytes, with_layers
from steercpp.bench.peers import compare_completion, compare_llama_bench, compare_perplexity
from steercpp.bench.result import BenchResult, Fact, Line, Skipped
from steercpp.bench.setting import Setting
from steercpp.bench.steering import compare_device
from steercpp.bench.sweeps import compare_deep, compare_head, compare_sweep
from steercpp.bench.weights import compare_weights
from steercpp.choices import QUANTS, FlashAttention
from steercpp.engine.model import devices
from steercpp.errors import InputError, SteerError
from steercpp.provenance import commit, now, physical_cores, versions

_DEFAULT_SHAPE = "1.1b"
_STEPS = 1000  # of the progress bar


@dataclass(frozen=True, slots=True)
class _Entry:
    """A comparison, about how many seconds it takes on 1.1B with 2 threads, and the shape it is tied to."""

    compare: Callable[[Setting], Line]
    seconds: float
    shape: str = ""


LINES = {
    "hook-prefill": _Entry(compare_prefill, 200),
    "hook-decode": _Entry(compare_decode, 15),
    "device": _Entry(compare_device, 30, shape="135m"),
    "sweep": _Entry(compare_sweep, 900),
    "sweep-15m": _Entry(compare_sweep, 200, shape="15m"),
    "deep": _Entry(compare_deep, 250, shape="13b"),
    "head": _Entry(compare_head, 1200),
    "perplexity": _Entry(compare_perplexity, 500),
    "generation": _Entry(compare_generation, 250),
    "prompts": _Entry(compare_prompts, 900),
    "completion": _Entry(compare_completion, 150),
    "llama-bench": _Entry(compare_llama_bench, 80),
    "extraction": _Entry(compare_extraction, 300),
    "memory": _Entry(compare_memory, 120),
    "weights": _Entry(compare_weights, 90),
}


def bench(
    *,
    shape: str = _DEFAULT_SHAPE,
    quant: str = "q4_0",
    threads: int | None = None,
    gpu_layers: int = 0,
    flash_attn: FlashAttention = "off",
    only: Sequence[str] = (),
    repeats: int | None = None,
    layers: int | None = None,
    llama_bin: Path | None = None,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> BenchResult:
    """Run comparisons, one after the other.

    Args:
        shape: of the model, a key of `SHAPES`. "device", "sweep-15m" and "deep" have shapes of their own.
        quant: type of the weights.
        threads: of all sides; by default the physical cores. As many as are free: ggml's threads wait by spinning.
        gpu_layers: blocks on a GPU, -1 for all; llama.cpp's tools get the same number.
        flash_attn: flash attention.
        only: names in `LINES`; by default all, and with another shape than 1.1b all that are not tied to one.
        repeats: rounds of every comparison; by default as many as each wants.
        layers: make at most so many layers of any model, where memory or disk is short.
        llama_bin: folder of llama.cpp's tools, such as llama-perplexity; by default they are looked for on PATH.
        cache: folder for the models; by default the system's place for what can be made again.
        progress: called with steps done, of all, and the name of the comparison.

    Raises:
        InputError: an unknown name, type or shape, or a number out of range.
    """
    names = _names(only, shape)
    if quant not in QUANTS:
        raise InputError(f"quant {quant!r} is unknown; use one of {', '.join(QUANTS)}")
    if repeats is not None and repeats < 1:
        raise InputError(f"repeats is {repeats}; give at least 1")
    if llama_bin is not None and not llama_bin.is_dir():
        raise InputError(f"{llama_bin}: no such folder; name the one that holds llama-perplexity")
    threads = threads or physical_cores()
    seconds = sum(LINES[name].seconds for name in names)
    lines: list[Line] = []
    done = 0.0
    for name in names:
        entry, before = LINES[name], done

        def tick(share: float, name: str = name, entry: _Entry = entry, before: float = before) -> None:
            if progress is not None:
                progress(round(_STEPS * (before + share * entry.seconds) / seconds), _STEPS, name)

        tick(0.0)
        shape_name = entry.shape or shape
        sizes = with_layers(SHAPES[shape_name], layers)
        setting = Setting(
            name, shape_name, sizes, quant, Path(), threads, gpu_layers, flash_attn, repeats, llama_bin, tick
        )  # fmt: skip
        lines.append(_line(setting, cache))
        done += entry.seconds
        tick(1.0)
    return BenchResult(_machine(threads, gpu_layers, flash_attn), tuple(lines))


def _line(setting: Setting, cache: Path | None) -> Line:
    """Make the model and compare; an error becomes a line, for the others took long to measure."""
    if reason := _too_large(setting.shape, setting.quant):
        return Skipped(setting.name, reason)
    try:
        path = make_model(setting.shape, setting.quant, folder=cache)
        return LINES[setting.name].compare(replace(setting, path=path))
    except SteerError as error:
        return Skipped(setting.name, str(error), failed=True)


def _names(only: Sequence[str], shape: str) -> list[str]:
    if shape not in SHAPES:
        raise InputError(f"shape {shape!r} is unknown; use one of {', '.join(SHAPES)}")
    for name in only:
        if name not in LINES:
            raise InputError(f"comparison {name!r} is unknown; use {', '.join(LINES)}")
    if only:
        return [name for name in LINES if name in only]
    return [name for name, entry in LINES.items() if not entry.shape or shape == _DEFAULT_SHAPE]


def _too_large(shape: Shape, quant: str) -> str:
    """Why a model would not fit into memory; "" where it does, or where the system does not tell."""
    try:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return ""
    needed = 1.3 * model_bytes(shape, quant)  # ggml lays most matrices out again; those of the file can be dropped
    if needed < memory:
        return ""
    return f"the model needs {needed / 1e9:.1f} GB of {memory / 1e9:.1f}; make fewer `layers`"


def _machine(threads: int, gpu_layers: int, flash_attn: str) -> dict[str, Fact]:
    """What decides the figures besides the model."""
    named = {str(device["name"]): str(device["description"]).strip() for device in devices()}
    packages = versions()
    gpus = ", ".join(words for name, words in named.items() if name != "CPU")
    return {
        "cpu": named.get("CPU", "unknown"),
        "cores": physical_cores(),
        "threads": threads,
        **({"gpu": gpus or "none", "gpu_layers": gpu_layers} if gpu_layers else {}),
        "flash_attn": flash_attn,
        "llama-cpp-python": packages["llama-cpp-python"],
        "llama.cpp": llama_cpp.llama_version().decode(),
        "steercpp": packages["steercpp"],
        "commit": commit() or "unknown",
        "python": packages["python"],
        "when": now(),
    }
