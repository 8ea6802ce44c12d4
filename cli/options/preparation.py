"""What a sweep of one's own model leaves to be found on it: measures, layers and strengths."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from steercpp.cli import output
from steercpp.cli.options.common import AUTO, OWN, grouped

if TYPE_CHECKING:
    from steercpp.cli.options.controls import ControlOptions, Controls
    from steercpp.cli.options.inputs import Inputs, NamedInputs
    from steercpp.cli.progress import Course
    from steercpp.data.items import BehaviorItem, ChoiceItem, Item, OwnItem
    from steercpp.engine.engine import Engine
    from steercpp.runs.preparation import Preparation
    from steercpp.sweeps.estimate import Estimate
    from steercpp.sweeps.own_continuations import Request
    from steercpp.sweeps.wanted import Wanted
    from steercpp.vectors.control_vector import ControlVector


MOST_ITEMS = 48  # of the behavior that pairs name: what a first sweep takes the time for


def with_listed(options: NamedInputs, inputs: Inputs) -> Inputs:
    """The inputs with the listed behavior items, which a sweep takes where the model answers so."""
    if not options.leaves_open:
        return inputs
    from steercpp.data.items import BehaviorItem

    listed = [item for item in _behavior(options) if isinstance(item, BehaviorItem)]
    return replace(inputs, items={"behavior": listed, **inputs.items})


def find_open(
    options: NamedInputs, inputs: Inputs, engine: Engine, asked: Controls, folder: Path, *, direction: int,
    max_loss: float, seed: int, force: bool, effort: Mapping[str, Any], report: Course | None,
    then: Sequence[str], n_shown: int,
) -> tuple[Preparation, Inputs]:  # fmt: skip
    """Find on the model what was left open, and the inputs with it.

    Args:
        options: what was named.
        inputs: what is known without the model.
        engine: the model.
        asked: keywords of the controls, with what asks in words for either side.
        folder: the run's.
        direction: 1 or -1, the sign of the strengths that are wanted.
        max_loss: the budget of loss.
        seed: of all draws.
        force: find it again.
        effort: keywords of `Wanted` that say how much is to be done.
        report: shows progress.
        then: the stages of the sweep that follows.
        n_shown: tokens of the texts that it shows, about.
    """
    from steercpp.provenance import json_sha256
    from steercpp.sweeps.prepare import prepare
    from steercpp.sweeps.stages import stages_to_find

    asks = asks_for(options, inputs, engine, asked, direction=direction, max_loss=max_loss, seed=seed, report=report)
    asks = replace(asks, **effort)
    on_stage = None
    if report is not None:
        before = stages_to_find(layers=asks.layers is None, strengths=asks.strengths is None)
        texts = engine.n_layer * n_shown
        report.plan([*before, *then], later=lambda: texts if report.number <= len(before) else 0.0)
        on_stage = report.on_stage
    found = prepare(engine, asks, out=folder, force=force, progress=report, on_stage=on_stage)
    identity = json_sha256({"found": found.identity, "layers": found.layers})
    others = {kind: items for kind, items in inputs.items.items() if kind not in ("behavior", "choice", "own")}
    return found, replace(
        inputs, items={**found.items, **others}, strengths=found.strengths, unit="norm",
        vector=lambda engine, report: (lambda: asks.directions(found.layers), identity),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is to be done."""

    quick: bool
    budget_s: float | None

    @property
    def suffix(self) -> str:
        """What it adds to the name of a run's folder, so that a full sweep goes into another."""
        budget = "" if self.budget_s is None else f"-budget-{self.budget_s:g}s"
        return f"{'-quick' if self.quick else ''}{budget}"

    def keywords(self, controls: ControlOptions) -> dict[str, Any]:
        """Keywords of `Wanted`."""
        return {
            "quick": self.quick, "budget_s": self.budget_s, "n_directions": controls.n_random + controls.orthogonal,
            "in_words": controls.prompt_baseline,
        }  # fmt: skip


