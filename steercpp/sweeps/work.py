"""Task items as what an engine decodes; read this for what exactly is scored of an item of each kind.

behavior    the log-probability of each continuation after the prompt; a continuation that extends another of its side
            is left out, for its probability is counted already
choice      that of the token that each letter adds to the prompt, and of its other spelling, with or without a space;
            or by text, that of each choice as a whole
answer      that of each token of each answer, given all before it
text        that of all tokens of the text after the first one
own         -KL(unsteered || steered) at each token of the answer, then the log-probability of each token

A Llama 2 chat model opens its answers with a lone space; where it does, the space is taken as the end of every prompt.

Items that were added to a run are packed apart from those before them (`starts`), and how they are asked is decided by
those that the run began with: so what is measured keeps its batches and its bits.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from steercpp.aliases import Floats, Tokens
from steercpp.data.choice_form import CHOICE_FORM, ChoiceForm
from steercpp.data.items import (
    AnswerItem,
    BehaviorItem,
    ChoiceItem,
    Item,
    Kind,
    OwnItem,
    TextItem,
    choice_continuations,
    choice_form_of,
    choice_prompt,
    letter_variants,
    named,
    repeated,
)
from steercpp.data.prompts import Prompt, Template, with_instruction
from steercpp.engine.batch import Batch, Query
from steercpp.engine.engine import Engine
from steercpp.engine.steering import PerQuery
from steercpp.errors import ContextOverflowError, PromptError, TaskError
from steercpp.runs.labels import OWN_TELLING
from steercpp.runs.store import Continuation
from steercpp.statistics.scores import drop_extensions
from steercpp.sweeps.own_answers import own_query, query_groups, rows_at_once

FROM_THE_FIRST = (0,)  # all items at once
N_ASKED = 8
NOTE = "the model opens its answers with a lone space, which is taken as the end of every {kind} prompt"


@dataclass(frozen=True, slots=True)
class Work:
    """The items of one kind, ready to be decoded.

    Attributes:
        kind: "behavior", "choice", "answer", "text", "own" or "own_telling".
        items: as given.
        continuations: what is scored, item after item.
        queries: one for each item.
        batches: the queries, packed.
        is_open: for each query, whether its gate is open; all are without a gate.
        notes: what of the scoring is not as usual, in sentences.
        chains: for each query the tokens of its answers, whose beginnings its continuations are; empty where
            continuations are scored as a whole.
        most_rows: of own answers, how many rows of logits a batch may have; None: their logits are not kept.
        unsteered: of own answers after an instruction, the queries without it, from which KL is counted.
        starts: the number of the first item, and of each that begins an addition: no batch reaches over one.
    """

    kind: str
    items: tuple[Item, ...]
    continuations: tuple[Continuation, ...]
    queries: tuple[Query, ...]
    batches: tuple[Batch, ...]
    is_open: tuple[bool, ...]
    notes: tuple[str, ...] = ()
    chains: tuple[tuple[Tokens, ...], ...] = ()
    most_rows: int | None = None
    unsteered: tuple[Query, ...] = ()
    starts: tuple[int, ...] = FROM_THE_FIRST

    @property
    def is_own(self) -> bool:
        """Whether KL is measured, at each token of an answer."""
        return self.kind in (Kind.OWN, OWN_TELLING)

    def scores(self, member: int, logprobs: Floats) -> Floats:
        """What is stored of one query: its continuations' logprobs, or those of the answers' tokens one by one."""
        return stepwise(logprobs, self.chains[member]) if self.chains else logprobs

    def sides(self) -> list[list[str]]:
        """For each item the sides of its continuations, in order."""
        sides: list[list[str]] = [[] for _ in self.items]
        for continuation in self.continuations:
            sides[continuation.item].append(continuation.side)
        return sides

    @property
    def prompts(self) -> list[Tokens]:
        """Tokens of each query's prompt; of a text, all of them."""
        is_text = self.kind == Kind.TEXT
        return [query.tokens + (query.continuations[0] if is_text else ()) for query in self.queries]

    @property
    def n_tokens(self) -> int:
        """Tokens decoded for one pass over the items."""
        return sum(batch.n_tokens for batch in self.batches)

    @property
    def n_tokens_plain(self) -> int:
        """Tokens that a plain loop decodes for it: each prompt again for each of its longer continuations."""
        return sum(self.n_tokens_plain_of_batches)

    @property
    def n_tokens_plain_of_batches(self) -> tuple[int, ...]:
        """The same for the items of each batch."""
        queries = self.queries
        if self.chains:
            queries = tuple(Query(query.tokens, answers) for query, answers in zip(queries, self.chains, strict=True))
        return tuple(sum(queries[member].n_tokens_plain for member in batch.members) for batch in self.batches)


