"""Characters that a vocabulary lacks; read this when a text is refused for one of them.

A vocabulary with a token for each byte writes any text. Of others llama.cpp's tokenizers lose what they cannot write,
each in its way: SentencePiece's gives up, that of byte-level BPE drops it, those of WordPiece and Unigram write their
unknown token, and that of rwkv would never end. Here all of it is one error, which names the characters.

What a tokenizer changes is not lost: small letters, accents, white space, a space before the text. So a text is refused
only for a character that gets no token of its own, or the unknown one, and is lost beside the rest of the text too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Protocol

from steercpp.errors import VocabularyError

_MARK = "\u2581".encode()  # a space, in pieces of SentencePiece and of BPE made after it
_EXACT = ("bpe", "rwkv")  # tokenizers whose tokens spell the text, byte for byte
_WITH_UNKNOWN = ("wpm", "ugm")  # those that write the unknown token
_NEAR = 16  # characters of a text on each side of the first one that is named
_MOST = 4  # characters named


class SpellingTokenizer(Protocol):
    """What is asked of a tokenizer to see whether it has lost something; see native/model.h.

    Raises:
        IndexError: `tokenize`, where it gives up.
    """

    kind: str

    def tokenize(self, text: str, add_special: bool, parse_special: bool) -> list[int]:
        """Tokens of a text."""

    def spell(self, tokens: Sequence[int]) -> bytes:
        """Bytes of tokens one after the other."""

    def pieces(self) -> list[bytes]:
        """The vocabulary's text of every token."""

    def unknown_tokens(self) -> list[int]:
        """Those that stand for what the vocabulary lacks."""


class LosslessTokenizer:
    """A tokenizer that refuses a text of which the model would not get everything."""

    def __init__(self, tokenizer: SpellingTokenizer) -> None:
        self._tokenizer = tokenizer
        self._is_lost: dict[str, bool] = {}

    def tokenize(self, text: str, add_special: bool, parse_special: bool) -> list[int]:
        """Tokens of a text.

        Raises:
            VocabularyError: the vocabulary lacks some of its characters.
        """
        try:
            tokens = self._tokenizer.tokenize(text, add_special, parse_special)
        except IndexError as error:
            raise VocabularyError(_message(text, self._lost(text) or text.split())) from error
        if self._differs(text, tokens) and (lost := self._lost(text)):
            raise VocabularyError(_message(text, lost))
        return tokens

    def writes(self, text: str) -> bool:
        """Whether the vocabulary has all characters of a text."""
        try:
            self.tokenize(text, False, False)
        except VocabularyError:
            return False
        return True

    @cached_property
    def letter(self) -> str:
        """A character that stands alone in the vocabulary, for questions to the tokenizer; "x" where it can be."""
        if self.writes("x"):
            return "x"
        return min(
            (text for text in self._texts if len(text) == 1 and text.isalnum() and self.writes(text)), default="x"
        )

    @cached_property
    def _texts(self) -> frozenset[str]:
        return frozenset(piece.decode("utf-8", errors="replace") for piece in self._tokenizer.pieces())

    @cached_property
    def _unknown(self) -> frozenset[int]:
        return frozenset(self._tokenizer.unknown_tokens() if self._tokenizer.kind in _WITH_UNKNOWN else ())

    def _differs(self, text: str, tokens: Sequence[int]) -> bool:
        """Whether something may be lost: at times it is only changed, or a special token."""
        if self._tokenizer.kind not in _EXACT:
            return not self._unknown.isdisjoint(tokens)
        spelled, wanted = (data.replace(_MARK, b" ") for data in (self._tokenizer.spell(tokens), text.encode()))
        return spelled not in (wanted, b" " + wanted)

    def _lost(self, text: str) -> list[str]:
        """The characters of a text that are lost, or the words where no character is lost by itself."""
        suspects = [letter for letter in dict.fromkeys(text) if self._loses(letter)]
        # some are part of a longer token here: each is tried without the others
        lost = [letter for letter in suspects if self._fails("".join(_kept(text, suspects, letter)))]
        if suspects or self._tokenizer.kind not in _WITH_UNKNOWN:
            return lost or suspects
        return [word for word in text.split() if self._fails(word)]

    def _fails(self, text: str) -> bool:
        try:
            return self._differs(text, self._tokenizer.tokenize(text, False, False))
        except IndexError:
            return True

    def _loses(self, letter: str) -> bool:
        """Whether a character by itself is lost."""
        if letter not in self._is_lost:
            self._is_lost[letter] = (
                self._unspelled(letter) if self._tokenizer.kind in _EXACT else self._unwritten(letter)
            )
        return self._is_lost[letter]

    def _unspelled(self, letter: str) -> bool:
        """Whether its tokens spell nothing, or a part of its bytes."""
        try:
            tokens = self._tokenizer.tokenize(letter, False, False)
        except IndexError:
            return True
        if any(not self._tokenizer.spell([token]) for token in tokens):
            return False  # a token without a text, of which nothing is known
        try:
            spelled = self._tokenizer.spell(tokens).decode()
        except UnicodeDecodeError:
            return True
        return not spelled or not (spelled.strip() or letter.isspace() or letter == _MARK.decode())

    def _unwritten(self, letter: str) -> bool:
        """Whether it is the unknown token, or in SentencePiece's vocabulary neither a piece nor bytes."""
        if self._tokenizer.kind in _WITH_UNKNOWN:
            return self._fails(letter)
        bytes_ = [f"<0x{byte:02X}>" for byte in letter.encode()]
        return (_MARK.decode() if letter == " " else letter) not in self._texts and not self._texts.issuperset(bytes_)


def _kept(text: str, suspects: Sequence[str], letter: str) -> Iterable[str]:
    return (other for other in text if other == letter or other not in suspects)


def _message(text: str, lost: Sequence[str]) -> str:
    shown = [_shown(characters) for characters in lost[:_MOST]]
    named = ", ".join(shown) + (f" and {len(lost) - _MOST} more" if len(lost) > _MOST else "")
    place = max(text.find(lost[0]), 0) if lost else 0
    near = text[max(place - _NEAR, 0) : place + _NEAR]
    where = f" of {near!r}" if near not in lost else ""
    return f"the model's vocabulary lacks {named}{where}; leave it out, write it otherwise or use another model"


def _shown(characters: str) -> str:
    """Characters as a message names them, single ones beyond ASCII with their number."""
    return repr(characters) + (
        f" (U+{ord(characters):04X})" if len(characters) == 1 and not characters.isascii() else ""
    )
