"""The work of measuring: which batches are decoded from where, and what is stored; read this to follow a pass.

What the items of each kind are to an engine stands in work.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np

from steercpp.aliases import Floats
from steercpp.engine.batch import Batch
from steercpp.engine.engine import AnswerKl, Base, Engine
from steercpp.engine.steering import Steering
from steercpp.runs.store import Group, Store
from steercpp.sweeps.own_answers import kl_between
from steercpp.sweeps.work import Work, packed

_NOT_WORTH_IT = "an unsteered pass to start from would not have paid"


def packed_for(engine: Engine, work: Work, steering: Steering) -> Work:
    """The work with its gates decided, packed so that only what is steered alike is shared.

    Raises:
        LayerError, ShapeError: the gate or the vector is not for this model.
    """
    decided = engine.decide(work.queries, steering)
    return replace(
        work,
        batches=packed(engine, work.queries, decided, most_rows=work.most_rows),
        is_open=tuple(bool(steerings) for steerings in decided),
    )


@dataclass(slots=True)
class Bases:
    """Unsteered passes of some batches, from which the steered ones start at the first steered layer.

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

    def make(self, batch: Batch, *, keep_logits: bool = False) -> Base:
        """Run the unsteered pass of a batch; with its logits where KL is to be told."""
        base = self.held[id(batch)] = self.engine.base(batch, first_layer=self.first_layer, keep_logits=keep_logits)
        self.hopeless = any(rows.reason for rows in base.kept)  # not for want of memory, which another batch may have
        return base

    def pays(self, n_passes: int) -> bool:
        """Whether an unsteered pass that nobody asked for pays for this many steered ones."""
        return not self.hopeless and n_passes * (self.first_layer + 1) > self.engine.n_layer


Groups: TypeAlias = "list[tuple[Work, int, Batch]]"  # batches with their numbers within their work


def chunks(engine: Engine, work: Sequence[Work]) -> list[Groups]:
    """All batches in runs whose bases fit into the engine's memory for them."""
    chunked: list[Groups] = [[]]
    n_bytes = 0
    for of_kind in work:
        for number, batch in enumerate(of_kind.batches):
            size = batch.n_tokens * engine.n_embd * 4
            if of_kind.is_own:
                size += sum(int(pass_.outputs.sum()) for pass_ in batch.passes) * engine.n_vocab * 4
            if chunked[-1] and n_bytes + size > engine.keep_bytes:
                chunked.append([])
                n_bytes = 0
            chunked[-1].append((of_kind, number, batch))
            n_bytes += size
    return chunked


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
    for of_kind, number, batch in groups:
        group = Group(label, of_kind.kind, steering.strength, number)
        is_new = group not in done
        if is_new:
            before = engine.token_layers
            base = bases.of(batch)
            in_full = None
            if of_kind.is_own:
                logprobs, in_full = _own_nats(of_kind, batch, bases, steering)
            elif not steering.strength and not bases.keeps:
                logprobs = engine.logprobs(batch)
            elif not steering.strength:
                logprobs = (base or bases.make(batch)).logprobs
            else:
                if base is None and bases.pays(n_later + 1):
                    base = bases.make(batch)
                logprobs = engine.logprobs(batch, steering=of_kind.steering(batch, steering), base=base)
                in_full = base.reason if base else _NOT_WORTH_IT
            rows = [(i, of_kind.scores(i, nats)) for i, nats in zip(batch.members, logprobs, strict=True)]
            store.add(group, batch.n_tokens, engine.token_layers - before, in_full, rows)
            done.add(group)
        tick(batch.n_tokens, is_new)


def _own_nats(of_kind: Work, batch: Batch, bases: Bases, steering: Steering) -> tuple[list[Floats], str | None]:
    """Of each own answer -KL at its tokens, then ln P of these; and why the pass was not resumed, see `Store.add`."""
    engine = bases.engine
    if of_kind.unsteered:  # after an instruction: two prompts, of which no pass starts from the other
        return [
            _nats(answer) for answer in kl_between(engine, batch, [of_kind.unsteered[i] for i in batch.members])
        ], None
    base = bases.of(batch) or bases.make(batch, keep_logits=True)
    if not steering.strength:
        return [np.concatenate([np.zeros_like(logprobs), logprobs]) for logprobs in base.token_logprobs], None
    answers = engine.answer_kl(batch, steering=of_kind.steering(batch, steering), base=base)
    return [_nats(answer) for answer in answers], base.reason


def _nats(answer: AnswerKl) -> Floats:
    return np.concatenate([-answer.kl, answer.logprobs])
