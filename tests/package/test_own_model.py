"""The README's command for a model of one's own, run: it ends as the README shows, and keeps what it promises.

The model draws answers of its own, which follow the CPU's last bits, and with them go layers and figures. So what is
compared with the README is the shape of the verdict; its figures are held to what they promise, on any CPU.
STEERCPP_OWN_MODEL=whole runs the command as it stands there, some 20 minutes of a core without AVX-512; otherwise it
runs with `--quick`.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from places import ROOT

from steercpp.cli.main import main

REAL = "STEERCPP_REAL_MODEL"
IS_WHOLE = os.environ.get("STEERCPP_OWN_MODEL") == "whole"
HEADLINE = re.compile(r"(Use strength|Candidate) \+(\d\.\d+)\b.*")
pytestmark = pytest.mark.slow


def run(*arguments: str) -> Result:
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    return done


def lines_of(panel: str) -> dict[str, str]:
    """The lines of a panel by their names, each with what goes on below it."""
    joined = re.sub(r"\n {4,}", " ", panel)
    return {line.split()[0]: line for line in joined.splitlines()[1:] if line.strip()}


def test_the_command_for_ones_own_model_ends_as_the_readme_shows(
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
    arguments = [*command[1].split(), "--threads", "1", *([] if IS_WHOLE else ["--quick"])]
    panel = run(*arguments).stdout
    promised, headline = HEADLINE.fullmatch(shown.splitlines()[0]), HEADLINE.fullmatch(panel.splitlines()[0])
    assert promised is not None and headline is not None, panel
    found, expected = lines_of(panel), lines_of(shown)
    assert expected.keys() - found.keys() <= {"8"}  # random directions, which a quick sweep may lack
    assert "report.html" in panel and "beyond the prompt baseline" in found["cost"]

    # The same command reads what is there, and its figures are those of the panel
    record = json.loads(run(*arguments, "--json").stdout.splitlines()[-1])
    verdict = record["verdict"]
    assert record["decoded_now"] == 0 and verdict["strength"] == pytest.approx(float(headline[2]))
    gain, at_least = map(float, re.findall(r"[+-]\d\.\d+", found["gain"])[:2])
    cost, at_most = map(float, re.findall(r"(\d+\.\d+)%", found["cost"])[:2])
    assert gain > 0.1 and gain >= at_least and cost <= at_most
    if headline[1] == "Use strength":
        assert IS_WHOLE and at_least > 0 and at_most <= 5.0
        assert "llama-server -m" in panel
