"""Side-by-side generation: one prompt under K steerings as K rows of one decode; read this to generate from Python.

    texts = generate(engine, "Once upon a time", [Steering(vector, s) for s in (-1, 0, 1)], max_tokens=64)
    for row in texts.rows: print(row.text)

`generate_each` continues many prompts, one row each.

Two modes. Shared (the default): all rows in one unified K/V buffer; what no row steers is computed once. The rows'
places are kept to the end, also of those that have finished, so a row's bits depend on its own steering and place, and
on which tokens of the prompt are steered at all, whatever the other rows' strengths and texts. Exact: a K/V stream of
its own for each row, its prompt decoded by itself; on a CPU with quantized weights a row then has the bits of a run
with that row alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from steercpp.aliases import TokenProgress
from steercpp.data.prompts import Filled, Prompt, Template
from steercpp.engine.engine import Engine, EngineSettings
from steercpp.engine.operations import native_operations
from steercpp.engine.packing import BatchLimits, Pass, Piece, Query, lay_out_together
from steercpp.engine.sampling import Sampling, TextStream
from steercpp.engine.session import Sampler, Session
from steercpp.engine.steering import REGIONS, Decided, PerQuery, Steering, normalized
from steercpp.errors import ContextOverflowError, InputError, NonFiniteError
from steercpp.html import card, table
from steercpp.judging.answers import BEGUN, Reply, ends_in_thought, parted

Ints: TypeAlias = npt.NDArray[np.int64]
Finish: TypeAlias = Literal["length", "stop", "end"]

GREEDY = Sampling()
_CELLS_AT_ONCE = (
    4096  # of K and V, at least: what a context has by default, a GiB or two in a model of 7 billion weights
)


@dataclass(frozen=True, slots=True)
class Generated:
    """One finished row.

    Attributes:
        text: without the stop string.
        tokens: as drawn; the end-of-generation token is not among them.
        finish: "length" at max_tokens, "stop" at a stop string, "end" at an end-of-generation token.
        gate_open: whether all gates of its steering are; None without any.
        in_thought: whether the prompt ends inside a thought, so that the text begins there.
        end_token: the end-of-generation token that was drawn; None where none was.
    """

    text: str
    tokens: tuple[int, ...]
    finish: Finish
    gate_open: bool | None
    in_thought: bool = False
    end_token: int | None = None

    @property
    def reply(self) -> Reply:
        """Its thoughts and its answer, see judging/answers.py."""
        return parted(BEGUN + self.text if self.in_thought else self.text)


@dataclass(frozen=True, slots=True, repr=False)
class Generation:
    """All rows, with the work done and what as many runs one after the other would do.

    Attributes:
        token_layers, token_layers_plain: tokens times blocks computed; what decides gates is counted for neither.
        settings: how the model was run, flash attention among it.
        strengths: of what steers each row, () of an unsteered one; of `generate` alone.
    """

    rows: tuple[Generated, ...]
    token_layers: int
    token_layers_plain: int
    settings: EngineSettings
    strengths: tuple[tuple[float, ...], ...] = ()

    def _repr_html_(self) -> str:
        """The texts in a notebook, each beside its strength."""
        of_rows = self.strengths or ((),) * len(self.rows)
        rows = [
            (" and ".join(f"{s:+.10g}" if s else "0" for s in strengths) or "0", row.text or "(nothing)", row.finish)
            for strengths, row in zip(of_rows, self.rows, strict=True)
        ]
        name = "strength" if self.strengths else "row"
        if not self.strengths:
            rows = [(str(place), *row[1:]) for place, row in enumerate(rows)]
        return card(f"{len(rows)} texts", table((name, "text", "ended by"), rows, words=(False, True, True)))

    def __repr__(self) -> str:
        """The rows in one line: how many, of how many tokens, and how the first begins."""
        n_tokens = sum(len(row.tokens) for row in self.rows)
        first = " ".join(self.rows[0].text.split()) if self.rows else ""
        shown = f"{first[:47]}…" if len(first) > 48 else first
        return f"Generation({len(self.rows)} rows, {n_tokens} tokens; the first: {shown!r})"


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
        prompt: a text, a chat, a template with its data, or tokens.
        steering: what steers each row; its length is the number of rows.
        max_tokens: of each row.
        sampling: of all rows, or of each.
        stop: strings that end a row; they are not part of its text.
        exact: a K/V stream of its own for each row, see above. Recurrent models always have that.
        template: how the prompt is written, as in `Engine.render`.
        on_text: called with (row, text) as text becomes certain.
        progress: called with (tokens drawn of each row, max_tokens, "tokens"); where rows are continued in several
            rounds, both numbers count through all of these.

    Raises:
        ContextOverflowError: prompt and tokens do not fit into the context.
        NonFiniteError: a strength drives the activations out of float32's range.
        InputError: no rows, too many of them, or an option out of range.
        EngineError, UnsteerableError, ...: as `Engine.logprobs`.

    >>> texts = generate(engine, "The moon", [None, Steering(vector, 0.0)], max_tokens=4)
    >>> len(texts.rows), texts.rows[0].text == texts.rows[1].text  # strength 0 changes nothing
    (2, True)
    """
    if isinstance(steering, Steering) or isinstance(stop, str):
        raise InputError("steering is one entry for each row and stop a list of texts; put single ones into a list")
    # what each row is, and what steers it once gates are decided
    tokens = _tokens(engine, prompt, template)
    by_row = normalized(list(steering), len(steering))
    decided = engine.decide([Query(tokens)] * len(steering), by_row)
    samplings = [sampling] * len(steering) if isinstance(sampling, Sampling) else list(sampling)
    _check(engine, tokens, decided, samplings, max_tokens, stop)
    exact = exact or engine.is_recurrent
    rows = [_Row(TextStream(stop)) for _ in decided]

    # as many rows at once as memory for K and V is meant for
    n_at_once = _rows_at_once(engine, by_row, len(tokens), max_tokens, exact=exact)
    firsts = range(0, len(rows), n_at_once)
    token_layers = 0
    for n_done, first in enumerate(firsts):
        chosen = slice(first, first + n_at_once)
        n_before, n_total = n_done * max_tokens, len(firsts) * max_tokens
        token_layers += _continue(
            engine, [tokens] * len(rows[chosen]), by_row[chosen], decided[chosen], samplings[chosen], rows[chosen],
            max_tokens, exact=exact, first=first, on_text=on_text,
            progress=None if progress is None else _onwards(progress, n_before, n_total),
        )  # fmt: skip

    in_thought = ends_in_thought(engine.vocabulary.detokenize(tokens))
    plain = sum(len(tokens) + row.n_drawn - 1 for row in rows) * engine.n_layer
    finished = tuple(
        row.generated(_gate_open(before, after), in_thought)
        for row, before, after in zip(rows, by_row, decided, strict=True)
    )
    strengths = tuple(tuple(acts.strength for acts in of_row) for of_row in by_row)
    return Generation(finished, token_layers, plain, engine.settings(), strengths)


