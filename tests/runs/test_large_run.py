"""A run of many items in many groups gives what was planted; tables/large_run_table.py times a larger one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from large_run import B0, DELTA_LAMBDA, N_GROUP, write_large_run

from steercpp.reports.tables import tables
from steercpp.runs.folder import STORE
from steercpp.runs.judgement import judge
from steercpp.runs.result import open_run
from steercpp.runs.store import Store


def test_many_groups_give_what_was_planted(tmp_path: Path) -> None:
    n_items = 5 * N_GROUP + 7
    run = write_large_run(tmp_path / "run", n_items=n_items, strengths="-1:1:0.5")
    with Store.read(run / STORE, settled=True) as store:
        assert len(store.finished()) == 6 * 5 and store.n_rows() == 5 * n_items
        (nats,) = store.logprobs("vector", "behavior", [0.5])
    result = open_run(run)
    assert result.behavior is not None and result.manifest.rows_sha256
    sides = np.exp(nats.reshape(-1, 2))
    np.testing.assert_allclose(result.behavior.raw[3], sides[:, 0] - sides[:, 1], rtol=1e-12)
    middle = np.median(result.behavior.normalized, axis=1)
    np.testing.assert_allclose(middle, np.tanh(DELTA_LAMBDA * result.strengths + B0), atol=0.05)
    assert len(tables(judge(result))["items"]["id"]) == n_items
