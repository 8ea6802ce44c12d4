"""Side-by-side generation: one prompt under K steerings as K rows of one decode; read this to generate from Python.

    found = generate(engine, "Once upon a time", [Steering(vector, s) for s in (-1, 0, 1)], max_tokens=64)
    for row in found.rows: print(row.text)

Two modes. Shared (the default): all rows in one unified K/V buffer; what begins alike and is steered alike is computed
once. The rows' places are kept to the end, also of those that have finished, so a row's bits depend on its own steering
and place alone, whatever the other rows do. Exact: a K/V stream of its own for each row, its prompt decoded by itself;
on a CPU with quantized weights a row then has the bits of a run with that row alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from steercpp.engine import Engine
from steercpp.errors import ContextOverflowError, InputError, NonFiniteError
from steercpp.packing import Pass, Piece, Query
from steercpp.prompts import Prompt, Template
from steercpp.sampling import Sampling
from steercpp.session import Sampler, Session
from steercpp.steered_rows import native_operations
from steercpp.steering import Decided, Steering
from steercpp.text_stream import TextStream

Ints: TypeAlias = npt.NDArray[np.int64]
Finish: TypeAlias = Literal["length", "stop", "end"]

GREEDY = Sampling()


@dataclass(frozen=True, slots=True)
class Generated:
    """One finished row.

    Attributes:
        text: without the stop string.
        tokens: as drawn; the end-of-generation token is not among them.
        finish: "length" at max_tokens, "stop" at a stop string, "end" at an end-of-generation token.
    """

    text: str
    tokens: tuple[int, ...]
    finish: Finish


@dataclass(frozen=True, slots=True)
class Generation:
    """All rows, with the work done and what as many runs one after the other would do.

    Attributes:
        token_layers, token_layers_plain: tokens times blocks computed; what decides gates is counted for neither.
    """

    rows: tuple[Generated, ...]
    token_layers: int
    token_layers_plain: int


def generate(
    engine: Engine,
    prompt: Prompt | Sequence[int],
    steering: Sequence[None | Steering | Sequence[Steering]],
    *,
    max_tokens: int = 128,
    sampling: Sampling | Sequence[Sampling] = GREEDY,
    stop: Sequence[str] = (),
    exact: bool = False,
    template: Template = "auto",
    on_text: Callable[[int, str], None] | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> Generation:
    """Continue one prompt under several steerings side by side.

    Args:
        engine: the model.
        prompt: a text, a chat, or tokens.
        steering: what steers each row; its length is the number of rows.
        max_tokens: of each row.
        sampling: of all rows, or of each.
        stop: strings that end a row; they are not part of its text.
        exact: a K/V stream of its own for each row, see above. Recurrent models always have that.
        template: how the prompt is written, as in `Engine.render`.
        on_text: called with (row, text) as text becomes certain.
        progress: called with (tokens drawn of each row, max_tokens, "tokens").

    Raises:
        ContextOverflowError: prompt and tokens do not fit into the context.
        NonFiniteError: a strength drives the activations out of float32's range.
        InputError: no rows, too many of them, or an option out of range.
        EngineError, UnsteerableError, ...: as `Engine.logprobs`.
    """
    tokens = _tokens(engine, prompt, template)
    queries = [Query(tokens)] * len(steering)
    decided = engine.decide(queries, list(steering))
    samplings = [sampling] * len(steering) if isinstance(sampling, Sampling) else list(sampling)
    _check(engine, tokens, decided, samplings, max_tokens, stop)
    rows = [_Row(TextStream(stop)) for _ in decided]
    exact = exact or engine.is_recurrent
    together = None if exact else engine.lay_out_together(queries, decided, n_ctx=len(rows) * len(tokens))
    session = _session(engine, together, len(rows), len(tokens), max_tokens)
    before = session.token_layers
    chains = [Sampler(**asdict(one)) for one in samplings]
    run = _Run(session, tokens, decided, chains)
    drawn = run.start_apart() if together is None else run.start_together(together)
    while True:
        for place, (row, token) in enumerate(zip(rows, drawn, strict=True)):
            text = _take(engine, row, token, max_tokens)
            if text and on_text is not None:
                on_text(place, text)
        if progress is not None:
            progress(run.n_drawn, max_tokens, "tokens")
        if all(row.finish for row in rows):
            break
        drawn = run.step(drawn)
    plain = sum(len(tokens) + max(len(row.tokens) - (row.finish != "end"), 0) for row in rows) * engine.n_layer
    found = tuple(Generated(row.stream.text, tuple(row.tokens), row.finish or "length") for row in rows)
    return Generation(found, session.token_layers - before, plain)


@dataclass(slots=True)
class _Row:
    stream: TextStream
    tokens: list[int] = field(default_factory=list)
    finish: Finish | None = None


@dataclass(slots=True)
class _Run:
    """The decodes of one generation: the prompt, then a token of every row at a time."""

    session: Session
    prompt: tuple[int, ...]
    decided: Decided
    chains: list[Sampler]
    n_drawn: int = 0

    def start_together(self, part: Pass) -> list[int]:
        """Decode the prompt of all rows in one pass and draw each row's first token."""
        order = np.argsort(part.prompt_ends, kind="stable")
        samplers = [(int(part.prompt_ends[i]), self.chains[int(part.prompt_owners[i])]) for i in order]
        drawn = self._decode(part, samplers, fresh=True)
        found = np.empty(len(drawn), np.int64)
        found[part.prompt_owners[order]] = drawn
        self.n_drawn = 1
        return [int(token) for token in found]

    def start_apart(self) -> list[int]:
        """Decode the prompt of each row by itself and draw the first tokens."""
        n = len(self.prompt)
        found = []
        for row, chain in enumerate(self.chains):
            regions = np.zeros(n, np.int8)
            regions[-1] = 1
            part = _rows(
                self.prompt, np.arange(n), np.full(n, row), np.full(n, row), regions, self.session.options.n_batch
            )
            found += self._decode(part, [(n - 1, chain)], fresh=row == 0)
        self.n_drawn = 1
        return found

    def step(self, tokens: Sequence[int]) -> list[int]:
        """Decode a token of every row and draw the next one. Rows that have finished go on, unseen: see above."""
        n = len(self.chains)
        places = np.arange(n)
        positions = np.full(n, len(self.prompt) + self.n_drawn - 1)
        part = _rows(tokens, positions, places, places, np.full(n, 2, np.int8), self.session.options.n_batch)
        self.n_drawn += 1
        return self._decode(part, list(enumerate(self.chains)), fresh=False)

    def _decode(self, part: Pass, samplers: list[tuple[int, Sampler]], *, fresh: bool) -> list[int]:
        operations = native_operations(self.decided, part.owners, part.regions)
        result = self.session.decode(part, operations, samplers=samplers, fresh=fresh)
        if result.nonfinite_row >= 0:
            place = int(part.owners[result.nonfinite_row])
            strengths = ", ".join(f"{one.strength:g}" for one in self.decided[place]) or "0"
            raise NonFiniteError(
                f"row {place}: at strength {strengths} the activations leave float32's range; use a smaller strength"
            )
        return result.sampled


