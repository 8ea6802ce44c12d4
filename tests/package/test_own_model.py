"""The README's command for a model of one's own, run: it finds what the README shows.

Generated texts and last digits follow the CPU's products; the verdict, its layers and its figures do not.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from places import ROOT

from steercpp.cli.main import main

REAL = "STEERCPP_REAL_MODEL"
pytestmark = pytest.mark.slow


def figures(panel: str) -> dict[str, list[float]]:
    """The numbers of each line of a panel, by the line's name."""
    joined = re.sub(r"\n {4,}", " ", panel)
    lines = [line.split(maxsplit=1) for line in joined.splitlines() if len(line.split()) > 1]
    return {name: [float(number) for number in re.findall(r"[+-]?\d+\.?\d*", rest)] for name, rest in lines}


def test_the_command_for_ones_own_model_finds_what_the_readme_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    section = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Your own model")[2]
    command = re.search(r"^    steercpp (sweep (\S+) --pairs \w+)$", section, re.MULTILINE)
    assert command is not None
    real, shown = os.environ.get(REAL), section.partition("```\n")[2].partition("```")[0]
    if not real or Path(real).name != Path(command[2]).name:
        pytest.skip(f"needs {Path(command[2]).name}; name it in {REAL}")
    monkeypatch.chdir(tmp_path)
    Path(command[2]).parent.mkdir()
    Path(command[2]).symlink_to(real)
    done = CliRunner().invoke(main, [*command[1].split(), "--threads", "1"])
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[0] == shown.splitlines()[0]
    found, expected = figures(done.stdout), figures(shown)
    for name, n_figures in (("gain", 2), ("cost", 3)):  # the bound too, and of the cost how many answers tell it
        for number, promised in zip(found[name][:n_figures], expected[name][:n_figures], strict=True):
            assert number == pytest.approx(promised, abs=0.1 if name == "gain" else 0.5), (name, found, expected)
    assert "llama-server -m" in done.stdout and "report.html" in done.stdout
