"""Side-by-side generation: one prompt under K steerings as K rows of one decode; read this to generate from Python.

    texts = generate(engine, "Once upon a time", [Steering(vector, s) for s in (-1, 0, 1)], max_tokens=64)
    for row in texts.rows: print(row.text)

`generate_each` continues many prompts, one row each. Both are clients of the `Pool` (pool.py), in which every row has a
K/V stream of its own: on a CPU with quantized weights a row has the bits of a run with that row alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from steercpp.aliases import TokenProgress, Tokens
from steercpp.data.prompts import Filled, Prompt, Template
from steercpp.engine.batch import Query
from steercpp.engine.engine import Engine, EngineSettings
from steercpp.engine.pool import MOST_SEQUENCES, Pool, whole_cells
from steercpp.engine.request import GREEDY, Failed, Finish, Finished, Generated, GenerationRequest, Text
from steercpp.engine.sampling import Sampling
from steercpp.engine.steering import Decided, PerQuery, Steering, normalized
from steercpp.errors import ContextOverflowError, InputError, NonFiniteError
from steercpp.html import card, table

__all__ = ["GREEDY", "Finish", "Generated", "Generation", "generate", "generate_each"]

# K/V that the rows of a generation may take, at least: cells as a context has by default, or bytes where that is more.
_CELLS_AT_ONCE = 4096
_BYTES_AT_ONCE = 2**29


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
    logprobs: bool = False,
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
        exact: decode each row by itself, so that it has the bits of a run with that row alone also where sums over
            several rows are taken in another order: F32 and F16 weights, flash attention on some devices.
        logprobs: tell the log-probability of each token in `Generated.logprobs`.
        template: how the prompt is written, as in `Engine.render`.
        on_text: called with (row, text) as text becomes certain.
        progress: called with (tokens drawn of a row on average, max_tokens, "tokens"); a row that ended counts as full.

    Raises:
        ContextOverflowError: prompt and tokens do not fit into the context.
        NonFiniteError: all rows leave float32's range. Where others go on, the row's `finish` is "nonfinite".
        InputError: no rows, or an option out of range.
        EngineError, UnsteerableError, ...: as `Engine.logprobs`.

    >>> texts = generate(engine, "The moon", [None, Steering(vector, 0.0)], max_tokens=4)
    >>> len(texts.rows), texts.rows[0].text == texts.rows[1].text  # strength 0 changes nothing
    (2, True)
    """
    if isinstance(steering, Steering) or isinstance(stop, str):
        raise InputError("steering is one entry for each row and stop a list of texts; put single ones into a list")
    if not steering:
        raise InputError("0 rows: give a steering for each row, None for an unsteered one")
    samplings = [sampling] * len(steering) if isinstance(sampling, Sampling) else list(sampling)
    if len(samplings) != len(steering):
        raise InputError(f"{len(samplings)} samplings for {len(steering)} rows; give one, or one per row")
    tokens = _tokens(engine, prompt, template)
    by_row = normalized(list(steering), len(steering))
    requests = _requests(engine, [tokens] * len(by_row), by_row, samplings, max_tokens, tuple(stop), logprobs)

    n_drawn, n_total = [0] * len(requests), len(requests) * max_tokens

    def tick(row: int, n: int) -> None:
        n_before, n_drawn[row] = sum(n_drawn) * max_tokens // n_total, n
        n_now = sum(n_drawn) * max_tokens // n_total
        if progress is not None and n_now > n_before:
            progress(n_now, max_tokens, "tokens")

    generation = _generate(engine, requests, by_row, max_tokens, exact=exact, on_text=on_text, tick=tick)
    return replace(generation, strengths=tuple(tuple(acts.strength for acts in of_row) for of_row in by_row))


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
    requests = _requests(engine, tokens, by_row, sampling, max_tokens, (), False)
    n_finished = 0

    def tick(row: int, n: int) -> None:
        nonlocal n_finished
        if n == max_tokens:
            n_finished += 1
            if progress is not None:
                progress(n_finished, len(requests))

    return _generate(engine, requests, by_row, max_tokens, exact=False, on_text=None, tick=tick)


