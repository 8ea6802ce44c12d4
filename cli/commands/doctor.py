"""`steercpp doctor`: whether this installation steers as it should, or what is wrong with a control vector."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from steercpp.cli import output
from steercpp.cli.grouped_help import Command
from steercpp.cli.options.common import FILE, force_option, json_option, parse_token
from steercpp.cli.options.engine import EngineOptions, engine_options
from steercpp.cli.options.pairs import PairOptions, pair_options
from steercpp.cli.words import in_options

if TYPE_CHECKING:
    from steercpp.doctor.installation import Diagnosis


@click.command(cls=Command)
@click.argument("vector", required=False, type=FILE)
@click.option("--model", type=FILE, metavar="MODEL", help="The model, or a file of `steercpp dump`; see above.")
@pair_options
@click.option("--token", callback=parse_token, metavar="WHICH",
              help="Whose activations of the pairs: last, mean, answer, or a position such as -2.  "
              "[default: as the file says, or last]")  # fmt: skip
@click.option("--repair", "out", type=FILE, metavar="OUT.gguf", help="Write a corrected vector there.")
@force_option()
@engine_options
@json_option
@click.pass_context
def doctor(
    ctx: click.Context,
    vector: Path | None,
    model: Path | None,
    pairs: PairOptions,
    token: Any,
    out: Path | None,
    force: bool,
    options: EngineOptions,
    as_json: bool,
) -> None:
    """Check this installation, or find and repair a vector's faults.

    Without VECTOR: shows versions, libraries and devices, and how to compile llama.cpp for a GPU that is here and not
    used; tests with MODEL (by default the embedded one) that steering is llama.cpp's own, bit for bit, and tells where
    another type of weights would be much faster on this CPU. MODEL is loaded in a process of its own, so that a file
    that crashes llama.cpp is told, and what its chat template does that others do not is listed.

    With VECTOR, a GGUF file of any tool: finds layers shifted by one, directions ruined by llama-cvector-generator's
    PCA, and what llama.cpp does not load. With --model also whether it fits that model, and with --pairs whether each
    direction points the way those pairs do, at the layer where it is. A file of `steercpp dump` stands for both.
    --repair writes a corrected file and says each change.

    Exit code 0 if all is well, or is so in the file that --repair wrote; 1 if not.

    \b
    Example: steercpp doctor
             steercpp doctor v.gguf --model model.gguf --pairs p.jsonl \\
                 --repair out.gguf
    """  # noqa: D301
    if vector is not None:
        from steercpp.cli.commands.doctor_vector import Examination, examine_vector

        ctx.exit(examine_vector(Examination(vector, model, pairs, token, out, force, as_json), options))
    if out or force or pairs or token is not None:
        raise click.UsageError("--pairs, --token, --repair and --force are for a VECTOR; name one.")
    from steercpp.doctor.installation import diagnose

    diagnosis = diagnose(model, options=options.keywords())
    output.emit(diagnosis.to_json(), as_json=as_json, render=lambda: _render(diagnosis))
    ctx.exit(0 if diagnosis.healthy else 1)


def _render(diagnosis: Diagnosis) -> list[output.Renderable]:
    pieces: list[output.Renderable] = [_heading("Versions"), output.facts(list(diagnosis.versions.items()))]
    pieces += [_heading("Machine"), output.facts(list(diagnosis.machine.items()))]
    pieces += [_heading("Sandbox for generated code"), output.text(diagnosis.sandbox)]
    pieces += [_heading("Libraries"), *(output.verbatim(file) for file in diagnosis.libraries)]
    pieces.append(_heading("Devices"))
    pieces.append(output.facts([(str(d["name"]), f"{d['description']}{_memory(d)}") for d in diagnosis.devices]))
    for advice in diagnosis.advice:
        pieces += [output.text(advice.finding, "yellow"), output.verbatim(advice.command)]
    if diagnosis.has_template:
        pieces.append(_heading("Chat template of the model"))
        pieces += [output.text(in_options(remark), "yellow") for remark in diagnosis.template]
        if not diagnosis.template:
            pieces.append(output.text("examined; nothing unusual was found"))
    pieces.append(_heading(f"Checks, with {diagnosis.model}" if diagnosis.model else "Checks"))
    for check in diagnosis.checks:
        mark = output.text("✓", "green") if check.ok else output.text("✗", "bold red")
        pieces.append(
            output.grid(
                [[mark, check.name], ["", output.text(in_options(check.detail), "dim" if check.ok else "red")]], "ll"
            )
        )
    verdict = (
        ("Everything is well.", "bold green") if diagnosis.healthy else ("Something is wrong, see above.", "bold red")
    )
    return [*pieces, output.blank(), output.text(*verdict)]


def _heading(words: str) -> output.Renderable:
    return output.text(f"\n{words}", "bold")


def _memory(device: dict[str, str | int]) -> str:
    total = int(device["total_bytes"])
    return f", {total / 2**30:.1f} GiB" if total else ""
