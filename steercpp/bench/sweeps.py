"""What a strength costs: sweeps that start above the layers below the first steered one, against plain loops."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

from steercpp.aliases import Floats
from steercpp.bench.result import Comparison, Fact, Side, at_least, at_most, take_turns, time_ratio, work_ratio
from steercpp.bench.setting import PlainLoop, Setting
from steercpp.bench.tasks import few_shot_head, questions
from steercpp.data.choice_form import LETTERS
from steercpp.data.items import choice_prompt
from steercpp.engine.engine import Engine
from steercpp.engine.packing import Batch, Query
from steercpp.vectors.control_vector import ControlVector

Table: TypeAlias = list[Floats]  # by strength: log-probabilities of all continuations, batch by batch

OURS, PLAIN = "steercpp", "plain loop"
STRENGTHS = tuple(float(s) for s in np.linspace(-4, 4, 17))
_FEW_STRENGTHS = (-4.0, -2.0, 0.0, 2.0, 4.0)


def compare_sweep(setting: Setting) -> Comparison:
    """Choice questions at 17 strengths against a loop that decodes the same batches in full: 12, or 100 of 15m."""
    vector = setting.vector(setting.layers(11, 13, 22))
    with setting.engine(n_ctx=2048) as engine, PlainLoop(engine) as plain:
        queries = choice_queries(engine, setting, 100 if setting.shape_name == "15m" else 12)
        batches = engine.pack(queries)
        tables: dict[str, Table] = {}
        work: dict[str, int] = {}
        sides: dict[str, Callable[[], None]] = {
            OURS: lambda: _keep(tables, work, OURS, engine, lambda: resumed(engine, batches, vector, STRENGTHS)),
            PLAIN: lambda: _keep(tables, work, PLAIN, plain, lambda: looped(plain, batches, vector, STRENGTHS)),
        }
        _warm_up(engine, plain)
        timed = take_turns(sides, setting.rounds(5), tick=setting.tick)
    made = [Side(name, timed[name], work[name]) for name in sides]
    figures = (
        time_ratio(made, OURS, PLAIN, setting.promised(at_most(0.50))),
        work_ratio(made, OURS, PLAIN, setting.promised(at_most(0.49), "1.1b", "15m")),
    )
    facts: dict[str, Fact] = {
        "questions": len(queries), "strengths": len(STRENGTHS), "tokens a strength": sum(b.n_tokens for b in batches),
        "layers": _layers(setting, vector), "same bits": _same(tables[OURS], tables[PLAIN]),
    }  # fmt: skip
    title = f"A sweep: {len(queries)} questions, {len(STRENGTHS)} strengths"
    return Comparison(setting.name, title, setting.model, tuple(made), figures, facts)


def compare_deep(setting: Setting) -> Comparison:
    """One batch of 128 tokens of a deep model: an added strength against a full pass."""
    vector = setting.vector(setting.layers(8, 15, 40))
    tokens = tuple(int(token) for token in setting.rng.integers(259, setting.shape.n_vocab, size=128))
    with setting.engine(n_ctx=256) as engine, PlainLoop(engine) as plain:
        (batch,) = engine.pack([Query(tokens, ((259,),))])
        tables: dict[str, Table] = {}
        work: dict[str, int] = {}
        base = engine.base(batch, first_layer=vector.layers[0])
        added, full = "added strength", "full pass"

        def resume() -> Table:
            return [np.concatenate(engine.logprobs(batch, vector=vector, strengths=1.0, base=base))]

        sides: dict[str, Callable[[], None]] = {
            added: lambda: _keep(tables, work, added, engine, resume),
            full: lambda: _keep(tables, work, full, plain, lambda: looped(plain, [batch], vector, (1.0,))),
        }
        timed = take_turns(sides, setting.rounds(7), warm_ups=1, tick=setting.tick)
        facts: dict[str, Fact] = {
            "tokens": len(tokens), "layers": _layers(setting, vector), "resumed": base.resumed,
            "same bits": _same(tables[added], tables[full]),
        }  # fmt: skip
    made = [Side(name, timed[name], work[name]) for name in sides]
    promise = setting.promised(at_most(0.86), "13b")
    figures = (time_ratio(made, added, full, promise), work_ratio(made, added, full))
    title = "A deep model: one more strength for a batch of 128 tokens"
    return Comparison(setting.name, title, setting.model, tuple(made), figures, facts)


def compare_head(setting: Setting) -> Comparison:
    """20 questions behind one five-shot head against a loop that shares nothing and always starts at the bottom."""
    vector = setting.vector(setting.layers(11, 13, 22))
    head = few_shot_head(setting.words, setting.rng)
    with setting.engine(n_ctx=2048) as engine, PlainLoop(engine) as plain:
        queries = choice_queries(engine, setting, 20, head=head)
        shared = engine.pack(queries)
        apart = [single for batch in shared for query in batch.queries for single in engine.pack([query])]
        tables: dict[str, Table] = {}
        work: dict[str, int] = {}
        sides: dict[str, Callable[[], None]] = {
            OURS: lambda: _keep(tables, work, OURS, engine, lambda: resumed(engine, shared, vector, _FEW_STRENGTHS)),
            PLAIN: lambda: _keep(tables, work, PLAIN, plain, lambda: looped(plain, apart, vector, _FEW_STRENGTHS)),
        }
        _warm_up(engine, plain)
        timed = take_turns(sides, setting.rounds(3), tick=setting.tick)
        n_head = len(engine.encode(head))
    made = [Side(name, timed[name], work[name]) for name in sides]
    figures = (time_ratio(made, PLAIN, OURS, setting.promised(at_least(6.0))), work_ratio(made, PLAIN, OURS))
    differences = [np.abs(ours - theirs).max() for ours, theirs in zip(tables[OURS], tables[PLAIN], strict=True)]
    facts: dict[str, Fact] = {
        "questions": len(queries), "strengths": len(_FEW_STRENGTHS), "tokens of the head": n_head,
        "tokens a strength, shared": sum(b.n_tokens for b in shared),
        "tokens a strength, apart": sum(b.n_tokens for b in apart), "layers": _layers(setting, vector),
        "largest difference of a log-probability, nats": float(max(differences)),
    }  # fmt: skip
    title = f"A shared head: {len(queries)} questions behind five solved ones, {len(_FEW_STRENGTHS)} strengths"
    return Comparison(setting.name, title, setting.model, tuple(made), figures, facts)


def choice_queries(engine: Engine, setting: Setting, n_items: int, *, head: str = "") -> list[Query]:
    """Questions as an engine decodes them; scored are the letters that follow a space."""
    tokens = [engine.token_id(f"▁{LETTERS[i]}") for i in range(4)]
    letters = tuple((token,) for token in tokens if token is not None)
    assert len(letters) == len(tokens), "the vocabulary of random models has the capital letters"
    items = questions(setting.words, n_items, np.random.default_rng(1))
    return [Query(engine.encode(head + choice_prompt(item)), letters) for item in items]


def resumed(engine: Engine, batches: Sequence[Batch], vector: ControlVector, strengths: Sequence[float]) -> Table:
    """Log-probabilities at each strength: a base pass of each batch, and what changes above it."""
    table: list[list[Floats]] = [[] for _ in strengths]
    for batch in batches:
        base = engine.base(batch, first_layer=vector.layers[0])
        for row, strength in zip(table, strengths, strict=True):
            row += engine.logprobs(batch, vector=vector, strengths=strength, base=base) if strength else base.logprobs
    return [np.concatenate(row) for row in table]


def looped(plain: PlainLoop, batches: Sequence[Batch], vector: ControlVector, strengths: Sequence[float]) -> Table:
    """Log-probabilities at each strength: the vector is set, then all batches are decoded in full."""
    return [np.concatenate(plain.logprobs(batches, vector, strength)) for strength in strengths]


def _keep(
    tables: dict[str, Table], work: dict[str, int], name: str, counter: Engine | PlainLoop, run: Callable[[], Table]
) -> None:
    """Run a side and keep what it gives and what it computed."""
    before = counter.token_layers
    tables[name] = run()
    work[name] = counter.token_layers - before


def _warm_up(engine: Engine, plain: PlainLoop) -> None:
    """Let both sides read the model's file once."""
    batches = engine.pack([Query((259, 260), ((261,),))])
    for batch in batches:
        engine.logprobs(batch)
        plain.logprobs([batch], ControlVector({1: np.ones(engine.n_embd, np.float32)}, "llama", engine.n_layer), 0.0)


def _same(ours: Table, plain: Table) -> bool:
    return all(np.array_equal(table, other) for table, other in zip(ours, plain, strict=True))


def _layers(setting: Setting, vector: ControlVector) -> str:
    return f"{vector.layers[0]}-{vector.layers[-1]} of {setting.shape.n_layer}"
