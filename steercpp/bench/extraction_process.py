"""One process that extracts, from its start to the written file: `python -m steercpp.bench.extraction_process SIDE`.

Reads a JSON object on stdin and prints another one: the peak of its memory in bytes, and seconds. The tool runs as a
child of this process, whose own memory is smaller than any model.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from steercpp.bench.memory_process import peak_memory

OURS, LOADED, TOOL = "steercpp", "steercpp, model loaded only", "tool"


def _ours(asked: dict[str, Any]) -> dict[str, float]:
    """Everything that a user's process does; without pairs it ends when the model is loaded."""
    start = time.perf_counter()
    from steercpp.data.pairs import ContrastPair
    from steercpp.engine.engine import Engine
    from steercpp.extraction.extract import extract
    from steercpp.vectors.gguf import write_vector

    imported = time.perf_counter()
    with Engine(
        asked["path"],
        n_ctx=asked["n_ctx"],
        threads=asked["threads"],
        flash_attn=asked["flash_attn"],
        n_gpu_layers=asked["gpu_layers"],
    ) as engine:
        loaded = time.perf_counter()
        if asked["pairs"]:
            pairs = [ContrastPair(str(i), positive, negative) for i, (positive, negative) in enumerate(asked["pairs"])]
            vector = extract(engine, pairs, method="pca", layers=range(engine.n_layer))
            write_vector(Path(asked["folder"]) / "by-steercpp.gguf", vector, force=True)
    return {"imports_s": imported - start, "load_s": loaded - imported, "peak": peak_memory()}


def _tool(asked: dict[str, Any]) -> dict[str, float]:
    import resource

    start = time.perf_counter()
    subprocess.run(asked["command"], cwd=asked["folder"], stdin=subprocess.DEVNULL, capture_output=True, check=True)
    whole = time.perf_counter() - start
    unit = 1 if sys.platform == "darwin" else 1024
    return {"whole_s": whole, "peak": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit}


if __name__ == "__main__":
    found = {OURS: _ours, LOADED: _ours, TOOL: _tool}[sys.argv[1]](json.load(sys.stdin))
    json.dump(found, sys.stdout)
