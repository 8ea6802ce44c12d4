"""How a code item is asked: its prompt in a template."""

from __future__ import annotations

from typing import cast

from steercpp.data.items import CodeItem, named
from steercpp.data.prompts import Prompt, Template
from steercpp.data.templates import within
from steercpp.errors import PromptError


def code_prompt(item: CodeItem, template: str) -> tuple[Prompt, Template]:
    """A code item's prompt in a template: "raw" as it stands, "chat" for the model's own, a name or text of ours.

    Raises:
        PromptError: the template has not one place.
    """
    if template in ("raw", "chat"):
        return item.prompt, cast("Template", template)
    try:
        return within(template, item.prompt), "raw"
    except PromptError as error:
        raise PromptError(f"{named(item)}: {error}") from error
