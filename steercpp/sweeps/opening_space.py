"""Answers that open with a space of their own; read this when a Llama 2 chat model seems to give no answer any P.

SentencePiece writes a space as "▁", which stands before a word's letters: " Sure" is the token "▁Sure". Llama 2's chat
models were trained on transcripts that have a space after "[/INST]" besides, and so draw a lone "▁" first and "▁Sure"
then. A continuation that is looked for at once has next to no P there, although the model says nothing else. So a few
prompts are asked what they go on with, unsteered, and where it is the lone "▁" it is taken as part of every prompt.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from steercpp.engine.batch import Query
from steercpp.engine.engine import Engine

SPACE = "\u2581"
N_ASKED = 8
NOTE = "the model opens its answers with a lone space, which is taken as the end of every {kind} prompt"


def with_opening_space(engine: Engine, queries: Sequence[Query]) -> tuple[list[Query], bool]:
    """The queries, with a lone space at the end of every prompt where the model would say it there itself.

    Args:
        engine: the model.
        queries: prompts of one kind of item with their continuations.

    Returns:
        the queries, and whether they have it now: where the median P of the lone space after up to 8 prompts, evenly
        spread, is above a half.
    """
    token = engine.token_id(SPACE)
    if token is None or not queries:
        return list(queries), False
    places = np.unique(np.linspace(0, len(queries) - 1, N_ASKED).astype(int))
    asked = engine.pack([Query(queries[place].tokens, ((token,),)) for place in places])
    found = np.concatenate([nats for batch in asked for nats in engine.logprobs(batch)])
    if np.exp(np.median(found)) <= 0.5:
        return list(queries), False
    return [Query((*query.tokens, token), query.continuations) for query in queries], True
