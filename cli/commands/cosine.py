"""`steercpp cosine`: how alike control vectors are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from steercpp.cli import output
from steercpp.cli.grouped_help import Command
from steercpp.cli.options.common import FILE, force_option, json_option
from steercpp.cli.words import in_options

if TYPE_CHECKING:
    from steercpp.vectors.control_vector import ControlVector

WIDE = 7  # vectors whose cosines are shown with two places after the point
ABREAST = 10  # columns of cosines that a terminal of 80 has room for


@click.command(cls=Command)
@click.argument("paths", metavar="VECTOR VECTOR...", nargs=-1, required=True, type=FILE)
@click.option("--figure", type=FILE, metavar="F.png|.svg", help="Draw the cosines too.")
@force_option("Replace a picture that is there.")
@json_option
def cosine(paths: tuple[Path, ...], figure: Path | None, force: bool, as_json: bool) -> None:
    """Show the cosines between vectors, at each layer and over all.

    "Over all layers" joins the tensors of a vector at the layers that both vectors have. Beside it stands the range in
    which 95% of the cosines of random directions lie.

    \b
    Example: steercpp cosine mean.gguf pca.gguf theirs.npz --figure cosines.png
    """  # noqa: D301
    if len(paths) < 2:
        raise click.UsageError("one vector is like itself; give two or more.")
    from steercpp.vectors.algebra import cosines, overall_cosines
    from steercpp.vectors.formats import read_any_vector

    if figure is not None:
        from steercpp.reports.pictures import refuse_picture

        refuse_picture(figure, force=force)
    read = [read_any_vector(path) for path in paths]
    vectors = [vector for vector, _ in read]
    by_layer = cosines(vectors, names=[str(path) for path in paths])
    used = sorted({il for vector in vectors for il in vector.layers})
    data = {
        "vectors": [_described(path, vector) for path, vector in zip(paths, vectors, strict=True)],
        "overall": overall_cosines(vectors),
        "layers": [{"layer": il, "cosines": by_layer[:, :, il]} for il in used],
        "chance": 1.96 / vectors[0].n_embd ** 0.5,
        "notes": [
            f"{path}: {in_options(note)}" for path, (_, notes) in zip(paths, read, strict=True) for note in notes
        ],
    }
    if figure is not None:
        from steercpp.reports.pictures import write_picture
        from steercpp.reports.vector_figures import cosine_figure
        from steercpp.vectors.names import vector_names

        write_picture(figure, cosine_figure(vector_names(paths), vectors), force=force)
        data["figure"] = figure
    hints = sorted({vector.model_hint for vector in vectors if vector.model_hint})
    if len(hints) > 1:
        data["notes"].append(f"made for models of different architecture: {', '.join(hints)}")
    output.emit(data, as_json=as_json, render=lambda: _pieces(data))


def _described(path: Path, vector: ControlVector) -> dict[str, Any]:
    return {
        "file": str(path),
        "method": vector.metadata.get("method"),
        "model_hint": vector.model_hint,
        "n_embd": vector.n_embd,
        "layers": list(vector.layers),
    }


def _pieces(data: dict[str, Any]) -> list[output.Renderable]:
    numbered = [(str(place), output.verbatim(vector["file"])) for place, vector in enumerate(data["vectors"], start=1)]
    n = len(numbered)
    pairs = [(i, j) for i in range(n) for j in range(i + 1, n) if n <= 4 or i == 0]
    return [
        output.facts(numbered),
        output.blank(),
        output.text("over all layers", "bold"),
        *_matrix(data["overall"]),
        output.blank(),
        output.text("at each layer" + ("" if n <= 4 else ", with vector 1 (others: --json, --figure)"), "bold"),
        *(_by_layer(data["layers"], pairs[at : at + ABREAST], n) for at in range(0, len(pairs), ABREAST)),
        output.blank(),
        output.text(f"chance: within ±{data['chance']:.3f}", "dim"),
        *(output.text(f"note: {note}", "yellow") for note in data["notes"]),
        *([output.verbatim(str(data["figure"]))] if "figure" in data else ()),
    ]


def _matrix(overall: Any) -> list[output.Renderable]:
    n = len(overall)
    tables: list[output.Renderable] = []
    for first in range(0, n, ABREAST):
        columns = range(first, min(first + ABREAST, n))
        rows = [["", *(_heading(str(j + 1)) for j in columns)]]
        rows += [[_heading(str(i + 1)), *(_cell(overall[i, j], n) for j in columns)] for i in range(n)]
        tables.append(output.grid(rows, "r" * (len(columns) + 1)))
    return tables


def _by_layer(layers: Sequence[dict[str, Any]], pairs: Sequence[tuple[int, int]], n: int) -> output.Renderable:
    rows = [[_heading("layer"), *(_heading(f"{i + 1}·{j + 1}") for i, j in pairs)]]
    rows += [[str(row["layer"]), *(_cell(row["cosines"][i, j], n) for i, j in pairs)] for row in layers]
    return output.grid(rows, "r" * (len(pairs) + 1))


def _heading(words: str) -> output.Cell:
    return output.text(words, "dim")


def _cell(cosine: float, n: int) -> str:
    if cosine != cosine:
        return "–"
    places = 2 if n > WIDE else 3
    return f"{round(cosine, places) + 0.0:+.{places}f}"  # + 0.0: no minus before a zero
