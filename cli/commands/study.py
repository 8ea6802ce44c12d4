"""`steercpp study`: the experiments of a preset, such as the paper's, with one command."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from steercpp.cli import output
from steercpp.cli.grouped_help import Command
from steercpp.cli.options.common import FILE, force_option, json_option, parse_strengths, seed_option
from steercpp.cli.options.engine import EngineOptions, engine_options
from steercpp.cli.options.spreading import SpreadingOptions, spreading_options
from steercpp.cli.views.matrix import duration, estimate_pieces, matrix_pieces, work_sentence
from steercpp.encoding import shell_word
from steercpp.statistics.rounded import significant

if TYPE_CHECKING:
    from steercpp.experiments.study.outcome import StudyOutcome
    from steercpp.experiments.study.preset import Preset, Role
    from steercpp.experiments.study.preview import Step

EMBEDDED = "embedded"


@click.command(cls=Command)
@click.argument("preset", required=False)
@click.option("--base", type=FILE, metavar="M.gguf|embedded", help="The base model's file.")
@click.option("--chat", type=FILE, metavar="M.gguf|embedded", help="The chat model's file.")
@click.option("--data", type=FILE, metavar="DIR", help="Folder of the data sets' official files.  "
                                                       "[default: what steercpp data get fetched]")  # fmt: skip
@click.option("--limit", type=click.IntRange(1), metavar="N", help="At most so many items or pairs of each name.")
@click.option("--strengths", callback=parse_strengths, metavar="A:B:STEP",
              help="One grid for all runs.  [default: the preset's]")  # fmt: skip
@click.option("--layers", default="", metavar="8-15", help="Layers of all vectors.  [default: the paper's band]")
@click.option("-o", "--out", type=FILE, metavar="DIR", help="Folder of the study.  [default: studies/PRESET]")
@seed_option("random directions, drawn texts and resampling")
@click.option("--allow-code-execution", "allow_code", is_flag=True,
              help="Run the programs that the model writes, in a sandbox; for presets with code.")  # fmt: skip
@click.option("--dry-run", is_flag=True,
              help="Show prompts, counts, token-layers and about how long it takes; measure nothing.")  # fmt: skip
@click.option("--print", "as_text", is_flag=True, help="Print the preset's file, to be changed to your own.")
@engine_options
@spreading_options
@force_option("Take the place of another study in the folder.")
@json_option
def study(
    preset: str | None,
    base: Path | None,
    chat: Path | None,
    data: Path | None,
    limit: int | None,
    strengths: tuple[float, ...] | None,
    layers: str,
    out: Path | None,
    seed: int,
    allow_code: bool,
    dry_run: bool,
    as_text: bool,
    options: EngineOptions,
    spreading: SpreadingOptions,
    force: bool,
    as_json: bool,
) -> None:
    """Run a whole study: vectors, sweeps, constants and reports.

    Without PRESET the presets are listed. A preset is a readable file: --print shows it, and a changed copy, whose name
    ends in .toml, can be given in its place. A file of your own may hold a matrix instead, models x vectors x layers x
    operators x sets: each combination is a run, and one report says which is best. Everything goes into one folder;
    what is finished is kept, and the same command goes on from there.

    \b
    Example: steercpp study
             steercpp study wolf2024/fairness-base --base b.gguf --dry-run
             steercpp study wolf2024/all --base b.gguf --chat c.gguf
             steercpp study matrix.toml --dry-run
    """  # noqa: D301
    from steercpp.experiments.study.preset import load_preset

    if preset is None:
        _list(as_json)
        return
    chosen = load_preset(preset)
    if as_text:
        output.emit({"preset": chosen.name, "text": chosen.text}, as_json=as_json,
                    render=lambda: [output.verbatim(chosen.text.rstrip())])  # fmt: skip
        return
    from steercpp.experiments.study.study import Choices
    from steercpp.experiments.study.study import study as measure

    models = _models(base, chat)
    grid = ",".join(map(repr, strengths or ()))
    choices = Choices(data, limit, grid, layers, seed, allow_code)
    folder = out or Path("studies", chosen.name.replace("/", "-"))
    if chosen.matrix is not None:
        _matrix(chosen, models, options, choices, folder, spreading, dry_run=dry_run, force=force, as_json=as_json)
        return
    if dry_run:
        _dry_run(chosen, models, options, choices, as_json)
        return
    with output.kept_in(folder), spreading.keywords() as where, output.progress(beside_data=as_json) as report:
        done = measure(
            chosen, models, load=options.open, out=folder, choices=choices, force=force, progress=report,
            executor=where["executor"], model_folders=where["models"],
        )  # fmt: skip
    output.emit(done.to_json(), as_json=as_json, render=lambda: _outcomes(done.outcomes, folder))


def _matrix(
    preset: Preset,
    models: dict[Role, Path],
    options: EngineOptions,
    choices: Any,
    folder: Path,
    spreading: SpreadingOptions,
    *,
    dry_run: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Estimate or measure a matrix; exit code 1 where a run could not be measured."""
    from steercpp.errors import SteerError
    from steercpp.experiments.study.matrix_estimate import estimate_matrix
    from steercpp.experiments.study.matrix_work import study_matrix

    if dry_run:
        found = estimate_matrix(preset, models, load=options.open, out=folder, choices=choices)
        output.emit({"preset": preset.name, **found.record()}, as_json=as_json, render=lambda: estimate_pieces(found))
        return
    with output.kept_in(folder), spreading.keywords() as where, output.progress(beside_data=as_json) as report:
        done = study_matrix(
            preset, models, load=options.open, out=folder, choices=choices, force=force, progress=report,
            on_estimate=lambda estimate: output.note(work_sentence(estimate)),
            executor=where["executor"], model_folders=where["models"],
        )  # fmt: skip
    output.emit(done.to_json(), as_json=as_json, render=lambda: matrix_pieces(done))
    if done.failure:
        raise SteerError(done.failure)


