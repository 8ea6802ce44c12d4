"""The options that say what a vector is compared with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

import click

from steercpp.cli.options.common import grouped


class Controls(TypedDict):
    """Keywords of `sweep`."""

    random_directions: int
    orthogonal: bool
    prompt_baseline: bool
    instruction: str


@dataclass(frozen=True, slots=True)
class ControlOptions:
    """The controls that were asked for; no instruction where none was given."""

    n_random: int
    orthogonal: bool
    prompt_baseline: bool
    instruction: str | None

    def __post_init__(self) -> None:
        if self.instruction is not None and not self.prompt_baseline:
            raise click.UsageError("--instruction is for the prompt baseline, which --no-prompt-baseline switches off.")
        if self.instruction is not None and not self.instruction.strip():
            raise click.UsageError("--instruction is empty: say in words what is wanted, or --no-prompt-baseline.")

    def keywords(self, default: str) -> Controls:
        """The keywords for a library call.

        Args:
            default: the instruction that comes with the behaviour, taken where none was given; "" for none.
        """
        return Controls(
            random_directions=self.n_random,
            orthogonal=self.orthogonal,
            prompt_baseline=self.prompt_baseline,
            instruction=default if self.instruction is None else self.instruction,
        )


_OPTIONS = (
    click.option(
        "--random", "n_random", default=8, show_default=True, type=click.IntRange(0),
        help="Random directions of equal norm, as a control; 0 for none.",
    ),
    click.option(
        "--orthogonal/--no-orthogonal", default=True, show_default=True,
        help="A direction orthogonal to the vector, of equal norm, as a control.",
    ),
    click.option(
        "--prompt-baseline/--no-prompt-baseline", default=True, show_default=True,
        help="The instruction before every prompt, unsteered, as a control.",
    ),
    click.option(
        "--instruction", metavar="TEXT", help="Asks for the behavior in words.  [default: the behavior set's own]",
    ),
)  # fmt: skip
control_options = grouped("controls", ControlOptions, _OPTIONS)
