from .items import AnswerItem, BehaviorItem, ChoiceItem, CodeItem, TextItem, read_behavior, read_choices, read_tasks
from .pair_formats import open_pairs
from .pairs import ContrastPair, read_pairs
from .templates import fill

__all__ = [
    "AnswerItem",
    "BehaviorItem",
    "ChoiceItem",
    "CodeItem",
    "ContrastPair",
    "TextItem",
    "fill",
    "open_pairs",
    "read_behavior",
    "read_choices",
    "read_pairs",
    "read_tasks",
]
