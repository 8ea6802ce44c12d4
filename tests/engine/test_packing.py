"""Packing loses nothing, shares what can be shared, and keeps within the limits: against an unpacked twin.

The twin walks a pass as llama.cpp would: cells with the sequences they belong to, copies, kept trunks, and a row that
sees the cells of its first sequence (src/llama-kv-cache.cpp, set_input_kq_mask). What a row has then seen must be its
query's own tokens, and nothing else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steercpp.engine.engine import Engine
from steercpp.engine.packing import Batch, BatchLimits, Pass, Query, lay_out_together, pack
from steercpp.errors import ContextOverflowError, InputError

LIMITS = BatchLimits(n_batch=24, n_ctx=40, n_seq_max=6)
TIGHT = BatchLimits(n_batch=5, n_ctx=24, n_seq_max=4, n_group=30)
ROOMY = BatchLimits(n_batch=64, n_ctx=512, n_seq_max=64)
SHORT = BatchLimits(n_batch=20, n_ctx=20, n_seq_max=6)  # the trunk leaves less room than a piece may take
RECURRENT = BatchLimits(n_batch=7, n_ctx=40, n_seq_max=1)
ALL_LIMITS = (LIMITS, TIGHT, SHORT, ROOMY, RECURRENT)

Seen: TypeAlias = tuple[tuple[int, object], ...]  # (token, key) of all rows up to one and with it

# Few different tokens, so that queries and continuations often share their beginnings.
tokens = st.lists(st.integers(1, 3), min_size=1, max_size=14).map(tuple)
short = st.lists(st.integers(1, 3), min_size=1, max_size=7).map(tuple)
queries = st.lists(st.builds(Query, tokens, st.lists(short, max_size=7).map(tuple)), max_size=12)
keyed = st.integers(0, 2).map(lambda key: ((key, 0, 0), (0, key, 0), (0, 0, key), (key, key, key)))
limits = st.sampled_from(ALL_LIMITS)


@dataclass
class Memory:
    """llama.cpp's unified K/V cells, as far as packing has to do with them."""

    limits: BatchLimits
    cells: list[tuple[int, tuple[int, object], set[int]]] = field(default_factory=list)  # position, content, sequences

    def length(self, sequence: int) -> int:
        positions = [position for position, _, sequences in self.cells if sequence in sequences]
        assert sorted(positions) == list(range(len(positions))), "a sequence has gaps or two rows at one position"
        return len(positions)

    def copy(self, source: int, target: int, n_positions: int) -> None:
        assert self.length(target) == 0 and self.length(source) >= n_positions > 0
        for position, _, sequences in self.cells:
            if source in sequences and position < n_positions:
                sequences.add(target)

    def keep(self, sequence: int) -> None:
        self.cells = [(position, content, {sequence}) for position, content, own in self.cells if sequence in own]

    def decode(self, rows: list[tuple[int, tuple[int, object], list[int]]]) -> list[Seen]:
        """Rows (position, content, sequences); what each one sees."""
        before = {sequence: self.length(sequence) for *_, own in rows for sequence in own}
        for _, _, own in rows:
            assert own and len(set(own)) == len(own)
            assert len({before[sequence] for sequence in own}) == 1, "coupled sequences hold different positions"
        self.cells += [(position, content, set(own)) for position, content, own in rows]
        assert len(self.cells) <= self.limits.n_ctx
        seen = []
        for position, _, own in rows:
            for sequence in own:
                visible = sorted((p, content) for p, content, others in self.cells if sequence in others)
                assert [p for p, _ in visible] == list(range(len(visible)))
                if sequence == own[0]:
                    seen.append(tuple(content for p, content in visible if p <= position))
        return seen


def walk(part: Pass, limits: BatchLimits, key_of: Any) -> list[Seen]:
    """What each row of a pass sees; key_of(owner, region) is how a row is treated."""
    memory, first, seen = Memory(limits), 0, []
    for piece in part.pieces:
        assert 0 < piece.n_rows <= limits.n_batch
        for source, target, n_positions in piece.copies:
            memory.copy(source, target, n_positions)
        rows = []
        for row in range(first, first + piece.n_rows):
            own = part.seq_ids[part.seq_offsets[row] : part.seq_offsets[row + 1]].tolist()
            assert all(0 <= sequence < limits.n_seq_max for sequence in own)
            content = (int(part.tokens[row]), key_of(int(part.owners[row]), int(part.regions[row])))
            rows.append((int(part.positions[row]), content, own))
        seen += memory.decode(rows)
        if piece.trunk >= 0:
            memory.keep(piece.trunk)
        first += piece.n_rows
    assert first == len(part.tokens)
    return seen


