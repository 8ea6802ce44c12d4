"""Queries that keep the bits of their own runs: where their rows lie, and the bits.

A row must see its own history and nothing else, in whole chunks of the alignment's width, each token at its position
modulo the width. Bits are compared on the models' own kernels, whichever this processor has.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from places import ModelMaker

from steercpp.choices import FlashAttention
from steercpp.engine.batch import Alignment, Batch, BatchLimits, Pass, Piece, Query
from steercpp.engine.engine import Engine
from steercpp.engine.packing import pack
from steercpp.engine.steering import Steering
from steercpp.errors import ContextOverflowError
from steercpp.vectors.control_vector import ControlVector

tokens = st.lists(st.integers(1, 3), min_size=1, max_size=22).map(tuple)
short = st.lists(st.integers(1, 3), min_size=1, max_size=7).map(tuple)
queries = st.lists(st.builds(Query, tokens, st.lists(short, max_size=5).map(tuple)), min_size=1, max_size=14)
alignments = st.builds(Alignment, st.sampled_from((1, 3, 4, 8)), st.sampled_from((1, 4)), st.sampled_from((1, 3)))


@dataclass
class Cells:
    """llama.cpp's unified K/V cells with what native/cells.cpp does to them: cell to (position, token, sequences)."""

    held: dict[int, tuple[int, int, set[int]]] = field(default_factory=dict)

    def of(self, sequence: int) -> dict[int, int]:
        """Position to cell."""
        cells = {position: cell for cell, (position, _, own) in self.held.items() if sequence in own}
        assert sorted(cells) == list(range(len(cells))), "a sequence has gaps, or two rows at one position"
        return cells

    def prepare(self, piece: Piece) -> None:
        assert sorted(self.held) == list(range(piece.n_held)), "the trunk is not the first cells"
        for source, target, first, stop, cell in piece.tails:
            for position in range(first, stop):
                at = cell + position - first
                assert at not in self.held
                self.held[at] = (position, self.held[self.of(source)[position]][1], {target})
        for source, target, n_positions in piece.copies:
            for position, cell in self.of(source).items():
                if position < n_positions:
                    self.held[cell][2].add(target)

    def finish(self, piece: Piece) -> None:
        if piece.trunk < 0:
            return
        kept = {cell: (p, token, {piece.trunk}) for cell, (p, token, own) in self.held.items() if piece.trunk in own}
        if piece.settle >= 0:
            moved = sorted((p, cell) for cell, (p, *_) in kept.items() if p >= piece.settle)
            values = [kept.pop(cell) for _, cell in moved]
            free = (cell for cell in range(10**6) if cell not in kept)
            kept |= {next(free): value for value in values}
        self.held = kept


