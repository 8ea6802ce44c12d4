"""Chat templates, of all that a downloaded model is made of the one part that is code."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
from campaign import Format
from hostile_templates import CHATS, hostile_template

from steercpp.engine.chat_template import ChatTemplate
from steercpp.errors import SteerError

ADDRESS = " at 0x"  # of an object of Python's


def prepare(folder: Path) -> None:
    """Write a chat by an ordinary template."""
    (folder / "chat.jinja").write_text("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}")
    use(folder)


def make(rng: np.random.Generator, prepared: object, folder: Path) -> None:
    """Draw a template."""
    source = hostile_template(random.Random(int(rng.integers(2**63))))
    (folder / "chat.jinja").write_bytes(source.encode("utf-8", "surrogatepass"))


def use(folder: Path) -> None:
    """Write two chats with it; the last error, if any, is that of the template."""
    source = (folder / "chat.jinja").read_bytes().decode("utf-8", "surrogatepass")
    refused: SteerError | None = None
    for chat in CHATS:
        template = ChatTemplate(source, "<s>", "</s>", date="2026-11-29")
        try:
            written = template.written(chat, lambda text: [])
            assert ADDRESS not in written.text
            template.notes([written])
        except SteerError as error:
            assert ADDRESS not in str(error)
            assert "\n" not in str(error)
            refused = error
    if refused is not None:
        raise refused


FORMATS = (Format("templates", prepare, make, use),)
