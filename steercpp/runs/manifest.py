"""What a run directory says of itself: the plan, where everything came from, and how far it is; manifest.json.

The manifest is written last when a run begins, so a folder without one holds no measurements. "finished" is null until
the last group is in.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import dacite

from steercpp.errors import RunError
from steercpp.files import is_replaced, recover, why_kept, write_atomically
from steercpp.inputs import read_input, reading
from steercpp.provenance import json_sha256
from steercpp.runs.database import AGAIN, FORMAT, FORMAT_4, refuse_newer
from steercpp.runs.plan import Plan, PlannedSettings, TextOptions

MANIFEST = "manifest.json"
MOST_STRENGTHS = 10_000  # ten times what a sweep takes
_GATE = re.compile(r"\d{1,9}:(below:)?-?\d+(\.\d+)?(e[+-]?\d+)?:[^:]*", re.ASCII)  # as `Gate.identity` writes it
_NEEDED = ("notes", "finished", "tokens", "resume", "gate_open")  # keys of every manifest, though they may be null
# What is taken for keys that a manifest lacks.
_ABSENT: dict[str, Any] = {"command": "", "begun": "", "engine": {}, "versions": {}, "machine": {}}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRecord:
    """Which model was measured; see `OpenedModel.identity` in engine/opened_model.py. A single file has no shards."""

    file: str
    path: str
    bytes: int | None = None
    mtime_ns: int | None = None
    shards: tuple[Mapping[str, Any], ...] = ()
    sha256: str = ""
    architecture: str = ""
    description: str = ""

    def record(self) -> dict[str, Any]:
        """Plain data for JSON."""
        values = asdict(self)
        return {key: list(value) if key == "shards" else value for key, value in values.items() if value != ()}


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationRecord:
    """The push that is strength 1 in the unit "kl", see `Calibration` in sweeps/calibration.py.

    `floor` is None in runs that did not measure it.
    """

    strength: float
    target: float
    quantile: float
    kl: float
    n_tokens: int
    prompts_sha256: str
    floor: float | None = None

    def record(self) -> dict[str, Any]:
        """Plain data for JSON, as it was read."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorRecord:
    """Which vector was swept, with tensors as strength 1 adds them.

    Attributes:
        sha256: hash of its tensors.
        layers: the steered ones, ascending.
        norms: of its tensors, in that order.
        residual_norms: median norm of the residual stream there; None in the unit "length".
        calibration: what was measured for the unit "kl"; None in others.
    """

    sha256: str
    layers: tuple[int, ...]
    norms: tuple[float, ...] = ()
    residual_norms: tuple[float, ...] | None = None
    calibration: CalibrationRecord | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenCounts:
    """The work of a run: tokens, and tokens times blocks, by the run and by a plain loop that measures the same.

    The loop decodes every item at every strength in full, each prompt again for each of its longer continuations.
    What comes before the first strength (pairs, norms, gates) is counted for neither. Generated texts are counted
    apart; None where there are none.
    """

    decoded: int
    plain_loop: int
    token_layers: int
    token_layers_plain: int
    token_layers_texts: int | None = None
    token_layers_texts_plain: int | None = None

    def record(self) -> dict[str, int]:
        """Plain data for JSON."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumeCounts:
    """How many steered passes were resumed above the unsteered layers, from which layer, and why others were not."""

    resumed: bool
    first_layer: int
    reason: str
    n_resumed: int
    n_in_full: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PackingRecord:
    """How far packing moves what is measured from each query's own run.

    Attributes:
        how: as `Engine.packing`.
        n_compared: unsteered queries that were decoded once more, each by itself.
        n_equal: those of them whose numbers have the same bits.
        largest: the largest difference of a log-probability, in nats.
    """

    how: str
    n_compared: int
    n_equal: int
    largest: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Addition:
    """Strengths, items or texts that were added to a run: when, by which command, and what the run was before.

    Attributes:
        begun: when, in UTC, ISO 8601.
        command: the command line.
        plan_sha256: of the plan before.
        items: how many there were before, as in the manifest.
    """

    begun: str
    command: str
    plan_sha256: str
    items: Mapping[str, int]

    def record(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {**asdict(self), "items": dict(self.items)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a run directory says of itself.

    Attributes:
        command: the command line that began the run.
        begun, finished: times in UTC, ISO 8601; finished is None until all is measured.
        plan: what decides the numbers.
        model, vector: what was measured, and what was swept.
        items: kind of item to how many there are.
        engine: all settings of the engine.
        versions, machine: of Python and packages; of the system.
        tokens, resume: the work, once it is finished; resume is None where nothing was steered.
        packing: how far packing moves the numbers; None in runs that did not measure it.
        gate_open: kind of item to how many prompts pass the gate; None without a gate.
        controls_off: each control that is not to be had, with the reason.
        notes: what of the scoring is not as usual, in sentences.
        rows_sha256: of what was measured, see `Store.rows_sha256`; None before the end, and in earlier versions' runs.
        telling_strength: the candidate, where the testing own answers are measured beside 0; None before there is
            one, and where the sweep has no such items.
        additions: what was added to the run since it began, in that order; the plan and all else is of today.
        control_strength: where the directions to compare with are measured; None in a run that nothing was added to,
            whose directions are at one strength.
    """

    command: str
    begun: str
    plan: Plan
    model: ModelRecord
    vector: VectorRecord
    items: Mapping[str, int]
    engine: Mapping[str, Any]
    versions: Mapping[str, Any]
    machine: Mapping[str, Any]
    controls_off: Mapping[str, str]
    notes: tuple[str, ...] = ()
    finished: str | None = None
    tokens: TokenCounts | None = None
    resume: ResumeCounts | None = None
    packing: PackingRecord | None = None
    gate_open: Mapping[str, int] | None = None
    telling_strength: float | None = None
    rows_sha256: str | None = None
    additions: tuple[Addition, ...] = ()
    control_strength: float | None = None

    @property
    def first_plan_sha256(self) -> str:
        """Hash of the plan that the run began with, which its store names."""
        return self.additions[0].plan_sha256 if self.additions else self.plan.sha256

    def starts(self, kind: str) -> tuple[int, ...]:
        """The numbers of the items of a kind that were the first of those that the run began with, or of an addition.

        Items are packed with those of the same addition only, so that what was measured before keeps its batches.
        """
        counts = {addition.items.get(kind, 0) for addition in self.additions}
        return (0, *sorted(n for n in counts if 0 < n < self.items.get(kind, 0)))

    def to_json(self) -> dict[str, Any]:
        """JSON's own types, as the file holds them."""
        residual_norms = self.vector.residual_norms
        calibration = None if self.vector.calibration is None else self.vector.calibration.record()
        vector = asdict(self.vector) | {
            "calibration": calibration, "layers": list(self.vector.layers), "norms": list(self.vector.norms),
            "residual_norms": None if residual_norms is None else list(residual_norms),
        }  # fmt: skip
        return {
            "format": FORMAT, "command": self.command, "begun": self.begun, "finished": self.finished,
            "plan": self.plan.to_json(), "plan_sha256": self.plan.sha256, "seed": self.plan.seed,
            "model": self.model.record(), "vector": vector, "items": dict(self.items), "engine": dict(self.engine),
            "versions": dict(self.versions), "machine": dict(self.machine),
            "tokens": None if self.tokens is None else self.tokens.record(),
            "resume": None if self.resume is None else asdict(self.resume),
            "gate_open": None if self.gate_open is None else dict(self.gate_open),
            "controls_off": dict(self.controls_off), "notes": list(self.notes),
            **({} if self.packing is None else {"packing": asdict(self.packing)}),
            **({} if self.rows_sha256 is None else {"rows_sha256": self.rows_sha256}),
            **({} if self.telling_strength is None else {"telling_strength": self.telling_strength}),
            **({} if self.control_strength is None else {"control_strength": self.control_strength}),
            **({"additions": [addition.record() for addition in self.additions]} if self.additions else {}),
        }  # fmt: skip


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a run.

    Raises:
        RunError: there is none, or it is not one.
    """
    with reading(folder / MANIFEST, RunError, again=AGAIN):
        path = folder / MANIFEST
        if not path.exists():
            with suppress(OSError):
                recover(folder)  # a process may have been killed while it replaced the run
        try:
            record = json.loads(read_input(path))
        except NotADirectoryError as error:
            raise RunError(f"{folder}: is a file; give the folder of the run, the `out` of a sweep") from error
        except FileNotFoundError as error:
            lack = f"holds no {MANIFEST}, so it is not a run directory" if folder.exists() else "does not exist"
            refuse_kept(folder)
            if is_replaced(folder):
                raise RunError(
                    f"{folder}: another process replaces the run there, or was killed while it did; repeat the command "
                    "as a user who may write there"
                ) from error
            raise RunError(f"{folder}: {lack}; give the `out` of a sweep") from error
        except OSError as error:
            raise RunError(f"{path}: cannot be read ({error.strerror}); check its rights") from error
        except ValueError as error:
            raise RunError(f"{path}: damaged, not JSON ({error}); {AGAIN}") from error
        form = record.get("format") if isinstance(record, dict) else None
        refuse_newer(path, form)
        if form not in (FORMAT, FORMAT_4):
            other = f" but of a {form!r} run, which another version of steercpp reads" if form else ""
            raise RunError(f"{path}: not the manifest of a {FORMAT!r} run{other}; {AGAIN}")
        return _parsed(path, record)


def refuse_kept(folder: Path) -> None:
    """See that no manifest is kept in a folder, by another user or from where the folder was copied from.

    Raises:
        RunError: one is; the message says who has to do what.
    """
    if why := why_kept(folder, MANIFEST):
        raise RunError(f"{folder}: {why}")


def is_finished(folder: Path) -> bool:
    """Whether a run in a folder is finished.

    Raises:
        RunError: its manifest is damaged.
    """
    return (folder / MANIFEST).is_file() and read_manifest(folder).finished is not None


def _parsed(path: Path, record: Mapping[str, Any]) -> Manifest:
    """The manifest in a file's JSON."""
    try:
        plan = _of_its_types(Plan.from_json(record["plan"]))
    except (KeyError, TypeError, ValueError, dacite.DaciteError) as error:
        raise RunError(f"{path}: damaged, its plan is not complete; {AGAIN}") from error
    try:
        known = {**_ABSENT, **record, **{name: record[name] for name in _NEEDED}, "plan": plan}
        manifest = dacite.from_dict(Manifest, known, dacite.Config(cast=[tuple]))  # leaves out what it does not know
    except (KeyError, TypeError, ValueError, dacite.DaciteError) as error:
        raise RunError(f"{path}: damaged, parts of it are missing; {AGAIN}") from error
    if record.get("plan_sha256") != json_sha256(record["plan"]):
        raise RunError(f"{path}: damaged, its plan does not have the hash that it names; {AGAIN}")
    of_vector = manifest.vector
    if any(norms and len(norms) != len(of_vector.layers) for norms in (of_vector.norms, of_vector.residual_norms)):
        raise RunError(f"{path}: damaged, the norms are not those of the vector's layers; {AGAIN}")
    return manifest


def _of_its_types(plan: Plan) -> Plan:
    """The plan itself, if each value is of its field's type and numbers can be computed with.

    Raises:
        dacite.DaciteError, ValueError: one is not.
    """
    dacite.from_dict(Plan, {field.name: getattr(plan, field.name) for field in fields(Plan)})
    dacite.from_dict(PlannedSettings, asdict(plan.engine))
    if plan.texts is not None:
        dacite.from_dict(TextOptions, asdict(plan.texts))
    numbers = (*plan.strengths, plan.max_loss, plan.kl)
    if not all(map(math.isfinite, numbers)) or not 0 < len(plan.strengths) <= MOST_STRENGTHS or plan.seed < 0:
        raise ValueError("a number of the plan is none")
    if plan.gate and not _GATE.fullmatch(plan.gate):
        raise ValueError("its gate is none")
    return plan


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write or replace the manifest in one step."""
    write_atomically(folder / MANIFEST, (json.dumps(manifest.to_json(), indent=2, allow_nan=False) + "\n").encode())
