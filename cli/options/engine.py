"""The options that every command with a model has, and the engine they make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
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
    n_batch: int | None
    flash_attn: FlashAttention
    keep_mib: int
    devices: Mapping[str, Any]
    template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    date: str | None = None
    exact: bool = False

    def with_chats_of(self, chat: Mapping[str, Any]) -> EngineOptions:
        """The same, with the variables for chats of an earlier run where none are given."""
        return replace(self, template_kwargs=self.template_kwargs or chat.get("template_kwargs", {}))

    def keywords(self) -> dict[str, Any]:
        """Keywords of `Engine`."""
        return {
            "n_ctx": self.n_ctx, "n_batch": self.n_batch, "threads": self.threads, "flash_attn": self.flash_attn,
            "keep_mib": self.keep_mib, "exact": self.exact, "template_kwargs": self.template_kwargs, "date": self.date,
            **self.devices,
        }  # fmt: skip

    def open(self, model: Path) -> Engine:
        """Load the model; a context longer than it was trained for is noted.

        Raises:
            SteerError: it cannot be loaded, or not with these options.
        """
        from steercpp.engine.engine import Engine
        from steercpp.engine.model import end_with_code

        end_with_code()
        engine = Engine(model, **self.keywords())
        if unused := engine.vocabulary.unused_kwargs:
            output.note(f"{model}: its chat template does not look at {', '.join(unused)}")
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


def _variables(_: click.Context, __: click.Parameter, values: Sequence[str]) -> dict[str, Any]:
    """Variables for the chat template: JSON where the value is JSON, else a text."""
    import json

    from steercpp.engine.chat_options import ChatOptions

    def refuse(constant: str) -> None:
        raise ValueError(constant)  # NaN, which JSON has not

    variables: dict[str, Any] = {}
    for typed in values:
        name, equals, text = typed.partition("=")
        if not equals:
            raise click.BadParameter(f"{typed!r} has no value; write it as enable_thinking=false")
        try:
            variables[name] = json.loads(text, parse_constant=refuse)
        except (ValueError, RecursionError):
            variables[name] = text
    try:
        return dict(ChatOptions(variables).template_kwargs)
    except InputError as error:
        raise click.BadParameter(in_options(str(error))) from error


def _day(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    from steercpp.engine.chat_options import ChatOptions

    try:
        return ChatOptions(date=value or "").date or None
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
    click.option(
        "--n-batch", type=click.IntRange(1), help="Tokens decoded together.  [default: 256; on a GPU or servers 512]",
    ),
    click.option(
        "--flash-attn", default="off", show_default=True, type=click.Choice(FLASH_ATTENTION_NAMES),
        help="Flash attention.",
    ),
    click.option(
        "--keep-mib", default=512, show_default=True, type=click.IntRange(1),
        help="Memory for what unsteered passes keep.",
    ),
    click.option(
        "--template-kwarg", "template_kwargs", multiple=True, metavar="KEY=VALUE", callback=_variables,
        help="A variable for the model's chat template, such as enable_thinking=true; may be repeated.",
    ),
    click.option(
        "--date", callback=_day, metavar="2026-11-29",
        help="The day that the chat template gets, if it asks.  [default: today; of a run, the day it was begun on]",
    ),
)  # fmt: skip
# The names are llama.cpp's, those that a command receives DeviceOptions'.
_DEVICE_OPTIONS = (
    click.option(
        "--gpu-layers", "n_gpu_layers", type=click.IntRange(-1),
        help="Blocks on a GPU, -1 for all.  [default: as many as fit; with --rpc all]",
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
    *,
    threads: int | None,
    n_ctx: int | None,
    n_batch: int | None,
    flash_attn: FlashAttention,
    keep_mib: int,
    template_kwargs: Mapping[str, Any],
    date: str | None,
    **devices: Any,
) -> EngineOptions:
    return EngineOptions(threads, n_ctx, n_batch, flash_attn, keep_mib, devices, template_kwargs, date)


engine_options = grouped("options", _options, _OPTIONS + _DEVICE_OPTIONS)

exact_option = click.option(
    "--exact", "as_alone", is_flag=True,
    help="Give each prompt the bits of its own run, whatever it is decoded with: on a CPU a little slower, elsewhere "
         "one prompt at a time.",
)  # fmt: skip
