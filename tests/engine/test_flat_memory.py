"""What a process holds stays what it is: memory and descriptors, over calls, engines and strengths; small versions.

The long ones are `python tests/tables/memory_over_time.py`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from places import ROOT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc"),
]
MIB = 2**20
LOOSE = 16 * MIB  # what an allocator keeps or gives back between two calls, up to a whole context

PROGRAM = """
import json, sys, tempfile
from pathlib import Path
from memory_over_time import of_engines, of_generate, of_sweep
from steercpp.engine.engine import Engine
from small_sweep import small_vector
what, model, n = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
with Engine(model, threads=1) as engine:
    vector = small_vector(engine)
if what == "sweep":
    strengths = tuple(s / 10 for s in range(1, 1 + int(sys.argv[4])))
    with tempfile.TemporaryDirectory() as folder:
        held = of_sweep(model, vector, n, strengths, Path(folder, "run"))
else:
    held = [*(of_generate(model, n, vector) if what == "generate" else of_engines(model, n))]
print(json.dumps([[each.resident, each.descriptors, each.threads] for each in held]))
"""


def held(what: str, model: Path, *n: int) -> list[list[int]]:
    """(bytes in memory, descriptors, threads) as it goes, in a process of its own."""
    path = json.dumps([str(ROOT / "tests" / folder) for folder in ("helpers", "tables")])
    ended = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {path}\n{PROGRAM}", what, str(model), *map(str, n)],
        capture_output=True, text=True,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    return [list(map(int, each)) for each in json.loads(ended.stdout)]


@pytest.mark.parametrize(("what", "n"), [("generate", 40), ("engines", 160)])
def test_calls_and_engines(tiny_path: Path, what: str, n: int) -> None:
    """The heap of engines grows by pieces of 9 MiB for some 60 of them, then by one in a hundred; a leak by each."""
    resident, descriptors, threads = zip(*held(what, tiny_path, n), strict=True)
    assert max(resident[n // 2 :]) - max(resident[: n // 2]) < LOOSE, [each // MIB for each in resident]
    assert len(set(descriptors[1:])) == 1 and len(set(threads[1:])) == 1


def test_a_sweep_holds_no_more_for_more_strengths(tiny_path: Path) -> None:
    """What is measured lies in the store: 12 strengths take no more memory than 3, but for results that are read."""
    few, many = (held("sweep", tiny_path, 100, n) for n in (3, 12))
    peaks = [max(resident for resident, _, _ in each) for each in (few, many)]
    n_results = 100 * 6 * 9  # numbers that 9 strengths more add, of the vector and of a control
    assert peaks[1] - peaks[0] < LOOSE + 2 * 8 * n_results, [peak // MIB for peak in peaks]
    assert few[-1][1] == many[-1][1]