def _seconds(ctx: click.Context, parameter: click.Parameter, value: str | None) -> float | None:
    """Click's callback for a time such as 90s, 10m or 2h."""
    if value is None:
        return None
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([smh])", value.strip())
    seconds = float(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2]] if match else 0.0
    if not 0 < seconds < math.inf:
        raise click.BadParameter(f"{value!r} is no time: write 90s, 10m or 2h.")
    return seconds


effort_options = grouped("effort", Effort, (
    click.option(
        "--quick", is_flag=True,
        help="A first answer on MODEL in about a third of the work: fewer items, intervals up to 1.7 times as wide.",
    ),
    click.option(
        "--budget", "budget_s", callback=_seconds, metavar="10m",
        help="Time that all of it may take on MODEL, such as 90s, 10m or 2h: items are left out before strengths.",
    ),
))  # fmt: skip


@dataclass(frozen=True, slots=True)
class Planned:
    """What a sweep would measure and take: the signals, the work, and the time at the speed of finding that out."""

    found: Preparation
    work: Estimate | None
    seconds: float

    def record(self) -> dict[str, Any]:
        """Plain data for JSON."""
        found = self.found.record()
        plan = None if self.work is None else {**self.work.record(), "seconds": self.seconds}
        items = {kind: len(items) for kind, items in self.found.items.items()}
        scope = {"scope": found["scope"]} if "scope" in found else {}
        return {"signals": found["signals"], "reason": found["reason"], "items": items, "plan": plan, **scope}


def plan_ahead(engine: Engine, asks: Wanted, controls: ControlOptions, report: output.Report | None) -> Planned:
    """Ask what each measure tells, and work out what the sweep will take."""
    from steercpp.sweeps.estimate import N_STRENGTHS, estimate
    from steercpp.sweeps.prepare import survey

    began = time.monotonic()
    found = survey(engine, asks, progress=report)
    elapsed, done = time.monotonic() - began, sum(found.token_layers.values())
    if found.reason:
        return Planned(found, None, float("nan"))
    work = estimate(
        engine, found, n_strengths=len(asks.strengths or ()) or found.scope.strengths[0] or N_STRENGTHS,
        n_directions=controls.n_random + controls.orthogonal, finds_layers=asks.layers is None,
        in_words=controls.prompt_baseline and bool(asks.instruction),
    )  # fmt: skip
    return Planned(found, work, (work.token_layers + work.to_find + done) * elapsed / max(done, 1))


def asks_for(
    options: NamedInputs, inputs: Inputs, engine: Engine, asked: Controls, *, direction: int, max_loss: float,
    seed: int, report: output.Report | None,
) -> Wanted:  # fmt: skip
    """What is to be found on a model, with what asks in words for either side; arguments as of `find_open`."""
    return wanted(
        options, engine, instruction=asked["instruction"] or inputs.instruction,
        opposite=asked["opposite"] or inputs.opposite, direction=direction, max_loss=max_loss, seed=seed, report=report,
    )  # fmt: skip


def wanted(
    options: NamedInputs, engine: Engine, *, instruction: str, opposite: str, direction: int, max_loss: float,
    seed: int, report: output.Report | None,
) -> Wanted:  # fmt: skip
    """What is to be found on a model.

    Args:
        options: what was named.
        engine: the model.
        instruction: asks in words for the aligned side; "" where nothing is known that does.
        opposite: asks for the other side, likewise.
        direction: 1 or -1, the sign of the strengths that are wanted.
        max_loss: the budget of loss.
        seed: of all draws.
        report: shows progress.

    Raises:
        SteerError: a file or a set cannot be read, or there is nothing to measure the behavior on.
    """
    from steercpp.sweeps.wanted import Wanted
    from steercpp.vectors.layers import default_layers, parse_layers

    directions, vector_id, of_vector = _directions(options, engine, report)
    layers = of_vector
    if options.layers not in (None, AUTO):
        layers = parse_layers(str(options.layers), engine.n_layer)
    elif layers is None and options.strengths is not None and options.layers != AUTO:
        layers = default_layers(engine.n_layer)  # strengths mean nothing without the layers that they are for
    choice, everyday, otherwise = _helpful(options)
    is_own = options.items.behavior == OWN or options.behavior_name is None
    return Wanted(
        directions=directions, vector_id=vector_id, behavior=_behavior(options),
        own_behavior=True if is_own else None, instruction=instruction, opposite=opposite,
        choice=choice, everyday=everyday, helps_otherwise=otherwise, layers=layers, strengths=options.strengths,
        direction=direction, max_loss=max_loss, seed=seed,
    )  # fmt: skip


