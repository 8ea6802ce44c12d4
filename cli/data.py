"""`steercpp data`: which data sets can be read, and what is in a copy of one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from steercpp.cli import output

JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")


@click.group()
def data() -> None:
    """Data sets in the formats in which their authors publish them.

    Both commands print one JSON document with --json.

    \b
    Example: steercpp data list
             steercpp data show mmlu data --subject international_law
    """  # noqa: D301


@data.command("list")
@JSON
def list_sets(as_json: bool) -> None:
    """List the data sets by name.

    With each: what it holds, the file that it is read from, its licence, and where on github.com it is published.

    \b
    Example: steercpp data list
             steercpp data list --json | jq -r '.data_sets[].name'
    """  # noqa: D301
    from steercpp.datasets import DATA_SETS

    keys = ("name", "about", "path", "parts", "licence", "source")
    sets = [{key: getattr(each, key) for key in keys} for each in DATA_SETS.values()]
    facts = [(each.name, f"{each.about}\n{each.path}\n{each.licence}; {each.source}") for each in DATA_SETS.values()]
    output.emit({"data_sets": sets}, as_json=as_json, render=lambda: [output.facts(facts)])


@data.command("show")
@click.argument("name")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--subject", help="mmlu: one subject of the folder, such as international_law.  [default: all]")
@click.option("--split", help="mmlu: dev, val or test; instructions: train, val or test.  [default: test; train]")
@click.option("--side", help="instructions: harmful or harmless.  [default: harmful]")
@click.option("--bias-type", help="stereoset: race, profession, gender or religion.  [default: all]")
@click.option("--task", help="stereoset: intersentence or intrasentence.  [default: both]")
@click.option("--rows", "n_rows", type=click.IntRange(min=0), default=2, show_default=True, help="Rows to print.")
@JSON
def show_set(
    name: str,
    path: Path,
    subject: str | None,
    split: str | None,
    side: str | None,
    bias_type: str | None,
    task: str | None,
    n_rows: int,
    as_json: bool,
) -> None:
    """Check a copy of a data set and show its first rows.

    All rows of the data set NAME are read and counted; every field of the first is printed as it stands. PATH is the
    official file, or for mmlu and instructions the folder of files; see steercpp data list.

    \b
    Example: steercpp data show advbench harmful_behaviors.csv
             steercpp data show stereoset dev.json --bias-type race --json
             steercpp data show mmlu data --subject international_law
    """  # noqa: D301
    from dataclasses import asdict

    from steercpp.datasets import data_set

    chosen = {"subject": subject, "split": split, "side": side, "bias_type": bias_type, "task": task}
    found = data_set(name)
    parts = {key: value for key, value in chosen.items() if value is not None}
    rows = found.rows(path, parts=parts)
    result = {
        "name": name,
        "path": path,
        "parts": parts,
        "licence": found.licence,
        "n_rows": len(rows),
        "counted_by": found.group,
        "counts": found.counts(rows),
        "rows": [asdict(row) for row in rows[:n_rows]],
    }
    output.emit(result, as_json=as_json, render=lambda: pieces(result))


def pieces(result: dict[str, Any]) -> list[output.Renderable]:
    """What a person sees of a data set: how many rows, of which kinds, and the first of them."""
    known = [
        ("data set", result["name"]),
        *((key.replace("_", " "), part) for key, part in result["parts"].items()),
        ("rows", f"{result['n_rows']:,}"),
        ("licence", result["licence"]),
    ]
    shown: list[output.Renderable] = [output.verbatim(str(result["path"]), "bold"), output.facts(known)]
    if len(result["counts"]) > 1:
        columns: Sequence[output.Column] = [(result["counted_by"].replace("_", " "), "left"), ("rows", "right")]
        shown.append(output.table(columns, [[kind, f"{count:,}"] for kind, count in result["counts"].items()]))
    for row in result["rows"]:
        fields = [(key, _shown(value)) for key, value in row.items() if key != "place"]
        shown += [output.blank(), output.verbatim(row["place"], "dim"), output.facts(fields)]
    return shown


def _shown(value: Any) -> str:
    """A text as it is, the items of a list on a line each, anything else as JSON."""
    if isinstance(value, tuple):
        return "\n".join(map(_shown, value))
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