def generate_each(
    engine: Engine,
    prompts: Sequence[Sequence[int]],
    *,
    sampling: Sequence[Sampling],
    max_tokens: int,
    steering: PerQuery = None,
    progress: TokenProgress | None = None,
) -> Generation:
    """Continue many prompts side by side, one row each.

    The prompts are taken in their order, as many at once as have room in a context; so the same prompts, samplings and
    engine give the same bits.

    Args:
        engine: the model.
        prompts: tokens of each.
        sampling: of each.
        max_tokens: of each.
        steering: of all, or of each.
        progress: called with the number of prompts done and of all.

    Raises:
        ContextOverflowError: a prompt and its tokens do not fit into the context.
        InputError: not one sampling per prompt, or an option out of range.
        ShapeError: not one steering per prompt.
        NonFiniteError, EngineError, ...: as `generate`.
    """
    if len(sampling) != len(prompts):
        raise InputError(f"{len(sampling)} samplings for {len(prompts)} prompts; give one per prompt")
    tokens = [tuple(prompt) for prompt in prompts]
    by_row = normalized(steering, len(tokens))
    decided = engine.decide([Query(one) for one in tokens], by_row)
    for one, acts, chain in zip(tokens, decided, sampling, strict=True):
        _check(engine, one, (acts,), [chain], max_tokens, ())
    rows = [_Row(TextStream()) for _ in tokens]
    token_layers = n_done = 0
    while n_done < len(rows):
        chosen = slice(n_done, n_done + _prompts_at_once(engine, [len(one) + max_tokens for one in tokens[n_done:]]))
        token_layers += _continue(
            engine, tokens[chosen], by_row[chosen], decided[chosen], sampling[chosen], rows[chosen], max_tokens,
            exact=engine.is_recurrent, first=n_done, on_text=None, progress=None,
        )  # fmt: skip
        n_done += len(rows[chosen])
        if progress is not None:
            progress(n_done, len(rows))
    plain = sum(len(one) + row.n_drawn - 1 for one, row in zip(tokens, rows, strict=True)) * engine.n_layer
    finished = tuple(
        row.generated(_gate_open(before, after), ends_in_thought(engine.vocabulary.detokenize(one)))
        for one, row, before, after in zip(tokens, rows, by_row, decided, strict=True)
    )
    return Generation(finished, token_layers, plain, engine.settings())


