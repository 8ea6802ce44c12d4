"""The doctor tells of types that are much faster, of the same size, and of nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from steercpp.bench.models import Shape, make_model
from steercpp.cli.main import main
from steercpp.doctor import weights
from steercpp.doctor.weights import faster_types, weight_advice
from steercpp.engine.engine import Engine
from steercpp.engine.weights import Matrices, Speed

BITS = {"q4_0": 4.5, "q8_0": 8.5, "bf16": 16.0, "iq4_nl": 4.5, "q2_K": 2.625, "q3_K": 3.44, "q4_K": 4.5, "q5_K": 5.5,
        "q6_K": 6.56, "q4_1": 5.0, "q5_1": 6.0, "f32": 32.0}  # fmt: skip


@pytest.fixture(scope="module")
def slow_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    shape = Shape(n_layer=2, n_embd=256, n_head=8, n_head_kv=4, n_ff=256, n_vocab=700, n_ctx=256)
    return make_model(shape, "q4_1", folder=tmp_path_factory.mktemp("slow"))


def speeds_of(**seconds: float) -> dict[str, Speed]:
    return {type_: Speed(type_, BITS[type_], value, False) for type_, value in seconds.items()}


@pytest.mark.parametrize(
    ("type_", "speeds", "expected"),
    [
        ("q4_1", {"q4_1": 5.0, "q4_0": 1.0, "q4_K": 1.4, "q8_0": 0.5, "q2_K": 0.5}, ["q4_0", "q4_K"]),
        ("q4_1", {"q4_1": 5.0, "q4_0": 1.1, "iq4_nl": 1.0}, ["q4_0", "iq4_nl"]),  # about alike: the one better known
        ("q4_1", {"q4_1": 2.0, "q4_0": 1.0}, []),
        ("q4_0", {"q4_0": 1.0, "q4_K": 1.2, "q5_K": 0.8}, []),
        ("q5_1", {"q5_1": 5.0, "q4_0": 1.0, "q5_K": 1.5, "q6_K": 1.0}, ["q6_K", "q5_K"]),
    ],
)
def test_faster_types(type_: str, speeds: dict[str, float], expected: list[str]) -> None:
    assert [speed.type for speed in faster_types(speeds_of(**speeds), type_)] == expected


def slow_q4_1(types: object, **options: object) -> dict[str, Speed]:
    return speeds_of(q4_1=5.0, q4_0=1.0, q8_0=2.0)


def test_a_model_of_a_slow_type(slow_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "time_types", slow_q4_1)
    result = CliRunner().invoke(main, ["doctor", "--model", str(slow_path), "--json", "--threads", "1"])
    (advice,) = json.loads(result.stdout)["advice"]
    assert result.exit_code == 0  # no fault
    assert "The model's weights are Q4_1" in advice["finding"] and "faster: Q4_0 (5.0 times)" in advice["finding"]
    assert advice["command"] == "llama-quantize model-f16.gguf model.gguf Q4_0"


def test_only_some_of_the_weights_and_none(slow_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "time_types", slow_q4_1)
    mostly = Matrices("q4_1", 0.8, 256, 256)
    with Engine(slow_path, threads=1) as engine:
        monkeypatch.setattr(weights, "block_matrices", lambda path: (mostly,))
        advice = weight_advice(engine)
        assert advice is not None and advice.finding.startswith("80% of the model's weights are Q4_1")
        monkeypatch.setattr(weights, "block_matrices", lambda path: ())
        assert weight_advice(engine) is None


def test_types_that_do_not_fit_are_not_timed(slow_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of 576 values hold no whole blocks of 256; and a type that only devices multiply with is none to time."""
    asked: list[str] = []

    def refuse(types: list[str], **options: object) -> dict[str, Speed]:
        asked.extend(types)
        raise ValueError("the CPU does not multiply with it")

    monkeypatch.setattr(weights, "time_types", refuse)
    monkeypatch.setattr(weights, "block_matrices", lambda path: (Matrices("q4_1", 1.0, 576, 1536),))
    with Engine(slow_path, threads=1) as engine:
        assert weight_advice(engine) is None
    assert asked == ["q4_1", "q4_0", "q8_0", "bf16", "iq4_nl"]
