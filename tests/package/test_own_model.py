"""The README's command for a model of one's own, run: it ends as the README shows, and keeps what it promises.

The model draws answers of its own, which follow the CPU's last bits, and with them go layers and figures. So what is
compared with the README is the shape of the verdict; its figures are held to what they promise, on any CPU.

Its look at the model alone (`--dry-run`) takes 5 minutes of a core without AVX-512, so that is what runs by default.
STEERCPP_OWN_MODEL=quick runs `--quick` to its end, a quarter of an hour, and =whole the command as it stands there.
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
EXTENT = os.environ.get("STEERCPP_OWN_MODEL", "look")
HEADLINE = re.compile(r"(Use strength|Candidate) \+(\d\.\d+)\b.*")
MEASURES = {  # of SmolLM2: what it does not answer as listed is measured on its own answers
    "pairs": "yes", "own answers": "yes", "continuations": "no", "own continuations": "yes", "letters": "no",
    "choices by text": "no",
}  # fmt: skip
pytestmark = pytest.mark.slow


def run(*arguments: str) -> Result:
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    return done


def lines_of(panel: str) -> dict[str, str]:
    """The lines of a panel by their names, each with what goes on below it."""
    joined = re.sub(r"\n {4,}", " ", panel)
    return {line.split()[0]: line for line in joined.splitlines()[1:] if line.strip()}


@pytest.fixture(scope="module")
def shown() -> tuple[list[str], str]:
    """The arguments of the README's command, and the panel below it."""
    section = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Your own model")[2]
    command = re.search(r"^    steercpp (sweep \S+ --pairs \w+)$", section, re.MULTILINE)
    assert command is not None
    return command[1].split(), section.partition("```\n")[2].partition("```")[0]


@pytest.fixture
def arguments(shown: tuple[list[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The same, where the model lies as in the README."""
    real, model = os.environ.get(REAL), Path(shown[0][1])
    if not real or Path(real).name != model.name:
        pytest.skip(f"needs {model.name}; name it in {REAL}")
    monkeypatch.chdir(tmp_path)
    model.parent.mkdir()
    model.symlink_to(real)
    return [*shown[0], "--threads", "1"]


@pytest.mark.skipif(EXTENT != "look", reason="the command itself runs")
def test_the_look_at_ones_own_model_finds_the_measures_that_the_readme_tells_of(arguments: list[str]) -> None:
    table = run(*arguments, "--quick", "--dry-run").stdout
    tells = {name: re.search(rf"^ *{name} +(yes|no) ", table, re.MULTILINE) for name in MEASURES}
    found = {name: match[1] for name, match in tells.items() if match is not None}
    assert found == MEASURES, table
    assert re.search(r"^A quick first answer: 20 of \d+ behavior items", table, re.MULTILINE)
    assert re.search(r"^work +[\d,]+ tokens, [\d.]+ million token-layers", table, re.MULTILINE)
    assert not Path("runs").exists() or not list(Path("runs").rglob("sweep.sqlite"))


@pytest.mark.skipif(EXTENT == "look", reason="takes minutes; set STEERCPP_OWN_MODEL to quick or whole")
def test_the_command_for_ones_own_model_ends_as_the_readme_shows(
    arguments: list[str], shown: tuple[list[str], str]
) -> None:
    arguments = [*arguments, *([] if EXTENT == "whole" else ["--quick"])]
    panel = run(*arguments).stdout
    promised, headline = HEADLINE.fullmatch(shown[1].splitlines()[0]), HEADLINE.fullmatch(panel.splitlines()[0])
    assert promised is not None and headline is not None, panel
    found, expected = lines_of(panel), lines_of(shown[1])
    assert expected.keys() - found.keys() <= {"8"}  # random directions, which a quick sweep may lack
    assert "report.html" in panel and "beyond the prompt baseline" in found["cost"]

    # The same command reads what is there, and its figures are those of the panel
    verdict = json.loads(run(*arguments, "--json").stdout.splitlines()[-1])["verdict"]
    assert verdict["at"] == pytest.approx(float(headline[2]))
    gain, at_least = map(float, re.findall(r"[+-]\d\.\d+", found["gain"])[:2])
    cost, at_most = map(float, re.findall(r"(\d+\.\d+)%", found["cost"])[:2])
    assert gain > 0.1 and gain >= at_least and cost <= at_most
    if headline[1] == "Use strength":
        assert EXTENT == "whole" and at_least > 0 and at_most <= 5.0
        assert "llama-server -m" in panel
