"""Steer a quantized llama.cpp model, measure what it costs, and keep the vector that llama.cpp loads.

    from steercpp import Engine, extract, read_pairs, sweep

The names below are imported when they are first used, so that `import steercpp` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from steercpp.data.items import (
        AnswerItem,
        BehaviorItem,
        ChoiceItem,
        CodeItem,
        TextItem,
        read_behavior,
        read_choices,
        read_tasks,
    )
    from steercpp.data.pair_formats import open_pairs
    from steercpp.data.pairs import ContrastPair, read_pairs
    from steercpp.data.sets.builtin import behavior_set, capability_set
    from steercpp.engine.apply import apply
    from steercpp.engine.engine import Engine
    from steercpp.engine.generation import generate
    from steercpp.engine.sampling import Sampling
    from steercpp.engine.steering import Gate, Steering
    from steercpp.errors import SteerError
    from steercpp.experiments.scan import scan
    from steercpp.experiments.transfer import transfer
    from steercpp.extraction.activations_file import dump, read_activations
    from steercpp.extraction.extract import extract, extract_from
    from steercpp.runs.result import SweepResult, open_run
    from steercpp.sweeps.calibration import calibrate
    from steercpp.sweeps.sweep import sweep
    from steercpp.sweeps.texts import Saying, TextPlan
    from steercpp.vectors.control_vector import ControlVector
    from steercpp.vectors.formats import read_any_vector, write_any_vector
    from steercpp.vectors.gguf import read_vector, write_vector

_HOMES = {
    "AnswerItem": "data.tasks",
    "BehaviorItem": "data.tasks",
    "ChoiceItem": "data.tasks",
    "CodeItem": "data.tasks",
    "ContrastPair": "data.pairs",
    "ControlVector": "vectors.control_vector",
    "Engine": "engine.engine",
    "Gate": "engine.steering",
    "Sampling": "engine.sampling",
    "Saying": "sweeps.texts",
    "TextPlan": "sweeps.texts",
    "SteerError": "errors",
    "Steering": "engine.steering",
    "SweepResult": "runs.result",
    "TextItem": "data.tasks",
    "apply": "engine.apply",
    "behavior_set": "data.sets.builtin",
    "calibrate": "sweeps.calibration",
    "capability_set": "data.sets.builtin",
    "dump": "extraction.activations_file",
    "extract": "extraction.extract",
    "extract_from": "extraction.extract",
    "generate": "engine.generation",
    "open_pairs": "data.pair_formats",
    "open_run": "runs.result",
    "read_activations": "extraction.activations_file",
    "read_any_vector": "vectors.formats",
    "read_behavior": "data.tasks",
    "read_choices": "data.tasks",
    "read_pairs": "data.pairs",
    "read_tasks": "data.tasks",
    "read_vector": "vectors.gguf",
    "scan": "experiments.scan",
    "sweep": "sweeps.sweep",
    "transfer": "experiments.transfer",
    "write_any_vector": "vectors.formats",
    "write_vector": "vectors.gguf",
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
    "TextPlan",
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
