"""What a run says of its rows: how far packing moves them from each prompt's own run; with --exact not at all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from small_sweep import small_sweep, write_items

from steercpp.cli.main import main
from steercpp.engine.engine import Engine
from steercpp.runs.manifest import MANIFEST, read_manifest
from steercpp.runs.result import open_run


@pytest.mark.slow
@pytest.mark.parametrize("exact", [False, True])
def test_a_run_says_how_far_packing_moves_its_numbers(tiny_path: Path, tmp_path: Path, exact: bool) -> None:
    with Engine(tiny_path, threads=1, exact=exact) as engine:
        result = small_sweep(engine, tmp_path / "run", random_directions=0)
        how = engine.packing
    found = read_manifest(tmp_path / "run").packing
    assert found is not None and found == result.manifest.packing
    assert found.how == how and (how == "shared") != exact
    assert found.n_compared == 2 * 4 and 0 <= found.n_equal <= found.n_compared
    assert (found.largest == 0) == (found.n_equal == found.n_compared)
    if exact:
        assert found.n_equal == found.n_compared
    record = open_run(tmp_path / "run").to_json()
    assert record["packing"]["how"] == how and record["plan"].get("packing", "shared") == how


@pytest.mark.slow
def test_sweep_exact(tiny_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_items(tmp_path)
    command = ["sweep", str(tiny_path), "--pairs", "p.jsonl", "--behavior", "b.jsonl", "--strengths", "0.5",
               "--random", "0", "--no-orthogonal", "--threads", "1", "--no-texts", "--out", "r"]  # fmt: skip
    shown = CliRunner().invoke(main, [*command, "--exact", "--details"], env={"COLUMNS": "120"})
    assert shown.exit_code == 0, shown.output
    assert "as decoded alone, bit for bit, in all 4 that were compared" in shown.stdout
    assert json.loads((tmp_path / "r" / MANIFEST).read_text())["plan"]["packing"].startswith(("aligned ", "alone"))
    other = CliRunner().invoke(main, command, env={"COLUMNS": "120"})  # without it the numbers would be others
    assert other.exit_code == 1 and "packing" in other.stderr
