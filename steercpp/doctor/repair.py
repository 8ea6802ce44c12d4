"""A corrected control vector from a faulty file; read this for what each repair does.

A repair never guesses: it drops what cannot be used, moves and turns what was measured to be at the wrong place or
sign, and says each change. Where the directions themselves are wrong there is nothing to repair.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import numpy as np

from steercpp.aliases import FloatArray
from steercpp.doctor.findings import Finding, comes_shifted
from steercpp.doctor.vector import Report
from steercpp.errors import VectorFileError
from steercpp.vectors.control_vector import LAYER_KEYS, ControlVector, MetaValue, can_be_stored, without_strengths
from steercpp.vectors.gguf import MAX_LAYERS, write_vector
from steercpp.vectors.notes import TOKEN, from_cvector_generator

QUALITY = "what was stored about the directions' quality is left out: it was that of the faulty ones"


@dataclass(slots=True)
class _Draft:
    """A vector on its way; layers are those of the file until they are moved, last of all."""

    directions: dict[int, FloatArray]
    metadata: dict[str, MetaValue]
    model_hint: str
    moved: int = 0
    changes: list[str] = field(default_factory=list)


def repaired(report: Report) -> tuple[ControlVector, tuple[str, ...]]:
    """The vector without the faults that can be mended, and each change in a sentence.

    Raises:
        VectorFileError: a fault for which no repair gives a right vector, or nothing would be left.
    """
    path = report.loose.path
    if fatal := [finding for finding in report.findings if finding.is_fatal]:
        raise VectorFileError(f"{path}: cannot be repaired: {fatal[0].sentence}")
    stored = {key: value for key, value in report.loose.metadata.items() if can_be_stored(key, value)}
    draft = _Draft(dict(report.directions), stored, report.loose.model_hint)
    for finding in report.findings:
        if finding.repair:
            _STEPS.get(finding.code, _by_writing)(draft, finding, report)
            draft.changes.append(finding.repair)
    directions = {il - draft.moved: row for il, row in draft.directions.items() if il >= draft.moved}
    if not directions:
        raise VectorFileError(f"{path}: nothing would be left after the repair; extract the vector again")
    _drop_quality(draft, report)
    _drop_strengths(draft, report)
    if comes_shifted(report.loose):  # and was moved, or its pairs show that the layers it names are right
        draft.metadata["layer_convention"] = "applied"
        draft.metadata.setdefault("token", TOKEN)
    draft.metadata["repaired"] = tuple(dict.fromkeys(fault.code for fault in report.findings if fault.repair))
    n_layer = _depth(report, max(directions) + 1)
    return ControlVector(directions, draft.model_hint, n_layer, draft.metadata), tuple(draft.changes)


def write_repaired(report: Report, out: Path | str, *, force: bool = False) -> tuple[str, ...]:
    """Write the repaired vector to another file, and return the changes.

    Raises:
        VectorFileError: as `repaired` and `write_vector`.
    """
    vector, changes = repaired(report)
    write_vector(out, vector, force=force)
    return changes


_Step: TypeAlias = Callable[[_Draft, Finding, Report], None]


def _by_writing(draft: _Draft, finding: Finding, report: Report) -> None:
    """Nothing to do: reading loosely has left it out already, or writing does it right."""


def _drop(draft: _Draft, finding: Finding, report: Report) -> None:
    for il in finding.layers:
        draft.directions.pop(il, None)


def _turn(draft: _Draft, finding: Finding, report: Report) -> None:
    for il in finding.layers:
        if il in draft.directions:
            draft.directions[il] = -draft.directions[il]


def _move(draft: _Draft, finding: Finding, report: Report) -> None:
    draft.moved = 1
    draft.metadata["layer_convention"] = "applied"


def _name_model(draft: _Draft, finding: Finding, report: Report) -> None:
    assert report.target is not None, "a hint is written only where the model is known"
    draft.model_hint = report.target.architecture


_STEPS: dict[str, _Step] = {
    "zero": _drop,
    "layer-missing": _drop,
    "layer-unsteerable": _drop,
    "wrong-sign": _turn,
    "layer-shift": _move,
    "hint": _name_model,
}


def _drop_quality(draft: _Draft, report: Report) -> None:
    """Metadata with one value for each layer of the file fit no other layers or signs."""
    turned = any(finding.code == "wrong-sign" for finding in report.findings)
    n_layers = len(draft.directions)
    fits = {key for key, value in draft.metadata.items() if isinstance(value, tuple) and len(value) == n_layers}
    stale = [key for key in LAYER_KEYS if key in draft.metadata and (turned or key not in fits)]
    for key in stale:
        del draft.metadata[key]
    if stale:
        draft.changes.append(QUALITY)


def _drop_strengths(draft: _Draft, report: Report) -> None:
    """A calibration, a recommended strength: measured with what the file added, and wrong once that is another."""
    named = {p.layer for p in report.loose.pieces if p.layer is not None and (p.row is None or p.row.any())}
    acting = {il: row for il, row in draft.directions.items() if row.any()}
    same = acting.keys() == named and all(np.array_equal(row, report.directions[il]) for il, row in acting.items())
    if same and not draft.moved:
        return
    kept = without_strengths(draft.metadata)
    if stale := sorted(draft.metadata.keys() - kept.keys()):
        draft.metadata = kept
        draft.changes.append(f"left out: {', '.join(stale)}: true of the faulty directions only")


def _depth(report: Report, least: int) -> int:
    """Blocks of the model: as it says itself, as the file says, or the least that holds all layers."""
    if report.target is not None:
        return max(report.target.n_layer, least)
    stored = report.loose.n_layer
    count = report.loose.header.values.get("controlvector.layer_count")
    if stored is None and from_cvector_generator(report.loose.header) and count is not None:
        stored = count.value + 1 if type(count.value) is int else None
    return stored if stored is not None and least <= stored <= MAX_LAYERS else least
