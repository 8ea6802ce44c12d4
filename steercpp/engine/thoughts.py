"""Models that think before they answer: where in a chat the answer starts; read this when prompts end in odd tags.

What is measured is the answer, and its first tokens stand where it starts. So thinking is switched off where a template
has a variable for that. Else the thought is begun and closed empty, in the way in which the template itself writes an
assistant's message; a channel such as harmony's `final` is opened likewise. Who sets one of the variables to think, as
in `template_kwargs={"enable_thinking": True}`, gets the prompt as the template writes it: the model then thinks first.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

KEYS = ("reasoning_content", "reasoning", "thinking")  # of an assistant's message, where templates look for its thought

# Variables by which templates of today switch thinking, and what switches it off. A word is given only to a template
# that spells it. (models/templates of llama.cpp 0c1e57098, llama-cpp-python 0.3.36.)
SWITCHES: Mapping[str, tuple[Any, ...]] = {
    "enable_thinking": (False,),
    "thinking": (False,),
    "thinking_budget": (0,),
    "thinking_mode": ("disabled",),
    "thinking_option": ("off",),
    "reasoning_effort": ("none", "no_think", "minimal"),
}
_SPEAKS = re.compile(
    r"<[/a-z:|_]*th(?:ink|ought)|\[/?THINK\]|_THINKING\|>|<\|channel\|?>|inner_prefix|\[BEGIN FINAL RESPONSE\]|"
    r"reasoning steps:|"
    r"\.(?:thinking|reasoning)\b|['\"](?:thinking|reasoning)['\"]|reasoning_content"
)
_NAMES = re.compile("think|reasoning")  # of variables
# Tags that open a thought, with what closes it; of <think> and its likes, </think>.
_TAG = re.compile(r"<((?:\w+:)?(?:think|thinking|thought|thoughts|reasoning)(?::\w+)?)>$")
_CLOSED_BY: Mapping[str, str] = {
    "[THINK]": "[/THINK]",
    "<|START_THINKING|>": "<|END_THINKING|>",
    "<|inner_prefix|>": "<|inner_suffix|>",
    "<|channel>thought": "<channel|>",
    "<|channel|>analysis<|message|>": "<|end|><|start|>assistant<|channel|>final<|message|>",
    "<|open|>think<|sep|>": "<|close|>think<|sep|><|open|>response<|sep|>",
    "◁think▷": "◁/think▷",
    "<|begin_of_thought|>": "<|end_of_thought|>",
    "Here are my reasoning steps:": "[BEGIN FINAL RESPONSE]",
}


_TAGS = {"<think>": "</think>", "[THINK]": "[/THINK]"}


@dataclass(frozen=True, slots=True)
class Thinking:
    """What is done about thoughts in a model's chats.

    Attributes:
        is_spoken_of: whether the template speaks of thoughts at all.
        wanted: the user's variable that asks for thoughts, such as "enable_thinking=true"; "" for none.
        switches: variables that switch thinking off, beside the user's own.
        off: all that switch it off, the user's own among them.
    """

    is_spoken_of: bool
    wanted: str = ""
    switches: Mapping[str, Any] = field(default_factory=dict)
    off: Mapping[str, Any] = field(default_factory=dict)

    @property
    def closes(self) -> bool:
        """Whether a thought is closed, so that the answer starts at the end of the prompt."""
        return self.is_spoken_of and not self.wanted


def thinking(source: str, free: Collection[str], template_kwargs: Mapping[str, Any]) -> Thinking:
    """What is to be done about thoughts.

    Args:
        source: the template.
        free: variables that it looks at.
        template_kwargs: those of the user's.
    """
    wanted = next((name for name in SWITCHES if name in template_kwargs and not _is_off(template_kwargs[name])), "")
    is_spoken_of = bool(_SPEAKS.search(source)) or any(_NAMES.search(name) for name in free)
    if wanted:
        return Thinking(is_spoken_of, in_words({wanted: template_kwargs[wanted]}))
    switches = {}
    for name, values in SWITCHES.items():
        off = next((value for value in values if not isinstance(value, str) or _spells(source, value)), None)
        if name in free and name not in template_kwargs and off is not None:
            switches[name] = off
    own = {name: template_kwargs[name] for name in SWITCHES if name in template_kwargs and name in free}
    return Thinking(is_spoken_of, "", switches, {**switches, **own})


def _is_off(value: Any) -> bool:
    words = {value for values in SWITCHES.values() for value in values if isinstance(value, str)}
    return value in words if isinstance(value, str) else not value


def _spells(source: str, word: str) -> bool:
    return f"'{word}'" in source or f'"{word}"' in source


def in_words(variables: Mapping[str, Any]) -> str:
    """Variables as they are typed, such as "enable_thinking=false"."""
    return ", ".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in variables.items())


@dataclass(frozen=True, slots=True)
class Answered:
    """A chat that a template has written with an answer.

    Attributes:
        plain: its text, with the answer alone; "" where the template does not take it.
        with_thought: with a thought before it, where the template writes thoughts.
        answer, thought: what stands for them in these texts.
        last: the message before the answer.
    """

    plain: str
    with_thought: str
    answer: str
    thought: str
    last: str

    @property
    def before(self) -> str | None:
        """The text up to the answer; None where it is not there."""
        before, there, _ = self.plain.partition(self.answer)
        return before if there else None

    @property
    def around_thought(self) -> tuple[str, str] | None:
        """The text up to the thought, and what stands between it and the answer; None where no thought is written."""
        text, there, _ = self.with_thought.partition(self.answer)
        opened, written, closed = text.partition(self.thought)
        return (opened, closed) if there and written else None


def closing(text: str, answered: Answered, source: str) -> str:
    """What has to be added to a prompt so that the answer starts at its end; "" where it does already.

    Args:
        text: the prompt as the template writes it, with thinking switched off where it has a switch.
        answered: the same chat with an answer.
        source: the template, if it has no switch; else "".
    """
    before, around = answered.before, answered.around_thought
    # The template itself goes on with more than the answer: a channel, an empty thought.
    if before is not None and before.startswith(text) and before[len(text) :].strip():
        return before[len(text) :]
    # An open thought: closed as the template closes one, else by its tag.
    if (tag := _open_tag(text)) is not None:
        if around is not None and around[0].rstrip() == text.rstrip():
            return around[1]
        return f"\n{tag}\n\n" if text.endswith("\n") else tag
    # A thought that was closed, and behind it what opens the answer itself.
    if before is not None and (opening := _opening(text, before, answered.last)):
        return opening
    # No thought, and no switch: one is begun and closed, as the template writes it or by the tags that it spells.
    if source and around is not None and around[0].startswith(text):
        return around[0][len(text) :] + around[1]
    if before == text:
        return next((tag + close for tag, close in _TAGS.items() if tag in source and close in source), "")
    return ""


def _open_tag(text: str) -> str | None:
    """What closes the thought that a text ends in; None where it ends in none."""
    end = text.rstrip()
    if match := _TAG.search(end):
        return f"</{match[1]}>"
    return next((close for opened, close in _CLOSED_BY.items() if end.endswith(opened)), None)


def _opening(text: str, before: str, last: str) -> str:
    """What the template writes before an answer where the prompt has an empty thought in its place."""
    n_alike = next(
        (i for i, (a, b) in enumerate(zip(text, before, strict=False)) if a != b), min(len(text), len(before))
    )
    n_alike = n_alike if before[:n_alike].rfind("<") <= before[:n_alike].rfind(">") else before[:n_alike].rfind("<")
    instead, opening = text[n_alike:], before[n_alike:]
    in_messages = text.rfind(last) + len(last) if last else 0
    is_thought = bool(_SPEAKS.search(instead)) and not _SPEAKS.search(opening)
    return opening if n_alike >= in_messages and is_thought and opening.strip() else ""
