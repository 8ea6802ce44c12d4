"""The options that let a sweep continue its prompts in words, and say how the texts are judged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any

import click

from steercpp.cli.options.common import Finite

if TYPE_CHECKING:
    from steercpp.sweeps.texts import TextPlan

TOKENS = "--max-new-tokens"


@dataclass(frozen=True, slots=True)
class TextOptions:
    """How texts are said and judged, as the user asked for it; none are without a number of tokens."""

    max_new_tokens: int
    samples: int
    temperature: float
    top_p: float
    stop: tuple[str, ...]
    code_template: str
    allow_code: bool
    matcher: str

    def __post_init__(self) -> None:
        if not self.max_new_tokens and (self.samples > 1 or self.temperature or self.top_p < 1 or self.stop):
            raise click.UsageError(f"--samples, --temperature, --top-p and --stop are for texts: give {TOKENS} too.")
        if self.samples > 1 and not self.temperature:
            raise click.UsageError("--samples without --temperature would all be the same text.")

    def text_plan(self, seed: int) -> TextPlan | None:
        """How texts are said, None where none are; the matcher is checked too, before anything costly is done.

        Args:
            seed: of the draws.

        Raises:
            InputError: no such matcher, or its file is malformed.
        """
        from steercpp.judging.matchers import chosen_matcher
        from steercpp.sweeps.texts import TextPlan

        chosen_matcher(self.matcher, ())
        if not self.max_new_tokens:
            return None
        return TextPlan(
            self.max_new_tokens, samples=self.samples, temperature=self.temperature, top_p=self.top_p,
            seed=seed if self.temperature else 0, stop=self.stop, code_template=self.code_template,
        )  # fmt: skip


matcher_option = click.option(
    "--matcher", default="auto", show_default=True, metavar="NAME|FILE",
    help="What judges texts: openings, refusal, agreement, one of the study's (wolf2024/...), or a JSON file; auto "
         "takes the one that knows the items' answers.",
)  # fmt: skip

_OPTIONS = (
    click.option(
        TOKENS, "max_new_tokens", default=0, show_default=True, type=click.IntRange(0), metavar="N",
        help="Continue each behavior and code item in so many tokens at every strength; 0 for none.",
    ),
    click.option(
        "--samples", default=1, show_default=True, type=click.IntRange(1), metavar="K",
        help="Texts of each item at each strength; more than one takes a temperature.",
    ),
    click.option(
        "--temperature", default=0.0, show_default=True, type=Finite(0, 100, max_open=True),
        help="Of the draws; 0 takes the most likely token.",
    ),
    click.option(
        "--top-p", default=1.0, show_default=True, type=Finite(0, 1, min_open=True),
        help="The share of probability that is drawn from.",
    ),
    click.option("--stop", multiple=True, metavar="TEXT", help="End a text here; may be repeated."),
    click.option(
        "--code-template", default="raw", show_default=True, metavar="T",
        help="How code items are asked: raw, chat, or a template of one place such as wolf2024/humaneval-chat.",
    ),
    click.option(
        "--allow-code-execution", "allow_code", is_flag=True,
        help="Run the programs that the model writes for code items, in a sandbox.",
    ),
    matcher_option,
)  # fmt: skip


def text_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command these options; it receives them together, as `texts`."""

    @wraps(command)
    def with_options(
        *,
        max_new_tokens: int,
        samples: int,
        temperature: float,
        top_p: float,
        stop: tuple[str, ...],
        code_template: str,
        allow_code: bool,
        matcher: str,
        **others: Any,
    ) -> None:
        options = TextOptions(max_new_tokens, samples, temperature, top_p, stop, code_template, allow_code, matcher)
        command(texts=options, **others)

    wrapped: Callable[..., None] = with_options
    for option in reversed(_OPTIONS):
        wrapped = option(wrapped)
    return wrapped
