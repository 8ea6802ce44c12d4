"""A run's report, from its store alone; read this for the files that it consists of.

    alignment.png .svg      B against strength, with the tanh fit, its band, generated texts and the controls
    helpfulness.png .svg    P(correct) against strength, with the fits and the controls
    tradeoff.png .svg       helpfulness against alignment, strength along the curve, the loss budget and the controls
    items.png .svg          slopes of single items; what became of choice items and texts
    couples.png .svg        over-refusal and compliance, correlations over couples
    code.png .svg           pass@k of generated code
    table.tex               the verdict as a LaTeX table
    *.csv                   the numbers behind them and the fits, see tables.py
    report.html             all of it on one page; report.md and report.pdf where they are asked for

The same run gives the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steercpp.choices import PageForm
from steercpp.encoding import json_ready
from steercpp.errors import RunError
from steercpp.files import fenced
from steercpp.reports.forms import check_form, figure_files
from steercpp.reports.latex import latex_table
from steercpp.reports.pictures import write_together
from steercpp.reports.tables import tables
from steercpp.runs.folder import refuse_replaced
from steercpp.runs.judgement import Judgement
from steercpp.spreadsheets import csv_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAGE, TABLE = "report.html", "table.tex"
PICTURES: tuple[str, ...] = ("png", "svg")


def write_report(
    judgement: Judgement,
    *,
    out: Path | None = None,
    form: PageForm = "html",
    pictures: Sequence[str] = PICTURES,
) -> tuple[Path, ...]:
    """Draw the figures and write the tables that the run's measurements allow.

    Args:
        judgement: the run, judged.
        out: where to, by default its own directory.
        form: of the page: "html", "md" or "pdf".
        pictures: kinds of the figures' files: "png", "svg", "pdf". SVG is there always.

    Returns:
        the files written.

    Raises:
        InputError: there is no such form, or it takes what is not installed. RunError: the files cannot be written, or
            the run in the folder is another one by now.
    """
    from steercpp.reports.page import page

    check_form(form)
    folder = make_folder(judgement.result.folder if out is None else out)
    made = tables(judgement)
    files = {f"{name}.csv": csv_bytes(columns) for name, columns in made.items()}
    files[TABLE] = latex_table([judgement]).encode()
    figures = figure_files(_figures(judgement), pictures)
    files |= {**figures, f"report.{form}": page(judgement, figures, made, form=form)}
    if out is not None:
        return write_together(folder, files)
    result = judgement.result
    with fenced(folder, lambda: refuse_replaced(folder, result.manifest)):
        return write_together(folder, files)


def write_score(judgement: Judgement, data: Mapping[str, Any], out: Path) -> tuple[Path, ...]:
    """Write the tables and `data` as score.json, without figures.

    Raises:
        RunError: they cannot be written.
    """
    folder = make_folder(out)
    files = {f"{name}.csv": csv_bytes(columns) for name, columns in tables(judgement).items()}
    files["score.json"] = (json.dumps(json_ready(data), indent=2, allow_nan=False) + "\n").encode()
    return write_together(folder, files)


def make_folder(folder: Path) -> Path:
    """Make a folder for a report.

    Raises:
        RunError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{folder}: cannot be made ({error.strerror}); choose another folder with `out`") from error
    return folder


def _figures(judgement: Judgement) -> dict[str, Figure]:
    """Every figure that the run's measurements allow, by name."""
    return {name: draw_figure(judgement, name) for name in figure_names(judgement)}


def draw_figure(judgement: Judgement, name: str) -> Figure:
    """One of the `figure_names` of this run."""
    from steercpp.reports.figures import alignment_figure, code_figure, helpfulness_figure
    from steercpp.reports.item_figures import couples_figure, items_figure
    from steercpp.reports.tradeoff_figure import tradeoff_figure

    made: dict[str, Callable[[Judgement], Figure]] = {
        "alignment": alignment_figure, "helpfulness": helpfulness_figure, "tradeoff": tradeoff_figure,
        "items": items_figure, "couples": couples_figure, "code": lambda judged: code_figure(judged.result),
    }  # fmt: skip
    return made[name](judgement)


def figure_names(judgement: Judgement) -> list[str]:
    """Names of the figures that a report of this run has."""
    result, coupled = judgement.result, judgement.coupled
    is_coupled = judgement.sides is not None or (coupled is not None and bool(coupled.correlations))
    there = {
        "alignment": result.behavior is not None, "helpfulness": judgement.helpful is not None,
        "tradeoff": result.behavior is not None and judgement.helpful is not None,
        "items": judgement.slopes is not None or judgement.failures is not None or judgement.text_scores is not None,
        "couples": is_coupled, "code": result.code is not None,
    }  # fmt: skip
    return [name for name, is_there in there.items() if is_there]


def ensure_report(judgement: Judgement) -> tuple[Path, ...]:
    """The files of the run's report; written only where something was measured again or one of them is missing."""
    result = judgement.result
    files = tuple(result.folder / name for name in report_names(judgement))
    if result.decoded_now or not all(path.is_file() for path in files):
        write_report(judgement)
    return files


def report_names(judgement: Judgement) -> list[str]:
    """Names of the files that a report of this run consists of."""
    pictures = [f"{name}.{kind}" for name in figure_names(judgement) for kind in ("png", "svg")]
    return [*(f"{name}.csv" for name in tables(judgement)), TABLE, *pictures, PAGE]
