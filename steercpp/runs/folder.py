"""A run directory and what may be done with it; read this when a folder is refused, or to read its manifest.

    sweep.sqlite    the measurements (store.py)
    vector.gguf     the control vector that was swept: llama.cpp adds strength times its tensors
    manifest.json   the plan and where everything came from; "finished" is null until the last group is in

The manifest is written last when a run begins, so a folder without one holds no measurements. A **plan** is
everything that decides the numbers; two commands with the same plan are the same run.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeAlias

from steercpp.errors import RunError, VectorFileError
from steercpp.files import TEMPORARY, write_atomically
from steercpp.provenance import json_sha256
from steercpp.runs.store import AGAIN, FORMAT, Store
from steercpp.vectors.control_vector import ControlVector, vector_sha256
from steercpp.vectors.gguf import read_vector

Manifest: TypeAlias = dict[str, Any]

STORE, VECTOR_FILE, MANIFEST = "sweep.sqlite", "vector.gguf", "manifest.json"
OURS = (MANIFEST, STORE, f"{STORE}-wal", f"{STORE}-shm", VECTOR_FILE)
NEXT = "choose another folder with --out, or replace this one with --force"
_OPTIONAL = ("kl", "said")  # of a plan


@dataclass(frozen=True, slots=True)
class Plan:
    """What decides a sweep's numbers.

    Attributes:
        model_sha256: hash of the model file.
        vector: identity of the vector: a hash of its tensors, or of the pairs and method that it comes from.
        unit: "length", "norm" or "kl".
        strengths: ascending, 0 among them.
        items: kind of item to hash of all its items, for each kind that there is.
        random_directions, orthogonal, seed: directions that are controls.
        prompt_baseline: whether the instruction before every prompt is one, and that instruction.
        direction: +1 or -1, the wanted sign; max_loss: the budget. They decide where directions are measured.
        operator, positions, side: how the vector acts; gate: its identity, "" for none.
        n_ctx, n_batch, n_group: settings of the engine that decide which rows a batch holds.
        devices, flash_attn, llama_cpp: settings of the engine that reach the bits.
        kl: nats that strength 1 has in the unit "kl"; 0 in others, where plans are without it.
        said: how items are continued in words; plans of runs that say nothing are without it.
    """

    model_sha256: str
    vector: str
    unit: str
    strengths: tuple[float, ...]
    items: Mapping[str, str]
    random_directions: int
    orthogonal: bool
    prompt_baseline: bool
    instruction: str
    seed: int
    direction: int
    max_loss: float
    operator: str
    positions: str
    side: str
    gate: str
    n_ctx: int
    n_batch: int
    n_group: int
    devices: str
    flash_attn: str
    llama_cpp: str
    kl: float = 0.0
    said: Mapping[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """JSON's own types, as the manifest holds them."""
        plan = {**asdict(self), "strengths": list(self.strengths), "items": dict(self.items)}
        return {key: value for key, value in plan.items() if value or key not in _OPTIONAL}

    @property
    def sha256(self) -> str:
        """Hash of the whole plan."""
        return json_sha256(self.to_json())


def examine(folder: Path) -> Manifest | None:
    """The manifest of the run in a folder, or None where a run can begin.

    Raises:
        RunError: the folder is a file, holds other things, or a damaged run.
    """
    if not folder.exists():
        return None
    if not folder.is_dir():
        raise RunError(f"{folder}: is a file, not a folder; choose another place with --out")
    names = {path.name for path in _listing(folder) if not path.name.startswith(TEMPORARY)}
    if MANIFEST in names:
        return read_manifest(folder)
    if STORE in names:
        with Store.reopen(folder / STORE) as store:
            if store.finished():
                raise RunError(f"{folder}: holds measurements but no {MANIFEST}; {NEXT}")
    if foreign := sorted(names - set(OURS)):
        raise RunError(f"{folder}: holds {foreign[0]!r}, which is not a sweep's; {NEXT}")
    return None


def refuse_other_plan(folder: Path, manifest: Manifest, plan: Plan) -> None:
    """Make sure that the run in a folder is of this plan.

    Raises:
        RunError: it is not; the message tells what differs.
    """
    if changed := differing(manifest["plan"], plan):
        raise RunError(f"{folder}: holds a sweep of another plan (other {', '.join(changed)}); {NEXT}")


