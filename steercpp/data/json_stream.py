"""The items of a JSON array one after the other; read this for files that may not fit into memory."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from steercpp.errors import PairsError, TaskError
from steercpp.inputs import open_input

_PIECE = 1 << 20  # bytes read at once
LONGEST = 1 << 24  # of one item or line: no prompt is longer, and what claims to be is no such file
_BLANKS = " \t\r\n"
_ENDS = tuple(_BLANKS + ",]")


def iter_items(path: Path | str) -> Iterator[tuple[int, Any]]:
    """Line number and value of each item of a file that is one JSON array, UTF-8.

    Raises:
        PairsError: not UTF-8, not a JSON array, cut off, or an item longer than 16 MiB, with path:line.
        OSError: the file cannot be read.
    """
    with open_input(path) as file:
        text = _Text(path, file)
        text.expect("[", "an array of items, which begins with [")
        if text.peek() == "]":
            text.expect("]", "")
        else:
            while True:
                text.peek()
                yield text.line, text.value()
                if text.peek() == "]":
                    text.expect("]", "")
                    break
                text.expect(",", "a comma or ] after an item")
        if text.peek():
            raise text.error("something follows the array's end")


def refuse_long(line: str) -> None:
    """See that a line is not longer than what it may hold.

    Raises:
        TaskError: it is.
    """
    if len(line) > LONGEST:
        raise TaskError("the line is longer than 16 MiB; write one JSON object on each line")


class _Text:
    """A window that moves over the file's text; `line` is that of its first letter."""

    def __init__(self, path: Path | str, file: BinaryIO) -> None:
        self.path, self.file, self.line = path, file, 1
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._window, self._start, self._ended = "", 0, False
        self._parse = json.JSONDecoder().raw_decode

    def error(self, what: str) -> PairsError:
        return PairsError(f"{self.path}:{self.line}: {what}; write the file as one JSON array")

    def peek(self) -> str:
        """The next letter that is no blank, which the window then begins with; "" at the end."""
        while True:
            place = self._start
            while place < len(self._window) and self._window[place] in _BLANKS:
                place += 1
            self._pass(place)
            if place < len(self._window):
                return self._window[place]
            if not self._more(_PIECE):
                return ""

    def expect(self, letter: str, what: str) -> None:
        """Go past this letter."""
        seen = self.peek()
        if seen != letter:
            raise self.error(f"expected {what}, found {seen!r}" if seen else "the array is cut off")
        self._pass(self._start + 1)

    def value(self) -> Any:
        """The value at the window's start."""
        while True:
            n_letters = len(self._window) - self._start
            try:
                value, stop = self._parse(self._window, self._start)
            except (ValueError, RecursionError) as error:  # perhaps it goes on beyond the window
                if n_letters > LONGEST or not self._more(max(_PIECE, n_letters)):
                    reason = str(error)
                    if isinstance(error, json.JSONDecodeError):
                        reason = error.msg
                        self._pass(error.pos)  # an item may go over several lines
                    raise self.error(f"not JSON: {reason}") from error
                continue
            is_whole = self._window[stop : stop + 1] in _ENDS  # a number may go on, as 1 does in 1e5
            if is_whole or n_letters > LONGEST or not self._more(_PIECE):
                self._pass(stop)
                return value

    def _pass(self, place: int) -> None:
        self.line += self._window.count("\n", self._start, place)
        self._start = place

    def _more(self, n_bytes: int) -> bool:
        """Lengthen the window, dropping what was passed; whether there was anything to add."""
        if self._ended:
            return False
        raw = self.file.read(n_bytes)
        self._ended = not raw
        try:
            added = self._decoder.decode(raw, final=self._ended)
        except UnicodeDecodeError as error:
            raise PairsError(
                f"{self.path}: byte 0x{error.object[error.start]:02x} is not UTF-8; save it as UTF-8"
            ) from error
        self._window, self._start = self._window[self._start :] + added, 0
        return True
