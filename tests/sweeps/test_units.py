"""Sweeps in units of KL: strength 1 is the push, in the numbers and in the file, and the plan of a run says so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from kl_by_hand import kl_by_hand
from small_sweep import BEHAVIOR, small_sweep, small_vector

from steercpp.engine.engine import Engine
from steercpp.errors import CalibrationError, InputError, RunError
from steercpp.runs.manifest import read_manifest
from steercpp.runs.result import SweepResult
from steercpp.sweeps.units import Measured, check_unit, in_unit
from steercpp.vectors.gguf import read_vector

Tokens = tuple[int, ...]


@pytest.fixture(scope="module")
def prompts(tiny_engine: Engine) -> list[Tokens]:
    return [tiny_engine.encode(item.prompt) for item in BEHAVIOR]


@pytest.fixture(scope="module")
def swept(tiny_engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> SweepResult:
    out = tmp_path_factory.mktemp("kl") / "run"
    return small_sweep(tiny_engine, out, unit="kl", kl=0.02, direction=-1, random_directions=0)


def test_strength_1_of_the_file_is_the_push(tiny_engine: Engine, swept: SweepResult, prompts: list[Tokens]) -> None:
    vector = read_vector(swept.vector_path)
    again = kl_by_hand(tiny_engine, vector, -1.0, prompts)  # the wanted sign
    assert np.quantile(again, 0.95) == pytest.approx(0.02, rel=0.05)
    assert (vector.metadata["unit"], vector.metadata["calibration.kl"]) == ("kl", 0.02)
    assert vector.metadata["calibration.strength"] == -1.0
    found = swept.manifest.to_json()["vector"]
    assert found["calibration"]["strength"] < 0 and found["calibration"]["target"] == 0.02
    given = small_vector(tiny_engine).norms
    assert vector.norms == pytest.approx({il: -found["calibration"]["strength"] * n for il, n in given.items()})
    assert found["residual_norms"] == list(tiny_engine.residual_norms(prompts, vector.layers).values())


def test_a_sweep_in_kl_units_is_the_sweep_of_the_scaled_vector(
    tiny_engine: Engine, swept: SweepResult, tmp_path: Path
) -> None:
    same = small_sweep(
        tiny_engine, tmp_path / "run", vector=read_vector(swept.vector_path), unit="length", direction=-1,
        random_directions=0,
    )  # fmt: skip
    assert same.behavior is not None and swept.behavior is not None
    np.testing.assert_array_equal(same.behavior.p_aligned, swept.behavior.p_aligned)
    np.testing.assert_array_equal(same.strengths, swept.strengths)


def test_the_plan_holds_the_nats_and_other_plans_are_as_they_were(
    tiny_engine: Engine, swept: SweepResult, tmp_path: Path
) -> None:
    options = {"direction": -1, "random_directions": 0}
    again = small_sweep(tiny_engine, swept.folder, unit="kl", kl=0.02, **options)
    assert again.finished and again.decoded_now == 0
    with pytest.raises(RunError, match=r"another plan \(other kl\)"):
        small_sweep(tiny_engine, swept.folder, unit="kl", kl=0.03, **options)
    with pytest.raises(RunError, match=r"another plan \(other unit, kl\)"):
        small_sweep(tiny_engine, swept.folder, unit="norm", **options)
    small_sweep(tiny_engine, tmp_path / "norm", unit="norm", choice=(), strengths=(1.0,), **options)
    plan = read_manifest(tmp_path / "norm").plan.to_json()
    assert "kl" not in plan  # runs that were made before this unit have the same plan, and its hash
    with pytest.raises(RunError, match=r"another plan \(other unit, kl\)"):
        small_sweep(tiny_engine, tmp_path / "norm", unit="kl", choice=(), strengths=(1.0,), **options)


def test_a_push_out_of_reach_leaves_no_folder(tiny_engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="to 500 nats"):
        small_sweep(tiny_engine, tmp_path / "run", unit="kl", kl=500.0)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("operator", ["ablate", "rotate"])
def test_operators_to_which_the_length_means_nothing(tiny_engine: Engine, tmp_path: Path, operator: str) -> None:
    with pytest.raises(InputError, match=f"means nothing to {operator}"):
        small_sweep(tiny_engine, tmp_path / "run", unit="kl", operator=operator)


def test_units_that_are_none() -> None:
    with pytest.raises(InputError, match="unit 'nats' is unknown; use length, norm or kl"):
        check_unit("nats", 0.1)
    for kl in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(InputError, match="kl is"):
            check_unit("kl", kl)
        check_unit("norm", kl)  # of no account there


def test_length_leaves_the_vector_alone_and_norm_is_one_residual_norm(
    tiny_engine: Engine, prompts: list[Tokens]
) -> None:
    vector = small_vector(tiny_engine)
    assert in_unit(tiny_engine, vector, prompts, "length") == (vector, Measured(None, None))
    scaled, measured = in_unit(tiny_engine, vector, prompts, "norm")
    assert list(scaled.norms.values()) == pytest.approx(list(measured.residual_norms or ()), rel=1e-6)
