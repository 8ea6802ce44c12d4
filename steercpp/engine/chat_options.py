"""What a user says about chats: variables for the model's template, and the day that it sees."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from steercpp.errors import InputError

# What the template gets from steercpp and from the model's file.
_RESERVED = {"messages", "add_generation_prompt", "bos_token", "eos_token", "raise_exception", "strftime_now"}


@dataclass(frozen=True, slots=True)
class ChatOptions:
    """How chats are written, beside the messages.

    Attributes:
        template_kwargs: variables for the model's chat template, such as {"enable_thinking": True}, in JSON's types.
        date: the day that the template is told where it asks, "2026-11-29"; "" for today.

    Raises:
        InputError: a name that a template cannot have or that is not for the user, a value that JSON does not know, or
            no date.
    """

    template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    date: str = ""

    @classmethod
    def of(cls, template_kwargs: Mapping[str, Any] | None, day: datetime.date | str | None) -> ChatOptions:
        """The options of keyword arguments; None for what is not given."""
        if isinstance(day, datetime.datetime):
            day = day.date()
        return cls(dict(template_kwargs or {}), day.isoformat() if isinstance(day, datetime.date) else day or "")

    def __post_init__(self) -> None:
        for name, value in self.template_kwargs.items():
            if not isinstance(name, str) or not name.isidentifier():
                raise InputError(f"`template_kwargs`: {name!r} cannot be the name of a variable; use letters and _")
            if name in _RESERVED:
                raise InputError(f"`template_kwargs`: {name} is not for you to set; leave it out")
            try:
                kept = json.loads(json.dumps(value, allow_nan=False))
            except (TypeError, ValueError, RecursionError) as error:
                raise InputError(f"`template_kwargs`: {name} has a value that JSON does not know; {error}") from error
            if kept != value:
                raise InputError(
                    f"`template_kwargs`: {name} is {value!r}, which JSON would keep as {kept!r}; give that"
                )
        if self.date:
            try:
                datetime.date.fromisoformat(self.date)
            except ValueError as error:
                raise InputError(f"`date` is {self.date!r}; write it as 2026-11-29") from error

    @property
    def day(self) -> str:
        """The chosen date, else today's."""
        return self.date or datetime.date.today().isoformat()
