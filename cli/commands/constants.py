"""`steercpp constants`: the theory's constants, measured on the model of a finished sweep."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from steercpp.choices import CONSTANTS_RECIPES, ConstantsRecipe
from steercpp.cli import output
from steercpp.cli.grouped_help import Command
from steercpp.cli.options.common import FILE, force_option, json_option
from steercpp.cli.options.engine import EngineOptions, engine_options

if TYPE_CHECKING:
    from steercpp.experiments.constants.derive import Constants
    from steercpp.runs.result import SweepResult


@click.command(cls=Command)
@click.argument("run", metavar="DIR", type=FILE)
@click.option("--model", type=FILE, metavar="M.gguf", help="Where the run's model is now.")
@click.option(
    "--recipe", default="steercpp", show_default=True, type=click.Choice(CONSTANTS_RECIPES),
    help="wolf2024: lines within 5 of strength 0, and that paper's choice of tokens for Delta beside ours.",
)  # fmt: skip
@engine_options
@force_option("Measure again.")
@json_option
def constants(
    run: Path, model: Path | None, recipe: ConstantsRecipe, options: EngineOptions, force: bool, as_json: bool
) -> None:
    """Measure the theory's constants on a finished sweep's model.

    Computes the items again at every strength of the run, on the same model: how far the logits and the last hidden
    state move (lambda), how that scatters over wrong answers and whether it is normal (sigma), and whether it separates
    aligned from misaligned answers, at the output and at each layer (Delta). For each assumption of the theory it
    prints the share of items for which it holds. Curves computed from the constants are drawn beside the measured ones;
    nothing is fitted to those.

    \b
    Example: steercpp constants runs/refusal
             steercpp constants runs/refusal --recipe wolf2024 --json
    """  # noqa: D301
    from steercpp.experiments.constants.measure import check_run
    from steercpp.experiments.constants.store import read_constants, write_constants
    from steercpp.locks import writing
    from steercpp.runs.folder import prepare
    from steercpp.runs.result import open_run

    result = open_run(run)
    check_run(result)
    measured = None if force else read_constants(run)
    known = measured is not None and measured.record["recipe"] == recipe
    if known:
        output.note(f"{run}: measured already, nothing was computed; --force measures again")
    else:
        copy_it = "constants are kept beside a run: copy it to where files can be written"
        with writing(run, otherwise=copy_it):
            prepare(run, otherwise=copy_it)
            measured = _measure(result, model, recipe, options, as_json)
            write_constants(run, measured)
    assert measured is not None
    files = _drawn(run, measured, needed=not known)
    data = {"run": run, **measured.record, "files": files}
    pieces = _pieces(result, measured, files)
    output.emit(data, as_json=as_json, render=lambda: pieces)


def _drawn(run: Path, measured: Constants, *, needed: bool) -> tuple[Path, ...]:
    """The figures; none, and why, where they cannot be written but are not needed: a run is shown wherever it lies."""
    from steercpp.errors import SteerError
    from steercpp.experiments.constants.figures import write_figures

    try:
        return write_figures(run, measured)
    except SteerError as error:
        if needed:
            raise
        output.note(f"{error}; shown without figures")
        return ()


def _measure(
    result: SweepResult, model: Path | None, recipe: ConstantsRecipe, options: EngineOptions, as_json: bool
) -> Constants:
    from steercpp.errors import RunError
    from steercpp.experiments.constants.measure import measure_constants

    manifest = result.manifest
    path = model or Path(manifest.model.path)
    if model is None and not path.is_file():
        raise RunError(f"{path}: the model of {result.folder} is not there any more; say where it is with --model")
    if options.n_ctx is None:
        options = replace(options, n_ctx=manifest.plan.engine.n_ctx)
    options = options.with_chats_of(manifest.plan.chat)
    with options.open(path) as engine, output.progress(beside_data=as_json) as report:
        return measure_constants(engine, result, recipe=recipe, progress=report)


def _pieces(result: SweepResult, measured: Constants, files: tuple[Path, ...]) -> list[output.Renderable]:
    from steercpp.experiments.constants.words import facts

    record = measured.record
    pieces = [_strengths(record)]
    if record["separation"] is not None:
        pieces.append(_layers(record))
    pieces.append(output.panel(output.facts(facts(record)), title=f"Constants of {result.manifest.model.file}"))
    if record["no_lens"]:
        pieces.append(output.text(f"note: layers are not read through the model's head: {record['no_lens']}", "yellow"))
    names = ["constants.json", "constants.npz", *(path.name for path in files)]
    return [*pieces, *(output.verbatim(str(result.folder / name)) for name in names)]


def _strengths(record: Mapping[str, Any]) -> output.Renderable:
    """A line for each strength: how far, how scattered, how normal, how separating."""
    norms, last = next(iter(record["norms"].values())), record["norm"]
    columns: list[output.Column] = [("strength", "right"), ("|Uδ|", "right"), ("|δ|", "right")]
    if record["noise"] is not None:
        columns += [(name, "right") for name in ("mean", "std", "skew", "kurt.", "p")]
    if record["separation"] is not None:
        columns += [("gap", "right"), ("> 0", "right")]
    rows = []
    for place, strength in enumerate(record["strengths"]):
        row = [f"{strength:+g}" if strength else "0", *(_cell(norms[name]["mean"][place]) for name in ("logits", last))]
        if record["noise"] is not None:
            at = record["noise"]["top10"]["at"][place]
            row += _noise(at) if at is not None else ["", "", "", "", ""]
        if record["separation"] is not None:
            gap = record["separation"]["gaps"]["continuations"]
            row += [_cell(gap["mean_gap"][place], "+z.2f"), _cell(gap["share_positive"][place], ".0%")]
        rows.append(row)
    sided = record["separation"] is not None and record["separation"]["of"] == "harmful"
    what = (
        "mean to p on the 10 likeliest tokens, gap of harmful items"
        if sided
        else "noise: mean to p, on the 10 likeliest tokens"
    )
    return output.table(columns, rows, title=f"At each strength; {what}")


def _noise(at: Mapping[str, Any]) -> list[str]:
    shape = [_cell(at[name][0], form) for name, form in (
        ("mean", "+z.2f"), ("std", ".2f"), ("skew", "+z.2f"), ("excess_kurtosis", "+z.2f"))]  # fmt: skip
    p = at["test"]["p"]
    return [*shape, "–" if p is None or p != p else "<.001" if p < 0.001 else f"{p:.3f}"]


def _layers(record: Mapping[str, Any]) -> output.Renderable:
    """A line for each layer from the first steered one up, at the reference strength."""
    columns: list[output.Column] = [
        (name, "right") for name in ("layer", "λ = d|δ|/ds", "margin", "cosine", "own pair", "AUC", "gap by head")
    ]
    rows = []
    for layer in record["separation"]["layers"]:
        lens = "–" if layer["lens"] is None else _cell(layer["lens"]["gap"][0], "+z.2f")
        margin, cosine = _cell(layer["margin"][0], "+.3g"), _cell(layer["cosine"][0], "+z.3f")
        row = [str(layer["layer"]), _cell(layer["lambda"][0]), margin, cosine]
        rows.append([*row, _cell(layer["accuracy"][0], ".0%"), _cell(layer["auc"][0], ".2f"), lens])
    return output.table(columns, rows, title=f"At each layer, strength {record['reference_strength']:+g}")


def _cell(value: float | None, form: str = ".3g") -> str:
    return "–" if value is None or value != value else format(value, form)
