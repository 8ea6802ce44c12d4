"""`steercpp show`: what is in a control-vector file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from steercpp.cli import output
from steercpp.cli.grouped_help import Command
from steercpp.cli.options.common import FILE, force_option, json_option
from steercpp.cli.words import in_options
from steercpp.encoding import printable
from steercpp.statistics.rounded import fixed, percent

if TYPE_CHECKING:
    from steercpp.vectors.control_vector import ControlVector

FIRST = ("method", "n_pairs", "pairs_sha256", "template", "token", "model_file", "model_sha256")
HEADINGS = {"agreement": "agree", "norm_ratio": "ratio", "stability": "stable"}  # within 80 columns
FORMS: Mapping[str, Callable[[float], str]] = {"explained": percent, "accuracy": percent} | dict.fromkeys(
    ("agreement", "auc", "norm_ratio", "stability"), partial(fixed, places=3)
)


@click.command(cls=Command)
@click.argument("vector_path", metavar="VECTOR", type=FILE)
@click.option("--figure", type=FILE, metavar="F.png|.svg", help="Draw the quality over the layers.")
@force_option("Replace a picture that is there.")
@json_option
def show(vector_path: Path, figure: Path | None, force: bool, as_json: bool) -> None:
    """Show the layers, norms, quality and origin of a control vector.

    VECTOR is a GGUF, npz or safetensors file, made by steercpp or by another tool. Notes say what to know before it is
    used. For what the quality of a layer means see steercpp extract.

    \b
    Example: steercpp show happy.gguf
             steercpp show happy.gguf --json | jq .layers
    """  # noqa: D301
    from steercpp.vectors.formats import read_any_vector

    if figure is not None:
        from steercpp.reports.pictures import refuse_picture

        refuse_picture(figure, force=force)
    vector, notes = read_any_vector(vector_path)
    data = describe(vector_path, vector, notes)
    if figure is not None:
        draw(figure, vector, force=force)
        data["figure"] = figure
    output.emit(data, as_json=as_json, render=lambda: pieces(data))


def draw(path: Path, vector: ControlVector, *, force: bool) -> None:
    """Write the picture of a vector's quality.

    Raises:
        InputError: the vector does not tell its quality, or the file cannot be written.
    """
    from steercpp.reports.pictures import write_picture
    from steercpp.reports.vector_figures import quality_figure

    write_picture(path, quality_figure(vector), force=force)


def describe(path: Path, vector: ControlVector, notes: Sequence[str]) -> dict[str, Any]:
    """A vector as plain data: the file, what it fits, a row for each layer, metadata, notes."""
    rows: list[dict[str, Any]] = [{"layer": il, "norm": norm} for il, norm in vector.norms.items()]
    metadata = dict(vector.metadata)
    for key, values in vector.layer_figures.items():
        del metadata[key]
        for row, value in zip(rows, values, strict=True):
            row[key] = value
    return {
        "file": str(path),
        "model_hint": vector.model_hint,
        "n_layer": vector.n_layer,
        "n_embd": vector.n_embd,
        "layers": rows,
        "metadata": metadata,
        "notes": [in_options(note) for note in notes],
    }


def pieces(data: dict[str, Any]) -> list[output.Renderable]:
    """What a person sees of a described vector, within 80 columns."""
    rows, metadata = data["layers"], data["metadata"]
    deepest = rows[-1]["layer"] + 1
    blocks = f"{data['n_layer']}" if metadata or data["n_layer"] > deepest else f"at least {deepest}"
    known = [
        ("for models", f"{_shown('', data['model_hint']) or 'of unknown architecture'}, width {data['n_embd']}"),
        ("blocks", blocks),
        *(
            (key.replace("_", " "), shown)
            for key in sorted(metadata, key=_place)
            if (shown := _shown(key, metadata[key]))
        ),
    ]
    names = [name for name in rows[0] if name != "majority"]  # of which a note tells where it is small
    cells = [[_cell(name, row[name]) for name in names] for row in rows]
    return [
        output.verbatim(data["file"], "bold"),
        output.facts(known),
        output.table([(HEADINGS.get(name, name), "right") for name in names], cells),
        *([output.verbatim(str(data["figure"]))] if "figure" in data else ()),
        *(output.text(f"note: {note}", "yellow") for note in data["notes"]),
    ]


def _place(key: str) -> tuple[int, str]:
    """What the vector was made of first, then the rest by name."""
    return (FIRST.index(key) if key in FIRST else len(FIRST)), key


def _cell(name: str, value: float) -> str:
    if name == "layer":
        return str(value)
    if name in FORMS:
        return FORMS[name](value)
    return f"{value:#.4g}" if 0.01 <= value < 10_000 else f"{value:.3g}"


def _shown(key: str, value: Any) -> str:
    items = value if isinstance(value, tuple) else (value,)
    line = ", ".join(f"{item:.4g}" if isinstance(item, float) else str(item) for item in items)
    if key.endswith("sha256"):
        line = f"{line[:16]}…"  # all of it is in --json
    return printable(line).replace("\n", "\\n")
