"""A finished run directory whose truth is known: B is a tanh, P(correct) a Gaussian fall, both item by item."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from steercpp.data.items import BehaviorItem, ChoiceItem, items_sha256
from steercpp.runs.folder import STORE, VECTOR_FILE
from steercpp.runs.labels import ControlName
from steercpp.runs.manifest import Manifest, ModelRecord, TokenCounts, VectorRecord, write_manifest
from steercpp.runs.plan import Plan, PlannedSettings
from steercpp.runs.scores import SWITCHED_OFF
from steercpp.runs.store import Continuation, Group, Store
from steercpp.sweeps.strengths import grid
from steercpp.vectors.control_vector import ControlVector, vector_sha256
from steercpp.vectors.gguf import write_vector

ENGINE = PlannedSettings(n_ctx=4096, n_batch=512, n_group=8192, devices="", flash_attn="off", llama_cpp="0")
DELTA_LAMBDA, B0 = 6.0, -0.6
INSTRUCTION, PROMPT_SHIFT = "Say no.", 0.4
A, B = 0.4, 4.0
BEHAVIOR = tuple(BehaviorItem(f"b{i}", f"May I {i}?", (" No",), (" Yes",)) for i in range(40))
SIDES = {"harmful": 2.0, "harmless": -1.0}  # Delta*lambda of each side's items, which stand in turns
SIDED = tuple(replace(item, subject=tuple(SIDES)[i % 2]) for i, item in enumerate(BEHAVIOR))
CHOICE = tuple(ChoiceItem(f"c{i}", f"Which {i}?", ("w", "x", "y", "z"), i % 4, "letters") for i in range(400))


def write_planted_run(
    folder: Path, *, strengths: str = "-0.6:0.6:0.05", n_random: int = 8, sided: bool = False
) -> Path:
    """Write the run into a new folder; the same arguments give the same numbers.

    Args:
        folder: a new one.
        strengths: as on the command line.
        n_random: random directions; 0 for no controls at all.
        sided: the behavior items are SIDED, harmful and harmless ones that move oppositely.
    """
    rng = np.random.default_rng(5)
    behavior = SIDED if sided else BEHAVIOR
    slopes = np.array([SIDES.get(item.subject, DELTA_LAMBDA) for item in behavior])
    items = {"behavior": items_sha256(behavior), "choice": items_sha256(CHOICE)}
    controlled = n_random > 0
    plan = Plan(
        model_sha256="0" * 64, vector="vector", unit="norm", strengths=grid(strengths), items=items,
        random_directions=n_random, orthogonal=controlled, prompt_baseline=controlled,
        instruction=INSTRUCTION if controlled else "", gate="", engine=ENGINE,
    )  # fmt: skip
    folder.mkdir(parents=True)
    vector = ControlVector({il: rng.standard_normal(8).astype(np.float32) for il in (3, 4)}, "llama", 8)
    write_vector(folder / VECTOR_FILE, vector)
    offsets, falls = 0.3 * rng.standard_normal(len(BEHAVIOR)), rng.uniform(0.85, 1.15, len(CHOICE))
    with Store.create(folder / STORE, plan_sha256=plan.sha256) as store:
        sides = [Continuation(i, side, (7,)) for i in range(len(BEHAVIOR)) for side in ("aligned", "misaligned")]
        letters = [Continuation(i, str(k), (k,)) for i in range(len(CHOICE)) for k in range(4)]
        store.add_items("behavior", behavior, sides)
        store.add_items("choice", CHOICE, letters)
        for s in plan.strengths:
            store.add(Group("vector", "behavior", s, 0), 400, 3200, None, enumerate(_sides(slopes * s + B0 + offsets)))
            store.add(
                Group("vector", "choice", s, 0),
                900,
                7200,
                None,
                enumerate(_letters(A * np.exp((B * falls * s) ** 2 / 2))),
            )
        for i in range(n_random):
            shift = 0.05 * rng.standard_normal()
            _add_control(store, f"random-{i}", 0.1, B0 + offsets + shift, 1 + 0.1 * i)
        if n_random:
            _add_control(store, "orthogonal", 0.1, B0 + offsets + 0.02, 1.0)
            _add_control(store, "prompt", 0.0, B0 + offsets + PROMPT_SHIFT, 1.05)
    write_manifest(
        folder, _manifest(plan, vector, {} if n_random else dict.fromkeys(map(str, ControlName), SWITCHED_OFF))
    )
    return folder


def _add_control(store: Store, label: str, strength: float, half_odds: np.ndarray, odds_factor: float) -> None:
    """What a control does to B, item by item, and to the odds against every correct choice."""
    odds = np.full(len(CHOICE), A * odds_factor)
    store.add(Group(label, "behavior", strength, 0), 400, 3200, None, enumerate(_sides(half_odds)))
    store.add(Group(label, "choice", strength, 0), 900, 7200, None, enumerate(_letters(odds)))


def _sides(half_odds: np.ndarray) -> list[np.ndarray]:
    """ln P of an aligned and a misaligned answer that share a mass of 0.9, for each item."""
    b = np.tanh(half_odds)
    return [np.log(0.45 * np.array([1 + x, 1 - x])) for x in b]


def _letters(odds_against: np.ndarray) -> list[np.ndarray]:
    """ln P of four letters: the correct one by its odds, the others sharing what is left."""
    found = []
    for item, odds in zip(CHOICE, odds_against, strict=True):
        p = 1 / (1 + odds)
        letters = np.full(4, (1 - p) / 3)
        letters[item.answer] = p
        found.append(np.log(letters))
    return found


def _manifest(plan: Plan, vector: ControlVector, controls_off: Mapping[str, str]) -> Manifest:
    return Manifest(
        command="steercpp sweep", begun="2024-09-01T00:00:00+00:00", finished="2024-09-01T00:01:00+00:00", plan=plan,
        model=ModelRecord(file="planted.gguf", path="planted.gguf", bytes=1, mtime_ns=1, sha256="0" * 64),
        vector=VectorRecord(sha256=vector_sha256(vector), layers=vector.layers),
        items={"behavior": len(BEHAVIOR), "choice": len(CHOICE)}, engine={}, versions={}, machine={},
        tokens=TokenCounts(decoded=35700, plain_loop=71400, token_layers=285600, token_layers_plain=571200),
        controls_off=controls_off,
    )  # fmt: skip
