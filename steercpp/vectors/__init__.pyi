from .control_vector import ControlVector
from .formats import read_any_vector, write_any_vector
from .gguf import read_vector, write_vector

__all__ = [
    "ControlVector",
    "read_any_vector",
    "read_vector",
    "write_any_vector",
    "write_vector",
]
