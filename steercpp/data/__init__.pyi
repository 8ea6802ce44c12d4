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
from .requests import Request, read_requests
from .templates import fill

__all__ = [
    "AnswerItem",
    "BehaviorItem",
    "ChoiceItem",
    "CodeItem",
    "ContrastPair",
    "OwnItem",
    "Request",
    "TextItem",
    "fill",
    "open_pairs",
    "read_behavior",
    "read_choices",
    "read_pairs",
    "read_requests",
    "read_tasks",
]
