"""A model's thoughts and its answer as the text grows; read this for what is streamed as `reasoning_content`.

What judging/answers.py says of the whole text holds here too, but for what nobody can know before the text is whole: a
thought is one that the prompt or the text's own beginning opens. What may be the beginning of a mark waits.
"""

from __future__ import annotations

import re

from steercpp.judging.answers import BEGUN, parted

_OPENERS = "<[\u25c1"  # of marks
_CLOSERS = re.compile("[>\\]\u25b7]")
_LONGEST = 64  # characters of a mark
_WORDS = ("here's my thought process", "here is my thought process", "here\u2019s my thought process")


class ThoughtStream:
    """Parts a text that comes in pieces.

    Args:
        in_thought: whether the prompt ends inside a thought.
    """

    def __init__(self, in_thought: bool) -> None:
        self._text = BEGUN if in_thought else ""
        self._state = "thought" if in_thought else "beginning"  # then "between" the thought and the "answer"
        self._told = ""  # of the thought

    def add(self, piece: str) -> tuple[str, str]:
        """What of the thought and of the answer is certain once this text is there."""
        if self._state == "answer":
            return "", piece
        self._text += piece
        if self._state == "beginning":
            return self._begin()
        return self._think(piece) if self._state == "thought" else self._end_thought()

    def finish(self) -> tuple[str, str]:
        """What was held back, once nothing more can come."""
        if self._state == "answer":
            return "", ""
        reply = parted(self._text)
        self._state = "answer"
        return self._rest_of(reply.thoughts), reply.answer

    def _begin(self) -> tuple[str, str]:
        text = self._text.lstrip()
        low = text.lower()
        may_be_mark = text[:1] in _OPENERS or any(word.startswith(low) or low.startswith(word) for word in _WORDS)
        if not text or (may_be_mark and len(text) < _LONGEST and not parted(self._text).unfinished):
            return "", ""
        if parted(self._text).unfinished:
            self._state = "thought"
            return self._thought_so_far()
        self._state = "answer"
        reply = parted(self._text)
        return reply.thoughts, reply.answer if reply.thoughts else self._text

    def _think(self, piece: str) -> tuple[str, str]:
        if _CLOSERS.search(piece) and not parted(self._text).unfinished:
            return self._end_thought()
        return self._thought_so_far()

    def _end_thought(self) -> tuple[str, str]:
        """The rest of the thought, and the answer once it is more than the blank lines before it."""
        reply = parted(self._text)
        self._state = "answer" if reply.answer.strip() else "between"
        return self._rest_of(reply.thoughts), reply.answer if self._state == "answer" else ""

    def _thought_so_far(self) -> tuple[str, str]:
        """What of the thought can be no mark; white space at its end waits, as there may be none in the end."""
        start = max((self._text.rfind(opener) for opener in _OPENERS), default=-1)
        is_open = start >= 0 and not _CLOSERS.search(self._text, start) and len(self._text) - start < _LONGEST
        certain = self._text[:start] if is_open else self._text
        if parted(certain).unfinished:
            return self._rest_of(parted(certain).thoughts), ""
        return "", ""

    def _rest_of(self, thoughts: str) -> str:
        if not thoughts.startswith(self._told):
            return ""
        rest, self._told = thoughts[len(self._told) :], thoughts
        return rest
