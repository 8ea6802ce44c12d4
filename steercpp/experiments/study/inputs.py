"""What a study works on: the items of its runs, read by name before anything is computed, and its model files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType

from steercpp.data.items import AnswerItem, BehaviorItem, ChoiceItem, CodeItem, Item, OwnItem, TextItem, named
from steercpp.data.prompts import Template
from steercpp.data.sets.names import behavior_items, instruction_of, task_items
from steercpp.data.templates import within
from steercpp.engine.engine import Engine
from steercpp.errors import InputError, TaskError
from steercpp.experiments.study.parts import ItemSpec
from steercpp.experiments.study.preset import Role


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


def run_items(spec: ItemSpec, *, data: Path | None, limit: int | None) -> RunItems:
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
    if own := next((item for item in others if isinstance(item, OwnItem)), None):
        raise TaskError(f"{named(own)}: own answers are measured by `steercpp sweep`, not by a study; take other tasks")
    return RunItems(
        behavior=tuple(templated(item, spec.template) for item in behavior),
        choice=tuple(item for item in others if isinstance(item, ChoiceItem)),
        answer=tuple(item for item in others if isinstance(item, AnswerItem)),
        text=tuple(item for item in others if isinstance(item, TextItem)),
        code=tuple(item for item in others if isinstance(item, CodeItem)),
        instruction=spec.instruction or (instruction_of(spec.behavior) if spec.behavior else ""),
    )


def templated(item: BehaviorItem, template: str) -> BehaviorItem:
    """The item with its prompt written as a preset says; see `ItemSpec.template`."""
    if template == "auto":
        return item
    if template in ("raw", "chat"):
        known: Template = "raw" if template == "raw" else "chat"
        return replace(item, template=known)
    try:
        return replace(item, prompt=within(template, item.prompt), template="raw")
    except InputError as error:
        raise TaskError(f"{item.place or item.id}: {error}") from error


def fewest(*limits: int | None) -> int | None:
    """The smallest of those that are given, None without any."""
    return min((limit for limit in limits if limit is not None), default=None)


class StudyModels:
    """The engines of a study by their role or name, a context manager that closes the one that is open.

    One model is loaded at a time: two may not fit into memory together.

    Args:
        paths: the files.
        load: loads one with the user's options.
    """

    def __init__(self, paths: Mapping[Role, Path] | Mapping[str, Path], load: Callable[[Path], Engine]) -> None:
        self._paths: dict[str, Path] = {str(role): path for role, path in paths.items()}
        self._load = load
        self._open: tuple[Path, Engine] | None = None

    def __enter__(self) -> StudyModels:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def of(self, role: str) -> Engine:
        """The engine of a role, loaded in the other's place if need be.

        Raises:
            InputError: no file was given for it.
            ModelError: it cannot be loaded.
        """
        path = self.path(role)
        if self._open is None or self._open[0] != path:
            self.close()
            self._open = (path, self._load(path))
        return self._open[1]

    def path(self, role: str) -> Path:
        """The file of a role.

        Raises:
            InputError: none was given.
        """
        if role not in self._paths:
            raise InputError(f"the study needs a {role} model; give its file as `{role}`")
        return self._paths[role]

    def close(self) -> None:
        """Free the model that is loaded."""
        if self._open is not None:
            self._open[1].close()
            self._open = None
