"""`steercpp report`: a run once more, from its store."""

from __future__ import annotations

from pathlib import Path

import click

from steercpp.cli import output


@click.command()
@click.argument("run", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--max-loss", type=click.FloatRange(0, 1, min_open=True, max_open=True),
              help="Another budget than the sweep's.")  # fmt: skip
@click.option("--direction", type=click.Choice(["+", "-"]), help="Another sign than the sweep's.")
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="Where to write.  [default: DIR itself]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")
def report(run: Path, max_loss: float | None, direction: str | None, out: Path | None, as_json: bool) -> None:
    """Draw a run again: figures, tables and summary, without a model.

    The figures are PNG and SVG, the tables CSV; they follow from the store and are written anew. An unfinished run
    shows the strengths that are finished.

    \b
    Example: steercpp report runs/refusal
             steercpp report runs/refusal --max-loss 0.1 --out report
    """  # noqa: D301
    from steercpp.report import write_report
    from steercpp.sweep_result import open_run

    sign = None if direction is None else 1 if direction == "+" else -1
    result = open_run(run)
    files = write_report(result, out=out, max_loss=max_loss, direction=sign)
    data = {**result.to_json(max_loss=max_loss, direction=sign), "files": files}

    def render() -> list[output.Renderable]:
        from steercpp.cli.summary import closing

        return closing(result, data, files)

    output.emit(data, as_json=as_json, render=render)
