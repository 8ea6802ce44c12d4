"""Several runs in one page: what each comes to is its own verdict, and what may not be compared is named."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from planted_run import write_planted_run

from steercpp.cli.main import main
from steercpp.errors import InputError
from steercpp.reports.compared import compared_runs, differences
from steercpp.reports.comparison import write_comparison
from steercpp.runs.judgement import Judgement, Judging, judge
from steercpp.runs.result import open_run
from steercpp.runs.verdict import verdict_of

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> list[Judgement]:
    """Two runs of one name, of equal items, and one of items on two sides."""
    folder = tmp_path_factory.mktemp("runs")
    alike = [write_planted_run(folder / side / "run", strengths="-0.4:0.4:0.1") for side in ("left", "right")]
    sided = write_planted_run(folder / "sided", strengths="-0.4:0.4:0.2", sided=True)
    return [judge(open_run(run)) for run in (*alike, sided)]


def test_each_row_is_the_verdict_of_its_run(planted: list[Judgement], tmp_path: Path) -> None:
    files = write_comparison(planted, out=tmp_path / "out", pictures=("svg", "pdf"))
    names = {path.name for path in files}
    assert {"comparison.csv", "tradeoffs.svg", "tradeoffs.pdf", "alignments.svg", "helpfulnesses.svg"} < names
    assert files[-1].name == "comparison.html"
    rows = list(csv.DictReader((tmp_path / "out" / "comparison.csv").read_text().splitlines()))
    assert [row["run"] for row in rows] == ["left/run", "right/run", f"{planted[2].result.folder.parent.name}/sided"]
    for row, judgement in zip(rows, planted, strict=True):
        verdict = verdict_of(judgement)
        assert row["verdict"] == verdict.kind
        assert (float(row["recommended"]) if row["recommended"] else None) == verdict.strength
        if verdict.gain is not None and verdict.cost is not None:
            assert float(row["gain_low"]) == pytest.approx(verdict.gain.low)
            assert float(row["loss_high"]) == pytest.approx(verdict.cost.high)
    page = files[-1].read_text(encoding="utf-8")
    titles = re.findall(r"<title>(.*?)</title>", page)[1:]
    n_strengths = sum(len(judgement.result.strengths) for judgement in planted)
    assert sum(", loss " in title for title in titles) == n_strengths
    again = write_comparison(planted, out=tmp_path / "again", pictures=("svg",))
    assert again[-1].read_bytes() == files[-1].read_bytes()


def test_what_differs_is_named_with_what_it_means(planted: list[Judgement]) -> None:
    alike, other = dict(differences(compared_runs(planted[:2]))), dict(differences(compared_runs(planted)))
    assert all(words.startswith("the same: ") for words in alike.values())
    assert "Gains in B are not of the same items" in other["behavior items"]
    assert other["operator"] == "the same: add"
    strict = [planted[0], judge(planted[1].result, Judging(max_loss=0.2))]
    assert "ask for different things" in dict(differences(compared_runs(strict)))["budget of loss"]


def test_one_run_or_the_same_twice_is_refused(planted: list[Judgement], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="two runs at least, not 1"):
        write_comparison(planted[:1], out=tmp_path)
    with pytest.raises(InputError, match="given twice; a run is not compared with itself"):
        write_comparison([planted[0], planted[0]], out=tmp_path)
    assert not list(tmp_path.iterdir())


def test_from_the_command_line(planted: list[Judgement], tmp_path: Path) -> None:
    runs = [str(judgement.result.folder) for judgement in planted]
    out = tmp_path / "comparison"
    done = CliRunner().invoke(main, ["report", *runs, "-o", str(out), "--format", "md"])
    assert done.exit_code == 0 and "They differ in: behavior items" in done.stdout, done.output
    page = (out / "comparison.md").read_text(encoding="utf-8")
    assert page.startswith("# 3 runs compared: left/run") and "![Trade-offs](tradeoffs.svg)" in page
    done = CliRunner().invoke(main, ["report", *runs, "-o", str(out), "--json"])
    record = json.loads(done.stdout)
    assert [run["layers"] for run in record["runs"]] == ["layers 3-4"] * 3
    missing = CliRunner().invoke(main, ["report", runs[0], str(tmp_path / "no")])
    assert missing.exit_code != 0 and "does not exist" in missing.output