def stepwise(logprobs: Floats, answers: Sequence[Tokens]) -> Floats:
    """The log-probability of each token of some answers, from those of all their beginnings."""
    steps = np.diff(logprobs, prepend=0.0)
    starts = np.cumsum([0, *map(len, answers)])[:-1]
    steps[starts] = logprobs[starts]
    return steps


def behavior_work(
    engine: Engine, items: Sequence[BehaviorItem], *, instruction: str = "", starts: tuple[int, ...] = FROM_THE_FIRST
) -> Work:
    """Behavior items, tokenized and packed.

    Args:
        engine: the model.
        items: the items.
        instruction: stands before every prompt; "" for none.
        starts: see `Work`.

    Raises:
        TaskError: two items share an id, or an aligned and a misaligned continuation begin with the same tokens
            so that one contains the other.
        PromptError: a prompt cannot be written in the model's template, or a continuation merges with its end.
        ContextOverflowError: an item does not fit in the context.
    """
    queries, continuations = [], []
    for number, item in enumerate(items):
        prompted = _Prompted.of(engine, item, item.prompt, item.template, instruction)
        sides = {}
        for side, texts in (("aligned", item.aligned), ("misaligned", item.misaligned)):
            tokens = [prompted.continued(continuation) for continuation in texts]
            sides[side] = [tokens[i] for i in drop_extensions(tokens)]
        _check_sides(item, sides["aligned"], sides["misaligned"])
        continuations += [Continuation(number, side, tokens) for side, of_side in sides.items() for tokens in of_side]
        queries.append(prompted.query((*sides["aligned"], *sides["misaligned"])))
    return _work(engine, Kind.BEHAVIOR, items, continuations, queries, starts=starts)


def choice_work(
    engine: Engine, items: Sequence[ChoiceItem], *, instruction: str = "", starts: tuple[int, ...] = FROM_THE_FIRST
) -> Work:
    """Choice items, tokenized and packed.

    A letter is the token that it adds to its prompt after a space, or, in a chat, where the template puts an answer.
    Where that takes several tokens, they are scored as a whole.

    Raises:
        TaskError: two items share an id. PromptError, ContextOverflowError: as `behavior_work`.
    """
    queries, continuations = [], []
    spelled: set[str] = set()
    n_by_text = n_extending = 0
    form = choice_form_of(items, engine.vocabulary.writes)
    for number, item in enumerate(items):
        prompted = _Prompted.of(engine, item, choice_prompt(item, form), item.template, instruction)
        if item.by == "text":
            scored = [(i, prompted.continued(text)) for i, text in enumerate(choice_continuations(item))]
            n_by_text += 1
            n_extending += len(drop_extensions([tokens for _, tokens in scored])) < len(scored)
        else:
            scored = []
            for i, letter in enumerate(form.letters[: len(item.choices)]):
                spellings = _spellings(engine, prompted.continued(f" {letter}"), letter_variants(i))
                if len(spellings[0]) > 1:
                    spelled.add(letter)
                scored += [(i, tokens) for tokens in spellings]
        continuations += [Continuation(number, str(i), tokens) for i, tokens in scored]
        queries.append(prompted.query(tuple(tokens for _, tokens in scored)))
    notes = _choice_notes(items, form, spelled, n_by_text, n_extending)
    return _work(engine, Kind.CHOICE, items, continuations, queries, notes, starts=starts)


