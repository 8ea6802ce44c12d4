"""A run directory and what may be done with it; read this when a folder is refused.

sweep.sqlite    the measurements (store.py)
vector.gguf     the control vector that was swept: llama.cpp adds strength times its tensors
manifest.json   the plan and where everything came from (manifest.py)
prepared.json   what was found on the model before, where something was left to be found (preparation.py)
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from steercpp.encoding import spelled
from steercpp.errors import RunError, VectorFileError
from steercpp.files import NO_LOCKS, TEMPORARY, probe, recover, take_places
from steercpp.locks import is_free, writing
from steercpp.runs.aside import LOGS, made_aside
from steercpp.runs.database import AGAIN, Database
from steercpp.runs.manifest import MANIFEST, Manifest, read_manifest, refuse_kept
from steercpp.runs.store import Store
from steercpp.vectors.control_vector import ControlVector, vector_sha256
from steercpp.vectors.gguf import read_vector

STORE, VECTOR_FILE = "sweep.sqlite", "vector.gguf"
PREPARED = "prepared.json"
OWN_ITEMS = "own.behavior.jsonl"  # behavior items with continuations in the model's own words
_LOGS = tuple(f"{STORE}-{kind}" for kind in LOGS)  # SQLite's own, beside the store
OURS = (MANIFEST, STORE, *_LOGS, VECTOR_FILE)
PAGE = "report.html"  # which stands for the whole report (reports/report.py)
_EARLIER = re.compile(rf"\.({re.escape(MANIFEST)}|{re.escape(VECTOR_FILE)})\..+")  # drafts of earlier versions
ADDS_NOTHING = "and where strengths are left to be found, nothing is added to a run"
NEXT = "choose another folder with `out`, or replace this one with `force=True`"


def examine(folder: Path) -> Manifest | None:
    """The manifest of the run in a folder, or None where a run can begin.

    It can where there is nothing, and where a process was killed in a run's first moments, before there was a manifest.

    Raises:
        RunError: the folder is a file, holds other things, or a damaged run.
    """
    if not folder.exists():
        return None
    if not folder.is_dir():
        raise RunError(f"{folder}: is a file, not a folder; choose another place with `out`")
    with suppress(OSError):
        recover(folder)
    names = {path.name for path in _listing(folder) if not _is_leftover(path.name)}
    if MANIFEST in names:
        return read_manifest(folder)
    refuse_kept(folder)
    if STORE in names and Database.holds_groups(folder / STORE):
        raise RunError(f"{folder}: holds measurements but no {MANIFEST}; {NEXT}")
    if foreign := sorted(names - {*OURS, PREPARED, OWN_ITEMS}):
        raise RunError(
            f"{folder}: holds '{spelled(foreign[0])}', which is not a sweep's; choose another folder with `out`, or "
            "write the run beside it with `force=True`"
        )
    return None


def refuse_replaced(folder: Path, manifest: Manifest) -> None:
    """See that a folder still holds the run that was read from it.

    Raises:
        RunError: another one has taken its place, or it was finished since.
    """
    if read_manifest(folder).to_json() != manifest.to_json():
        raise RunError(f"{folder}: another process has changed this run since it was read; run the same command again")


def _is_leftover(name: str) -> bool:
    return name.startswith(TEMPORARY) or _EARLIER.fullmatch(name) is not None


def tidy(folder: Path) -> None:
    """Remove what killed processes have left in a run's folder; its lock must be held, which has removed drafts.

    Measurements that SQLite still has beside the store are brought into it.
    """
    with suppress(OSError):
        for path in [path for path in folder.iterdir() if _EARLIER.fullmatch(path.name)]:
            with suppress(OSError):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    logs = [folder / name for name in _LOGS]
    if not any(path.exists() for path in logs):
        return
    with suppress(RunError, OSError):
        if (folder / MANIFEST).exists():
            Store.reopen(folder / STORE).close()
        elif not Database.holds_groups(folder / STORE):
            for path in (folder / STORE, *logs):
                path.unlink(missing_ok=True)


def tidy_unused(folder: Path) -> None:
    """As `tidy`, where a killed process has left something and nobody writes there now; else nothing."""
    with suppress(OSError, RunError):
        names = [path.name for path in folder.iterdir()]
        if any(name in _LOGS or _is_leftover(name) for name in names) and is_free(folder):
            with writing(folder):
                tidy(folder)


@contextmanager
def beginning(folder: Path, names: Sequence[str] = (VECTOR_FILE, STORE, MANIFEST)) -> Iterator[Path]:
    """A place where the files of a new run are made; at the end they take the places of those of an earlier run.

    That run stays as it is until then, and where anything fails. The folder's lock must be held.

    Args:
        folder: of the run.
        names: of the files, the one that makes it a run last.

    Raises:
        RunError: its files cannot be written. SteerError: what is raised inside.
    """
    with made_aside(
        folder,
        lambda reason: (
            f"{folder}: a run cannot be begun there ({reason}); free some space, check the folder's rights, or choose "
            "another folder with `out`"
        ),
    ) as aside:
        yield aside
        store = next(name for name in names if name.endswith(".sqlite"))
        Store.reopen(aside / store).close()  # checks it, and has it keep a log from now on
        places = {folder / name: aside / name for name in names}
        gone = [folder / name for name in (*(name.replace(STORE, store) for name in _LOGS), PAGE)]
        take_places(places, gone=gone)


def prepare(folder: Path, *, otherwise: str = "choose another folder with `out`") -> None:
    """Make a folder and see that it can be written to, before anything costly is done.

    Args:
        folder: which.
        otherwise: what to do where it cannot, for the message.

    Raises:
        RunError: no files can be made or locked there.
    """
    try:
        probe(folder)
    except OSError as error:
        if error.errno in NO_LOCKS:
            raise RunError(
                f"{folder}: no file can be locked there, which a run's store needs ({error.strerror}: some network "
                f"file systems have no locks); {otherwise}"
            ) from error
        raise RunError(f"{folder}: no file can be written there ({error.strerror}); {otherwise}") from error


def read_swept_vector(folder: Path, manifest: Manifest) -> ControlVector:
    """The vector in a run directory, which is the one that the run began with.

    Raises:
        RunError: it is missing, damaged or another one.
    """
    path = folder / VECTOR_FILE
    try:
        vector = read_vector(path)
    except VectorFileError as error:
        raise RunError(f"{error}; it is the vector of this run: {AGAIN}") from error
    if vector_sha256(vector) != manifest.vector.sha256:
        raise RunError(f"{path}: is not the vector that this run began with; {AGAIN}")
    return vector


def _listing(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise RunError(f"{folder}: cannot be read ({error.strerror}); choose another folder with `out`") from error