def _continue(
    engine: Engine,
    prompts: Sequence[tuple[int, ...]],
    by_row: Decided,
    decided: Decided,
    samplings: Sequence[Sampling],
    rows: Sequence[_Row],
    max_tokens: int,
    *,
    exact: bool,
    first: int,
    on_text: Callable[[int, str], None] | None,
    progress: Callable[[int], None] | None,
) -> int:
    """Continue prompts that are decoded together, the first row being row `first` of all; the token-layers computed.

    A context of their own: whatever else the engine does meanwhile, in a callback too, does not touch them.
    """
    together = None if exact else _together(engine, [Query(prompt) for prompt in prompts], by_row)
    session = _session(engine, together, len(rows), max(map(len, prompts)), max_tokens)
    run = _Run(session, prompts, decided, [Sampler(**asdict(chain)) for chain in samplings], first)

    # the prompt, then a token of every row at a time
    drawn = run.start_apart() if together is None else run.start_together(together)
    while True:
        for place, (row, token) in enumerate(zip(rows, drawn, strict=True)):
            text = _take(engine, row, token, max_tokens)
            if text and on_text is not None:
                on_text(first + place, text)
        if progress is not None:
            progress(run.n_drawn)
        if all(row.finish for row in rows):
            return session.token_layers
        drawn = run.step(drawn)


def _onwards(progress: Callable[[int, int, str], None], n_before: int, n_total: int) -> Callable[[int], None]:
    """Progress of some rows as that of all."""
    return lambda n_drawn: progress(n_before + n_drawn, n_total, "tokens")


