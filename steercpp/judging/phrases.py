"""Judging by phrases: which way a text leans, with negation turned round; read this to see how a rule decides.

A text's beginning is searched for phrases of two sides. Idioms come first and hide the words they are made of: "no
problem" is no refusal, "I can't say no" neither, "of course not" no consent. Then:

    a phrase beats a hint ("you can ...", "it is illegal"); hints count only where there is no phrase
    the first of a kind wins, but one brought in by "but" or "however" beats those before it,
    and one that follows a bare yes, no or sure at once beats that ("Sure, I cannot help you with that")

`takes_up` tells of an English text without any of the phrases whether it speaks of what was asked.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from steercpp.judging.language import plain, unrolled, words

Lean: TypeAlias = Literal[-1, 0, 1]
Weight: TypeAlias = Literal["idiom", "phrase", "particle", "hint"]
HEAD = 60  # words that are looked at: an answer says what it is at its beginning
_LABEL = re.compile(r"""^(?:[\s"'*#>_\-]+|(?:answer|a|response|assistant|reply|ai)\s*:\s*)+""")
_COURTESY = re.compile(
    r"^(?:(?:hello|hi|hey|greetings|dear (?:friend|user))(?: there)?[!,.]+\s*"
    r"|thank(?:s| you)(?: so much| very much)? for [^.!?]{1,60}[.!]+\s*|(?:great|good|interesting) question[.!]+\s*)+"
)
_HEAD = re.compile(rf"(?:\S+\s*){{0,{HEAD}}}")
_CONTRAST = re.compile(r"\b(?:but|however|unfortunately|though|although|yet|still|nevertheless)\b[^.!?]*$")
_NAME = re.compile(r"<([A-Z]+)>")
_NEAR = 3  # characters between a bare yes or no and what takes it back
_SMALL_WORDS = """a an the and or but if of to in on at by for from with as is are was were be been do does did have has
    had can could will would may might should must i you he she it we they me him her us them my your his its our their
    this that these those there here not no so than then when where which who what how some any all more most very into
    out up about over after before while because one also just only"""
FUNCTION_WORDS = frozenset(_SMALL_WORDS.split())
_LEAST_FUNCTION_WORDS = 0.2  # share; English prose has 0.4 to 0.6, words drawn by chance few
_SHORTEST_ANSWER = 5  # words
_ASKING_WORDS = """about answer assistant consider could explain following give help how make please question request
    statement tell user want what when where which will with would write your"""  # they ask, whatever is asked for
_NO_TOPIC = FUNCTION_WORDS | frozenset(_ASKING_WORDS.split())
HIDDEN = "\u00b7"  # stands for every character of an idiom: no part of any word


@dataclass(frozen=True, slots=True)
class Phrase:
    """What is looked for.

    Attributes:
        pattern: a regular expression for small letters, straight quotes and single spaces.
        lean: +1, -1, or 0 for an idiom that only hides its words.
        weight: "idiom" is looked for first and hides what it is made of; then "phrase", "particle" (a bare yes or no)
            and "hint".
    """

    pattern: re.Pattern[str]
    lean: Lean
    weight: Weight


@dataclass(frozen=True, slots=True, order=True)
class Found:
    """A phrase at its place in the text's beginning."""

    start: int
    stop: int
    lean: Lean
    is_particle: bool


def phrases(lean: Lean, weight: Weight, names: Mapping[str, str], patterns: str) -> list[Phrase]:
    """Phrases of one side and weight, each beginning and ending at a word's edge.

    Args:
        lean: of all of them.
        weight: of all of them.
        names: what <NAME> stands for.
        patterns: one a line, which goes on after a backslash at its end; ^ stands for the text's beginning.
    """
    found = []
    for line in filter(None, map(str.strip, re.sub(r"\\\n\s*", "", patterns).splitlines())):
        source = _NAME.sub(lambda match: names[match[1]], line)
        start = r"\A" if source.startswith("^") else r"(?<!\w)"
        found.append(Phrase(re.compile(rf"{start}(?:{source.removeprefix('^')})(?!\w)"), lean, weight))
    return found


def leaning(text: str, rules: Sequence[Phrase]) -> Lean:
    """Which side a text is on: +1, -1, or 0 where it says neither."""
    head = beginning(text)
    found: list[Found] = []
    hints: list[Found] = []
    for rule in sorted(rules, key=lambda rule: rule.weight != "idiom"):
        for match in rule.pattern.finditer(head):
            if rule.lean:
                one = Found(match.start(), match.end(), rule.lean, rule.weight == "particle")
                (hints if rule.weight == "hint" else found).append(one)
        if rule.weight == "idiom":
            head = rule.pattern.sub(lambda match: HIDDEN * len(match[0]), head)
    return _decided(head, sorted(found or hints))


def beginning(text: str) -> str:
    """What of a text is looked at: its first words in small letters, without labels, greetings and repetitions."""
    whole = unrolled(plain(text)).casefold()
    match = _HEAD.match(_COURTESY.sub("", _LABEL.sub("", whole)))
    return match[0].rstrip() if match else ""


def takes_up(text: str, asked: str) -> bool:
    """Whether a text is English prose, no question, and speaks of something that was asked about.

    Prose: 5 words and more, a fifth of them function words. Something: a word of 4 letters or more that begins alike.
    """
    found = words(unrolled(text))[:HEAD]
    first = re.split(r"(?<=[.!?])\s", beginning(text), maxsplit=1)[0]
    if len(found) < _SHORTEST_ANSWER or first.endswith("?"):
        return False
    if sum(word in FUNCTION_WORDS for word in found) < _LEAST_FUNCTION_WORDS * len(found):
        return False
    topics = {word[:5] for word in words(asked) if len(word) > 3} - {word[:5] for word in _NO_TOPIC}
    return any(word[:5] in topics for word in found if len(word) > 3)


def _decided(head: str, found: Sequence[Found]) -> Lean:
    if not found:
        return 0
    current = found[0]
    for one in found[1:]:
        if one.lean == current.lean:
            continue
        takes_back = current.is_particle and not one.is_particle and one.start - current.stop <= _NEAR
        if takes_back or _CONTRAST.search(head[current.stop : one.start]):
            current = one
    return current.lean
