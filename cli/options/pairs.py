"""The options that say which contrast pairs a command takes and how they become prompts."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from steercpp.choices import PAIR_FORMATS, PairFormat
from steercpp.cli.options.common import FILE, grouped

if TYPE_CHECKING:
    from steercpp.data.pair_formats import PairSource
    from steercpp.data.pairs import ContrastPair
    from steercpp.data.prompts import Template


@dataclass(frozen=True, slots=True)
class PairOptions:
    """The pairs that were named; `path` may be the name of a set, of which `data` and `limit` are."""

    path: Path | None
    format: PairFormat
    positive_file: Path | None
    negative_file: Path | None
    personas: tuple[tuple[str, str], ...]
    persona_template: str | None
    chosen_template: Literal["raw", "chat"] | None
    system: str | None
    data: Path | None = None
    limit: int | None = None

    def __post_init__(self) -> None:
        if (self.positive_file is None) != (self.negative_file is None):
            raise click.UsageError("--positive-file and --negative-file go together: a pair is a line of each.")
        if self.path and self.positive_file:
            raise click.UsageError("--pairs and --positive-file exclude each other: pairs come from one place.")
        if self.personas and not self.path:
            raise click.UsageError("--persona is for --pairs P.json, a list of suffixes.")
        if self.persona_template and not self.personas:
            raise click.UsageError("--persona-template is for --persona.")
        if self.system is not None and self.chosen_template == "raw":
            raise click.UsageError("--system needs the chat template, and --raw is without it.")

    def __bool__(self) -> bool:
        """Whether any pairs were named."""
        return bool(self.path or self.positive_file)

    @property
    def files(self) -> tuple[Path | None, ...]:
        """The files that the pairs are read from."""
        return self.path, self.positive_file, self.negative_file

    @property
    def name(self) -> str | None:
        """What a file or a folder is called after the pairs, None where none were named."""
        from steercpp.data.sets.names import short_name

        file = self.path or self.positive_file
        return short_name(file) if file else None

    def of_sets(self, data: Path | None, limit: int | None) -> PairOptions:
        """The same, with sets looked for in this folder, and so many pairs of one at most."""
        return replace(self, data=data, limit=limit)

    @property
    def template(self) -> Template:
        """How prompts become text."""
        return self.chosen_template or "auto"

    def arguments(self) -> list[str]:
        """The words of a command line that name the same pairs again."""
        words: list[str] = []
        for option, value in (
            ("--pairs", self.path),
            ("--positive-file", self.positive_file),
            ("--negative-file", self.negative_file),
            ("--pairs-format", None if self.format == "auto" else self.format),
            ("--persona-template", self.persona_template),
            ("--system", self.system),
        ):
            words += [] if value is None else [option, str(value)]
        for positive, negative in self.personas:
            words += ["--persona", positive, negative]
        return words + ([f"--{self.chosen_template}"] if self.chosen_template else [])

    def source(self) -> PairSource | None:
        """The pairs that were named, None if none were.

        Raises:
            PairsError: the file cannot be read, or is in none of the formats.
            TaskError, DataSetError: the name is unknown, or its set is not there.
        """
        from steercpp.data.pair_formats import (
            PERSONA_TEMPLATE,
            PairFile,
            open_pairs,
            open_text_pairs,
            with_system_message,
        )
        from steercpp.data.sets.names import contrast_pairs, is_path

        source: PairSource
        if self.positive_file and self.negative_file:
            source = open_text_pairs(self.positive_file, self.negative_file)
        elif self.path and not is_path(self.path):
            pairs = contrast_pairs(self.path, data=self.data, limit=self.limit)
            source = PairFile(str(self.path), lambda: pairs)
        elif self.path:
            source = open_pairs(
                self.path,
                format=self.format,
                personas=self.personas,
                persona_template=self.persona_template or PERSONA_TEMPLATE,
                raw=self.chosen_template == "raw",
            )
        else:
            return None
        return source if self.system is None else with_system_message(source, self.system)

    def with_system(self, pairs: Iterable[ContrastPair]) -> Iterable[ContrastPair]:
        """Pairs from elsewhere with the system message that was asked for, if one was."""
        if self.system is None:
            return pairs
        from steercpp.data.pair_formats import with_system_message

        return with_system_message(pairs, self.system)


_OPTIONS = (
    click.option(
        "--pairs", "pairs_path", type=FILE, metavar="P", help="Contrast pairs: a file, see --pairs-format, or a set.",
    ),
    click.option(
        "--pairs-format", default="auto", show_default=True, type=click.Choice(PAIR_FORMATS),
        help="JSON Lines, CAA's questions or repeng's suffixes; auto looks into the file.",
    ),
    click.option(
        "--positive-file", type=FILE, metavar="P.txt", help="A prompt on each line, as for llama-cvector-generator.",
    ),
    click.option("--negative-file", type=FILE, metavar="N.txt", help="The other prompts, line by line."),
    click.option(
        "--persona", "personas", nargs=2, multiple=True, metavar="POS NEG",
        help="The two who speak repeng's suffixes; repeat it for more.",
    ),
    click.option(
        "--persona-template", metavar="TEXT",
        help="What tells the model its persona.  [default: Act as if you're extremely {persona}.]",
    ),
    click.option("--raw", "chosen_template", flag_value="raw", help="Take each prompt as it stands."),
    click.option(
        "--chat", "chosen_template", flag_value="chat", help="Make a plain text the user's message of a chat.",
    ),
    click.option("--system", metavar="TEXT", help="A system message for the pairs that have none."),
)  # fmt: skip


_SET_OPTIONS = (
    click.option(
        "--data", type=FILE, metavar="DIR", help="Folder of data sets.  [default: what steercpp data get fetched]",
    ),
    click.option("--limit", type=click.IntRange(1), metavar="N", help="At most so many pairs of a set."),
)  # fmt: skip


def set_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command with `pair_options`, above this, what pairs of sets need; where `item_options` are they do."""

    @wraps(command)
    def with_options(*, pairs: PairOptions, data: Path | None, limit: int | None, **others: Any) -> None:
        command(pairs=pairs.of_sets(data, limit), **others)

    wrapped: Callable[..., None] = with_options
    for option in reversed(_SET_OPTIONS):
        wrapped = option(wrapped)
    return wrapped


def _pair_options(*, pairs_path: Path | None, pairs_format: PairFormat, **others: Any) -> PairOptions:
    return PairOptions(pairs_path, pairs_format, **others)


pair_options = grouped("pairs", _pair_options, _OPTIONS)
