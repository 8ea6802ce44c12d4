"""Sweeps with operators, positions, sides and gates: their numbers, what is counted, and what becomes of the vector."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from architectures import ARCHITECTURES
from small_sweep import BEHAVIOR, CHOICE, INSTRUCTION, numbers, small_sweep, small_vector

from steercpp.choices import OPERATORS
from steercpp.data.items import ChoiceItem
from steercpp.engine.engine import Engine
from steercpp.engine.steering import REGIONS, SIDES, Gate, Steering
from steercpp.errors import InputError, LayerError, RunError, ShapeError
from steercpp.runs.result import SweepResult, open_run
from steercpp.runs.scores import StrengthMeans
from steercpp.sweeps.measure import chunks
from steercpp.sweeps.work import behavior_work, choice_work, prompted_work
from steercpp.vectors.control_vector import ControlVector, random_vector
from steercpp.vectors.gguf import read_vector

MANNERS = [
    {"operator": operator, "positions": positions, "side": side}
    for operator, positions, side in product(OPERATORS, REGIONS, SIDES)
    if operator != "cap" or side == "both"
]
GATE_LAYER = 1


def gate_between(engine: Engine, *, above: bool = True) -> Gate:
    """A gate that some of the items' prompts pass, of either kind, and some do not."""
    direction = small_vector(engine).directions[GATE_LAYER]
    work = (behavior_work(engine, BEHAVIOR), choice_work(engine, CHOICE))
    x = [engine.activations([query.tokens for query in part.queries], layers=[GATE_LAYER])[:, 0] for part in work]
    threshold = float(np.median(np.concatenate(x).astype(np.float64) @ direction))
    return Gate(direction, GATE_LAYER, threshold, above)


def stored(folder: Path, kind: str, strength: float, label: str = "vector") -> list[float]:
    return [row[5] for row in numbers(folder) if row[:3] == (label, kind, strength)]


def direct(engine: Engine, kind: str, steering: Steering) -> list[float]:
    """What the engine measures for the items of a kind, packed and decided without the sweep's own code."""
    work = behavior_work(engine, BEHAVIOR) if kind == "behavior" else choice_work(engine, CHOICE)
    decided = engine.decide(work.queries, steering)
    found: dict[int, np.ndarray] = {}
    for batch in engine.pack(work.queries, decided):
        logprobs = engine.logprobs(batch, steering=[decided[member] for member in batch.members])
        found.update(zip(batch.members, logprobs, strict=True))
    return [float(nats) for place in range(len(work.queries)) for nats in found[place]]


@pytest.mark.parametrize("manner", MANNERS, ids=lambda manner: "-".join(manner.values()))
def test_every_manner_gives_the_engines_own_numbers(
    tiny_engine: Engine, tmp_path: Path, manner: dict[str, Any]
) -> None:
    """Bit for bit: the same queries under the same steering make the same batches, and resuming moves nothing."""
    strength = -0.02 if manner["operator"] == "cap" else 0.7  # projections lie around 0, so that cap meets some
    result = small_sweep(tiny_engine, tmp_path, choice=(), strengths=(strength,), random_directions=0, **manner)
    steering = Steering(read_vector(result.vector_path), strength, **manner)
    assert stored(tmp_path, "behavior", strength) == direct(tiny_engine, "behavior", steering)
    at_0 = stored(tmp_path, "behavior", 0.0)
    assert stored(tmp_path, "behavior", strength) != at_0, "the steering does nothing, so equality means nothing"
    # Packed otherwise, the unsteered batch differs in roundings: F32 without flash attention agrees to 1e-4 nats
    np.testing.assert_allclose(at_0, direct(tiny_engine, "behavior", Steering(steering.vector, 0.0)), atol=1e-4)


@pytest.mark.parametrize("operator", OPERATORS)
def test_strength_0_is_the_operator_switched_off(tiny_engine: Engine, tmp_path: Path, operator: str) -> None:
    """Also for clamp and cap, which bring a projection to 0 where they are asked to."""
    result = small_sweep(tiny_engine, tmp_path, choice=(), strengths=(0.3,), random_directions=0, operator=operator)
    unsteered = direct(tiny_engine, "behavior", Steering(small_vector(tiny_engine), 0.0))
    assert stored(tmp_path, "behavior", 0.0) == unsteered
    acting = Steering(read_vector(result.vector_path), 0.0, operator=operator)  # type: ignore[arg-type]
    assert (direct(tiny_engine, "behavior", acting) != unsteered) == (operator in ("clamp", "cap"))