def expected(query: Query, keys: tuple[object, object, object]) -> Iterator[tuple[int, int, Seen]]:
    """(continuation, token, what is seen before it) of every token that is scored, and the prompt's end as -1."""
    before, last, after = keys
    prompt = (*((token, before) for token in query.tokens[:-1]), (query.tokens[-1], last))
    yield -1, -1, prompt
    for index, continuation in enumerate(query.continuations):
        for place, token in enumerate(continuation):
            yield index, token, (*prompt, *((one, after) for one in continuation[:place]))


def found(batch: Batch, keys: Sequence[tuple[object, object, object]], limits: BatchLimits) -> Counter[Any]:
    """The same of a batch, with the place of each query, as the twin sees it."""
    starts = np.cumsum([0, *(len(query.continuations) for query in batch.queries)])
    counted: Counter[Any] = Counter()
    for part in batch.passes:
        seen = walk(part, limits, lambda owner, region: keys[batch.members[owner]][region])
        assert (np.diff(part.score_rows) >= 0).all()
        assert part.outputs[part.score_rows].all() and part.outputs[part.prompt_ends].all()
        for row, token, target in zip(part.score_rows, part.score_tokens, part.score_targets, strict=True):
            place = int(np.searchsorted(starts, target, side="right")) - 1
            counted[place, int(target) - int(starts[place]), int(token), seen[row]] += 1
        for owner, row in zip(part.prompt_owners, part.prompt_ends, strict=True):
            counted[int(owner), -1, -1, seen[row]] = 1  # a query in several passes ends in each of them
    return counted


@pytest.mark.slow
@given(queries, limits, st.data())
@settings(derandomize=True, deadline=None, max_examples=300)
def test_every_token_is_scored_once_after_its_own_history_and_treatment(
    some: list[Query], limits: BatchLimits, data: st.DataObject
) -> None:
    keys = [data.draw(st.sampled_from(data.draw(keyed))) for _ in some]
    if limits.n_seq_max == 1:
        keys = [(0, 0, 0) for _ in some]  # one query at a time, whatever its treatment
    batches = pack(some, limits, keys=keys)
    assert sorted(member for batch in batches for member in batch.members) == list(range(len(some)))
    for batch in batches:
        assert batch.queries == tuple(some[member] for member in batch.members)
        wanted: Counter[Any] = Counter()
        for place, member in enumerate(batch.members):
            for index, token, seen in expected(some[member], keys[member]):
                wanted[place, index, token, seen] += 1
        assert found(batch, keys, limits) == wanted


def histories(batch: Batch, keys: list[Any], limits: BatchLimits) -> list[Seen]:
    return [seen for p in batch.passes for seen in walk(p, limits, lambda o, r: keys[batch.members[o]][r])]


@pytest.mark.slow
@given(queries, st.sampled_from((LIMITS, TIGHT, SHORT, ROOMY)), st.data())
@settings(derandomize=True, deadline=None, max_examples=300)
def test_a_beginning_is_decoded_once_in_a_batch_and_hardly_more_in_all(
    some: list[Query], limits: BatchLimits, data: st.DataObject
) -> None:
    keys = [data.draw(st.sampled_from(data.draw(keyed))) for _ in some]
    batches = pack(some, limits, keys=keys)
    all_seen: list[Seen] = []
    n_again = n_before = 0
    for batch in batches:
        seen = histories(batch, keys, limits)
        assert len(set(seen)) == len(seen)
        again = len(set(seen) & set(all_seen))
        if again:  # it began where the batch before it had a small trunk, or enough
            assert again * 32 <= n_before or n_before >= limits.n_group
        n_again += again
        all_seen += seen
        n_before = batch.n_tokens
    distinct = {seen[:n] for seen in all_seen for n in range(1, len(seen) + 1)}
    assert len(distinct) + n_again == len(all_seen)


@given(queries, st.data())
@settings(derandomize=True, deadline=None)
def test_who_shares_a_row_is_told(some: list[Query], data: st.DataObject) -> None:
    """Two queries are in `shared` exactly where their own rows are the same ones."""
    keys = [data.draw(st.sampled_from(data.draw(keyed))) for _ in some]
    for batch in pack(some, ROOMY, keys=keys):
        rows: dict[Seen, set[tuple[int, int]]] = {}
        for place, member in enumerate(batch.members):
            query, own = some[member], keys[member]
            ends = [seen for *_, seen in expected(query, own)]
            for seen in {end[:n] for end in ends for n in range(1, len(end) + 1)}:
                n = len(query.tokens)
                rows.setdefault(seen, set()).add((place, 2 if len(seen) > n else int(len(seen) == n)))
        for sharers in rows.values():
            assert any(all((one, other) in batch.shared for other in sharers - {one}) for one in sharers)
        for pair in batch.shared:
            assert any(set(pair) <= sharers for sharers in rows.values())


