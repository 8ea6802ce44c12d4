from .builtin import behavior_set, capability_set
from .names import behavior_items, contrast_pairs, task_items

__all__ = [
    "behavior_items",
    "behavior_set",
    "capability_set",
    "contrast_pairs",
    "task_items",
]
