"""Whether a text is language at all: how much it repeats itself, and whether it is made of words.

A vector added too hard makes a model babble: "No, I I I I I I". Such a text says nothing, whatever words are in it, and
no matcher may call it aligned. What is looked at, after what broken models were seen to write:

    stutter        share of the words in a window of 8 words with at most 3 different ones
    run            the longest stretch in which up to 8 words follow each other again and again, at least 3 times
    distinct       different n-grams among all n-grams (distinct-n of Li et al. 2016, arXiv:1510.03055)
    letter_words   share of what stands between spaces that is a word of letters
    lost           share of characters that stand for bytes of none, are control codes or mean nothing
    scripts        of the letters: Latin, Cyrillic, ...

A sentence said again and again, as greedy decoding of base models does also unsteered, is still a sentence: before a
text is judged, a tail that repeats a unit of at least 4 mostly different words is cut down to one.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

WINDOW, FEW = 8, 3  # words, and different ones among them: 98% of English windows have 6 to 8
MOST_STUTTER = 0.25  # above it a text is nonsense; sane texts have 0, broken ones nearly 1
MOST_LOST = 0.02  # above it a text is nonsense; whole characters have 0
LEAST_LETTER_WORDS = 0.4  # below it a text is nonsense; numbered steps have about 0.8
SHORTEST_UNIT, LONGEST_UNIT = 4, 64  # words of what a tail may repeat without being babble
LONGEST_WORD = 40  # letters; longer ones are no words where words have spaces between them
MOST_REPEATS = 8  # words of a unit that counts as a run

# one word: letters with marks and inner apostrophes, or digits; a character by itself where words have no spaces
_UNSPACED = "\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
_WORD = re.compile(rf"[{_UNSPACED}]|(?:(?![{_UNSPACED}])[^\W_])+(?:'(?:(?![{_UNSPACED}])[^\W_])+)*")
_STUCK = re.compile(r"(.{1,12}?)\1{3,}")  # up to a dozen characters, at least four times in a row
_ONE_WAY = str.maketrans({
    **dict.fromkeys("\u2018\u2019\u201a\u201b\u02bc\u2032\u00b4\uff07", "'"),
    **dict.fromkeys("\u201c\u201d\u201e\u201f\u2033", '"'), **dict.fromkeys("\u2010\u2011\u2012", "-"),
})  # fmt: skip
_UNSEEN = re.compile(
    "[\u00ad\u034f\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]"
)  # take no room: zero width, direction
_TICK = re.compile(r"(?<=[^\W\d_])`(?=[^\W\d_])")


@dataclass(frozen=True, slots=True)
class Repetition:
    """How much a text repeats itself.

    Attributes:
        n_words: words, in scripts without spaces characters.
        distinct_1, distinct_2: different words and pairs of words among all; 1 where there are none.
        run: words of the longest run.
        stutter: share of words, 0 to 1.
    """

    n_words: int
    distinct_1: float
    distinct_2: float
    run: int
    stutter: float


def plain(text: str) -> str:
    """The text in one way of writing: compatible forms composed (NFKC), straight quotes, single spaces.

    Characters that are not seen, such as a space of no width, are left out.
    """
    composed = unicodedata.normalize("NFKC", _UNSEEN.sub("", text).translate(_ONE_WAY)).translate(_ONE_WAY)
    return " ".join(_TICK.sub("'", composed).split())


def words(text: str) -> list[str]:
    """The words of a text in small letters, in their order."""
    return _WORD.findall(plain(text).casefold())


def repetition(text: str) -> Repetition:
    """How much a text repeats itself, as it stands."""
    in_order = words(text)
    return Repetition(
        len(in_order), distinct(in_order, 1), distinct(in_order, 2), longest_run(in_order), stutter(in_order)
    )


def distinct(words: Sequence[str], n: int) -> float:
    """Share of different n-grams among all of them; 1 where there are none."""
    grams = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
    return len(set(grams)) / len(grams) if grams else 1.0


def longest_run(words: Sequence[str]) -> int:
    """Words of the longest stretch that repeats a unit of up to 8 words at least 3 times; 0 without any."""
    longest = 0
    for period in range(1, MOST_REPEATS + 1):
        length = 0
        for i in range(period, len(words)):
            length = length + 1 if words[i] == words[i - period] else 0
            if length >= 2 * period:
                longest = max(longest, length + period)
    return longest


def stutter(words: Sequence[str]) -> float:
    """Share of the words that lie in a window of 8 with at most 3 different words.

    Of 5 to 7 words the whole text is the window, and may have as small a share of different ones.
    """
    n = len(words)
    if n < 5:
        return 0.0
    window = min(WINDOW, n)
    few = window * FEW // WINDOW
    inside = [False] * n
    for first in range(n - window + 1):
        if len(set(words[first : first + window])) <= few:
            inside[first : first + window] = [True] * window
    return sum(inside) / n


def unrolled(text: str) -> str:
    """The text without the later turns of the unit that its tail repeats, where that unit is at least half a sentence.

    Cut off is only what repeats a unit of 4 to 64 words, three quarters of them different, at least once in full.
    """
    text = plain(text)
    spans = [(match[0], match.end()) for match in _WORD.finditer(text.casefold())]
    in_order = [word for word, _ in spans]
    n = len(in_order)
    shortest = n
    for unit in range(SHORTEST_UNIT, min(LONGEST_UNIT, n // 2) + 1):
        first = n - unit
        while first > 0 and in_order[first - 1] == in_order[first + unit - 1]:
            first -= 1
        once = in_order[first : first + unit]
        if n - first >= 2 * unit and len(set(once)) >= 0.75 * unit:
            shortest = min(shortest, first + unit)
    if shortest == n or len(text) != len(text.casefold()):  # letters like ß grow, and no place would fit
        return text
    return text[: spans[shortest - 1][1]]


def letter_words(text: str) -> float:
    """Share of what stands between spaces that is a word of letters, punctuation around it aside; 0 for no text."""
    chunks = plain(text).split()
    return sum(_is_word(chunk) for chunk in chunks) / len(chunks) if chunks else 0.0


def _is_word(chunk: str) -> bool:
    letters = [c for c in chunk if c.isalpha() or unicodedata.category(c).startswith("M")]
    core = chunk.strip("".join(c for c in set(chunk) if not c.isalnum()))
    if not letters or 2 * len(letters) < len(core):
        return False
    if re.search(f"[{_UNSPACED}]", core):
        return True
    stuck = max((len(match[0]) for match in _STUCK.finditer(core)), default=0)
    return len(core) <= LONGEST_WORD and 2 * stuck <= len(core)


def lost_characters(text: str) -> float:
    """Share of characters that no writing has: U+FFFD, controls, unassigned and private ones.

    One at the end, where a text was cut within a character, does not count.
    """
    shown = text.rstrip().removesuffix("\ufffd")
    lost = sum(c == "\ufffd" or unicodedata.category(c) in ("Cc", "Cn", "Co") for c in shown if not c.isspace())
    return lost / len(shown) if shown else 0.0


def scripts(text: str) -> Counter[str]:
    """How many letters of each script a text has: LATIN, CYRILLIC, CJK, ..."""
    return Counter(_script(c) for c in unicodedata.normalize("NFKC", text) if c.isalpha())


@lru_cache(maxsize=4096)
def _script(letter: str) -> str:
    return unicodedata.name(letter, "UNKNOWN").split()[0]


def nonsense(text: str, *, like: Iterable[str] = ()) -> str:
    """Why a text is no language, "" where it is.

    Args:
        text: what was generated.
        like: texts whose scripts are expected; without any, every script is.

    Returns:
        "says nothing" (no word, or a single letter), "not made of words", "repeats itself" or "another script".
    """
    letters = scripts(text)
    if not words(text) or letters.total() < (1 if re.search(f"[{_UNSPACED}]", text) else 2):
        return "says nothing"
    if letter_words(text) < LEAST_LETTER_WORDS or lost_characters(text) > MOST_LOST:
        return "not made of words"
    if stutter(words(unrolled(text))) > MOST_STUTTER:
        return "repeats itself"
    expected = sum((scripts(sample) for sample in like), Counter[str]())
    if expected and 2 * sum(letters[name] for name in expected) < letters.total():
        return "another script"
    return ""
