from .code_scores import pass_at_k
from .fits import fit_alignment, fit_helpfulness, fit_helpfulness_forms
from .intervals import Interval
from .recommend import Recommendation

__all__ = [
    "Interval",
    "Recommendation",
    "fit_alignment",
    "fit_helpfulness",
    "fit_helpfulness_forms",
    "pass_at_k",
]