@pytest.fixture(scope="module")
def gated(tiny_engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> SweepResult:
    folder = tmp_path_factory.mktemp("gated") / "run"
    return small_sweep(tiny_engine, folder, gate=gate_between(tiny_engine), operator="ablate", positions="prompt")


def manner_of(result: SweepResult, engine: Engine, strength: float) -> Steering:
    return Steering(
        read_vector(result.vector_path), strength, operator="ablate", positions="prompt", gate=gate_between(engine)
    )


def test_a_gate_steers_the_items_that_pass_it_and_no_others(tiny_engine: Engine, gated: SweepResult) -> None:
    for kind in ("behavior", "choice"):
        steering = manner_of(gated, tiny_engine, 1.0)
        assert stored(gated.folder, kind, 1.0) == direct(tiny_engine, kind, steering)
    work = behavior_work(tiny_engine, BEHAVIOR)
    is_open = [bool(one) for one in tiny_engine.decide(work.queries, manner_of(gated, tiny_engine, 1.0))]
    rows = [row for row in numbers(gated.folder) if row[:2] == ("vector", "behavior")]
    unsteered, steered = ({row[3:5]: row[5] for row in rows if row[2] == s} for s in (0.0, 1.0))
    changed = {item for item, k in steered if steered[item, k] != unsteered[item, k]}
    assert changed == {item for item, opened in enumerate(is_open) if opened}  # of the others not a bit


def test_how_many_items_pass_is_told(tiny_engine: Engine, gated: SweepResult) -> None:
    counts = {}
    for kind, work in (
        ("behavior", behavior_work(tiny_engine, BEHAVIOR)),
        ("choice", choice_work(tiny_engine, CHOICE)),
    ):
        decided = tiny_engine.decide(work.queries, manner_of(gated, tiny_engine, 1.0))
        counts[kind] = sum(bool(one) for one in decided)
    assert 0 < sum(counts.values()) < len(BEHAVIOR) + len(CHOICE)
    assert gated.manifest.gate_open == gated.to_json()["gate_open"] == open_run(gated.folder).manifest.gate_open
    assert gated.manifest.gate_open == counts


def test_random_directions_act_in_the_same_manner(tiny_engine: Engine, gated: SweepResult) -> None:
    strength = gated.controls.strength
    assert strength is not None
    vector = random_vector(read_vector(gated.vector_path), np.random.default_rng([0, 1]))
    steering = Steering(vector, strength, operator="ablate", positions="prompt", gate=gate_between(tiny_engine))
    assert stored(gated.folder, "behavior", strength, "random-1") == direct(tiny_engine, "behavior", steering)


@pytest.mark.parametrize(
    "manner",
    [{"operator": "rotate"}, {"positions": "last"}, {"side": "negative"}, {"gate": True}],
    ids=lambda manner: next(iter(manner)),
)
def test_the_vector_of_another_manner_is_kept_from_llama_cpp(
    tiny_engine: Engine, tmp_path: Path, manner: dict[str, Any]
) -> None:
    """llama.cpp would add its tensors everywhere: it finds none, and refuses the file."""
    if "gate" in manner:
        manner = {"gate": gate_between(tiny_engine)}
    result = small_sweep(
        tiny_engine, tmp_path, unit="length", strengths=(1.0,), choice=(), random_directions=0, **manner
    )
    assert gguf.GGUFReader(result.vector_path).tensors == []
    vector, original = read_vector(result.vector_path), small_vector(tiny_engine)
    assert vector.layers == original.layers
    for il, row in original.directions.items():
        np.testing.assert_array_equal(vector.directions[il], row)
    for key, value in manner.items():
        assert vector.metadata[key] == (value.identity if key == "gate" else value)


def test_a_plain_run_keeps_the_tensors_of_llama_cpp(tiny_engine: Engine, tmp_path: Path) -> None:
    result = small_sweep(tiny_engine, tmp_path, strengths=(1.0,), choice=(), random_directions=0)
    assert [tensor.name for tensor in gguf.GGUFReader(result.vector_path).tensors] == ["direction.1", "direction.2"]
    assert result.manifest.gate_open is None


def test_an_interrupted_sweep_behind_a_gate_goes_on_to_the_same_bits(
    tiny_engine: Engine, tmp_path: Path, gated: SweepResult
) -> None:
    options = {"gate": gate_between(tiny_engine), "operator": "ablate", "positions": "prompt"}
    calls = 0

    def interrupt(done: int, total: int, label: str) -> None:
        nonlocal calls
        calls += 1
        if calls == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        small_sweep(tiny_engine, tmp_path / "run", progress=interrupt, **options)
    assert 0 < len(numbers(tmp_path / "run")) < len(numbers(gated.folder))
    result = small_sweep(tiny_engine, tmp_path / "run", **options)
    assert numbers(tmp_path / "run") == numbers(gated.folder)
    assert result.manifest.gate_open == gated.manifest.gate_open
    assert small_sweep(tiny_engine, tmp_path / "run", **options).decoded_now == 0


def test_another_manner_is_another_plan(tiny_engine: Engine, gated: SweepResult) -> None:
    same = {"gate": gate_between(tiny_engine), "operator": "ablate", "positions": "prompt"}
    for name, value in {
        "operator": "clamp",
        "positions": "all",
        "side": "positive",
        "gate": gate_between(tiny_engine, above=False),
    }.items():
        with pytest.raises(RunError, match=rf"another plan \(other {name}\); .*`out`.*`force=True`"):
            small_sweep(tiny_engine, gated.folder, **{**same, name: value})


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"operator": "cap", "side": "positive"}, InputError, "cap acts on one side already"),
        ({"operator": "multiply"}, InputError, "operator 'multiply' is unknown"),
        ({"gate": Gate(np.ones(8, np.float32), 1, 0.0)}, ShapeError, "the gate has 8 values per layer"),
        ({"gate": Gate(np.ones(256, np.float32), 4, 0.0)}, LayerError, r"layer 4 does not exist.* layers 0\.\.3"),
    ],
)
@pytest.mark.parametrize("lazy", [False, True])
def test_what_cannot_be_is_refused_before_a_run_begins(
    tiny_engine: Engine, tmp_path: Path, options: dict[str, Any], error: type[Exception], message: str, lazy: bool
) -> None:
    """With a vector still to be extracted it was found out only after the run's files were written."""
    vector = small_vector(tiny_engine)
    lazily = {"vector": lambda: vector, "vector_id": "made"} if lazy else {}
    with pytest.raises(error, match=message):
        small_sweep(tiny_engine, tmp_path / "x", **options, **lazily)
    assert not (tmp_path / "x").exists()