def _spellings(engine: Engine, asked: Tokens, variants: Collection[str]) -> list[Tokens]:
    """What is scored of a letter: the tokens that it adds to its prompt.

    Where these are one of the spellings that the paper counts, "A", "▁A" and "ĠA", so are the others of them that the
    vocabulary has, of which the likeliest counts.
    """
    if len(asked) > 1 or engine.pieces[asked[0]] not in variants:
        return [asked]
    others = {token for piece in variants if (token := engine.token_id(piece)) is not None}
    return [(token,) for token in sorted({*asked, *others})]


def answer_work(
    engine: Engine, items: Sequence[AnswerItem], *, instruction: str = "", starts: tuple[int, ...] = FROM_THE_FIRST
) -> Work:
    """Answer items, tokenized and packed: every beginning of an answer is a continuation.

    The beginnings share their tokens, so they cost no more than the whole answer, and from their log-probabilities
    follow those of its tokens one by one.

    Raises:
        TaskError: two items share an id. PromptError, ContextOverflowError: as `behavior_work`.
    """
    queries, continuations, chains = [], [], []
    for number, item in enumerate(items):
        prompted = _Prompted.of(engine, item, item.prompt, item.template, instruction)
        answers = tuple(prompted.continued(text) for text in item.answers)
        chains.append(answers)
        continuations += [Continuation(number, str(i), (t,)) for i, answer in enumerate(answers) for t in answer]
        queries.append(prompted.query(tuple(answer[: n + 1] for answer in answers for n in range(len(answer)))))
    return replace(_work(engine, Kind.ANSWER, items, continuations, queries, starts=starts), chains=tuple(chains))


def text_work(
    engine: Engine, items: Sequence[TextItem], *, instruction: str = "", starts: tuple[int, ...] = FROM_THE_FIRST
) -> Work:
    """Texts, tokenized and packed; an instruction has no place before them.

    Raises:
        TaskError: two items share an id, or a text is a single token, after which nothing is left to score.
        ContextOverflowError: a text does not fit in the context.
    """
    assert not instruction
    queries, continuations = [], []
    for number, item in enumerate(items):
        first, *rest = _Prompted.of(engine, item, item.text, "raw", "").tokens
        if not rest:
            raise TaskError(f"{named(item)}: the text is a single token, so nothing follows it to be scored")
        continuations.append(Continuation(number, "text", tuple(rest)))
        queries.append(_query(engine, item, (first,), (tuple(rest),)))
    notes = []
    if {query.tokens[0] for query in queries} != {engine.bos}:
        notes.append("no begin-of-sequence token stands before a text, so its first token is not scored")
    return _work(engine, Kind.TEXT, items, continuations, queries, tuple(notes), starts=starts)


def own_work(
    engine: Engine,
    items: Sequence[OwnItem],
    *,
    instruction: str = "",
    kind: str = Kind.OWN,
    starts: tuple[int, ...] = FROM_THE_FIRST,
) -> Work:
    """Own answers with their exact tokens, packed so that the logits of a batch fit into half of the engine's memory.

    Args:
        engine: the model.
        items: answered.
        instruction: stands before every request; "" for none.
        kind: "own", or "own_telling".
        starts: see `Work`.

    Raises:
        TaskError: two items share an id, or one is not answered with this model's tokens.
        PromptError, ContextOverflowError: as `behavior_work`.
    """
    if twice := repeated(item.id for item in items):
        raise TaskError(f"two own items have the id {twice!r}; ids must differ, across files too")
    queries = tuple(own_query(engine, item, instruction) for item in items)
    sides = ("kl", "logprob")
    continuations = [
        Continuation(number, side, (token,))
        for number, item in enumerate(items)
        for side in sides
        for token in item.tokens
    ]
    most_rows = rows_at_once(engine)
    unsteered = tuple(own_query(engine, item) for item in items) if instruction else ()
    return Work(
        kind, tuple(items), tuple(continuations), queries, packed(engine, queries, most_rows=most_rows, starts=starts),
        (True,) * len(items), most_rows=most_rows, unsteered=unsteered, starts=starts,
    )  # fmt: skip


