"""The model files of a study, one of them loaded at a time: two may not fit into memory together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType

from steercpp.engine.engine import Engine
from steercpp.errors import InputError
from steercpp.experiments.study.preset import Role


class StudyModels:
    """Engines by their role; a context manager, which closes the one that is open.

    Args:
        paths: the files.
        load: loads one with the user's options.
    """

    def __init__(self, paths: Mapping[Role, Path], load: Callable[[Path], Engine]) -> None:
        self._paths = paths
        self._load = load
        self._open: tuple[Path, Engine] | None = None

    def __enter__(self) -> StudyModels:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def of(self, role: Role) -> Engine:
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

    def path(self, role: Role) -> Path:
        """The file of a role.

        Raises:
            InputError: none was given.
        """
        if role not in self._paths:
            raise InputError(f"the study needs a {role} model; give its file with --{role}")
        return self._paths[role]

    def close(self) -> None:
        """Free the model that is loaded."""
        if self._open is not None:
            self._open[1].close()
            self._open = None
