"""Rows of generated text that join and leave while others go on, each with its own steering; read this to serve many.

    pool = Pool(engine, n_cells=512, n_rows=8)
    ticket = pool.add(GenerationRequest(tokens, (Steering(vector, 1.5),), max_tokens=64))
    while pool.is_busy:
        for event in pool.step():
            ...  # Text, Finished or Failed, each with its ticket

`generate` is its client (generation.py). Each row has a sequence of its own with a K/V stream of its own, so no other
row touches it. A step decodes one token of every row whose prompt is decoded, then some of the prompts that are not.
Rows that leave make room: the last row takes the place of the one that left, so that rows stay one batch.

Work that rows have in common is done once:

- What a sequence holds, of a row that goes on or of one that left, serves rows that begin alike and are steered alike
  there: they copy it.
- Prompts of the same tokens under different steering have the blocks up to the lowest steered layer in common. One
  unsteered pass, the base, keeps that layer's rows, and K and V below it stay in its sequence. A row copies the
  sequence and computes the blocks above alone.

Both give the bits of a row that does all by itself, where the kernels of the weights' types do (docs/generation.md).
The last token of a prompt is always decoded by itself, as the tokens that follow it are, and no other part of a prompt
is, unless there is only one: a matrix product of one row is another kernel than one of several.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from steercpp.aliases import Tokens
from steercpp.engine.batch import Pass, Piece, Query
from steercpp.engine.engine import Engine
from steercpp.engine.operations import Operation, native_operations
from steercpp.engine.request import (
    Alternatives,
    Event,
    Failed,
    Finish,
    Finished,
    Generated,
    GenerationRequest,
    Text,
)
from steercpp.engine.sampling import TextStream
from steercpp.engine.session import Kept, Result, Sampler, Wanted
from steercpp.engine.steering import REGIONS, Steering, check
from steercpp.errors import ContextOverflowError, EngineError, InputError, NonFiniteError
from steercpp.judging.answers import ends_in_thought
from steercpp.vectors.control_vector import vector_sha256

MOST_SEQUENCES = 256  # LLAMA_MAX_SEQ

_WORTH_COPYING = 16  # positions: a copy moves a whole stream
_MOST_DIGESTS = 256  # of vectors; each keeps its vector


@dataclass(slots=True, eq=False)
class _Base:
    """The unsteered pass of a prompt: what its chunks keep, to start where `first_layer` is steered."""

    tokens: Tokens
    first_layer: int
    kept: dict[tuple[int, int], Kept] = field(default_factory=dict)  # by the chunk's first and last position


@dataclass(slots=True, eq=False)
class _Sequence:
    """What a sequence's K/V stream holds.

    Attributes:
        tokens, keys: by position, the tokens and what steered them.
        base: whose K and V of the lower blocks lie at the first positions, whatever the blocks above hold.
        is_tainted: whether it may hold values that are not finite, which masking does not hide.
        last_used: the step of its last row.
    """

    tokens: list[int] = field(default_factory=list)
    keys: list[Hashable] = field(default_factory=list)
    base: _Base | None = None
    is_tainted: bool = False
    last_used: int = 0

    def shared_with(self, row: _Row) -> int:
        """How many of the row's first positions it holds."""
        n = _n_alike(self.tokens, row.request.tokens[:-1])
        return next((i for i in range(n) if self.keys[i] != row.place_keys[i]), n)

    def cut(self, n: int) -> None:
        """Give up the positions from n on."""
        del self.tokens[n:], self.keys[n:]


@dataclass(slots=True)
class _Chunk:
    """Part of a prompt to decode: positions first..stop-1; a base to make, or to start from."""

    first: int
    stop: int
    base: _Base | None = None
    makes_base: bool = False