def _rows_at_once(engine: Engine, by_row: Decided, n_prompt: int, max_tokens: int, *, exact: bool) -> int:
    """How many rows may have a context together: a prompt that no row steers counts once, any other for each row."""
    is_shared = not exact and 0 not in _steered_regions(by_row)
    n_shared, n_apart = (n_prompt, max_tokens) if is_shared else (0, n_prompt + max_tokens)
    return max(1, (max(engine.n_ctx, _CELLS_AT_ONCE) - n_shared) // n_apart)


def _prompts_at_once(engine: Engine, n_cells: Sequence[int]) -> int:
    """How many prompts, in order, may have a context together; `n_cells` are those of each with what continues it."""
    options = engine.session.options
    most = min(256, options.n_batch, len(n_cells))
    return max(1, int(np.searchsorted(np.cumsum(n_cells[:most]), max(engine.n_ctx, _CELLS_AT_ONCE), side="right")))


def _steered_regions(by_row: Decided) -> set[int]:
    return {region for steerings in by_row for acts in steerings for region in REGIONS[acts.positions]}


def _gate_open(given: Sequence[Steering], decided: Sequence[Steering]) -> bool | None:
    """Whether all gates are open: what is behind a closed one is not in what was decided."""
    return len(decided) == len(given) if any(steering.gate is not None for steering in given) else None


def _together(engine: Engine, queries: Sequence[Query], by_row: Decided) -> Pass:
    """The prompt of all rows in one pass, laid out by where rows are steered at all and not by how.

    What no row steers is shared by all rows. Else a row's place would depend on whether others are steered alike.
    """
    regions = _steered_regions(by_row)
    before, last, after = (region in regions for region in range(3))
    keys = [(row if before else -1, row if last else -1, row if after else -1) for row in range(len(queries))]
    options = engine.session.options
    limits = BatchLimits(options.n_batch, sum(len(query.tokens) for query in queries), options.n_seq_max)
    return lay_out_together(queries, limits, keys=keys)


@dataclass(slots=True)
class _Row:
    stream: TextStream
    tokens: list[int] = field(default_factory=list)
    finish: Finish | None = None
    n_drawn: int = 0
    end_token: int | None = None

    def generated(self, gate_open: bool | None, in_thought: bool) -> Generated:
        """The row, once it is finished."""
        return Generated(
            self.stream.text, tuple(self.tokens), self.finish or "length", gate_open, in_thought, self.end_token
        )


@dataclass(slots=True)
class _Run:
    """The decodes of one generation: the prompt, then a token of every row at a time."""

    session: Session
    prompts: Sequence[tuple[int, ...]]
    decided: Decided
    chains: list[Sampler]
    first: int  # the number of the first row among all
    n_drawn: int = 0

    def start_together(self, pass_: Pass) -> list[int]:
        """Decode the prompt of all rows in one pass and draw each row's first token."""
        order = np.argsort(pass_.prompt_ends, kind="stable")
        samplers = [(int(pass_.prompt_ends[i]), self.chains[int(pass_.prompt_owners[i])]) for i in order]
        drawn = self._decode(pass_, samplers, fresh=True)
        by_row = np.empty(len(drawn), np.int64)
        by_row[pass_.prompt_owners[order]] = drawn
        self.n_drawn = 1
        return [int(token) for token in by_row]

    def start_apart(self) -> list[int]:
        """Decode the prompt of each row by itself and draw the first tokens."""
        drawn = []
        for row, (prompt, chain) in enumerate(zip(self.prompts, self.chains, strict=True)):
            n = len(prompt)
            regions = np.zeros(n, np.int8)
            regions[-1] = 1
            places = np.full(n, row)
            pass_ = _rows(prompt, np.arange(n), places, regions, self.session.options.n_batch)
            drawn += self._decode(pass_, [(n - 1, chain)], fresh=row == 0)
        self.n_drawn = 1
        return drawn

    def step(self, tokens: Sequence[int]) -> list[int]:
        """Decode a token of every row and draw the next one. Rows that have finished go on, unseen: see above."""
        n = len(self.chains)
        positions = np.array([len(prompt) for prompt in self.prompts]) + self.n_drawn - 1
        pass_ = _rows(tokens, positions, np.arange(n), np.full(n, 2, np.int8), self.session.options.n_batch)
        self.n_drawn += 1
        return self._decode(pass_, list(enumerate(self.chains)), fresh=False)

    def _decode(self, pass_: Pass, samplers: list[tuple[int, Sampler]], *, fresh: bool) -> list[int]:
        operations = native_operations(self.decided, pass_.owners, pass_.regions)
        result = self.session.decode(pass_, operations, samplers=samplers, fresh=fresh)
        if result.nonfinite_row >= 0:
            place = int(pass_.owners[result.nonfinite_row])
            strengths = ", ".join(f"{steering.strength:g}" for steering in self.decided[place]) or "0"
            raise NonFiniteError(
                f"row {self.first + place}: at strength {strengths} the activations leave float32's range; "
                "use a smaller strength"
            )
        return result.sampled


def _rows(tokens: Sequence[int], positions: Ints, places: Ints, regions: npt.NDArray[np.int8], n_batch: int) -> Pass:
    """A pass whose row i is of the generated row places[i], in its sequence; the last one of each is an output."""
    n = len(tokens)
    outputs = np.ones(n, np.int8)
    outputs[:-1] = places[:-1] != places[1:]
    none = np.empty(0, np.int32)
    pieces = tuple(Piece(min(n_batch, n - first), (), -1) for first in range(0, n, n_batch))
    return Pass(
        tokens=np.array(tokens, np.int32), positions=positions.astype(np.int32),
        owners=places.astype(np.int32), regions=regions,
        seq_offsets=np.arange(n + 1, dtype=np.int32), seq_ids=places.astype(np.int32), outputs=outputs,
        prompt_ends=none, prompt_owners=none, score_rows=none, score_tokens=none, score_targets=none, pieces=pieces,
    )  # fmt: skip


def _take(engine: Engine, row: _Row, token: int, max_tokens: int) -> str:
    """Add a drawn token to a row; the text that became certain."""
    if row.finish:
        return ""
    row.n_drawn += 1
    text = ""
    if engine.vocabulary.ends_generation(token):
        row.finish, row.end_token = "end", token
    else:
        row.tokens.append(token)
        text = row.stream.add(engine.vocabulary.token_bytes(token))
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
    if not isinstance(prompt, str | Filled) and all(isinstance(token, int | np.integer) for token in prompt):
        return tuple(int(token) for token in prompt)  # type: ignore[arg-type]
    return engine.encode(prompt, template=template)  # type: ignore[arg-type]


def _session(engine: Engine, together: Pass | None, n_rows: int, n_prompt: int, max_tokens: int) -> Session:
    """A context in which all rows fit, together or each in a stream of its own."""
    if together is None:
        n_batch = max(engine.session.options.n_batch, n_rows)
        return engine.open_session(
            n_ctx=_rounded(n_prompt + max_tokens), n_batch=n_batch, n_seq_max=n_rows, kv_unified=False
        )
    n_cells = len(together.tokens) + n_rows * (max_tokens - 1)
    return engine.open_session(n_ctx=_rounded(n_cells))


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
        raise InputError(f"{len(decided)} rows: give 1 to {most} steerings, n_batch and 256 being the most")
    if len(samplings) != len(decided):
        raise InputError(f"{len(samplings)} samplings for {len(decided)} rows; give one, or one per row")
    if max_tokens < 1:
        raise InputError(f"max_tokens is {max_tokens}; give at least 1")
    if not all(stop):
        raise InputError("a stop string is empty; leave it out")
    if len(tokens) + max_tokens > engine.n_ctx:
        raise ContextOverflowError(
            f"{len(tokens)} prompt tokens and {max_tokens} more need {len(tokens) + max_tokens} positions, the context "
            f"holds {engine.n_ctx}; shorten the prompt, lower `max_tokens` or raise `n_ctx`"
        )
