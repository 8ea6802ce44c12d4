from .judgement import Judgement, judge
from .result import SweepResult, open_run

__all__ = ["Judgement", "SweepResult", "judge", "open_run"]
