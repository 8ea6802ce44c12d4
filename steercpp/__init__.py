"""Steer a quantized llama.cpp model, measure what it costs, and keep the vector that llama.cpp loads.

    from steercpp import Engine, extract, read_pairs, sweep

The names below are imported when they are first used, so that `import steercpp` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from steercpp.activations_file import dump, read_activations
    from steercpp.applying import apply
    from steercpp.builtin_sets import behavior_set, capability_set
    from steercpp.calibration import calibrate
    from steercpp.control_vector import ControlVector
    from steercpp.engine import Engine
    from steercpp.errors import SteerError
    from steercpp.extraction import extract, extract_from
    from steercpp.generation import generate
    from steercpp.gguf_vector import read_vector, write_vector
    from steercpp.pair_formats import open_pairs
    from steercpp.pairs import ContrastPair, read_pairs
    from steercpp.sampling import Sampling
    from steercpp.saying import Saying
    from steercpp.scanning import scan
    from steercpp.steering import Gate, Steering
    from steercpp.sweep_result import SweepResult, open_run
    from steercpp.sweeping import sweep
    from steercpp.tasks import (
        AnswerItem,
        BehaviorItem,
        ChoiceItem,
        CodeItem,
        TextItem,
        read_behavior,
        read_choices,
        read_tasks,
    )
    from steercpp.transferring import transfer
    from steercpp.vector_file import read_any_vector, write_any_vector

_HOMES = {
    "AnswerItem": "tasks",
    "BehaviorItem": "tasks",
    "ChoiceItem": "tasks",
    "CodeItem": "tasks",
    "ContrastPair": "pairs",
    "ControlVector": "control_vector",
    "Engine": "engine",
    "Gate": "steering",
    "Sampling": "sampling",
    "Saying": "saying",
    "SteerError": "errors",
    "Steering": "steering",
    "SweepResult": "sweep_result",
    "TextItem": "tasks",
    "apply": "applying",
    "behavior_set": "builtin_sets",
    "calibrate": "calibration",
    "capability_set": "builtin_sets",
    "dump": "activations_file",
    "extract": "extraction",
    "extract_from": "extraction",
    "generate": "generation",
    "open_pairs": "pair_formats",
    "open_run": "sweep_result",
    "read_activations": "activations_file",
    "read_any_vector": "vector_file",
    "read_behavior": "tasks",
    "read_choices": "tasks",
    "read_pairs": "pairs",
    "read_tasks": "tasks",
    "read_vector": "gguf_vector",
    "scan": "scanning",
    "sweep": "sweeping",
    "transfer": "transferring",
    "write_any_vector": "vector_file",
    "write_vector": "gguf_vector",
}
__all__ = [
    "AnswerItem",
    "BehaviorItem",
    "ChoiceItem",
    "CodeItem",
    "ContrastPair",
    "ControlVector",
    "Engine",
    "Gate",
    "Sampling",
    "Saying",
    "SteerError",
    "Steering",
    "SweepResult",
    "TextItem",
    "apply",
    "behavior_set",
    "calibrate",
    "capability_set",
    "dump",
    "extract",
    "extract_from",
    "generate",
    "open_pairs",
    "open_run",
    "read_activations",
    "read_any_vector",
    "read_behavior",
    "read_choices",
    "read_pairs",
    "read_tasks",
    "read_vector",
    "scan",
    "sweep",
    "transfer",
    "write_any_vector",
    "write_vector",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'steercpp' has no attribute {name!r}")
    return getattr(import_module(f"steercpp.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *_HOMES]
