from .activations_file import dump, read_activations

__all__ = ["dump", "read_activations"]
