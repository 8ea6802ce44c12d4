"""The panel where numbers are missing: what has none is said in words, and nothing is left empty."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from click.testing import CliRunner
from small_sweep import BEHAVIOR, small_sweep

from steercpp.cli.main import main
from steercpp.engine.engine import Engine


def panel_of(folder: Path) -> list[str]:
    """The lines inside the frame."""
    result = CliRunner().invoke(main, ["score", str(folder)], env={"COLUMNS": "80"})
    assert result.exit_code == 0, result.output
    return [line.strip("│ ") for line in result.stdout.splitlines() if line.startswith("│")]


def test_few_items_of_a_side_have_no_interval(tiny_engine: Engine, tmp_path: Path) -> None:
    """Once "0.34 (nan to nan)", and two empty lines where no strength is recommended."""
    sided = [replace(item, subject=("harmful", "harmless")[i % 2]) for i, item in enumerate(BEHAVIOR)]
    small_sweep(tiny_engine, tmp_path / "run", behavior=sided, random_directions=0)
    lines = panel_of(tmp_path / "run")
    assert not any("nan" in line.split() or "(nan" in line for line in lines)
    for name in ("over-refusal", "compliance"):
        (line,) = [line for line in lines if line.startswith(f"{name} ")]
        assert line.endswith("at 0; 4 items, too few for an interval")
    assert ("", "") not in zip(lines, lines[1:], strict=False)
