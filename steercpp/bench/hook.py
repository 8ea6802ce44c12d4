"""What the hook costs: the same decode without it, with it idle, and with it adding a vector."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from steercpp.bench.result import Comparison, Fact, Figure, Promise, Side, Timed, at_most, take_turns, time_ratio
from steercpp.bench.setting import Setting
from steercpp.engine.engine import Engine
from steercpp.engine.operations import Operation, native_operations
from steercpp.engine.packing import BatchLimits, Pass, Query, lay_out_together
from steercpp.engine.session import Session, Wanted
from steercpp.engine.steering import Steering
from steercpp.vectors.control_vector import ControlVector

NO_HOOK, CONTROL, IDLE, ADDING = "no hook", "no hook, once more", "hook idle", "hook adding"
_N_PREFILL = 512
_N_PROMPT = 8
_ALLOWED = 0.02  # above 1, or above what two equal sides differ by


def compare_prefill(setting: Setting) -> Comparison:
    """A prompt of 512 tokens."""
    tokens = random_tokens(setting, _N_PREFILL)
    with setting.engine(n_ctx=_N_PREFILL, n_batch=_N_PREFILL) as engine:
        pass_ = prompt_pass(tokens, n_batch=_N_PREFILL)
        sessions, operations = _sessions(engine), _operations(pass_, _vector(setting))
        runs = {
            name: lambda session=session, adds=operations[name]: _decode(session, pass_, adds)
            for name, session in sessions.items()
        }
        timed = take_turns(runs, setting.rounds(15), warm_ups=1, tick=setting.tick)
        same = _same_logits(sessions, pass_)
        work = len(pass_.tokens) * engine.n_layer
    return _compared(setting, "prefill of 512 tokens", timed, work, same)


def compare_decode(setting: Setting) -> Comparison:
    """One token after the other, each attending over those before it."""
    n_rounds, n_warm_ups = setting.rounds(100), 3
    tokens = random_tokens(setting, _N_PROMPT + n_warm_ups + n_rounds)
    with setting.engine(n_ctx=-(-len(tokens) // 256) * 256) as engine:
        sessions = _sessions(engine)
        first = prompt_pass(tokens[:_N_PROMPT])
        for session in sessions.values():
            session.decode(first)
        runs = {name: _stepper(session, tokens, _vector(setting), name) for name, session in sessions.items()}
        timed = take_turns(runs, n_rounds, warm_ups=n_warm_ups, tick=setting.tick)
        same = _same_logits(sessions, first)
        n_layer = engine.n_layer
    return _compared(setting, f"single tokens after a prompt of {_N_PROMPT}", timed, n_layer, same)


def prompt_pass(tokens: Sequence[int], *, n_batch: int = 256) -> Pass:
    """A pass of one sequence whose last token is an output."""
    limits = BatchLimits(n_batch=n_batch, n_ctx=max(n_batch, len(tokens)), n_seq_max=1)
    return lay_out_together([Query(tuple(tokens))], limits)


def random_tokens(setting: Setting, n_tokens: int) -> list[int]:
    """Random tokens, none of them special or a byte."""
    return [int(token) for token in setting.rng.integers(259, setting.shape.n_vocab, size=n_tokens)]


def _vector(setting: Setting) -> ControlVector:
    return setting.vector(setting.layers(5, 16, 22))


def _sessions(engine: Engine) -> dict[str, Session]:
    """A context for each side, so that each keeps its own graph."""
    return {
        NO_HOOK: engine.open_session(hook=False),
        CONTROL: engine.open_session(hook=False),
        IDLE: engine.open_session(),
        ADDING: engine.open_session(),
    }


def _operations(pass_: Pass, vector: ControlVector) -> Mapping[str, Sequence[Operation]]:
    adding = native_operations(((Steering(vector),),), pass_.owners, pass_.regions)
    return {NO_HOOK: (), CONTROL: (), IDLE: (), ADDING: adding}


def _stepper(session: Session, tokens: Sequence[int], vector: ControlVector, name: str) -> Callable[[], None]:
    """A side that decodes the next token each time it is called."""
    step = prompt_pass(tokens[:1])
    operations = _operations(step, vector)[name]
    position = _N_PROMPT

    def run() -> None:
        nonlocal position
        step.tokens.setflags(write=True)
        step.positions.setflags(write=True)
        step.tokens[0], step.positions[0] = tokens[position], position
        session.decode(step, operations, fresh=False)
        position += 1

    return run


def _decode(session: Session, pass_: Pass, operations: Sequence[Operation]) -> None:
    session.decode(pass_, operations)


def _same_logits(sessions: Mapping[str, Session], pass_: Pass) -> bool:
    """Whether the idle hook leaves the bits of the logits as they are."""
    read = [sessions[name].decode(pass_, wanted=Wanted(logits=True)).logits for name in (NO_HOOK, CONTROL, IDLE)]
    return all(np.array_equal(logits, read[0]) for logits in read)


def _compared(setting: Setting, title: str, timed: Mapping[str, Timed], work: int, same: bool) -> Comparison:
    sides = [Side(name, seconds, work) for name, seconds in timed.items()]
    control = time_ratio(sides, CONTROL, NO_HOOK)
    promise: Promise | None = setting.promised(at_most(max(1.0, control.value) + _ALLOWED))
    figures: list[Figure] = [control]
    figures += [time_ratio(sides, name, NO_HOOK, promise) for name in (IDLE, ADDING)]
    layers = setting.layers(5, 16, 22)
    facts: dict[str, Fact] = {
        "layers": f"{layers[0]}-{layers[-1]} of {setting.shape.n_layer}",
        "idle hook, same bits": same,
    }
    return Comparison(setting.name, f"The hook: {title}", setting.model, tuple(sides), tuple(figures), facts)