def telling_work(
    engine: Engine, items: Sequence[OwnItem], *, instruction: str = "", starts: tuple[int, ...] = FROM_THE_FIRST
) -> Work:
    """Own answers that tell, as `own_work`."""
    return own_work(engine, items, instruction=instruction, kind=OWN_TELLING, starts=starts)


def packed(
    engine: Engine,
    queries: Sequence[Query],
    steering: PerQuery = None,
    *,
    most_rows: int | None = None,
    starts: tuple[int, ...] = FROM_THE_FIRST,
) -> tuple[Batch, ...]:
    """Queries packed, as `Engine.pack`, none together with those before one of `starts`.

    No more rows of logits are in a batch than `most_rows`, but for a longer query.
    """
    batches = []
    for first, end in pairwise((*starts, len(queries))):
        for numbers in _groups(queries, first, end, most_rows):
            of_group = [steering[number] for number in numbers] if isinstance(steering, Sequence) else steering
            for batch in engine.pack([queries[number] for number in numbers], of_group):
                batches.append(replace(batch, members=tuple(numbers[member] for member in batch.members)))
    return tuple(batches)


def _groups(queries: Sequence[Query], first: int, end: int, most_rows: int | None) -> Iterator[Sequence[int]]:
    """Numbers of queries that may be packed together."""
    if most_rows is None:
        yield range(first, end)
        return
    for group in query_groups(queries[first:end], most_rows):
        yield [first + number for number in group]


WORKS: Mapping[str, Callable[..., Work]] = {
    Kind.BEHAVIOR: behavior_work, Kind.CHOICE: choice_work, Kind.ANSWER: answer_work, Kind.TEXT: text_work,
    Kind.OWN: own_work, OWN_TELLING: telling_work,
}  # fmt: skip


def prompted_work(engine: Engine, work: Work, instruction: str) -> Work | str:
    """The same items with an instruction before every prompt, or why they cannot be asked so.

    The continuations stand after other prompts, so they are tokenized again; scores of the two can be compared only
    where the same ones are left.
    """
    try:
        prompted = WORKS[work.kind](engine, work.items, instruction=instruction, starts=work.starts)
    except (ContextOverflowError, PromptError, TaskError) as error:
        return f"with the instruction before it, {error}"
    for item, old, new in zip(work.items, work.sides(), prompted.sides(), strict=True):
        if old != new:
            return f"{named(item)}: after the instruction its continuations fall into tokens otherwise"
    return prompted


@dataclass(frozen=True, slots=True)
class _Prompted:
    """An item's prompt, as the model sees it, and what it takes to tokenize it with its continuations."""

    engine: Engine
    item: Item
    prompt: Prompt
    template: Template

    @classmethod
    def of(cls, engine: Engine, item: Item, prompt: Prompt, template: Template, instruction: str) -> _Prompted:
        if instruction:
            prompt = with_instruction(prompt, instruction, template=template, between=engine.vocabulary.paragraph)
        return cls(engine, item, prompt, template)

    def continued(self, continuation: str) -> Tokens:
        """The tokens that a continuation adds."""
        try:
            return self.engine.continue_tokens(self.prompt, continuation, template=self.template)
        except PromptError as error:
            raise type(error)(f"{named(self.item)}: {error}") from error

    @property
    def tokens(self) -> Tokens:
        """The prompt's."""
        try:
            return self.engine.encode(self.prompt, template=self.template)
        except PromptError as error:
            raise type(error)(f"{named(self.item)}: {error}") from error

    def query(self, continuations: tuple[Tokens, ...]) -> Query:
        """The prompt with these continuations."""
        return _query(self.engine, self.item, self.tokens, continuations)


