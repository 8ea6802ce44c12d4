"""The options that every command with a model has, and the engine they make."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from steercpp.choices import CACHE_TYPES, FLASH_ATTENTION_NAMES, SPLIT_MODES, FlashAttention
from steercpp.cli import output
from steercpp.cli.options.common import Decorator, grouped
from steercpp.cli.words import in_options
from steercpp.errors import InputError

if TYPE_CHECKING:
    from steercpp.engine.engine import Engine


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How the model is run; `devices` holds keywords of DeviceOptions."""

    threads: int | None
    n_ctx: int | None
    n_batch: int
    flash_attn: FlashAttention
    keep_mib: int
    devices: Mapping[str, Any]

    def open(self, model: Path) -> Engine:
        """Load the model; a context longer than it was trained for is noted.

        Raises:
            SteerError: it cannot be loaded, or not with these options.
        """
        from steercpp.engine.engine import Engine

        engine = Engine(
            model,
            n_ctx=self.n_ctx,
            n_batch=self.n_batch,
            threads=self.threads,
            flash_attn=self.flash_attn,
            keep_mib=self.keep_mib,
            **self.devices,
        )
        if engine.n_ctx > engine.n_ctx_train:
            output.note(
                f"{model}: a context of {engine.n_ctx} tokens, past the {engine.n_ctx_train} that it was trained for: "
                "longer prompts are decoded, but what it says to them may mean nothing"
            )
        return engine


def _shares(_: click.Context, __: click.Parameter, value: str) -> tuple[float, ...]:
    from steercpp.engine.devices import parse_tensor_split

    try:
        return parse_tensor_split(value)
    except InputError as error:
        raise click.BadParameter(in_options(str(error))) from error


def _cache_type(letter: str) -> Decorator:
    return click.option(
        f"--cache-type-{letter}",
        f"type_{letter}",
        default="f16",
        show_default=True,
        type=click.Choice(CACHE_TYPES),
        help=f"What {letter.upper()} is kept in.",
    )


_OPTIONS = (
    click.option("--threads", type=click.IntRange(1), help="CPU threads.  [default: physical cores]"),
    click.option("--n-ctx", type=click.IntRange(1), help="Tokens of context.  [default: the model's, at most 4096]"),
    click.option("--n-batch", default=256, show_default=True, type=click.IntRange(1), help="Tokens decoded together."),
    click.option(
        "--flash-attn", default="off", show_default=True, type=click.Choice(FLASH_ATTENTION_NAMES),
        help="Flash attention.",
    ),
    click.option(
        "--keep-mib", default=512, show_default=True, type=click.IntRange(1),
        help="Memory for what unsteered passes keep.",
    ),
)  # fmt: skip
# The names are llama.cpp's, those that a command receives DeviceOptions'.
_DEVICE_OPTIONS = (
    click.option(
        "--gpu-layers", "n_gpu_layers", default=0, show_default=True, type=click.IntRange(-1),
        help="Blocks on a GPU, -1 for all.",
    ),
    click.option(
        "--main-gpu", default=0, show_default=True, type=click.IntRange(0), help="The GPU used with --split-mode none.",
    ),
    click.option(
        "--split-mode", default="layer", show_default=True, type=click.Choice(SPLIT_MODES),
        help="How GPUs share the model.",
    ),
    click.option(
        "--tensor-split", default="", metavar="N0,N1,...", callback=_shares,
        help="Each GPU's share, such as 3,1.  [default: by free memory]",
    ),
    click.option(
        "--rpc", multiple=True, metavar="HOST:PORT",
        help="A server of llama.cpp's RPC to compute on, before this machine's GPUs; repeat it, or use commas.",
    ),
    _cache_type("k"),
    _cache_type("v"),
    click.option(
        "--kv-offload/--no-kv-offload", "offload_kqv", default=True, show_default=True,
        help="Whether K, V and attention are on the GPUs.",
    ),
    click.option(
        "--mmap/--no-mmap", "use_mmap", default=False, show_default=True,
        help="Map the model file: for one that does not fit in memory.",
    ),
)  # fmt: skip


def _options(
    *, threads: int | None, n_ctx: int | None, n_batch: int, flash_attn: FlashAttention, keep_mib: int, **devices: Any
) -> EngineOptions:
    return EngineOptions(threads, n_ctx, n_batch, flash_attn, keep_mib, devices)


engine_options = grouped("options", _options, _OPTIONS + _DEVICE_OPTIONS)