@dataclass(slots=True, eq=False)
class _Row:
    """A request on its way.

    Attributes:
        keys: what steers each region, the same for rows that are treated alike.
        place_keys: (n_prompt - 1) the same for positions of the prompt that are decoded alike.
        chunks: of the prompt, still to decode; None before they are planned.
        served: the step in which a chunk was decoded last.
        is_passed: whether an unsteered request of the same prompt was let in before it.
        tokens, logprobs, top: drawn.
        prompt_logprobs, prompt_top: of the part of the prompt that is decoded, where they are wanted.
        n_cached: tokens of the prompt that were there already.
        pending: the token to decode next, once the chunks are.
    """

    ticket: int
    request: GenerationRequest
    gate_open: bool | None
    keys: tuple[Hashable, Hashable, Hashable]
    place_keys: list[Hashable]
    chain: Sampler
    stream: TextStream
    chunks: deque[_Chunk] | None = None
    served: int = -1
    is_passed: bool = False
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    top: list[Alternatives] = field(default_factory=list)
    prompt_logprobs: list[float] = field(default_factory=list)
    prompt_top: list[Alternatives] = field(default_factory=list)
    n_cached: int = 0
    pending: int = -1
    finish: Finish | None = None
    end_token: int | None = None

    @property
    def n_prompt(self) -> int:
        return len(self.request.tokens)

    @property
    def is_decoding(self) -> bool:
        """Whether its prompt is decoded but for the last token."""
        return self.chunks is not None and not self.chunks

    @property
    def n_top(self) -> int:
        """How many alternatives are wanted of each token that is drawn."""
        return self.request.n_top if self.request.logprobs else 0

    @property
    def is_plain(self) -> bool:
        """Whether nothing steers its prompt before the last token."""
        return self.keys[0] == ()

    @property
    def lowest(self) -> int:
        """The lowest layer steered there."""
        acting = [acts for acts in self.request.steering if 0 in REGIONS[acts.positions] and not acts.idle]
        return min(acts.vector.layers[0] for acts in acting)


