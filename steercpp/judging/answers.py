r"""What of a generated text is its answer; read this for how a model's thoughts are told from what it says.

    reply = parted("<think>\nThat is illegal.\n</think>\n\nI cannot help.")
    reply.answer, reply.thoughts, reply.unfinished          # "I cannot help.", "That is illegal.", False

A model that reasons writes its thoughts before its answer, and drafts, refusals and doubts among them are no answer.
Everything that judges a text judges `answer_of(text)`. The marks that are known, after the chat templates in
llama.cpp's models/templates:

    tags         <think> </think>, with thinking, thought, thoughts or reasoning for a name, a prefix or suffix such as
                 in <seed:think>, <mm:think> and <think:opensource>, or in square brackets: [THINK] [/THINK]
    tokens       <|START_THINKING|> <|END_THINKING|>, <|begin_of_thought|> <|end_of_thought|>, <|inner_prefix|>
                 <|inner_suffix|>, <|channel>thought <channel|>, <unused94>thought <unused95>, and the forms of Kimi
    messages     harmony's channels analysis, commentary and final; recipients (to=self); <|think|> and <|content|>
    words        [BEGIN FINAL RESPONSE]; "Here is my response:" behind "Here is my thought process:"

The answer is what stands behind the last closing mark, or harmony's last final message. A closing mark needs no opening
one, since templates write that into the prompt. A thought that was opened and never closed leaves no answer: the text
is `unfinished`. A mark between quotes or backquotes is a word, and a mark inside a fence of code is code. In a comment,
after # or //, an opening mark begins nothing, and a closing one ends only a thought that is open. Where harmony's
tokens were dropped from a text its words are left: "analysisWe need ...assistantfinalSure". A text without any mark is
all answer, unchanged.

Not known: thoughts in plain words ("Let me think step by step"), tags whose tokens were dropped from the text, and
other formats. Where a prompt ends inside a thought (`ends_in_thought`), `BEGUN` is put before its texts to be judged.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

BEGUN = "<think>\n"  # stands before a text whose prompt ends inside a thought
_NAME = r"(?:\w+:)?(?:think|thinking|thoughts?|reasoning)(?::\w+)?"
_TAG = re.compile(rf"<(?P<close>/)?{_NAME}>", re.IGNORECASE)
_OPENING = re.compile(
    r"(?-i:\[THINK\])|<\|START_THINKING\|>|<\|begin_of_(?:thought|thinking)\|>|<\|inner_prefix\|>|<\|channel>thought\b"
    r"|<unused94>thought\b|\u25c1think\u25b7|<\|open\|>think<\|sep\|>",
    re.IGNORECASE,
)
_CLOSING = re.compile(
    r"(?-i:\[/THINK\])|<\|END_THINKING\|>|<\|end_of_(?:thought|thinking)\|>|<\|inner_suffix\|>|<channel\|>"
    r"|<unused95>|\u25c1/think\u25b7|<\|close\|>think<\|sep\|>|\[BEGIN FINAL RESPONSE\]",
    re.IGNORECASE,
)
_PROCESS = re.compile(r"\s*here(?:'s|\u2019s| is) my thought process:?", re.IGNORECASE)
_RESPONSE = re.compile(r"^[^\w\n]*here(?:'s|\u2019s| is) my response:?", re.IGNORECASE | re.MULTILINE)
_STEPS = "Here are my reasoning steps:"  # Apriel's prompts end so

# what a model may put its answer into: (its beginning, its end, whether it also stands without thoughts)
_WRAPPINGS = [
    (re.compile(rf"\s*{begin}", re.IGNORECASE), re.compile(end, re.IGNORECASE), is_token)
    for begin, end, is_token in (
        (r"<\|START_(?:RESPONSE|TEXT)\|>", r"<\|END_(?:RESPONSE|TEXT)\|>", True),
        (r"<\|begin_of_solution\|>", r"<\|end_of_solution\|>", True),
        (r"<\|open\|>response<\|sep\|>", r"<\|close\|>response<\|sep\|>", True),
        (r"\[BEGIN FINAL RESPONSE\]", r"\[END FINAL RESPONSE\]", True),
        (r"<(?:answer|response|output|solution)>", r"</(?:answer|response|output|solution)>", False),
    )
]
_ENDS = re.compile(
    r"(?:<\|END_(?:RESPONSE|TEXT)\|>|<\|end_of_solution\|>|\[END FINAL RESPONSE\]|<\|(?:return|end|eom|eot)\|>)\Z",
    re.IGNORECASE,
)

_MESSAGES = re.compile(r"<\|(start|begin|channel|constrain|message|content|think|end|return|call|eom|eot)\|>")
_HEADED = frozenset({"channel", "message", "content", "think"})  # at least one of them is in a text of messages
_BODIES = frozenset({"message", "content", "think"})
_THOUGHT_CHANNEL = re.compile(r"\b(?:analysis|commentary)\b|\bto=(?!user\b)")
# A word that runs into a channel's name, but no name of a program: finalSum = 0, finalA, finalB = 0, 0, analysisOf(x)
_ASSIGNED = r"(?:\s*,\s*\w+)*\s*(?::\s*[\w.]+(?:\[[^\]\n]*\])?\s*)?(?:[-+*/%&|^@]|//|\*\*|<<|>>)?="
_RUN_IN = rf"(?=[A-Z])(?!\w*(?:[(\[]|\.\w|{_ASSIGNED}))"
_DROPPED = re.compile(rf"\s*(?:analysis|commentary)(?:{_RUN_IN}|(?=.*assistantfinal))", re.DOTALL)
_FINAL = re.compile(rf"assistantfinal(?![a-z])|\A\s*final{_RUN_IN}")
_FINAL_BEHIND = re.compile("assistantfinal")
_QUOTES = ('"', "'", "`")
_OPEN_QUOTE = re.compile(r"(?:(?:^|[\s(\[{=,])['\"`]|[\u2018\u201c])\Z")
_CLOSE_QUOTES = frozenset("'\"`\u2019\u201d")
_FENCE = re.compile(r"^[ \t]*(?P<ticks>`{3,}|~{3,})(?P<info>[^\n`]*)$", re.MULTILINE)
_COMMENT = re.compile(r"(?:^|\s)(?:#|//)")
_BLANK_LINES = re.compile(r"\A(?:[ \t]*\r?\n)+")


@dataclass(frozen=True, slots=True)
class Reply:
    """A generated text in its parts.

    Attributes:
        thoughts: without their marks; "" where there are none.
        answer: what is judged; "" where there is none yet.
        unfinished: whether the text ended inside a thought, or before harmony's final message.
    """

    thoughts: str
    answer: str
    unfinished: bool

    @property
    def spoken(self) -> str:
        """The answer; of a text that ended inside a thought that thought, for what concerns its language."""
        return self.thoughts if self.unfinished else self.answer


def answer_of(text: str) -> str:
    """What of a generated text is its answer; "" where it ended inside a thought."""
    return parted(text).answer


@lru_cache(maxsize=1024)
def parted(text: str) -> Reply:
    """A generated text in its thoughts and its answer."""
    places = _Places(text)
    messages = [mark for mark in _MESSAGES.finditer(text) if not places.is_quoted(mark)]
    if any(mark[1] in _HEADED for mark in messages):
        return _of_messages(text, messages)
    if dropped := _of_words(text):
        return dropped
    return _of_tags(text, places)


def ends_in_thought(prompt: str) -> bool:
    """Whether a prompt ends with the opening of a thought, so that what is generated begins inside it."""
    prompt = prompt.rstrip()
    if prompt.endswith(_STEPS):
        return True
    marks = list(_MESSAGES.finditer(prompt))
    if marks and marks[-1].end() == len(prompt) and marks[-1][1] in _BODIES:
        start = next((mark.end() for mark in reversed(marks) if mark[1] in ("start", "begin", "end")), 0)
        return marks[-1][1] == "think" or bool(_THOUGHT_CHANNEL.search(prompt[start:]))
    ends = [mark for pattern in (_TAG, _OPENING) for mark in pattern.finditer(prompt) if mark.end() == len(prompt)]
    return any(not _closes(mark) for mark in ends)


def _of_tags(text: str, places: _Places) -> Reply:
    """What stands behind the last closing mark, unless another thought was begun there."""
    marks = _marks(text, places)
    closing = [mark for mark in marks if _closes(mark)]
    rest = closing[-1].end() if closing else 0
    begun = next((mark for mark in marks if mark.start() >= rest and places.begins(mark)), None)
    if begun is not None:
        return Reply(_without_marks(text), "", True)
    if not closing:
        return Reply("", _unwrapped(text, thought=False), False)
    return Reply(_without_marks(text[: closing[-1].start()]), _unwrapped(text[rest:], thought=True), False)


def _marks(text: str, places: _Places) -> list[re.Match[str]]:
    """The marks that open and close thoughts, in their order, without those that are words or code."""
    patterns = [_TAG, _OPENING, _CLOSING, *([_RESPONSE] if _PROCESS.match(text) else [])]
    every = (mark for pattern in patterns for mark in pattern.finditer(text) if not places.is_quoted(mark))
    fences, marks, is_open = _fences(text), list[re.Match[str]](), bool(_PROCESS.match(text))
    starts, passed = [fence.start for fence in fences], set[int]()
    for mark in sorted(every, key=lambda mark: mark.start()):
        place = bisect_left(starts, mark.start()) - 1
        fence = fences[place] if place >= 0 and mark.start() < fences[place].end and place not in passed else None
        if fence is not None and fence.is_closed:
            continue
        if is_open and _closes(mark):  # also in a fence that the thought has left open
            passed.add(place)
        elif fence is not None or places.is_commented(mark):
            continue
        marks.append(mark)
        is_open = not _closes(mark) and (is_open or places.begins(mark))
    return marks


class _Fence(NamedTuple):
    """Code between lines of backquotes or tildes; not closed, it ends with the text or where the next one begins."""

    start: int
    end: int
    is_closed: bool


def _fences(text: str) -> list[_Fence]:
    fences: list[_Fence] = []
    opening: re.Match[str] | None = None
    for line in _FENCE.finditer(text):
        names_language = bool(line["info"].strip())
        if opening is None:
            opening = line
        elif not names_language and line["ticks"].startswith(opening["ticks"]):
            fences.append(_Fence(opening.start(), line.end(), True))
            opening = None
        elif names_language and line["ticks"] == opening["ticks"]:  # it opens another: the one before was left open
            fences.append(_Fence(opening.start(), line.start(), False))
            opening = line
    if opening is not None:
        fences.append(_Fence(opening.start(), len(text), False))
    return fences


def _closes(mark: re.Match[str]) -> bool:
    return mark.re in (_CLOSING, _RESPONSE) or bool(mark.groupdict().get("close"))


class _Places:
    """Where a text's lines, quotes and tags are, so that a mark is looked at in a time that its line has no part in."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.starts = [0, *(mark.end() for mark in re.finditer("\n", text))]
        self._comments: dict[int, int] = {}  # by the line's start: where its comment begins

    @cached_property
    def _quotes(self) -> dict[str, list[int]]:
        return {quote: [mark.start() for mark in re.finditer(quote, self.text)] for quote in _QUOTES}

    @cached_property
    def _tags(self) -> tuple[list[int], list[int]]:
        tags = list(_TAG.finditer(self.text))
        return [tag.start() for tag in tags], [tag.end() for tag in tags]

    def _line(self, place: int) -> tuple[int, int]:
        """Where the line of a place begins and ends."""
        number = bisect_right(self.starts, place)
        return self.starts[number - 1], self.starts[number] - 1 if number < len(self.starts) else len(self.text)

    def begins(self, mark: re.Match[str]) -> bool:
        """Whether an opening mark begins a thought: a token always, a tag at an end of its line alone."""
        if _closes(mark):
            return False
        if mark.re is not _TAG:
            return True
        start, end = self._line(mark.start())
        blank = re.compile(r"\s*")
        before = blank.match(self.text, start, mark.start())
        behind = blank.match(self.text, mark.end(), end)
        return bool(before and before.end() == mark.start()) or bool(behind and behind.end() == end)

    def is_commented(self, mark: re.Match[str]) -> bool:
        """Whether a mark stands in a comment of a program."""
        start, end = self._line(mark.start())
        if start not in self._comments:
            comment = _COMMENT.search(self.text[start:end])
            self._comments[start] = start + comment.end() if comment else end + 1
        return self._comments[start] <= mark.start()

    def is_quoted(self, mark: re.Match[str]) -> bool:
        """Whether a mark is spoken of: it stands between quotes or backquotes, alone or with its counterpart."""
        start, end = self._line(mark.start())
        behind = self.text[mark.end()] if mark.end() < end else ""
        if _OPEN_QUOTE.search(self.text[max(start, mark.start() - 2) : mark.start()]) and behind in _CLOSE_QUOTES:
            return True
        is_opening = mark.re is _TAG and not _closes(mark)
        for quotes in self._quotes.values():
            first, here, next_one = (bisect_left(quotes, place) for place in (start, mark.start(), mark.end()))
            if (here - first) % 2 and next_one < len(quotes) and quotes[next_one] < end:
                if is_opening and self._has_tag(mark.end(), quotes[next_one]):
                    return True
                if not is_opening and self._has_tag(quotes[here - 1] + 1, mark.start()):
                    return True
        return False

    def _has_tag(self, start: int, end: int) -> bool:
        starts, ends = self._tags
        place = bisect_left(starts, start)
        return place < len(starts) and ends[place] <= end


