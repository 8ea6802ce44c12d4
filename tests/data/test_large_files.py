"""Pair files of any size: what a process needs does not grow with the file, whatever it does with the pairs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")

PEAK = """
for line in open("/proc/self/status"):
    if line.startswith("VmHWM"):
        print(int(line.split()[1]) / 1024)
"""
COMMAND = "import sys; from steercpp.cli.main import main; main(sys.argv[1:], standalone_mode=False)" + PEAK
READING = (
    "import sys; from steercpp.data.pair_formats import open_pairs; print(open_pairs(sys.argv[1]).sha256())" + PEAK
)
N_LINES = 200
BLOB = 200_000


def peak_mib(program: str, *arguments: str | Path) -> float:
    """Highest memory of a new process, MiB. The high-water mark of its address space: rusage keeps the parent's too."""
    ended = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)], capture_output=True, text=True, check=True
    )
    return float(ended.stdout.splitlines()[-1])


def write(path: Path, lines: Iterable[str]) -> Path:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(lines)
    return path


def json_lines(path: Path, blob: int) -> Path:
    """Pairs with something in each line that is not read."""
    both = '"positive": "help the man {0}", "negative": "never help the man {0}"'
    return write(path, ("{" + both.format(i) + f', "source": "{"x" * blob}"' + "}\n" for i in range(N_LINES)))


def caa(path: Path, blob: int) -> Path:
    item = {"answer_matching_behavior": "(A)", "answer_not_matching_behavior": "(B)", "source": "x" * blob}
    lines = (json.dumps({"question": f"is it {i}?", **item}) + ",]"[i == N_LINES - 1] + "\n" for i in range(N_LINES))
    return write(path, ["[", *lines])


@pytest.mark.slow
@pytest.mark.parametrize(("command", "form"), [("dump", json_lines), ("extract", caa)])
def test_a_large_file_needs_no_more_memory_than_a_small_one(
    tiny_path: Path, tmp_path: Path, command: str, form: Callable[[Path, int], Path]
) -> None:
    peaks = []
    for blob in (1, BLOB):
        pairs = form(tmp_path / f"pairs-{blob}", blob)
        arguments: list[str | Path] = [command, tiny_path, "--pairs", pairs, "-o", tmp_path / f"out-{blob}.gguf"]
        arguments += ["--threads", "1", "--raw", "--json"]
        peaks.append(peak_mib(COMMAND, *arguments))
    assert pairs.stat().st_size > 38 * 2**20
    # a few pieces of 1 MiB and their text; all of the file would be 38 MiB
    assert peaks[1] - peaks[0] < 6


def test_many_pairs_need_eight_bytes_each(tmp_path: Path) -> None:
    line = '{{"positive": "help the man {0}", "negative": "never help the man {0}", "id": "pair {0}"}}\n'
    few, many = (write(tmp_path / str(n), (line.format(i) for i in range(n))) for n in (100, 100_000))
    # 2 MiB of hashes and their sorted copy; the pairs themselves would be 43 MiB
    assert peak_mib(READING, many) - peak_mib(READING, few) < 6
