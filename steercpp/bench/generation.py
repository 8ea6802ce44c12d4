"""Writing at many strengths: side by side, against one run after the other, and against rows in one K/V buffer."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

from steercpp.aliases import Tokens
from steercpp.bench.result import Comparison, Fact, Side, Timed, at_least, take_turns, time_ratio
from steercpp.bench.setting import Setting
from steercpp.engine.batch import BatchLimits, Query
from steercpp.engine.engine import Engine
from steercpp.engine.generation import GREEDY, Generation, generate
from steercpp.engine.operations import native_operations
from steercpp.engine.packing import lay_out_together
from steercpp.engine.pool import token_of_each
from steercpp.engine.steering import Steering
from steercpp.vectors.control_vector import ControlVector

N_TOKENS, N_PROMPT = 64, 8
WRITING_STRENGTHS = tuple(k / 2 for k in range(-8, 9) if k)  # 16 of them

TOGETHER, APART = "side by side", "one after the other"
STREAMS, ONE_BUFFER = "steercpp", "in one buffer"
_WITH_PROMPT = ", with the prompt"
_PROMPTS = {256: 1.8, 1024: 3.5}  # tokens, and how many times faster than one buffer the rows are to be
_N_BEHIND = 24


def compare_generation(setting: Setting) -> Comparison:
    """16 strengths, 64 tokens each after a prompt of 8: as rows of one decode, and one after the other."""
    vector = setting.vector(setting.layers(11, 13, 22))
    prompt = " ".join(setting.words[: N_PROMPT - 1])  # and the begin-of-sequence token
    with setting.engine(n_ctx=2048) as engine:
        work: dict[str, int] = {}
        totals: dict[str, list[float]] = {TOGETHER: [], APART: []}
        sides: dict[str, Callable[[], float]] = {
            TOGETHER: lambda: _split(totals, work, TOGETHER, lambda n: _together(engine, prompt, vector, n)),
            APART: lambda: _split(totals, work, APART, lambda n: _apart(engine, prompt, vector, n)),
        }
        timed = take_turns(sides, setting.rounds(5), tick=setting.tick)
        n_prompt = len(engine.encode(prompt))
    made = [Side(name, seconds, work[name]) for name, seconds in timed.items()]
    made += [
        Side(name + _WITH_PROMPT, Timed(tuple(seconds)), work[name + _WITH_PROMPT]) for name, seconds in totals.items()
    ]
    figures = (
        time_ratio(made, APART, TOGETHER, setting.promised(at_least(2.0))),
        time_ratio(made, APART + _WITH_PROMPT, TOGETHER + _WITH_PROMPT),
    )
    facts: dict[str, Fact] = {
        "strengths": len(WRITING_STRENGTHS), "tokens of each": N_TOKENS, "tokens of the prompt": n_prompt,
    }  # fmt: skip
    title = f"Writing: {len(WRITING_STRENGTHS)} strengths, {N_TOKENS} tokens each after a prompt of {n_prompt}"
    return Comparison(setting.name, title, setting.model, tuple(made), figures, facts)


def compare_prompts(setting: Setting) -> Comparison:
    """8 strengths, 24 tokens each behind prompts of 256 and 1,024: as the pool does it, and in one K/V buffer.

    The buffer is what rows had before: the prompt in full for each row, every row beside the cells of all others, and
    no row leaves.
    """
    vector = setting.vector(setting.layers(9, 13, 30))
    steering = [Steering(vector, k / 2) for k in range(-4, 5) if k]
    lengths = [n for n in _PROMPTS if n + _N_BEHIND <= setting.shape.n_ctx]
    work: dict[str, int] = {}
    with setting.engine(n_ctx=len(steering) * (max(lengths) + _N_BEHIND)) as engine:
        sides: dict[str, Callable[[], float | None]] = {}
        for n_prompt in lengths:
            tokens = setting.rng.integers(259, setting.shape.n_vocab, size=n_prompt).tolist()

            def by_pool(tokens: list[int] = tokens) -> None:
                texts = generate(engine, tokens, steering, max_tokens=_N_BEHIND)
                work[_behind(STREAMS, len(tokens))] = _work(texts, _N_BEHIND)

            def in_buffer(tokens: list[int] = tokens) -> None:
                work[_behind(ONE_BUFFER, len(tokens))] = _in_one_buffer(engine, tuple(tokens), steering)

            sides |= {_behind(STREAMS, n_prompt): by_pool, _behind(ONE_BUFFER, n_prompt): in_buffer}
        timed = take_turns(sides, setting.rounds(3), tick=setting.tick)
    made = [Side(name, seconds, work[name]) for name, seconds in timed.items()]
    figures = [
        time_ratio(
            made, _behind(ONE_BUFFER, n), _behind(STREAMS, n), setting.promised(at_least(_PROMPTS[n]), "135m")
        )
        for n in lengths
    ]  # fmt: skip
    facts: dict[str, Fact] = {"strengths": len(steering), "tokens of each": _N_BEHIND}
    title = f"Writing behind a prompt: {len(steering)} strengths, {_N_BEHIND} tokens each"
    return Comparison(setting.name, title, setting.model, tuple(made), tuple(figures), facts)


def _behind(name: str, n_prompt: int) -> str:
    return f"{name}, {n_prompt} tokens"


def _in_one_buffer(engine: Engine, tokens: Tokens, steering: Sequence[Steering]) -> int:
    """Write at all strengths in a unified buffer; the token-layers."""
    n_rows = len(steering)
    by_row = tuple((acts,) for acts in steering)
    chains = [GREEDY.sampler(engine.n_vocab, tokens) for _ in steering]
    limits = BatchLimits(engine.session.options.n_batch, n_rows * len(tokens), n_rows)
    prompt = lay_out_together([Query(tokens)] * n_rows, limits, keys=[(row, row, row) for row in range(n_rows)])
    session = engine.open_session(n_ctx=n_rows * (len(tokens) + _N_BEHIND), n_seq_max=n_rows)

    # the prompt of each row in full, then a token of every row at a time
    ends = [(int(prompt.prompt_ends[i]), chains[int(prompt.prompt_owners[i])]) for i in np.argsort(prompt.prompt_ends)]
    operations = native_operations(by_row, prompt.owners, prompt.regions)
    drawn = session.decode(prompt, operations, samplers=ends).sampled
    for n_drawn in range(1, _N_BEHIND):
        step = token_of_each(drawn, np.full(n_rows, len(tokens) + n_drawn - 1))
        operations = native_operations(by_row, step.owners, step.regions)
        drawn = session.decode(step, operations, samplers=list(enumerate(chains)), fresh=False).sampled
    return session.token_layers


def side_by_side(engine: Engine, prompt: str, vector: ControlVector, strengths: Sequence[float]) -> int:
    """Write at all strengths at once; the token-layers."""
    steering = [Steering(vector, strength) for strength in strengths]
    return generate(engine, prompt, steering, max_tokens=N_TOKENS).token_layers


def one_after_the_other(engine: Engine, prompt: str, vector: ControlVector, strengths: Sequence[float]) -> int:
    """Write at one strength after the other; the token-layers."""
    return sum(side_by_side(engine, prompt, vector, [strength]) for strength in strengths)


def _together(engine: Engine, prompt: str, vector: ControlVector, n_tokens: int) -> int:
    """Write so many tokens at all strengths at once; the token-layers."""
    steering = [Steering(vector, strength) for strength in WRITING_STRENGTHS]
    return _work(generate(engine, prompt, steering, max_tokens=n_tokens), n_tokens)


def _apart(engine: Engine, prompt: str, vector: ControlVector, n_tokens: int) -> int:
    """Write so many tokens at each strength; the token-layers."""
    runs = (generate(engine, prompt, [Steering(vector, s)], max_tokens=n_tokens) for s in WRITING_STRENGTHS)
    return sum(_work(run, n_tokens) for run in runs)


def _work(texts: Generation, n_tokens: int) -> int:
    assert all(len(row.tokens) == n_tokens for row in texts.rows), "random models do not end a text"
    return texts.token_layers


def _split(totals: dict[str, list[float]], work: dict[str, int], name: str, write: Callable[[int], int]) -> float:
    """Seconds of all tokens but the first, which comes out of the prompt; keeps those of all of it."""
    start = time.perf_counter()
    work_of_first = write(1)
    middle = time.perf_counter()
    work[name + _WITH_PROMPT] = write(N_TOKENS)
    seconds = time.perf_counter() - middle
    work[name] = work[name + _WITH_PROMPT] - work_of_first
    totals[name].append(seconds)
    return seconds - (middle - start)