def _without_marks(text: str) -> str:
    text = _PROCESS.sub("", text, count=1) if _PROCESS.match(text) else text
    for pattern in (_TAG, _OPENING, _CLOSING):
        text = pattern.sub("", text)
    return text.strip().removeprefix(_STEPS).strip()


def _unwrapped(text: str, *, thought: bool) -> str:
    """An answer without what it is wrapped into; behind a thought also without blank lines before it."""
    for begin, end, is_token in _WRAPPINGS:
        if (is_token or thought) and (match := begin.match(text)):
            text = end.split(text[match.end() :], maxsplit=1)[0]
            return _BLANK_LINES.sub("", text)
    if end_mark := _ENDS.search(stripped := text.rstrip()):
        text = stripped[: end_mark.start()]
    return _BLANK_LINES.sub("", text) if thought else text


def _of_messages(text: str, marks: list[re.Match[str]]) -> Reply:
    """The last message to the user, of those before a turn that is not the assistant's."""
    thinks, kind = False, ""  # of the message at hand, by its header; without a kind its text has not begun
    if text.startswith(BEGUN):
        kind = "thought"
    elif marks[0][1] not in _HEADED:
        kind = "answer"  # the prompt has begun it
    thoughts: list[str] = []
    answers: list[str] = []
    ends = [*(mark.start() for mark in marks[1:]), len(text)]
    pieces = [
        ("", text[: marks[0].start()].removeprefix(BEGUN)),
        *((m[1], text[m.end() : end]) for m, end in zip(marks, ends, strict=True)),
    ]
    for mark, piece in pieces:
        if mark in ("start", "begin"):
            thinks, kind = False, ""
            if re.match(r"\s*(?:user|system|developer|tool)\b", piece):
                break
        elif mark in ("end", "return", "call", "eom", "eot"):
            thinks, kind = False, ""
            continue  # what stands behind the end of a message is of none
        elif mark in _BODIES:
            is_thought = mark == "think" or thinks
            kind = "thought" if is_thought else "answer"
            (thoughts if is_thought else answers).append("")
        elif mark:
            kind = ""  # another header follows
        if kind and mark not in _BODIES and not (answers if kind == "answer" else thoughts):
            (answers if kind == "answer" else thoughts).append("")
        if kind:
            (answers if kind == "answer" else thoughts)[-1] += piece
        else:
            thinks = thinks or bool(_THOUGHT_CHANNEL.search(piece))
    answer = _BLANK_LINES.sub("", answers[-1]) if answers else ""
    return Reply("\n\n".join(thought.strip() for thought in thoughts).strip(), answer, not answers)


def _of_words(text: str) -> Reply | None:
    """Harmony whose tokens were dropped: its channels' names run into the words behind them."""
    begun = _DROPPED.match(text)
    finals = list((_FINAL_BEHIND if begun else _FINAL).finditer(text))
    if finals:
        before = text[: finals[-1].start()]
        thoughts = before[begun.end() :] if begun else before
        return Reply(thoughts.strip(), _BLANK_LINES.sub("", text[finals[-1].end() :]), False)
    return Reply(text[begun.end() :].strip(), "", True) if begun else None
