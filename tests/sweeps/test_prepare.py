"""What is found before a first sweep: on the embedded model, which knows something, and on one of random weights."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from steercpp.data.items import OwnItem
from steercpp.data.pairs import pairs_sha256
from steercpp.data.prompts import Message
from steercpp.data.sets.embedded import load
from steercpp.engine.engine import Engine
from steercpp.errors import InputError, RunError
from steercpp.extraction.extract import extract
from steercpp.runs.folder import PREPARED
from steercpp.runs.preparation import read_preparation
from steercpp.statistics.curves import Curves, dealt
from steercpp.statistics.scores import BehaviorScores, ChoiceScores
from steercpp.sweeps.bracket import HALF, SIXTEENTHS
from steercpp.sweeps.own_answers import choosing
from steercpp.sweeps.prepare import prepare
from steercpp.sweeps.trial import EverydayCost
from steercpp.sweeps.wanted import Wanted
from steercpp.vectors.control_vector import ControlVector

pytestmark = pytest.mark.slow
EMBEDDED = load()


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine(EMBEDDED.path, threads=1) as engine:
        yield engine


def wanted(engine: Engine) -> Wanted:
    """A vector of the embedded model's pairs, on requests of its world."""
    pairs, requests = EMBEDDED.pairs(), EMBEDDED.choice()[:48]

    def directions(layers: Sequence[int]) -> ControlVector:
        return extract(engine, pairs, layers=layers)

    everyday = [OwnItem(f"own-{i}", (Message("user", item.question),)) for i, item in enumerate(requests)]
    return Wanted(
        directions=directions, vector_id=pairs_sha256(pairs), behavior=EMBEDDED.behavior()[:40],
        instruction=EMBEDDED.instruction, choice={"letters": EMBEDDED.choice()[:64]}, everyday=everyday,
    )  # fmt: skip


def test_the_choosing_items_are_those_of_the_recommendation() -> None:
    """Whatever chose layers has seen these items alone; the telling half must be fresh."""
    strengths, n = np.array([0.0, 1.0]), 11
    b = np.linspace(0.1, 0.3, n)
    scores = BehaviorScores(strengths, np.stack([b, b]), np.stack([b, b]) / 2)
    p = np.full((2, 20), 0.5)
    halves = Curves.of(scores, ChoiceScores(strengths, p, p, p > 0)).halves(np.random.default_rng(7))
    for half, numbers in zip(halves, dealt(n, np.random.default_rng(7)), strict=True):
        np.testing.assert_array_equal(half.behavior.p_aligned[0], b[numbers])


def test_everything_is_found_and_read_again(engine: Engine, tmp_path: Path) -> None:
    found = prepare(engine, wanted(engine), out=tmp_path)
    assert not found.reason and [signal.measure for signal in found.signals] == [
        "pairs", "own answers", "continuations", "letters",
    ]  # fmt: skip
    # 64 items, half of them telling, cannot prove 5%, so helpfulness is what the model itself answers
    letters = found.signals[-1]
    assert not letters.tells and "too weak" in letters.reason and not found.choice and len(found.own) >= 40
    assert all(item.tokens for item in found.own)
    # every window was tried at about one cost, and the one that surely gains most was taken
    assert len(found.windows) >= 4
    costs = [window["cost"] for window in found.windows if window["strength"]]
    assert max(costs) / min(costs) < 1.4
    best = max(found.windows, key=lambda window: window["gain_low"])
    assert tuple(best["layers"]) == found.layers and best["gain_low"] > 0
    # eight strengths a side, up to where half is lost
    assert len(found.strengths) == 2 * len(SIXTEENTHS) + 1
    for sign, end in (("+", found.strengths[-1]), ("-", -found.strengths[0])):
        side = found.sides[sign]
        assert side["is_reached"] and abs(side["end"]) <= end <= 1.34 * abs(side["end"])
    assert set(found.token_layers) == {"pairs", "answers", "signal", "layers", "bracket"}

    before = engine.token_layers
    again = prepare(engine, wanted(engine), out=tmp_path)
    assert engine.token_layers == before  # nothing was computed
    assert again == found or again.record() == json.loads(json.dumps(found.record()))
    assert again.own == found.own and again.behavior == found.behavior
    other = prepare(engine, replace(wanted(engine), layers=(4, 5), strengths=(-1.0, 0.0, 1.0)), out=tmp_path)
    assert (other.layers, other.strengths, other.windows, dict(other.sides)) == ((4, 5), (-1.0, 0.0, 1.0), (), {})
    assert [item.tokens for item in other.own] == [item.tokens for item in found.own]  # draws are seeded


