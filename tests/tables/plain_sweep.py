"""A sweep of behavior items with a random vector and without controls, whose cost tables measure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from steercpp.data.items import BehaviorItem
from steercpp.engine.engine import Engine
from steercpp.runs.result import SweepResult
from steercpp.sweeps.sweep import sweep
from steercpp.vectors.control_vector import ControlVector
from steercpp.vectors.layers import default_layers


def band_of(engine: Engine) -> list[int]:
    """The layers that are steered."""
    return [il for il in default_layers(engine.n_layer) if il]


def plain_sweep(
    engine: Engine, items: Sequence[BehaviorItem], n_strengths: int, out: Path, **options: Any
) -> SweepResult:
    """Measure at so many strengths beside 0."""
    rng = np.random.default_rng(0)
    push = {il: (0.02 * rng.standard_normal(engine.n_embd)).astype(np.float32) for il in band_of(engine)}
    return sweep(
        engine, ControlVector(push, engine.architecture, engine.n_layer), behavior=items,
        strengths=tuple(0.1 * (i + 1) for i in range(n_strengths)), out=out, random_directions=0, orthogonal=False,
        prompt_baseline=False, **options,
    )  # fmt: skip
