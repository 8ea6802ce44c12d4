"""The work of measuring: which batches are decoded from where, and what is stored; read this to follow a pass.

A task is one batch of items with all that its scoring needs: it can be measured here, or sent to another process and
measured there (spread.py, worker.py). What the items of each kind are to an engine stands in work.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Protocol, TypeAlias, TypeVar

import numpy as np

from steercpp.aliases import Floats, Tokens
from steercpp.engine.batch import Batch, Query
from steercpp.engine.engine import AnswerKl, Base, Engine
from steercpp.engine.steering import PerQuery, Steering
from steercpp.runs.store import Group, Store
from steercpp.sweeps.own_answers import kl_between
from steercpp.sweeps.texts import TextJob, TextPlan, generate_texts
from steercpp.sweeps.work import Work, packed, stepwise

T = TypeVar("T")
_NOT_WORTH_IT = "an unsteered pass to start from would not have paid"


def packed_for(engine: Engine, work: Work, steering: Steering) -> Work:
    """The work with its gates decided, packed so that only what is steered alike is shared.

    Raises:
        LayerError, ShapeError: the gate or the vector is not for this model.
    """
    ends = pairwise((*work.starts, len(work.queries)))  # decided as they are packed, what was added apart
    decided = [of_query for first, end in ends for of_query in engine.decide(work.queries[first:end], steering)]
    return replace(
        work,
        batches=packed(engine, work.queries, decided, most_rows=work.most_rows, starts=work.starts),
        is_open=tuple(bool(steerings) for steerings in decided),
    )


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """One batch of a kind of items, ready to be measured under any steering.

    Attributes:
        kind: of its items.
        number: of the batch within its kind.
        batch: the queries, packed; its members are the items' numbers.
        is_own: whether KL is measured, at each token of an answer.
        is_open: for each member, whether its gate is open.
        chains: for each member the tokens of its answers, whose beginnings its continuations are; empty where
            continuations are scored as a whole.
        unsteered: of own answers after an instruction, the members' queries without it.
    """

    kind: str
    number: int
    batch: Batch
    is_own: bool
    is_open: tuple[bool, ...]
    chains: tuple[tuple[Tokens, ...], ...] = ()
    unsteered: tuple[Query, ...] = ()

    @classmethod
    def of(cls, work: Work, number: int) -> Task:
        """A batch of the work."""
        batch = work.batches[number]

        def of_members(values: Sequence[T]) -> tuple[T, ...]:
            return tuple(values[member] for member in batch.members) if values else ()

        return cls(
            work.kind, number, batch, work.is_own, of_members(work.is_open), of_members(work.chains),
            of_members(work.unsteered),
        )  # fmt: skip

    def steering(self, steering: Steering) -> PerQuery:
        """What steers each query: the same, where its gate is open."""
        ungated = replace(steering, gate=None)
        return [ungated if is_open else None for is_open in self.is_open]

    def group(self, label: str, strength: float) -> Group:
        """What is finished when it is measured so."""
        return Group(label, self.kind, strength, self.number)


@dataclass(frozen=True, slots=True, eq=False)
class Variant:
    """One way in which items are measured.

    Attributes:
        label: under which name the numbers are kept.
        steering: vector and strength; at strength 0 nothing is steered, whatever the operator.
        words: what progress calls it.
    """

    label: str
    steering: Steering
    words: str = ""

    @property
    def strength(self) -> float:
        """Of its steering."""
        return self.steering.strength


Tick: TypeAlias = Callable[[Variant, int, bool], None]


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """The numbers of a task under a variant, as the store takes them; see `Store.add`."""

    group: Group
    n_tokens: int
    token_layers: int
    in_full: str | None
    rows: list[tuple[int, Floats]]

    def add_to(self, store: Store) -> None:
        """Commit them."""
        store.add(self.group, self.n_tokens, self.token_layers, self.in_full, self.rows)


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

    def keep_only(self, tasks: Iterable[Task]) -> None:
        """Let go of the bases of all other batches."""
        wanted = {id(task.batch) for task in tasks}
        self.held = {key: base for key, base in self.held.items() if key in wanted}

    def pays(self, n_passes: int) -> bool:
        """Whether an unsteered pass that nobody asked for pays for this many steered ones."""
        return not self.hopeless and pays(n_passes, self.first_layer, self.engine.n_layer)


def pays(n_passes: int, first_layer: int, n_layer: int) -> bool:
    """Whether so many passes above the first steered layer save more than the unsteered one that they need."""
    return n_passes * (first_layer + 1) > n_layer


def chunks(engine: Engine, work: Sequence[Work]) -> list[list[Task]]:
    """All batches in runs whose bases fit into the engine's memory for them."""
    chunked: list[list[Task]] = [[]]
    n_bytes = 0
    for of_kind in work:
        for number, batch in enumerate(of_kind.batches):
            size = batch.n_tokens * engine.n_embd * 4
            if of_kind.is_own:
                size += sum(int(pass_.outputs.sum()) for pass_ in batch.passes) * engine.n_vocab * 4
            if chunked[-1] and n_bytes + size > engine.keep_bytes:
                chunked.append([])
                n_bytes = 0
            chunked[-1].append(Task.of(of_kind, number))
            n_bytes += size
    return chunked