def test_where_pairs_do_not_separate_there_is_no_direction(engine: Engine, tmp_path: Path) -> None:
    """Said at once; and where they separate at some layers, windows at the others are not compared."""

    def planted(auc: float) -> Wanted:
        def directions(layers: Sequence[int]) -> ControlVector:
            vector = extract(engine, EMBEDDED.pairs(), layers=layers)
            at = tuple(auc if il >= 5 else 0.5 for il in vector.layers)
            return replace(vector, metadata={**vector.metadata, "auc": at})

        return replace(wanted(engine), directions=directions)

    found = prepare(engine, planted(0.5), out=tmp_path / "none")
    assert found.reason == "the two sides do not separate at any layer, so there is no direction"
    assert [signal.measure for signal in found.signals] == ["pairs"] and set(found.token_layers) == {"pairs"}
    found = prepare(engine, planted(0.9), out=tmp_path / "some")
    tried = [window["layers"] for window in found.windows]
    assert tried and all(sum(il >= 5 for il in window) > len(window) / 6 for window in tried) and [1, 2, 3] not in tried
    given = prepare(engine, replace(planted(0.5), layers=(4, 5), strengths=(-0.1, 0.0, 0.1)), out=tmp_path / "given")
    assert not given.reason and not given.signals[0].tells  # layers that are given are taken


def test_the_bracket_ends_where_half_is_lost(engine: Engine, tmp_path: Path) -> None:
    asked = replace(wanted(engine), layers=(5, 6))
    found = prepare(engine, asked, out=tmp_path)
    assert found.layers == (5, 6)
    tried = dict(map(tuple, found.sides["+"]["tried"]))
    end = found.sides["+"]["end"]
    assert tried[end] < HALF and max(share for s, share in tried.items() if s < end) >= HALF
    cost = EverydayCost.of(engine, choosing(found.own)[:16])
    assert cost.n_items == 16 and len(cost.batches) >= 1


def test_a_model_of_random_weights_cannot_be_measured(tiny_engine: Engine, tmp_path: Path) -> None:
    pairs = EMBEDDED.pairs()[:8]
    everyday = [OwnItem(f"own-{i}", f"say {i}") for i in range(12)]
    asked = replace(
        wanted(tiny_engine), directions=lambda layers: extract(tiny_engine, pairs, layers=layers),
        behavior=EMBEDDED.behavior()[:12], instruction="say no", opposite="say yes", everyday=everyday, choice={},
    )  # fmt: skip
    found = prepare(tiny_engine, asked, out=tmp_path)
    assert found.reason and not found.strengths[1:]
    assert read_preparation(tmp_path) is not None


def test_what_cannot_be_prepared(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing to measure helpfulness on"):
        prepare(engine, replace(wanted(engine), choice={}, everyday=()), out=tmp_path)
    (tmp_path / PREPARED).write_text("{")
    with pytest.raises(RunError, match="cannot be read"):
        read_preparation(tmp_path)
    (tmp_path / PREPARED).write_text('{"format": "steercpp prepared 1"}')
    with pytest.raises(RunError, match="is damaged"):
        read_preparation(tmp_path)
