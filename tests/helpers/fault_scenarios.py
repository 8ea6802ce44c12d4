"""What is done while file operations fail: each scenario is the library call of a command."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import matplotlib.figure  # imported once, in the parent
import numpy as np
from planted_run import write_planted_run
from small_sweep import BEHAVIOR, CHOICE, small_sweep, small_vector

import steercpp.reports.figures
import steercpp.reports.item_figures
import steercpp.reports.page
import steercpp.reports.tradeoff_figure
from steercpp.engine.engine import Engine
from steercpp.experiments.constants.derive import Constants
from steercpp.experiments.constants.store import write_constants
from steercpp.experiments.cross import Push, cross
from steercpp.reports.report import write_score
from steercpp.runs.judgement import judge
from steercpp.runs.result import open_run
from steercpp.vectors.control_vector import ControlVector
from steercpp.vectors.formats import write_any_vector

assert matplotlib.figure and steercpp.reports.page


def sweep_anew(model: str, out: str) -> None:
    """A sweep of two strengths with a random direction, or what of it is missing."""
    with Engine(model, threads=1) as engine:
        small_sweep(
            engine, Path(out), behavior=BEHAVIOR[:3], choice=CHOICE[:2], strengths=(0.5, 1.0), random_directions=1
        )


def sweep_other(model: str, out: str) -> None:
    """Another plan in the same folder, with `force`."""
    with Engine(model, threads=1) as engine:
        small_sweep(
            engine, Path(out), behavior=BEHAVIOR[3:6], choice=CHOICE[2:4], strengths=(-0.5, 0.5), random_directions=1,
            force=True,
        )  # fmt: skip


def matrix(model: str, out: str) -> str:
    """A cross of one vector, or what of it is missing."""
    with Engine(model, threads=1) as engine:
        found = cross(engine, [Push("v", small_vector(engine), 1.0)], {"b": BEHAVIOR[:3]}, out=Path(out))
    return str({**found.record(), "token_layers": None})  # more than one process has computed


def vector(_: str, path: str) -> None:
    """A vector of n_embd 256 in the place of another; zeros are all it does not hold."""
    rng = np.random.default_rng(7)
    rows = {il: rng.standard_normal(256).astype(np.float32) for il in range(1, 17)}
    write_any_vector(path, ControlVector(rows, "llama", 17), force=True)


def score(run: str, out: str) -> None:
    """The tables of a run."""
    write_score(judge(open_run(run)), {"loss": 0.5}, Path(out))


def constants(_: str, run: str) -> None:
    """Constants beside a run."""
    plan = open_run(run).manifest.plan.sha256
    write_constants(Path(run), Constants({"plan_sha256": plan, "x": [1.0, 2.0]}, {"a": np.arange(900.0)}))


def planted(_: str, out: str) -> None:
    """A finished run without a model."""
    write_planted_run(Path(out), strengths="-1:1:1", n_random=0)


SCENARIOS: dict[str, Callable[[str, str], str | None]] = {
    "sweep": sweep_anew, "force": sweep_other, "cross": matrix, "vector": vector, "score": score,
    "constants": constants, "planted": planted,
}  # fmt: skip
