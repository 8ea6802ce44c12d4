"""From tokens to text as it grows: whole characters only, and nothing of a stop string."""

from __future__ import annotations

import codecs
from collections.abc import Sequence


class TextStream:
    """The text of one row.

    Attributes:
        text: what was given out.
        stopped: whether a stop string was met; then no more comes.
    """

    def __init__(self, stop: Sequence[str] = ()) -> None:
        self.text = ""
        self.stopped = False
        self._stop = tuple(stop)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""  # may be the start of a stop string

    def add(self, piece: bytes) -> str:
        """The text that is certain once these bytes are there: characters cut in two wait, as may a stop string."""
        return self._give(self._held + self._decoder.decode(piece))

    def finish(self) -> str:
        """What was held back, once nothing more can come."""
        if self.stopped:
            return ""
        rest = self._give(self._held + self._decoder.decode(b"", True))
        if not self.stopped:
            rest += self._held
            self.text += self._held
            self._held = ""
        return rest

    def _give(self, text: str) -> str:
        found = [text.index(stop) for stop in self._stop if stop in text]
        if found:
            self.stopped = True
            text, self._held = text[: min(found)], ""
        else:
            n_held = max((_overlap(text, stop) for stop in self._stop), default=0)
            text, self._held = text[: len(text) - n_held], text[len(text) - n_held :]
        self.text += text
        return text


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of the text that a stop string starts with."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)
