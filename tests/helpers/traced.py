"""What a process measures and commits, as lines of a file that a kill leaves whole; read this to see work done twice.

Python's own calls are wrapped, and nothing is changed in what they do.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from steercpp.runs.labels import SHOWCASE
from steercpp.runs.store import Store
from steercpp.sweeps import measure, texts


@dataclass
class Trace:
    """Names of groups, of items' texts and of verdicts: those that were begun, and those whose commit returned."""

    begun: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path) -> Trace:
        """What a process has written so far; of a line that it was killed in nothing."""
        made = cls()
        for line in path.read_text().splitlines(keepends=True) if path.exists() else ():
            if line.endswith("\n"):
                what, _, name = line[:-1].partition(" ")
                {"begun": made.begun, "kept": made.kept}[what].append(name)
        return made


def begin_trace(path: Path | str) -> None:
    """Let this process write what it measures and commits into a file."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def say(what: str, name: str) -> None:
        os.write(file, f"{what} {name}\n".encode())

    _wrap(
        measure,
        "measured",
        before=lambda task, _, variant: say("begun", _group(task.group(variant.label, variant.strength))),
    )
    _wrap(texts, "item_texts", before=lambda _, task, *__: say("begun", f"texts {task.label} {task.kind} {task.item}"))
    _wrap(Store, "add", after=lambda _, group, *__: say("kept", _group(group)))

    def texts_of(_: Store, label: str, kind: str, item: int, *__: Any) -> None:
        if kind != SHOWCASE:  # which are decoded together, and again where a kill came between their commits
            say("kept", f"texts {label} {kind} {item}")

    _wrap(Store, "add_texts", after=texts_of)

    def verdicts(_: Store, label: str, kind: str, made: Any) -> None:
        for one in made:
            say("kept", f"verdict {label} {kind} {one.strength} {one.item} {one.sample}")

    _wrap(Store, "add_verdicts", after=verdicts)


def _group(group: Any) -> str:
    return f"group {group.label} {group.kind} {group.strength} {group.batch}"


def _wrap(
    owner: Any, name: str, *, before: Callable[..., None] | None = None, after: Callable[..., None] | None = None
) -> None:
    """Call something with a function's positional arguments before or after it."""
    inner = getattr(owner, name)

    def outer(*arguments: Any, **options: Any) -> Any:
        if before is not None:
            before(*arguments)
        found = inner(*arguments, **options)
        if after is not None:
            after(*arguments)
        return found

    setattr(owner, name, outer)
