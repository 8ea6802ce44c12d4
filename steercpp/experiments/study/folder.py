"""The folder of a study: its manifest, what was made in it and out of what; read this to see what is made anew.

    study.json                  what was asked, with which files, and what is finished
    PRESET/pairs/NAME.jsonl     contrast pairs that a steered model's answers made
    PRESET/vectors/NAME.gguf    control vectors, of unit length at each layer
    PRESET/runs/NAME/           a run directory for each run, as `steercpp report` and `steercpp score` open it

A file that was made is named in the manifest with the identity of what it was made of and with its own hash; it is made
anew where either differs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from steercpp.errors import RunError
from steercpp.files import write_atomically
from steercpp.provenance import command, file_sha256, json_sha256, machine, now, versions
from steercpp.runs.folder import NEXT, prepare
from steercpp.runs.manifest import MANIFEST as RUN

MANIFEST, FORMAT = "study.json", "steercpp study 1"


class StudyFolder:
    """A study on disk; made by `open_folder`."""

    def __init__(self, path: Path, manifest: dict[str, Any]) -> None:
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
        there = self.manifest["made"].get(name, {})
        if there.get("identity") != wanted or not path.is_file() or file_sha256(path) != there.get("sha256"):
            path.parent.mkdir(parents=True, exist_ok=True)
            make(path)
            self.manifest["made"][name] = {"identity": wanted, "sha256": file_sha256(path)}
            self.write()
        return path

    def finish(self, runs: Mapping[str, str]) -> None:
        """Note which runs there are, by name with their folders, and that all of them are finished."""
        self.manifest["runs"] = dict(runs)
        self.manifest["finished"] = now()
        self.write()

    def write(self) -> None:
        """Write the manifest in one step."""
        write_atomically(self.path / MANIFEST, (json.dumps(self.manifest, indent=2, allow_nan=False) + "\n").encode())


def open_folder(path: Path, plan: Mapping[str, Any], *, force: bool) -> StudyFolder:
    """The folder of a study with this plan, begun or new.

    Args:
        path: the folder.
        plan: everything that decides the study's numbers, as JSON.
        force: take another plan's place; what its files are made of decides which of them stay.

    Raises:
        RunError: it holds a study of another plan, other files, or cannot be written to.
    """
    found = _read(path)
    if found is None and path.is_dir() and any(path.iterdir()) and not force:
        raise RunError(f"{path}: holds other files and no {MANIFEST}; {NEXT}")
    if found is not None and not found["made"] and not any(path.rglob(RUN)):
        found = None  # it failed before anything was made
    if found is not None and found["plan"] != plan and not force:
        changed = sorted(key for key in {**plan, **found["plan"]} if found["plan"].get(key) != plan.get(key))
        raise RunError(f"{path}: holds a study of another plan (other {', '.join(changed)}); {NEXT}")
    prepare(path)
    if found is not None and found["plan"] == plan:
        return StudyFolder(path, found)
    made = {} if found is None else found["made"]
    manifest = {
        "format": FORMAT, "command": command(), "begun": now(), "finished": None, "plan": dict(plan), "made": made,
        "runs": {}, "versions": versions(), "machine": machine(),
    }  # fmt: skip
    folder = StudyFolder(path, manifest)
    folder.write()
    return folder


def _read(path: Path) -> dict[str, Any] | None:
    """The manifest in a folder, None where there is none.

    Raises:
        RunError: it is damaged.
    """
    file = path / MANIFEST
    try:
        manifest = json.loads(file.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise RunError(f"{file}: cannot be read ({error.strerror}); check its rights") from error
    except ValueError as error:
        raise RunError(f"{file}: damaged, not JSON ({error}); {NEXT}") from error
    parts = {"plan": dict, "made": dict, "runs": dict}
    whole = isinstance(manifest, dict) and all(isinstance(manifest.get(key), kind) for key, kind in parts.items())
    if not whole or manifest.get("format") != FORMAT or "finished" not in manifest:
        raise RunError(f"{file}: not the manifest of a {FORMAT!r}; {NEXT}")
    return dict(manifest)
