"""What the type of a model's weights costs: the same prompt through models of one shape, a type each."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial

from steercpp.bench.hook import prompt_pass, random_tokens
from steercpp.bench.models import make_model, with_layers
from steercpp.bench.result import Comparison, Fact, Side, take_turns, time_ratio
from steercpp.bench.setting import Setting
from steercpp.engine.packing import Pass
from steercpp.engine.session import Session
from steercpp.engine.weights import block_matrices, time_types

N_TOKENS = 256
PLAIN = "q4_0"  # what the others are compared with
TYPES = (PLAIN, "q4_1", "q5_0", "q5_1", "q8_0", "q4_k", "q5_k", "f16")
_MOST_LAYERS = 4  # of a model: all of its blocks take the same time


def compare_weights(setting: Setting) -> Comparison:
    """A prompt of 256 tokens, at each type of weights."""
    shape = with_layers(setting.shape, _MOST_LAYERS)
    tokens = random_tokens(setting, N_TOKENS)
    with ExitStack() as stack:
        runs: dict[str, Callable[[], None]] = {}
        kinds: dict[str, str] = {}
        for quant in TYPES:
            path = make_model(shape, quant, folder=setting.path.parent)
            engine = stack.enter_context(replace(setting, path=path).engine(n_ctx=N_TOKENS, n_batch=N_TOKENS))
            pass_ = prompt_pass(tokens, n_batch=N_TOKENS)
            runs[quant] = partial(_prefill, engine.session, pass_)
            kinds[quant] = block_matrices(path)[0].type
        timed = take_turns(runs, setting.rounds(7), warm_ups=1, tick=setting.tick)
    sides = [Side(name, seconds, N_TOKENS * shape.n_layer) for name, seconds in timed.items()]
    speeds = time_types(dict.fromkeys(kinds.values()), n_in=shape.n_embd, n_out=shape.n_ff, threads=setting.threads)
    facts: dict[str, Fact] = {
        "layers": shape.n_layer,
        "laid out anew for the CPU": ", ".join(quant for quant in TYPES if speeds[kinds[quant]].is_repacked) or "none",
    }
    figures = tuple(time_ratio(sides, name, PLAIN) for name in TYPES[1:])
    title = f"Types of weights: prefill of {N_TOKENS} tokens"
    return Comparison(setting.name, title, replace(setting, shape=shape, quant="").model.strip(), tuple(sides), figures,
                      facts)  # fmt: skip


def _prefill(session: Session, pass_: Pass) -> None:
    session.decode(pass_)