def _requests(
    engine: Engine, prompts: Sequence[Tokens], by_row: Decided, samplings: Sequence[Sampling], max_tokens: int,
    stop: tuple[str, ...], logprobs: bool,
) -> list[GenerationRequest]:  # fmt: skip
    """One for each row, with its gates decided, all of them in one pass."""
    if max_tokens < 1:
        raise InputError(f"max_tokens is {max_tokens}; give at least 1")
    for prompt in set(prompts):
        if len(prompt) + max_tokens > engine.n_ctx:
            raise ContextOverflowError(
                f"{len(prompt)} prompt tokens and {max_tokens} more need {len(prompt) + max_tokens} positions, the "
                f"context holds {engine.n_ctx}; shorten the prompt, lower `max_tokens` or raise `n_ctx`"
            )
    decided = engine.decide([Query(prompt) for prompt in prompts], by_row)
    return [
        GenerationRequest(prompt, steering, sampling, max_tokens, stop, logprobs)
        for prompt, steering, sampling in zip(prompts, decided, samplings, strict=True)
    ]


def _generate(
    engine: Engine,
    requests: Sequence[GenerationRequest],
    by_row: Decided,
    max_tokens: int,
    *,
    exact: bool,
    on_text: Callable[[int, str], None] | None,
    tick: Callable[[int, int], None],
) -> Generation:
    """All rows, in a context of their own. `tick` gets a row and its tokens so far, max_tokens once it has ended."""
    n_cells = max(len(request.tokens) for request in requests) + max_tokens if requests else 1
    pool = Pool(engine, n_cells=n_cells, n_rows=_rows_at_once(engine, n_cells, len(requests)), exact=exact)
    rows: list[Generated | None] = [None] * len(requests)
    errors: dict[int, NonFiniteError] = {}
    n_plain = 0
    places = {
        pool.add(request, gate_open=_gate_open(given, request.steering)): place
        for place, (request, given) in enumerate(zip(requests, by_row, strict=True))
    }
    while pool.is_busy:
        for event in pool.step():
            place = places[event.ticket]
            if isinstance(event, Text):
                if event.text and on_text is not None:
                    on_text(place, event.text)
                if event.n_drawn < max_tokens:
                    tick(place, event.n_drawn)
            elif isinstance(event, Finished):
                rows[place] = event.row
                n_drawn = len(event.row.tokens) + (event.row.end_token is not None)
                n_plain += len(requests[place].tokens) + n_drawn - 1
                tick(place, max_tokens)
            elif isinstance(event, Failed):
                gate_open = _gate_open(by_row[place], requests[place].steering)
                rows[place] = Generated("", (), "nonfinite", gate_open)
                n_plain += len(requests[place].tokens)
                errors[place] = NonFiniteError(f"row {place}: {event.error}")
                tick(place, max_tokens)
    finished = tuple(row for row in rows if row is not None)
    if errors and len(errors) == len(requests):
        raise errors[0]
    return Generation(finished, pool.token_layers, n_plain * engine.n_layer, engine.settings())


def _rows_at_once(engine: Engine, n_cells: int, n_rows: int) -> int:
    """How many rows may have K/V at once."""
    n_cells = whole_cells(n_cells)
    n_allowed = max(engine.n_ctx, _CELLS_AT_ONCE, _BYTES_AT_ONCE // engine.bytes_per_cell)
    return min(max(1, n_allowed // n_cells), max(1, n_rows), MOST_SEQUENCES)


def _gate_open(given: Sequence[Steering], decided: Sequence[Steering]) -> bool | None:
    """Whether all gates are open: what is behind a closed one is not in what was decided."""
    return len(decided) == len(given) if any(steering.gate is not None for steering in given) else None


def _tokens(engine: Engine, prompt: Prompt | Sequence[int], template: Template) -> Tokens:
    if not isinstance(prompt, str | Filled) and all(isinstance(token, int | np.integer) for token in prompt):
        return tuple(int(token) for token in prompt)  # type: ignore[arg-type]
    return engine.encode(prompt, template=template)  # type: ignore[arg-type]
