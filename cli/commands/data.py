"""`steercpp data`: which data sets can be read, where they come from, and what is in a copy of one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from steercpp.cli import output
from steercpp.cli.grouped_help import Command
from steercpp.cli.options.common import FILE, json_option
from steercpp.cli.views.sets import built_in, listed, shown

if TYPE_CHECKING:
    from steercpp.errors import DataSetError

DATA = click.option("--data", "folder", type=FILE, metavar="DIR",
                    help="Where to look for it.  [default: STEERCPP_DATA, then what data get fetched]")  # fmt: skip
FIRST_USE = "not known before: recorded, and compared from now on"  # a sha256


@click.group()
def data() -> None:
    """List, fetch and show published data sets.

    All commands print one JSON document with --json.

    \b
    Example: steercpp data list
             steercpp data get mmlu
             steercpp data show mmlu --subject international_law
    """  # noqa: D301


@data.command("list", cls=Command)
@DATA
@json_option
def list_sets(folder: Path | None, as_json: bool) -> None:
    """List the data sets by name.

    With each: what it holds, what it can be named for (--behavior, --task, --pairs), the file that it is read from, its
    licence, where it is published, and where it is on this machine. Sets that are built in come last.

    \b
    Example: steercpp data list
             steercpp data list --json | jq -r '.data_sets[].name'
    """  # noqa: D301
    from steercpp.data.sets.catalog import DATA_SETS

    keys = ("name", "about", "path", "parts", "licence", "source")
    sets = [{**{key: getattr(data_set, key) for key in keys}, **_whereabouts(name, folder)}
            for name, data_set in DATA_SETS.items()]  # fmt: skip
    embedded = listed()
    rows = [*map(_line, sets), *((card["name"], f"{card['about']}\n{_uses(card)}; built in") for card in embedded)]
    output.emit({"data_sets": sets, "built_in": embedded}, as_json=as_json, render=lambda: [output.facts(rows)])


def _whereabouts(name: str, folder: Path | None) -> dict[str, Any]:
    """What a set is good for, where a copy lies, and what could not be verified of it."""
    from steercpp.data.sets.names import BEHAVIOR, PAIRS, TASKS
    from steercpp.data.sets.sources import SOURCES, data_folders, find_set
    from steercpp.errors import DataSetError

    data_folders(folder)
    try:
        here: Path | None = find_set(name, folder)
    except DataSetError:
        here = None
    uses = [option for option, names in (("behavior", BEHAVIOR), ("task", TASKS), ("pairs", PAIRS)) if name in names]
    source = SOURCES[name]
    return {"for": uses, "here": here, "unverified": source.note, "is_fetched": bool(source.files)}


def _line(card: dict[str, Any]) -> tuple[str, str]:
    fetch = f"steercpp data get {card['name']}" if card["is_fetched"] else f"clone github.com/{card['source']}"
    there = f"here: {card['here']}" if card["here"] else f"not here: {fetch}"
    about = [card["about"], _uses(card), card["path"], f"{card['licence']}; {card['source']}"]
    return card["name"], "\n".join([*about, *([card["unverified"]] if card["unverified"] else []), there])


def _uses(card: dict[str, Any]) -> str:
    return f"for {', '.join(f'--{use}' for use in card['for'])}"


@data.command("get", cls=Command)
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--base-url", metavar="URL",
              help="A mirror, which has NAME/file below it.  [default: STEERCPP_DATA_URL, or the authors' own "
                   "addresses]")  # fmt: skip
@click.option("--cache", type=FILE, metavar="DIR", help="Where to put it.  [default: the user's cache]")
@json_option
def get_sets(names: tuple[str, ...], base_url: str | None, cache: Path | None, as_json: bool) -> None:
    """Fetch data sets from where their authors publish them.

    A file is kept if its sha256 is the known one; where none is known, if it is read with as many rows as the official
    file has, and its sha256 is printed and recorded. What is there already is not fetched again. The licences are
    those of the sets' authors: read them before you use or pass on a set. Where one cannot be fetched, the others are
    all the same.

    \b
    Example: steercpp data get xstest humaneval
             steercpp data get mmlu --cache data
             steercpp sweep model.gguf --vector v.gguf --behavior xstest \\
                 --task mmlu:international_law --shots 5 --data data
    """  # noqa: D301
    from steercpp.data.sets.catalog import data_set
    from steercpp.data.sets.fetching import fetch_set
    from steercpp.data.sets.sources import SOURCES
    from steercpp.errors import DataSetError

    embedded = [name for name in names if name in built_in()]
    sets = [data_set(name) for name in names if name not in embedded]
    for name in embedded:
        output.note(f"{name}: built in, nothing needs to be fetched")
    fetched_sets: list[dict[str, Any]] = []
    failed: dict[str, DataSetError] = {}
    for wanted in sets:
        note = f"; {SOURCES[wanted.name].note}" if SOURCES[wanted.name].note else ""
        output.note(f"{wanted.name}: {wanted.licence}, github.com/{wanted.source}{note}")
        try:
            with output.progress() as report:
                fetched = fetch_set(wanted.name, base_url=base_url, cache=cache, progress=report)
        except DataSetError as error:
            failed[wanted.name] = error
            continue
        fetched_sets.append({"name": wanted.name, "licence": wanted.licence, **asdict(fetched)})
    if fetched_sets or not failed:
        output.emit({"data_sets": fetched_sets}, as_json=as_json, render=lambda: [output.facts(_fetched(fetched_sets))])
    _raise(failed)


def _raise(failed: Mapping[str, DataSetError]) -> None:
    """Raise what went wrong, if anything; of several sets the reasons come first, on stderr."""
    from steercpp.errors import DataSetError

    if len(failed) == 1:
        raise next(iter(failed.values()))
    for name, error in failed.items():
        output.note(f"{name}: {error}")
    if failed:
        raise DataSetError(f"{', '.join(failed)}: not fetched, for the reasons above; what else was named is there")


def _fetched(sets: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """What a person sees of sets that are there now."""
    rows = []
    for fetched in sets:
        files = [
            f"{file['sha256']} {'as known' if file['is_known'] else FIRST_USE}, {file['n_rows']:,} rows, "
            f"{'fetched' if file['is_new'] else 'was there'}"
            for file in fetched["files"]
        ]
        rows.append((fetched["name"], "\n".join([str(fetched["path"]), *files])))
    return rows


@data.command("show", cls=Command)
@click.argument("name")
@click.argument("path", required=False, type=FILE)
@click.option("--subject", help="mmlu: one subject of the folder, such as international_law.  [default: all]")
@click.option(
    "--split",
    help="mmlu: dev, val or test; gsm8k: train or test; instructions: train, val or test.  "
    "[default: test; test; train]",
)
@click.option("--side", help="instructions: harmful or harmless.  [default: harmful]")
@click.option("--bias-type", help="stereoset, crows-pairs: one kind of bias, such as gender.  [default: all]")
@click.option("--kind", help="harmbench: standard, contextual or copyright.  [default: all]")
@click.option("--category", help="bbq: one category, such as Age.  [default: all]")
@click.option("--task", help="stereoset: intersentence or intrasentence.  [default: both]")
@DATA
@click.option("--rows", "n_rows", type=click.IntRange(min=0), default=2, show_default=True, help="Rows to print.")
@json_option
def show_set(
    name: str,
    path: Path | None,
    folder: Path | None,
    subject: str | None,
    split: str | None,
    side: str | None,
    bias_type: str | None,
    kind: str | None,
    category: str | None,
    task: str | None,
    n_rows: int,
    as_json: bool,
) -> None:
    """Check a copy of a data set and show its first rows.

    All rows of the data set NAME are read and counted; every field of the first is printed as it stands. PATH is the
    official file, or for mmlu, bbq, gsm8k and instructions the folder of files; without it the set is looked for where
    commands that take its name find it. A built-in set is shown with its card. See steercpp data list.

    \b
    Example: steercpp data show advbench
             steercpp data show honesty
             steercpp data show stereoset dev.json --bias-type race --json
             steercpp data show mmlu data --subject international_law
    """  # noqa: D301
    from steercpp.data.sets.catalog import DATA_SETS, data_set
    from steercpp.data.sets.records import known
    from steercpp.data.sets.sources import find_set

    if path is not None and folder is not None:
        raise click.UsageError("PATH and --data exclude each other: the set is named, or looked for.")
    given = {"subject": subject, "split": split, "side": side, "bias_type": bias_type, "kind": kind,
             "category": category, "task": task}  # fmt: skip
    parts = {key: value for key, value in given.items() if value is not None}
    if path is None and name in built_in():
        _show_built_in(name, folder, parts, n_rows, as_json)
        return
    official = data_set(known(name, (*built_in(), *DATA_SETS), "data set"))
    if path is None:
        path = find_set(name, folder)
        if path.is_dir() and not official.parts:
            raise click.UsageError(f"{name} has several files below {path}: name one of them as PATH.")
    rows = official.rows(path, parts=parts)
    result = {
        "name": name,
        "path": path,
        "parts": parts,
        "licence": official.licence,
        "n_rows": len(rows),
        "counted_by": official.group,
        "counts": official.counts(rows),
        "rows": [asdict(row) for row in rows[:n_rows]],
    }
    output.emit(result, as_json=as_json, render=lambda: pieces(result))


def _show_built_in(name: str, folder: Path | None, parts: Mapping[str, str], n_rows: int, as_json: bool) -> None:
    from steercpp.cli.views.sets import pieces as pieces_of

    if folder is not None or parts:
        raise click.UsageError(f"{name} is built in and shown whole: leave out --data and the options of parts.")
    result = shown(name, n_rows)
    output.emit(result, as_json=as_json, render=lambda: pieces_of(result))


def pieces(result: dict[str, Any]) -> list[output.Renderable]:
    """What a person sees of a data set: how many rows, of which kinds, and the first of them."""
    known = [
        ("data set", result["name"]),
        *((key.replace("_", " "), value) for key, value in result["parts"].items()),
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
