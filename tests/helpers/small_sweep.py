"""A sweep of a few seconds on the tiny model: its numbers mean nothing, its mechanics are those of any sweep."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from steercpp.data.items import AnswerItem, BehaviorItem, ChoiceItem, TextItem, item_json
from steercpp.engine.engine import Engine
from steercpp.runs.folder import STORE
from steercpp.runs.manifest import is_finished, read_manifest, write_manifest
from steercpp.runs.result import SweepResult
from steercpp.runs.store import Store
from steercpp.sweeps.sweep import sweep
from steercpp.vectors.control_vector import ControlVector

WORDS = ("the", "time", "man", "day", "life", "world", "state", "way")
BEHAVIOR = tuple(
    BehaviorItem(f"b-{word}", f"Do you like the {word}", (" cannot", " no"), (" sure", " yes good")) for word in WORDS
)
CHOICE = tuple(
    ChoiceItem(f"c-{word}", f"Which {word} is it?", ("one", "two", "old", "new"), i % 4, "small")
    for i, word in enumerate(WORDS)
)
ANSWER = tuple(
    AnswerItem(f"a-{word}", f"What of the {word}?", (" It is good work", " no", f" It is the {word} of life"))
    for word in (*WORDS, "year", "work", "people", "house")
)
TEXT = tuple(
    TextItem(f"t-{word}", f"The {word} of the world is good for all the people of the state.") for word in WORDS
)
STRENGTHS = (-0.5, 0.5, 1.0)
INSTRUCTION = "no no way cannot"


def small_vector(engine: Engine) -> ControlVector:
    """Unit directions at two layers."""
    rng = np.random.default_rng(1)
    rows = {il: rng.standard_normal(engine.n_embd) for il in (1, 2)}
    directions = {il: (row / np.linalg.norm(row)).astype(np.float32) for il, row in rows.items()}
    return ControlVector(directions, engine.architecture, engine.n_layer)


def small_sweep(engine: Engine, out: Path, **changes: Any) -> SweepResult:
    """Sweep the items above with two random directions and the other controls, or none of all.

    Keyword arguments replace those of `sweep`.
    """
    controlled = changes.get("random_directions", 2) > 0
    options: dict[str, Any] = {
        "behavior": BEHAVIOR, "choice": CHOICE, "strengths": STRENGTHS, "unit": "norm", "random_directions": 2,
        "orthogonal": controlled, "prompt_baseline": controlled, "instruction": INSTRUCTION,
    }  # fmt: skip
    vector = changes.pop("vector", small_vector(engine))
    return sweep(engine, vector, out=out, **{**options, **changes})


def write_items(folder: Path) -> tuple[Path, Path, Path]:
    """Files of behavior items, choice items and contrast pairs, for the command line."""
    files = folder / "b.jsonl", folder / "c.jsonl", folder / "p.jsonl"
    pairs = [{"positive": f"cannot no {word}", "negative": f"sure yes {word}"} for word in WORDS]
    records = [item_json(item) for item in BEHAVIOR], [item_json(item) for item in CHOICE], pairs
    for path, rows in zip(files, records, strict=True):
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return files


def without_hash(folder: Path) -> None:
    """Let the manifest say nothing of the rows, for a test that changes them: as earlier versions wrote it."""
    write_manifest(folder, replace(read_manifest(folder), rows_sha256=None))


def numbers(folder: Path) -> list[tuple[Any, ...]]:
    """Everything that was measured, bit for bit: label, kind, strength, item, continuation and nats."""
    rows: list[tuple[Any, ...]] = []
    with Store.read(folder / STORE, settled=is_finished(folder)) as store:
        for label, kind, s in sorted({(group.label, group.kind, group.strength) for group in store.finished()}):
            layout, (nats,) = store.layout(kind), store.logprobs(label, kind, [s])
            places = np.arange(len(nats)) - layout.offsets[layout.items]
            rows += [
                (label, kind, s, item, place, value)
                for item, place, value in zip(layout.items.tolist(), places.tolist(), nats.tolist(), strict=True)
                if value == value
            ]
    return rows
