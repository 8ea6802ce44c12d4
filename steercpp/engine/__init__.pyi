from .engine import Engine
from .generation import generate
from .sampling import Sampling
from .steering import Gate, Steering

__all__ = [
    "Engine",
    "Gate",
    "Sampling",
    "Steering",
    "generate",
]