def vector_from(engine: Engine, first: int) -> ControlVector:
    rng = np.random.default_rng(4)
    rows = {il: rng.standard_normal(engine.n_embd).astype(np.float32) for il in range(first, engine.n_layer)}
    return ControlVector(rows, engine.architecture, engine.n_layer)


@pytest.mark.slow
@pytest.mark.parametrize("first", [0, 1, 3])
@pytest.mark.parametrize("manner", [{}, {"operator": "clamp", "positions": "last"}], ids=["add", "clamp"])
def test_seventeen_strengths_cost_one_pass_and_sixteen_parts_of_one(
    tiny_engine: Engine, tmp_path: Path, first: int, manner: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted by hand: strength 0 computes all blocks, each other one those above the first steered layer.

    Prompts that are decoded once more by themselves, to tell how far packing moves them, count for no side.
    """
    monkeypatch.setattr("steercpp.sweeps.run.compared_with_alone", lambda *_: None)
    strengths = [s / 100 for s in range(-8, 9)]
    before = tiny_engine.token_layers
    result = small_sweep(
        tiny_engine, tmp_path, vector=vector_from(tiny_engine, first), unit="length", strengths=strengths, **manner
    )
    computed = tiny_engine.token_layers - before
    tokens, n_layer = result.manifest.to_json()["tokens"], tiny_engine.n_layer
    steering = Steering(vector_from(tiny_engine, first), 1.0, **manner)
    before = tiny_engine.token_layers
    works = {"behavior": behavior_work(tiny_engine, BEHAVIOR), "choice": choice_work(tiny_engine, CHOICE)}
    asked = [prompted_work(tiny_engine, work, INSTRUCTION) for work in works.values()]
    preparing = tiny_engine.token_layers - before  # what items take before the first strength, counted for neither side
    n = {
        kind: sum(batch.n_tokens for batch in tiny_engine.pack(work.queries, steering)) for kind, work in works.items()
    }
    n_plain = {
        kind: sum(batch.n_tokens_plain for batch in tiny_engine.pack(work.queries)) for kind, work in works.items()
    }
    n_part = n_layer - first - 1  # the first steered block's own rows are kept
    n_asked, n_asked_plain = (sum(getattr(work, name) for work in asked) for name in ("n_tokens", "n_tokens_plain"))
    # two random directions and an orthogonal one; the prompt baseline has other prompts and is not steered
    expected = sum(n.values()) * (n_layer + (16 + 3) * n_part) + n_asked * n_layer
    assert tokens["token_layers"] == expected == computed - preparing
    assert tokens["token_layers_plain"] == ((17 + 3) * sum(n_plain.values()) + n_asked_plain) * n_layer
    assert tokens["decoded"] == (17 + 3) * sum(n.values()) + n_asked
    resume = result.manifest.to_json()["resume"]
    assert {name: resume[name] for name in ("resumed", "first_layer", "reason")} == {
        "resumed": True, "first_layer": first, "reason": ""
    }  # fmt: skip
    assert resume["n_resumed"] > 0 == resume["n_in_full"]
    assert result.to_json()["resume"] == result.manifest.to_json()["resume"]


def many_choices() -> tuple[ChoiceItem, ...]:
    """So many that what is kept of them exceeds 1 MiB: 1024 rows of the tiny model."""
    words = [word for item in BEHAVIOR for word in item.prompt.split()]  # type: ignore[union-attr]
    return tuple(
        ChoiceItem(f"m-{i}", " ".join(np.random.default_rng(i).choice(words, 12)) + "?", ("a", "b", "c", "d"), i % 4)
        for i in range(40)
    )


@pytest.mark.slow
@pytest.mark.parametrize("manner", [{}, {"operator": "ablate", "positions": "generated"}], ids=["add", "ablate"])
def test_little_memory_for_what_is_kept_gives_the_same_bits(
    tiny_path: Path, tmp_path: Path, manner: dict[str, Any]
) -> None:
    """Several chunks, each swept over all strengths before the next."""
    options: dict[str, Any] = {"choice": many_choices(), "strengths": (-0.5, 0.5), **manner}
    with Engine(tiny_path, threads=1, keep_mib=1) as little, Engine(tiny_path, threads=1) as much:
        for engine in (little, much):
            work = [behavior_work(engine, BEHAVIOR), choice_work(engine, many_choices())]
            assert (len(chunks(engine, work)) > 1) == (engine is little)
        seen: list[StrengthMeans] = []
        result = small_sweep(little, tmp_path / "little", on_strength=seen.append, **options)
        assert [row.strength for row in seen] == [0.0, -0.5, 0.5]  # each once, when all chunks have it
        other = small_sweep(much, tmp_path / "much", **options)
        assert numbers(result.folder) == numbers(other.folder)
        assert result.manifest.to_json()["resume"]["resumed"] and other.manifest.to_json()["resume"]["resumed"]
        # What is kept decides how large a batch may be, and with other batches half a run would not fit the other half
        with pytest.raises(RunError, match=r"another plan \(other keep-mib\)"):
            small_sweep(much, result.folder, **options)


@pytest.mark.slow
def test_a_sweep_in_chunks_goes_on_where_it_was_interrupted(tiny_path: Path, tmp_path: Path) -> None:
    with Engine(tiny_path, threads=1, keep_mib=1) as engine:
        options: dict[str, Any] = {"choice": many_choices(), "strengths": (-0.5, 0.25, 0.5)}
        whole = small_sweep(engine, tmp_path / "whole", **options)
        n_calls = 0

        def count(done: int, total: int, label: str) -> None:
            nonlocal n_calls
            n_calls += 1

        small_sweep(engine, tmp_path / "counted", progress=count, **options)
        for stop_at in np.linspace(3, n_calls - 2, 4, dtype=int):
            calls = 0

            def interrupt(done: int, total: int, label: str, stop_at: int = int(stop_at)) -> None:
                nonlocal calls
                calls += 1
                if calls == stop_at:
                    raise KeyboardInterrupt

            folder = tmp_path / f"stopped-{stop_at}"
            with pytest.raises(KeyboardInterrupt):
                small_sweep(engine, folder, progress=interrupt, **options)
            result = small_sweep(engine, folder, **options)
            assert numbers(folder) == numbers(whole.folder)
            assert (
                result.manifest.to_json()["tokens"]["token_layers"]
                >= whole.manifest.to_json()["tokens"]["token_layers"]
            )


@pytest.mark.parametrize(
    ("name", "first", "n_left_out"), [("gemma4-shared", 3, 0), ("gemma4-shared", 4, 1), ("mamba", 3, 4)]
)
def test_what_is_left_out_follows_the_graph(tmp_path: Path, name: str, first: int, n_left_out: int) -> None:
    """docs/architectures.md: blocks that use another's K and V; and a model whose sequences are decoded one by one."""
    with Engine(ARCHITECTURES[name].write(tmp_path / "model.gguf"), threads=1) as engine:
        vector = vector_from(engine, first)
        result = small_sweep(engine, tmp_path / "run", vector=vector, unit="length", random_directions=0)
        n = sum(work.n_tokens for work in (behavior_work(engine, BEHAVIOR), choice_work(engine, CHOICE)))
        resume, tokens = result.manifest.to_json()["resume"], result.manifest.to_json()["tokens"]
        assert tokens["token_layers"] == n * (engine.n_layer + 3 * (engine.n_layer - n_left_out))
        assert resume["resumed"] == (n_left_out > 0) and bool(resume["reason"]) == (n_left_out == 0)
        assert stored(result.folder, "behavior", 1.0) == direct(engine, "behavior", Steering(vector, 1.0))
