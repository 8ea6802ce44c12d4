"""`steercpp extract`: a control vector from a model and contrast pairs."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from steercpp.cli import output
from steercpp.cli.engine_options import EngineOptions, engine_options
from steercpp.cli.show import describe, pieces

if TYPE_CHECKING:
    from steercpp.pairs import ContrastPair

FILE = click.Path(path_type=Path)
METHODS = ("mean", "pca", "pca-centered", "pca-pairs", "logistic", "lda", "random")  # as in directions.METHODS


@click.command()
@click.argument("model", required=False, type=FILE)
@click.option("--pairs", "pairs_path", type=FILE, metavar="P.jsonl", help="Contrast pairs.")
@click.option("-o", "--out", required=True, type=FILE, metavar="V.gguf", help="The file to write.")
@click.option("--method", default="mean", show_default=True, type=click.Choice(METHODS), help="See above.")
@click.option("--layers", metavar="8-15,20", help="Layers, inclusive, or all; default: 0.31 to 0.44 of the depth.")
@click.option("--raw", "template", flag_value="raw", help="Take each prompt as it stands.")
@click.option("--chat", "template", flag_value="chat", help="Make a plain text the user's message of a chat.")
@engine_options
@click.option("--force", is_flag=True, help="Replace a file that is there.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")
def extract(
    model: Path | None,
    pairs_path: Path | None,
    out: Path,
    method: str,
    layers: str | None,
    template: Literal["raw", "chat"] | None,
    options: EngineOptions,
    force: bool,
    as_json: bool,
) -> None:
    """Make a control vector for MODEL from contrast pairs.

    Each line of the pairs file is {"positive": ..., "negative": ...}: texts, taken as they stand, or lists of chat
    messages, which go through the model's chat template. At each layer the direction from the negative to the positive
    activations of the last token is found by

    \b
    mean          the difference of the means
    pca           the first principal axis of the pair differences
    pca-centered  the same of the centred differences, as in the paper

    Without MODEL the embedded model is used, and without --pairs then its refusal pairs.

    \b
    Example: steercpp extract llama-2-7b-chat.Q4_K_M.gguf --pairs refusal.jsonl -o refusal.gguf
    """  # noqa: D301
    if model and not pairs_path:
        raise click.UsageError("MODEL needs --pairs P.jsonl; only the embedded model brings pairs of its own.")
    from steercpp.control_vector import parse_layers
    from steercpp.extraction import extract as extract_vector
    from steercpp.gguf_vector import read_vector_with_notes, refuse_overwrite, write_vector
    from steercpp.pairs import read_pairs

    refuse_overwrite(out, force=force)
    again = _next(model, out)
    pairs: Sequence[ContrastPair] = read_pairs(pairs_path) if pairs_path else ()
    wanted: tuple[int, ...] | None = None
    if model is None:
        from steercpp.default_model import load

        own = load()
        model, pairs, wanted = own.path, pairs or own.pairs(), own.layers
    with options.open(model) as engine, output.progress() as report:
        if layers is not None:
            wanted = parse_layers(layers, engine.n_layer)
        vector = extract_vector(
            engine, pairs, method=method, layers=wanted, template=template or "auto", progress=report
        )
    write_vector(out, vector, force=force)
    data = describe(out, *read_vector_with_notes(out))
    output.emit(data, as_json=as_json, render=lambda: [*pieces(data), *again])


def _next(model: Path | None, out: Path) -> list[output.Renderable]:
    """The command that shows what the vector does; a model of the user's needs items to be measured on."""
    command = ["steercpp", "sweep", "--vector", str(out)]
    if model:
        command[2:2] = [str(model)]
        command += ["--behavior", "B.jsonl", "--task", "T.jsonl"]
    return [output.text("Next, how hard it may push:", "dim"), output.verbatim(shlex.join(command))]