class Pool:
    """Rows of generated text on one engine, for one thread.

    Args:
        engine: the model. The pool has a context of its own: the engine can be used meanwhile.
        n_cells: K/V cells of each row: its prompt and all tokens that are drawn.
        n_rows: rows at once; more requests wait.
        n_kept: sequences more than rows, which keep the K and V of prompts and texts for requests that begin alike.
        n_chunk: tokens of prompts decoded in a step; by default all of them.
        exact: decode each row by itself, and share whole chunks of prompts alone, so that no other row decides the
            order of any sum. Without it rows have the bits of a run of their own with most types of weights; see
            docs/generation.md.

    Attributes:
        token_layers: tokens times blocks computed.

    Raises:
        InputError: a number out of range.
        EngineError: a context of this size cannot be made.
    """

    def __init__(
        self, engine: Engine, *, n_cells: int, n_rows: int, n_kept: int = 0, n_chunk: int | None = None,
        exact: bool = False,
    ) -> None:  # fmt: skip
        for name, value, least in (("n_cells", n_cells, 1), ("n_rows", n_rows, 1), ("n_kept", n_kept, 0)):
            if not isinstance(value, int | np.integer) or value < least:
                raise InputError(f"{name} is {value!r}; give a whole number of at least {least}")
        if n_cells > engine.n_ctx:
            raise InputError(f"n_cells is {n_cells}; give at most the engine's n_ctx, {engine.n_ctx}, or raise that")
        if n_rows + n_kept > MOST_SEQUENCES:
            raise InputError(f"{n_rows} rows and {n_kept} kept: give at most {MOST_SEQUENCES} together")
        if n_chunk is not None and n_chunk < 3:
            raise InputError(f"n_chunk is {n_chunk}; give at least 3")
        self._engine = engine
        self._n_rows, self._n_kept, self._n_chunk, self._exact = n_rows, n_kept, n_chunk, exact
        self.n_cells = whole_cells(n_cells)
        n_batch = max(engine.session.options.n_batch, n_rows + n_kept, 3)
        self._most = n_batch if n_chunk is None else min(n_batch, n_chunk)  # tokens of a chunk
        self._session = engine.open_session(
            n_ctx=self.n_cells, n_batch=n_batch, n_seq_max=n_rows + n_kept, kv_unified=False
        )
        self._sequences = [_Sequence() for _ in range(n_rows + n_kept)]
        self._rows: list[_Row] = []  # row i has sequence i
        self._waiting: deque[_Row] = deque()
        self._n_tickets = self._n_steps = 0
        self._shares = not engine.is_recurrent
        self._refused: set[int] = set()  # layers that no pass can start at
        self._is_broken = False
        self._clears = False  # before the next decode: no sequence is free of what is not finite
        self._digests: dict[int, tuple[object, str]] = {}  # of vectors, by id, with what keeps the id theirs
        self._latest: tuple[Hashable, list[Operation]] = (None, [])  # operations of the latest step

    @property
    def is_busy(self) -> bool:
        """Whether any request waits or goes on; not once a step has failed."""
        return not self._is_broken and bool(self._rows or self._waiting)

    @property
    def n_waiting(self) -> int:
        """Requests that wait for a row."""
        return len(self._waiting)

    @property
    def token_layers(self) -> int:
        """Tokens times blocks computed; what decides gates is not counted."""
        return self._session.token_layers

    def add(self, request: GenerationRequest, *, gate_open: bool | None = None) -> int:
        """Take a request in; it begins with the next step that has a row free. Returns its ticket.

        Args:
            request: what is asked for. Gates that are not decided yet are, with a pass of the engine.
            gate_open: whether its gates are open, where they were decided before.

        Raises:
            ContextOverflowError: prompt and tokens do not fit into a row's cells.
            InputError: an option out of range.
            LayerError, ShapeError: a vector or gate that is not for this model.
        """
        self._check(request)
        steering = request.steering
        if any(acts.gate is not None for acts in steering):
            (decided,) = self._engine.decide([Query(request.tokens)], [steering])
            gate_open = len(decided) == len(steering)
            steering = decided
        request = replace(request, steering=steering)
        before, last, after = (self._key(steering, region) for region in range(3))
        n_before = len(request.tokens) - 1
        place_keys: list[Hashable] = [before] * n_before
        if self._exact:  # a chunk of other tokens has sums in another order
            place_keys = [(before, cut) for cut in self._cuts(0, n_before) for _ in range(*cut)]
        row = _Row(
            ticket=self._n_tickets, request=request, gate_open=gate_open, keys=(before, last, after),
            place_keys=place_keys,
            chain=request.sampling.sampler(self._engine.n_vocab, request.tokens), stream=TextStream(request.stop),
            pending=request.tokens[-1],
        )  # fmt: skip
        self._n_tickets += 1
        self._waiting.append(row)
        return row.ticket

    def cancel(self, ticket: int) -> bool:
        """End a request, wherever it is; no event comes of it any more. Returns whether it was there."""
        for row in self._waiting:
            if row.ticket == ticket:
                self._waiting.remove(row)
                return True
        for row in self._rows:
            if row.ticket == ticket:
                self._leave(row)
                return True
        return False

    def step(self) -> list[Event]:
        """Let requests in, decode a token of every row whose prompt is decoded, and then parts of other prompts.

        Raises:
            EngineError, UnsteerableError: the decode failed. The pool cannot go on then; make another one.
        """
        if self._is_broken:
            raise EngineError(
                "a step of this pool failed or is not done, and what its sequences hold is not known; make another "
                "pool, and give each thread its own"
            )
        self._is_broken = True  # until the step is done, whatever ends it
        self._n_steps += 1
        events: list[Event] = []
        self._admit()
        self._decode_tokens(events)
        n_decoded = 0
        while (row := self._next_to_serve()) is not None:
            assert row.chunks
            n = row.chunks[0].stop - row.chunks[0].first
            if n_decoded and self._n_chunk is not None and n_decoded + n > self._n_chunk:
                break
            self._decode_chunk(row, events)
            n_decoded += n
        self._is_broken = False
        return events

    def _next_to_serve(self) -> _Row | None:
        """The row with a chunk to decode that was served longest ago; a new one's chunks are planned."""
        for row in sorted(self._rows, key=lambda row: row.served):
            if row.chunks is None and not self._awaits_another(row):
                self._plan(row)
            if row.chunks:
                return row
        return None

    # Which sequence a request takes, and what of its prompt is there already.

    def _admit(self) -> None:
        while self._waiting and len(self._rows) < self._n_rows:
            row, place = self._next(), len(self._rows)
            if self._n_kept and self._sequences[place].tokens:
                self._spare(place, range(place + 1, len(self._sequences)))
            self._rows.append(row)

    def _next(self) -> _Row:
        """The request that waits longest; but before one that is steered, one of the same prompt that is not.

        Its pass is the others' base.
        """
        row = self._waiting[0]
        if self._shares and not row.is_plain and not row.is_passed:
            row.is_passed = True
            row = next((other for other in self._waiting if other.is_plain and _same_prompt(other, row)), row)
        self._waiting.remove(row)
        return row

    def _awaits_another(self, row: _Row) -> bool:
        """Whether a prompt that is being decoded will serve this one."""
        if row.request.prompt_logprobs:
            return False
        n_now = max(sequence.shared_with(row) for sequence in self._sequences)
        for other in self._rows:
            if not other.chunks or not self._shares:
                continue
            if not row.is_plain and _same_prompt(row, other) and any(chunk.makes_base for chunk in other.chunks):
                return True
            if other.keys[0] == row.keys[0]:
                n_then = _n_alike(other.request.tokens[:-1], row.request.tokens[:-1])
                if n_then >= n_now + _WORTH_COPYING or n_now < n_then == row.n_prompt - 1:
                    return True
        return False

    def _plan(self, row: _Row) -> None:
        """Take over what sequences hold of a prompt, and plan the chunks that are left."""
        place, n_before = self._rows.index(row), row.n_prompt - 1  # the last token is decoded with other rows' tokens
        if row.request.prompt_logprobs:  # which are read off the pass itself
            self._take(place, place, 0)
            self._sequences[place].base = None
            row.chunks = deque(_Chunk(first, stop) for first, stop in self._cuts(0, n_before))
            return
        base = self._base_of(row)
        if base is not None:
            source = next(i for i, sequence in enumerate(self._sequences) if sequence.base is base)
            self._take(source, place, 0)
            row.chunks = deque(_Chunk(first, stop, base) for first, stop in base.kept)
            return
        shared = [sequence.shared_with(row) if self._shares else 0 for sequence in self._sequences]
        source = max(range(len(shared)), key=lambda i: (shared[i], i == place))
        if shared[source] < min(_WORTH_COPYING, n_before):
            source = place
        n_held = shared[source]
        if self._exact:  # whole chunks
            n_held = max((first for first, _ in self._cuts(0, n_before) if first <= n_held < n_before), default=n_held)
        elif n_before - n_held == 1 < n_before:  # chunks have two tokens
            n_held -= 1
        self._take(source, place, n_held)
        n_held = row.n_cached = len(self._sequences[place].tokens)
        base = self._new_base(row) if n_held == 0 else None
        self._sequences[place].base = None
        cuts = self._cuts(n_held, n_before)
        row.chunks = deque(_Chunk(first, stop, base, base is not None) for first, stop in cuts)
        if base is not None and not row.is_plain:  # then the row's own pass, in the same sequence
            row.chunks.extend(_Chunk(first, stop, base) for first, stop in cuts)

    def _base_of(self, row: _Row) -> _Base | None:
        """A base that lies in some sequence and serves the row."""
        if row.is_plain or not self._shares:
            return None
        for sequence in self._sequences:
            base = sequence.base
            if base is not None and base.tokens == row.request.tokens[:-1] and base.first_layer <= row.lowest:
                return base
        return None

    def _new_base(self, row: _Row) -> _Base | None:
        """A base to make while the row's prompt is decoded, where it pays for those of the same prompt that wait."""
        n_before, n_layer = row.n_prompt - 1, self._engine.n_layer
        waiting = [other for other in (*self._rows, *self._waiting) if other.chunks is None]
        unplanned = [other for other in waiting if not other.request.prompt_logprobs]
        steered = [other for other in unplanned if not other.is_plain and _same_prompt(other, row)]
        if not self._shares or n_before < 2 or not steered:
            return None
        first_layer = min(other.lowest for other in steered)
        if 4 * self._engine.n_embd * n_before + self._base_bytes() > self._engine.keep_bytes:
            return None
        if first_layer in self._refused:
            return None
        if not row.is_plain and len(steered) * (first_layer + 1) <= n_layer:
            return None
        return _Base(row.request.tokens[:-1], first_layer)

    def _base_bytes(self) -> int:
        """Memory of the rows that bases keep."""
        bases = {id(sequence.base): sequence.base for sequence in self._sequences if sequence.base is not None}
        return sum(kept.n_bytes for base in bases.values() for kept in base.kept.values())

    def _cuts(self, first: int, stop: int) -> list[tuple[int, int]]:
        """Positions in chunks that a step may decode, and of two at least where there are two."""
        cuts = []
        while first < stop:
            n = min(self._most, stop - first)
            n -= stop - first - n == 1 and n > 2
            cuts.append((first, first + n))
            first += n
        return cuts

    # What sequences hold.

    def _copy(self, source: int, target: int) -> None:
        held = self._sequences[source]
        self._session.copy_sequence(source, target)
        self._sequences[target] = _Sequence(
            list(held.tokens), list(held.keys), held.base, held.is_tainted, held.last_used
        )

    def _take(self, source: int, place: int, n_held: int) -> None:
        """Make the sequence at `place` hold the first positions of another, or of itself."""
        if source != place:
            self._copy(source, place)
        sequence = self._sequences[place]
        if sequence.is_tainted:
            self._clean(place)
            sequence, n_held = self._sequences[place], 0
        sequence.cut(n_held)
        sequence.last_used = self._n_steps
        self._session.cut_sequence(place, n_held)

    def _clean(self, place: int) -> None:
        """Rid a sequence of what is not finite: a copy, of zeros too, takes the place of all it held."""
        clean = next((i for i, other in enumerate(self._sequences) if not other.is_tainted), None)
        if clean is not None:
            self._copy(clean, place)
        else:  # no row goes on: theirs are clean
            self._sequences = [_Sequence() for _ in self._sequences]
            self._clears = True
        self._sequences[place].base = None

    def _spare(self, place: int, others: Sequence[int]) -> None:
        """Keep what a sequence holds in another one, the one unused for longest, before it is taken."""
        oldest = min(others, key=lambda i: self._sequences[i].last_used, default=place)
        if self._sequences[oldest].last_used < self._sequences[place].last_used:
            self._copy(place, oldest)

    def _leave(self, row: _Row) -> None:
        """Take a row out; the last one takes its place, so that rows stay in sequences without a gap."""
        place, last = self._rows.index(row), len(self._rows) - 1
        if place != last:
            if self._n_kept and not self._sequences[place].is_tainted:
                self._spare(place, range(last + 1, len(self._sequences)))
            self._copy(last, place)
            self._rows[place] = self._rows[last]
            self._sequences[last].cut(0)
            self._session.cut_sequence(last, 0)
        del self._rows[last]

    # What is decoded.

    def _decode_chunk(self, row: _Row, events: list[Event]) -> None:
        """Decode the next chunk of a prompt."""
        assert row.chunks
        place, chunk = self._rows.index(row), row.chunks.popleft()
        row.served, n = self._n_steps, chunk.stop - chunk.first
        sequence, base = self._sequences[place], chunk.base
        if base is not None and not chunk.makes_base and chunk.first == 0 and sequence.tokens:
            sequence.cut(0)  # the base is made, and the row's own pass begins; what lies below stays
            self._session.cut_sequence(place, 0)
        tokens = row.request.tokens[chunk.first : chunk.stop]
        pass_ = part_of_prompt(tokens, chunk.first, place)
        if row.request.prompt_logprobs:
            pass_ = scored(pass_, row.request.tokens[chunk.first + 1 : chunk.stop + 1])
        if base is not None and chunk.makes_base:
            result = self._decode(pass_, [], Wanted(keep_layer=base.first_layer))
        else:
            operations = native_operations((row.request.steering,), pass_.owners, pass_.regions)
            kept = None if base is None else base.kept[chunk.first, chunk.stop]
            wanted = Wanted(n_top=row.request.n_top if row.request.prompt_logprobs else 0)
            result = self._decode(pass_, operations, wanted, base=kept, keeps_below=kept is not None)
        sequence.tokens += tokens
        sequence.keys += [()] * n if chunk.makes_base and not row.is_plain else row.place_keys[chunk.first : chunk.stop]
        if result.failed_rows:
            self._fail(row, events)
        elif base is not None and chunk.makes_base:
            self._keep(row, chunk, base, result)
        elif row.request.prompt_logprobs:
            row.prompt_logprobs += result.logprobs.tolist()
            row.prompt_top += _alternatives(result, n, row.request.n_top)

    def _decode(
        self, pass_: Pass, operations: Sequence[Operation], wanted: Wanted | None = None, *,
        base: Kept | None = None, keeps_below: bool = False, samplers: Sequence[tuple[int, Sampler]] = (),
    ) -> Result:  # fmt: skip
        fresh, self._clears = self._clears, False
        return self._session.decode(
            pass_, operations, wanted, base=base, keeps_below=keeps_below, samplers=samplers, fresh=fresh
        )

    def _keep(self, row: _Row, chunk: _Chunk, base: _Base, result: Result) -> None:
        """Note what a chunk of a base keeps; where the graph lets nothing be resumed from there, give the base up."""
        assert result.base is not None and row.chunks is not None
        place = self._rows.index(row)
        base.kept[chunk.first, chunk.stop] = result.base
        if not result.base.reason:
            if chunk.stop == len(base.tokens):
                self._sequences[place].base = base
            return
        self._refused.add(base.first_layer)
        if not row.is_plain:
            self._sequences[place].cut(0)
            self._session.cut_sequence(place, 0)
        own = [left for left in row.chunks if row.is_plain or not left.makes_base]
        row.chunks = deque(_Chunk(left.first, left.stop) for left in own)

    def _decode_tokens(self, events: list[Event]) -> None:
        """One token of every row whose prompt is decoded."""
        places = [place for place, row in enumerate(self._rows) if row.is_decoding]
        rows = [self._rows[place] for place in places]
        if not rows:
            return
        positions = np.array([row.n_prompt - 1 + len(row.tokens) for row in rows])
        regions = np.array([2 if row.tokens else 1 for row in rows], np.int8)
        pass_ = token_of_each([row.pending for row in rows], positions, np.array(places))
        if self._exact:
            pass_ = replace(pass_, pieces=(Piece(1),) * len(rows))
        samplers = [(i, row.chain) for i, row in enumerate(rows)]
        n_top = max(row.n_top for row in rows)
        wanted = Wanted(sampled_logprobs=any(row.request.logprobs for row in rows), n_top=n_top)
        result = self._decode(pass_, self._operations(rows, regions), wanted, samplers=samplers)
        top = iter(_alternatives(result, len(rows) - len(result.failed_rows), n_top))
        for place, row, region in zip(places, rows, regions, strict=True):
            self._sequences[place].tokens.append(row.pending)
            self._sequences[place].keys.append(row.keys[region])
        for i, (row, token) in enumerate(zip(rows, result.sampled, strict=True)):
            if i in result.failed_rows:
                self._fail(row, events)
                continue
            of_token, text = next(top)[: row.n_top], self._draw(row, token)
            logprob = result.sampled_logprobs[i] if row.request.logprobs else None
            if logprob is not None and row.end_token is None:
                row.logprobs.append(logprob)
                row.top += [of_token] if row.n_top else []
            drawn = token if row.end_token is None else None
            events.append(Text(row.ticket, len(row.tokens), text, drawn, logprob, of_token))
            if row.finish is not None:
                events.append(Finished(row.ticket, self._generated(row)))
                self._leave(row)

    def _operations(self, rows: Sequence[_Row], regions: npt.NDArray[np.int8]) -> list[Operation]:
        """What steers a token of each row; kept from the step before where that decoded the same rows."""
        name = (tuple(row.ticket for row in rows), regions.tobytes())
        if self._latest[0] != name:
            by_row = tuple(row.request.steering for row in rows)
            self._latest = (name, native_operations(by_row, np.arange(len(rows), dtype=np.int32), regions))
        return self._latest[1]

    def _draw(self, row: _Row, token: int) -> str:
        """Add a drawn token to a row; the text that became certain."""
        vocabulary, text = self._engine.vocabulary, ""
        row.pending = token
        if vocabulary.ends_generation(token):
            row.finish, row.end_token = "end", token
        else:
            row.tokens.append(token)
            text = row.stream.add(vocabulary.token_bytes(token))
            if row.stream.stopped:
                row.finish = "stop"
            elif len(row.tokens) == row.request.max_tokens:
                row.finish = "length"
        if row.finish:
            text += row.stream.finish()
            if row.stream.stopped:
                row.finish = "stop"
        return text

    def _generated(self, row: _Row) -> Generated:
        assert row.finish is not None
        in_thought = ends_in_thought(self._engine.vocabulary.detokenize(row.request.tokens))
        return Generated(
            row.stream.text, tuple(row.tokens), row.finish, row.gate_open, in_thought, row.end_token,
            tuple(row.logprobs), tuple(row.top), tuple(row.prompt_logprobs), tuple(row.prompt_top), row.n_cached,
        )  # fmt: skip

    def _fail(self, row: _Row, events: list[Event]) -> None:
        """End a row that left float32's range."""
        sequence = self._sequences[self._rows.index(row)]
        sequence.is_tainted, sequence.base = True, None
        sequence.cut(0)
        self._leave(row)
        strengths = ", ".join(f"{acts.strength:g}" for acts in row.request.steering if not acts.idle)
        error = NonFiniteError(
            f"at strength {strengths} the activations leave float32's range; use a smaller strength" if strengths
            else f"{self._engine.path}: unsteered output is not finite; check the model file"
        )  # fmt: skip
        events.append(Failed(row.ticket, error))

    def _key(self, steering: Iterable[Steering], region: int) -> Hashable:
        """The same for rows of a region that are steered alike."""
        return tuple(
            (self._digest(acts), acts.operator, acts.side, np.float32(acts.strength).item())
            for acts in steering
            if region in REGIONS[acts.positions] and not acts.idle
        )

    def _digest(self, acts: Steering) -> str:
        vector = acts.vector
        if len(self._digests) > _MOST_DIGESTS:
            self._digests.clear()
        if id(vector) not in self._digests:
            self._digests[id(vector)] = (vector, vector_sha256(vector))
        return self._digests[id(vector)][1]

    def _check(self, request: GenerationRequest) -> None:
        n_vocab = self._engine.n_vocab
        if not all(0 <= token < n_vocab for token in request.tokens):
            raise InputError(f"a token lies outside the vocabulary; use tokens of this model, 0..{n_vocab - 1}")
        if request.n_top > n_vocab:
            raise InputError(f"n_top is {request.n_top}; the model has {n_vocab} tokens")
        n = len(request.tokens) + request.max_tokens
        if n > self.n_cells:
            raise ContextOverflowError(
                f"{len(request.tokens)} prompt tokens and {request.max_tokens} more need {n} cells, a row has "
                f"{self.n_cells}; shorten the prompt, lower `max_tokens` or raise `n_cells`"
            )
        check((request.steering,), n_layer=self._engine.n_layer, n_embd=self._engine.n_embd)


