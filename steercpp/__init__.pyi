from .data.items import (
    AnswerItem,
    BehaviorItem,
    ChoiceItem,
    CodeItem,
    OwnItem,
    TextItem,
    read_behavior,
    read_choices,
    read_tasks,
)
from .data.pair_formats import open_pairs
from .data.pairs import ContrastPair, read_pairs
from .data.requests import Request, read_requests
from .data.sets.builtin import behavior_set, capability_set
from .engine.apply import apply
from .engine.engine import Engine
from .engine.generation import generate
from .engine.sampling import Sampling
from .engine.steering import Gate, Steering
from .errors import SteerError
from .experiments.scan import scan
from .experiments.transfer import transfer
from .extraction.activations_file import dump, read_activations
from .extraction.extract import extract, extract_from
from .runs.result import SweepResult, open_run
from .sweeps.calibration import calibrate
from .sweeps.own_answers import own_answers, words_kl
from .sweeps.own_continuations import own_continuations
from .sweeps.spec import SweepSpec
from .sweeps.sweep import sweep
from .sweeps.texts import Saying, TextPlan
from .vectors.control_vector import ControlVector
from .vectors.formats import read_any_vector, write_any_vector
from .vectors.gguf import read_vector, write_vector

__all__ = [
    "AnswerItem",
    "BehaviorItem",
    "ChoiceItem",
    "CodeItem",
    "ContrastPair",
    "ControlVector",
    "Engine",
    "Gate",
    "OwnItem",
    "Request",
    "Sampling",
    "Saying",
    "SteerError",
    "Steering",
    "SweepResult",
    "SweepSpec",
    "TextItem",
    "TextPlan",
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
    "own_answers",
    "own_continuations",
    "read_activations",
    "read_any_vector",
    "read_behavior",
    "read_choices",
    "read_pairs",
    "read_requests",
    "read_tasks",
    "read_vector",
    "scan",
    "sweep",
    "transfer",
    "words_kl",
    "write_any_vector",
    "write_vector",
]
