"""What the runs of a study measure, read by name before anything is computed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from steercpp.data.prompts import Template
from steercpp.data.sets.names import behavior_items, instruction_of, task_items
from steercpp.data.tasks import AnswerItem, BehaviorItem, ChoiceItem, CodeItem, Item, TextItem
from steercpp.data.templates import within
from steercpp.errors import InputError, TaskError
from steercpp.experiments.study.preset import RunSpec


@dataclass(frozen=True, slots=True)
class RunItems:
    """The items of one run by kind, and the prompt baseline's instruction."""

    behavior: tuple[BehaviorItem, ...]
    choice: tuple[ChoiceItem, ...]
    answer: tuple[AnswerItem, ...]
    text: tuple[TextItem, ...]
    code: tuple[CodeItem, ...]
    instruction: str

    @property
    def by_kind(self) -> dict[str, tuple[Item, ...]]:
        """Those kinds that there are."""
        kinds = ("behavior", "choice", "answer", "text", "code")
        return {kind: getattr(self, kind) for kind in kinds if getattr(self, kind)}


def run_items(spec: RunSpec, *, data: Path | None, limit: int | None) -> RunItems:
    """The items of a run.

    Args:
        spec: names them.
        data: the folder of official files; None for the cache.
        limit: at most so many of each name, where the preset does not say fewer.

    Raises:
        TaskError, DataSetError: a name is unknown, or its file cannot be used.
    """
    most = fewest(spec.limit, limit)
    behavior = behavior_items(spec.behavior, data=data, limit=most, template=spec.ask) if spec.behavior else ()
    others = [item for name in spec.tasks for item in task_items(name, data=data, limit=most, shots=spec.shots)]
    return RunItems(
        behavior=tuple(asked_as(item, spec.template) for item in behavior),
        choice=tuple(item for item in others if isinstance(item, ChoiceItem)),
        answer=tuple(item for item in others if isinstance(item, AnswerItem)),
        text=tuple(item for item in others if isinstance(item, TextItem)),
        code=tuple(item for item in others if isinstance(item, CodeItem)),
        instruction=spec.instruction or (instruction_of(spec.behavior) if spec.behavior else ""),
    )


def asked_as(item: BehaviorItem, template: str) -> BehaviorItem:
    """The item with its prompt written as a preset says; see `RunSpec.template`."""
    if template == "auto":
        return item
    if template in ("raw", "chat"):
        own: Template = "raw" if template == "raw" else "chat"
        return replace(item, template=own)
    try:
        return replace(item, prompt=within(template, item.prompt), template="raw")
    except InputError as error:
        raise TaskError(f"{item.place or item.id}: {error}") from error


def fewest(*limits: int | None) -> int | None:
    """The smallest of those that are given, None without any."""
    return min((limit for limit in limits if limit is not None), default=None)