def _directions(
    options: NamedInputs, engine: Engine, report: output.Report | None
) -> tuple[Callable[[Sequence[int]], ControlVector], str, tuple[int, ...] | None]:
    """How to come by the vector at some layers, what it is, and the layers that it has already."""
    if options.vector is not None:
        from steercpp.cli.options.vectors import file_vector
        from steercpp.errors import InputError
        from steercpp.vectors.control_vector import vector_sha256

        named = None if options.layers == AUTO else options.layers
        vector = file_vector(engine, options.vector, named)
        if vector.metadata.get("operator", "add") != "add" or vector.metadata.get("gate"):
            raise InputError(f"{options.vector}: is meant to act otherwise than llama.cpp does; give `strengths`")
        return vector.restricted_to, vector_sha256(vector), vector.layers
    from steercpp.data.pairs import pairs_sha256
    from steercpp.data.sets.names import contrast_pairs
    from steercpp.extraction.extract import extract
    from steercpp.provenance import json_sha256
    from steercpp.vectors.layers import parse_layers

    pairs = contrast_pairs(options.pairs or "", data=options.items.data, limit=options.items.limit)
    method = options.method or "mean"
    identity = json_sha256({"pairs": pairs_sha256(pairs), "method": method})

    @cache
    def whole() -> ControlVector:
        """At all layers: the pairs are decoded once, whatever layers are tried."""
        layers = range(1, engine.n_layer) if options.layers in (None, AUTO) else None
        at = layers or parse_layers(str(options.layers), engine.n_layer)
        return extract(engine, pairs, method=method, layers=tuple(at), progress=report)

    return lambda layers: whole().restricted_to(layers), identity, None


def _behavior(options: NamedInputs) -> Sequence[BehaviorItem | Request]:
    """The behavior items that were named, or those of the pairs' behavior, or else the prompts that pairs share.

    Raises:
        TaskError: none of these is there.
    """
    from steercpp.data.sets.builtin import spread
    from steercpp.data.sets.names import behavior_items, contrast_pairs
    from steercpp.errors import TaskError
    from steercpp.sweeps.own_continuations import requests_of

    of_items = options.items
    if (name := options.behavior_name) is not None:
        items = behavior_items(name, data=of_items.data, limit=of_items.limit, template=of_items.ask)
        is_named = of_items.behavior not in (None, OWN) or of_items.limit
        return items if is_named else spread(items, MOST_ITEMS)
    requests = requests_of(contrast_pairs(options.pairs, data=of_items.data)) if options.pairs else ()
    if not requests:
        raise TaskError(
            "the sides of these pairs share no prompt on which the behavior can be measured: give `behavior`, a file "
            "or a set (docs/real-models.md says which pairs have one)"
        )
    return requests[: of_items.limit]


def _helpful(options: NamedInputs) -> tuple[dict[str, Sequence[ChoiceItem]], Sequence[OwnItem], bool]:
    """Choice items as candidates for helpfulness, requests that the model answers itself, and whether others tell."""
    from steercpp.data.items import OwnItem
    from steercpp.data.sets.names import task_items

    limit = options.items.limit
    everyday = [item for item in task_items(OWN, limit=limit and 3 * limit) if isinstance(item, OwnItem)]
    if not options.items.tasks:
        names = ("knowledge", "knowledge:text")
        return {name: _choices(task_items(name, limit=limit)) for name in names}, everyday, False
    by_kind = options.items.task_items()
    choice = _choices(by_kind.get("choice", ()))
    own = [item for item in by_kind.get("own", ()) if isinstance(item, OwnItem)]
    return ({"choice": choice} if choice else {}), own or everyday, bool({"answer", "code"} & set(by_kind))


def _choices(items: Iterable[Item]) -> Sequence[ChoiceItem]:
    from steercpp.data.items import ChoiceItem

    return [item for item in items if isinstance(item, ChoiceItem)]
