"""`steercpp scan`: at which layers a model is best steered, and by which method's vector."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from steercpp.choices import UNITS, Unit
from steercpp.cli import output
from steercpp.cli.grouped_help import Command
from steercpp.cli.options.common import (
    FILE,
    direction_option,
    force_option,
    json_option,
    kl_option,
    max_loss_option,
    parse_strengths,
    refuse_all_tokens,
    refuse_idle_kl,
    seed_option,
    token_option,
)
from steercpp.cli.options.engine import EngineOptions, engine_options
from steercpp.cli.options.items import ItemOptions, answered, item_options
from steercpp.cli.options.pairs import PairOptions, pair_options
from steercpp.encoding import shell_line

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from steercpp.data.items import AnswerItem, BehaviorItem, ChoiceItem, OwnItem
    from steercpp.data.pairs import ContrastPair
    from steercpp.engine.engine import Engine
    from steercpp.experiments.scan import Band, Scan
    from steercpp.vectors.layers import Window


@click.command(cls=Command)
@click.argument("model", required=False, type=FILE)
@pair_options
@item_options
@click.option("--items", "n_items", type=click.IntRange(1), metavar="N",
              help="At most so many items of each kind, evenly spread.  "
                   "[default: all]")  # fmt: skip
@click.option("--windows", metavar="1,3",
              help="Widths of the windows of layers, ranges such as 8-15, or default for the default band alone.  "
                   "[default: 1 and the default band's width]")  # fmt: skip
@click.option("--layers", default="all", show_default=True, metavar="8-20", help="Layers that windows lie in.")
@click.option("--method", "methods", multiple=True, default=("mean",), show_default=True, metavar="M",
              help="How to extract, as in steercpp extract; may be repeated.")  # fmt: skip
@click.option(
    "--strengths", callback=parse_strengths, metavar="A:B:STEP",
    help="Grid, or a list; 0 is always added.  [default in norms: -0.05,0.05,0.1,0.2,0.4,0.8,1.6]",
)  # fmt: skip
@click.option("--unit", default="norm", show_default=True, type=click.Choice([*UNITS[1:], UNITS[0]]),
              help="What strength 1 adds per layer: one median residual norm, the smallest push of --kl nats, or a "
                   "unit of length.")  # fmt: skip
@kl_option()
@token_option
@max_loss_option
@direction_option
@click.option("-o", "--out", type=FILE, metavar="DIR", help="Where the sweeps go.  [default: runs/MODEL-PAIRS-scan]")
@seed_option("halving and resampling items")
@engine_options
@force_option("Replace the sweeps in the directory.")
@json_option
def scan(
    model: Path | None,
    pairs: PairOptions,
    items: ItemOptions,
    n_items: int | None,
    windows: str | None,
    layers: str,
    methods: tuple[str, ...],
    strengths: tuple[float, ...] | None,
    unit: Unit,
    kl: float | None,
    token: Any,
    max_loss: float,
    direction: int,
    out: Path | None,
    seed: int,
    options: EngineOptions,
    force: bool,
    as_json: bool,
) -> None:
    """Find the layers at which steering gains most for what it costs.

    Extracts a vector at all layers, then sweeps it at a few strengths at each single layer and at each window of
    consecutive layers. The best band has the largest certain gain in B within the budget of loss. Half of the items
    choose it; the other half give the figures. With several methods and one window, the table compares the methods.
    Without MODEL it scans the embedded model.

    Each sweep is a run that `steercpp report` opens. The same command goes on where it stopped.

    \b
    Example: steercpp scan
             steercpp scan model.gguf --pairs p.jsonl --behavior b.jsonl \\
                 --task law_test.csv --windows 1,5
             steercpp scan --windows default --method mean --method random
    """  # noqa: D301
    from steercpp.experiments.scan import check_methods
    from steercpp.experiments.scan import scan as run_all
    from steercpp.locks import refuse_second_writer
    from steercpp.reports.pictures import ensure_files
    from steercpp.sweeps.calibration import KL

    refuse_idle_kl(kl, unit)
    refuse_all_tokens(token)
    check_methods(methods)
    inputs = _gather(model, pairs, items, n_items)
    folder = out or Path("runs", f"{inputs.name}-scan")
    refuse_second_writer(folder)  # before the model is loaded
    view = _View()
    with (
        output.kept_in(folder),
        options.open(inputs.model) as engine,
        output.progress(above=view.table, beside_data=as_json) as report,
    ):
        result = run_all(
            engine, inputs.pairs, behavior=inputs.behavior, choice=inputs.choice, answer=inputs.answer,
            own=_answered(engine, inputs.own, folder, seed=seed, force=force, report=report), out=folder,
            windows=_windows(engine, windows, layers, inputs.band), methods=methods, strengths=strengths, unit=unit,
            kl=kl or KL, token="last" if token is None else token,
            direction=direction, max_loss=max_loss, seed=seed, template=pairs.template,
            force=force, progress=report, on_band=view.bands.append,
        )  # fmt: skip
    if not result.decoded_now:
        output.note(f"{folder}: finished already, nothing was computed; --force measures it again")
    files = ensure_files(folder, "scan", result.record(), lambda: _figure(result))
    data = {**result.record(), "items_of": inputs.of, "files": files}
    output.emit(data, as_json=as_json, render=lambda: _render(result, data, files, _next(model, pairs, token, result)))


@dataclass(frozen=True, slots=True)
class _ScanInputs:
    """What is scanned: the model, the pairs and items, the name of the folder, and how many items there were."""

    model: Path
    name: str
    pairs: Iterable[ContrastPair]
    behavior: Sequence[BehaviorItem]
    choice: Sequence[ChoiceItem]
    answer: Sequence[AnswerItem]
    own: Sequence[OwnItem]
    band: tuple[int, ...] | None
    of: dict[str, int]


def _gather(model: Path | None, pairs: PairOptions, items: ItemOptions, n_items: int | None) -> _ScanInputs:
    """Read the files and sets that were named and fill in what was not from the embedded model.

    Raises:
        SteerError: a file or a set cannot be used.
    """
    if model and not pairs:
        raise click.UsageError("MODEL needs --pairs P: what its directions are extracted from.")
    if model and not (items.behavior and items.tasks):
        raise click.UsageError("MODEL needs --behavior B and --task T, such as own: a scan weighs gain against loss.")
    given: Iterable[ContrastPair] | None = pairs.of_sets(items.data, items.limit).source()
    behavior: Sequence[BehaviorItem] = items.behavior_items()
    choice, answer, own = _helpful(items)
    band, path = None, model
    if path is None:
        from steercpp.data.sets.embedded import load

        embedded = load()
        path, band = embedded.path, embedded.layers
        given, behavior, choice = (
            given or pairs.with_system(embedded.pairs()),
            behavior or embedded.behavior()[: items.limit],
            choice or (() if answer or own else embedded.choice()[: items.limit]),
        )
    assert given is not None
    return _ScanInputs(
        model=path,
        name=f"{path.stem}-{pairs.name or 'refusal'}",
        pairs=given,
        behavior=spread(behavior, n_items),
        choice=spread(choice, n_items),
        answer=spread(answer, n_items),
        own=spread(own, n_items and 3 * n_items),  # of which every third is measured at all strengths
        band=band,
        of={
            kind: len(of_kind)
            for kind, of_kind in (("behavior", behavior), ("choice", choice), ("answer", answer), ("own", own))
            if of_kind
        },
    )


def _helpful(items: ItemOptions) -> tuple[Sequence[ChoiceItem], Sequence[AnswerItem], Sequence[OwnItem]]:
    """The items of helpfulness that were named, by kind.

    Raises:
        TaskError: a task has items that a scan does not take, or cannot be read.
    """
    from steercpp.data.items import AnswerItem, ChoiceItem, OwnItem, named
    from steercpp.errors import TaskError

    by_kind = items.task_items()
    for kind, others in by_kind.items():
        if kind not in ("choice", "answer", "own"):
            raise TaskError(f"{named(others[0])}: no item of a scan; give choice, answer or own items here")
    every = [item for of_kind in by_kind.values() for item in of_kind]
    return (
        [item for item in every if isinstance(item, ChoiceItem)],
        [item for item in every if isinstance(item, AnswerItem)],
        [item for item in every if isinstance(item, OwnItem)],
    )


def _answered(
    engine: Engine, requests: Sequence[OwnItem], folder: Path, *, seed: int, force: bool, report: output.Report | None
) -> Sequence[OwnItem]:
    """The requests with the answers that a sweep of the scan has, or new ones of the model."""
    runs = sorted(path.parent for path in folder.glob("*/sweep.sqlite")) or [folder]
    kept = answered(engine, {"own": requests}, runs[0], seed=seed, force=force, report=report)
    return kept.get("own", ())


def spread(items: Sequence[Any], at_most: int | None) -> Sequence[Any]:
    """Evenly spread items, all of them where there are no more."""
    if at_most is None or len(items) <= at_most:
        return items
    return [items[i * len(items) // at_most] for i in range(at_most)]


def _windows(engine: Engine, widths: str | None, layers: str, band: tuple[int, ...] | None) -> tuple[Window, ...]:
    from steercpp.vectors.layers import default_layers, parse_layers, parse_windows

    band = band or default_layers(engine.n_layer)
    within = parse_layers(layers, engine.n_layer)
    if widths is None:
        widths = f"1,{len(band)}" if len(within) >= len(band) else "1"
    return parse_windows(widths, within, band)


def _next(model: Path | None, pairs: PairOptions, token: str | int | None, result: Scan) -> list[str]:
    """The command that extracts the best band's vector."""
    if result.best is None:
        return []
    name = f"{(pairs.path or pairs.positive_file or Path('refusal')).stem}-{result.best.name}.gguf"
    return [
        "steercpp", "extract", *([str(model)] if model else []), *pairs.arguments(),
        *([] if token is None else ["--token", str(token)]), "--method", result.best.method,
        "--layers", result.best.name, "-o", name,
    ]  # fmt: skip


def _figure(result: Scan) -> Figure:
    from steercpp.experiments.figures import scan_figure

    return scan_figure(result)


class _View:
    """Sweeps as they are finished, in a table above the progress bar."""

    def __init__(self) -> None:
        self.bands: list[Band] = []

    def table(self, n_lines: int) -> output.Renderable:
        from steercpp.cli.views.scan import band_table

        if not self.bands:
            return output.text("")
        several = len({band.method for band in self.bands}) > 1
        return band_table(self.bands[-max(n_lines - 4, 1) :], best=None, methods=several)


def _render(result: Scan, data: dict[str, Any], files: Sequence[Path], command: list[str]) -> list[output.Renderable]:
    from steercpp.cli.views.scan import closing

    return closing(result, data["items_of"], files, shell_line(command) if command else "")
