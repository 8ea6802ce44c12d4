"""`steercpp transfer`: does a vector survive on another file of the model?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from steercpp.cli import output
from steercpp.cli.commands.scan import spread
from steercpp.cli.grouped_help import Command
from steercpp.cli.options.common import (
    FILE,
    direction_option,
    force_option,
    json_option,
    max_loss_option,
    parse_strengths,
    parse_token,
    refuse_all_tokens,
    seed_option,
)
from steercpp.cli.options.engine import EngineOptions, engine_options
from steercpp.cli.options.items import ItemOptions, item_options
from steercpp.cli.options.pairs import PairOptions, pair_options
from steercpp.cli.views.pieces import relative
from steercpp.statistics.rounded import chosen_percent, plus

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from steercpp.data.sets.embedded import DefaultModel
    from steercpp.experiments.transfer import Material, Transfer

HEADINGS = {"vector-on-a": "V on A", "vector-on-b": "V on B", "own-on-b": "own on B"}


@click.command(cls=Command)
@click.argument("a", metavar="A.gguf", type=FILE)
@click.argument("b", metavar="B.gguf", type=FILE)
@click.option("--vector", required=True, type=FILE, metavar="V", help="The vector, which is A's.")
@pair_options
@item_options
@click.option("--items", "n_items", type=click.IntRange(1), metavar="N",
              help="At most so many items of each kind, evenly spread.  "
                   "[default: all]")  # fmt: skip
@click.option("--method", metavar="M", help="How to extract A's and B's directions.  [default: as V was]")
@click.option("--token", callback=parse_token, metavar="WHICH",
              help="Whose activation, as in steercpp extract.  [default: as for V]")  # fmt: skip
@click.option(
    "--strengths", callback=parse_strengths, metavar="A:B:STEP",
    help="Grid in residual norms; 0 is always added.  [default: -0.05,0.05,0.1,0.2,0.4,0.8,1.6]",
)  # fmt: skip
@max_loss_option
@direction_option
@click.option("-o", "--out", type=FILE, metavar="DIR", help="Where the sweeps go.  [default: runs/A-B-transfer]")
@seed_option("halving and resampling items")
@engine_options
@force_option("Replace what is in the directory.")
@json_option
def transfer(
    a: Path,
    b: Path,
    vector: Path,
    pairs: PairOptions,
    items: ItemOptions,
    n_items: int | None,
    method: str | None,
    token: Any,
    strengths: tuple[float, ...] | None,
    max_loss: float,
    direction: int,
    out: Path | None,
    seed: int,
    options: EngineOptions,
    force: bool,
    as_json: bool,
) -> None:
    """Compare a vector on a model and on its quantization.

    With pairs, it shows the cosines between the directions they give on A and on B, and of V with both, at each layer.
    With behavior and choice items, it sweeps V on A, V on B and B's own vector on B, at V's layers, with pushes of
    equal length in residual norms. If A or B is the embedded model, its own pairs and items are used.

    \b
    Example: steercpp transfer model-f16.gguf model-q4_0.gguf --vector v.gguf \\
                 --pairs p.jsonl --behavior b.jsonl --task law_test.csv
    """  # noqa: D301
    refuse_all_tokens(token)
    from steercpp.experiments.transfer import transfer as compare
    from steercpp.reports.pictures import ensure_files
    from steercpp.vectors.formats import read_any_vector

    steered, notes = read_any_vector(vector)
    material = replace(
        _material(a, b, pairs, items, n_items),
        method=method, token=token, template=pairs.chosen_template, strengths=strengths,
        direction=direction, max_loss=max_loss, seed=seed,
    )  # fmt: skip
    folder = out or Path("runs", f"{a.stem}-{b.stem}-transfer")
    with output.kept_in(folder), output.progress(beside_data=as_json) as report:
        result = compare(a, b, steered, material, out=folder, open_engine=options.open, force=force, progress=report)
    files = ensure_files(folder, "transfer", result.record(), lambda: _figure(result))
    for note in notes:
        output.note(f"{vector}: {note}")
    data = {**result.record(), "vector": vector, "files": files}
    output.emit(data, as_json=as_json, render=lambda: _pieces(result, files))


def _material(a: Path, b: Path, pairs: PairOptions, items: ItemOptions, n_items: int | None) -> Material:
    """The files and sets that were named; the embedded model's own where it is A or B and none were.

    Raises:
        SteerError: a file cannot be used, or there is nothing to compare.
    """
    from steercpp.experiments.transfer import Material

    embedded = _embedded(a, b)
    source: Any = pairs.of_sets(items.data, items.limit).source()
    behavior: Sequence[Any] = items.behavior_items()
    choice: Sequence[Any] = items.choice_items()
    if embedded is not None:
        source = source or pairs.with_system(embedded.pairs())
        behavior = behavior or embedded.behavior()[: items.limit]
        choice = choice or embedded.choice()[: items.limit]
    return Material(source, spread(behavior, n_items), spread(choice, n_items))


def _embedded(*paths: Path) -> DefaultModel | None:
    """The embedded model, if one of these files is it."""
    from steercpp.data.sets.embedded import load
    from steercpp.provenance import file_sha256

    embedded = load()
    size = embedded.path.stat().st_size
    same = [path for path in paths if path.is_file() and path.stat().st_size == size]
    return embedded if any(file_sha256(path) == embedded.card["sha256"] for path in same) else None


def _figure(result: Transfer) -> Figure:
    from steercpp.experiments.figures import transfer_figure

    return transfer_figure(result)


def _pieces(result: Transfer, files: Sequence[Path]) -> list[output.Renderable]:
    stem = relative(files[0].with_suffix(""))
    kept = [f"{relative(result.folder)}/own-on-{side}.gguf" for side in "ab" if result.cosines]
    kept += [f"{relative(band.folder)}/" for band in result.bands.values()]
    return [
        output.facts([("A", output.verbatim(str(result.a))), ("B", output.verbatim(str(result.b)))]),
        *(_cosines(result) if result.cosines else ()),
        *(_effects(result) if result.bands else ()),
        output.blank(),
        output.text(result.conclusion, "bold"),
        *(output.text(f"note: {note}", "yellow") for note in result.notes),
        output.blank(),
        output.text("Files", "dim"),
        output.verbatim(f"  {stem}.json .png .svg"),
        *(output.verbatim(f"  {path}") for path in kept),
    ]


def _cosines(result: Transfer) -> list[output.Renderable]:
    columns: list[output.Column] = [("layer", "right"), ("A · B", "right"), ("V · A", "right"), ("V · B", "right")]
    rows: list[list[output.Cell]] = [
        [
            output.text(str(row.layer), "bold" if row.layer in result.layers else ""),
            *(_cosine(value) for value in (row.between, row.with_a, row.with_b)),
        ]
        for row in result.cosines
    ]
    return [
        output.blank(),
        output.table(columns, rows, title=f" Cosines, {result.method}"),
    ]


def _cosine(value: float) -> str:
    return plus(value, 4)


def _effects(result: Transfer) -> list[output.Renderable]:
    """B and P(correct) at each strength, side by side, then what each gains within the budget."""
    bands = result.bands
    columns: list[output.Column] = [("strength", "right")]
    columns += [(f"B: {HEADINGS[name]}", "right") for name in bands]
    columns += [(f"P: {HEADINGS[name]}", "right") for name in bands]
    strengths = next(iter(bands.values())).strengths
    rows: list[list[output.Cell]] = [
        [f"{s:+g}" if s else "0", *(plus(band.b[i]) for band in bands.values()),
         *(f"{band.p[i]:.3f}" for band in bands.values())]
        for i, s in enumerate(strengths)
    ]  # fmt: skip
    surest: list[tuple[str, output.Cell]] = []
    for name, band in bands.items():
        half = band.found.reported_on
        surest.append((HEADINGS[name], band.found.reason if half is None or not band.found.sure else
                       f"{plus(half.gain)} ≥ {plus(half.gain_low)} in B, at {band.found.strength:+g}"
                       ))  # fmt: skip
    title = f" B and P(correct), layers {_named(result)}, strengths in residual norms"
    return [
        output.blank(), output.table(columns, rows, title=title),
        output.text(f" Gain within a loss of {chosen_percent(result.max_loss)}", "bold"), output.facts(surest),
    ]  # fmt: skip


def _named(result: Transfer) -> str:
    from steercpp.vectors.layers import format_layers

    return format_layers(result.layers)
