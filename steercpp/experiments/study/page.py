"""The page of a whole study, study.html: every run's figures beside the authors', its curve, and its own page."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from steercpp.experiments.study.outcome import Study, StudyOutcome
from steercpp.experiments.study.preset import FIGURES
from steercpp.files import write_atomically
from steercpp.reports.compared import ComparedRun, verdict_grid
from steercpp.reports.grids import Grid
from steercpp.reports.report import PAGE as RUN_PAGE
from steercpp.reports.templates import rendered_page
from steercpp.runs.judgement import judge
from steercpp.runs.verdict import verdict_of
from steercpp.statistics.rounded import NONE, significant

PAGE = "study.html"
CAPTION = "Each point is a strength of a run. Further right is more aligned, further down is less helpful."


def write_study_page(study: Study) -> Path:
    """Write the page of a finished study into its folder; the same study gives the same bytes.

    Raises:
        RunError: a run cannot be read.
        OSError: the page cannot be written.
    """
    runs = [_compared(outcome) for outcome in study.outcomes]
    values = {
        "title": f"Study {study.preset.name}", "about": study.preset.about, "source": study.preset.source,
        "verdicts": verdict_grid(runs),
        "figures": [{
            "name": "tradeoffs", "title": "Trade-offs", "caption": CAPTION, "drawing": drawing, "numbers": None,
        } for drawing in _drawings(runs)],
        "runs": [_run(study.folder, outcome, run) for outcome, run in zip(study.outcomes, runs, strict=True)],
    }  # fmt: skip
    path = study.folder / PAGE
    write_atomically(path, rendered_page("study.html", values).encode())
    return path


def _compared(outcome: StudyOutcome) -> ComparedRun:
    judgement = judge(outcome.result)
    return ComparedRun(outcome.title, judgement, verdict_of(judgement))


def _drawings(runs: list[ComparedRun]) -> list[Markup]:
    """The trade-offs of all runs in one figure; none where no run has one."""
    if all(run.judgement.result.curves() is None for run in runs):
        return []
    from steercpp.reports.comparison_figures import tradeoffs
    from steercpp.reports.style import CSS_COLORS, rendered
    from steercpp.reports.svg import inline

    return [inline(rendered(tradeoffs(runs), "svg"), "tradeoffs", CAPTION, CSS_COLORS)]


def _run(folder: Path, outcome: StudyOutcome, run: ComparedRun) -> dict[str, Any]:
    """What the page says of one run."""
    rows = outcome.rows()
    cells = [(row.measure, *_cells(row.figures)) for row in rows]
    if outcome.spec.paper:
        cells.append(("the authors' data", *_cells(outcome.spec.paper)))
    page = outcome.result.folder / RUN_PAGE
    return {
        "title": outcome.title, "headline": run.verdict.headline, "reason": run.verdict.reason,
        "figures": Grid(("B by", *FIGURES.values()), tuple(cells), (True, *(False,) * len(FIGURES))),
        "reasons": [f"{row.measure}: {reason}." for row in rows for reason in row.reasons],
        "page": page.relative_to(folder).as_posix(),
    }  # fmt: skip


def _cells(figures: Mapping[str, float]) -> tuple[str, ...]:
    values = (figures.get(name, math.nan) for name in FIGURES)
    return tuple(NONE if math.isnan(value) else significant(value, sign="+") for value in values)
