"""Verdicts on planted runs: each kind where it is true, its figures those of the rule, and what it says to try next."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from planted_run import B0, BEHAVIOR, CHOICE, _letters, _sides, write_planted_run
from small_sweep import small_sweep

from steercpp.engine.engine import Engine
from steercpp.runs.folder import STORE
from steercpp.runs.judgement import Judging, judge
from steercpp.runs.manifest import read_manifest, write_manifest
from steercpp.runs.preparation import Preparation
from steercpp.runs.proof import proof
from steercpp.runs.result import open_run
from steercpp.runs.scope import Scope
from steercpp.runs.store import Group, Store
from steercpp.runs.verdict import MEASURE_WORDS, Verdict, verdict_of
from steercpp.statistics.curves import dealt

GRID = "-0.4:0.4:0.1"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_planted_run(tmp_path / "run", strengths=GRID)


def verdict(folder: Path, how: Judging | None = None) -> Verdict:
    return verdict_of(judge(open_run(folder), how))


def plant(
    folder: Path,
    *,
    half_odds: Callable[[float], np.ndarray] | None = None,
    odds_against: Callable[[float], np.ndarray] | None = None,
    label: str = "vector",
    strengths: tuple[float, ...] | None = None,
) -> None:
    """Put other measurements in the place of some of a planted run's."""
    with Store.reopen(folder / STORE) as store:
        for s in strengths or read_manifest(folder).plan.strengths:
            if half_odds is not None:
                store.add(Group(label, "behavior", s, 0), 400, 3200, None, enumerate(_sides(half_odds(s))))
            if odds_against is not None:
                store.add(Group(label, "choice", s, 0), 900, 7200, None, enumerate(_letters(odds_against(s))))


def test_use_has_the_figures_of_the_recommendation(run: Path) -> None:
    judgement = judge(open_run(run))
    best, told = judgement.recommendation, verdict_of(judgement)
    assert best is not None and best.strength == 0.1
    assert (told.kind, told.strength, told.at, told.reason, dict(told.next)) == ("use", 0.1, 0.1, "", {})
    assert told.headline == "Use strength +0.1 of the residual norm at layers 3-4."
    assert told.gain is not None and (told.gain.value, told.gain.low) == (best.gain, best.gain_low)
    assert told.gain.at_strength - told.gain.at_0 == pytest.approx(told.gain.value)
    assert told.cost is not None and (told.cost.value, told.cost.high) == (best.loss, best.loss_high)
    # What stands beside is of the testing items, as the gain is: controls less the same items without steering
    controls, rng = judgement.result.controls, judgement.rng()
    behavior, choice = (dealt(len(items), rng)[1] for items in (BEHAVIOR, judgement.choice_items))
    asked, plain = controls.prompt, controls.unsteered
    assert told.prompt is not None and asked is not None and plain is not None and plain.behavior is not None
    assert asked.behavior is not None and asked.choice is not None and plain.choice is not None
    changes = (asked.behavior.normalized - plain.behavior.normalized)[0, behavior]
    assert told.prompt.b == pytest.approx(changes.mean())
    p, p_0 = asked.choice.p_free[0, choice].mean(), plain.choice.p_free[0, choice].mean()
    assert told.prompt.cost == pytest.approx(1 - p / p_0)
    at = [control.behavior.normalized[0, behavior].mean() for control in controls.random if control.behavior]
    assert told.random is not None and told.random.n == 8
    assert told.random.b_most == pytest.approx(max(at) - plain.behavior.normalized[0, behavior].mean())
    assert told.gain.value == pytest.approx(
        (judgement.result.behavior.normalized[judgement.result.strengths == 0.1][0] - plain.behavior.normalized[0])[  # type: ignore[union-attr]
            behavior
        ].mean()
    )
    assert told.example is None  # the run has no texts


def test_too_small_a_budget_for_the_smallest_strength_costs_and_asks_for_smaller_ones(run: Path) -> None:
    told = verdict(run, Judging(max_loss=0.001))
    assert told.kind == "costs" and told.reason.startswith("Already the smallest strength, +0.1, costs ")
    assert told.next == {"strengths": "-0.1:0.1:0.025"}


def test_what_works_only_where_it_breaks_the_model_costs(run: Path) -> None:
    offsets = 0.3 * np.random.default_rng(3).standard_normal(len(BEHAVIOR))
    plant(run, half_odds=lambda s: offsets + (2.0 if s > 0.25 else 0.0))
    for label in (*(f"random-{i}" for i in range(8)), "orthogonal"):
        plant(run, half_odds=lambda _: offsets, label=label, strengths=(0.1,))
    told = verdict(run)
    assert told.kind == "costs" and told.headline == "No strength to recommend: it costs too much."
    assert "Other directions were not measured there." in told.reason  # so nothing says that the vector did it
    assert told.gain is not None and told.gain.low > 0 and told.cost is not None and told.cost.value > 0.05
    assert told.at is not None and told.at > 0.25 and "layers" in told.next


def test_a_vector_that_moves_nothing_does_nothing(run: Path) -> None:
    offsets = 0.3 * np.random.default_rng(3).standard_normal(len(BEHAVIOR))
    plant(run, half_odds=lambda _: offsets)
    told = verdict(run)
    assert (told.kind, told.strength) == ("nothing", None)
    assert told.gain is not None and told.gain.value == pytest.approx(0, abs=1e-12)


