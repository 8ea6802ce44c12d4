"""What a process does that measures for another one; read this for what is sent to it and what comes back.

A job is sent as bytes, with the version that wrote it before them: another version refuses it before it reads on. The
process loads the model once, found by its hash (engine/model_search.py), and keeps it, and the unsteered passes of the
task that it measured last, for the jobs to come. Control vectors, which most jobs share, are sent beside the first jobs
that need them; a process keeps them, and asks for those that it lacks.
"""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import platform
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

from steercpp.engine.engine import Engine, EngineSettings
from steercpp.engine.model_file import model_files
from steercpp.engine.model_search import find_model
from steercpp.engine.steering import Steering
from steercpp.errors import ModelError, WorkerError
from steercpp.provenance import commit, versions
from steercpp.sweeps.measure import Bases, Measured, Task, Variant, measured
from steercpp.sweeps.texts import ItemTexts, TextPlan, TextTask, item_texts
from steercpp.vectors.control_vector import ControlVector

_OF_A_MACHINE = ("threads", "cpu")  # settings that do not have to agree
_State: TypeAlias = tuple[tuple[int, int, int], ...]
_VECTORS = 64  # that a process keeps for jobs to come


@dataclass(frozen=True, slots=True)
class Setup:
    """Which model a worker needs, and how it runs it.

    Attributes:
        sha256, n_bytes: of the model.
        path: where the sender has it.
        folders: where to look for it, beside the worker's own folders.
        options: keywords of `Engine`.
        settings: `Engine.settings` of the sender's.
    """

    sha256: str
    n_bytes: int
    path: str
    folders: tuple[str, ...]
    options: Mapping[str, Any]
    settings: Mapping[str, Any]

    @property
    def key(self) -> str:
        """The same for setups that one engine serves."""
        return f"{self.sha256} {sorted(self.options.items())!r}"


@dataclass(frozen=True, slots=True, eq=False)
class MeasureJob:
    """A task under some variants, in order.

    Attributes:
        setup: the model.
        name: of the task among all that are sent; what was kept of a task is used again for the same name.
        task, variants: what is measured.
        first_layer: the lowest steered layer.
        keeps: see `Bases`.
    """

    setup: Setup
    name: str
    task: Task
    variants: tuple[Variant, ...]
    first_layer: int
    keeps: bool

    def done_by(self, engine: Engine) -> list[Measured]:
        """The numbers of each variant."""
        task, bases = _KEPT.begun(self, engine)
        n = len(self.variants)
        return [measured(task, bases, variant, n_later=n - 1 - i) for i, variant in enumerate(self.variants)]


@dataclass(frozen=True, slots=True, eq=False)
class WriteJob:
    """An item's prompt to be continued; see `item_texts`."""

    setup: Setup
    task: TextTask
    text_plan: TextPlan
    steering: Steering | None
    strengths: tuple[float, ...]

    def done_by(self, engine: Engine) -> ItemTexts:
        """The texts."""
        return item_texts(engine, self.task, self.text_plan, steering=self.steering, strengths=self.strengths)


@dataclass(frozen=True, slots=True)
class Host:
    """Where a job was done: the machine's name, and its CPU as far as it decides bits."""

    name: str
    cpu: str


@dataclass(frozen=True, slots=True)
class Lacking:
    """What a worker answers that lacks control vectors of a job: it is to be sent again with them."""


@dataclass(slots=True)
class Sent:
    """Jobs and control vectors as bytes, for `perform`; each vector has the hash of its bytes as its name."""

    _known: dict[int, tuple[ControlVector, str, bytes]] = field(default_factory=dict)

    def pickled(self, job: MeasureJob | WriteJob) -> tuple[bytes, dict[str, bytes]]:
        """A job, and the vectors that it names."""
        into, vectors = io.BytesIO(), dict[str, bytes]()

        def name(value: object) -> str | None:
            if not isinstance(value, ControlVector):
                return None
            if id(value) not in self._known:
                data = pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)
                self._known[id(value)] = value, hashlib.sha256(data).hexdigest(), data
            _, key, vectors[key] = self._known[id(value)]
            return key

        pickler = pickle.Pickler(into, protocol=pickle.HIGHEST_PROTOCOL)
        pickler.persistent_id = name  # type: ignore[method-assign]
        pickler.dump(job)
        return into.getvalue(), vectors


@cache
def version() -> str:
    """What must agree between a worker and who sends it jobs: the version, of a checkout with its commit."""
    return "+".join(filter(None, (versions()["steercpp"], commit())))


