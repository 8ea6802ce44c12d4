"""Results as data frames: the rows and names of the CSV files, in pandas and in polars."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from planted_run import write_planted_run

from steercpp.errors import InputError
from steercpp.experiments.scan import Scan
from steercpp.frames import frame
from steercpp.reports.tables import tables
from steercpp.runs.judgement import judge
from steercpp.runs.result import SweepResult, open_run


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> SweepResult:
    return open_run(write_planted_run(tmp_path_factory.mktemp("frames") / "run", strengths="-0.2:0.2:0.1", n_random=1))


@pytest.mark.parametrize("kind", ["pandas", "polars"])
def test_a_run_has_the_numbers_of_its_tables(result: SweepResult, kind: str) -> None:
    pytest.importorskip(kind)
    made = result.to_frame(kind)  # type: ignore[arg-type]
    assert type(made).__module__.startswith(kind) and made.shape[0] == 5
    by_table = tables(judge(result))
    n_compared = 0
    for name in ("alignment", "helpfulness", "tradeoff"):
        for column, values in by_table[name].items():
            if not column.startswith("utility"):
                np.testing.assert_array_equal(made[column].to_numpy(), values, err_msg=column)
                n_compared += 1
    assert n_compared > 20 and {"loss_high", "p_correct_low", "helpfulness"} <= set(made.columns)


def test_a_scan_without_sweeps_is_empty(tmp_path: Path) -> None:
    pytest.importorskip("pandas")
    assert Scan(tmp_path, tmp_path / "m.gguf", (), "norm", 1, 0.05).to_frame().shape == (0, 0)


def test_what_is_missing_is_said_with_the_next_step(result: SweepResult, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(InputError, match=r"polars is not installed; `pip install 'steercpp\[polars\]'` does"):
        result.to_frame("polars")
    with pytest.raises(InputError, match="data frames of 'excel' are unknown; use one of pandas, polars"):
        frame({}, "excel")  # type: ignore[arg-type]


def test_no_data_frame_is_loaded_until_it_is_asked_for() -> None:
    program = "import sys, steercpp.runs.result; assert 'polars' not in sys.modules"  # lmfit looks for pandas itself
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
