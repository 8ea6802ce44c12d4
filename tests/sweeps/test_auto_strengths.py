"""A grid that `sweep` finds itself: on the spec's own helpfulness, kept in the run, and refused where nothing tells."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from steercpp.data.items import OwnItem
from steercpp.data.prompts import Message
from steercpp.data.sets.embedded import load
from steercpp.engine.engine import Engine
from steercpp.errors import InputError, RunError
from steercpp.extraction.extract import extract
from steercpp.runs.folder import PREPARED
from steercpp.runs.manifest import MANIFEST
from steercpp.sweeps.bracket import HALF, SIXTEENTHS
from steercpp.sweeps.own_answers import own_answers
from steercpp.sweeps.spec import SweepSpec
from steercpp.sweeps.sweep import sweep
from steercpp.vectors.control_vector import ControlVector

pytestmark = pytest.mark.slow
EMBEDDED = load()
SMALL: dict[str, Any] = {"behavior": EMBEDDED.behavior()[:16], "random_directions": 1, "orthogonal": False}


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine(EMBEDDED.path, threads=1) as engine:
        yield engine


@pytest.fixture(scope="module")
def vector(engine: Engine) -> ControlVector:
    return extract(engine, EMBEDDED.pairs()[:24], layers=(5, 6))


def test_the_grid_ends_where_half_of_the_own_answers_is_lost(
    engine: Engine, vector: ControlVector, tmp_path: Path
) -> None:
    everyday = [OwnItem(f"own-{i}", (Message("user", item.question),)) for i, item in enumerate(EMBEDDED.choice()[:18])]
    own = own_answers(engine, everyday)
    result = sweep(engine, vector, **SMALL, own=own, strengths="auto", out=tmp_path / "run")
    plan = result.manifest.plan
    assert plan.unit == "norm" and len(plan.strengths) == 2 * len(SIXTEENTHS) + 1
    found = result.preparation
    assert found is not None and found.strengths == plan.strengths and found.token_layers["bracket"] > 0
    for sign, end in (("+", plan.strengths[-1]), ("-", -plan.strengths[0])):
        tried = dict(map(tuple, found.sides[sign]["tried"]))
        assert tried[found.sides[sign]["end"]] < HALF and abs(found.sides[sign]["end"]) <= end

    # the same call reads the bracket, and finds it again to the same bits where the run was lost
    again = sweep(engine, vector, **SMALL, own=own, strengths="auto", out=tmp_path / "run")
    assert again.decoded_now == 0 and again.manifest.plan == plan
    (tmp_path / "run" / MANIFEST).unlink()
    (tmp_path / "run" / "sweep.sqlite").unlink()
    before = engine.token_layers
    resumed = sweep(engine, vector, **SMALL, own=own, strengths="auto", out=tmp_path / "run")
    tokens = resumed.manifest.tokens
    assert resumed.manifest.plan == plan and tokens is not None
    assert engine.token_layers - before < tokens.token_layers + 2 * found.token_layers["bracket"]

    # a spec with strengths of its own takes them where "auto" is not said, and not where it is
    spec = SweepSpec(**SMALL, own=own, strengths=(-1.0, 1.0), unit="norm")
    of_spec = sweep(engine, vector, spec, strengths="auto", out=tmp_path / "spec")
    assert of_spec.manifest.plan == plan
    with pytest.raises(RunError, match="holds a sweep of another plan"):
        sweep(engine, vector, **SMALL, own=own, strengths="auto", seed=7, out=tmp_path / "run")


def test_choices_tell_where_half_is_lost(engine: Engine, vector: ControlVector, tmp_path: Path) -> None:
    result = sweep(engine, lambda: vector, **SMALL, choice=EMBEDDED.choice()[:40], strengths="auto", vector_id="v",
                   out=tmp_path / "run")  # fmt: skip
    strongest = max(result.rows(), key=lambda row: row.strength)
    at_0 = next(row for row in result.rows() if row.strength == 0)
    assert strongest.p_free is not None and at_0.p_free is not None
    assert strongest.p_free < 0.65 * at_0.p_free  # half of the first 32; these are 40


def test_what_has_no_cliff_to_find_is_refused_in_a_sentence(
    engine: Engine, tiny_engine: Engine, vector: ControlVector, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    with pytest.raises(InputError, match="give `own` or `choice` items"):
        sweep(engine, vector, **SMALL, strengths="auto", out=out)
    with pytest.raises(InputError, match="give `unit=\"norm\"`, not 'kl'"):
        sweep(engine, vector, **SMALL, strengths="auto", unit="kl", out=out)
    with pytest.raises(InputError, match="added as llama.cpp does"):
        sweep(engine, vector, **SMALL, choice=EMBEDDED.choice()[:8], strengths="auto", operator="ablate", out=out)
    tiny = extract(tiny_engine, EMBEDDED.pairs()[:4], layers=(2,))
    with pytest.raises(InputError, match="give `own` items"):
        sweep(tiny_engine, tiny, **SMALL, choice=EMBEDDED.choice()[:40], strengths="auto", out=out)
    assert not (out / PREPARED).exists()
