"""Where a vector is added on devices: by the callback between parts of the graph, or inside it; and llama.cpp's own."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack

import numpy as np

from steercpp.bench.result import Comparison, Fact, Line, Side, Skipped, Timed, at_most, take_turns, time_ratio
from steercpp.bench.rpc_process import server
from steercpp.bench.setting import Setting
from steercpp.engine.devices import DeviceOptions
from steercpp.engine.engine import Engine
from steercpp.engine.model import Model, supports_rpc
from steercpp.engine.operations import Operation, native_operations
from steercpp.engine.packing import BatchLimits, Pass, Query, lay_out_together
from steercpp.engine.session import Session, Wanted
from steercpp.engine.steering import Steering

STOCK, CALLBACK, GRAPH = "llama.cpp's own vector", "callback", "graph"
_WALL = ", wall clock"
_STRENGTHS = (-1.0, 0.25, 0.5, 2.0)  # one for each row
_N_PROMPT, _N_STEPS = 8, 10


def compare_device(setting: Setting) -> Line:
    """A token of 4 rows after the other, steered at 6 layers on a device: CPU time of this process.

    The device is the GPU where blocks are asked for there, else a server of llama.cpp's RPC on this machine.
    """
    with ExitStack() as stack:
        if setting.gpu_layers:
            devices = DeviceOptions(n_gpu_layers=setting.gpu_layers)
        elif supports_rpc():
            devices = DeviceOptions(n_gpu_layers=-1, rpc=stack.enter_context(server()))
        else:
            reason = "it needs a device: choose `gpu_layers`, or build llama.cpp with RPC"
            return Skipped(setting.name, reason)
        model = Model(setting.path, devices)
        if not model.uses_devices:
            return Skipped(setting.name, "this llama.cpp has no device to compute blocks on")
        with Engine(
            model=model, n_ctx=2048, threads=setting.threads, flash_attn=setting.flash_attn
        ) as engine:  # fmt: skip
            line = _compared(setting, engine, "the GPU" if setting.gpu_layers else "a server on this machine")
        del engine, model  # before the server ends
    return line


def _compared(setting: Setting, engine: Engine, where: str) -> Comparison:
    vector = setting.vector(setting.layers(8, 12, 22)[:6])
    n_rounds, n_warm_ups = setting.rounds(20), 2
    sessions = {
        STOCK: engine.open_session(hook=False, n_seq_max=len(_STRENGTHS)),
        CALLBACK: engine.open_session(steer="callback", n_seq_max=len(_STRENGTHS)),
        GRAPH: engine.open_session(steer="graph", n_seq_max=len(_STRENGTHS)),
    }
    rng = setting.rng
    tokens = rng.integers(259, setting.shape.n_vocab, size=(len(_STRENGTHS), _N_PROMPT))
    first, step = (_rows(tokens[:, :n]) for n in (_N_PROMPT, 1))
    steered = tuple((Steering(vector, strength),) for strength in _STRENGTHS)

    def operations(pass_: Pass, name: str) -> Sequence[Operation]:
        return () if name == STOCK else native_operations(steered, pass_.owners, pass_.regions)

    seconds: dict[str, list[float]] = {name: [] for name in sessions}
    cuts: dict[str, int] = {}
    with sessions[STOCK].stock_vector(_data(engine, vector.directions)):
        logits = {
            name: session.decode(first, operations(first, name), Wanted(logits=True)).logits
            for name, session in sessions.items()
        }
        runs = {
            name: _stepper(session, step, operations(step, name), seconds[name], cuts, name)
            for name, session in sessions.items()
        }
        timed = take_turns(runs, n_rounds, warm_ups=n_warm_ups, tick=setting.tick)
    sides = [Side(name, of_side, _N_STEPS * len(_STRENGTHS) * engine.n_layer) for name, of_side in timed.items()]
    sides += [Side(name + _WALL, Timed(tuple(of_side[n_warm_ups:]))) for name, of_side in seconds.items()]
    promise = at_most(0.5) if setting.shape_name == "135m" and not setting.gpu_layers else None
    figures = (
        time_ratio(sides, GRAPH, CALLBACK, promise),
        time_ratio(sides, GRAPH, STOCK),
        time_ratio(sides, CALLBACK, STOCK),
        time_ratio(sides, GRAPH + _WALL, CALLBACK + _WALL),
    )
    facts: dict[str, Fact] = {
        "computed on": where,
        "rows": len(_STRENGTHS),
        "steered layers": len(vector.layers),
        "cuts of the graph": f"{cuts[CALLBACK]} and {cuts[GRAPH]} a step",
        "same bits": bool(np.array_equal(logits[CALLBACK], logits[GRAPH])),
    }
    title = f"Steering on a device: CPU time of {_N_STEPS} single tokens of {len(_STRENGTHS)} rows"
    return Comparison(setting.name, title, setting.model, tuple(sides), figures, facts)


def _rows(tokens: np.ndarray) -> Pass:
    """A pass of sequences side by side, each with logits at its end."""
    limits = BatchLimits(n_batch=256, n_ctx=256, n_seq_max=len(tokens))
    return lay_out_together([Query(tuple(row.tolist())) for row in tokens], limits)


def _data(engine: Engine, directions: Mapping[int, np.ndarray]) -> np.ndarray:
    data = np.zeros((engine.n_layer, engine.n_embd), np.float32)
    for il, direction in directions.items():
        data[il] = direction
    return data[1:]


def _stepper(
    session: Session, step: Pass, operations: Sequence[Operation], wall: list[float], cuts: dict[str, int], name: str
) -> Callable[[], float]:
    """A side that decodes the next tokens each time it is called.

    The first is not counted: a device that served another side gets this one's graph anew.
    """
    position = _N_PROMPT

    def decode() -> None:
        nonlocal position
        step.positions.setflags(write=True)
        step.positions[:] = position
        cuts[name] = session.decode(step, operations, fresh=False).n_cuts
        position += 1

    def run() -> float:
        decode()
        start, start_of_wall = time.process_time(), time.perf_counter()
        for _ in range(_N_STEPS):
            decode()
        wall.append(time.perf_counter() - start_of_wall)
        return time.process_time() - start

    return run