def _models(base: Path | None, chat: Path | None) -> dict[Role, Path]:
    """The model files that were named; the word "embedded" is the model that comes with the package."""
    models: dict[Role, Path] = {}
    given: tuple[tuple[Role, Path | None], ...] = (("base", base), ("chat", chat))
    for role, path in given:
        if path is not None and str(path) == EMBEDDED:
            from steercpp.data.sets.embedded import load

            path = load().path
        if path is not None:
            models[role] = path
    return models


def _list(as_json: bool) -> None:
    from steercpp.experiments.study.preset import load_preset, preset_names

    presets = [load_preset(name) for name in preset_names()]
    data = [
        {"name": preset.name, "about": preset.about, "source": preset.source, "models": preset.roles}
        for preset in presets
    ]
    output.emit({"presets": data}, as_json=as_json,
                render=lambda: [output.facts([(preset.name, preset.about) for preset in presets])])  # fmt: skip


def _dry_run(preset: Preset, models: dict[Role, Path], options: EngineOptions, choices: Any, as_json: bool) -> None:
    from steercpp.data.prompts import prompt_json
    from steercpp.experiments.study.preview import preview

    steps = preview(preset, models, load=options.open, choices=choices)
    data = {
        "preset": preset.name,
        "steps": [
            {
                "preset": step.preset, "title": step.title, "counts": step.counts, "tokens": step.n_tokens,
                "token_layers": step.token_layers, "tokens_drawn": step.n_drawn, "seconds": step.seconds,
                "prompts": {kind: {"prompt": prompt_json(prompt), "template": template}
                            for kind, (prompt, template) in step.prompts.items()},
            } for step in steps
        ],
        "token_layers": sum(step.token_layers for step in steps), "seconds": sum(step.seconds for step in steps),
    }  # fmt: skip
    needs_word = not choices.allow_code and any("code" in step.counts for step in steps)
    output.emit(data, as_json=as_json, render=lambda: _steps(steps, needs_word=needs_word))


def _steps(steps: Sequence[Step], *, needs_word: bool) -> list[output.Renderable]:
    """What would be done: a block for each part with its prompts, then a table with the sums."""
    pieces: list[output.Renderable] = []
    above = ""
    for step in steps:
        if step.preset != above:
            above = step.preset
            pieces += [output.text(above, "bold underline"), output.blank()]
        pieces.append(output.text(f"{step.title}: {_counted(step)}", "bold"))
        for kind, (prompt, template) in step.prompts.items():
            pieces += [output.text(f"first {kind} prompt, {template}", "dim"), output.verbatim(_text(prompt))]
        pieces.append(output.blank())
    columns: list[output.Column] = [
        ("part", "left"), ("tokens", "right"), ("token-layers", "right"), ("drawn", "right"), ("about", "right")
    ]  # fmt: skip
    rows: list[list[output.Cell]] = []
    for preset in dict.fromkeys(step.preset for step in steps):
        rows.append([output.text(preset, "bold"), *[""] * 4])
        rows += [_line(f"  {step.title.partition(':')[0]}", [step]) for step in steps if step.preset == preset]
    rows.append(_line("all", steps))
    note = "Nothing was measured; leave --dry-run out to begin."
    if needs_word:
        note += " Answers are programs, which run in a sandbox: --allow-code-execution is needed."
    return [*pieces, output.table(columns, rows), output.text(note, "dim")]


def _line(title: str, steps: Sequence[Step]) -> list[output.Cell]:
    """A line of the table, of one part or of several together."""
    sums = (sum(getattr(step, key) for step in steps) for key in ("n_tokens", "token_layers", "n_drawn"))
    return [title, *(f"{number:,}" for number in sums), duration(sum(step.seconds for step in steps))]


def _counted(step: Step) -> str:
    return ", ".join(f"{count:,} {what}" for what, count in step.counts.items())


def _text(prompt: Any) -> str:
    from steercpp.data.prompts import Filled

    if isinstance(prompt, Filled):
        return prompt.text
    return prompt if isinstance(prompt, str) else "\n".join(f"[{turn.role}] {turn.content}" for turn in prompt)


def _outcomes(outcomes: Sequence[StudyOutcome], folder: Path) -> list[output.Renderable]:
    """A table of all runs, the authors' figures under ours, and where everything is."""
    from steercpp.experiments.study.preset import FIGURES

    columns: list[output.Column] = [("B by", "left"), *((words, "right") for words in FIGURES.values())]
    pieces: list[output.Renderable] = []
    for outcome in outcomes:
        measures = outcome.rows()
        rows: list[list[output.Cell]] = [
            [row.measure, *(_figure(row.figures[key]) for key in FIGURES)] for row in measures
        ]
        if outcome.spec.paper:
            cells = [_figure(outcome.spec.paper.get(key, math.nan)) for key in FIGURES]
            rows.append([output.text("the authors' data", "dim"), *(output.text(cell, "dim") for cell in cells)])
        pieces.append(output.table(columns, rows, title=outcome.title))
        pieces += [output.text(f"{row.measure}: {reason}.", "yellow") for row in measures for reason in row.reasons]
        pieces += [output.verbatim(f"steercpp score {shell_word(str(outcome.result.folder))}"), output.blank()]
    return [*pieces, output.joined([(f"{folder / 'study.html'}", ""), (" shows all of it on one page", "dim")])]


def _figure(value: float) -> str:
    return "" if math.isnan(value) else significant(value, sign="+")
