from .calibration import calibrate
from .spec import SweepSpec
from .texts import TextPlan

__all__ = ["SweepSpec", "TextPlan", "calibrate"]
