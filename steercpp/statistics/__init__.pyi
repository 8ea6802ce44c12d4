from .code_scores import pass_at_k
from .recommend import Recommendation

__all__ = ["Recommendation", "pass_at_k"]
