"""The options that say what is measured: behavior items and tasks, from files, built-in sets or data sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from steercpp.cli import output
from steercpp.cli.options.common import FILE, grouped

if TYPE_CHECKING:
    from steercpp.data.items import BehaviorItem, ChoiceItem, Item, OwnItem
    from steercpp.engine.engine import Engine


@dataclass(frozen=True, slots=True)
class ItemOptions:
    """The items that were named: files, built-in sets, or sets of `steercpp data list` with their parts."""

    behavior: str | None
    tasks: tuple[str, ...]
    data: Path | None
    limit: int | None
    shots: int
    ask: str = "auto"

    def __post_init__(self) -> None:
        if self.shots and not self.tasks:
            raise click.UsageError("--shots is for --task: solved examples before each of its questions.")

    def __bool__(self) -> bool:
        """Whether any items were named."""
        return bool(self.behavior or self.tasks)

    @property
    def files(self) -> tuple[Path, ...]:
        """What of it are files."""
        from steercpp.data.sets.names import is_path

        return tuple(Path(name) for name in (self.behavior, *self.tasks) if name and is_path(name))

    @property
    def instruction(self) -> str:
        """What asks for the behavior in words, "" where nothing is known that does."""
        from steercpp.data.sets.names import instruction_of, is_path

        return instruction_of(self.behavior) if self.behavior and not is_path(self.behavior) else ""

    @property
    def opposite(self) -> str:
        """What asks for the opposite of the behavior in words, "" where nothing is known that does."""
        from steercpp.data.sets.names import is_path, opposite_of

        return opposite_of(self.behavior) if self.behavior and not is_path(self.behavior) else ""

    def behavior_items(self) -> tuple[BehaviorItem, ...]:
        """The behavior items; none where none were named.

        Raises:
            TaskError, DataSetError: a file or set cannot be read, or a name is unknown.
        """
        from steercpp.data.sets.names import behavior_items

        if not self.behavior:
            return ()
        return behavior_items(self.behavior, data=self.data, limit=self.limit, template=self.ask)

    def task_items(self) -> dict[str, list[Item]]:
        """The items of all tasks by their kind, in the order in which they were named.

        Raises:
            TaskError, DataSetError: as `behavior_items`.
        """
        from steercpp.data.items import kind_of
        from steercpp.data.sets.names import task_items

        items: dict[str, list[Item]] = {}
        for name in self.tasks:
            for item in task_items(name, data=self.data, limit=self.limit, shots=self.shots):
                items.setdefault(kind_of(item), []).append(item)
        return items

    def choice_items(self) -> list[ChoiceItem]:
        """The choice items of all tasks, for a command that measures these alone.

        Raises:
            TaskError: a task has items of another kind, or as `behavior_items`.
        """
        from steercpp.data.items import ChoiceItem, named
        from steercpp.errors import TaskError

        by_kind = self.task_items()
        if others := [item for kind, items in by_kind.items() if kind != "choice" for item in items]:
            raise TaskError(f"{named(others[0])}: no choice item; give choice items here, or take steercpp sweep")
        return [item for item in by_kind.get("choice", ()) if isinstance(item, ChoiceItem)]


def answered(
    engine: Engine,
    items: Mapping[str, Sequence[Any]],
    folder: Path,
    *,
    seed: int,
    force: bool,
    report: output.Report | None,
) -> dict[str, tuple[OwnItem, ...]]:
    """The own items among some with their answers: those that the run in a folder has, or new ones of the model.

    Raises:
        SteerError: a request cannot be answered, or the run is damaged.
    """
    from steercpp.sweeps.own_answers import DRAWS, kept_answers, own_answers

    requests = tuple(items.get("own", ()))
    if not requests:
        return {}
    kept = None if force else kept_answers(folder, requests)
    own = own_answers(engine, kept or requests, seed=seed, progress=report)
    if n_out := len(requests) - len(own):
        output.note(f"{n_out} of {len(requests)} requests are left out: {DRAWS} draws gave no answer")
    return {"own": own}


def _only_one(ctx: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> str | None:
    """Click's callback that refuses a second value, of which click itself would take the last."""
    if len(value) > 1:
        raise click.BadParameter("one behavior has one B; for several of them there is steercpp cross.")
    return value[0] if value else None


_OPTIONS = (
    click.option(
        "--behavior", multiple=True, callback=_only_one, metavar="B",
        help="Behavior items, for B: a file B.jsonl, or a set such as refusal. Without it pairs of your own give the "
             "prompts, and MODEL its own answers.",
    ),
    click.option(
        "--task", "tasks", multiple=True, metavar="T",
        help="What helpfulness is measured on: a file T.jsonl or MMLU's .csv, or a set such as "
             "mmlu:international_law; own, in sweep and scan: how far the model's own answers to everyday requests "
             "move; may be repeated.",
    ),
    click.option(
        "--data", type=FILE, metavar="DIR", help="Folder of data sets.  [default: what steercpp data get fetched]",
    ),
    click.option(
        "--limit", type=click.IntRange(1), metavar="N",
        help="At most so many items of each file or set, the embedded ones too.",
    ),
    click.option(
        "--shots", default=0, show_default=True, type=click.IntRange(0), help="Solved questions before each of MMLU's.",
    ),
    click.option(
        "--ask", default="auto", show_default=True, metavar="TEMPLATE",
        help="How requests of data sets are put: auto, chat (the user's message), a template by name, or a text with "
             "{request} in it.",
    ),
)  # fmt: skip
item_options = grouped("items", ItemOptions, _OPTIONS)
