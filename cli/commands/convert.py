"""`steercpp convert`: a control vector from one format, convention or strength to another."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from steercpp.choices import LAYER_CONVENTIONS, VECTOR_FORMATS, VectorFormat
from steercpp.cli import output
from steercpp.cli.commands.show import describe, pieces
from steercpp.cli.grouped_help import Command
from steercpp.cli.options.common import FILE, force_option, json_option
from steercpp.encoding import shell_word

if TYPE_CHECKING:
    from steercpp.vectors.control_vector import ControlVector


@click.command(cls=Command)
@click.argument("source", metavar="IN", type=FILE)
@click.argument("target", metavar="[OUT]", type=FILE, required=False)
@click.option("-o", "--out", type=FILE, metavar="OUT", help="The file to write, if it does not stand behind IN.")
@click.option(
    "--from", "from_format", type=click.Choice(VECTOR_FORMATS), help="What IN is.  [default: what is found in it]"
)
@click.option(
    "--to", "to_format", type=click.Choice(VECTOR_FORMATS), help="What OUT shall be.  [default: what its name says]"
)
@click.option("--bake", type=float, metavar="STRENGTH", help="Multiply, so that strength 1 is this strength of IN.")
@click.option("--layer-convention", type=click.Choice(LAYER_CONVENTIONS),
              help="cvector-generator: move each direction to the layer below, where that tool measured it. applied: "
                   "the layers are right.  [default: as they are]")  # fmt: skip
@click.option("--layers", metavar="8-15,20", help="Layers to keep, inclusive, counted in OUT.  [default: all]")
@click.option("--model-hint", default="", metavar="ARCH", help="Model architecture to write, like llama or qwen2.")
@force_option()
@json_option
def convert(
    source: Path,
    target: Path | None,
    out: Path | None,
    from_format: VectorFormat | None,
    to_format: VectorFormat | None,
    bake: float | None,
    layer_convention: str | None,
    layers: str | None,
    model_hint: str,
    force: bool,
    as_json: bool,
) -> None:
    """Write a vector in another format, at other layers or strengths.

    The values stay the same bit for bit, unless --bake multiplies them. GGUF is what llama.cpp, repeng and EasySteer
    read; npz and safetensors hold arrays named direction.LAYER.

    \b
    Example: steercpp convert happy.gguf happy.npz
             steercpp convert happy.gguf --bake 1.5 -o strong.gguf
             steercpp convert theirs.gguf right.gguf \\
                 --layer-convention cvector-generator
    """  # noqa: D301
    if (target is None) == (out is None):
        raise click.UsageError("convert writes one file: name it behind IN, or with --out.")
    from steercpp.errors import InputError, VectorFileError
    from steercpp.vectors.control_vector import baked
    from steercpp.vectors.formats import format_of_suffix, how_it_is_kept, read_any_vector, write_any_vector
    from steercpp.vectors.gguf import refuse_overwrite
    from steercpp.vectors.layers import parse_layers

    target = target or out
    assert target is not None
    kind = to_format or format_of_suffix(target)
    refuse_overwrite(target, force=force)
    vector, source_notes = read_any_vector(
        source, format=from_format or "auto", layer_convention=layer_convention, model_hint=model_hint
    )
    try:
        if layers is not None:
            vector = vector.restricted_to(parse_layers(layers, vector.n_layer))
        if bake is not None:
            vector = baked(vector, bake)
    except InputError as error:
        raise VectorFileError(f"{source}: {error}") from error
    write_any_vector(target, vector, format=kind, force=force)
    written, notes = read_any_vector(target, format=kind)
    kept = how_it_is_kept(vector)
    of_source = [f"{source}: {note}" for note in source_notes if note not in notes]
    data = describe(target, written, [*of_source, *notes, *([kept] if kept else ())]) | {"format": kind}
    output.emit(data, as_json=as_json, render=lambda: [*pieces(data), *next_steps(target, written, data)])


def next_steps(path: Path, vector: ControlVector, data: dict[str, Any]) -> list[output.Renderable]:
    """The llama.cpp option that steers with the file, where llama.cpp can."""
    if data["format"] != "gguf" or not vector.is_added_everywhere:
        return []
    name = shell_word(str(path))
    if "," in name:
        return [
            output.text("llama.cpp splits the name of a vector at a comma: rename the file to use it there.", "dim")
        ]
    baked_in = "baked_strength" in vector.metadata or ":" in name  # of which --control-vector-scaled takes one
    option = f"--control-vector {name}" if baked_in else f"--control-vector-scaled {name}:1.0"
    return [output.text("With llama.cpp:", "dim"), output.verbatim(f"llama-server -m MODEL.gguf {option}")]
