"""What the tables of presets and of matrices have in common: items, names, numbers, and places that must differ.

Read preset.py or matrix.py for what is written where.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from steercpp.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemSpec:
    """Items, and how they are asked.

    Attributes:
        behavior, tasks: items by name; one of them is needed.
        limit: items of each name, the first ones; None for all.
        shots: solved examples before a choice question.
        ask: the template that requests of data sets are put into.
        template: how behavior prompts become text: "raw", "chat" for the model's own template, or a named template
            that they are put into; "auto" as the items say.
        instruction: the prompt baseline; "" for what the behavior set brings.
        max_tokens: of the texts that are generated, 0 for none; for code items they are the answers.
        samples, temperature, top_p: how they are drawn.
    """

    behavior: str = ""
    tasks: tuple[str, ...] = ()
    limit: int | None = None
    shots: int = 0
    ask: str = "auto"
    template: str = "auto"
    instruction: str = ""
    max_tokens: int = 0
    samples: int = 1
    temperature: float = 0.0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if not self.behavior and not self.tasks:
            raise InputError("nothing is measured; give behavior, tasks or both")
        check_counts(limit=self.limit, samples=self.samples)


def check_counts(**numbers: int | None) -> None:
    """Make sure that every number which is given is at least 1.

    Raises:
        InputError: one is not.
    """
    for name, number in numbers.items():
        if number is not None and number < 1:
            raise InputError(f"{name} is {number}; give at least 1")


def check_names(names: Iterable[str]) -> None:
    """Make sure that names can be those of files.

    Raises:
        InputError: one cannot.
    """
    for name in names:
        if not re.fullmatch("[A-Za-z0-9][A-Za-z0-9._-]*", name):
            raise InputError(f"the name {name!r} becomes a file's: use letters, digits, points, - and _")


def unknown(name: str, names: Iterable[str]) -> str:
    """What is wrong with a name that is not among the known ones, and what to do."""
    names = list(names)
    near = get_close_matches(name, names, n=1)
    advice = f"did you mean {near[0]}?" if near else f"use one of {', '.join(names) or 'none: there is none'}"
    return f"{name!r} is unknown; {advice}"


def refuse_shared_places(places: Mapping[str, str]) -> None:
    """Make sure that everything has a folder of its own, on every file system: some take `A` and `a.` for one name.

    Args:
        places: what lies where, by what it is called; folders with / between their parts.

    Raises:
        InputError: two want one folder, or one would lie within another's.
    """
    taken: dict[tuple[str, ...], str] = {}
    for what, place in places.items():
        parts = tuple(part.casefold().rstrip(".") for part in place.split("/"))
        if (other := taken.get(parts)) is not None:
            alike = "" if places[other] == place else f", which many file systems take for {places[other]}"
            raise InputError(f"{other} and {what} want one folder, {place}{alike}; give them names that differ")
        taken[parts] = what
    for parts, what in taken.items():
        for n in range(1, len(parts)):
            if (other := taken.get(parts[:n])) is not None:
                raise InputError(f"{what} wants a folder within that of {other}, {places[other]}; give it another one")
