"""What the options of several commands are made of: kinds of values, groups, and single options that are all alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, TypeAlias

import click

from steercpp.choices import SIGNS, TOKEN_WORDS, Unit
from steercpp.cli.words import in_options

Decorator: TypeAlias = Callable[[Callable[..., Any]], Callable[..., Any]]

AUTO = "auto"  # of strengths and layers: to be found on the model
OWN = "own"  # of behavior and task: in the model's own words
FILE = click.Path(path_type=Path)  # or a folder; what it must be is the library's to say


class Finite(click.FloatRange):
    """A number of a range, and a number: click lets NaN through, which lies on no side of a bound, and infinities."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number, or an error of usage."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        return number


def grouped(name: str, make: Callable[..., Any], options: Sequence[Decorator]) -> Decorator:
    """Declare options whose values a command receives together.

    Args:
        name: of the command's parameter.
        make: gives its value, called with the options' values by their names.
        options: in the order of the help.
    """

    def nothing() -> None: ...

    for option in options:
        option(nothing)
    names = [parameter.name for parameter in nothing.__click_params__]  # type: ignore[attr-defined]

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(command)
        def with_options(**values: Any) -> Any:
            mine = {parameter: values.pop(parameter) for parameter in dict.fromkeys(names)}
            return command(**{name: make(**mine)}, **values)

        wrapped: Callable[..., Any] = with_options
        for option in reversed(options):
            wrapped = option(wrapped)
        return wrapped

    return decorate


def parse_strengths(ctx: click.Context, parameter: click.Parameter, value: str | None) -> tuple[float, ...] | None:
    """Click's callback for a grid of strengths; None for one that is to be found."""
    from steercpp.errors import StrengthError
    from steercpp.sweeps.strengths import grid

    try:
        return None if value in (None, AUTO) else grid(str(value))
    except StrengthError as error:
        raise click.BadParameter(in_options(str(error))) from error


def parse_token(ctx: click.Context, parameter: click.Parameter, value: str | None) -> str | int | None:
    """Click's callback for the token whose activation stands for a prompt: a word or a position."""
    if value is None or value == "all":
        return value
    from steercpp.extraction.capture import token_named

    if (token := token_named(value)) is None:
        words = ", ".join(TOKEN_WORDS)
        raise click.BadParameter(f"{value!r} is not {words}, all or a position such as -2")
    return token


def refuse_all_tokens(token: str | int | None, what: str = "a direction needs one token of each prompt") -> None:
    """Refuse the activations of all tokens where a direction is made."""
    if token == "all":
        raise click.UsageError(f"--token all is for steercpp dump; {what}.")


def refuse_idle_kl(kl: float | None, unit: Unit | None) -> None:
    """Refuse --kl beside another unit."""
    if kl is not None and unit != "kl":
        raise click.UsageError("--kl is for --unit kl: it says how many nats strength 1 has.")


details_option = click.option(
    "--details", is_flag=True, help="Show all that is known, not the verdict alone: strengths, fits, items, files."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")
max_loss_option = click.option(
    "--max-loss", default=0.05, show_default=True, type=Finite(0, 1, min_open=True, max_open=True),
    help="Budget: the share of P(correct) that may be lost.",
)  # fmt: skip
direction_option = click.option(  # a command receives 1 or -1
    "--direction", default="+", show_default=True, type=click.Choice(SIGNS),
    callback=lambda _, __, sign: 1 if sign == "+" else -1, help="Sign of the strengths that are wanted.",
)  # fmt: skip
token_option = click.option(
    "--token", callback=parse_token, metavar="WHICH",
    help="Whose activation: last, mean, answer (its tokens' mean), or a position such as -2.  [default: last]",
)  # fmt: skip


def kl_option(help: str = "What --unit kl means: this KL at 95% of the prompts' tokens.  [default: 0.1]") -> Decorator:
    """--kl, with what its nats are of."""
    return click.option("--kl", type=Finite(0, min_open=True), metavar="NATS", help=help)


def seed_option(of: str) -> Decorator:
    """--seed, with what is drawn from it."""
    return click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help=f"Of {of}.")


def force_option(help: str = "Replace a file that is there.") -> Decorator:
    """--force, with what it replaces."""
    return click.option("--force", is_flag=True, help=help)
