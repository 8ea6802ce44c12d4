"""The options that let other processes and machines measure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from steercpp.cli.options.common import FILE, Decorator, grouped


@dataclass(frozen=True, slots=True)
class SpreadingOptions:
    """Who measures: `workers` processes here, the cluster of a Dask scheduler, or this process where both are None."""

    workers: int | None
    dask: str | None
    models: tuple[Path, ...]

    def __post_init__(self) -> None:
        if self.workers is not None and self.dask is not None:
            raise click.UsageError("--workers are processes here and --dask those of a cluster: give one of them")
        if self.models and self.workers is None and self.dask is None:
            raise click.UsageError("--models is for workers: give --workers or --dask with it")

    @contextmanager
    def keywords(self) -> Iterator[Mapping[str, Any]]:
        """Keywords of `sweep`; a cluster is left at the end.

        Raises:
            WorkerError: it cannot be reached.
        """
        if self.dask is None:
            yield {"executor": self.workers, "models": self.models}
            return
        from steercpp.sweeps.dask_cluster import cluster

        with cluster(self.dask) as executor:
            yield {"executor": executor, "models": self.models}


def spreading_options(command: Any) -> Any:
    """Add --workers, --dask and --models; they become one argument, `spreading`."""
    return grouped("spreading", SpreadingOptions, _OPTIONS)(command)


_OPTIONS: tuple[Decorator, ...] = (
    click.option(
        "--workers", type=click.IntRange(1), metavar="N", help="Measure in N processes, which share the threads."
    ),
    click.option("--dask", metavar="tcp://HOST:PORT", help="Measure on the workers of this Dask scheduler."),
    click.option(
        "--models", multiple=True, type=FILE, metavar="DIR",
        help="Where workers look for the model, beside its path here; may be repeated.",
    ),
)  # fmt: skip
