"""The table for papers: a line for each run, escaped for LaTeX; pdflatex takes it where there is one."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from planted_run import write_planted_run

from steercpp.errors import InputError
from steercpp.reports.latex import escaped, latex_table
from steercpp.runs.judgement import judge
from steercpp.runs.result import SweepResult, open_run
from steercpp.runs.verdict import verdict_of

HOSTILE = "50%_of {my} $model$ #1 & ~^\\end{tabular} \x1b[31m\u202e模型 é <b>|\"'`"


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[SweepResult]:
    folder = tmp_path_factory.mktemp("latex")
    recommended = open_run(write_planted_run(folder / "a"))
    uncontrolled = open_run(write_planted_run(folder / "b", strengths="0.2:0.6:0.2", n_random=0))
    uncontrolled.manifest = replace(
        uncontrolled.manifest, model=replace(uncontrolled.manifest.model, file=HOSTILE)
    )  # fmt: skip
    return [recommended, uncontrolled]


def test_each_run_has_a_line_of_seven_cells(results: list[SweepResult]) -> None:
    lines = latex_table(results).splitlines()
    body = lines[lines.index(r"    \midrule") + 1 : lines.index(r"    \bottomrule")]
    assert len(body) == 2 and all(len(re.split(r"(?<!\\)&", line)) == 7 and line.endswith(r" \\") for line in body)
    verdict = verdict_of(judge(results[0]))
    assert verdict.gain is not None and verdict.cost is not None
    cells = [cell.strip() for cell in body[0].removesuffix(r" \\").split("&")]
    assert cells[:3] == ["planted.gguf", "3--4", f"${verdict.strength:+g}$"]
    value, low = (float(number) for number in re.findall(r"[-+]\d+\.\d+", cells[3]))
    assert value == pytest.approx(verdict.gain.value, abs=0.005) and low == pytest.approx(verdict.gain.low, abs=0.005)
    assert cells[4].count("leq") == 1 and "+" not in cells[4]
    assert [cell.strip() for cell in re.split(r"(?<!\\)&", body[1].removesuffix(r" \\"))][5:] == ["--", "--"]


def test_digits_are_those_that_the_bounds_earn(results: list[SweepResult]) -> None:
    """The lower bound is some hundredths away, so that two decimals are told, not ten."""
    assert max(len(digits) for digits in re.findall(r"\.(\d+)", latex_table(results[:1]).split("midrule")[1])) <= 4


def test_names_are_text() -> None:
    shown = escaped(HOSTILE)
    assert r"50\%\_of \{my\} \$model\$ \#1 \&" in shown and r"\textbackslash{}end\{tabular\}" in shown
    assert "\x1b" not in shown and "\u202e" not in shown and shown.isascii() is False and "é" in shown
    assert r"\textbackslash{}u6a21" in shown and not re.search(r"(?<!\\)[%$&#_]", shown)


def test_nothing_to_show_is_refused() -> None:
    with pytest.raises(InputError, match="at least one run"):
        latex_table([])


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_pdflatex_takes_it(results: list[SweepResult], tmp_path: Path) -> None:
    packages = r"\usepackage{booktabs}"
    document = rf"\documentclass{{article}}{packages}\begin{{document}}{latex_table(results)}\end{{document}}"
    (tmp_path / "paper.tex").write_text(document, encoding="utf-8")
    # a draft is set in type, and needs no files of fonts
    command = ["pdflatex", "-draftmode", "-halt-on-error", "-interaction=nonstopmode", "paper.tex"]
    made = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace", check=False)
    assert made.returncode == 0, made.stdout[-2000:]
    assert "[1" in made.stdout and "Missing" not in made.stdout