def whole_cells(n_cells: int) -> int:
    """As many cells as llama.cpp makes of these: a multiple of 256."""
    return -(-n_cells // 256) * 256


def _alternatives(result: Result, n_rows: int, n_top: int) -> list[Alternatives]:
    """The most likely tokens of each row that did not fail, most likely first; () for none."""
    if not n_top:
        return [()] * n_rows
    pairs = zip(result.top_tokens.tolist(), result.top_logprobs.tolist(), strict=True)
    return [tuple(zip(tokens, logprobs, strict=True)) for tokens, logprobs in pairs]


def _same_prompt(one: _Row, other: _Row) -> bool:
    return one.request.tokens == other.request.tokens


def _n_alike(one: Sequence[int], other: Sequence[int]) -> int:
    """How many first elements are the same."""
    low, high = 0, min(len(one), len(other)) + 1  # the first `low` are, the first `high` are not
    first, second = list(one), list(other)
    while high - low > 1:
        middle = (low + high) // 2
        if first[low:middle] == second[low:middle]:
            low = middle
        else:
            high = middle
    return low


def part_of_prompt(tokens: Sequence[int], first: int, sequence: int) -> Pass:
    """A pass of some tokens of one sequence from position `first` on, before a prompt's last one; without outputs."""
    n = len(tokens)
    return _pass(tokens, np.arange(first, first + n), np.full(n, sequence), np.zeros(n, np.int32), 0)


def scored(pass_: Pass, following: Sequence[int]) -> Pass:
    """The same with the probability of the token that follows each of its own."""
    n = len(pass_.tokens)
    rows = np.arange(n, dtype=np.int32)
    return replace(
        pass_, outputs=np.ones(n, np.int8), score_rows=rows, score_tokens=np.array(following, np.int32),
        score_targets=np.zeros(n, np.int32),
    )  # fmt: skip


def token_of_each(
    tokens: Sequence[int],
    positions: npt.NDArray[np.integer[Any]],
    sequences: npt.NDArray[np.integer[Any]] | None = None,
) -> Pass:
    """A pass of a token of each of several rows, of generated text, with its output; row i in sequence i by default."""
    n = len(tokens)
    places = np.arange(n) if sequences is None else sequences
    return _pass(tokens, positions, places, np.arange(n, dtype=np.int32), 1)


def _pass(
    tokens: Sequence[int], positions: npt.NDArray[np.integer[Any]], sequences: npt.NDArray[np.integer[Any]],
    owners: npt.NDArray[np.int32], outputs: int,
) -> Pass:  # fmt: skip
    n, none = len(tokens), np.empty(0, np.int32)
    return Pass(
        tokens=np.array(tokens, np.int32), positions=positions.astype(np.int32), owners=owners,
        regions=np.full(n, 2 * outputs, np.int8),
        seq_offsets=np.arange(n + 1, dtype=np.int32), seq_ids=sequences.astype(np.int32),
        outputs=np.full(n, outputs, np.int8), prompt_ends=none, prompt_owners=none,
        score_rows=none, score_tokens=none, score_targets=none, pieces=(Piece(n),),
    )  # fmt: skip
