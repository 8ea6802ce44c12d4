"""The options that say how a vector acts, and what they make."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, cast

import click

from steercpp.choices import OPERATORS, POSITIONS, SIDE_NAMES, Operator, Positions, Side
from steercpp.cli.options.common import FILE, grouped

if TYPE_CHECKING:
    from steercpp.engine.steering import Gate
    from steercpp.vectors.control_vector import ControlVector, MetaValue

DEFAULTS = {"operator": "add", "positions": "all", "side": "both"}


class Manner(TypedDict):
    """Keywords of `Steering` and of `sweep`: everything but vector and strength."""

    operator: Operator
    positions: Positions
    side: Side
    gate: Gate | None


@dataclass(frozen=True, slots=True)
class SteeringOptions:
    """How the vector acts; None where an option was not given."""

    operator: Operator | None
    positions: Positions | None
    side: Side | None
    gate: tuple[int, bool, float] | None
    gate_vector: Path | None

    def __post_init__(self) -> None:
        if self.gate_vector and self.gate is None:
            raise click.UsageError("--gate-vector is for --gate: say at which layer and from which projection.")

    @property
    def is_plain(self) -> bool:
        """Whether no option says that it acts otherwise than llama.cpp does."""
        return self.operator in (None, "add") and self.positions in (None, "all") and not self.side and not self.gate

    def manner(self, vector: Callable[[], ControlVector], *, known: Mapping[str, MetaValue] | None = None) -> Manner:
        """The keywords for a library call.

        Args:
            vector: gives the steered vector, whose direction the gate takes by default.
            known: metadata of the vector's file: how it is meant to act, where no option says otherwise.

        Raises:
            LayerError: the gate's vector has no direction at its layer.
            InputError: the vector is meant for a gate, and none is given.
        """
        from steercpp.errors import InputError

        known = known or {}
        if known.get("gate") and self.gate is None:
            gate = str(known["gate"]).rpartition(":")[0]  # less the hash of its direction
            raise InputError(
                f"the vector is meant to act behind a gate: give --gate {gate}, and --gate-vector unless it is its own"
            )
        given = {"operator": self.operator, "positions": self.positions, "side": self.side}
        manner = {name: value or known.get(name, DEFAULTS[name]) for name, value in given.items()}
        return cast("Manner", {**manner, "gate": self._gate(vector) if self.gate else None})

    def _gate(self, vector: Callable[[], ControlVector]) -> Gate:
        from steercpp.engine.steering import Gate
        from steercpp.errors import LayerError
        from steercpp.vectors.formats import read_any_vector

        assert self.gate is not None
        il, above, threshold = self.gate
        directions = (read_any_vector(self.gate_vector)[0] if self.gate_vector else vector()).directions
        if il not in directions:
            whose = self.gate_vector or "the vector"
            raise LayerError(
                f"gate: {whose} has no direction at layer {il}, only at {', '.join(map(str, directions))}; name one of "
                "them, or another vector with --gate-vector"
            )
        return Gate(directions[il], il, threshold, above)


def _parse_gate(ctx: click.Context, parameter: click.Parameter, value: str | None) -> tuple[int, bool, float] | None:
    if value is None:
        return None
    match = re.fullmatch(r"([0-9]{1,4}):(below:)?([^:]+)", value)
    try:
        threshold = float(match[3]) if match else math.nan
    except ValueError:
        threshold = math.nan
    if match is None or not math.isfinite(threshold):
        raise click.BadParameter(f"{value!r} is not LAYER:X or LAYER:below:X with a number X")
    return int(match[1]), match[2] is None, threshold


_OPTIONS = (
    click.option(
        "--operator", type=click.Choice(OPERATORS), help="What is done with the vector at strength s.  [default: add]",
    ),
    click.option(
        "--positions", type=click.Choice(POSITIONS),
        help="Tokens that are steered; last: the prompt's last one.  [default: all]",
    ),
    click.option(
        "--side", type=click.Choice(SIDE_NAMES),
        help="Steer only tokens whose projection on the vector has this sign.  [default: both]",
    ),
    click.option(
        "--gate", callback=_parse_gate, metavar="LAYER:[below:]X",
        help="Steer only prompts whose last token, unsteered, projects above (below) X there.",
    ),
    click.option(
        "--gate-vector", type=FILE, metavar="G.gguf", help="Whose direction the gate takes.  [default: the vector]",
    ),
)  # fmt: skip
steering_options = grouped("steering", SteeringOptions, _OPTIONS)
