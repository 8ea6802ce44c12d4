"""What a sweep is asked to measure, put together from the command line and the embedded model's own material."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from steercpp.cli import output
from steercpp.cli.options.items import ItemOptions

if TYPE_CHECKING:
    from steercpp.choices import Unit
    from steercpp.data.pairs import ContrastPair
    from steercpp.engine.engine import Engine
    from steercpp.vectors.control_vector import ControlVector

GRIDS = {"norm": "-0.4:0.4:0.05", "length": "-4:4:0.5", "kl": "-4:4:0.5"}


@dataclass(frozen=True, slots=True)
class Asked:
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

    def __post_init__(self) -> None:
        if self.kl is not None and self.unit != "kl":
            raise click.UsageError("--kl is for --unit kl: it says how many nats strength 1 has.")
        if self.vector and self.pairs:
            raise click.UsageError("--vector and --pairs exclude each other: a vector is given or extracted.")
        if self.vector and self.method:
            raise click.UsageError("--method is for extracting from --pairs; --vector is extracted already.")
        if self.model and not (self.vector or self.pairs):
            raise click.UsageError("MODEL needs --vector V.gguf or --pairs P: what to steer it with.")
        if self.model and not self.items:
            raise click.UsageError("MODEL needs --behavior B, --task T or both: what to measure.")

    @property
    def steered_by(self) -> str | None:
        """What the vector or the pairs are called, None where neither was named."""
        from steercpp.data.sets.names import short_name

        return self.vector.stem if self.vector else short_name(self.pairs) if self.pairs else None


@dataclass(frozen=True, slots=True)
class Inputs:
    """Everything that a sweep needs beside an engine.

    Attributes:
        model: the model file.
        name: what the run directory is called by default.
        items: what is measured, by kind.
        instruction: what asks for the behaviour in words, "" where nothing is known that does.
        vector: given the engine and a progress callable, the vector (or how to make it) with its identity.
    """

    model: Path
    name: str
    items: Mapping[str, Sequence[Any]]
    instruction: str
    strengths: tuple[float, ...]
    unit: Unit
    vector: Callable[[Engine, output.Report | None], tuple[ControlVector | Callable[[], ControlVector], str | None]]


def gather(asked: Asked) -> Inputs:
    """Read the files and sets that were named and fill in what was not.

    Raises:
        SteerError: a file or a set cannot be used.
    """
    from steercpp.sweeps.strengths import grid

    if asked.model is None:
        return _embedded(asked)
    unit = asked.unit or ("length" if asked.strengths else "norm")
    return Inputs(
        model=asked.model,
        name=f"{asked.model.stem}-{asked.steered_by}",
        items={"behavior": asked.items.behavior_items(), **asked.items.task_items()},
        instruction=asked.items.instruction,
        strengths=asked.strengths or grid(GRIDS[unit]),
        unit=unit,
        vector=_source(asked, (), None),
    )


def _embedded(asked: Asked) -> Inputs:
    from steercpp.data.sets.embedded import load
    from steercpp.sweeps.strengths import grid

    own = load()
    unit = asked.unit or own.unit
    return Inputs(
        model=own.path,
        name=f"{own.path.stem}-{asked.steered_by or 'refusal'}",
        items={
            "behavior": asked.items.behavior_items() or own.behavior()[: asked.items.limit],
            **(asked.items.task_items() or {"choice": own.choice()[: asked.items.limit]}),
        },
        instruction=asked.items.instruction if asked.items.behavior else own.instruction,
        strengths=asked.strengths or (own.strengths if unit == own.unit else grid(GRIDS[unit])),
        unit=unit,
        vector=_source(asked, () if asked.steered_by else own.pairs(), own.layers),
    )


def _source(
    asked: Asked, pairs: Sequence[ContrastPair], layers: tuple[int, ...] | None
) -> Callable[[Engine, output.Report | None], tuple[ControlVector | Callable[[], ControlVector], str | None]]:
    """How to come by the vector: from its file, from a pairs file, or from these pairs; at these layers if not told."""
    if (path := asked.vector) is not None:
        return lambda engine, _: (_from_file(engine, path, asked.layers), None)
    if asked.pairs:
        from steercpp.data.sets.names import contrast_pairs

        pairs = contrast_pairs(asked.pairs, data=asked.items.data, limit=asked.items.limit)
    return lambda engine, report: _from_pairs(engine, pairs, asked, layers, report)


def _from_file(engine: Engine, path: Path, layers: str | None) -> ControlVector:
    from steercpp.engine.engine import check_vector
    from steercpp.errors import LayerError
    from steercpp.vectors.formats import read_any_vector
    from steercpp.vectors.layers import parse_layers

    vector, notes = read_any_vector(path, architecture=engine.architecture)
    for note in notes:
        output.note(f"{path}: {note}")
    if layers is not None:
        wanted = parse_layers(layers, engine.n_layer)
        try:
            vector = vector.restricted_to(wanted)
        except LayerError as error:
            raise LayerError(f"{path}: {error}; leave --layers out or name some of them") from error
    check_vector(engine, vector, name=str(path))
    return vector


def _from_pairs(
    engine: Engine,
    pairs: Sequence[ContrastPair],
    asked: Asked,
    layers: tuple[int, ...] | None,
    report: output.Report | None,
) -> tuple[Callable[[], ControlVector], str]:
    from steercpp.data.pairs import pairs_sha256
    from steercpp.extraction.extract import extract
    from steercpp.provenance import json_sha256
    from steercpp.vectors.layers import default_layers, parse_layers

    method = asked.method or "mean"
    if asked.layers is not None:
        layers = parse_layers(asked.layers, engine.n_layer)
    where = layers or default_layers(engine.n_layer)
    identity = {"pairs": pairs_sha256(pairs), "method": method, "layers": list(where)}
    return lambda: extract(engine, pairs, method=method, layers=where, progress=report), json_sha256(identity)
