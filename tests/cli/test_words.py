"""Parameters in the library's sentences become the options of the command that runs, or stay words."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from steercpp.cli import output
from steercpp.cli.main import COMMANDS, LazyGroup, main
from steercpp.cli.words import in_options
from steercpp.errors import SteerError


def command_named(*names: str) -> click.Command:
    found: click.Command = main
    for name in names:
        assert isinstance(found, click.Group)
        inner = found.get_command(click.Context(found), name)
        assert inner is not None
        found = inner
    return found


@pytest.mark.parametrize(
    ("name", "sentence", "typed"),
    [
        ("sweep", "raise `n_ctx`, or `n_gpu_layers`", "raise --n-ctx, or --gpu-layers"),
        ("sweep", "replace it with `force=True`", "replace it with --force"),
        ("sweep", "choose another `out`", "choose another --out"),
        ("extract", "choose another `out`", "choose another --out"),
        ("sweep", "`orthogonal=False` or `max_loss=0`", "--no-orthogonal or --max-loss 0"),
        ("sweep", "`prompt_baseline=True`, `use_mmap=False`", "--prompt-baseline, --no-mmap"),
        ("sweep", 'use `flash_attn="on"` or `type_k=f16`', "use --flash-attn on or --cache-type-k f16"),
        ("doctor", "given `model` and `repair`", "given --model and --repair"),
        ("constants", "steered with `positions=generated`", "steered with --positions generated"),
        ("sweep", "sweep with `max_tokens=...`", "sweep with --max-new-tokens"),
        ("generate", "sweep with `max_tokens=8`", "sweep with --max-tokens 8"),
        ("score", "sweep with `max_tokens`", "sweep with --max-new-tokens"),
        ("sweep", "a grid such as `strengths=[-1, 0, 1]`", "a grid such as --strengths -1,0,1"),
        ("generate", 'try `template="raw"`, or a `template`', "try --raw, or a --template"),
        ("dump", 'try `template="chat"`', "try --chat"),
        ("scan", "see `methods`, `layers`", "see --method, --layers"),
        ("show", "set `model_hint` (steercpp convert)", "set --model-hint (steercpp convert)"),
        ("convert", '`layer_convention="cvector-generator"`', "--layer-convention cvector-generator"),
        ("convert", "name another `source`", "name another IN"),
        ("fit", "raise `n_ctx`, `n_ctx=5` or `n_ctx=True`", "raise n_ctx, n_ctx=5 or n_ctx=True"),
        ("sweep", "run `steercpp data get xstest`", "run `steercpp data get xstest`"),
    ],
)
def test_a_parameter_becomes_what_is_typed(name: str, sentence: str, typed: str) -> None:
    assert in_options(sentence, command_named(name)) == typed


def test_without_a_command_only_the_backticks_go() -> None:
    assert in_options("raise `n_ctx`") == "raise n_ctx"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_parameter_with_an_option_of_its_name_finds_it(name: str) -> None:
    command = command_named(name)
    for option in command.params:
        if isinstance(option, click.Option) and not option.is_flag:
            assert in_options(f"`{option.name}`", command) in option.opts


def group_of(*commands: click.Command) -> LazyGroup:
    """The real group with other commands, one of them below a group of its own."""
    inner = click.Group("data", commands=list(commands))

    class Group(LazyGroup):
        def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
            return inner

    return Group(name="steercpp")


def test_errors_and_notes_are_in_the_words_of_the_innermost_command() -> None:
    @click.command()
    @click.option("--cache")
    def get(cache: str | None) -> None:
        output.note("looked into `cache`")
        raise SteerError("choose another `cache`, not `pairs`")

    result = CliRunner().invoke(group_of(get), ["data", "get"])
    noted = "note: looked into --cache"
    assert (result.exit_code, result.stderr) == (1, f"{noted}\nerror: choose another --cache, not pairs\n")
