"""`steercpp extract`: a control vector from contrast pairs and a model, or from their activations."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from steercpp.choices import METHOD_NAMES
from steercpp.cli import output
from steercpp.cli.commands.show import describe, draw, pieces
from steercpp.cli.grouped_help import Command
from steercpp.cli.options.common import FILE, force_option, json_option, refuse_all_tokens, token_option
from steercpp.cli.options.engine import EngineOptions, engine_options
from steercpp.cli.options.pairs import PairOptions, pair_options, set_options
from steercpp.cli.options.prompts import note_chats, show_pairs, show_prompts_option
from steercpp.encoding import shell_line

if TYPE_CHECKING:
    from steercpp.data.pairs import ContrastPair
    from steercpp.vectors.control_vector import ControlVector


@click.command(cls=Command)
@click.argument("model", required=False, type=FILE)
@pair_options
@set_options
@click.option("--activations", type=FILE, metavar="A.safetensors", help="What steercpp dump wrote, instead of pairs.")
@click.option(
    "-o", "--out", type=FILE, metavar="V.gguf", help="The file to write; .npz or .safetensors too.  [required]"
)
@click.option("--method", default="mean", show_default=True, type=click.Choice(METHOD_NAMES), help="See above.")
@click.option("--layers", metavar="8-15,20", help="Layers, inclusive, or all; default: 0.31 to 0.44 of the depth.")
@token_option
@click.option("--figure", type=FILE, metavar="F.png|.svg", help="Draw the quality over the layers.")
@show_prompts_option
@engine_options
@force_option("Replace files that are there.")
@json_option
def extract(
    model: Path | None,
    pairs: PairOptions,
    activations: Path | None,
    out: Path | None,
    method: str,
    layers: str | None,
    token: Any,
    figure: Path | None,
    n_shown: int | None,
    options: EngineOptions,
    force: bool,
    as_json: bool,
) -> None:
    """Make a control vector for MODEL from contrast pairs.

    At each layer the direction from the negative to the positive activations is found by

    \b
    mean          the difference of the means
    pca           the first principal axis of the pair differences
    pca-centered  the same of the centred differences, as in the paper
    pca-pairs     that of the pairs' sides around their midpoint: pca, its
                  sign by most pairs, as repeng's pca_center
    logistic      the weights of a logistic regression
    lda           the difference of the means over the covariance
    random        a floor: a random direction, with the sign of mean

    Without MODEL the embedded model is used, and without pairs then its refusal pairs. --activations needs no model;
    with MODEL they must be that model's.

    How good each layer's direction is, by the pairs alone:

    \b
    explained     share of the pair differences' squared length along it
    agree         mean cosine between the differences of two pairs
    accuracy      held-out activations on their own side
    auc           held-out positive ones above negative ones
    ratio         mean difference over the norm of the activations
    stable        mean cosine with directions of resampled pairs

    \b
    Example: steercpp extract model.gguf --pairs refusal.jsonl -o refusal.gguf
             steercpp extract --activations refusal.safetensors --method lda \\
                 --layers all --figure quality.png -o lda.gguf
    """  # noqa: D301
    source = _Source(model, pairs, activations, method, layers, token)
    if n_shown:
        if activations:
            raise click.UsageError("--show-prompts shows pairs; --activations are of prompts that were read before.")
        show_pairs(model, pairs, n_shown, options, as_json=as_json)
        return
    if out is None:
        raise click.UsageError("Missing option '-o' / '--out'.")
    from steercpp.vectors.formats import format_of_suffix, read_any_vector, write_any_vector
    from steercpp.vectors.gguf import refuse_overwrite

    refuse_overwrite(out, force=force, inputs=(model, activations, *pairs.files))
    format_of_suffix(out)
    if figure is not None:
        from steercpp.reports.pictures import refuse_picture

        refuse_picture(figure, force=force)
    vector = source.from_activations(activations) if activations else source.from_pairs(options)
    write_any_vector(out, vector, force=force)
    written, notes = read_any_vector(out)
    data = describe(out, written, notes)
    if figure is not None:
        draw(figure, written, force=force)
        data["figure"] = figure
    output.emit(data, as_json=as_json, render=lambda: [*pieces(data), *_next(model, pairs, written, out)])


@dataclass(frozen=True, slots=True)
class _Source:
    """What the vector is made from, and how."""

    model: Path | None
    pairs: PairOptions
    activations: Path | None
    method: str
    layers: str | None
    token: Any

    def __post_init__(self) -> None:
        if self.activations and (self.pairs or self.pairs.chosen_template or self.pairs.system):
            raise click.UsageError("--activations are of pairs already; say what the pairs are to steercpp dump.")
        refuse_all_tokens(self.token)
        if self.model and not (self.pairs or self.activations):
            raise click.UsageError(
                "MODEL needs --pairs P or --activations A.safetensors; only the embedded model brings pairs of its own."
            )

    def from_pairs(self, options: EngineOptions) -> ControlVector:
        """Decode the pairs, and find the directions."""
        from steercpp.extraction.extract import extract as extract_vector
        from steercpp.vectors.layers import parse_layers

        model, wanted = self.model, None
        source: Iterable[ContrastPair] | None = self.pairs.source()
        if model is None or source is None:
            from steercpp.data.sets.embedded import load

            embedded = load()
            model, wanted = embedded.path, embedded.layers
            source = source or self.pairs.with_system(embedded.pairs())
        with options.open(model) as engine, output.progress() as report:
            if self.layers is not None:
                wanted = parse_layers(self.layers, engine.n_layer)
            extracted = extract_vector(
                engine, source, method=self.method, layers=wanted, template=self.pairs.template,
                token="last" if self.token is None else self.token, progress=report,
            )  # fmt: skip
            note_chats(engine, source, template=self.pairs.template)
            return extracted

    def from_activations(self, path: Path) -> ControlVector:
        """Find the directions in activations of a file; if there is a model, check that they are its."""
        from steercpp.engine.model_file import model_sha256
        from steercpp.extraction.activations_file import read_activations
        from steercpp.extraction.extract import extract_from
        from steercpp.vectors.layers import parse_layers

        stored = read_activations(path, token=self.token)
        if self.model is not None:
            stored.check_model(str(self.model), model_sha256(self.model))
        wanted: tuple[int, ...] | None = None
        if self.layers is not None and self.layers.strip() == "all":
            wanted = tuple(il for il in stored.layers if il) or stored.layers  # llama.cpp cannot steer block 0
        elif self.layers is not None:
            wanted = parse_layers(self.layers, int(stored.notes["n_layer"]))
        with output.progress() as report:
            return extract_from(stored, method=self.method, layers=wanted, progress=report)


def _next(model: Path | None, pairs: PairOptions, vector: ControlVector, out: Path) -> list[output.Renderable]:
    """The command that shows what the vector does; a model of the user's needs items, which built-in sets have."""
    from steercpp.data.sets.builtin import BEHAVIOR_SETS
    from steercpp.data.sets.embedded import load

    command = ["steercpp", "sweep", "--vector", str(out)]
    if model or vector.metadata.get("model_sha256") != load().card["sha256"]:
        command[2:2] = [str(model or vector.metadata.get("model_file", "MODEL.gguf"))]
        name = str(pairs.path)
        command += ["--behavior", name] if name in BEHAVIOR_SETS else ["--behavior", "B.jsonl", "--task", "T.jsonl"]
    return [output.text("Next, how hard it may push:", "dim"), output.verbatim(shell_line(command))]
