from .constants.measure import measure_constants
from .transfer import Material

__all__ = ["Material", "measure_constants"]
