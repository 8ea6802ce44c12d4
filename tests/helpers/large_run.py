"""A finished run of many behavior items whose numbers are planted, in groups as a sweep commits them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from planted_run import ENGINE

from steercpp.data.items import BehaviorItem, items_sha256
from steercpp.runs.folder import STORE, VECTOR_FILE
from steercpp.runs.labels import ControlName
from steercpp.runs.manifest import Manifest, ModelRecord, TokenCounts, VectorRecord, write_manifest
from steercpp.runs.plan import Plan
from steercpp.runs.scores import SWITCHED_OFF
from steercpp.runs.store import Continuation, Group, Store
from steercpp.sweeps.strengths import grid
from steercpp.vectors.control_vector import ControlVector, vector_sha256
from steercpp.vectors.gguf import write_vector

N_GROUP = 256  # items
STRENGTHS = "-2:2:0.1"
DELTA_LAMBDA, B0 = 1.2, -0.4


def write_large_run(
    folder: Path,
    *,
    n_items: int = 100_000,
    strengths: str = STRENGTHS,
    committed: Callable[[int, int], None] | None = None,
) -> Path:
    """Write a run with one continuation on each side, without controls, into a new folder.

    Args:
        folder: a new one.
        n_items: of behavior.
        strengths: as on the command line.
        committed: called with (groups, of how many) after each of them.
    """
    rng = np.random.default_rng(7)
    items = tuple(
        BehaviorItem(f"b{i}", f"May I do what is thing number {i}?", (" No",), (" Yes",)) for i in range(n_items)
    )
    plan = Plan(
        model_sha256="0" * 64, vector="vector", unit="norm", strengths=grid(strengths),
        items={"behavior": items_sha256(items)}, random_directions=0, orthogonal=False, prompt_baseline=False,
        instruction="", gate="", engine=ENGINE,
    )  # fmt: skip
    folder.mkdir(parents=True)
    vector = ControlVector({il: rng.standard_normal(8).astype(np.float32) for il in (3, 4)}, "llama", 8)
    write_vector(folder / VECTOR_FILE, vector)
    slopes = DELTA_LAMBDA * rng.normal(1.0, 0.3, n_items)
    offsets, masses = B0 + 0.5 * rng.standard_normal(n_items), rng.uniform(0.6, 0.9, n_items)
    with Store.create(folder / STORE, plan_sha256=plan.sha256) as store:
        sides = [Continuation(i, side, (7 + i % 9, 3)) for i in range(n_items) for side in ("aligned", "misaligned")]
        store.add_items("behavior", items, sides)
    n_groups, n_done = -(-n_items // N_GROUP) * len(plan.strengths), 0
    with Store.reopen(folder / STORE) as store:
        for s in plan.strengths:
            b = np.tanh(slopes * s + offsets)
            nats = np.log(masses[:, None] / 2 * np.stack([1 + b, 1 - b], axis=1))
            for batch, first in enumerate(range(0, n_items, N_GROUP)):
                rows = enumerate(nats[first : first + N_GROUP], start=first)
                store.add(Group("vector", "behavior", s, batch), 400, 3200, None, rows)
                n_done += 1
                if committed is not None:
                    committed(n_done, n_groups)
        rows_sha256 = store.rows_sha256()
    manifest = Manifest(
        command="steercpp sweep", begun="2024-09-01T00:00:00+00:00", finished="2024-09-01T00:01:00+00:00", plan=plan,
        model=ModelRecord(file="planted.gguf", path="planted.gguf", bytes=1, mtime_ns=1, sha256="0" * 64),
        vector=VectorRecord(sha256=vector_sha256(vector), layers=vector.layers), items={"behavior": n_items}, engine={},
        versions={}, machine={}, controls_off=dict.fromkeys(map(str, ControlName), SWITCHED_OFF),
        tokens=TokenCounts(decoded=35700, plain_loop=71400, token_layers=285600, token_layers_plain=571200),
    )  # fmt: skip
    write_manifest(folder, replace(manifest, rows_sha256=rows_sha256))
    return folder
