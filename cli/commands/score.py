"""`steercpp score`: what a stored run says, judged in another way, as numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from steercpp.choices import CODE_WAYS, CodeWay
from steercpp.cli import output
from steercpp.cli.grouped_help import Command
from steercpp.cli.options.common import FILE, json_option
from steercpp.cli.options.judging import judging_options, note_what_is_idle, renew_vector

if TYPE_CHECKING:
    from steercpp.runs.judgement import Judgement, Judging
    from steercpp.statistics.recipes import Recipe, RecipeFit


@click.command(cls=Command)
@click.argument("run", metavar="DIR", type=FILE)
@judging_options
@click.option("--samples", type=click.IntRange(0), default=0, show_default=True, metavar="N",
              help="Show up to N failures at each strength: texts, and choices that were right before.")  # fmt: skip
@click.option("--recipe", metavar="NAME", help="Fit as others did, their mistakes beside: wolf2024.")
@click.option(
    "--allow-code-execution",
    "allow_code",
    is_flag=True,
    help="Run programs among the texts that were not run yet, in a sandbox; the run keeps what became of them.",
)
@click.option(
    "--code-answers",
    "code_ways",
    multiple=True,
    type=click.Choice(CODE_WAYS),
    help="With that: how programs are taken out of answers; may be repeated.  [default: whole]",
)
@click.option("-o", "--out", type=FILE, metavar="DIR", help="Write tables and score.json there.")
@json_option
def score(
    run: Path,
    judging: Callable[[], Judging],
    samples: int,
    recipe: str | None,
    allow_code: bool,
    code_ways: tuple[CodeWay, ...],
    out: Path | None,
    as_json: bool,
) -> None:
    """Score and fit a stored run again, without a model.

    Prints the recommendation, every fit, what became of the items and texts at each strength, and samples of what
    failed. Writes nothing without --out, except the results of --allow-code-execution and the recommended strength in
    the run's vector. `steercpp report` draws figures.

    \b
    Example: steercpp score runs/refusal --max-loss 0.1 --weight 2
             steercpp score runs/refusal --matcher wolf2024/harm-chat --samples 2
             steercpp score runs/refusal --recipe wolf2024
    """  # noqa: D301
    if code_ways and not allow_code:
        raise click.UsageError("--code-answers is for --allow-code-execution: how the programs that run are found.")
    from steercpp.runs.judgement import judge
    from steercpp.runs.result import open_run
    from steercpp.statistics.recipes import named_recipe

    chosen = None if recipe is None else named_recipe(recipe)
    if allow_code:
        _run_code(run, code_ways or CODE_WAYS[:1], as_json)
    judgement = judge(open_run(run), judging())
    note_what_is_idle(judgement)
    renew_vector(judgement.result)
    data: dict[str, Any] = {**judgement.record()}
    followed = () if chosen is None else _follow(judgement, chosen)
    if chosen is not None:
        from steercpp.cli.views.fits import recipe_record

        data["recipe"] = recipe_record(chosen, followed)
    if samples:
        data["samples"] = judgement.failed(samples)
    if out is not None:
        from steercpp.reports.report import write_score

        data["files"] = write_score(judgement, data, out)

    from steercpp.cli.views.score import score_pieces

    pieces = [] if as_json else score_pieces(judgement, data, chosen, followed)
    output.emit(data, as_json=as_json, render=lambda: pieces)


def _run_code(run: Path, ways: tuple[CodeWay, ...], as_json: bool) -> None:
    """Run what was not run yet."""
    from steercpp.runs.code import judge_run

    with output.progress(beside_data=as_json) as report:
        for way in ways:
            judge_run(run, allow=True, way=way, progress=report)


def _follow(judgement: Judgement, recipe: Recipe) -> tuple[RecipeFit, ...]:
    """The recipe on the run's measures, as they are named in curves."""
    from steercpp.data.items import HARMFUL
    from steercpp.statistics.recipes import follow

    result = judgement.result
    measures = {}
    if result.behavior is not None:
        b, sides = result.behavior.normalized, result.side_items
        measures["alignment"] = b if sides is None else b[:, sides[HARMFUL]]  # as the other fits of alignment
    if result.choice is not None:
        measures |= {"p_correct": result.choice.p_free, "p_correct_restricted": result.choice.p_restricted}
    return follow(recipe, result.strengths, measures, n_choices=result.n_choices or 4)
