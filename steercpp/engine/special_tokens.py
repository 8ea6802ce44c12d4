"""Special tokens such as </s> are read in templates and nowhere else; read this for how a prompt is cut into tokens.

llama.cpp cuts a text at its special tokens and tokenizes what stands between them, each fragment by itself, in a
SentencePiece vocabulary with a space before it (tokenizer_st_partition and llama_vocab::impl::tokenize of
src/llama-vocab.cpp in llama.cpp 0c1e57098). The same is done here, but only the template's own text is cut: fragments
are whole, whatever in them is template and whatever data. So a prompt whose data spell no special token has the tokens
that llama.cpp gives its text, and one whose data do has the characters there.

What a vocabulary calls user-defined, such as runs of spaces, is no special token: llama.cpp finds it in any text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from steercpp.data.prompts import Part

_SPACE = " \t\n\v\f\r"  # C's isspace


class TextTokenizer(Protocol):
    """llama.cpp's tokenizer of one vocabulary."""

    def tokenize(self, text: str, add_special: bool, parse_special: bool) -> list[int]:
        """Tokens of a text."""


class SpecialTokens:
    """The special tokens of one vocabulary.

    Which they are, and which of them swallow the white space beside them, is asked of the tokenizer once for each.

    Args:
        tokenizer: the model's.
        pieces: text of each token.
    """

    def __init__(self, tokenizer: TextTokenizer, pieces: Sequence[str]) -> None:
        self._tokenizer = tokenizer
        self._pieces = pieces
        self._known: dict[int, bool] = {}
        self._strips: dict[int, tuple[bool, bool]] = {}

    def __contains__(self, token: int) -> bool:
        """Whether a token is special: found in a text where special tokens are read, and else not."""
        if token not in self._known:
            piece = self._pieces[token]
            self._known[token] = self._read(piece) == [token] != self._plain(piece)
        return self._known[token]

    def places(self, text: str) -> tuple[tuple[int, int], ...]:
        """Where in a text special tokens are spelled, each with its token, in order."""
        found = self._read(text)
        if found == self._plain(text):
            return ()
        places, end = [], 0
        for token in found:
            place = text.find(self._pieces[token], end) if token in self else -1
            if place >= 0:
                places.append((place, token))
                end = place + len(self._pieces[token])
        return tuple(places)

    def tokens(self, parts: Iterable[Part]) -> list[int]:
        """Tokens of a prompt's pieces; special ones are read in those that are the template's own."""
        found: list[int] = []
        before, text = -1, ""
        for piece in (*self._cut(parts), -1):
            if isinstance(piece, str):
                text += piece
                continue
            if before >= 0 and self._swallows(before)[1]:
                text = text.lstrip(_SPACE)
            if piece >= 0 and self._swallows(piece)[0]:
                text = text.rstrip(_SPACE)
            if text:
                found += self._plain(text)
            if piece >= 0:
                found.append(piece)
            before, text = piece, ""
        return found

    def _cut(self, parts: Iterable[Part]) -> Iterator[str | int]:
        """Text and special tokens by turns, as they follow each other."""
        for part in parts:
            done = 0
            for place, token in () if part.field else self.places(part.text):
                yield part.text[done:place]
                yield token
                done = place + len(self._pieces[token])
            yield part.text[done:]

    def _swallows(self, token: int) -> tuple[bool, bool]:
        """Whether a special token takes the white space on its left and on its right with it."""
        if token not in self._strips:
            piece = self._pieces[token]
            left = self._read(f"x \n{piece}") == self._read(f"x{piece}")
            self._strips[token] = left, self._read(f"{piece}\n x") == self._read(f"{piece}x")
        return self._strips[token]

    def _read(self, text: str) -> list[int]:
        return self._tokenizer.tokenize(text, False, True)

    def _plain(self, text: str) -> list[int]:
        return self._tokenizer.tokenize(text, False, False)
