"""Packing loses nothing, shares what can be shared, and keeps within the limits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steercpp.engine import CacheType, Engine
from steercpp.errors import ContextOverflowError, InputError
from steercpp.packing import Batch, Limits, Pass, Query, pack

LIMITS = Limits(n_batch=24, n_ctx=40, n_seq_max=6)

# Few different tokens, so that continuations often share their beginnings.
tokens = st.lists(st.integers(1, 3), min_size=1, max_size=8).map(tuple)
queries = st.lists(st.builds(Query, tokens, st.lists(tokens, max_size=7).map(tuple)), max_size=12)


def sequences(part: Pass) -> dict[int, list[int]]:
    """Rows of each sequence, in the order of the pass."""
    rows: dict[int, list[int]] = {}
    for row in range(len(part.tokens)):
        for seq_id in part.seq_ids[part.seq_offsets[row] : part.seq_offsets[row + 1]].tolist():
            rows.setdefault(seq_id, []).append(row)
    return rows


def history(part: Pass, row: int) -> tuple[int, ...]:
    """The tokens that the model sees up to a row."""
    (seq_id, *_) = part.seq_ids[part.seq_offsets[row] : part.seq_offsets[row + 1]].tolist()
    return tuple(part.tokens[r] for r in sequences(part)[seq_id] if r <= row)


def scored(batch: Batch) -> list[list[tuple[tuple[int, ...], int]]]:
    """For each continuation of a batch, the (history, token) pairs whose probabilities are summed."""
    found: list[list[tuple[tuple[int, ...], int]]] = [[] for _ in range(batch.n_continuations)]
    for part in batch.passes:
        for row, token, target in zip(part.score_rows, part.score_tokens, part.score_targets, strict=True):
            found[target].append((history(part, int(row)), int(token)))
    return found


@given(queries)
@settings(derandomize=True, deadline=None)
def test_every_token_of_every_continuation_is_scored_once_after_its_own_history(all_queries: list[Query]) -> None:
    batches = pack(all_queries, LIMITS)
    assert [query for batch in batches for query in batch.queries] == all_queries
    assert [batch.first for batch in batches] == np.cumsum([0, *(len(b.queries) for b in batches)])[:-1].tolist()
    for batch in batches:
        continuations = [(query.tokens, c) for query in batch.queries for c in query.continuations]
        for (prompt, continuation), pairs in zip(continuations, scored(batch), strict=True):
            expected = [((*prompt, *continuation[:i]), token) for i, token in enumerate(continuation)]
            assert sorted(pairs, key=lambda pair: len(pair[0])) == expected


@given(queries)
@settings(derandomize=True, deadline=None)
def test_passes_are_what_llama_cpp_accepts(all_queries: list[Query]) -> None:
    for batch in pack(all_queries, LIMITS):
        single = len(batch.queries) == 1
        for part in batch.passes:
            assert len(part.tokens) <= (LIMITS.n_ctx if single else LIMITS.n_batch)
            assert len(sequences(part)) <= LIMITS.n_seq_max
            for rows in sequences(part).values():
                assert part.positions[rows].tolist() == list(range(len(rows)))
                assert len(set(part.owners[rows].tolist())) == 1
            assert (np.diff(part.score_rows) >= 0).all()
            assert part.outputs[part.score_rows].all() and part.outputs[part.prompt_ends].all()


@given(queries)
@settings(derandomize=True, deadline=None)
def test_no_prefix_of_a_query_is_decoded_twice_in_a_pass(all_queries: list[Query]) -> None:
    for batch in pack(all_queries, LIMITS):
        for part in batch.passes:
            histories = [(int(part.owners[row]), history(part, row)) for row in range(len(part.tokens))]
            assert len(set(histories)) == len(histories)


def test_shared_beginnings_are_decoded_once_and_last_tokens_never() -> None:
    (batch,) = pack([Query((1, 2, 3), ((4, 5, 6), (4, 5, 7), (4, 8), (9,)))], LIMITS)
    (part,) = batch.passes
    assert part.tokens.tolist() == [1, 2, 3, 4, 5]  # 6, 7, 8 and 9 are only looked up
    assert len(sequences(part)) == 1
    assert batch.n_tokens == 5


def test_a_query_longer_than_a_batch_stands_alone() -> None:
    long = Query(tuple(range(1, 31)))
    batches = pack([Query((1,)), long, Query((2,))], LIMITS)
    assert [len(batch.queries) for batch in batches] == [1, 1, 1]
    assert batches[1].n_tokens == 30


def test_a_query_of_more_sequences_than_the_context_has_is_decoded_in_passes() -> None:
    (batch,) = pack([Query((1,), tuple((token, 9, 9) for token in range(10, 23)))], LIMITS)
    assert [len(sequences(part)) for part in batch.passes] == [6, 6, 1]
    assert all(len(pairs) == 3 for pairs in scored(batch))


def test_the_same_queries_give_the_same_batches(rng: np.random.Generator) -> None:
    some = [Query(tuple(rng.integers(1, 9, 5).tolist()), ((1, 2), (1, 3, 4))) for _ in range(9)]
    for a, b in zip(pack(some, LIMITS), pack(list(some), LIMITS), strict=True):
        for name in Pass.__slots__:
            np.testing.assert_array_equal(getattr(a.passes[0], name), getattr(b.passes[0], name))


def test_too_long_a_query_is_named() -> None:
    with pytest.raises(ContextOverflowError, match=r"query 1: 38 prompt tokens .* need 41 positions, .* holds 40"):
        pack([Query((1,)), Query((1,) * 38, ((1,), (2, 3, 4, 5)))], LIMITS)
    assert pack([Query((1,) * 38, ((2, 3, 4),))], LIMITS)[0].n_tokens == 40  # the last token needs no position


@pytest.mark.parametrize(("prompt", "continuations"), [((), ()), ((1,), ((2,), ()))])
def test_a_query_without_tokens_is_refused(prompt: tuple[int, ...], continuations: tuple[tuple[int, ...], ...]) -> None:
    with pytest.raises(InputError, match="no tokens"):
        Query(prompt, continuations)


@pytest.mark.parametrize(
    ("cache_type", "tolerance"),
    [
        ("f32", 3e-5),  # nats: float32 sums of other shapes, 1.4e-6 on a logit at the most, over up to 6 tokens
        ("f16", 1e-3),  # such a rounding can move K and V by one of float16, a thousand times larger
    ],
)
def test_packed_gives_what_each_continuation_gives_alone(
    tiny_path: Path, rng: np.random.Generator, cache_type: CacheType, tolerance: float
) -> None:
    with Engine(tiny_path, threads=1, flash_attn="off", cache_type=cache_type) as engine:
        some = random_queries(engine, rng)
        batches = engine.pack(some)
        assert 1 < len(batches) < len(some)
        packed = np.concatenate([array for batch in batches for array in engine.logprobs(batch)])
        alone = [
            engine.logprobs(engine.pack([Query(query.tokens, (continuation,))])[0])[0]
            for query in some
            for continuation in query.continuations
        ]
        np.testing.assert_allclose(packed, np.concatenate(alone), rtol=0, atol=tolerance)


def random_queries(engine: Engine, rng: np.random.Generator) -> list[Query]:
    some = []
    for _ in range(40):
        length, n_continuations = int(rng.integers(3, 40)), int(rng.integers(1, 5))
        stems = [tuple(rng.integers(3, engine.n_vocab, 6).tolist()) for _ in range(2)]
        continuations = tuple(
            stems[int(rng.integers(2))][: int(rng.integers(0, 6))] + (int(rng.integers(3, engine.n_vocab)),)
            for _ in range(n_continuations)
        )
        some.append(Query((1, *rng.integers(3, engine.n_vocab, length).tolist()), continuations))
    return some


def test_continuations_in_several_passes_give_what_one_pass_gives(
    tiny_engine: Engine, rng: np.random.Generator
) -> None:
    prompt = (1, *rng.integers(3, tiny_engine.n_vocab, 20).tolist())
    continuations = tuple(tuple(rng.integers(3, tiny_engine.n_vocab, 3).tolist()) for _ in range(300))
    (batch,) = tiny_engine.pack([Query(prompt, continuations)])
    assert len(batch.passes) > 1
    found = tiny_engine.logprobs(batch)[0]
    for place in (0, 150, 299):
        (single,) = tiny_engine.pack([Query(prompt, (continuations[place],))])
        assert found[place] == pytest.approx(tiny_engine.logprobs(single)[0][0], abs=1e-3)  # nats, as above for f16


def test_log_probabilities_are_those_of_the_logits(tiny_engine: Engine, rng: np.random.Generator) -> None:
    query = Query((1, 50, 60, 70), ((80,), (90, 100)))
    (batch,) = tiny_engine.pack([query])
    logits = tiny_engine.logits(batch).astype(np.float64)
    logprobs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    expected = [logprobs[0, 80], logprobs[0, 90] + logprobs[1, 100]]
    # exponentials in float32, relative error 1e-7 each
    np.testing.assert_allclose(tiny_engine.logprobs(batch)[0], expected, rtol=0, atol=1e-6)