def walk(part: Pass, limits: BatchLimits) -> list[tuple[int, ...]]:
    """The tokens that each row of a pass sees, after its cells were looked at."""
    assert limits.alignment is not None
    width, cells, first, seen = limits.alignment.width, Cells(), 0, []
    needed = {*part.prompt_ends.tolist(), *part.score_rows.tolist()}
    for piece in part.pieces:
        assert piece.n_rows <= limits.n_batch and piece.n_rows >= 2 and piece.n_rows % limits.alignment.rows == 0
        assert part.outputs[first : first + piece.n_rows].sum() % limits.alignment.outputs == 0
        cells.prepare(piece)
        rows = range(first, first + piece.n_rows)
        for row, cell in zip(rows, piece.places, strict=True):
            own = part.seq_ids[part.seq_offsets[row] : part.seq_offsets[row + 1]].tolist()
            assert cell not in cells.held and cell < limits.n_ctx and max(own) < limits.n_seq_max - 2
            cells.held[cell] = (int(part.positions[row]), int(part.tokens[row]), set(own))
        for row in rows:
            sequence = int(part.seq_ids[part.seq_offsets[row]])
            by_position = [(p, cell) for p, cell in sorted(cells.of(sequence).items()) if p <= part.positions[row]]
            seen.append(tuple(cells.held[cell][1] for _, cell in by_position))
            if len(by_position) == 1 and row not in needed:
                continue  # it only fills up the rows
            chunks = [cell // width for _, cell in by_position]
            assert all(p % width == cell % width for p, cell in by_position), "a token is at another place of its chunk"
            assert chunks == sorted(chunks), "chunks are not in order"
            assert len(set(chunks)) == len({p // width for p, _ in by_position}), "a chunk is split"
        cells.finish(piece)
        first += piece.n_rows
    return seen


@pytest.mark.slow
@given(queries, alignments, st.sampled_from((24, 40)), st.sampled_from((16, 40)))
@settings(derandomize=True, deadline=None, max_examples=150)
def test_every_row_sees_its_own_history_at_the_places_of_its_own_run(
    some: list[Query], alignment: Alignment, n_batch: int, n_seq_max: int
) -> None:
    limits = BatchLimits(n_batch=n_batch, n_ctx=64, n_seq_max=n_seq_max, n_group=60, alignment=alignment)
    batches = pack(some, limits)
    assert sorted(member for batch in batches for member in batch.members) == list(range(len(some)))
    for batch in batches:
        (part,) = batch.passes
        seen = walk(part, limits)
        targets = [(query, index) for query in batch.queries for index in range(len(query.continuations))]
        scored: dict[int, list[int]] = {}
        for row, token, target in zip(part.score_rows, part.score_tokens, part.score_targets, strict=True):
            query, index = targets[target]
            place = len(scored.setdefault(int(target), []))
            assert seen[row] == query.tokens + query.continuations[index][:place]
            scored[int(target)].append(int(token))
        assert scored == {i: list(query.continuations[index]) for i, (query, index) in enumerate(targets)}
        for owner, row in zip(part.prompt_owners, part.prompt_ends, strict=True):
            assert seen[row] == batch.queries[owner].tokens
        for path, query in zip(part.prompt_rows(), batch.queries, strict=True):
            assert tuple(part.tokens[path].tolist()) == query.tokens


def test_a_context_without_room_for_rows_that_fill_up_is_refused() -> None:
    limits = BatchLimits(n_batch=16, n_ctx=32, n_seq_max=40, alignment=Alignment(4, 8, 1))
    assert pack([Query((1,) * 25)], limits)[0].n_tokens == 16 + 16
    with pytest.raises(ContextOverflowError, match="26 prompt tokens .* and `exact` 7 more, the context holds 32"):
        pack([Query((1,) * 26)], limits)


def some_queries(engine: Engine, rng: np.random.Generator) -> list[Query]:
    """Prompts alone, behind heads, behind heads that branch once more; with choices and longer continuations."""

    def own(low: int, high: int) -> tuple[int, ...]:
        return tuple(rng.integers(3, engine.n_vocab, rng.integers(low, high)).tolist())

    some = [Query((1, *own(1, 60)), (own(1, 2),)) for _ in range(8)]
    for _ in range(3):
        head = (1, *own(5, 90))
        for _ in range(6):
            branch = head + own(0, 4)
            some += [Query(branch + own(1, 30), tuple(own(1, 6) for _ in range(n))) for n in (1, 3)]
    return some


def logprobs(engine: Engine, batches: tuple[Batch, ...], **steering: Any) -> dict[int, list[float]]:
    return {
        member: values.tolist()
        for batch in batches
        for member, values in zip(batch.members, engine.logprobs(batch, **steering), strict=True)
    }


EXACT = [("embedded-Q8_0", "off"), ("embedded-Q4_0", "off"), ("embedded-Q4_K_M", "off"), ("embedded-F32", "off")]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "flash_attn"), [*EXACT, ("embedded-Q8_0", "on"), ("tiny-Q4_0", "on")])
def test_each_query_has_the_bits_of_its_own_run(
    model_maker: ModelMaker, rng: np.random.Generator, name: str, flash_attn: FlashAttention
) -> None:
    with Engine(model_maker(name), threads=1, n_ctx=512, flash_attn=flash_attn, exact=True) as engine:
        some = some_queries(engine, rng)
        own = {i: logprobs(engine, (engine.alone(query),))[0] for i, query in enumerate(some)}
        assert logprobs(engine, engine.pack(some)) == own
        backwards = logprobs(engine, engine.pack(some[::-1]))
        assert {len(some) - 1 - i: values for i, values in backwards.items()} == own


@pytest.mark.slow
@pytest.mark.parametrize("name", ["embedded-Q8_0", "embedded-Q4_0"])
def test_steered_and_resumed_too(model_maker: ModelMaker, rng: np.random.Generator, name: str) -> None:
    with Engine(model_maker(name), threads=1, n_ctx=512, exact=True) as engine:
        some = some_queries(engine, rng)
        direction = rng.standard_normal(engine.n_embd).astype(np.float32)
        steering = Steering(ControlVector({3: direction}, engine.architecture, engine.n_layer), 0.5)
        foreign = engine.alone(Query((7,) * 90))
        own = {i: logprobs(engine, (engine.alone(query),), steering=steering)[0] for i, query in enumerate(some)}
        assert logprobs(engine, engine.pack(some), steering=steering) == own
        for batch in engine.pack(some):
            base = engine.base(batch, first_layer=3)
            engine.logprobs(foreign)
            resumed = engine.logprobs(batch, steering=steering, base=base)
            assert base.resumed
            for member, values in zip(batch.members, resumed, strict=True):
                assert values.tolist() == own[member]


@pytest.mark.slow
def test_activations_have_the_bits_of_each_prompt_s_own_run(model_maker: ModelMaker, rng: np.random.Generator) -> None:
    with Engine(model_maker("embedded-Q4_0"), threads=1, n_ctx=512, exact=True) as engine:
        prompts = [query.tokens for query in some_queries(engine, rng)]
        own = np.concatenate([engine.activations([prompt]) for prompt in prompts])
        np.testing.assert_array_equal(engine.activations(prompts), own)


def test_where_no_alignment_holds_queries_are_decoded_alone(tiny_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("steercpp.engine.engine.find_alignment", lambda session, limits: None)
    with Engine(tiny_path, threads=1, exact=True) as engine:
        some = [Query((1, 2, 3), ((4, 5), (6, 7))), Query((1, 2, 4), ((4,),))]
        batches = engine.pack(some)
        assert engine.packing == "alone" and engine.settings()["packing"] == "alone"
        assert [batch.members for batch in batches] == [(0,), (1,)]
        assert len(batches[0].passes) == 2  # one for each longer continuation


def test_the_width_is_measured_and_a_smaller_one_moves_attention(model_maker: ModelMaker) -> None:
    """What the search compares sees a place that is off by one, though weights round it away in most rows."""
    from dataclasses import replace

    from steercpp.engine import alignment

    with Engine(model_maker("embedded-Q8_0"), threads=1, n_ctx=512, exact=True) as engine:
        assert engine.packing.startswith("aligned ")
        width, rows, _ = map(int, engine.packing.split()[1:])
        some = alignment._queries(engine.n_vocab)
        limits = replace(engine._limits, alignment=Alignment(1, rows, 1))
        own = [alignment._bits(engine.session, query, limits, Alignment(1, rows, 1), 0) for query in some]
        assert alignment._equal(engine.session, some, limits, Alignment(width, rows, 1), 0, own)
        if width > 1:
            assert not alignment._equal(engine.session, some, limits, Alignment(1, rows, 1), 0, own)
