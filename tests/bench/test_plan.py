"""Forecasts of sweeps: work as a real one counts it, machines that share it out, calibrations that are kept."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from string import ascii_uppercase

import numpy as np
import pytest
from click.testing import CliRunner, Result

from steercpp.bench.models import SHAPES, Shape, make_model, words
from steercpp.bench.plan import finish, plan
from steercpp.bench.speed import WAYS, Cost, Speed, cpu_name, measure_speed, read_speed
from steercpp.bench.sweep_size import SweepSize
from steercpp.cli.main import main
from steercpp.data.items import BehaviorItem
from steercpp.engine.engine import Engine
from steercpp.errors import InputError
from steercpp.runs.manifest import TokenCounts
from steercpp.sweeps.estimate import Loads, passes_of, work_of
from steercpp.sweeps.sweep import sweep
from steercpp.vectors.control_vector import ControlVector

TINY = Shape(n_layer=5, n_embd=32, n_head=2, n_head_kv=1, n_ff=64, n_vocab=900)
SMALL = SweepSize(n_items=26, tokens_per_item=12, n_own=0, n_strengths=5, n_directions=3, instruction_tokens=0)
INSTRUCTION = 6  # words


def speed(shape: Shape = TINY, **changes: object) -> Speed:
    """A machine on which a token takes 1 ms, and a block of it 2."""
    made = Speed(
        shape=shape, quant="q8_0", threads=1, cpu=cpu_name(), costs=dict.fromkeys(WAYS, Cost(0.001, 0.002)),
        commit_s=0.0, size=SMALL, n_rounds=2, n_batch=256, seconds=1.0,
    )  # fmt: skip
    return replace(made, **changes)  # type: ignore[arg-type]


def swept(path: Path, out: Path, size: SweepSize) -> TokenCounts:
    """What a real sweep of that size counts."""
    alphabet = words(TINY.n_vocab)
    rng = np.random.default_rng(3)

    def text(n: int) -> str:
        return " ".join(alphabet[i] for i in rng.integers(0, len(alphabet), n))

    items = tuple(
        BehaviorItem(
            f"b-{number}", f"{first} {text(size.tokens_per_item - 2)}",
            (f" {alphabet[0]} " + text(size.answer_tokens - 1),), (f" {alphabet[1]} " + text(size.answer_tokens - 1),),
        )
        for number, first in enumerate(islice(ascii_uppercase, size.n_items))  # a token, also behind a line break
    )  # fmt: skip
    with Engine(path, threads=1) as engine:
        vector = ControlVector({2: rng.standard_normal(TINY.n_embd).astype(np.float32)}, "llama", TINY.n_layer)
        result = sweep(
            engine, vector, behavior=items, strengths=tuple(0.1 * (i + 1) for i in range(size.n_strengths - 1)),
            unit="norm", out=out, random_directions=size.n_directions - 1, orthogonal=True,
            prompt_baseline=size.instruction_tokens > 0, instruction=text(INSTRUCTION),
        )  # fmt: skip
    assert result.manifest.tokens is not None
    return result.manifest.tokens


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(TINY, "q8_0", folder=tmp_path_factory.mktemp("models"))


def test_token_layers_are_those_of_a_real_sweep(tiny: Path, tmp_path: Path) -> None:
    counted = swept(tiny, tmp_path / "run", SMALL)
    assert plan(speed(), SMALL, first_layer=2).work.measured == counted.token_layers
    more = replace(SMALL, n_items=20, answer_tokens=2, n_strengths=8, n_directions=2)
    assert plan(speed(), more, first_layer=2).work.measured == swept(tiny, tmp_path / "more", more).token_layers


def test_the_prompt_baseline_is_counted_with_its_instruction(tiny: Path, tmp_path: Path) -> None:
    with Engine(tiny, threads=1) as engine:
        n_between = len(engine.tokenize("A\n\n")) - len(engine.tokenize("A"))
    size = replace(SMALL, instruction_tokens=INSTRUCTION + n_between)
    counted = swept(tiny, tmp_path / "run", size)
    assert plan(speed(), size, first_layer=2).work.measured == counted.token_layers


def test_the_plan_counts_as_the_estimate_of_a_sweep_does() -> None:
    size = replace(SMALL, n_own=30)
    forecast = plan(speed(), size, first_layer=2)
    scored = size.n_items * (size.tokens_per_item - 1 + 2 * (size.answer_tokens - 1))
    own = size.tokens_per_item - 1 + size.own_tokens - 1

    class Sizes:
        n_layer, n_embd, n_vocab, keep_bytes = TINY.n_layer, TINY.n_embd, TINY.n_vocab, 2**29

    loads = Loads(scored, choosing=10 * own, telling=20 * own)
    estimated = work_of(Sizes(), loads, first_layer=2, n_strengths=5, n_directions=3, in_words=False, n_windows=0)
    # the begin-of-sequence token is decoded once for each batch
    n_passes = sum(TINY.n_layer * one.unsteered + 2 * one.steered for one in
                   passes_of(n_strengths=5, n_directions=3, in_words=False))  # fmt: skip
    assert 0 < forecast.work.measured - estimated.token_layers <= 12 * n_passes
    assert forecast.alone["finding"] > 0 and plan(speed(), replace(size, finds=False)).alone["finding"] == 0


def test_one_machine_takes_the_sum_of_its_passes() -> None:
    size = replace(SMALL, finds=False)
    forecast = plan(speed(), size, first_layer=2, n_workers=(1,))
    assert forecast.courses[0].seconds == pytest.approx(sum(forecast.alone.values()))
    n_passes = 1 + 4 + 3
    scored = forecast.alone["strengths"] + forecast.alone["directions"]
    n_tokens = (scored - 0.002 * forecast.work.measured) / 0.001 / n_passes
    assert n_tokens == pytest.approx(round(n_tokens)) and n_tokens > 26 * (11 + 6)


@pytest.mark.parametrize("n_workers", [1, 2, 3, 8, 64])
def test_shared_work_takes_no_less_than_its_share_and_no_more_than_alone(n_workers: int) -> None:
    rng = np.random.default_rng(n_workers)
    for _ in range(20):
        jobs = rng.exponential(size=rng.integers(1, 60)).tolist()
        taken = finish(jobs, n_workers)
        assert max(sum(jobs) / n_workers, max(jobs)) - 1e-9 <= taken <= sum(jobs) + 1e-9
        assert taken <= sum(jobs) / n_workers + max(jobs) + 1e-9  # no machine idles while a job waits


def test_more_machines_are_faster_and_cost_more() -> None:
    size = replace(SMALL, n_items=900, tokens_per_item=60, n_strengths=17, n_own=90, n_texts=50)
    courses = plan(speed(SHAPES["7b"]), size, n_workers=(1, 2, 4, 64), price=0.5).courses
    seconds = [course.seconds for course in courses]
    assert seconds == sorted(seconds, reverse=True)
    for course in courses:
        assert course.speed_up <= course.n_workers and course.machine_hours == course.n_workers * course.seconds / 3600
        assert course.cost == course.machine_hours * 0.5 >= courses[0].cost


def test_what_is_found_before_is_found_by_one() -> None:
    alone, shared = plan(speed(), SMALL, n_workers=(1, 1000)).courses
    assert shared.seconds > plan(speed(), SMALL).alone["finding"] and alone.speed_up == 1.0


def test_memory_is_the_weights_and_what_lies_beside_them() -> None:
    memory = plan(speed(SHAPES["7b"], quant="q4_0"), SweepSize()).memory
    assert 3.8e9 < memory.weights < 3.9e9  # 32 blocks of 202 M weights and 131 M of the embeddings, 4.5 bits
    assert memory.kv == 2 * 2 * 4096 * 32 * 4096 and memory.total > memory.weights + memory.kv


def test_a_calibration_is_kept_and_read_again(tmp_path: Path) -> None:
    small = replace(SMALL, n_own=3, tokens_per_item=8, own_tokens=4, n_strengths=3)
    measured = measure_speed(TINY, "q8_0", small, threads=1, budget_s=0.1, cache=tmp_path)
    assert set(measured.costs) == set(WAYS) and measured.n_rounds >= 2
    assert all(cost.seconds(100, 5) > 0 for cost in measured.costs.values())
    measured.write(tmp_path / "speed.json")
    assert read_speed(tmp_path / "speed.json") == measured
    with pytest.raises(InputError, match="exists"):
        measured.write(tmp_path / "speed.json")
    with pytest.raises(InputError, match="CPU time of 2 `threads` tells nothing"):
        measure_speed(TINY, "q8_0", small, threads=2, is_cpu_time=True, cache=tmp_path)


def test_another_machines_calibration_is_refused_unless_it_is_meant(tmp_path: Path) -> None:
    speed(cpu="Another CPU").write(tmp_path / "speed.json")
    with pytest.raises(InputError, match=r"measured on another CPU \(Another CPU; here"):
        read_speed(tmp_path / "speed.json")
    assert read_speed(tmp_path / "speed.json", elsewhere=True).cpu == "Another CPU"


@pytest.mark.parametrize(
    ("key", "value"),
    [("costs", {}), ("commit_s", float("nan")), ("threads", 0), ("quant", "q9"), ("shape", {"n_layer": 3}),
     ("format", "another"), ("size", {**SMALL.to_json(), "n_items": -1}), ("costs", None)],
)  # fmt: skip
def test_a_damaged_calibration_is_told_in_one_sentence(tmp_path: Path, key: str, value: object) -> None:
    path = tmp_path / "speed.json"
    path.write_text(json.dumps(speed().to_json() | {key: value}))
    with pytest.raises(InputError, match=re.escape(str(path)) + r": is (damaged|no calibration)") as error:
        read_speed(path)
    assert "\n" not in str(error.value)


def test_a_calibration_that_is_none_is_told_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "speed.json").write_text('{"format": "steerc')
    for name in ("speed.json", "none.json"):
        with pytest.raises(InputError, match="cannot be read"):
            read_speed(tmp_path / name)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["plan", *map(str, arguments)])


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("speed") / "7b.json"
    speed(SHAPES["7b"], quant="q4_0").write(path)
    return path


def test_the_command_shows_the_verdict_first(kept: Path) -> None:
    shown = run("--calibration", kept, "--workers", "1,4", "--price", 0.5, "--no-find")
    assert shown.exit_code == 0, shown.output
    lines = [line.strip() for line in shown.stdout.splitlines() if line.strip()]
    assert lines[0].startswith("A sweep of 7b q4_0 takes about")
    assert "machine-hours" in shown.stdout and "K and V" in shown.stdout and "Assumptions" in shown.stdout
    record = json.loads(run("--calibration", kept, "--workers", "1,4", "--json").stdout)
    assert [course["n_workers"] for course in record["courses"]] == [1, 4]
    assert record["speed"]["quant"] == "q4_0" and record["memory"]["total"] > record["memory"]["weights"]


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("--workers", "0"), 1, "0 --workers: give 1 to"),
        (("--workers", "two"), 2, "'two' is no list of numbers"),
        (("--shape", "8b"), 2, "'8b' is not one of"),
        (("--shape", "15m"), 1, "the calibration is of 7b q4_0"),
        (("--quant", "f16"), 1, "the calibration is of 7b q4_0"),
        (("--threads", "7"), 1, "the calibration is of 1 thread"),
        (("--texts", "100"), 1, "of 44 items"),
        (("--layers", "40"), 1, "layer 40"),
    ],
)
def test_bad_input_is_told_in_one_sentence(kept: Path, arguments: Sequence[str], code: int, sentence: str) -> None:
    refused = run("--calibration", kept, *arguments)
    assert refused.exit_code == code and sentence in " ".join(refused.stderr.split()), refused.stderr


def test_a_models_own_sizes_are_read(tiny: Path, tmp_path: Path) -> None:
    done = run(
        tiny, "--threads", 1, "--seconds", 0.1, "--json", "--no-find", "--cache", tmp_path, "-o", tmp_path / "s.json",
        "--own", 0, "--instruction-tokens", 0,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert read_speed(tmp_path / "s.json").shape == replace(TINY, n_ctx=TINY.n_ctx)
    refused = run(tmp_path / "s.json")
    assert refused.exit_code == 1 and "Traceback" not in refused.stderr
