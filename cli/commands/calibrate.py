"""`steercpp calibrate`: the strength at which a vector changes a model's predictions by so many nats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from steercpp.choices import SIGNS
from steercpp.cli import output
from steercpp.cli.grouped_help import Command
from steercpp.cli.options.common import FILE, Finite, force_option, json_option
from steercpp.cli.options.engine import EngineOptions, engine_options
from steercpp.cli.options.items import ItemOptions, item_options
from steercpp.cli.options.pairs import PairOptions, pair_options
from steercpp.cli.options.vectors import model_or_embedded, named_vector
from steercpp.cli.words import in_options
from steercpp.encoding import shell_line

if TYPE_CHECKING:
    from steercpp.aliases import Tokens
    from steercpp.engine.engine import Engine
    from steercpp.sweeps.calibration import Calibration
    from steercpp.vectors.control_vector import ControlVector


@click.command(cls=Command)
@click.argument("model", required=False, type=FILE)
@click.option("--vector", "vector_path", type=FILE, metavar="V", help="The control vector.")
@click.option("-o", "--out", required=True, type=FILE, metavar="OUT.gguf", help="The same with what was found.")
@click.option("--text", type=FILE, metavar="FILE.txt", help="Any text, read in pieces of 512 tokens.")
@pair_options
@item_options
@click.option("--kl", default=0.1, show_default=True, type=Finite(0, min_open=True), help="The target, nats.")
@click.option("--quantile", default=0.95, show_default=True, type=Finite(0, 1, min_open=True),
              help="Over the tokens: this share of them has at most the target.")  # fmt: skip
@click.option("--sign", default="+", show_default=True, type=click.Choice(SIGNS), help="Of the strength.")
@click.option("--layers", metavar="8-15,20", help="Keep the vector at these layers only.")
@engine_options
@force_option()
@json_option
def calibrate(
    model: Path | None,
    vector_path: Path | None,
    out: Path,
    text: Path | None,
    pairs: PairOptions,
    items: ItemOptions,
    kl: float,
    quantile: float,
    sign: str,
    layers: str | None,
    options: EngineOptions,
    force: bool,
    as_json: bool,
) -> None:
    """Find the strength that changes predictions by a given KL.

    Finds the smallest strength at which KL(steered || unsteered) of the next token reaches the target at 95% of the
    tokens of a text, and shows how long that push is at each layer. The vector's tensors stay as they are; the result
    is written into OUT, as keys steercpp.calibration.*. Rounding alone causes some KL, which is measured first: with
    quantized weights the target must lie well above it.

    Texts: one of --text, --pairs, --behavior or --task. Without MODEL the embedded model is used, by default with its
    refusal vector on its behavior items. To sweep or generate in units of that push: --unit kl.

    \b
    Example: steercpp calibrate model.gguf --vector refusal.gguf \\
                 --behavior refusal.behavior.jsonl -o refusal-kl.gguf
    """  # noqa: D301
    texts = _Texts(text, pairs.of_sets(items.data, items.limit), items)
    if model and not vector_path:
        raise click.UsageError("MODEL needs --vector V; only the embedded model brings one of its own.")
    if model and not texts:
        raise click.UsageError("MODEL needs --text, --pairs, --behavior or --task: what to calibrate on.")
    from steercpp.errors import SteerError
    from steercpp.sweeps.calibration import calibrate as find
    from steercpp.vectors.formats import format_of_suffix, write_any_vector
    from steercpp.vectors.gguf import refuse_overwrite

    format_of_suffix(out)
    refuse_overwrite(out, force=force, inputs=(model, text, *items.files, *pairs.files))
    with options.open(model_or_embedded(model)) as engine, output.progress() as report:
        vector = named_vector(engine, vector_path, layers, report)
        tokens = texts.tokens(engine)
        result = find(engine, vector, tokens, kl=kl, quantile=quantile, sign=1 if sign == "+" else -1, progress=report)
        path = engine.path
    try:
        write_any_vector(out, result.described(vector), force=force)
    except SteerError:
        output.note(f"strength {result.strength:g} has {result.kl:.4g} nats of KL")  # at least this is not lost
        raise
    data = _data(result, {"file": out, "vector": vector_path, "model": path}, len(tokens), vector)
    output.emit(data, as_json=as_json, render=lambda: [*_pieces(data), *_next(model, out, result)])


@dataclass(frozen=True, slots=True)
class _Texts:
    """What to calibrate on: one kind of text."""

    text: Path | None
    pairs: PairOptions
    items: ItemOptions

    def __post_init__(self) -> None:
        if sum(map(bool, (self.text, self.pairs, self.items.behavior, self.items.tasks))) > 1:
            raise click.UsageError("--text, --pairs, --behavior and --task exclude each other: give one kind of text.")

    def __bool__(self) -> bool:
        return bool(self.text or self.pairs or self.items)

    def tokens(self, engine: Engine) -> list[Tokens]:
        from steercpp.data.sets.embedded import load
        from steercpp.sweeps.calibration_texts import file_texts, item_texts, pair_texts

        if self.text:
            return file_texts(engine, self.text)
        if (source := self.pairs.source()) is not None:
            return pair_texts(engine, source, template=self.pairs.template)
        if self.items.tasks:
            return item_texts(engine, self.items.choice_items())
        return item_texts(engine, self.items.behavior_items() or load().behavior()[: self.items.limit])


def _data(result: Calibration, files: dict[str, Any], n_texts: int, vector: ControlVector) -> dict[str, Any]:
    return {
        **files,
        "strength": result.strength,
        "target": result.target,
        "quantile": result.quantile,
        "kl": result.kl,
        "kl_median": result.kl_median,
        "kl_max": result.kl_max,
        "floor": result.floor,
        "doubt": in_options(result.doubt),
        "n_texts": n_texts,
        "n_tokens": result.n_tokens,
        "prompts_sha256": result.prompts_sha256,
        "model_sha256": result.model_sha256,
        "layers": [
            {"layer": il, "norm": norm, "residual_norm": result.residual_norms[il], "length": result.lengths[il],
             "share": result.shares[il]}
            for il, norm in vector.norms.items()
        ],
        "tried": [{"strength": strength, "kl": kl} for strength, kl in result.tried],
    }  # fmt: skip


def _pieces(data: dict[str, Any]) -> list[output.Renderable]:
    quantile = f"{100 * data['quantile']:g}% quantile"
    n_tokens, n_texts = f"{data['n_tokens']:,}", f"{data['n_texts']:,}"
    rows = [
        (str(row["layer"]), f"{row['residual_norm']:.4g}", f"{row['length']:.4g}", f"{row['share']:.1%}")
        for row in data["layers"]
    ]
    columns = ("layer", "residual norm", "length of the push", "share")
    return [
        output.verbatim(str(data["file"]), "bold"),
        output.text(f"Strength {data['strength']:+.4g} has {data['kl']:.4g} nats of KL", "bold green"),
        output.facts([
            ("tokens", f"{n_tokens} of {n_texts} {'text' if data['n_texts'] == 1 else 'texts'}"),
            (quantile, f"{data['kl']:.4g} nats, {data['target']:g} asked for"),
            ("median", f"{data['kl_median']:.3g} nats"),
            ("largest", f"{data['kl_max']:.3g} nats"),
            ("floor", f"{data['floor']:.2g} nats by rounding alone, at the same quantile"),
        ]),
        *([output.text(f"note: {data['doubt']}", "yellow")] if data["doubt"] else ()),
        output.table([(name, "right") for name in columns], rows),
    ]  # fmt: skip


def _next(model: Path | None, out: Path, result: Calibration) -> Sequence[output.Renderable]:
    """The command that sweeps in units of such a push; a model of the user's needs items to be measured on."""
    command = ["steercpp", "sweep", "--vector", str(out), "--unit", "kl", "--kl", f"{result.target:g}"]
    if result.strength < 0:
        command += ["--direction", "-"]
    if model:
        command[2:2] = [str(model)]
        command += ["--behavior", "B.jsonl", "--task", "T.jsonl"]
    return [
        output.text("Next, a sweep in units of such pushes, measured on its own items:", "dim"),
        output.verbatim(shell_line(command)),
    ]