def prepare(folder: Path, *, otherwise: str = "use another --out") -> None:
    """Make a folder and see that it can be written to, before anything costly is done.

    Args:
        folder: which.
        otherwise: what to do where it cannot, for the message.

    Raises:
        RunError: no files can be made there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder, prefix=TEMPORARY) as probe:
            probe.write(bytes(4096))
    except OSError as error:
        raise RunError(f"{folder}: no file can be written there ({error.strerror}); {otherwise}") from error


@contextmanager
def new_folder_removed_on_failure(folder: Path) -> Iterator[None]:
    """Remove a folder again that did not exist before, if what is done inside fails and leaves it empty."""
    existed = folder.exists()
    try:
        yield
    except BaseException:
        if not existed:
            with suppress(OSError):
                folder.rmdir()
        raise


def differing(found: Mapping[str, Any], plan: Plan) -> list[str]:
    """What another plan has otherwise, in a user's words."""

    def flat(whole: Mapping[str, Any]) -> dict[str, Any]:
        return {**whole, **{f"{kind} items": sha256 for kind, sha256 in whole["items"].items()}, "items": None}

    names = {
        "model_sha256": "model", "random_directions": "number of random directions",
        "orthogonal": "orthogonal direction", "prompt_baseline": "prompt baseline", "max_loss": "max loss",
        "n_ctx": "n-ctx", "n_batch": "n-batch", "n_group": "keep-mib", "flash_attn": "flash attention",
        "llama_cpp": "version of llama.cpp", "said": "text settings",
    }  # fmt: skip
    old, new = flat(found), flat(plan.to_json())
    return [names.get(key, key) for key in {**new, **old} if old.get(key) != new.get(key)]


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a run.

    Raises:
        RunError: there is none, or it is not one.
    """
    path = folder / MANIFEST
    try:
        manifest: Manifest = json.loads(path.read_bytes())
    except NotADirectoryError as error:
        raise RunError(f"{folder}: is a file; give the folder of the run, the --out of a sweep") from error
    except FileNotFoundError as error:
        if not folder.exists():
            raise RunError(f"{folder}: does not exist; give the --out of a sweep") from error
        raise RunError(
            f"{folder}: holds no {MANIFEST}, so it is not a run directory; give the --out of a sweep"
        ) from error
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error.strerror}); check its rights") from error
    except ValueError as error:
        raise RunError(f"{path}: damaged, not JSON ({error}); {AGAIN}") from error
    found = manifest.get("format") if isinstance(manifest, dict) else None
    if found != FORMAT:
        other = f" but of a {found!r} run, which another version of steercpp reads" if found else ""
        raise RunError(f"{path}: not the manifest of a {FORMAT!r} run{other}; {AGAIN}")
    _check_whole(path, manifest)
    plan = manifest["plan"]
    if manifest.get("plan_sha256") != json_sha256(plan):
        raise RunError(f"{path}: damaged, its plan does not have the hash that it names; {AGAIN}")
    return manifest


def _check_whole(path: Path, manifest: Manifest) -> None:
    plan = manifest.get("plan")
    needed = {field.name for field in fields(Plan)} - set(_OPTIONAL)
    if not isinstance(plan, dict) or not needed <= set(plan) or not isinstance(plan["items"], dict):
        raise RunError(f"{path}: damaged, its plan is not complete; {AGAIN}")
    parts = {"model": {"file", "path"}, "vector": {"sha256", "layers"}, "items": set(), "controls_off": set()}
    whole = all(isinstance(manifest.get(name), dict) and keys <= set(manifest[name]) for name, keys in parts.items())
    if not whole or not {"finished", "tokens", "resume", "gate_open", "notes"} <= set(manifest):
        raise RunError(f"{path}: damaged, parts of it are missing; {AGAIN}")


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
    if vector_sha256(vector) != manifest["vector"]["sha256"]:
        raise RunError(f"{path}: is not the vector that this run began with; {AGAIN}")
    return vector


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write or replace the manifest in one step."""
    write_atomically(folder / MANIFEST, (json.dumps(manifest, indent=2, allow_nan=False) + "\n").encode())


def clear(folder: Path) -> None:
    """Remove a run's own files, the manifest first; anything else in the folder stays."""
    for name in OURS:
        (folder / name).unlink(missing_ok=True)


def _listing(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise RunError(f"{folder}: cannot be read ({error.strerror}); use another --out") from error
