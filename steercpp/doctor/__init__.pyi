from .repair import write_repaired
from .self_test import run_self_test
from .vector import examine

__all__ = [
    "examine",
    "run_self_test",
    "write_repaired",
]
