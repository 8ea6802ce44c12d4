"""What steering changed in a text: the pieces of it that the unsteered text has too, and those that are new.

    changes("It is a calm, quiet house.", "It is a calm, joyful house.")
    # [Piece("It is a calm, ", changed=False), Piece("joyful", changed=True), Piece(" house.", changed=False)]

Words are compared, and of scripts without spaces single characters. A few words in common between two changes are
chance, so that they count as changed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import SequenceMatcher

WORD = re.compile(r"[\u2e80-\u9fff\uac00-\ud7af\u0e00-\u0e7f]|\w+|\s+|[^\w\s]+")
FEW = 4  # words and gaps in common, which say nothing between two changes


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a text, and whether it is other than in the text that it is compared with."""

    text: str
    changed: bool


def changes(base: str, text: str) -> list[Piece]:
    """A text in pieces, whose texts joined are the text.

    Args:
        base: what it is compared with.
        text: the text.
    """
    base_words, words = WORD.findall(base), WORD.findall(text)
    same = [False] * len(words)
    matcher = SequenceMatcher(None, base_words, words, autojunk=False)
    for _, start, size in matcher.get_matching_blocks():
        at_end = start == 0 or start + size == len(words)
        if size > FEW or at_end:
            same[start : start + size] = [True] * size
    pieces: list[Piece] = []
    for word, is_same in zip(words, same, strict=True):
        if pieces and pieces[-1].changed is not is_same:
            pieces[-1] = Piece(pieces[-1].text + word, not is_same)
        else:
            pieces.append(Piece(word, not is_same))
    return pieces
