"""The library's sentences name parameters in backticks; read this for how they become options of the running command.

`n_ctx` becomes --n-ctx, `force=True` --force, `orthogonal=False` --no-orthogonal, and `unit=kl` --unit kl. A
parameter for which the command has no option only loses its backticks.
"""

from __future__ import annotations

import re

import click

# Parameters that are called otherwise in Python than on the command line.
OTHER_NAMES = {
    "budget_s": "budget",
    "max_tokens": "max_new_tokens",
    "template": "chosen_template",
}
# What another command made has options that sentences about it name, also where the running command has none so called.
ELSEWHERE = {
    "allow_code": "--allow-code-execution",
    "budget_s": "--budget",
    "data": "--data",
    "force": "--force",
    "gate": "--gate",
    "layer_convention": "--layer-convention",
    "max_tokens": "--max-new-tokens",
    "model": "--model",
    "model_hint": "--model-hint",
    "operator": "--operator",
    "out": "--out",
    "positions": "--positions",
    "quick": "--quick",
    "repair": "--repair",
    "vector": "--vector",
}
_PARAMETER = re.compile(r"`([a-z]\w*)(?:=([^`]*))?`")


def in_options(sentence: str, command: click.Command | None = None) -> str:
    """A sentence of the library in the words of the command line.

    Args:
        sentence: with parameters in backticks, alone or with a value.
        command: whose options are named; by default of the command that is running.
    """
    if command is None and (context := click.get_current_context(silent=True)):
        command = context.command
    return _PARAMETER.sub(lambda match: _option(match[1], match[2], command), sentence)


def _option(name: str, value: str | None, command: click.Command | None) -> str:
    """What is typed for a parameter, and for its value where one is named."""
    words = "" if value in (None, "...") else re.sub(r"[\[\]()\"' ]", "", value or "")
    declared = [parameter for parameter in command.params if _is_called(parameter, name)] if command else []

    # Flags that share a parameter, such as --raw and --chat, are told apart by their value.
    flags = [option for option in declared if isinstance(option, click.Option) and option.is_flag]
    for flag in flags:
        if words == (flag.flag_value if isinstance(flag.flag_value, str) else "True"):
            return _longest(flag.opts)
        if words == "False" and flag.secondary_opts:
            return _longest(flag.secondary_opts)

    options = [_longest(option.opts) for option in declared if isinstance(option, click.Option)]
    arguments = [argument.human_readable_name for argument in declared if isinstance(argument, click.Argument)]
    typed = _dashed(name) if _dashed(name) in options else [*options, *arguments, ELSEWHERE.get(name, name)][0]
    if not words:
        return typed
    if typed == name:
        return f"{name}={value}"
    return typed if words == "True" else f"{typed} {words}"


def _is_called(parameter: click.Parameter, name: str) -> bool:
    """Whether a command's parameter is the library's of this name."""
    names = {name, OTHER_NAMES.get(name, name)}
    return parameter.name in names or any(_dashed(spelling) in parameter.opts for spelling in names)


def _dashed(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _longest(spellings: list[str]) -> str:
    return max(spellings, key=len)
