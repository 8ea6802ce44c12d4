"""Options that several commands declare alike, each in one place."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

import click

from steercpp.cli.options.pairs import parse_token


# FOLD: What kinds of numbers options take, beyond click's own.
class Finite(click.FloatRange):
    """A number of a range, and a number: click lets NaN through, which lies on no side of a bound, and infinities."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number, or an error of usage."""
        found = float(super().convert(value, param, ctx))
        if not math.isfinite(found):
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        return found


_Command = TypeVar("_Command", bound=Callable[..., Any])

max_loss_option = click.option(
    "--max-loss", default=0.05, show_default=True, type=Finite(0, 1, min_open=True, max_open=True),
    help="Budget: the share of P(correct) that may be lost.",
)  # fmt: skip
direction_option = click.option(  # a command receives 1 or -1
    "--direction", default="+", show_default=True, type=click.Choice(["+", "-"]),
    callback=lambda _, __, sign: 1 if sign == "+" else -1, help="Sign of the strengths that are wanted.",
)  # fmt: skip
kl_option = click.option(
    "--kl", type=Finite(0, min_open=True), metavar="NATS",
    help="What --unit kl means: this KL at 95 % of the prompts' tokens.  [default: 0.1]",
)  # fmt: skip
token_option = click.option(
    "--token", callback=parse_token, metavar="WHICH",
    help="Whose activation: last, mean, answer (its tokens' mean), or a position such as -2.  [default: last]",
)  # fmt: skip


def seed_option(of: str) -> Callable[[_Command], _Command]:
    """--seed, with what is drawn from it."""
    return click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help=f"Of {of}.")
