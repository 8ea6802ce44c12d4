"""`sweep(strengths="auto")`: a grid that reaches as far as half of the spec's own helpfulness is left.

    result = sweep(engine, vector, behavior=items, own=answers, strengths="auto", out="runs/auto")

Each side is bracketed for itself, in residual norms, on a few items (bracket.py). What was found and tried is kept in
the run's folder as prepared.json, so that the same call again goes on to the same bits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from steercpp.data.items import ChoiceItem, Kind
from steercpp.engine.engine import Engine
from steercpp.engine.steering import Steering
from steercpp.errors import InputError, NonFiniteError, RunError
from steercpp.locks import writing
from steercpp.provenance import json_sha256
from steercpp.runs.folder import ADDS_NOTHING, NEXT
from steercpp.runs.folder import prepare as prepare_folder
from steercpp.runs.layout import Layout
from steercpp.runs.manifest import MANIFEST
from steercpp.runs.preparation import Preparation, read_preparation
from steercpp.runs.stored_scores import choice_of
from steercpp.statistics.losses import guessing
from steercpp.sweeps.bracket import FIRST, auto_grid, cliff
from steercpp.sweeps.own_answers import choosing
from steercpp.sweeps.spec import SweepSpec
from steercpp.sweeps.trial import TRIAL_ANSWERS, EverydayCost, Spent, trial_logprobs
from steercpp.sweeps.units import in_norm_units
from steercpp.sweeps.work import WORKS, choice_work
from steercpp.vectors.control_vector import ControlVector

TRIAL_CHOICES = 32  # of the choice items
Left = Callable[[Steering], float]


def found_strengths(
    engine: Engine, vector: Callable[[], ControlVector], spec: SweepSpec, *, out: Path, vector_id: str, force: bool
) -> tuple[float, ...]:
    """Find the grid, or read what an earlier call found for the same.

    Args:
        engine: the model.
        vector: gives the vector.
        spec: what is to be swept, in the unit "norm"; its strengths are not looked at.
        out: the run's folder.
        vector_id: identity of the vector.
        force: find it again.

    Raises:
        InputError: another unit, a manner other than llama.cpp's, or no items tell where half is lost.
        RunError: the folder holds a run of another plan, or cannot be used.
    """
    if spec.unit != "norm":
        raise InputError(f'strengths "auto" are found in residual norms; give `unit="norm"`, not {spec.unit!r}')
    plan = replace(spec, strengths=(0.0,)).plan(engine, model_sha256=engine.sha256, vector_id=vector_id).to_json()
    identity = json_sha256({"strengths of": {key: value for key, value in plan.items() if key != "date"}})
    earlier = None if force else read_preparation(out)
    if earlier is not None and earlier.identity == identity:
        return earlier.strengths
    if not force and (out / MANIFEST).exists():
        raise RunError(f"{out}: holds a sweep of another plan, {ADDS_NOTHING}; {NEXT}")
    made, spent = vector(), Spent(engine)
    if not spec.steering(made).is_plain:
        raise InputError('strengths "auto" are for vectors that are added as llama.cpp does; give `strengths`')
    left = _left(engine, spec)
    kind, items = next(iter(spec.items.items()))
    prompts = WORKS[kind](engine, items).prompts
    in_norms, _ = in_norm_units(engine, made, prompts)
    ends = {sign: cliff(lambda s: left(Steering(in_norms, s)), first=FIRST, sign=sign) for sign in (1, -1)}
    spent.count("bracket")
    found = Preparation(
        identity, (), tuple(spec.behavior), tuple(spec.choice), tuple(spec.own), made.layers,
        auto_grid(*(end.end for end in ends.values())),
        sides={"+" if sign > 0 else "-": end.record() for sign, end in ends.items()}, token_layers=spent.by_stage,
    )  # fmt: skip
    with writing(out):
        prepare_folder(out)
        found.write(out)
    return found.strengths


def _left(engine: Engine, spec: SweepSpec) -> Left:
    """The share of helpfulness that is left under a steering: of own answers, else of choice items."""
    if spec.own:
        cost = EverydayCost.of(engine, choosing(spec.own)[:TRIAL_ANSWERS])
        return lambda steering: float(np.exp(-cost.at(steering)).mean())
    if not spec.choice:
        raise InputError('no items tell where half is lost: for strengths "auto" give `own` or `choice` items')
    few = [item for item in spec.choice[:TRIAL_CHOICES] if isinstance(item, ChoiceItem)]
    work = choice_work(engine, few)
    layout = Layout.of(work.kind, work.sides())
    by_letter = all(item.by != "text" for item in few)
    chance = 0.0 if by_letter else float(np.mean([1 / len(item.choices) for item in few]))

    def mean(steering: Steering | None) -> float:
        try:
            scores = choice_of([0.0], trial_logprobs(engine, work, steering), layout, few)
        except NonFiniteError:
            return chance
        if steering is None and guessing(scores):
            raise InputError(
                f"without steering the model only guesses these {len(few)} {Kind.CHOICE} items, so that nothing tells "
                'where half is lost; for strengths "auto" give `own` items'
            )
        return float((scores.p_free if by_letter else scores.p_restricted)[0].mean())

    at_0 = mean(None)
    if at_0 <= chance:
        raise InputError('without steering P(correct) is at chance; for strengths "auto" give `own` items')
    return lambda steering: (mean(steering) - chance) / (at_0 - chance)
