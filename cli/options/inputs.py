"""What a sweep measures, put together from the command line and the embedded model's own material."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from steercpp.choices import Unit
from steercpp.cli import output
from steercpp.cli.options.common import AUTO, OWN, refuse_idle_kl
from steercpp.cli.options.items import ItemOptions
from steercpp.cli.options.vectors import file_vector

if TYPE_CHECKING:
    from steercpp.data.pairs import ContrastPair
    from steercpp.data.requests import Request
    from steercpp.engine.engine import Engine
    from steercpp.vectors.control_vector import ControlVector

SHOWN_TOKENS = 48
GRIDS = {"norm": "-0.4:0.4:0.05", "length": "-4:4:0.5", "kl": "-4:4:0.5"}


@dataclass(frozen=True, slots=True)
class NamedInputs:
    """The options of the command line that name what to measure; None where an option was not given."""

    model: Path | None
    vector: Path | None
    pairs: str | None
    method: str | None
    layers: str | None
    items: ItemOptions
    strengths: tuple[float, ...] | None
    unit: Unit | None
    kl: float | None
    asks_for_sides: bool = False  # by an instruction and its opposite
    adds: bool = True  # as llama.cpp does: at all tokens, behind no gate

    def __post_init__(self) -> None:
        refuse_idle_kl(self.kl, self.unit)
        if self.vector and self.pairs:
            raise click.UsageError("--vector and --pairs exclude each other: a vector is given or extracted.")
        if self.vector and self.method:
            raise click.UsageError("--method is for extracting from --pairs; --vector is extracted already.")
        if self.model and not (self.vector or self.pairs):
            raise click.UsageError("MODEL needs --vector V.gguf or --pairs P: what to steer it with.")
        if self.items.behavior == OWN and self.behavior_name is None and not self.asks_for_sides:
            raise click.UsageError("--behavior own asks the model for both sides: give --instruction and --opposite.")
        if self.model and not self.items and self.behavior_name is None and not self.asks_for_sides:
            if self.pairs:
                from steercpp.data.sets.names import contrast_pairs

                contrast_pairs(self.pairs, data=self.items.data)  # a name or file that is not there comes first
            raise click.UsageError(
                "MODEL needs --behavior B, --task T or both: what to measure. Of built-in pairs the behavior is known; "
                "of others --instruction and --opposite ask the model for either side."
            )

    @property
    def behavior_name(self) -> str | None:
        """The behavior set or file that was named, or the built-in set of the pairs' name; None where neither is."""
        from steercpp.data.sets.builtin import BEHAVIOR_SETS

        if self.items.behavior and self.items.behavior != OWN:
            return self.items.behavior
        return self.pairs if self.pairs in BEHAVIOR_SETS else None

    @property
    def leaves_open(self) -> bool:
        """Whether layers and strengths, and what else was not named, are to be found on the model."""
        if self.model is None or self.unit not in (None, "norm") or not self.adds:
            return False
        knows_behavior = self.behavior_name is not None or (self.asks_for_sides and self.pairs is not None)
        is_open = self.strengths is None or self.layers == AUTO or self.items.behavior == OWN
        return knows_behavior and is_open

    @property
    def steered_by(self) -> str | None:
        """What the vector or the pairs are called, None where neither was named."""
        from steercpp.data.sets.names import short_name
        from steercpp.vectors.names import vector_name

        return vector_name(self.vector) if self.vector else short_name(self.pairs) if self.pairs else None


@dataclass(frozen=True, slots=True)
class Inputs:
    """Everything that a sweep needs beside an engine.

    Attributes:
        model: the model file.
        name: what the run directory is called by default.
        items: what is measured, by kind.
        instruction: what asks for the behavior in words, "" where nothing is known that does.
        opposite: what asks for its opposite, likewise.
        requests: what is continued only to be shown, in so many tokens each at most: showcase_tokens.
        vector: given the engine and a progress callable, the vector (or how to make it) with its identity.
    """

    model: Path
    name: str
    items: Mapping[str, Sequence[Any]]
    instruction: str
    opposite: str
    strengths: tuple[float, ...]
    unit: Unit
    requests: tuple[Request, ...]
    showcase_tokens: int
    vector: Callable[[Engine, output.Report | None], tuple[ControlVector | Callable[[], ControlVector], str | None]]


