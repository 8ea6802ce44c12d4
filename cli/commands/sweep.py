"""`steercpp sweep`: how far a model can be steered before it gets worse."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import click

from steercpp.choices import METHOD_NAMES, UNITS, Unit
from steercpp.cli import output
from steercpp.cli.grouped_help import Command
from steercpp.cli.options.common import (
    FILE,
    details_option,
    direction_option,
    force_option,
    kl_option,
    max_loss_option,
    parse_strengths,
    seed_option,
)
from steercpp.cli.options.controls import ControlOptions, control_options
from steercpp.cli.options.engine import EngineOptions, engine_options, exact_option
from steercpp.cli.options.inputs import NamedInputs, gather
from steercpp.cli.options.items import ItemOptions, answered, item_options
from steercpp.cli.options.judging import renew_vector
from steercpp.cli.options.preparation import Effort, asks_for, effort_options, find_open, plan_ahead, with_listed
from steercpp.cli.options.prompts import show_inputs, show_prompts_option
from steercpp.cli.options.spreading import SpreadingOptions, spreading_options
from steercpp.cli.options.steering import SteeringOptions, steering_options
from steercpp.cli.options.texts import TextOptions, text_options
from steercpp.cli.views.signals import not_measured, plan_pieces, signal_pieces

if TYPE_CHECKING:
    from steercpp.runs.scores import StrengthMeans

QUICK_SHOWN = 4  # requests whose texts a quick sweep shows


@click.command(cls=Command)
@click.argument("model", required=False, type=FILE)
@click.option("--vector", type=FILE, metavar="V.gguf", help="Control vector to sweep.")
@click.option("--pairs", metavar="P", help="Contrast pairs to extract a vector from instead: a file, or a set's name.")
@click.option("--method", type=click.Choice(METHOD_NAMES), help="How to extract.  [default: mean]")
@item_options
@click.option(
    "--strengths", callback=parse_strengths, metavar="A:B:STEP",
    help="Grid, or a list like -1,0,1; 0 is always added. auto: as far as half of the helpfulness is left.  "
         "[default: auto; the embedded model: its own]",
)  # fmt: skip
@click.option(
    "--layers", metavar="8-15",
    help="Layers to steer, inclusive. auto: those that gain most at equal cost.  [default: the vector's; auto; beside "
         "--strengths the paper's band]",
)  # fmt: skip
@click.option("--unit", type=click.Choice(UNITS),
              help="What strength 1 adds per layer: the vector, one median residual norm, or the smallest push of --kl "
                   "nats.  [default: norm; with --strengths length; the embedded model: norm]")  # fmt: skip
@kl_option()
@max_loss_option
@effort_options
@control_options
@direction_option
@click.option("-o", "--out", type=FILE, metavar="DIR", help="Run directory.  [default: runs/MODEL-VECTOR]")
@seed_option("random directions and resampling")
@text_options
@show_prompts_option
@steering_options
@engine_options
@exact_option
@spreading_options
@force_option("Replace the run in the directory.")
@click.option("--dry-run", is_flag=True,
              help="Only ask what each measure tells on MODEL, and say what the sweep will take.")  # fmt: skip
@details_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON Lines: one for each strength, then the result.")
def sweep(
    model: Path | None,
    vector: Path | None,
    pairs: str | None,
    method: str | None,
    items: ItemOptions,
    strengths: tuple[float, ...] | None,
    layers: str | None,
    unit: Unit | None,
    kl: float | None,
    max_loss: float,
    effort: Effort,
    controls: ControlOptions,
    direction: int,
    out: Path | None,
    seed: int,
    texts: TextOptions,
    n_shown: int | None,
    steering: SteeringOptions,
    options: EngineOptions,
    as_alone: bool,
    spreading: SpreadingOptions,
    force: bool,
    dry_run: bool,
    details: bool,
    as_json: bool,
) -> None:
    """Find how far a model can be steered before it gets worse.

    Measures behavior B and helpfulness over a grid of strengths, and recommends the strength that gains most within a
    budget of loss. Controls are random directions of the same length, a direction orthogonal to the vector, and the
    prompt baseline: the same wish as an instruction in the prompt. Without MODEL it sweeps the embedded model with its
    own refusal pairs. The run directory keeps every measurement: the same command resumes an unfinished run and shows
    a finished one; with more strengths, items or texts it adds to it.

    \b
    Example: steercpp sweep
             steercpp sweep model.gguf --vector v.gguf --behavior b.jsonl \\
                 --task law_test.csv --strengths -4:4:0.5
    """  # noqa: D301
    options = replace(options, exact=as_alone)
    named = NamedInputs(
        model, vector, pairs, method, layers, items, strengths, unit, kl,
        asks_for_sides=bool(controls.instruction and controls.opposite), adds=steering.is_plain,
    )  # fmt: skip
    from steercpp.errors import SteerError
    from steercpp.locks import refuse_second_writer
    from steercpp.reports.report import ensure_report
    from steercpp.runs.judgement import Judging, judge
    from steercpp.runs.manifest import is_finished
    from steercpp.runs.verdict import verdict_of
    from steercpp.sweeps.calibration import KL
    from steercpp.sweeps.showcase import MOST_STRENGTHS
    from steercpp.sweeps.spec import SweepSpec
    from steercpp.sweeps.stages import stages_to_measure
    from steercpp.sweeps.sweep import sweep as measure

    # What is measured; prompts are only shown if that is wanted.
    text_plan = texts.text_plan(seed)
    inputs = gather(named)
    asked = controls.keywords(inputs.instruction, inputs.opposite, judged=bool(text_plan) and texts.is_likelihood)
    if n_shown:
        show_inputs(
            named, with_listed(named, inputs), asked, n_shown, options,
            code_template=texts.code_template, as_json=as_json,
        )  # fmt: skip
        return

    if model is None and (effort.suffix or dry_run):
        raise click.UsageError(
            "--quick, --budget and --dry-run are for what is found on a model of your own, and MODEL is missing: give "
            "its file, and --pairs or --vector."
        )
    if effort.suffix and not named.leaves_open:
        raise click.UsageError(
            "--quick and --budget are for what is found on MODEL: leave --strengths out, or give auto. What is given "
            "is measured; --limit N takes fewer items."
        )
    if dry_run:
        if not named.leaves_open:
            raise click.UsageError(
                "--dry-run is for what is found on MODEL: give MODEL and --pairs, and leave --strengths out or auto."
            )
        with options.open(inputs.model) as engine, output.progress(beside_data=as_json) as report:
            asks = asks_for(
                named, inputs, engine, asked, direction=direction, max_loss=max_loss, seed=seed, report=report
            )
            planned = plan_ahead(engine, replace(asks, **effort.keywords(controls)), controls, report)
        output.emit(planned.record(), as_json=as_json, render=lambda: plan_pieces(planned))
        return

    # Measured, or read from the folder as far as it is there.
    folder = out or Path("runs", f"{inputs.name}{effort.suffix}")
    if force or not is_finished(folder):
        refuse_second_writer(folder)  # before the model is loaded
    view = _View(as_json)
    shown = inputs.requests[: QUICK_SHOWN if effort.quick else None] if texts.shown else ()
    if model and strengths and unit is None and not named.leaves_open:
        output.note("--strengths are multiples of the vector's own length; --unit norm takes them in residual norms")
    with (
        output.kept_in(folder),
        options.open(inputs.model) as engine,
        spreading.keywords() as where,
        output.progress(above=view.table, beside_data=as_json) as report,
    ):
        has_controls = bool(controls.n_random or controls.orthogonal or controls.prompt_baseline)
        then = stages_to_measure(controls=has_controls, texts=texts.shown or text_plan is not None)
        if report is not None:
            report.plan(then)
        if named.leaves_open:  # else everything was named
            found, inputs = find_open(
                named, inputs, engine, asked, folder, direction=direction, max_loss=max_loss, seed=seed, force=force,
                effort=effort.keywords(controls), report=report, then=then,
                n_shown=MOST_STRENGTHS * inputs.showcase_tokens * len(shown),
            )  # fmt: skip
            if found.scope.sentence and not as_json:
                output.note(found.scope.sentence)
            if text_plan is None:
                asked["opposite"] = ""  # it has asked for the other side; a sweep takes it to judge texts alone
            if found.reason:
                return output.emit(not_measured(found), as_json=as_json, render=lambda: signal_pieces(found))
        source, identity = inputs.vector(engine, report)  # a vector, or a call that extracts it
        vector_of = cache(source if callable(source) else lambda: source)
        measured = {**inputs.items, **answered(engine, inputs.items, folder, seed=seed, force=force, report=report)}
        spec = SweepSpec(
            **measured, **asked, strengths=inputs.strengths,
            unit=inputs.unit, kl=kl or KL, direction=direction, max_loss=max_loss, seed=seed, text_plan=text_plan,
            showcase=shown, showcase_tokens=inputs.showcase_tokens,
            **steering.manner(vector_of, known=None if callable(source) else source.metadata),
        )  # fmt: skip
        result = measure(
            engine, vector_of if callable(source) else source, spec, out=folder, allow_code=texts.allow_code,
            force=force, vector_id=identity, progress=report, on_strength=view.add,
            on_stage=None if report is None else report.on_stage,
            note=None if as_json else output.note, **where,
        )  # fmt: skip
    if not result.decoded_now:
        output.note(f"{folder}: finished already, nothing was computed; --force measures it again")
        renew_vector(result)

    # Judged and drawn; another matcher judges what is printed, not the files.
    judgement = judge(result)
    for note in judgement.notes:
        output.note(note)
    try:
        files = ensure_report(judgement)
    except SteerError as error:
        if result.decoded_now:
            raise
        output.note(f"{error}; shown without figures")  # a finished run can be looked at wherever it lies
        files = ()
    if texts.matcher != judgement.how.matcher:
        judgement = judge(result, Judging(matcher=texts.matcher))
    verdict = verdict_of(judgement)
    data = {"event": "result", **judgement.record(), "verdict": verdict.record(), "files": files}
    if as_json:
        output.emit_line(data)
        return
    from steercpp.cli.views.sweep import closing

    output.emit(data, as_json=False, render=lambda: closing(judgement, verdict, data, files, details=details))


class _View:
    """Strengths as they are finished: lines of JSON on stdout, or the table above the progress bar."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self._rows: list[StrengthMeans] = []

    def add(self, row: StrengthMeans) -> None:
        self._rows.append(row)
        if self._as_json:
            output.emit_line({"event": "strength", **row.record()})

    def table(self, n_lines: int) -> output.Renderable:
        if not self._rows:
            return output.text("")
        from steercpp.cli.views.strengths import strength_table

        return strength_table(sorted(self._rows, key=lambda row: row.strength), latest=self._rows[-1], n_lines=n_lines)
