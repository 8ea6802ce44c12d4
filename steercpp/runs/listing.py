"""What runs lie in a folder, and how far each is; read this to list them.

    for run in list_runs(Path("runs")):
        print(run.folder, run.state, run.recommended_strength)

A run that is damaged, as far as is seen without reading all its rows, or of another version, is listed with the reason.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from steercpp.errors import RunError, SteerError
from steercpp.locks import refuse_second_writer
from steercpp.runs.folder import STORE, read_swept_vector
from steercpp.runs.labels import MEASURED, Label
from steercpp.runs.manifest import MANIFEST, Manifest, read_manifest
from steercpp.runs.recommended import STRENGTH
from steercpp.runs.store import Store
from steercpp.vectors.control_vector import ControlVector
from steercpp.vectors.layers import format_layers

State = Literal["finished", "unfinished", "being measured", "damaged"]
_DEPTH = 4  # folders within folders: a study has its runs two deep


@dataclass(frozen=True, slots=True)
class RunSummary:
    """A run in a line.

    Attributes:
        folder: its directory.
        state: how far it is.
        model: name of the model's file; "" of a damaged run.
        vector: how its vector was extracted, where that is known, and its layers; "" of a damaged run.
        n_strengths: planned, 0 among them.
        n_finished: of these, at how many all items are measured.
        recommended_strength: what its vector carries; None where nothing is recommended, or not yet.
        begun: when, in UTC, as ISO 8601; "" of a damaged run.
        changed: when something was written there last, likewise.
        reason: why it is damaged, or who measures it; "" otherwise.
    """

    folder: Path
    state: State
    model: str = ""
    vector: str = ""
    n_strengths: int = 0
    n_finished: int = 0
    recommended_strength: float | None = None
    begun: str = ""
    changed: str = ""
    reason: str = ""

    def record(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {**asdict(self), "folder": str(self.folder)}


def list_runs(folder: Path | str) -> list[RunSummary]:
    """Every run in a folder and the folders in it, by name; the folder itself may be one.

    Raises:
        RunError: there is no such folder.

    >>> [(run.folder.name, run.state, run.n_finished) for run in list_runs("run")]
    [('run', 'finished', 4)]
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise RunError(f"{folder}: there is no such folder; name the one that holds runs")
    return [run for found in sorted(_run_folders(folder)) if (run := _summary(found)) is not None]


def _run_folders(folder: Path) -> Iterator[Path]:
    """Folders with a manifest; what lies inside a run is none."""
    for path, folders, files in os.walk(folder):
        if MANIFEST in files or STORE in files:
            yield Path(path)
            folders.clear()
        elif len(Path(path).relative_to(folder).parts) >= _DEPTH:
            folders.clear()


def _summary(folder: Path) -> RunSummary | None:
    """The run in a folder; None where it has just been removed."""
    times = []
    for name in (MANIFEST, STORE):
        with suppress(OSError):
            times.append((folder / name).stat().st_mtime)
    if not times:
        return None
    when = datetime.fromtimestamp(max(times), UTC).isoformat(timespec="seconds")
    try:
        manifest = read_manifest(folder)
        n_finished = _n_finished(folder, manifest)
        vector = read_swept_vector(folder, manifest)
    except (SteerError, OSError) as error:
        return RunSummary(folder, "damaged", changed=when, reason=str(error))
    strength = vector.metadata.get(STRENGTH) if manifest.finished is not None else None
    writer = "" if manifest.finished is not None else _writer(folder)
    state: State = "finished" if manifest.finished is not None else "being measured" if writer else "unfinished"
    return RunSummary(
        folder, state, manifest.model.file, _origin(vector), len(manifest.plan.strengths), n_finished,
        float(strength) if isinstance(strength, int | float) else None, manifest.begun, when, writer,
    )  # fmt: skip


def _writer(folder: Path) -> str:
    """Who measures a run, in a sentence; "" where nobody does."""
    try:
        refuse_second_writer(folder)
    except RunError as error:
        return str(error).partition("; ")[0]  # what follows is for who wants to write
    return ""


def _origin(vector: ControlVector) -> str:
    """What a vector is, in few words."""
    method = vector.metadata.get("method")
    layers = f"layers {format_layers(vector.layers)}"
    return f"{method}, {layers}" if isinstance(method, str) else layers


def _n_finished(folder: Path, manifest: Manifest) -> int:
    """At how many strengths all items are measured."""
    if manifest.finished is not None:
        Store.glance(folder / STORE)  # whether each row is sound is for those who read them
        return len(manifest.plan.strengths)
    kinds = [kind for kind in manifest.items if kind in MEASURED]
    with Store.read(folder / STORE) as store:
        there = [store.n_measured(Label.VECTOR, kind) for kind in kinds]
        wanted = [store.n_continuations(kind) for kind in kinds]
        return sum(
            bool(kinds) and all(n.get(strength) == of_all for n, of_all in zip(there, wanted, strict=True))
            for strength in manifest.plan.strengths
        )
