"""Finds what must be alike in two decodes for a row to have the same bits in both: by measuring, on the model at hand.

Which sums llama.cpp takes a vector's width at a time, and which kernel computes how many rows, depends on the
processor, the weights' types and the attention. So queries that share and branch are packed under one `Alignment` after
the other, from the cheapest on, until each has the bits of its own run.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from steercpp.engine.batch import Alignment, BatchLimits, Query
from steercpp.engine.packing import pack
from steercpp.engine.session import Session, Wanted, by_token
from steercpp.errors import ContextOverflowError

Bits: TypeAlias = npt.NDArray[np.uint64]

_WIDTHS = (4, 8, 16, 32, 64)
_ROWS = (1, 4, 8, 16, 64)
_OUTPUTS = (1, 2, 4, 8, 16)
_MOST_LAYER = 1  # of what is compared; attention shows a difference in the first block
_HEAD, _BRANCH = 21, 5
_LENGTHS = (1, 12, 27, 40, 9, 18, 33)
_LONG = 90
_SMALL = (3, 7, 14)
_LEAST_CONTEXT = 256  # in less there is no room for what has to be tried


def find_alignment(session: Session, limits: BatchLimits) -> Alignment | None:
    """The cheapest alignment under which each query has the bits of its own run; None where no one is known.

    It is looked for on some hundred tokens, in the first blocks, and for outputs on some fifty tokens in all blocks.
    A model with a sliding window has none: llama.cpp takes cells behind the window for other rows.

    Args:
        session: of the model; its memory is emptied.
        limits: of its context.
    """
    model = session.model
    if model.is_recurrent or model.native.n_swa or not session.options.kv_unified or limits.n_ctx < _LEAST_CONTEXT:
        return None
    queries = _queries(model.n_vocab)
    il = min(_MOST_LAYER, max(0, model.n_layer - 2))
    for rows in _ROWS:
        if rows > limits.n_batch or limits.n_seq_max < 2 * rows + 8:
            break
        own = [_bits(session, query, limits, Alignment(1, rows, 1), il) for query in queries]
        if not _equal(session, queries, limits, Alignment(_WIDTHS[-1], rows, 1), il, own):
            continue
        for width in _WIDTHS:
            if _equal(session, queries, limits, Alignment(width, rows, 1), il, own):
                found = _with_outputs(session, limits, Alignment(width, rows, 1))
                if found is not None:
                    return found
    return None


def _with_outputs(session: Session, limits: BatchLimits, alignment: Alignment) -> Alignment | None:
    tokens = _tokens(session.model.n_vocab, 64)
    queries = [Query(tokens[first : first + 4], (tokens[-n:],)) for first, n in ((0, 1), (4, 7), (8, 14))]
    # and heads of few rows: weights of later blocks may be of other types
    queries += [Query(tokens[20:][:n] + tokens[i:][:3], ((0,),)) for n in _SMALL[:2] for i in range(40, 45)]
    for outputs in _OUTPUTS:
        tried = replace(alignment, outputs=outputs)
        if limits.n_seq_max < 2 * outputs + 8:
            break
        of_limits = replace(limits, alignment=tried)
        own = [_logprobs(session, [query], of_limits)[0] for query in queries]
        if _logprobs(session, queries, of_limits) == own:
            return tried
    return None


def _tokens(n_vocab: int, n: int) -> tuple[int, ...]:
    return tuple(np.random.default_rng(0).integers(0, n_vocab, n).tolist())


def _queries(n_vocab: int) -> list[Query]:
    """Prompts behind one head, some of them branching once more, and one that shares nothing."""
    tokens = _tokens(n_vocab, 1000)
    head, rest = tokens[:_HEAD], iter(tokens[_HEAD:])

    def own(n: int) -> tuple[int, ...]:
        return tuple(next(rest) for _ in range(n))

    branch = head + own(_BRANCH)
    prompts = [(head if i % 2 else branch) + own(n) for i, n in enumerate(_LENGTHS)]
    prompts += [own(_LONG), prompts[2] + own(3), prompts[2] + own(4)]
    for n in _SMALL:  # heads that become pieces of few rows, for which llama.cpp has kernels of their own
        small = own(n)
        prompts += [small + own(4) for _ in range(5)]
    return [Query(prompt) for prompt in dict.fromkeys(prompts)]


def _equal(
    session: Session, queries: list[Query], limits: BatchLimits, alignment: Alignment, il: int, own: list[Bits]
) -> bool:
    found = list(_all_bits(session, queries, replace(limits, alignment=alignment), il))
    return bool(found) and all(np.array_equal(of_query, own[member]) for member, of_query in found)


def _bits(session: Session, query: Query, limits: BatchLimits, alignment: Alignment, il: int) -> Bits:
    ((_, of_query),) = _all_bits(session, [query], replace(limits, alignment=alignment), il)
    return of_query


def _all_bits(session: Session, queries: list[Query], limits: BatchLimits, il: int) -> Iterator[tuple[int, Bits]]:
    """Each query's place, and (n_tokens, n) bits: of attention up to a layer, and of the activations there."""
    try:
        batches = pack(queries, limits)
    except ContextOverflowError:  # with the rows that fill it up
        return
    for batch in batches:
        (pass_,) = batch.passes
        wanted = Wanted(capture_layers=(il,), capture_rows=tuple(range(len(pass_.tokens))), attention_bits=True)
        outputs = np.zeros_like(pass_.outputs)
        result = session.decode(replace(pass_, outputs=outputs), wanted=wanted)
        bits = np.column_stack([result.attention_bits.astype(np.uint64), result.captures[0].view(np.uint32)])
        for member, rows in zip(batch.members, pass_.prompt_rows(), strict=True):
            yield member, bits[rows]


def _logprobs(session: Session, queries: list[Query], limits: BatchLimits) -> list[bytes]:
    """Of the tokens of each query's continuation, the bits of their log-probabilities."""
    found = [b""] * len(queries)
    for batch in pack(queries, limits):
        (pass_,) = batch.passes
        runs = [(pass_, session.decode(pass_).logprobs)]
        for member, nats in zip(batch.members, by_token(batch, runs), strict=True):
            found[member] = nats.tobytes()
    return found