def gather(options: NamedInputs) -> Inputs:
    """Read the files and sets that were named and fill in what was not.

    Raises:
        SteerError: a file or a set cannot be used.
    """
    from steercpp.sweeps.strengths import grid

    if options.model is None:
        return _embedded(options)
    unit = options.unit or ("length" if options.strengths and not options.leaves_open else "norm")
    instruction, opposite = _words(options)
    items: dict[str, Sequence[Any]] = dict(options.items.task_items())
    if not options.leaves_open:  # else they are found on the model
        items = {"behavior": options.items.behavior_items(), **items}
    return Inputs(
        model=options.model,
        name=f"{options.model.stem}-{options.steered_by}",
        items=items,
        instruction=instruction,
        opposite=opposite,
        strengths=options.strengths or grid(GRIDS[unit]),
        unit=unit,
        requests=_requests(options),
        showcase_tokens=SHOWN_TOKENS,
        vector=_source(options, (), None),
    )


def _embedded(options: NamedInputs) -> Inputs:
    from steercpp.data.sets.embedded import load
    from steercpp.sweeps.strengths import grid

    embedded = load()
    unit = options.unit or embedded.unit
    return Inputs(
        model=embedded.path,
        name=f"{embedded.path.stem}-{options.steered_by or 'refusal'}",
        items={
            "behavior": options.items.behavior_items() or embedded.behavior()[: options.items.limit],
            **(options.items.task_items() or {"choice": embedded.choice()[: options.items.limit]}),
        },
        instruction=options.items.instruction if options.items.behavior else embedded.instruction,
        opposite=options.items.opposite,
        strengths=options.strengths or (embedded.strengths if unit == embedded.unit else grid(GRIDS[unit])),
        unit=unit,
        requests=embedded.requests(),
        showcase_tokens=embedded.showcase_tokens,
        vector=_source(options, () if options.steered_by else embedded.pairs(), embedded.layers),
    )


def _words(options: NamedInputs) -> tuple[str, str]:
    """What asks for the behavior in words and for its opposite, "" where nothing is known that does."""
    from steercpp.data.sets.names import instruction_of, is_path, opposite_of

    name = options.behavior_name
    return (instruction_of(name), opposite_of(name)) if name and not is_path(name) else ("", "")


def _requests(options: NamedInputs) -> tuple[Request, ...]:
    """Those of the built-in behavior that is measured or extracted; others where it is none of these."""
    from steercpp.data.sets.builtin import BEHAVIOR_SETS, showcase_requests

    names = [name.partition(":")[0] for name in (options.items.behavior, options.pairs) if name]
    return showcase_requests(next((name for name in names if name in BEHAVIOR_SETS), ""))


def _source(
    options: NamedInputs, pairs: Sequence[ContrastPair], layers: tuple[int, ...] | None
) -> Callable[[Engine, output.Report | None], tuple[ControlVector | Callable[[], ControlVector], str | None]]:
    """How to come by the vector: its file, a pairs file, or these pairs; at these layers where none are named."""
    if (path := options.vector) is not None:
        return lambda engine, _: (file_vector(engine, path, options.layers), None)
    if options.pairs:
        from steercpp.data.sets.names import contrast_pairs

        pairs = contrast_pairs(options.pairs, data=options.items.data, limit=options.items.limit)
    return lambda engine, report: _from_pairs(engine, pairs, options, layers, report)


def _from_pairs(
    engine: Engine,
    pairs: Sequence[ContrastPair],
    options: NamedInputs,
    layers: tuple[int, ...] | None,
    report: output.Report | None,
) -> tuple[Callable[[], ControlVector], str]:
    from steercpp.data.pairs import pairs_sha256
    from steercpp.extraction.extract import extract
    from steercpp.provenance import json_sha256
    from steercpp.vectors.layers import default_layers, parse_layers

    method = options.method or "mean"
    if options.layers is not None:
        layers = parse_layers(options.layers, engine.n_layer)
    where = layers or default_layers(engine.n_layer)
    identity = {"pairs": pairs_sha256(pairs), "method": method, "layers": list(where)}
    return lambda: extract(engine, pairs, method=method, layers=where, progress=report), json_sha256(identity)
