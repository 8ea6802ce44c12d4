"""Writing at many strengths: side by side in one decode, against one run after the other in the same process."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from steercpp.bench.result import Comparison, Fact, Side, Timed, at_least, take_turns, time_ratio
from steercpp.bench.setting import Setting
from steercpp.engine.engine import Engine
from steercpp.engine.generation import Generation, generate
from steercpp.engine.steering import Steering
from steercpp.vectors.control_vector import ControlVector

N_TOKENS, N_PROMPT = 64, 8
WRITING_STRENGTHS = tuple(k / 2 for k in range(-8, 9) if k)  # 16 of them

TOGETHER, EXACT, APART = "side by side", "side by side, exact", "one after the other"
_WITH_PROMPT = ", with the prompt"


def compare_generation(setting: Setting) -> Comparison:
    """16 strengths, 64 tokens each after a prompt of 8: as rows of one decode, and one after the other."""
    vector = setting.vector(setting.layers(11, 13, 22))
    prompt = " ".join(setting.words[: N_PROMPT - 1])  # and the begin-of-sequence token
    with setting.engine(n_ctx=2048) as engine:
        work: dict[str, int] = {}
        totals: dict[str, list[float]] = {TOGETHER: [], EXACT: [], APART: []}
        sides: dict[str, Callable[[], float]] = {
            TOGETHER: lambda: _split(totals, work, TOGETHER, lambda n: _together(engine, prompt, vector, n)),
            EXACT: lambda: _split(totals, work, EXACT, lambda n: _together(engine, prompt, vector, n, exact=True)),
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
        time_ratio(made, APART, EXACT),
        time_ratio(made, APART + _WITH_PROMPT, EXACT + _WITH_PROMPT),
    )
    facts: dict[str, Fact] = {
        "strengths": len(WRITING_STRENGTHS), "tokens of each": N_TOKENS, "tokens of the prompt": n_prompt,
    }  # fmt: skip
    title = f"Writing: {len(WRITING_STRENGTHS)} strengths, {N_TOKENS} tokens each after a prompt of {n_prompt}"
    return Comparison(setting.name, title, setting.model, tuple(made), figures, facts)


def side_by_side(engine: Engine, prompt: str, vector: ControlVector, strengths: Sequence[float]) -> int:
    """Write at all strengths at once; the token-layers."""
    steering = [Steering(vector, strength) for strength in strengths]
    return generate(engine, prompt, steering, max_tokens=N_TOKENS).token_layers


def one_after_the_other(engine: Engine, prompt: str, vector: ControlVector, strengths: Sequence[float]) -> int:
    """Write at one strength after the other; the token-layers."""
    return sum(side_by_side(engine, prompt, vector, [strength]) for strength in strengths)


def _together(engine: Engine, prompt: str, vector: ControlVector, n_tokens: int, *, exact: bool = False) -> int:
    """Write so many tokens at all strengths at once; the token-layers."""
    steering = [Steering(vector, strength) for strength in WRITING_STRENGTHS]
    return _work(generate(engine, prompt, steering, max_tokens=n_tokens, exact=exact), n_tokens)


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
