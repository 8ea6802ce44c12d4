"""What names on the command line stand for: items to measure and contrast pairs; read this for the names there are.

A name is the path of a file; a built-in set, such as "refusal", or subjects of one, "refusal:harmful"; or a data set
with the parts of it that are wanted, in any order: "mmlu:international_law", "instructions:test:harmful".

    behaviour   advbench[:target]  instructions[:SPLIT][:SIDE]  strongreject  jailbreakbench  malicious-instruct
                xstest[:SIDE]  stereoset[:BIAS]  caa:BEHAVIOR
    tasks       mmlu[:SUBJECT][:SPLIT]  truthfulqa[:all|:answers]  humaneval  caa-choices:mmlu  caa-choices:truthfulqa
    pairs       instructions[:SPLIT]  xstest  stereoset[:BIAS]  truthfulqa  caa:BEHAVIOR

SIDE is harmful or harmless; SPLIT defaults to test for items and to train for pairs. In all pairs the positive side is
the aligned one (refusing, disagreeing, truthful; in CAA that which matches the behaviour), so that a vector of them
raises B of the behaviour of the same name. What is asked and what counts is told in set_requests.py and set_items.py.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from steercpp.data.pair_formats import open_pairs
from steercpp.data.pairs import ContrastPair
from steercpp.data.sets.catalog import DATA_SETS
from steercpp.data.sets.safety_items import DISAGREE, REFUSE
from steercpp.data.sets.set_material import BEHAVIOR, PAIRS, TASKS, Parts, mmlu
from steercpp.data.sets.sources import find_set
from steercpp.data.tasks import BehaviorItem, Item, read_behavior, read_mmlu_csv, read_tasks
from steercpp.errors import TaskError

_Each = TypeVar("_Each")
_FILES = (".jsonl", ".json", ".csv", ".txt", ".gz")


def behavior_items(
    name: str | Path,
    *,
    data: Path | str | None = None,
    limit: int | None = None,
    template: str = "auto",
    option: str = "behavior",
) -> tuple[BehaviorItem, ...]:
    """Behaviour items by name.

    Args:
        name: see above.
        data: the folder of official files; None for that of STEERCPP_DATA and the cache.
        limit: at most so many, the first ones.
        template: how requests of data sets are put: "auto" as set_requests.py says, "chat" as the user's message, a
            template by name, or a text with one place.
        option: what a message calls the option that the name was given for.

    Raises:
        TaskError: the name is unknown (near ones are offered), or a task file is malformed.
        DataSetError: the set is not there, has no such part, or its file is malformed.
    """
    if is_path(name):
        return _first(read_behavior(Path(name)), limit)
    from steercpp.data.sets.builtin import BEHAVIOR_SETS, behavior_set, of_subjects

    first, parts = _split(name, option, {*BEHAVIOR, *BEHAVIOR_SETS})
    if first in BEHAVIOR_SETS:
        return _first(of_subjects(behavior_set(first).items, parts, name=first), limit)
    put = {} if template == "auto" else {"template": template}
    return _first(BEHAVIOR[first](find_set(first, data), parts, put), limit)


def task_items(
    name: str | Path, *, data: Path | str | None = None, limit: int | None = None, shots: int = 0
) -> tuple[Item, ...]:
    """Choice, answer, text and code items by name.

    Args:
        name: see above.
        data: as for `behavior_items`.
        limit: at most so many, the first ones.
        shots: of MMLU, solved questions before each.

    Raises:
        TaskError, DataSetError: as `behavior_items`; a file has behaviour items alone; shots of what has none.
    """
    if is_path(name):
        return _first(_of_file(Path(name)), limit)
    from steercpp.data.sets.builtin import CAPABILITY_SETS, capability_set, of_subjects

    first, parts = _split(name, "task", {*TASKS, *CAPABILITY_SETS})
    if first in CAPABILITY_SETS:
        return _first(of_subjects(capability_set(first), parts, name=first), limit)
    if first == "mmlu":
        return mmlu(find_set(first, data), parts, limit, shots)
    return _first(TASKS[first](find_set(first, data), parts), limit)


def contrast_pairs(
    name: str | Path, *, data: Path | str | None = None, limit: int | None = None, template: str = "auto"
) -> tuple[ContrastPair, ...]:
    """Contrast pairs by name; arguments as of `behavior_items`.

    Raises:
        PairsError: a pair file is malformed. TaskError, DataSetError: as `behavior_items`.
    """
    if is_path(name):
        return _first(tuple(open_pairs(Path(name))), limit)
    from steercpp.data.sets.builtin import BEHAVIOR_SETS, behavior_set

    first, parts = _split(name, "pairs", {*PAIRS, *BEHAVIOR_SETS})
    if first in BEHAVIOR_SETS:
        _no_parts(name, parts)
        return _first(behavior_set(first).pairs, limit)
    put = {} if template == "auto" else {"template": template}
    return _first(PAIRS[first](find_set(first, data), parts, put), limit)


def instruction_of(name: str | Path) -> str:
    """What asks for the behaviour in words, for the prompt baseline; "" where there is no such text."""
    from steercpp.data.sets.builtin import BEHAVIOR_SETS, behavior_set

    first = "" if is_path(name) else str(name).partition(":")[0]
    if first in BEHAVIOR_SETS:
        return behavior_set(first).instruction
    if first == "stereoset":
        return DISAGREE
    return REFUSE if first in BEHAVIOR and first != "caa" else ""


def is_path(name: str | Path) -> bool:
    """Whether a name is the path of a file: there is one, or it could be nothing else."""
    text = str(name)
    return "/" in text or "\\" in text or text.lower().endswith(_FILES) or Path(name).is_file()


def short_name(name: str | Path) -> str:
    """What a file or a folder is called after a name: the file's own name without ending, or "set-part"."""
    return Path(name).stem if is_path(name) else str(name).replace(":", "-")


def _of_file(path: Path) -> tuple[Item, ...]:
    if path.suffix.lower() == ".csv":
        return read_mmlu_csv(path)
    if items := tuple(item for item in read_tasks(path) if not isinstance(item, BehaviorItem)):
        return items
    raise TaskError(f"{path}: behavior items alone, which are for --behavior; give choice, answer, text or code items")


def _first(items: Sequence[_Each], limit: int | None) -> tuple[_Each, ...]:
    return tuple(items[:limit])


def _split(name: str | Path, kind: str, offered: Iterable[str]) -> tuple[str, Parts]:
    """The set and its parts."""
    first, *parts = str(name).split(":")
    names = sorted(offered)
    if first in names:
        return first, tuple(parts)
    if first in DATA_SETS:
        raise TaskError(f"{name}: {first} has nothing for --{kind}; use one of {', '.join(names)}, or a file")
    near = difflib.get_close_matches(first.lower(), names)
    advice = f"did you mean {' or '.join(near)}?" if near else f"use one of {', '.join(names)}, or a file"
    raise TaskError(f"{str(name)!r} is neither a file nor a set for --{kind}; {advice}")


def _no_parts(name: str | Path, parts: Parts) -> None:
    if parts:
        raise TaskError(f"{name}: the pairs of a built-in set have no parts; leave out :{':'.join(parts)}")
