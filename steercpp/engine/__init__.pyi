from .engine import Engine
from .generation import generate
from .model import Model
from .sampling import Sampling
from .steering import Gate, Steering

__all__ = [
    "Engine",
    "Gate",
    "Model",
    "Sampling",
    "Steering",
    "generate",
]
