"""What a quick sweep and a budget leave out, and that a run goes on with what was decided."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from steercpp.data.items import BehaviorItem, OwnItem
from steercpp.data.pairs import pairs_sha256
from steercpp.data.prompts import Message
from steercpp.data.sets.embedded import load
from steercpp.engine.engine import Engine
from steercpp.errors import InputError, RunError
from steercpp.extraction.extract import extract
from steercpp.runs.folder import PREPARED
from steercpp.runs.preparation import Preparation, read_preparation
from steercpp.runs.scope import Scope, duration
from steercpp.sweeps import budget as budgets
from steercpp.sweeps.bracket import SIXTEENTHS
from steercpp.sweeps.prepare import prepare
from steercpp.sweeps.sweep import sweep
from steercpp.sweeps.trimming import FEWEST, QUICK_SHARE, Size, drawn, fitting, speed_of
from steercpp.sweeps.wanted import Wanted
from steercpp.sweeps.windows import windows_to_try

EMBEDDED = load()
COUNTS = {"behavior": 44, "choice": 128, "own": 200}


def test_a_quick_size_has_fewer_of_everything() -> None:
    full, quick = Size.of(COUNTS), Size.of(COUNTS, quick=True)
    assert full.counts == COUNTS and full.n_strengths == 2 * len(SIXTEENTHS) + 1
    assert quick.counts == {"behavior": 20, "choice": round(QUICK_SHARE * 128), "own": round(QUICK_SHARE * 200)}
    assert quick.n_strengths < 0.65 * full.n_strengths
    # the wanted side is the one that keeps more, whichever it is, and both grids lie in the full one
    for sign in (1, -1):
        grid = quick.grid(sign * 0.16, -sign * 0.16)
        assert set(grid) < set(full.grid(sign * 0.16, -sign * 0.16)) and list(grid) == sorted(grid)
        assert sum(s * sign > 0 for s in grid) == 2 * sum(s * sign < 0 for s in grid)
    windows = windows_to_try(32)
    assert full.windows(windows) == windows and 2 <= len(quick.windows(windows)) < len(windows)


def test_items_are_left_out_before_strengths() -> None:
    """What fits is the largest size in that order; the seconds are planted."""

    def seconds(size: Size) -> float:
        return 0.1 * sum(size.counts.values()) * size.n_strengths

    full = Size.of(COUNTS)
    assert fitting(full, seconds, seconds(full)) == full
    half = fitting(full, seconds, seconds(full) / 2)
    assert not half.is_coarse and all(0.4 * n < half.counts[kind] < 0.55 * n for kind, n in COUNTS.items())
    fewest = full.share(0.0)
    assert fewest.counts == dict(FEWEST)
    assert fitting(full, seconds, seconds(fewest)) == fewest
    coarse = fitting(full, seconds, seconds(fewest) * 0.99)
    assert coarse.is_coarse and seconds(coarse) <= seconds(fewest) * 0.99
    with pytest.raises(
        InputError, match="the smallest sweep, of 20 behavior items, .* takes about .*; raise `budget_s`"
    ):
        fitting(full, seconds, 1.0)
    # a budget on top of a quick size never makes it larger
    quick = Size.of(COUNTS, quick=True)
    assert fitting(quick, seconds, 1e9) == quick


def test_couples_stay_together_and_lots_are_seeded() -> None:
    items = [BehaviorItem(f"i{n}", f"say {n}", ("a",), ("b",), couple=f"c{n // 2}") for n in range(20)]
    some = drawn(items, 8, seed=3)
    assert len(some) == 8 and some == drawn(items, 8, seed=3) and some != drawn(items, 8, seed=4)
    couples = [item.couple for item in some]
    assert all(couples.count(couple) == 2 for couple in couples)
    assert [item.id for item in some] == [item.id for item in items if item in some]
    assert drawn(items, 99, seed=0) == tuple(items)


def test_what_was_left_out_is_said_with_its_cost() -> None:
    scope = Scope(True, None, {"behavior": (18, 44), "own": (50, 200)}, (10, 17), (4, 7))
    assert scope.sentence == (
        "A quick first answer: 18 of 44 behavior items, 50 of 200 everyday answers, 10 of 17 strengths; "
        "intervals are about 2.0 times as wide as in full."
    )
    assert Scope.from_record(scope.record()) == scope and Scope.from_record(None) == Scope()
    within = Scope(False, 600.0, {"own": (200, 200)}, (10, 17), (7, 7))
    assert within.sentence == "Trimmed to fit into 10 minutes: 10 of 17 strengths; intervals are as in full."
    assert Scope(False, 600.0, {"own": (200, 200)}, (17, 17)).sentence == ""
    assert [duration(s) for s in (0.4, 1.0, 90.0, 7200.0, 86400.0 * 3)] == [
        "0.4 seconds", "1 second", "1.5 minutes", "2 hours", "3 days",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine(EMBEDDED.path, threads=1) as engine:
        yield engine


def wanted(engine: Engine) -> Wanted:
    pairs = EMBEDDED.pairs()[:24]
    everyday = [
        OwnItem(f"own-{i}", (Message("user", item.question),)) for i, item in enumerate(EMBEDDED.choice()[:120])
    ]
    return Wanted(
        directions=lambda layers: extract(engine, pairs, layers=layers), vector_id=pairs_sha256(pairs),
        behavior=EMBEDDED.behavior()[:48], instruction=EMBEDDED.instruction, everyday=everyday,
    )  # fmt: skip


def swept(engine: Engine, asked: Wanted, out: Path) -> tuple[Preparation, int]:
    """What was found and swept, and the token-layers of both."""
    found = prepare(engine, asked, out=out)
    result = sweep(
        engine, asked.directions(found.layers), behavior=found.behavior, choice=found.choice, own=found.own,
        strengths=found.strengths, unit="norm", out=out, instruction=asked.instruction,
    )  # fmt: skip
    assert result.manifest.tokens is not None
    return found, sum(found.token_layers.values()) + result.manifest.tokens.token_layers


@pytest.mark.slow
def test_a_quick_sweep_takes_a_third_of_the_work(engine: Engine, tmp_path: Path) -> None:
    full, work = swept(engine, wanted(engine), tmp_path / "full")
    quick, quick_work = swept(engine, replace(wanted(engine), quick=True), tmp_path / "quick")
    assert 0.25 < quick_work / work < 0.45, quick_work / work
    assert full.scope == Scope() and "scope" not in full.record()
    assert quick.scope.items == {"behavior": (20, 48), "own": (40, 120)} and quick.scope.is_trimmed
    assert (len(quick.behavior), len(quick.strengths)) == (20, 10)
    kept = read_preparation(tmp_path / "quick")
    assert kept is not None and (kept.scope, kept.own, kept.strengths) == (quick.scope, quick.own, quick.strengths)
    assert set(quick.sides) == {"+"}
    # either folder says what it holds when the other is asked for
    with pytest.raises(RunError, match="holds a quick sweep, not a full sweep, and .* choose another folder"):
        prepare(engine, wanted(engine), out=tmp_path / "quick")
    with pytest.raises(RunError, match="holds a full sweep, not a quick sweep, and .* choose another folder"):
        prepare(engine, replace(wanted(engine), quick=True), out=tmp_path / "full")


@pytest.mark.slow
@pytest.mark.parametrize(("speed", "elapsed"), [(3000.0, 0.0), (1e9, 15.0)], ids=["before", "behind"])
def test_a_budget_is_decided_once(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, speed: float, elapsed: float
) -> None:
    """The machine's speed decides what is left out, at either look; later calls read it, however fast they are."""
    asked = replace(wanted(engine), layers=(5, 6), budget_s=60.0)
    monkeypatch.setattr(budgets, "speed_of", lambda engine, prompts: speed)  # token-layers a second
    monkeypatch.setattr(budgets.Budget, "_elapsed", property(lambda self: elapsed))
    found = prepare(engine, asked, out=tmp_path)
    n, of = found.scope.items["own"]
    assert (
        of == 120 and 15 <= n < 120 and len(found.own) == n and len(found.behavior) == found.scope.items["behavior"][0]
    )
    assert found.scope.budget_s == 60.0 and "Trimmed to fit into 1 minute: " in found.scope.sentence
    monkeypatch.undo()
    again = prepare(engine, asked, out=tmp_path)
    assert again.own == found.own and again.behavior == found.behavior and again.scope == found.scope

    monkeypatch.setattr(budgets, "speed_of", lambda engine, prompts: 3000.0)
    with pytest.raises(InputError, match="the smallest sweep"):
        prepare(engine, replace(asked, budget_s=1.0), out=tmp_path / "none")
    assert not (tmp_path / "none" / PREPARED).exists()


