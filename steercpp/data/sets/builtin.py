"""Small sets that come with the package, so that a real chat model can be studied without any download.

Behaviors have contrast pairs, from which a vector is made, and other items, on which it is measured; capabilities have
items. All are written by hand for this project, under its licence; docs/sets.md says what each tells and what not. The
files, in models/sets/, are read when a set is asked for.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from steercpp import models
from steercpp.data.items import BehaviorItem, Item, read_behavior, read_tasks
from steercpp.data.pairs import ContrastPair, read_pairs
from steercpp.data.requests import Request, read_requests
from steercpp.errors import TaskError

FOLDER = Path(models.__file__).parent / "sets"
GENERAL = "general"  # requests for a vector of which nothing is known
BEHAVIOR_SETS = ("honesty", "refusal", "sycophancy", "sentiment", "formality")
_KINDS = {
    "knowledge": "choice", "arithmetic": "answer", "reading": "choice", "prose": "text", "code": "code",
    "everyday": "own",
}  # fmt: skip
CAPABILITY_SETS = tuple(_KINDS)
_AnyItem = TypeVar("_AnyItem", bound=Item)


@dataclass(frozen=True, slots=True)
class BehaviorSet:
    """One behavior: what a vector of it is made from, and what it is measured on.

    A positive strength of a vector that was extracted from `pairs` is meant to raise B on `items`.

    Attributes:
        name: one of `BEHAVIOR_SETS`.
        about: what is asked, and which side counts as aligned; a sentence or two.
        instruction: asks a model in words for the aligned side, for the prompt baseline.
        opposite: asks for the other side.
        licence: of the set.
        pairs: contrast pairs, the positive side aligned; the user's message opens with what asks for the side.
        items: other prompts, without such an opening. Those of refusal are harmful and harmless ones in couples;
            aligned is what refuses the former and complies with the latter, see
            statistics/over_refusal.py.
    """

    name: str
    about: str
    instruction: str
    opposite: str
    licence: str
    pairs: tuple[ContrastPair, ...]
    items: tuple[BehaviorItem, ...]


@lru_cache(maxsize=len(BEHAVIOR_SETS))
def behavior_set(name: str) -> BehaviorSet:
    """A behavior by its name.

    Raises:
        TaskError: there is none of that name (near ones are offered), or its files are not as they were shipped.

    >>> refusal = behavior_set("refusal")
    >>> len(refusal.pairs), len(refusal.items)
    (72, 72)
    """
    _check(name, "behavior", BEHAVIOR_SETS)
    card = _card(FOLDER / f"{name}.card.json")
    pairs, items = read_pairs(FOLDER / f"{name}.pairs.jsonl"), read_behavior(FOLDER / f"{name}.behavior.jsonl")
    return BehaviorSet(**card, pairs=pairs, items=items)


@lru_cache(maxsize=len(BEHAVIOR_SETS) + 1)
def showcase_requests(name: str) -> tuple[Request, ...]:
    """Twelve open requests on which a behavior shows, to look at a vector's texts; none is in its pairs or items.

    Args:
        name: of the behavior; of any other vector there are ordinary requests, the same for "" and unknown names.

    Raises:
        TaskError: the file is not as it was shipped.
    """
    return read_requests(FOLDER / f"{name if name in BEHAVIOR_SETS else GENERAL}.requests.jsonl")


@lru_cache(maxsize=len(CAPABILITY_SETS))
def capability_set(name: str) -> tuple[Item, ...]:
    """The items of a capability by its name.

    Raises:
        TaskError: as `behavior_set`.

    >>> capability_set("knowledge")[0].question
    'Which river flows through Cairo?'
    """
    _check(name, "capability", CAPABILITY_SETS)
    return read_tasks(FOLDER / f"{name}.{_KINDS[name]}.jsonl")


def spread(items: Sequence[BehaviorItem], at_most: int) -> tuple[BehaviorItem, ...]:
    """Evenly spread items, at most so many, in whole couples; all of them where there are no more.

    Of 72 items in 36 couples and at most 48, every third couple is left out.
    """
    groups: dict[str, list[BehaviorItem]] = {}
    for item in items:
        groups.setdefault(item.couple or item.id, []).append(item)
    n_kept = len(groups) if len(items) <= at_most else max(len(groups) * at_most // len(items), 1)
    names = list(groups)
    kept = {names[i * len(names) // n_kept] for i in range(n_kept)}
    return tuple(item for item in items if (item.couple or item.id) in kept)


def of_subjects(items: Sequence[_AnyItem], subjects: Sequence[str], *, name: str) -> tuple[_AnyItem, ...]:
    """The items of some subjects, such as "harmful" or "music-and-art"; all of them where none is named.

    Args:
        items: of one set.
        subjects: with a hyphen for each space.
        name: what a message calls the set.

    Raises:
        TaskError: the set has no such subject; those that it has are named.
    """
    known = {item.subject.replace(" ", "-") for item in items}
    for subject in subjects:
        if subject not in known:
            raise TaskError(f"{name} has no part {subject!r}; use one of {', '.join(sorted(known))}")
    return tuple(item for item in items if not subjects or item.subject.replace(" ", "-") in subjects)


def _check(name: str, kind: str, names: tuple[str, ...]) -> None:
    if name in names:
        return
    near = difflib.get_close_matches(name.lower(), names, n=1)
    advice = f"did you mean {near[0]}?" if near else f"use one of {', '.join(names)}"
    raise TaskError(f"built-in {kind} set {name!r} is unknown; {advice}")


def _card(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return {key: str(record[key]) for key in ("name", "about", "instruction", "opposite", "licence")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TaskError(f"{path}: the card of a built-in set cannot be read ({error}); reinstall steercpp") from error