def _query(engine: Engine, item: Item, prompt: Tokens, continuations: tuple[Tokens, ...]) -> Query:
    needed = _positions(prompt, continuations)
    if needed > engine.n_ctx:
        raise ContextOverflowError(
            f"{named(item)}: needs {needed} tokens but the context holds {engine.n_ctx}; shorten it or raise `n_ctx`"
        )
    return Query(prompt, continuations)


def _positions(prompt: Tokens, continuations: tuple[Tokens, ...]) -> int:
    """How many positions a prompt and its longest continuation take."""
    return len(prompt) + max(map(len, continuations)) - 1


def _work(
    engine: Engine,
    kind: str,
    items: Sequence[Any],
    continuations: list[Continuation],
    queries: list[Query],
    notes: tuple[str, ...] = (),
    *,
    starts: tuple[int, ...],
) -> Work:
    if twice := repeated(item.id for item in items):
        raise TaskError(f"two {kind} items have the id {twice!r}; ids must differ, across files too")
    if kind != Kind.TEXT:
        queries, opens = with_opening_space(engine, queries, n_deciding=(*starts, len(queries))[1])
        notes += (NOTE.format(kind=kind),) if opens else ()
    is_open = (True,) * len(queries)
    n_long = sum(_positions(query.tokens, query.continuations) > engine.n_ctx_train for query in queries)
    if n_long:
        notes += (
            f"{n_long} of {len(items)} {kind} items are longer than the {engine.n_ctx_train} tokens that the model was "
            "trained for",
        )
    batches = packed(engine, queries, starts=starts)
    return Work(kind, tuple(items), tuple(continuations), tuple(queries), batches, is_open, notes, starts=starts)


def _check_sides(item: Item, aligned: list[Tokens], misaligned: list[Tokens]) -> None:
    for left in aligned:
        for right in misaligned:
            if left[: len(right)] == right[: len(left)]:
                raise TaskError(
                    f"{named(item)}: an aligned and a misaligned continuation begin with the same tokens and one "
                    "contains the other, so its probability would count on both sides; make them differ sooner"
                )


def _choice_notes(
    items: Sequence[ChoiceItem], form: ChoiceForm, spelled: set[str], n_by_text: int, n_extending: int
) -> tuple[str, ...]:
    """What is not asked in the usual form, or not read off a single letter's token."""
    notes = []
    if form != CHOICE_FORM:
        asked = form.asked("…", ("…",) * 2)
        notes.append(f"the vocabulary lacks signs of the usual form, so choices are asked as {asked!r}")
    if spelled:
        letters = ", ".join(sorted(spelled))
        notes.append(f"the vocabulary has no single token for {letters}, scored as a whole continuation after a space")
    if n_by_text:
        notes.append(
            f"{n_by_text} of {len(items)} choice items are asked by text: a choice is scored as a whole, P(correct) "
            "over the choices is its share of their summed P"
        )
    if n_extending:
        notes.append(f"{n_extending} of them have a choice that extends another, whose P holds that of the longer one")
    return tuple(notes)


def with_opening_space(
    engine: Engine, queries: Sequence[Query], *, n_deciding: int | None = None
) -> tuple[list[Query], bool]:
    """The queries, with a lone space at the end of every prompt where the model would write it there itself.

    Args:
        engine: the model.
        queries: prompts of one kind of item with their continuations.
        n_deciding: how many of them decide, the first ones; None for all.

    Returns:
        the queries, and whether they have it now: where the median P of the lone space after up to 8 prompts, evenly
        spread, is above a half.
    """
    token = engine.vocabulary.lone_space
    if token is None or not queries:
        return list(queries), False
    places = np.unique(np.linspace(0, (n_deciding or len(queries)) - 1, N_ASKED).astype(int))
    batches = engine.pack([Query(queries[place].tokens, ((token,),)) for place in places])
    space_nats = np.concatenate([nats for batch in batches for nats in engine.logprobs(batch)])
    if np.exp(np.median(space_nats)) <= 0.5:
        return list(queries), False
    return [Query((*query.tokens, token), query.continuations) for query in queries], True