@pytest.mark.slow
def test_enough_time_leaves_nothing_out(engine: Engine, tmp_path: Path) -> None:
    asked = replace(wanted(engine), layers=(5, 6), strengths=(-0.1, 0.0, 0.1))
    plain = prepare(engine, asked, out=tmp_path / "plain")
    within = prepare(engine, replace(asked, budget_s=1e6), out=tmp_path / "within")
    assert within.own == plain.own and within.behavior == plain.behavior and within.scope.sentence == ""
    with pytest.raises(InputError, match="`budget_s` is 0"):
        replace(asked, budget_s=0.0)


def test_a_model_that_is_far_too_slow_is_told_before_anything_is_computed(
    tiny_engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one of 80 blocks on a slow machine: a few prompts are read, and no answer is drawn."""
    monkeypatch.setattr(budgets, "speed_of", lambda engine, prompts: 80.0)  # a token of 80 blocks a second
    everyday = [OwnItem(f"own-{i}", f"say {i}") for i in range(60)]
    items = [BehaviorItem(f"i{n}", f"say {n}", (" a",), (" b",)) for n in range(30)]
    asked = Wanted(
        directions=lambda layers: pytest.fail("a vector was made"), vector_id="v", behavior=items, everyday=everyday,
        budget_s=60.0,
    )  # fmt: skip
    before = tiny_engine.token_layers
    with pytest.raises(
        InputError, match=r"fits into 1 minute: the smallest sweep, .* takes about [0-9.]+ minutes here"
    ):
        prepare(tiny_engine, asked, out=tmp_path / "run")
    assert tiny_engine.token_layers - before < 16 * 40 * tiny_engine.n_layer
    assert not (tmp_path / "run" / PREPARED).exists()


def test_speed_is_that_of_reading_prompts(tiny_engine: Engine) -> None:
    assert speed_of(tiny_engine, [tiny_engine.encode(f"say {n}") for n in range(4)]) > 0
