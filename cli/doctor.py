"""`steercpp doctor`: whether this installation steers as it should."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from steercpp.cli import output

if TYPE_CHECKING:
    from steercpp.doctor import Diagnosis


@click.command()
@click.option(
    "--model", type=click.Path(path_type=Path), metavar="MODEL", help="Model to test with.  [default: embedded]"
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")
@click.pass_context
def doctor(ctx: click.Context, model: Path | None, as_json: bool) -> None:
    """Check that this installation steers as it should.

    Shows versions, libraries and devices, and how to compile llama.cpp for a GPU that is here and not used; tests with
    a model that steering is llama.cpp's own, bit for bit. Exit code 0 if every check holds, 1 if one does not.

    \b
    Example: steercpp doctor
             steercpp doctor --model model.gguf --json | jq .checks
    """  # noqa: D301
    from steercpp.doctor import diagnose

    found = diagnose(model)
    output.emit(found.to_json(), as_json=as_json, render=lambda: _render(found))
    ctx.exit(0 if found.healthy else 1)


def _render(found: Diagnosis) -> list[output.Renderable]:
    pieces: list[output.Renderable] = [_heading("Versions"), output.facts(list(found.versions.items()))]
    pieces += [_heading("Machine"), output.facts(list(found.machine.items()))]
    pieces += [_heading("Libraries"), *(output.verbatim(file) for file in found.libraries)]
    pieces.append(_heading("Devices"))
    pieces.append(output.facts([(str(d["name"]), f"{d['description']}{_memory(d)}") for d in found.devices]))
    for advice in found.advice:
        pieces += [output.text(advice.finding, "yellow"), output.verbatim(advice.command)]
    pieces.append(_heading(f"Checks, with {found.model}" if found.model else "Checks"))
    for check in found.checks:
        mark = output.text("✓", "green") if check.ok else output.text("✗", "bold red")
        pieces.append(
            output.grid([[mark, check.name], ["", output.text(check.detail, "dim" if check.ok else "red")]], "ll")
        )
    verdict = ("Everything is well.", "bold green") if found.healthy else ("Something is wrong, see above.", "bold red")
    return [*pieces, output.blank(), output.text(*verdict)]


def _heading(words: str) -> output.Renderable:
    return output.text(f"\n{words}", "bold")


def _memory(device: dict[str, str | int]) -> str:
    total = int(device["total_bytes"])
    return f", {total / 2**30:.1f} GiB" if total else ""
