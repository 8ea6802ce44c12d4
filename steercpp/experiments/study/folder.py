"""The folder of a study: its manifest, what was made in it and out of what; read this to see what is made again.

    study.json                  what was asked, with which files, and what is finished
    study.html                  all runs on one page, with links to their own
    PRESET/pairs/NAME.jsonl     contrast pairs that a steered model's answers made
    PRESET/vectors/NAME.gguf    control vectors, of unit length at each layer
    PRESET/runs/NAME/           a run directory for each run, as `steercpp report` and `steercpp score` open it

Of a matrix NAME is MODEL/VECTOR for vectors and MODEL/VECTOR/BAND/OPERATOR/SET for runs, and beside study.html lie
matrix.csv and matrix.json.

A file that was made is named in the manifest with the identity of what it was made of and with its own hash; it is made
again where either differs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import dacite

from steercpp.errors import RunError
from steercpp.files import TEMPORARY, write_atomically
from steercpp.inputs import read_input, reading
from steercpp.provenance import command, file_sha256, json_sha256, machine, now, versions
from steercpp.runs.folder import NEXT, prepare
from steercpp.runs.manifest import MANIFEST as RUN

MANIFEST, FORMAT = "study.json", "steercpp study 1"


@dataclass(frozen=True, slots=True)
class MadeFile:
    """What a file of a study was made of, and what it is, as hashes."""

    identity: str
    sha256: str


@dataclass(slots=True)
class StudyManifest:
    """What `study.json` says.

    Attributes:
        command, begun: of the call that began the study.
        finished: when all runs were; None until then.
        plan: everything that decides the study's numbers, as JSON.
        made: the files that were made, by their places in the folder.
        runs: folders of the finished study's runs, by name.
        versions, machine: what it was begun with and where.
    """

    plan: Mapping[str, Any]
    command: str
    begun: str
    versions: Mapping[str, Any]
    machine: Mapping[str, Any]
    finished: str | None
    made: dict[str, MadeFile] = field(default_factory=dict)
    runs: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The record, in the order of the file."""
        return {
            "format": FORMAT, "command": self.command, "begun": self.begun, "finished": self.finished,
            "plan": dict(self.plan), "made": {name: asdict(file) for name, file in self.made.items()},
            "runs": self.runs, "versions": dict(self.versions), "machine": dict(self.machine),
        }  # fmt: skip


class StudyFolder:
    """A study on disk; made by `open_folder`."""

    def __init__(self, path: Path, manifest: StudyManifest) -> None:
        self.path = path
        self.manifest = manifest

    def made(self, name: str, identity: Mapping[str, Any], make: Callable[[Path], None]) -> Path:
        """The file of this name, made by `make` unless it is there already and out of the same.

        Args:
            name: where it lies in the folder.
            identity: everything that decides what is in it.
            make: writes it, whole or not at all.
        """
        path, wanted = self.path / name, json_sha256(identity)
        known = self.manifest.made.get(name)
        if known is None or known.identity != wanted or not path.is_file() or file_sha256(path) != known.sha256:
            path.parent.mkdir(parents=True, exist_ok=True)
            make(path)
            self.manifest.made[name] = MadeFile(wanted, file_sha256(path))
            self.write()
        return path

    def finish(self, runs: Mapping[str, str], *, is_whole: bool = True) -> None:
        """Note which runs there are, by name with their folders, and, unless some are missing, that it is finished."""
        self.manifest.runs = dict(runs)
        self.manifest.finished = now() if is_whole else None
        self.write()

    def write(self) -> None:
        """Write the manifest in one step."""
        text = json.dumps(self.manifest.to_json(), indent=2, allow_nan=False) + "\n"
        write_atomically(self.path / MANIFEST, text.encode())


def open_folder(path: Path, plan: Mapping[str, Any], *, force: bool) -> StudyFolder:
    """The folder of a study with this plan, begun or new.

    Args:
        path: the folder.
        plan: everything that decides the study's numbers, as JSON.
        force: take another plan's place; what its files are made of decides which of them stay.

    Raises:
        RunError: it holds a study of another plan, other files, or cannot be written to.
    """
    stored = _read(path)
    others = [entry for entry in path.iterdir() if not entry.name.startswith(TEMPORARY)] if path.is_dir() else []
    if stored is None and others and not force:
        raise RunError(f"{path}: holds other files and no {MANIFEST}; {NEXT}")
    if stored is not None and not stored.made and not any(path.rglob(RUN)):
        stored = None  # it failed before anything was made
    if stored is not None and stored.plan != plan and not force:
        changed = sorted(key for key in {**plan, **stored.plan} if stored.plan.get(key) != plan.get(key))
        raise RunError(f"{path}: holds a study of another plan (other {', '.join(changed)}); {NEXT}")
    prepare(path)
    if stored is not None and stored.plan == plan:
        return StudyFolder(path, stored)
    made = {} if stored is None else stored.made
    manifest = StudyManifest(dict(plan), command(), now(), versions(), machine(), finished=None, made=made)
    folder = StudyFolder(path, manifest)
    folder.write()
    return folder


def _read(path: Path) -> StudyManifest | None:
    """The manifest in a folder, None where there is none.

    Raises:
        RunError: it is damaged.
    """
    with reading(path / MANIFEST, RunError, again=NEXT):
        file = path / MANIFEST
        try:
            record = json.loads(read_input(file))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise RunError(f"{file}: cannot be read ({error.strerror}); check its rights") from error
        except ValueError as error:
            raise RunError(f"{file}: damaged, not JSON ({error}); {NEXT}") from error
        if not isinstance(record, dict) or record.get("format") != FORMAT:
            raise RunError(f"{file}: not the manifest of a {FORMAT!r}; {NEXT}")
        try:
            return dacite.from_dict(StudyManifest, record)
        except dacite.DaciteError as error:
            raise RunError(f"{file}: not the manifest of a {FORMAT!r} ({error}); {NEXT}") from error