def _rows(
    tokens: Sequence[int], positions: Ints, sequences: Ints, owners: Ints, regions: npt.NDArray[np.int8], n_batch: int
) -> Pass:
    """A pass of rows in one sequence each; the last row of every sequence is an output."""
    n = len(tokens)
    outputs = np.ones(n, np.int8)
    outputs[:-1] = sequences[:-1] != sequences[1:]
    none = np.empty(0, np.int32)
    pieces = tuple(Piece(min(n_batch, n - first), (), -1) for first in range(0, n, n_batch))
    return Pass(
        tokens=np.array(tokens, np.int32),
        positions=positions.astype(np.int32),
        owners=owners.astype(np.int32),
        regions=regions,
        seq_offsets=np.arange(n + 1, dtype=np.int32),
        seq_ids=sequences.astype(np.int32),
        outputs=outputs,
        prompt_ends=none,
        prompt_owners=none,
        score_rows=none,
        score_tokens=none,
        score_targets=none,
        pieces=pieces,
    )


def _take(engine: Engine, row: _Row, token: int, max_tokens: int) -> str:
    """Add a drawn token to a row; the text that became certain."""
    if row.finish:
        return ""
    text = ""
    if engine.ends_generation(token):
        row.finish = "end"
    else:
        row.tokens.append(token)
        text = row.stream.add(engine.token_bytes(token))
        if row.stream.stopped:
            row.finish = "stop"
        elif len(row.tokens) == max_tokens:
            row.finish = "length"
    if row.finish:
        text += row.stream.finish()
        if row.stream.stopped:
            row.finish = "stop"
    return text


def _tokens(engine: Engine, prompt: Prompt | Sequence[int], template: Template) -> tuple[int, ...]:
    is_tokens = not isinstance(prompt, str) and all(isinstance(token, int) for token in prompt)
    return tuple(prompt) if is_tokens else engine.encode(prompt, template=template)  # type: ignore[arg-type]


def _session(engine: Engine, together: Pass | None, n_rows: int, n_prompt: int, max_tokens: int) -> Session:
    """The engine's own context where all rows fit into it; a larger one, or one with a stream for each row."""
    if together is None:
        n_batch = max(engine.session.options.n_batch, n_rows)
        return engine.open_session(
            n_ctx=_rounded(n_prompt + max_tokens), n_batch=n_batch, n_seq_max=n_rows, kv_unified=False
        )
    n_cells = len(together.tokens) + n_rows * (max_tokens - 1)
    return engine.session if n_cells <= engine.n_ctx else engine.open_session(n_ctx=_rounded(n_cells))


def _rounded(n_ctx: int) -> int:
    return -(-n_ctx // 256) * 256


def _check(
    engine: Engine,
    tokens: tuple[int, ...],
    decided: Decided,
    samplings: Sequence[Sampling],
    max_tokens: int,
    stop: Sequence[str],
) -> None:
    options = engine.session.options
    most = min(256, options.n_batch)
    if not 1 <= len(decided) <= most:
        raise InputError(f"{len(decided)} rows: give 1 to {most} steerings")
    if len(samplings) != len(decided):
        raise InputError(f"{len(samplings)} samplings for {len(decided)} rows; give one, or one per row")
    if max_tokens < 1:
        raise InputError(f"max_tokens is {max_tokens}; give at least 1")
    if not all(stop):
        raise InputError("a stop string is empty; leave it out")
    if len(tokens) + max_tokens > engine.n_ctx:
        raise ContextOverflowError(
            f"{len(tokens)} prompt tokens and {max_tokens} more need {len(tokens) + max_tokens} positions, the context "
            f"holds {engine.n_ctx}; shorten the prompt, lower max_tokens or raise n_ctx"
        )
