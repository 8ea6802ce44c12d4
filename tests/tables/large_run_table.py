"""How a store of 100,000 items at 41 strengths holds up: time of a commit, time and memory of a report.

    python tests/tables/large_run_table.py [--items 100000]

The run is planted through `Store` itself. A report's seconds are of computing and by the clock, which agree where
nothing else runs on the machine.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "helpers"))
from large_run import write_large_run  # noqa: E402 - beside it, not in the package


def main() -> None:
    """Plant a run, report it, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=100_000)
    n_items = parser.parse_args().items
    with tempfile.TemporaryDirectory() as folder:
        run, ends = Path(folder) / "run", []
        write_large_run(run, n_items=n_items, committed=lambda done, of: ends.append(time.perf_counter()))
        took = np.diff(ends)
        first, late = (np.median(took[int(a * len(took)) : int(b * len(took))]) for a, b in ((0, 0.05), (0.9, 0.95)))
        print(f"{len(ends)} groups, {(run / 'sweep.sqlite').stat().st_size / 2**20:.0f} MiB")
        print(f"a commit: {1e3 * first:.2f} ms at 0 % full, {1e3 * late:.2f} ms at 90 %: {late / first:.2f}-fold")
        begun = time.perf_counter()
        command = [sys.executable, "-m", "steercpp.cli.main", "report", str(run), "-o", str(Path(folder) / "page")]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
        by_clock, computing = time.perf_counter() - begun, used.ru_utime + used.ru_stime
        print(
            f"report: {by_clock:.1f} s by the clock, {computing:.1f} s of computing, "
            f"{used.ru_maxrss / 1024:.0f} MiB, exit status {os.waitstatus_to_exitcode(status)}"
        )


if __name__ == "__main__":
    main()