def test_shared_beginnings_are_decoded_once_and_last_tokens_never() -> None:
    (batch,) = pack([Query((1, 2, 3), ((4, 5, 6), (4, 5, 7), (4, 8), (9,)))], LIMITS)
    (part,) = batch.passes
    assert part.tokens.tolist() == [1, 2, 3, 4, 5]  # 6, 7, 8 and 9 are only looked up
    assert (batch.n_tokens, batch.n_tokens_plain) == (5, 3 * 3 + 2 + 2 + 1)


def test_a_head_over_many_pieces_is_decoded_once() -> None:
    """Twenty questions of 20 tokens behind a head of 60: the head stays in the memory as the trunk."""
    head = tuple(range(100, 160))
    some = [Query((*head, *range(1000 * i, 1000 * i + 20)), ((7, 8),)) for i in range(1, 21)]
    (batch,) = pack(some, BatchLimits(n_batch=64, n_ctx=256, n_seq_max=64))
    assert batch.n_tokens == 60 + 20 * 21
    (part,) = batch.passes
    assert len(part.pieces) > 5 and all(piece.trunk >= 0 for piece in part.pieces[:-1])
    assert part.pieces[-1].trunk == -1
    assert batch.n_tokens_plain == 20 * 81


def test_queries_that_share_little_are_packed_apart_batch_by_batch() -> None:
    """A begin-of-sequence token alone keeps no batch open: it is decoded again, and batches stay small."""
    some = [Query((1, *range(1000 * i, 1000 * i + 40))) for i in range(1, 31)]
    batches = pack(some, BatchLimits(n_batch=256, n_ctx=1024, n_seq_max=256))
    assert len(batches) == 5 and {len(batch.passes[0].pieces) for batch in batches} == {1}
    assert sum(batch.n_tokens for batch in batches) == 30 * 40 + len(batches)


def test_all_that_is_decoded_again_is_at_most_one_in_32() -> None:
    some = [Query((1, 2, 3, 4, *range(1000 * i, 1000 * i + 4))) for i in range(1, 95)]
    batches = pack(some, BatchLimits(n_batch=8, n_ctx=128, n_seq_max=4))
    n_different = 4 + 94 * 4
    n_again = sum(batch.n_tokens for batch in batches) - n_different
    assert 0 < n_again * 32 <= n_different


@given(queries, limits)
@settings(derandomize=True, deadline=None, max_examples=300)
def test_every_row_is_needed_in_its_batch(some: list[Query], limits: BatchLimits) -> None:
    """A batch that ended within a prompt left it to the next one, which decoded all of it again."""
    for batch in pack(some, limits):
        assert batch.members
        assert all((part.owners >= 0).all() for part in batch.passes)


def test_a_prompt_beyond_the_size_of_a_batch_is_decoded_once() -> None:
    some = [Query(tuple(range(300))), Query((*range(250), *range(1000, 1040)))]
    batches = pack(some, BatchLimits(n_batch=16, n_ctx=512, n_seq_max=16, n_group=64))
    assert [batch.n_tokens for batch in batches] == [300, 290]  # the second begins anew, as the first is large enough


@pytest.mark.parametrize("place", [0, 50, 100])
def test_a_prompt_that_begins_all_others_keeps_no_batch_open(place: int) -> None:
    """Continuations after the begin-of-sequence token alone, wherever they stand among questions that begin with it."""
    some = [Query((1, *range(1000 * i, 1000 * i + 40)), ((7, 8, 9),)) for i in range(1, 101)]
    some.insert(place, Query((1,), ((7, 8), (9, 10, 11))))
    batches = pack(some, BatchLimits(n_batch=256, n_ctx=1024, n_seq_max=256, n_group=512))
    assert max(batch.n_tokens for batch in batches) <= 512 + 256
    assert len(batches) > 5


def test_a_long_query_is_cut_into_pieces_of_its_own() -> None:
    long = Query(tuple(range(1, 31)))
    batches = pack([Query((101,)), long, Query((102,))], LIMITS)
    assert [batch.members for batch in batches] == [(0,), (1, 2)]
    assert [piece.n_rows for piece in batches[1].passes[0].pieces] == [24, 6 + 1]


