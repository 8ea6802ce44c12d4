"""Task items as what an engine decodes, and the work of measuring them; read this for what exactly is scored.

A behaviour item's number is the log-probability of each continuation after the prompt; a continuation that extends
another of its side is left out, for its probability is counted already. A choice item's numbers are those of the
vocabulary pieces that spell its letters, at the last row of the prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from steercpp.engine import Base, Engine
from steercpp.errors import ContextOverflowError, PromptError, TaskError
from steercpp.packing import Batch, Query
from steercpp.scoring import drop_extensions
from steercpp.steering import PerQuery, Steering
from steercpp.store import Continuation, Group, Store
from steercpp.tasks import BehaviorItem, ChoiceItem, Item, choice_prompt, letter_variants, named, repeated

_NOT_WORTH_IT = "an unsteered pass to start from would not have paid"
BEHAVIOR, CHOICE, VECTOR = "behavior", "choice", "vector"


@dataclass(frozen=True, slots=True)
class Work:
    """The items of one kind, ready to be decoded.

    Attributes:
        kind: "behavior" or "choice".
        items: as given.
        continuations: what is scored, item after item.
        queries: one for each item.
        batches: the queries, packed.
        is_open: for each query, whether its gate is open; all are without a gate.
    """

    kind: str
    items: tuple[Item, ...]
    continuations: tuple[Continuation, ...]
    queries: tuple[Query, ...]
    batches: tuple[Batch, ...]
    is_open: tuple[bool, ...]

    def steering(self, batch: Batch, steering: Steering) -> PerQuery:
        """What steers each query of a batch: the same, where its gate is open."""
        ungated = replace(steering, gate=None)
        return [ungated if self.is_open[member] else None for member in batch.members]

    @property
    def n_tokens(self) -> int:
        """Tokens decoded for one pass over the items."""
        return sum(batch.n_tokens for batch in self.batches)

    @property
    def n_tokens_plain(self) -> int:
        """Tokens that a plain loop decodes for it: each prompt anew for each of its longer continuations."""
        return sum(query.n_tokens_plain for query in self.queries)


def behavior_work(engine: Engine, items: Sequence[BehaviorItem]) -> Work:
    """Behaviour items, tokenized and packed.

    Raises:
        TaskError: two items share an id, or an aligned and a misaligned continuation begin with the same tokens
            so that one contains the other.
        ContextOverflowError: an item does not fit in the context.
    """
    queries, continuations = [], []
    for number, item in enumerate(items):
        text = _render(engine, item)
        sides = {}
        for side, texts in (("aligned", item.aligned), ("misaligned", item.misaligned)):
            tokens = [_continue(engine, item, text, continuation) for continuation in texts]
            sides[side] = [tokens[i] for i in drop_extensions(tokens)]
        _check_sides(item, sides["aligned"], sides["misaligned"])
        continuations += [Continuation(number, side, part) for side, parts in sides.items() for part in parts]
        prompt = engine.encode(item.prompt, template=item.template)
        queries.append(_query(engine, item, prompt, (*sides["aligned"], *sides["misaligned"])))
    return _work(engine, BEHAVIOR, items, continuations, queries)


def choice_work(engine: Engine, items: Sequence[ChoiceItem]) -> Work:
    """Choice items, tokenized and packed.

    Raises:
        TaskError: two items share an id, or the vocabulary has no single token for a letter.
        ContextOverflowError: an item does not fit in the context.
    """
    queries, continuations = [], []
    for number, item in enumerate(items):
        letters = []
        for i in range(len(item.choices)):
            found = {token for piece in letter_variants(i) if (token := engine.token_id(piece)) is not None}
            if not found:
                letter = letter_variants(i)[0]
                raise TaskError(
                    f"{named(item)}: the model has no single token for the letter {letter}; use fewer choices"
                )
            letters += [(i, token) for token in sorted(found)]
        continuations += [Continuation(number, str(i), (token,)) for i, token in letters]
        prompt = engine.encode(choice_prompt(item), template="raw")
        queries.append(_query(engine, item, prompt, tuple((token,) for _, token in letters)))
    return _work(engine, CHOICE, items, continuations, queries)


def _render(engine: Engine, item: BehaviorItem) -> str:
    try:
        return engine.render(item.prompt, template=item.template)
    except PromptError as error:
        raise PromptError(f"{named(item)}: {error}") from error


def _continue(engine: Engine, item: BehaviorItem, text: str, continuation: str) -> tuple[int, ...]:
    try:
        return engine.continue_tokens(text, continuation)
    except PromptError as error:
        raise PromptError(f"{named(item)}: {error}") from error


def _query(engine: Engine, item: Item, prompt: tuple[int, ...], parts: tuple[tuple[int, ...], ...]) -> Query:
    needed = len(prompt) + max(len(part) for part in parts) - 1
    if needed > engine.n_ctx:
        raise ContextOverflowError(
            f"{named(item)}: needs {needed} tokens but the context holds {engine.n_ctx}; shorten it or raise --n-ctx"
        )
    return Query(prompt, parts)


def _work(
    engine: Engine, kind: str, items: Sequence[Item], continuations: list[Continuation], queries: list[Query]
) -> Work:
    if twice := repeated(item.id for item in items):
        raise TaskError(f"two {kind} items have the id {twice!r}; ids must differ, across files too")
    is_open = (True,) * len(queries)
    return Work(kind, tuple(items), tuple(continuations), tuple(queries), engine.pack(queries), is_open)


def packed_for(engine: Engine, work: Work, steering: Steering) -> Work:
    """The work with its gates decided, packed so that only what is steered alike is shared.

    Raises:
        LayerError, ShapeError: the gate or the vector is not for this model.
    """
    decided = engine.decide(work.queries, steering)
    return replace(work, batches=engine.pack(work.queries, decided), is_open=tuple(bool(one) for one in decided))


def _check_sides(item: Item, aligned: list[tuple[int, ...]], misaligned: list[tuple[int, ...]]) -> None:
    for one in aligned:
        for other in misaligned:
            if one[: len(other)] == other[: len(one)]:
                raise TaskError(
                    f"{named(item)}: an aligned and a misaligned continuation begin with the same tokens and one "
                    "contains the other, so its probability would count on both sides; make them differ sooner"
                )


@dataclass(slots=True)
class Bases:
    """Unsteered passes of some batches, from which the steered ones start above the layers below.

    Attributes:
        engine: decodes.
        first_layer: the lowest steered layer.
        held: the base of each batch that has one.
        hopeless: whether the graph lets no pass be resumed, so that no more bases are made for it.
    """

    engine: Engine
    first_layer: int
    held: dict[int, Base] = field(default_factory=dict)
    hopeless: bool = False

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
            if not steering.strength:
                logprobs = (base or bases.make(batch)).logprobs
            else:
                if base is None and bases.pays(n_later + 1):
                    base = bases.make(batch)
                logprobs = engine.logprobs(batch, steering=part.steering(batch, steering), base=base)
                in_full = base.reason if base else _NOT_WORTH_IT
            rows = zip(batch.members, logprobs, strict=True)
            store.add(group, batch.n_tokens, engine.token_layers - before, in_full, rows)
            done.add(group)
        tick(batch.n_tokens, new)
