from .activations_file import dump, read_activations
from .extract import extract_from

__all__ = ["dump", "extract_from", "read_activations"]