def perform(sent_by: str, job: bytes, vectors: Mapping[str, bytes]) -> tuple[Any, Host]:
    """Do a job in this process; called by an executor.

    Args:
        sent_by: version of steercpp that sent it.
        job: as `Sent.pickled`.
        vectors: those that it names, or none where this process should have them.

    Returns:
        what `done_by` of the job gives, or `Lacking`; and where it was done.

    Raises:
        WorkerError: this process has another version, no such model, or another llama.cpp.
        EngineError: a decode failed.
    """
    if sent_by != version():
        raise WorkerError(
            f"{_here()}: has steercpp {version()}, and jobs come from "
            f"{sent_by}; install the same version on all machines"
        )
    with _KEPT.lock:  # one job at a time: a second thread would wait for the engine anyway
        made = _KEPT.read(job, vectors)
        if made is None:
            return Lacking(), Host(platform.node(), "")
        engine = _KEPT.engine(made.setup)
        settings = engine.settings()
        _refuse_other_settings(settings, made.setup)  # of each job: senders may differ
        return made.done_by(engine), Host(platform.node(), str(settings["cpu"]))


class _LackingError(Exception):
    """A control vector is not here."""


class _Kept:
    """What a worker keeps between jobs."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._key = ""
        self._engine: Engine | None = None
        self._name = ""
        self._begun: tuple[Task, Bases] | None = None
        self._vectors: dict[str, ControlVector] = {}
        self._found: dict[str, tuple[Path, _State]] = {}  # models whose hash was seen

    def read(self, job: bytes, vectors: Mapping[str, bytes]) -> MeasureJob | WriteJob | None:
        """A job with its control vectors; None where one of them is not there."""
        for name, data in vectors.items():
            if name not in self._vectors:
                self._vectors[name] = pickle.loads(data)
        unpickler = pickle.Unpickler(io.BytesIO(job))
        unpickler.persistent_load = self._vector  # type: ignore[method-assign]
        try:
            made: MeasureJob | WriteJob = unpickler.load()
        except _LackingError:
            return None
        for name in list(self._vectors)[:-_VECTORS]:
            del self._vectors[name]
        return made

    def _vector(self, name: str) -> ControlVector:
        if name not in self._vectors:
            raise _LackingError
        return self._vectors[name]

    def engine(self, setup: Setup) -> Engine:
        """The engine for a setup; that for another one is closed."""
        if self._engine is None or self._key != setup.key:
            self._forget()
            self._engine, self._key = Engine(self._path(setup), **setup.options), setup.key
        return self._engine

    def _path(self, setup: Setup) -> Path:
        """Where the model is; its file is hashed once, as long as it stays as it is."""
        path, state = self._found.get(setup.sha256, (None, ()))
        if path is None or _state(path) != state:
            path = _found(setup)
            self._found[setup.sha256] = path, _state(path)
        return path

    def begun(self, job: MeasureJob, engine: Engine) -> tuple[Task, Bases]:
        """The job's task with the unsteered passes of it that there are: a job before it may have made them."""
        if self._begun is None or self._name != job.name:
            first_layer = job.first_layer if job.keeps else engine.n_layer
            self._begun, self._name = (job.task, Bases(engine, first_layer, keeps=job.keeps)), job.name
        return self._begun

    def _forget(self) -> None:
        if self._engine is not None:
            self._engine.close()
        self._engine, self._begun, self._name = None, None, ""


_KEPT = _Kept()


def _here() -> str:
    return f"worker on {platform.node()} (process {os.getpid()})"


def _state(path: Path) -> _State:
    """Which files these are: those of a model that another one has replaced differ."""
    with suppress(OSError, ModelError):
        states = [file.stat() for file in model_files(path)]
        return tuple((state.st_ino, state.st_size, state.st_mtime_ns) for state in states)
    return ()


def _found(setup: Setup) -> Path:
    try:
        return find_model(setup.sha256, n_bytes=setup.n_bytes, hint=setup.path, folders=setup.folders)
    except ModelError as error:
        raise WorkerError(f"{_here()}: {error}") from error


def _refuse_other_settings(ours: EngineSettings, setup: Setup) -> None:
    """See that an engine of these settings gives the numbers that the sender's would."""
    free = _OF_A_MACHINE if ours["flash_attn"] == "off" else ("cpu",)  # flash attention's bits depend on threads
    for name, wanted in setup.settings.items():
        if name not in free and ours.get(name) != wanted:
            raise WorkerError(
                f"{_here()}: its {name} is {ours.get(name)!r}, and the sweep "
                f"has {wanted!r}; install and run the same on all machines"
            )