def measured(task: Task, bases: Bases, variant: Variant, *, n_later: int) -> Measured:
    """The numbers of a task under one variant.

    Args:
        task: what is decoded.
        bases: where steered passes start from; made here where they pay.
        variant: how it is steered.
        n_later: how many steered passes of the same task follow.

    Raises:
        EngineError: a decode failed.
    """
    engine, batch, steering = bases.engine, task.batch, variant.steering
    before = engine.token_layers
    base = bases.of(batch)
    in_full = None
    if task.is_own:
        logprobs, in_full = _own_nats(task, bases, steering)
    elif not steering.strength and not bases.keeps:
        logprobs = engine.logprobs(batch)
    elif not steering.strength:
        logprobs = (base or bases.make(batch)).logprobs
    else:
        if base is None and bases.pays(n_later + 1):
            base = bases.make(batch)
        logprobs = engine.logprobs(batch, steering=task.steering(steering), base=base)
        in_full = base.reason if base else _NOT_WORTH_IT
    if task.chains:
        logprobs = [stepwise(nats, answers) for nats, answers in zip(logprobs, task.chains, strict=True)]
    rows = list(zip(batch.members, logprobs, strict=True))
    group = task.group(variant.label, steering.strength)
    return Measured(group, batch.n_tokens, engine.token_layers - before, in_full, rows)


class Measurer(Protocol):
    """Where a sweep's items are measured; `Here`, or `Spread` over other processes."""

    def measure(
        self,
        chunked: Sequence[Sequence[Task]],
        variants: Sequence[Variant],
        *,
        keeps: bool = True,
        tick: Tick,
        after: Callable[[Variant], None] = lambda _: None,
    ) -> None:
        """Measure what is not finished of all tasks under all variants; each group is committed when it is there.

        Args:
            chunked: tasks, in runs whose bases fit into memory together.
            variants: how each is measured, the unsteered one first.
            keeps: whether steered passes of these tasks will come, so that unsteered ones are worth keeping.
            tick: called with a variant, the tokens of a group, and whether they were decoded now.
            after: called with each variant as soon as all of it is there.
        """

    def write(
        self,
        job: TextJob,
        text_plan: TextPlan,
        *,
        steering: Steering | None,
        strengths: Sequence[float],
        tick: Callable[[int, bool], None],
    ) -> None:
        """Continue prompts; as `generate_texts`."""


@dataclass(slots=True)
class Here:
    """Measures in this process, with this engine.

    Attributes:
        store: takes the numbers.
        bases: where steered passes start from.
        done: finished groups; grows.
    """

    store: Store
    bases: Bases
    done: set[Group]

    def measure(
        self,
        chunked: Sequence[Sequence[Task]],
        variants: Sequence[Variant],
        *,
        keeps: bool = True,
        tick: Tick,
        after: Callable[[Variant], None] = lambda _: None,
    ) -> None:
        """See `Measurer`."""
        bases = self.bases if keeps else Bases(self.bases.engine, self.bases.engine.n_layer, keeps=False)
        for n_chunks, tasks in enumerate(chunked, start=1):
            bases.keep_only(tasks)  # those of other batches make room
            for n_before, variant in enumerate(variants):
                tick(variant, 0, False)
                for task in tasks:
                    is_new = task.group(variant.label, variant.strength) not in self.done
                    if is_new:
                        self.commit(measured(task, bases, variant, n_later=len(variants) - 1 - n_before))
                    tick(variant, task.batch.n_tokens, is_new)
                if n_chunks == len(chunked):
                    after(variant)

    def commit(self, numbers: Measured) -> None:
        """Keep a group, which is finished then."""
        numbers.add_to(self.store)
        self.done.add(numbers.group)

    def write(
        self,
        job: TextJob,
        text_plan: TextPlan,
        *,
        steering: Steering | None,
        strengths: Sequence[float],
        tick: Callable[[int, bool], None],
    ) -> None:
        """See `Measurer`."""
        generate_texts(self.bases.engine, self.store, job, text_plan, steering=steering, strengths=strengths, tick=tick)


def _own_nats(task: Task, bases: Bases, steering: Steering) -> tuple[list[Floats], str | None]:
    """Of each own answer -KL at its tokens, then ln P of these; and why the pass was not resumed, see `Store.add`."""
    engine, batch = bases.engine, task.batch
    if task.unsteered:  # after an instruction: two prompts, of which no pass starts from the other
        return [_nats(answer) for answer in kl_between(engine, batch, task.unsteered)], None
    base = bases.of(batch) or bases.make(batch, keep_logits=True)
    if not steering.strength:
        return [np.concatenate([np.zeros_like(logprobs), logprobs]) for logprobs in base.token_logprobs], None
    answers = engine.answer_kl(batch, steering=task.steering(steering), base=base)
    return [_nats(answer) for answer in answers], base.reason


def _nats(answer: AnswerKl) -> Floats:
    return np.concatenate([-answer.kl, answer.logprobs])
