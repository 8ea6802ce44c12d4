"""Several runs beside each other: models, vectors or layers. Read this for the files that a comparison consists of.

write_comparison([judge(open_run(folder)) for folder in folders], out=Path("comparison"))

comparison.html .md .pdf    the page: verdicts, curves, texts, and where the runs differ
comparison.csv .tex         a row for each run
tradeoffs.png .svg .pdf     what is lost against what is gained, a line for each run
alignments, helpfulnesses   over strength, where all runs count it in one unit
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from steercpp.choices import PageForm
from steercpp.reports.compared import ComparedRun, compared_runs, differences, strengths_of, verdict_grid
from steercpp.reports.differences import Piece, changes
from steercpp.reports.forms import check_form, figure_files, in_form
from steercpp.reports.latex import latex_table
from steercpp.reports.page import PageRequest, PageText, shown_text
from steercpp.reports.pictures import write_together
from steercpp.reports.report import PICTURES, make_folder
from steercpp.runs.judgement import Judgement
from steercpp.runs.showcase import ShownRequest, read_showcase
from steercpp.spreadsheets import csv_bytes
from steercpp.statistics.rounded import strength_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

N_REQUESTS = 3  # whose texts are shown
FIGURES = {
    "tradeoffs": "Each point is a strength of a run; a ring marks the one to use. Further right is more aligned, "
    "further down is less helpful.",
    "alignments": "B against strength, means of items.",
    "helpfulnesses": "Helpfulness against strength, as a share of that at 0.",
}
TITLES = {"tradeoffs": "Trade-offs", "alignments": "Alignment", "helpfulnesses": "Helpfulness"}


def write_comparison(
    judgements: Sequence[Judgement], *, out: Path, form: PageForm = "html", pictures: Sequence[str] = PICTURES
) -> tuple[Path, ...]:
    """Write the comparison of several runs.

    Args:
        judgements: the runs, judged; at least two.
        out: the folder to write to.
        form: of the page: "html", "md" or "pdf".
        pictures: kinds of the figures' files: "png", "svg", "pdf". SVG is there always.

    Returns:
        the files written, the page last.

    Raises:
        InputError: as `compared_runs`; there is no such form, or it takes what is not installed.
        RunError: a store cannot be read, or the files cannot be written.
    """
    check_form(form)
    runs = compared_runs(judgements)
    records = [run.record() for run in runs]
    files = {"comparison.csv": csv_bytes({name: [record[name] for record in records] for name in records[0]})}
    files["comparison.tex"] = latex_table([run.judgement for run in runs]).encode()
    figures = figure_files(_figures(runs), pictures)
    page = in_form(
        form, "comparison", figures, FIGURES, lambda drawings, is_paper: _content(runs, drawings, is_paper=is_paper)
    )
    return write_together(make_folder(out), {**files, **figures, f"comparison.{form}": page})


def _content(runs: Sequence[ComparedRun], drawings: Mapping[str, Markup], *, is_paper: bool) -> dict[str, Any]:
    """What the page says, by the names of its template."""
    return {
        "is_paper": is_paper,
        "title": f"{len(runs)} runs compared: {', '.join(run.name for run in runs)}",
        "verdicts": verdict_grid(runs),
        "runs": [(run.name, run.verdict.headline, run.verdict.reason) for run in runs],
        "figures": [
            {"name": name, "title": TITLES[name], "caption": FIGURES[name], "drawing": drawing, "numbers": None}
            for name, drawing in drawings.items()
        ],
        "differences": differences(runs),
        "shown": shared_texts(runs),
        "commands": [(run.name, run.judgement.result.manifest.command) for run in runs],
    }  # fmt: skip


def shared_texts(runs: Sequence[ComparedRun]) -> list[PageRequest]:
    """Requests that all runs have texts for: without steering, and at each run's own strength."""
    of_runs: list[Mapping[str, ShownRequest]] = []
    for run in runs:
        showcase = read_showcase(run.judgement.result)
        requests = () if showcase is None else showcase.requests
        of_runs.append({request.asked: request for request in requests})
    asked = [request for request in of_runs[0] if all(request in known for known in of_runs)]
    shown = []
    for request in asked[:N_REQUESTS]:
        texts = []
        for run, known in zip(runs, of_runs, strict=True):
            of_run = known[request].texts
            base = shown_text(of_run[0.0])
            if run.verdict.at in of_run and run.verdict.at:
                text = shown_text(of_run[run.verdict.at])
                label = f"{run.name}, at {strength_text(run.verdict.at)}"
                texts.append(PageText(label, changes(base, text), run.verdict.strength is not None))
            else:
                texts.append(PageText(f"{run.name}, without steering", [Piece(base, False)], False))
        shown.append(PageRequest(request, texts))
    return shown


def _figures(runs: Sequence[ComparedRun]) -> dict[str, Figure]:
    """Every figure that these runs allow."""
    from steercpp.reports.comparison_figures import over_strength, tradeoffs

    curves = [run.judgement.result.curves() for run in runs]
    units = {(strengths_of(run), run.judgement.result.manifest.plan.operator) for run in runs}
    made = {}
    if sum(curve is not None for curve in curves) > 1:
        made["tradeoffs"] = tradeoffs(runs)
    if len(units) == 1:
        for name in ("alignments", "helpfulnesses"):
            if (figure := over_strength(runs, name)) is not None:
                made[name] = figure
    return made
