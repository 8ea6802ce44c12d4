"""`steercpp plan`: what a sweep would take on any number of machines."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from steercpp.choices import MODEL_SHAPES, QUANTS
from steercpp.cli import output
from steercpp.cli.grouped_help import Command
from steercpp.cli.options.common import FILE, Decorator, Finite, force_option, json_option
from steercpp.errors import InputError

if TYPE_CHECKING:
    from steercpp.bench.models import Shape
    from steercpp.bench.plan import Forecast
    from steercpp.bench.speed import Speed
    from steercpp.bench.sweep_size import SweepSize

FOLDER = click.Path(path_type=Path, file_okay=False)


def _numbers(_: click.Context, __: click.Parameter, value: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in value.split(","))
    except ValueError:
        raise click.BadParameter(f"{value!r} is no list of numbers; write it as 1,2,4") from None


def _count(option: str, name: str, default: int, help: str, least: int = 1) -> Decorator:
    return click.option(option, name, default=default, show_default=True, type=click.IntRange(least), help=help)


@click.command(cls=Command)
@click.argument("model", required=False, type=FILE)
@click.option("--shape", type=click.Choice(MODEL_SHAPES),
              help="In place of MODEL: sizes of Llama 2 and its small kin.  [default: 7b]")  # fmt: skip
@click.option("--quant", type=click.Choice(QUANTS), help="Type of the weights.  [default: q4_0; of MODEL, its own]")
@_count("--n-items", "n_items", 44, "Behavior and choice items.")
@_count("--tokens-per-item", "tokens_per_item", 40, "Tokens of a prompt.")
@_count("--answer-tokens", "answer_tokens", 4, "Tokens of each of an item's two continuations.")
@_count("--own", "n_own", 200, "Everyday requests that the model answers itself; 0 for none.", least=0)
@_count("--strengths", "n_strengths", 17, "How many strengths, 0 among them.", least=2)
@_count("--directions", "n_directions", 9, "Random and orthogonal directions.", least=0)
@_count("--instruction-tokens", "instruction_tokens", 16, "Of the prompt baseline's instruction; 0: without.", least=0)
@_count("--texts", "n_texts", 0, "Items that are continued by texts at every strength.", least=0)
@_count("--max-tokens", "text_tokens", 64, "Tokens of each text.")
@_count("--samples", "samples", 1, "Texts of an item at each strength.")
@click.option("--layers", "first_layer", type=click.IntRange(1), metavar="FIRST",
              help="The lowest layer that is steered.  [default: of the default band]")  # fmt: skip
@click.option("--find/--no-find", "finds", default=True, show_default=True,
              help="Whether layers, strengths and the model's own words are found before.")  # fmt: skip
@click.option("--workers", "counts", default="1,2,4,8,16,32,64", show_default=True, metavar="N,...", callback=_numbers,
              help="Numbers of machines.")  # fmt: skip
@click.option("--price", default=0.0, show_default=True, type=Finite(0), help="Of a machine for an hour.")
@click.option("--disk-mb-s", default=500.0, show_default=True, type=Finite(0, min_open=True),
              help="Megabytes a second at which a machine reads its model.")  # fmt: skip
@click.option("--threads", type=click.IntRange(1), help="CPU threads of a machine.  [default: physical cores]")
@click.option("--seconds", default=60.0, show_default=True, type=Finite(0, min_open=True),
              help="For the calibration, about; large models take longer.")  # fmt: skip
@click.option("--cpu-time", is_flag=True,
              help="Calibrate in seconds of the CPU, with --threads 1, where others use the machine too.")  # fmt: skip
@click.option("--calibration", type=FILE, metavar="FILE", help="A calibration that was kept, in place of a new one.")
@click.option("--elsewhere", is_flag=True, help="It may be another machine's, for which the plan is.")
@click.option("-o", "--out", type=FILE, metavar="FILE", help="Keep the calibration here.")
@force_option()
@click.option("--cache", type=FOLDER, metavar="DIR", help="Folder for random models.  [default: the user's cache]")
@json_option
def plan(
    model: Path | None,
    shape: str | None,
    quant: str | None,
    first_layer: int | None,
    counts: tuple[int, ...],
    price: float,
    disk_mb_s: float,
    threads: int | None,
    seconds: float,
    cpu_time: bool,
    finds: bool,
    calibration: Path | None,
    elsewhere: bool,
    out: Path | None,
    force: bool,
    cache: Path | None,
    as_json: bool,
    **counted: int,
) -> None:
    """Forecast a sweep: its time, memory and cost on N machines.

    Runs the passes of a sweep on models with random weights of the same width and few blocks, for about a minute, and
    reckons the whole from them. Leave the machine alone meanwhile.

    \b
    Example: steercpp plan --shape 13b --workers 1,4,16 --price 0.5
             steercpp plan model.gguf --n-items 500 --texts 100 -o speed.json
             steercpp plan --calibration speed.json --strengths 41
    """  # noqa: D301
    from steercpp.bench.models import SHAPES
    from steercpp.bench.plan import plan as reckon
    from steercpp.bench.plan import shape_name
    from steercpp.bench.speed import measure_speed, read_speed, sizes_of
    from steercpp.bench.sweep_size import SweepSize
    from steercpp.files import refuse_overwrite

    size = SweepSize(finds=finds, **counted)
    if model is not None and shape is not None:
        raise click.UsageError("MODEL and --shape exclude each other: a model has its own sizes.")
    asked = sizes_of(model) if model is not None else (SHAPES[shape] if shape else None, None)
    asked_shape, asked_quant = asked[0], quant or asked[1]
    if calibration is not None:
        speed = read_speed(calibration, elsewhere=elsewhere)
        _refuse_other(speed, calibration, asked_shape, asked_quant, threads)
    else:
        if out is not None:
            refuse_overwrite(out, force=force, error=InputError)
        with output.progress() as report:
            speed = measure_speed(
                asked_shape or SHAPES["7b"], asked_quant or "q4_0", size, threads=threads, cache=cache,
                budget_s=seconds, is_cpu_time=cpu_time, progress=report,
            )  # fmt: skip
        if out is not None:
            speed.write(out, force=force)
    forecast = reckon(speed, size, n_workers=counts, price=price, disk_mb_s=disk_mb_s, first_layer=first_layer)
    name = f"{shape_name(speed.shape, SHAPES)} {speed.quant}"
    record = {"model": name, **forecast.to_json(), "price": price, "disk_mb_s": disk_mb_s, "speed": speed.to_json()}
    output.emit(record, as_json=as_json, render=lambda: _render(name, forecast, speed, size, disk_mb_s))


def _refuse_other(speed: Speed, path: Path, shape: Shape | None, quant: str | None, threads: int | None) -> None:
    """See that a calibration is what is asked for, where anything is."""
    from steercpp.bench.models import SHAPES
    from steercpp.bench.plan import shape_name

    if (shape or speed.shape, quant or speed.quant) != (speed.shape, speed.quant):
        raise InputError(
            f"{path}: the calibration is of {shape_name(speed.shape, SHAPES)} {speed.quant}; measure the other model, "
            "or leave its options out"
        )
    if threads not in (None, speed.threads):
        s = "" if speed.threads == 1 else "s"
        raise InputError(f"{path}: the calibration is of {speed.threads} thread{s}; measure again for {threads}")


def _render(name: str, forecast: Forecast, speed: Speed, size: SweepSize, disk_mb_s: float) -> list[output.Renderable]:
    from steercpp.bench.plan import START_S
    from steercpp.runs.scope import duration

    alone, memory, work = sum(forecast.alone.values()), forecast.memory, forecast.work
    verdict = f"A sweep of {name} takes about {duration(alone)} on one machine, and {_gigabytes(memory.total)} there."
    columns: list[output.Column] = [
        ("machines", "right"), ("time", "right"), ("speed-up", "right"), ("machine-hours", "right"), ("cost", "right")
    ]  # fmt: skip
    rows = [
        (str(course.n_workers), duration(course.seconds), f"{course.speed_up:.1f}", f"{course.machine_hours:.2f}",
         f"{course.cost:.2f}" if course.cost else "")
        for course in forecast.courses
    ]  # fmt: skip
    costs: list[output.Column] = [
        ("microseconds", "left"), ("of a token in a block", "right"), ("of a token besides", "right"),
        ("spread", "right"),
    ]  # fmt: skip
    measured = [
        (way, f"{1e6 * cost.token_layer_s:,.1f}", f"{1e6 * cost.token_s:,.1f}", f"±{cost.spread:.0%}")
        for way, cost in speed.costs.items()
    ]  # fmt: skip
    stages = [(stage, duration(seconds)) for stage, seconds in forecast.alone.items()]
    token_layers = [
        ("token-layers", f"{work.measured:,}, of items"), ("", f"{work.to_find:,}, to find what is measured, about"),
        ("", f"{work.texts:,}, of texts, at most"),
    ]  # fmt: skip
    kind = "CPU time" if speed.is_cpu_time else "time"
    s = "" if speed.threads == 1 else "s"
    assumed = [
        f"Machines are equal: {speed.cpu}, {speed.threads} thread{s}. Nothing else runs on them.",
        f"Each reads its model at {disk_mb_s:g} MB/s and takes {START_S:g} s to start.",
        "What is found before (layers, strengths, the model's own words) is found by one, while the others wait.",
        f"Items of {size.tokens_per_item} tokens share nothing but their first one.",
        "Networks cost nothing; the report at the end is left out.",
    ]
    return [
        output.text(verdict, "bold"),
        output.table(columns, rows),
        output.text("On one machine", "bold"),
        output.facts([*stages, *token_layers, *_memory(forecast)]),
        output.blank(),
        output.text(
            f"Calibration: {kind} on {speed.cpu}, {speed.threads} thread{s}, {speed.n_rounds} rounds, {speed.when}",
            "bold",
        ),
        output.table(costs, measured),
        output.text("Assumptions", "bold"),
        *(output.bullet(sentence) for sentence in assumed),
    ]


def _memory(forecast: Forecast) -> list[tuple[str, str]]:
    memory = forecast.memory
    return [
        ("weights", _gigabytes(memory.weights)), ("K and V", _gigabytes(memory.kv)),
        ("kept rows", _gigabytes(memory.kept)), ("logits", _gigabytes(memory.logits)),
    ]  # fmt: skip


def _gigabytes(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:.0f} MB"
