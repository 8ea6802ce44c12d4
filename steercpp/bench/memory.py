"""Peak memory of a resumed sweep against llama.cpp's own, each in a process of its own; see memory_process.py."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from steercpp.bench.memory_process import OURS, STOCK
from steercpp.bench.result import Comparison, Fact, Figure, Line, Side, Skipped, Timed, at_most, take_turns
from steercpp.bench.setting import Setting
from steercpp.errors import EngineError

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
    asked = {
        "path": str(setting.path), "threads": setting.threads, "gpu_layers": setting.gpu_layers,
        "flash_attn": setting.flash_attn, "prompts": drawn.tolist(), "layers": layers,
        "n_ctx": _N_CTX, "n_batch": _N_BATCH, "n_seq_max": _N_SEQ_MAX,
    }  # fmt: skip
    found: dict[str, dict[str, int]] = {}
    sides = {name: lambda name=name: _keep(found, name, _process(name, asked)) for name in (OURS, STOCK)}
    timed = take_turns(sides, setting.rounds(2), tick=setting.tick)
    return _compared(setting, timed, found)


def _compared(setting: Setting, timed: dict[str, Timed], found: dict[str, dict[str, int]]) -> Comparison:
    ours, stock, bound = found[OURS]["peak"], found[STOCK]["peak"], found[OURS]["bound"]
    figures = (
        Figure("peak MiB, steercpp", ours / _MIB),
        Figure("peak MiB, llama.cpp", stock / _MIB),
        Figure("MiB kept for resuming", found[OURS]["kept"] / _MIB),
        Figure("peak, (steercpp - bound for kept rows) / llama.cpp", (ours - bound) / stock, at_most(_MORE)),
        Figure("peak, (steercpp - kept rows) / llama.cpp", (ours - found[OURS]["kept"]) / stock),
    )
    facts: dict[str, Fact] = {
        "prompts": _N_PROMPTS, "tokens of each": _N_TOKENS, "n_ctx": _N_CTX, "n_batch": _N_BATCH,
        "n_seq_max": _N_SEQ_MAX, "bound for kept rows, MiB": bound // _MIB,
    }  # fmt: skip
    made = tuple(Side(name, one, found[name]["token_layers"]) for name, one in timed.items())
    title = "Peak memory of a process: base pass and one strength"
    return Comparison(setting.name, title, setting.model, made, figures, facts)


def _keep(found: dict[str, dict[str, int]], name: str, new: dict[str, int]) -> None:
    """Keep the largest peak of all runs."""
    if name not in found or new["peak"] > found[name]["peak"]:
        found[name] = new


def _process(side: str, asked: dict[str, Any]) -> dict[str, int]:
    ended = subprocess.run(
        [sys.executable, "-m", "steercpp.bench.memory_process", side],
        input=json.dumps(asked), capture_output=True, text=True, errors="replace",
    )  # fmt: skip
    if ended.returncode:
        last = (ended.stderr.strip().splitlines() or ["it says nothing"])[-1]
        raise EngineError(f"the process that measures the memory of {side} ended with code {ended.returncode}: {last}")
    found: dict[str, int] = json.loads(ended.stdout)
    return found