def test_a_recurrent_model_gets_one_sequence_at_a_time() -> None:
    (batch,) = pack([Query((1, 2, 3), ((4, 5), (6,), (4, 7)))], RECURRENT)
    assert [part.tokens.tolist() for part in batch.passes] == [[1, 2, 3, 4], [1, 2, 3, 4]]
    assert [part.score_targets.tolist() for part in batch.passes] == [[0, 1, 0], [2, 2]]
    assert all(set(part.seq_ids.tolist()) == {0} for part in batch.passes)


@given(st.lists(tokens, min_size=1, max_size=6), st.data())
@settings(derandomize=True, deadline=None)
def test_prompts_laid_out_together_are_each_in_their_own_sequence(
    prompts: list[tuple[int, ...]], data: st.DataObject
) -> None:
    keys = [data.draw(st.sampled_from(data.draw(keyed))) for _ in prompts]
    part = lay_out_together([Query(prompt) for prompt in prompts], ROOMY, keys=keys)
    seen = walk(part, ROOMY, lambda owner, region: keys[owner][region])
    for place, row in zip(part.prompt_owners, part.prompt_ends, strict=True):
        (*_, (_, _, wanted)) = expected(Query(prompts[place]), keys[place])
        assert seen[row] == wanted
        rows = [r for r in range(len(part.tokens)) if place in part.seq_ids[slice(*part.seq_offsets[r : r + 2])]]
        assert part.positions[rows].tolist() == list(range(len(prompts[place])))
    assert len(set(seen)) == len(seen)


def test_prompts_that_do_not_fit_together_are_refused() -> None:
    with pytest.raises(ContextOverflowError, match="the prompts need 60 tokens together, the context holds 40"):
        lay_out_together([Query((i,) * 20) for i in range(3)], LIMITS)
    with pytest.raises(InputError, match="7 rows do not fit into 6 sequences"):
        lay_out_together([Query((1,))] * 7, LIMITS)


@given(queries, limits)
@settings(derandomize=True, deadline=None)
def test_the_same_queries_give_the_same_batches(some: list[Query], limits: BatchLimits) -> None:
    for a, b in zip(pack(some, limits), pack(list(some), limits), strict=True):
        assert a.members == b.members
        for one, other in zip(a.passes, b.passes, strict=True):
            assert one.pieces == other.pieces
            for name in Pass.__slots__:
                np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_too_long_a_query_is_named() -> None:
    with pytest.raises(ContextOverflowError, match=r"query 1: 38 prompt tokens .* need 41 positions, .* holds 40"):
        pack([Query((1,)), Query((1,) * 38, ((1,), (2, 3, 4, 5)))], LIMITS)
    assert pack([Query((1,) * 38, ((2, 3, 4),))], LIMITS)[0].n_tokens == 40  # the last token needs no position


@pytest.mark.parametrize(("prompt", "continuations"), [((), ()), ((1,), ((2,), ()))])
def test_a_query_without_tokens_is_refused(prompt: tuple[int, ...], continuations: tuple[tuple[int, ...], ...]) -> None:
    with pytest.raises(InputError, match="no tokens"):
        Query(prompt, continuations)


@pytest.mark.parametrize(
    ("cache", "tolerance"),
    [
        ("f32", 3e-5),  # nats: float32 sums of other shapes, 1.4e-6 on a logit at the most, over up to 6 tokens
        ("f16", 1e-3),  # such a rounding can move K and V by one of float16, a thousand times larger
    ],
)
def test_packed_gives_what_each_continuation_gives_alone(
    tiny_path: Path, rng: np.random.Generator, cache: str, tolerance: float
) -> None:
    with Engine(tiny_path, threads=1, flash_attn="off", type_k=cache, type_v=cache) as engine:
        some = random_queries(engine, rng)
        batches = engine.pack(some)
        assert 1 < len(batches) < len(some)
        logprobs = {
            member: values
            for batch in batches
            for member, values in zip(batch.members, engine.logprobs(batch), strict=True)
        }
        packed = np.concatenate([logprobs[place] for place in range(len(some))])
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


def test_continuations_in_several_pieces_give_what_one_piece_gives(
    tiny_engine: Engine, rng: np.random.Generator
) -> None:
    prompt = (1, *rng.integers(3, tiny_engine.n_vocab, 20).tolist())
    continuations = tuple(tuple(rng.integers(3, tiny_engine.n_vocab, 3).tolist()) for _ in range(300))
    (batch,) = tiny_engine.pack([Query(prompt, continuations)])
    assert len(batch.passes[0].pieces) > 1
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
