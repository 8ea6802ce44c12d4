"""The work of measuring: which batches are decoded from where, and what is stored; read this to follow a pass.

What the items of each kind are to an engine is told in task_work.py, whose names are here too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from steercpp.engine.batch import Batch
from steercpp.engine.engine import Base, Engine
from steercpp.engine.steering import Steering
from steercpp.runs.store import Group, Store
from steercpp.sweeps.work import WORKS, Work, answer_work, behavior_work, choice_work, text_work

__all__ = [
    "BEHAVIOR",
    "CHOICE",
    "VECTOR",
    "WORKS",
    "Bases",
    "Groups",
    "Work",
    "answer_work",
    "behavior_work",
    "choice_work",
    "chunks",
    "measure",
    "packed_for",
    "text_work",
]

_NOT_WORTH_IT = "an unsteered pass to start from would not have paid"
BEHAVIOR, CHOICE, VECTOR = "behavior", "choice", "vector"


def packed_for(engine: Engine, work: Work, steering: Steering) -> Work:
    """The work with its gates decided, packed so that only what is steered alike is shared.

    Raises:
        LayerError, ShapeError: the gate or the vector is not for this model.
    """
    decided = engine.decide(work.queries, steering)
    return replace(work, batches=engine.pack(work.queries, decided), is_open=tuple(bool(one) for one in decided))


@dataclass(slots=True)
class Bases:
    """Unsteered passes of some batches, from which the steered ones start above the layers below.

    Attributes:
        engine: decodes.
        first_layer: the lowest steered layer.
        held: the base of each batch that has one.
        hopeless: whether the graph lets no pass be resumed, so that no more bases are made for it.
        keeps: whether steered passes of these batches will come.
    """

    engine: Engine
    first_layer: int
    held: dict[int, Base] = field(default_factory=dict)
    hopeless: bool = False
    keeps: bool = True

    def of(self, batch: Batch) -> Base | None:
        """The base of a batch, if it has one."""
        return self.held.get(id(batch))

    def make(self, batch: Batch) -> Base:
        """Run the unsteered pass of a batch."""
        base = self.held[id(batch)] = self.engine.base(batch, first_layer=self.first_layer)
        self.hopeless = not base.resumed and bool(base.kept)  # not for want of memory, which another batch may have
        return base

    def pays(self, n_passes: int) -> bool:
        """Whether an unsteered pass that nobody asked for pays for this many steered ones."""
        return not self.hopeless and n_passes * self.first_layer > self.engine.n_layer


Groups: TypeAlias = "list[tuple[Work, int, Batch]]"  # batches with their numbers within their work


def chunks(engine: Engine, work: Sequence[Work]) -> list[Groups]:
    """All batches in runs whose bases fit into the engine's memory for them."""
    found: list[Groups] = [[]]
    n_bytes = 0
    for part in work:
        for number, batch in enumerate(part.batches):
            size = batch.n_tokens * engine.n_embd * 4
            if found[-1] and n_bytes + size > engine.keep_bytes:
                found.append([])
                n_bytes = 0
            found[-1].append((part, number, batch))
            n_bytes += size
    return found


def measure(
    groups: Groups,
    store: Store,
    bases: Bases,
    *,
    label: str,
    steering: Steering,
    done: set[Group],
    n_later: int,
    tick: Callable[[int, bool], None],
) -> None:
    """Measure what is not in `done` under one steering; each group is committed when it is finished.

    Args:
        groups: the batches.
        store: takes the numbers.
        bases: where steered passes start from; made here where they pay.
        label: under which name.
        steering: vector and strength; at strength 0 nothing is steered, whatever the operator.
        done: finished groups; grows.
        n_later: how many steered passes of the same batches follow.
        tick: called with the tokens of each group, and whether they were decoded now.
    """
    engine = bases.engine
    for part, number, batch in groups:
        group = Group(label, part.kind, steering.strength, number)
        new = group not in done
        if new:
            before = engine.token_layers
            base = bases.of(batch)
            in_full = None
            if not steering.strength and not bases.keeps:
                logprobs = engine.logprobs(batch)
            elif not steering.strength:
                logprobs = (base or bases.make(batch)).logprobs
            else:
                if base is None and bases.pays(n_later + 1):
                    base = bases.make(batch)
                logprobs = engine.logprobs(batch, steering=part.steering(batch, steering), base=base)
                in_full = base.reason if base else _NOT_WORTH_IT
            rows = [(i, part.scores(i, nats)) for i, nats in zip(batch.members, logprobs, strict=True)]
            store.add(group, batch.n_tokens, engine.token_layers - before, in_full, rows)
            done.add(group)
        tick(batch.n_tokens, new)
