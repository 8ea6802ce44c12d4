"""One process whose peak memory is measured: `python -m steercpp.bench.memory_process SIDE`, a JSON object on stdin.

llama.cpp's side imports nothing of ours beyond this file.
"""

from __future__ import annotations

import ctypes
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from steercpp.choices import FlashAttention

OURS, STOCK = "steercpp", "llama.cpp"


@dataclass(frozen=True, slots=True)
class MemoryTask:
    """Prompts to decode twice, the second time with something added at these layers; options as those of `Engine`."""

    path: str
    threads: int
    gpu_layers: int
    flash_attn: FlashAttention
    prompts: list[list[int]]
    layers: list[int]
    n_ctx: int
    n_batch: int
    n_seq_max: int


@dataclass(frozen=True, slots=True)
class MemoryUse:
    """What it took: the peak of the process, what of it was kept for resuming and might have been, in bytes; work."""

    peak: int
    kept: int
    bound: int
    token_layers: int


def peak_memory() -> int:
    """The most memory that this process has had, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # what the parent had before it started this program is not counted there
        line = next(line for line in status.read_text("utf-8", "replace").splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _ours(task: MemoryTask) -> MemoryUse:
    import numpy as np

    from steercpp.engine.engine import Engine
    from steercpp.engine.packing import Query
    from steercpp.vectors.control_vector import ControlVector

    with Engine(
        task.path, n_ctx=task.n_ctx, n_batch=task.n_batch,
        threads=task.threads, flash_attn=task.flash_attn, n_gpu_layers=task.gpu_layers,
    ) as engine:  # fmt: skip
        assert engine.session.options.n_seq_max == task.n_seq_max
        push = {il: np.full(engine.n_embd, 0.01, np.float32) for il in task.layers}
        vector = ControlVector(push, "llama", engine.n_layer)
        kept = 0
        for batch in engine.pack([Query(tuple(prompt), ((259,),)) for prompt in task.prompts]):
            base = engine.base(batch, first_layer=vector.layers[0])
            engine.logprobs(batch, vector=vector, strengths=1.0, base=base)
            kept = max(kept, base.n_bytes)
        bound, work = engine.keep_bytes, engine.token_layers
    return MemoryUse(peak_memory(), kept, bound, work)


def _stock(task: MemoryTask) -> MemoryUse:
    """llama.cpp through its own Python binding: the prompts twice, without the vector and with it."""
    import llama_cpp

    load = llama_cpp.llama_model_default_params()
    load.n_gpu_layers = task.gpu_layers
    model = llama_cpp.llama_model_load_from_file(task.path.encode(), load)
    params = llama_cpp.llama_context_default_params()
    params.n_ctx, params.n_seq_max, params.kv_unified = task.n_ctx, task.n_seq_max, True
    params.n_batch = params.n_ubatch = task.n_batch
    params.n_threads = params.n_threads_batch = task.threads
    params.flash_attn_type = {"auto": -1, "off": 0, "on": 1}[task.flash_attn]
    context = llama_cpp.llama_init_from_model(model, params)
    n_layer, n_embd = llama_cpp.llama_model_n_layer(model), llama_cpp.llama_model_n_embd(model)
    data = (ctypes.c_float * (n_embd * (n_layer - 1)))()
    for il in task.layers:
        data[(il - 1) * n_embd : il * n_embd] = [0.01] * n_embd
    n_at_once = task.n_batch // len(task.prompts[0])
    for steered in (False, True):
        if steered:
            llama_cpp.llama_set_adapter_cvec(context, data, len(data), n_embd, 1, n_layer - 1)
        for first in range(0, len(task.prompts), n_at_once):
            _decode(context, task.prompts[first : first + n_at_once])
    n_tokens = sum(map(len, task.prompts))
    return MemoryUse(peak_memory(), 0, 0, 2 * n_tokens * n_layer)


def _decode(context: Any, prompts: list[list[int]]) -> None:
    """One llama_decode of whole prompts from an empty memory, the last token of each an output."""
    import llama_cpp

    llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(context), False)
    rows = [(token, place, seq) for seq, prompt in enumerate(prompts) for place, token in enumerate(prompt)]
    batch = llama_cpp.llama_batch_init(len(rows), 0, 1)
    batch.n_tokens = len(rows)
    for i, (token, place, seq) in enumerate(rows):
        batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.seq_id[i][0] = token, place, 1, seq
        batch.logits[i] = place == len(prompts[seq]) - 1
    status = llama_cpp.llama_decode(context, batch)
    llama_cpp.llama_batch_free(batch)
    assert status == 0, f"llama_decode returned {status}"
    for i, (_, place, seq) in enumerate(rows):
        if place == len(prompts[seq]) - 1:
            llama_cpp.llama_get_logits_ith(context, i)


if __name__ == "__main__":
    measured = {OURS: _ours, STOCK: _stock}[sys.argv[1]](MemoryTask(**json.load(sys.stdin)))
    json.dump(asdict(measured), sys.stdout)
