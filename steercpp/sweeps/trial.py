"""Measurements that decide how a sweep is laid out, and are kept in no store: B, choices, cost on everyday answers.

b = trial_behavior(engine, behavior_work(engine, items), steering).normalized[0]
EverydayCost.of(engine, answered).at(steering).mean()      # nats of KL per token
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from steercpp.aliases import Floats
from steercpp.data.items import ChoiceItem, OwnItem
from steercpp.engine.batch import Batch
from steercpp.engine.engine import Base, Engine
from steercpp.engine.steering import Steering
from steercpp.errors import NonFiniteError
from steercpp.runs.layout import Layout
from steercpp.runs.stored_scores import behavior_of, choice_of
from steercpp.statistics.scores import BehaviorScores, ChoiceScores
from steercpp.sweeps.work import Work, own_work

TRIAL_ANSWERS = 6  # of the choosing own answers, on which costs of layers and strengths are compared


def trial_logprobs(engine: Engine, work: Work, steering: Steering | None = None) -> Floats:
    """(1, n_continuations) nats of all items under one steering, in the order of their layout.

    Raises:
        NonFiniteError: the steering drives the activations out of float32's range. EngineError: a decode failed.
    """
    logprobs: list[Floats] = [np.empty(0)] * len(work.items)
    for batch in work.batches:
        for member, nats in zip(batch.members, engine.logprobs(batch, steering=steering), strict=True):
            logprobs[member] = nats
    return np.concatenate(logprobs)[None]


def trial_behavior(engine: Engine, work: Work, steering: Steering | None = None) -> BehaviorScores:
    """Behavior scores under one steering, as those of strength 0; see `trial_logprobs`."""
    return behavior_of([0.0], trial_logprobs(engine, work, steering), Layout.of(work.kind, work.sides()))


def trial_choice(engine: Engine, work: Work) -> ChoiceScores:
    """Choice scores of the unsteered model; see `trial_logprobs`."""
    items = [item for item in work.items if isinstance(item, ChoiceItem)]
    return choice_of([0.0], trial_logprobs(engine, work), Layout.of(work.kind, work.sides()), items)


@dataclass(slots=True)
class EverydayCost:
    """What a steering costs on the model's own answers, as KL per token; see own_answers.py.

    Attributes:
        engine: the model.
        batches: the answers, packed.
        n_items: how many answers there are.
    """

    engine: Engine
    batches: tuple[Batch, ...]
    n_items: int
    _bases: dict[int, list[Base]] = field(default_factory=dict)

    @classmethod
    def of(cls, engine: Engine, items: Iterable[OwnItem]) -> EverydayCost:
        """Answers to measure on.

        Raises:
            TaskError, PromptError, ContextOverflowError: as `own_work`.
        """
        work = own_work(engine, tuple(items))
        return cls(engine, work.batches, len(work.items))

    def at(self, steering: Steering) -> Floats:
        """(n_items,) mean KL(unsteered || steered) of each answer's tokens, in nats; infinite where nothing is finite.

        The unsteered pass below the lowest steered layer is kept until a steering begins at another layer.
        """
        nats = np.empty(self.n_items)
        for batch, base in zip(self.batches, self._base(min(steering.vector.layers)), strict=True):
            try:
                answers = self.engine.answer_kl(batch, steering=steering, base=base)
            except NonFiniteError:
                return np.full(self.n_items, np.inf)
            for number, answer in zip(batch.members, answers, strict=True):
                nats[number] = answer.kl.mean()
        return nats

    def _base(self, first_layer: int) -> list[Base]:
        if first_layer not in self._bases:
            self._bases.clear()
            self._bases[first_layer] = [
                self.engine.base(batch, first_layer=first_layer, keep_logits=True) for batch in self.batches
            ]
        return self._bases[first_layer]


@dataclass(slots=True)
class Spent:
    """Token-layers computed so far, by what they were computed for."""

    engine: Engine
    by_stage: dict[str, int] = field(default_factory=dict)
    _before: int = 0

    def __post_init__(self) -> None:
        self._before = self.engine.token_layers

    def take(self, stage: str, token_layers: int) -> None:
        """Book what was computed since the last call as counted by whoever computed it."""
        self.by_stage[stage] = self.by_stage.get(stage, 0) + token_layers
        self._before = self.engine.token_layers

    def count(self, stage: str, extra: int = 0) -> None:
        """Book what was computed since the last call under a stage, with `extra` that other contexts computed."""
        self.by_stage[stage] = self.by_stage.get(stage, 0) + self.engine.token_layers - self._before + extra
        self._before = self.engine.token_layers
