"""Task items as what an engine decodes, and the work of measuring them; read this for what exactly is scored.

A behaviour item's number is the log-probability of each continuation after the prompt; a continuation that extends
another of its side is left out, for its probability is counted already. A choice item's numbers are those of the
vocabulary pieces that spell its letters, at the last row of the prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from steercpp.control_vector import ControlVector
from steercpp.engine import Engine
from steercpp.errors import ContextOverflowError, PromptError, TaskError
from steercpp.packing import Batch, Query
from steercpp.scoring import drop_extensions
from steercpp.store import Continuation, Group, Store
from steercpp.tasks import BehaviorItem, ChoiceItem, Item, choice_prompt, letter_variants, named, repeated

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
    """

    kind: str
    items: tuple[Item, ...]
    continuations: tuple[Continuation, ...]
    queries: tuple[Query, ...]
    batches: tuple[Batch, ...]

    @property
    def n_tokens(self) -> int:
        """Tokens decoded for one pass over the items."""
        return sum(batch.n_tokens for batch in self.batches)

    @property
    def n_tokens_plain(self) -> int:
        """Tokens that a plain loop decodes for it: each prompt anew for each of its longer continuations."""
        total = 0
        for query in self.queries:
            longer = [len(part) - 1 for part in query.continuations if len(part) > 1]
            total += max(len(longer), 1) * len(query.tokens) + sum(longer)
        return total


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
    return Work(kind, tuple(items), tuple(continuations), tuple(queries), engine.pack(queries))


def _check_sides(item: Item, aligned: list[tuple[int, ...]], misaligned: list[tuple[int, ...]]) -> None:
    for one in aligned:
        for other in misaligned:
            if one[: len(other)] == other[: len(one)]:
                raise TaskError(
                    f"{named(item)}: an aligned and a misaligned continuation begin with the same tokens and one "
                    "contains the other, so its probability would count on both sides; make them differ sooner"
                )


def measure(
    engine: Engine,
    work: Sequence[Work],
    store: Store,
    *,
    label: str,
    vector: ControlVector,
    strength: float,
    done: set[Group],
    tick: Callable[[int, bool], None],
) -> None:
    """Measure what is not in `done` of one vector at one strength; each group is committed when it is finished.

    Args:
        engine: decodes.
        work: the kinds of items.
        store: takes the groups.
        label: under which name.
        vector: what strength 1 adds.
        strength: how often; at 0 no vector is set at all.
        done: finished groups; grows.
        tick: called with the tokens of each group, and whether they were decoded now.
    """
    for group, batch in groups(work, label, strength):
        new = group not in done
        if new:
            logprobs = engine.logprobs(batch, vector=vector if strength else None, strengths=strength)
            store.add(group, batch.n_tokens, enumerate(logprobs, start=batch.first))
            done.add(group)
        tick(batch.n_tokens, new)


def groups(work: Sequence[Work], label: str, strength: float) -> Iterator[tuple[Group, Batch]]:
    """Every unit of work of one vector at one strength."""
    for part in work:
        for number, batch in enumerate(part.batches):
            yield Group(label, part.kind, strength, number), batch
