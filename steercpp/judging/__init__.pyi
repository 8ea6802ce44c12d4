from .matchers import Matcher, judged, matcher_for, matcher_named

__all__ = [
    "Matcher",
    "judged",
    "matcher_for",
    "matcher_named",
]
