"""One process that extracts, from its start to the written file: `python -m steercpp.bench.extraction_process SIDE`.

Reads a JSON object on stdin and prints another one: the peak of its memory in bytes, and seconds. The tool runs as a
child of this process, whose own memory is smaller than any model.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from steercpp.bench.memory_process import peak_memory
from steercpp.choices import FlashAttention

OURS, LOADED, TOOL = "steercpp", "steercpp, model loaded only", "tool"


@dataclass(frozen=True, slots=True)
class ExtractionTask:
    """Pairs of prompts to extract from, written to a folder; options as those of `Engine`.

    Attributes:
        command: what runs the tool in the folder.
    """

    path: str
    n_ctx: int
    threads: int
    flash_attn: FlashAttention
    gpu_layers: int
    folder: str
    pairs: list[tuple[str, str]]
    command: list[str]


def _ours(task: ExtractionTask) -> dict[str, float]:
    """Everything that a user's process does; without pairs it ends when the model is loaded."""
    start = time.perf_counter()
    from steercpp.data.pairs import ContrastPair
    from steercpp.engine.engine import Engine
    from steercpp.extraction.extract import extract
    from steercpp.vectors.gguf import write_vector

    imported = time.perf_counter()
    with Engine(
        task.path, n_ctx=task.n_ctx, threads=task.threads, flash_attn=task.flash_attn, n_gpu_layers=task.gpu_layers
    ) as engine:
        loaded = time.perf_counter()
        if task.pairs:
            pairs = [ContrastPair(str(i), positive, negative) for i, (positive, negative) in enumerate(task.pairs)]
            vector = extract(engine, pairs, method="pca", layers=range(engine.n_layer))
            write_vector(Path(task.folder) / "by-steercpp.gguf", vector, force=True)
    return {"imports_s": imported - start, "load_s": loaded - imported, "peak": peak_memory()}


def _tool(task: ExtractionTask) -> dict[str, float]:
    import resource

    start = time.perf_counter()
    subprocess.run(task.command, cwd=task.folder, stdin=subprocess.DEVNULL, capture_output=True, check=True)
    seconds = time.perf_counter() - start
    unit = 1 if sys.platform == "darwin" else 1024
    return {"whole_s": seconds, "peak": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit}


if __name__ == "__main__":
    measured = {OURS: _ours, LOADED: _ours, TOOL: _tool}[sys.argv[1]](ExtractionTask(**json.load(sys.stdin)))
    json.dump(measured, sys.stdout)
