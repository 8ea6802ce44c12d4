"""`steercpp dump`: the activations of contrast pairs, in a file from which vectors are made without the model."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from steercpp.cli import output
from steercpp.cli.grouped_help import Command
from steercpp.cli.options.common import FILE, force_option, json_option, parse_token
from steercpp.cli.options.engine import EngineOptions, engine_options
from steercpp.cli.options.pairs import PairOptions, pair_options, set_options
from steercpp.cli.options.prompts import note_chats, show_pairs, show_prompts_option
from steercpp.encoding import shell_line

if TYPE_CHECKING:
    from steercpp.data.pairs import ContrastPair
    from steercpp.extraction.activations import Activations


@click.command(cls=Command)
@click.argument("model", required=False, type=FILE)
@pair_options
@set_options
@click.option("-o", "--out", type=FILE, metavar="A.safetensors", help="The file to write.  [required]")
@click.option("--layers", metavar="8-15,20", default="all", show_default=True, help="Layers, inclusive.")
@click.option(
    "--token",
    default="last",
    show_default=True,
    callback=parse_token,
    metavar="WHICH",
    help="last, mean, answer, a position such as -2, or all.",
)
@show_prompts_option
@engine_options
@force_option()
@json_option
def dump(
    model: Path | None,
    pairs: PairOptions,
    out: Path | None,
    layers: str,
    token: Any,
    n_shown: int | None,
    options: EngineOptions,
    force: bool,
    as_json: bool,
) -> None:
    """Write the activations of contrast pairs to a safetensors file.

    A prompt, with its answer if the pair has one, is decoded once; from the file `steercpp extract` makes vectors by
    any method without the model. What stands for a prompt is the activation of

    \b
    last    its last token
    mean    all its tokens but the begin-of-sequence token at the start, averaged
    answer  its answer's tokens, averaged
    -2      the token at a position, from 0 on, or from the end
    all     each token; extract chooses later

    Without MODEL the embedded model is used, and without pairs then its refusal pairs.

    \b
    Example: steercpp dump model.gguf --pairs refusal.jsonl -o refusal.safetensors
    """  # noqa: D301
    if model and not pairs:
        raise click.UsageError("MODEL needs --pairs P; only the embedded model brings pairs of its own.")
    if n_shown:
        show_pairs(model, pairs, n_shown, options, as_json=as_json)
        return
    if out is None:
        raise click.UsageError("Missing option '-o' / '--out'.")
    from steercpp.errors import ActivationsFileError
    from steercpp.extraction.activations_file import dump as write
    from steercpp.files import refuse_overwrite
    from steercpp.vectors.layers import parse_layers

    refuse_overwrite(out, force=force, error=ActivationsFileError, inputs=(model, *pairs.files))
    source: Iterable[ContrastPair] | None = pairs.source()
    if model is None or source is None:
        from steercpp.data.sets.embedded import load

        embedded = load()
        model, source = embedded.path, source or pairs.with_system(embedded.pairs())
    with options.open(model) as engine, output.progress() as report:
        wanted = None if layers == "all" else parse_layers(layers, engine.n_layer)
        try:
            dumped = write(
                engine,
                source,
                out,
                layers=wanted,
                token=token,
                template=pairs.template,
                force=force,
                progress=None if report is None else lambda done, total: report(done, total, "prompts"),
            )
        except KeyboardInterrupt:
            output.note(f"{out} was not written")
            raise
        note_chats(engine, source, template=pairs.template)
    data = _described(out, dumped) | {"token": str(token)}  # of "all" one choice is read back
    output.emit(data, as_json=as_json, render=lambda: _pieces(data))


def _described(out: Path, dumped: Activations) -> dict[str, Any]:
    return {
        "path": out,
        "n_bytes": out.stat().st_size,
        "n_pairs": dumped.n_pairs,
        "n_embd": dumped.n_embd,
        "layers": dumped.layers,
        **dumped.notes,
    }


def _pieces(data: dict[str, Any]) -> list[output.Renderable]:
    from steercpp.vectors.layers import format_layers

    rows: list[tuple[str, output.Cell]] = [
        ("file", output.verbatim(str(data["path"]))),
        ("holds", f"{data['n_pairs']} pairs, {data['n_bytes'] / 2**20:,.1f} MiB"),
        ("layers", f"{format_layers(data['layers'])} of {data['n_layer']}, n_embd {data['n_embd']}"),
        ("token", f"{data['token']}, template {data['template']}"),
        ("model", f"{data['model_file']} ({data['architecture']})"),
    ]
    command = ["steercpp", "extract", "--activations", str(data["path"]), "-o", "V.gguf"]
    return [
        output.facts(rows),
        output.blank(),
        output.text("Next, a vector from it:", "dim"),
        output.verbatim(shell_line(command)),
    ]
