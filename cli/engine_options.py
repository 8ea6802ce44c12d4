"""The options that every command with a model has, and the engine they make."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

if TYPE_CHECKING:
    from steercpp.engine import Engine


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How the model is run, as the user asked."""

    threads: int | None
    n_ctx: int | None
    n_batch: int
    gpu_layers: int
    flash_attn: Literal["off", "on", "auto"]

    def open(self, model: Path) -> Engine:
        """Load the model.

        Raises:
            SteerError: it cannot be loaded, or not with these options.
        """
        from steercpp.engine import Engine

        return Engine(
            model,
            n_ctx=self.n_ctx,
            n_batch=self.n_batch,
            threads=self.threads,
            n_gpu_layers=self.gpu_layers,
            flash_attn=self.flash_attn,
        )


_OPTIONS = (
    click.option("--threads", type=click.IntRange(1), help="CPU threads.  [default: physical cores]"),
    click.option("--n-ctx", type=click.IntRange(1), help="Tokens of context.  [default: the model's, at most 4096]"),
    click.option("--n-batch", default=256, show_default=True, type=click.IntRange(1), help="Tokens decoded together."),
    click.option(
        "--gpu-layers", default=0, show_default=True, type=click.IntRange(-1), help="Blocks on a GPU, -1 for all."
    ),
    click.option(
        "--flash-attn",
        default="off",
        show_default=True,
        type=click.Choice(["off", "on", "auto"]),
        help="Flash attention.",
    ),
)


def engine_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command these options; it receives them together, as `options`."""

    @wraps(command)
    def with_options(
        *,
        threads: int | None,
        n_ctx: int | None,
        n_batch: int,
        gpu_layers: int,
        flash_attn: Literal["off", "on", "auto"],
        **others: Any,
    ) -> None:
        command(options=EngineOptions(threads, n_ctx, n_batch, gpu_layers, flash_attn), **others)

    wrapped: Callable[..., None] = with_options
    for option in reversed(_OPTIONS):
        wrapped = option(wrapped)
    return wrapped
