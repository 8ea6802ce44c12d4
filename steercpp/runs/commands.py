"""The command lines that use a run's vector: llama.cpp's own, or ours where llama.cpp cannot do the same."""

from __future__ import annotations

from dataclasses import dataclass

from steercpp.encoding import shell_word
from steercpp.runs.result import SweepResult


@dataclass(frozen=True, slots=True)
class UseCommand:
    """How to use a vector at a strength.

    Attributes:
        line: for a shell; "" where there is none.
        note: why llama.cpp does not do the same, in a sentence; "" where it does.
        is_llama_cpp: whether llama.cpp can steer so at all, from another path if need be.
    """

    line: str
    note: str = ""
    is_llama_cpp: bool = True


def use_command(result: SweepResult, strength: float, *, model: str, vector: str) -> UseCommand:
    """The command line that steers as the run did.

    Args:
        result: the run.
        strength: how far.
        model: path of the model, as it stands in the line.
        vector: path of the vector, likewise.
    """
    plan = result.manifest.plan
    if (plan.operator, plan.positions, plan.side, plan.gate) != ("add", "all", "both", ""):
        gate = f" --gate {plan.gate.rpartition(':')[0]}" if plan.gate else ""
        line = f"steercpp generate {shell_word(model)} --vector {shell_word(vector)}{gate} -p TEXT"
        return UseCommand(
            f"{line} --strengths=0,{strength:.10g}",
            "llama.cpp only adds vectors, at every token, so it cannot do the same; this can:",
            is_llama_cpp=False,
        )
    if ":" in vector or "," in vector:
        return UseCommand("", "llama.cpp loads no vector from a path with ':' or ','; copy it elsewhere.")
    if 0 in result.manifest.vector.layers:
        return UseCommand("", "llama.cpp cannot steer layer 0, so it cannot do the same.")
    scaled = shell_word(f"{vector}:{strength:.10g}")
    return UseCommand(f"llama-server -m {shell_word(model)} --control-vector-scaled {scaled}")
