from .items import (
    AnswerItem,
    BehaviorItem,
    ChoiceItem,
    CodeItem,
    OwnItem,
    TextItem,
    read_behavior,
    read_choices,
    read_tasks,
)
from .pair_formats import open_pairs
from .pairs import ContrastPair, read_pairs
from .templates import fill

__all__ = [
    "AnswerItem",
    "BehaviorItem",
    "ChoiceItem",
    "CodeItem",
    "OwnItem",
    "ContrastPair",
    "TextItem",
    "fill",
    "open_pairs",
    "read_behavior",
    "read_choices",
    "read_pairs",
    "read_tasks",
]
