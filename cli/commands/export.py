"""`steercpp export`: a run's numbers as one table."""

from __future__ import annotations

from pathlib import Path

import click

from steercpp.choices import TABLES, TableName
from steercpp.cli import output
from steercpp.cli.grouped_help import Command
from steercpp.cli.options.common import FILE, force_option, json_option


@click.command(cls=Command)
@click.argument("run", metavar="DIR", type=FILE)
@click.option(
    "--table", type=click.Choice(TABLES), default="items", show_default=True,
    help="Log-probabilities of every item, means at each strength, or generated texts.",
)  # fmt: skip
@click.option("-o", "--out", type=FILE, required=True, metavar="FILE", help="A name in .csv, .jsonl or .parquet.")
@force_option("Replace a file that is there.")
@json_option
def export(run: Path, table: TableName, out: Path, force: bool, as_json: bool) -> None:
    """Write a run's numbers as CSV, JSON Lines or Parquet.

    The run may be unfinished: what is measured is written. docs/measures.md has the columns. Parquet needs pyarrow
    (pip install 'steercpp[parquet]').

    \b
    Example: steercpp export runs/refusal -o refusal.parquet
             steercpp export runs/refusal --table texts -o texts.jsonl
    """  # noqa: D301
    from steercpp.runs.export import export_run
    from steercpp.runs.result import open_run

    n_rows = export_run(open_run(run), table, out, force=force)
    data = {"file": out, "table": table, "n_rows": n_rows}
    output.emit(data, as_json=as_json, render=lambda: [output.verbatim(f"{out}: {n_rows:,} rows of {table}")])
