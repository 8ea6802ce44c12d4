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
    opposite: str


@dataclass(frozen=True, slots=True)
class ControlOptions:
    """The controls that were asked for; no instruction where none was given."""

    n_random: int
    orthogonal: bool
    prompt_baseline: bool
    instruction: str | None
    opposite: str | None

    def __post_init__(self) -> None:
        if self.instruction is not None and not self.prompt_baseline:
            raise click.UsageError("--instruction is for the prompt baseline, which --no-prompt-baseline switches off.")
        if self.instruction is not None and not self.instruction.strip():
            raise click.UsageError(
                "--instruction is empty: give the text that asks for the behavior, or --no-prompt-baseline."
            )
        if self.opposite is not None and not self.opposite.strip():
            raise click.UsageError("--opposite is empty: give the text that asks for the opposite of the instruction.")

    def keywords(self, default: str, opposite: str = "", *, judged: bool = False) -> Controls:
        """The keywords for a library call.

        Args:
            default: the instruction that comes with the behavior, taken where none was given; "" for none.
            opposite: likewise, what asks for its opposite.
            judged: whether the model judges texts by the two; the default of the opposite is taken only then.
        """
        if judged and not (opposite or self.opposite):
            raise click.UsageError(
                "--matcher likelihood asks the model for both sides: give --opposite, and --instruction "
                "where the behavior set has none."
            )
        return Controls(
            random_directions=self.n_random,
            orthogonal=self.orthogonal,
            prompt_baseline=self.prompt_baseline,
            instruction=default if self.instruction is None else self.instruction,
            opposite=self.opposite or (opposite if judged else ""),
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
        "--instruction", metavar="TEXT",
        help="Text that asks for the behavior; with pairs of your own, what their positive side does.  [default: the "
             "behavior set's own]",
    ),
    click.option(
        "--opposite", metavar="TEXT",
        help="Text that asks for the opposite, so that the unsteered model can judge which side a text fits; with "
             "pairs of your own, what their negative side does.  [default: with --matcher likelihood the behavior "
             "set's own]",
    ),
)  # fmt: skip
control_options = grouped("controls", ControlOptions, _OPTIONS)
