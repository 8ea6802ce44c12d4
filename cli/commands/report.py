"""`steercpp report`: a run once more as files, from its store, or several of them compared."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from steercpp.choices import PAGE_FORMS, PageForm
from steercpp.cli import output
from steercpp.cli.grouped_help import Command
from steercpp.cli.options.common import FILE, details_option, json_option
from steercpp.cli.options.judging import judging_options, note_what_is_idle, renew_vector

if TYPE_CHECKING:
    from steercpp.runs.judgement import Judgement, Judging

PICTURES = ("png", "svg", "pdf")


@click.command(cls=Command)
@click.argument("runs", metavar="DIR...", type=FILE, nargs=-1, required=True)
@judging_options
@click.option("-o", "--out", type=FILE, metavar="DIR",
              help="Where to write.  [default: DIR itself; comparison, of several]")  # fmt: skip
@click.option("--format", "form", type=click.Choice(PAGE_FORMS), default="html", show_default=True,
              help="Of the page. A PDF takes pip install 'steercpp[pdf]'.")  # fmt: skip
@details_option
@json_option
def report(
    runs: tuple[Path, ...],
    judging: Callable[[], Judging],
    out: Path | None,
    form: PageForm,
    details: bool,
    as_json: bool,
) -> None:
    """Draw a run again, or compare several, without a model.

    Writes one page, figures as PNG, SVG and PDF, and tables as CSV and LaTeX, all from the run's store. An unfinished
    run shows the strengths that are finished. Several runs give a page that compares models, vectors or layers.

    \b
    Example: steercpp report runs/refusal
             steercpp report runs/refusal --max-loss 0.1 --out report
             steercpp report runs/refusal runs/cheer -o comparison --format md
    """  # noqa: D301
    from steercpp.runs.judgement import judge
    from steercpp.runs.result import open_run

    judgements = [judge(open_run(run), judging()) for run in runs]
    for judgement in judgements:
        note_what_is_idle(judgement)
    if len(judgements) > 1:
        _compare(judgements, Path("comparison") if out is None else out, form, as_json=as_json)
    else:
        _draw(judgements[0], out, form, details=details, as_json=as_json)


def _draw(judgement: Judgement, out: Path | None, form: PageForm, *, details: bool, as_json: bool) -> None:
    """The report of one run."""
    from steercpp.cli.views.sweep import closing
    from steercpp.reports.report import write_report
    from steercpp.runs.verdict import verdict_of

    renew_vector(judgement.result)
    files = write_report(judgement, out=out, form=form, pictures=PICTURES)
    verdict = verdict_of(judgement)
    data = {**judgement.record(), "verdict": verdict.record(), "files": files}
    pieces = [] if as_json else closing(judgement, verdict, data, files, details=details)
    output.emit(data, as_json=as_json, render=lambda: pieces)


def _compare(judgements: list[Judgement], out: Path, form: PageForm, *, as_json: bool) -> None:
    """The comparison of several runs."""
    from steercpp.reports.compared import compared_runs, differences
    from steercpp.reports.comparison import write_comparison

    files = write_comparison(judgements, out=out, form=form, pictures=PICTURES)
    compared = compared_runs(judgements)
    data: dict[str, Any] = {
        "runs": [run.record() for run in compared], "differences": dict(differences(compared)), "files": files
    }  # fmt: skip

    def render() -> list[output.Renderable]:
        from steercpp.cli.views.comparison import comparison_pieces

        return comparison_pieces(compared, files[-1])

    output.emit(data, as_json=as_json, render=render)
