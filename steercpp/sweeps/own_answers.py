"""The unsteered model's own answers to ordinary requests, and what words alone do to them; docs/own-answers.md.

    items = own_answers(engine, capability_set("everyday"), seed=0)
    sweep(engine, vector, behavior=..., own=items, strengths=grid("-0.1:0.1:0.02"), unit="norm", out="runs/own")

Answers are sampled, at temperature 1 and from the whole vocabulary, and kept with their exact tokens. With p0 the
unsteered model and ps the steered one, the cost at a token y_t of an answer to a request x is

    KL_t = sum over tokens v of p0(v | x, y before t) ln [p0(v | x, y before t) / ps(v | x, y before t)],

and helpfulness is exp(-mean KL per token). By the chain rule the sum over an answer's tokens, averaged over answers
drawn from p0, is KL(p0 || ps) of whole answers: each sampled sum is an unbiased estimate of it. Where an answer ended
by itself, its last token is the end-of-generation token, so that longer or shorter answers count too.

A fixed answer, such as the likeliest, would not do: its ln P need not peak at strength 0, so that what was lost could
be below 0. What the measure cannot see is told in docs/own-answers.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np

from steercpp.aliases import FloatArray, Floats, Progress, Tokens
from steercpp.data.items import Kind, OwnItem, named
from steercpp.data.prompts import Prompt, Template, as_chat, with_instruction
from steercpp.engine import reference
from steercpp.engine.batch import Batch, Query
from steercpp.engine.engine import AnswerKl, Engine
from steercpp.engine.generation import Generated, generate_each
from steercpp.engine.sampling import Sampling
from steercpp.engine.session import by_token
from steercpp.errors import ContextOverflowError, PromptError, RunError, TaskError
from steercpp.judging.answers import ends_in_thought
from steercpp.runs.folder import NEXT, STORE
from steercpp.runs.labels import OWN_TELLING
from steercpp.runs.manifest import MANIFEST, is_finished
from steercpp.runs.store import Store

MAX_TOKENS = 24
DRAWS = 3  # of an answer, before a request that is answered with nothing is left out
_NO_SEED = 2**32 - 1  # llama.cpp's own for a new seed each time


class _HasLogits(Protocol):
    """An engine, or its sizes alone."""

    @property
    def n_vocab(self) -> int: ...

    @property
    def keep_bytes(self) -> int: ...


def own_answers(
    engine: Engine,
    items: Sequence[OwnItem],
    *,
    max_tokens: int = MAX_TOKENS,
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[OwnItem, ...]:
    """Have the unsteered model answer what is not answered yet.

    Args:
        engine: the model.
        items: requests; those that have tokens stay as they are.
        max_tokens: of each answer, the end-of-generation token among them.
        seed: of the draws; each item has one of its own, by its number.
        progress: called with (requests answered, of how many, what is done).

    Returns:
        the items with their answers, in their order, without those whose answer is empty in three draws, or holds a
        thought each time; the same arguments give the same answers.

    Raises:
        PromptError: a request cannot be written in the model's template, or its prompt ends inside a thought.
        ContextOverflowError: a request and its answer do not fit into the context.
        TaskError: every answer is empty.
        EngineError, NonFiniteError: a decode failed.

    >>> (item,) = own_answers(engine, [OwnItem("moon", "What is the moon?")], max_tokens=4)
    >>> 0 < len(item.tokens) <= 4
    True
    """
    answered: dict[int, OwnItem] = {number: item for number, item in enumerate(items) if item.tokens}
    open_ones = [number for number in range(len(items)) if number not in answered]
    prompts = {number: _prompt(engine, items[number], max_tokens) for number in open_ones}
    n_open = len(open_ones)
    for draw in range(DRAWS):
        if not open_ones:
            break
        n_done = n_open - len(open_ones)

        def tick(n: int, n_all: int, n_before: int = n_done) -> None:
            if progress is not None:
                progress(min(n_before + n, n_open), n_open, "collecting the model's answers")

        rows = generate_each(
            engine, [prompts[number] for number in open_ones], max_tokens=max_tokens, progress=tick,
            sampling=[Sampling(temperature=1.0, seed=_seed(seed, number, draw)) for number in open_ones],
        ).rows  # fmt: skip
        drawn = dict(zip(open_ones, rows, strict=True))
        answered |= {
            number: replace(items[number], answer=row.text, tokens=_tokens(row, max_tokens))
            for number, row in drawn.items()
            if _is_answer(row)
        }
        open_ones = [number for number in open_ones if number not in answered]
    if items and not answered:
        raise TaskError(
            f"{engine.path}: the model answers none of the {len(items)} requests: its answers are empty or begin with "
            "a thought; take other requests, or measure helpfulness on choice items"
        )
    return tuple(answered[number] for number in sorted(answered))


def kept_answers(folder: Path, requests: Sequence[OwnItem]) -> tuple[OwnItem, ...] | None:
    """The requests with the answers that a run in a folder has, so that none of them is drawn again.

    Args:
        folder: a run directory, begun or finished, or anything else.
        requests: what is to be answered; those that are answered already have the same answer in the run.

    Returns:
        the requests in their order, answered where the run has an answer; those that it left out are open still, as are
            new ones: `own_answers` draws for these. None where no run is begun in the folder.

    Raises:
        RunError: the run has other requests, or is damaged.
    """
    if not (folder / MANIFEST).is_file() or not (folder / STORE).is_file():
        return None
    with Store.read(folder / STORE, settled=is_finished(folder)) as store:
        kept = [item for kind in (Kind.OWN, OWN_TELLING) for item in store.items(kind) if isinstance(item, OwnItem)]
    asked = {request.id: (number, request) for number, request in enumerate(requests)}
    found: dict[int, OwnItem] = {}
    for item in kept:
        number, request = asked.get(item.id, (-1, None))
        if request is None or (item if request.tokens else replace(item, answer="", tokens=())) != request:
            found.clear()
            break
        found[number] = item
    if not found:
        raise RunError(f"{folder}: holds a sweep of another plan (other own items); {NEXT}")
    return tuple(found.get(number, request) for number, request in enumerate(requests))


def choosing(items: Sequence[OwnItem]) -> tuple[OwnItem, ...]:
    """Those that are measured at every strength: numbers 0, 3, 6 ..."""
    return tuple(items[::3])


def telling(items: Sequence[OwnItem]) -> tuple[OwnItem, ...]:
    """The others, which are measured at the candidate alone."""
    return tuple(item for number, item in enumerate(items) if number % 3)


def undealt(choosing: Sequence[OwnItem], telling: Sequence[OwnItem]) -> tuple[OwnItem, ...]:
    """All of them in their order, from those that choose and those that tell."""
    parts = iter(choosing), iter(telling)
    return tuple(next(parts[number % 3 > 0]) for number in range(len(choosing) + len(telling)))


def own_prompt(engine: Engine, item: OwnItem, instruction: str = "") -> tuple[Prompt, Template]:
    """How a request is put: as it says, and to a model without a chat template as a text with a blank line after it."""
    prompt, template = item.prompt, item.template
    if engine.chat_template is None and (isinstance(prompt, tuple) or template == "chat"):
        blank = engine.vocabulary.paragraph
        prompt, template = blank.join([*(turn.content for turn in as_chat(prompt)), ""]), "raw"
    if instruction:
        prompt = with_instruction(prompt, instruction, template=template, between=engine.vocabulary.paragraph)
    return prompt, template


def own_query(engine: Engine, item: OwnItem, instruction: str = "") -> Query:
    """A request with the tokens of its answer, as they are scored.

    Args:
        engine: the model.
        item: answered.
        instruction: stands before the request; "" for none.

    Raises:
        TaskError: it is not answered, or its tokens are not of this model's vocabulary.
        PromptError: the request cannot be written in the model's template.
        ContextOverflowError: both together do not fit into the context.
    """
    if not item.tokens:
        raise TaskError(f"{named(item)}: is not answered yet; have the model answer it with `own_answers`")
    if max(item.tokens) >= engine.n_vocab:
        raise TaskError(
            f"{named(item)}: token {max(item.tokens)} is beyond this model's vocabulary of {engine.n_vocab}; leave out "
            "answer and tokens, and the model answers again"
        )
    try:
        prompt, template = own_prompt(engine, item, instruction)
        tokens = engine.encode(prompt, template=template)
    except PromptError as error:
        raise type(error)(f"{named(item)}: {error}") from error
    if (needed := len(tokens) + len(item.tokens) - 1) > engine.n_ctx:
        raise ContextOverflowError(
            f"{named(item)}: needs {needed} tokens but the context holds {engine.n_ctx}; shorten it or raise `n_ctx`"
        )
    return Query(tokens, (item.tokens,))


def rows_at_once(sizes: _HasLogits) -> int:
    """How many rows of logits half of an engine's memory for unsteered passes holds."""
    return max(sizes.keep_bytes // 2 // (4 * sizes.n_vocab), 1)


def query_groups(queries: Sequence[Query], most_rows: int) -> list[list[int]]:
    """Numbers of queries in their order, in groups of so many rows of logits, but for a longer query on its own."""
    groups: list[list[int]] = []
    n_rows = 0
    for number, query in enumerate(queries):
        n = sum(map(len, query.continuations))
        if not groups or n_rows + n > most_rows:
            groups.append([])
            n_rows = 0
        groups[-1].append(number)
        n_rows += n
    return groups


def words_kl(engine: Engine, items: Sequence[OwnItem], instruction: str) -> Floats:
    """How far an instruction in words moves the unsteered model's own answers: mean KL per token of each.

    KL(p0 || p in words) of the same answers, after the request and after the request with the instruction before it.

    Args:
        engine: the model.
        items: answered.
        instruction: asks for a behavior in words.

    Returns:
        (n_items,) nats per token, float64.

    Raises:
        TaskError, PromptError, ContextOverflowError: as `own_query`.

    >>> answered = own_answers(engine, [OwnItem("moon", "What is the moon?")], max_tokens=4)
    >>> words_kl(engine, answered, "Answer in French.").shape
    (1,)
    """
    queries = [own_query(engine, item) for item in items]
    in_words = [own_query(engine, item, instruction) for item in items]
    kl = np.empty(len(items))
    for group in query_groups(queries, rows_at_once(engine)):
        for batch in engine.pack([in_words[number] for number in group]):
            members = [group[member] for member in batch.members]
            kl[members] = [of_item.kl.mean() for of_item in kl_between(engine, batch, [queries[m] for m in members])]
    return kl


def kl_between(engine: Engine, batch: Batch, queries: Sequence[Query]) -> list[AnswerKl]:
    """KL at each token of the same answers after two prompts, unsteered: of `queries` from those of a batch.

    Args:
        engine: the model.
        batch: one of `pack`'s; each query of one continuation.
        queries: for each of its queries another prompt with the same continuation, from which KL is counted.

    Returns:
        for each query KL, and ln P of the tokens after the batch's prompt.
    """
    unsteered: list[FloatArray] = [np.empty((0, engine.n_vocab), np.float32)] * len(queries)
    for other in engine.pack(queries):
        for member, rows in zip(other.members, _token_logits(engine, other), strict=True):
            unsteered[member] = rows
    moved = _token_logits(engine, batch)
    answers = []
    for query, rows, rows_0 in zip(queries, moved, unsteered, strict=True):
        nats = [float(reference.kl(row_0[None], row[None])[0]) for row_0, row in zip(rows_0, rows, strict=True)]
        logprobs = [float(reference.log_softmax(row)[t]) for row, t in zip(rows, query.continuations[0], strict=True)]
        answers.append(AnswerKl(np.maximum(nats, 0.0), np.array(logprobs)))
    return answers


def _token_logits(engine: Engine, batch: Batch) -> list[FloatArray]:
    """For each query of a batch the logits (n_tokens, n_vocab) that its continuation's tokens are drawn from."""
    logits = engine.logits(batch)
    places, n_before = [], 0
    for pass_ in batch.passes:
        of_row = n_before + np.cumsum(pass_.outputs) - 1
        places.append((pass_, of_row[pass_.score_rows].astype(np.float64)))
        n_before += int(pass_.outputs.sum())
    return [logits[rows.astype(np.int64)] for rows in by_token(batch, places)]


def _prompt(engine: Engine, item: OwnItem, max_tokens: int) -> Tokens:
    try:
        prompt, template = own_prompt(engine, item)
        tokens = engine.encode(prompt, template=template)
    except PromptError as error:
        raise type(error)(f"{named(item)}: {error}") from error
    if ends_in_thought(engine.vocabulary.detokenize(tokens)):
        raise PromptError(
            f"{named(item)}: the prompt ends inside a thought, so that an answer would begin in it; leave out the "
            "variables in `template_kwargs` that ask for thoughts"
        )
    if len(tokens) + max_tokens > engine.n_ctx:
        raise ContextOverflowError(
            f"{named(item)}: {len(tokens)} prompt tokens and {max_tokens} new ones need more than the context's "
            f"{engine.n_ctx}; shorten it, lower `max_tokens` or raise `n_ctx`"
        )
    return tokens


def _seed(seed: int, number: int, draw: int) -> int:
    return int(np.random.SeedSequence([seed, number, draw]).generate_state(1)[0]) % _NO_SEED


def _is_answer(row: Generated) -> bool:
    return bool(row.text.strip()) and not row.reply.thoughts and not row.reply.unfinished


def _tokens(row: Generated, max_tokens: int) -> Tokens:
    """What was drawn, with the end where there is room for it."""
    end = () if row.end_token is None or len(row.tokens) == max_tokens else (row.end_token,)
    return (*row.tokens, *end)
