"""`steercpp completion`: let the shell complete commands, options and their values."""

from __future__ import annotations

import os
from pathlib import Path

import click
from click.shell_completion import get_completion_class

from steercpp.choices import SHELLS
from steercpp.cli import output
from steercpp.cli.grouped_help import Command
from steercpp.cli.options.common import json_option
from steercpp.errors import InputError
from steercpp.files import write_whole

PLACES = {  # where each shell looks by itself, below its own folder
    "bash": ("XDG_DATA_HOME", ".local/share", "bash-completion/completions/steercpp"),
    "zsh": ("ZDOTDIR", "", ".zfunc/_steercpp"),
    "fish": ("XDG_CONFIG_HOME", ".config", "fish/completions/steercpp.fish"),
}
ZSH_LINES = "fpath+=~/.zfunc; autoload -Uz compinit; compinit"


@click.command(cls=Command)
@click.argument("shell", required=False, type=click.Choice(SHELLS))
@click.option("--print", "is_printed", is_flag=True, help="Print the script, and write nothing.")
@json_option
def completion(shell: str | None, is_printed: bool, as_json: bool) -> None:
    """Let the shell complete commands, options and their values.

    The script goes where SHELL (by default the shell you use) looks for it; a new shell completes with Tab.

    \b
    Example: steercpp completion
             steercpp completion zsh
    """  # noqa: D301
    shell = shell or Path(os.environ.get("SHELL", "")).name
    if shell not in PLACES:
        raise click.UsageError(f"which shell? Name one of {', '.join(PLACES)}.")
    script_class = get_completion_class(shell)
    assert script_class is not None
    script = script_class(
        click.get_current_context().find_root().command, {}, "steercpp", "_STEERCPP_COMPLETE"
    ).source()
    if is_printed and not as_json:
        click.echo(script)
        return
    path = None if is_printed else _place(shell)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, script.encode(), force=True, error=InputError)
    lines = [output.text(f"{path}: written. Open a new shell, and steercpp completes with Tab.")]
    if shell == "zsh":
        lines.append(output.text(f"zsh looks there once ~/.zshrc holds: {ZSH_LINES}"))
    record = {"shell": shell, "path": None if path is None else str(path), "script": script}
    output.emit(record, as_json=as_json, render=lambda: lines)


def _place(shell: str) -> Path:
    """The file that a shell reads."""
    variable, default, name = PLACES[shell]
    try:
        home = Path.home()
    except RuntimeError as error:
        raise click.UsageError(f"{error}; take --print, and put the script where {shell} reads it.") from error
    base = os.environ.get(variable)
    return (Path(base) if base else home / default) / name
