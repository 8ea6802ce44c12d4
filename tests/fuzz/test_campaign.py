"""No damaged file gets more than a sentence; STEERCPP_FUZZ sets how many of each format are tried."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
FORMATS = sorted(path.stem for path in (FOLDER / "formats").glob("*.py"))
CASES = os.environ.get("STEERCPP_FUZZ", "")


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="each case is read in a forked child")
@pytest.mark.parametrize("module", FORMATS)
def test_every_case_is_read_or_refused_in_a_sentence(module: str) -> None:
    """In a process of its own: a child forked from pytest's would hold its threads' locks."""
    done = subprocess.run(
        [sys.executable, FOLDER / "campaign.py", "--module", module, "--cases", CASES or "25", "--json"],
        env=dict(os.environ, OPENBLAS_NUM_THREADS="1"), capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for line in done.stdout.splitlines():
        tally = json.loads(line)
        print(tally["format"], tally["counts"])
        assert tally["wrong"] == [], tally["format"]
        assert sum(tally["counts"].values()) >= 1