def test_what_random_directions_do_as_well_is_nothing(run: Path) -> None:
    """The planted gain at the candidate, from a random direction too."""
    with Store.read(run / STORE) as store:
        steered = store.logprobs("vector", "behavior", [0.1]).reshape(-1, 2)
    with Store.reopen(run / STORE) as store:
        store.add(Group("random-3", "behavior", 0.1, 0), 400, 3200, None, enumerate(steered))
    told = verdict(run)
    assert told.kind == "nothing" and told.reason.startswith("Other directions of the same size raise B by up to")
    assert told.random is not None and told.gain is not None and told.random.b_most > 0.9 * told.gain.value


def test_a_vector_that_works_the_other_way_round_says_so(run: Path) -> None:
    told = verdict(run, Judging(direction=-1))
    assert told.kind == "nothing" and told.next == {"direction": "+"}


def test_guessing_cannot_be_measured(run: Path) -> None:
    plant(run, odds_against=lambda _: np.full(len(CHOICE), 3.1))  # three wrong letters are as likely as the right one
    judgement = judge(open_run(run))
    told = verdict_of(judgement)
    assert told.kind == "unmeasurable" and "no better than by guessing" in told.reason and told.next == {"task": "own"}
    assert told.prompt is not None and told.prompt.cost is None  # the cost of guessing worse is none
    guessing = set(judgement.result.notes) - set(judgement.notes)
    assert len(guessing) == 1 and "guessing" in guessing.pop()  # the verdict says it, so the notes need not


def test_what_was_left_out_is_said_and_a_quick_candidate_asks_for_the_full_sweep(run: Path) -> None:
    proved = judge(open_run(run)).recommendation
    assert proved is not None
    few = Judging(max_loss=proved.loss * 0.8 + proved.loss_high * 0.2)
    full = verdict(run, few)
    assert full.kind == "unproved" and full.scope == "" and full.next
    result = open_run(run)
    plan, layers = result.manifest.plan, tuple(result.manifest.vector.layers)
    scope = Scope(True, None, {"behavior": (20, 80)}, (9, 17))
    Preparation("", (), (), (), (), layers, plan.strengths, scope=scope).write(run)
    told = verdict(run, few)
    assert (told.kind, told.headline, told.gain, told.cost) == (full.kind, full.headline, full.gain, full.cost)
    assert told.scope == scope.sentence == told.record()["scope"]
    assert (dict(told.next), told.next_why) == ({}, "The same command without `quick` measures 80 behavior items.")
    use = verdict(run)
    assert use.kind == "use" and use.scope == scope.sentence and use.next_why == ""


@pytest.mark.slow
def test_a_candidate_that_few_items_cannot_prove_names_how_many_more(run: Path) -> None:
    proved = judge(open_run(run)).recommendation
    assert proved is not None
    wide, narrow = (proved.loss * 0.8 + proved.loss_high * 0.2, proved.loss * 0.9 + proved.loss_high * 0.1)
    numbers = []
    for budget in (wide, narrow):
        told = verdict(run, Judging(max_loss=budget))
        assert told.kind == "unproved" and told.strength is None and "not proved" in told.headline, told
        numbers.append(int("".join(filter(str.isdigit, told.headline.split("about")[1]))))
    assert 0 < numbers[0] < numbers[1]  # the tighter the budget, the more it takes


def test_what_is_lacking_is_named(tiny_engine: Engine, tmp_path: Path) -> None:
    small_sweep(tiny_engine, tmp_path / "behavior", choice=(), random_directions=0)
    told = verdict(tmp_path / "behavior")
    assert (told.kind, told.headline) == (
        "partial", "No strength to recommend: it also takes choice, answer, code or own items."
    )  # fmt: skip
    small_sweep(tiny_engine, tmp_path / "choice", behavior=(), random_directions=0)
    assert verdict(tmp_path / "choice").headline == "No strength to recommend: it also takes behavior items."
    small_sweep(tiny_engine, tmp_path / "few", random_directions=0)
    few = verdict(tmp_path / "few")
    assert few.kind in ("unproved", "unmeasurable") and few.strength is None


def test_a_run_in_work_goes_on(run: Path) -> None:
    write_manifest(run, replace(read_manifest(run), finished=None))
    told = verdict(run)
    assert told.kind == "unfinished" and "9 of 9 strengths" in told.headline and "same command" in told.next_why


def test_every_measure_has_words_and_every_record_is_plain(run: Path) -> None:
    assert {"choice", "answer", "code", "own"} <= set(MEASURE_WORDS)
    record = verdict(run).record()
    assert record["kind"] == "use" and record["gain"]["n_items"] == 20 and record["loss"]["kind"] == "choice"
    assert set(record) >= {"headline", "strength", "at", "reason", "prompt", "random", "example", "next"}


def test_the_proof_holds_as_a_whole_exactly_where_the_candidate_is_confirmed(run: Path) -> None:
    """A table whose every line said yes stood above a verdict that was not proved."""
    offsets = 0.3 * np.random.default_rng(3).standard_normal(len(BEHAVIOR))
    seen = set()
    for lift in (0.0, 0.3, 0.58, 1.2):
        for label in (*(f"random-{i}" for i in range(8)), "orthogonal"):
            plant(run, half_odds=lambda _, by=lift: B0 + offsets + by, label=label, strengths=(0.1,))  # type: ignore[misc]
        best = judge(open_run(run)).recommendation
        assert best is not None and best.candidate == 0.1
        assert all(condition.holds for condition in proof(best.record())) is best.confirmed
        seen.add(best.confirmed)
    assert seen == {True, False}
