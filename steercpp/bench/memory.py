"""Peak memory of a resumed sweep against llama.cpp's own, each in a process of its own; see memory_process.py."""

from __future__ import annotations

import sys

from steercpp.bench.memory_process import OURS, STOCK, MemoryTask, MemoryUse
from steercpp.bench.result import Comparison, Fact, Figure, Line, Side, Skipped, Timed, at_most, take_turns
from steercpp.bench.setting import Setting, run_program

_N_CTX, _N_BATCH, _N_SEQ_MAX = 4096, 256, 256
_N_PROMPTS, _N_TOKENS = 32, 128
_MORE = 1.05
_MIB = 2**20


def compare_memory(setting: Setting) -> Line:
    """A base pass and a resumed one in a process with the engine; the same batches in one with llama.cpp alone."""
    if sys.platform == "win32":
        return Skipped(setting.name, "the peak memory of a process is not read on Windows")
    drawn = setting.rng.integers(259, setting.shape.n_vocab, size=(_N_PROMPTS, _N_TOKENS))
    layers = setting.layers(11, 13, 22)
    task = MemoryTask(
        path=str(setting.path), threads=setting.threads, gpu_layers=setting.gpu_layers, flash_attn=setting.flash_attn,
        prompts=drawn.tolist(), layers=list(layers), n_ctx=_N_CTX, n_batch=_N_BATCH, n_seq_max=_N_SEQ_MAX,
    )  # fmt: skip
    largest: dict[str, MemoryUse] = {}
    sides = {name: lambda name=name: _measure(largest, name, task) for name in (OURS, STOCK)}
    timed = take_turns(sides, setting.rounds(2), tick=setting.tick)
    return _compared(setting, timed, largest)


def _compared(setting: Setting, timed: dict[str, Timed], largest: dict[str, MemoryUse]) -> Comparison:
    ours, stock = largest[OURS], largest[STOCK]
    figures = (
        Figure("peak MiB, steercpp", ours.peak / _MIB),
        Figure("peak MiB, llama.cpp", stock.peak / _MIB),
        Figure("MiB kept for resuming", ours.kept / _MIB),
        Figure(
            "peak, (steercpp - bound for kept rows) / llama.cpp", (ours.peak - ours.bound) / stock.peak, at_most(_MORE)
        ),
        Figure("peak, (steercpp - kept rows) / llama.cpp", (ours.peak - ours.kept) / stock.peak),
    )
    facts: dict[str, Fact] = {
        "prompts": _N_PROMPTS, "tokens of each": _N_TOKENS, "n_ctx": _N_CTX, "n_batch": _N_BATCH,
        "n_seq_max": _N_SEQ_MAX, "bound for kept rows, MiB": ours.bound // _MIB,
    }  # fmt: skip
    made = tuple(Side(name, seconds, largest[name].token_layers) for name, seconds in timed.items())
    title = "Peak memory of a process: base pass and one strength"
    return Comparison(setting.name, title, setting.model, made, figures, facts)


def _measure(largest: dict[str, MemoryUse], name: str, task: MemoryTask) -> None:
    """Run a side in a process of its own, and keep the largest peak of all runs."""
    numbers = run_program("steercpp.bench.memory_process", name, task, doing="measures the memory of")
    use = MemoryUse(**{key: int(number) for key, number in numbers.items()})
    if name not in largest or use.peak > largest[name].peak:
        largest[name] = use
