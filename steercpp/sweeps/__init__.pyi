from .calibration import calibrate
from .texts import TextPlan

__all__ = [
    "TextPlan",
    "calibrate",
]
