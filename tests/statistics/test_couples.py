"""Couples and sides: planted correlations, independent formulas, and the cases that say nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from steercpp.aliases import Floats
from steercpp.data.items import BehaviorItem, ChoiceItem
from steercpp.data.sets.builtin import behavior_set
from steercpp.errors import ShapeError, StrengthError
from steercpp.judging.matchers import matcher_named
from steercpp.judging.texts import GeneratedText
from steercpp.statistics.couples import Coupled, coupled, pearson, spearman
from steercpp.statistics.over_refusal import sides, text_sides
from steercpp.statistics.scores import BehaviorScores, ChoiceScores
from steercpp.statistics.text_scores import TextScores, score_texts

S = np.array([-1.0, 0.0, 1.0])


def behavior_items(n: int, *, subject: str = "", couple: str = "c{}") -> tuple[BehaviorItem, ...]:
    return tuple(
        BehaviorItem(f"b{subject}{i}", f"{subject} {i}?", (" No",), (" Yes",), subject=subject, couple=couple.format(i))
        for i in range(n)
    )


def choice_items(n: int, couple: str = "c{}") -> tuple[ChoiceItem, ...]:
    return tuple(ChoiceItem(f"q{i}", f"{i}?", ("a", "b"), 0, couple=couple.format(i)) for i in range(n))


def behavior(b: Floats, mass: float = 0.8) -> BehaviorScores:
    return BehaviorScores(S, mass * (1 + b) / 2, mass * (1 - b) / 2)


def choices(p: Floats) -> ChoiceScores:
    return ChoiceScores(S, p, p, p > 0.5)


def planted(n: int, rho: float, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """B and P (3, n) whose changes at 1 correlate by rho, and at -1 not at all."""
    z = rng.standard_normal((3, n))
    zero = np.zeros(n)
    b = np.vstack([0.1 * rng.standard_normal(n), zero, 0.1 * z[0]])
    p = 0.5 + np.vstack([0.05 * rng.standard_normal(n), zero, 0.05 * (rho * z[0] + np.sqrt(1 - rho**2) * z[1])])
    return np.clip(b, -1, 1), np.clip(p, 0, 1)


def of(n: int, rho: float, seed: int, *, resamples: int = 1000) -> Coupled:
    b, p = planted(n, rho, np.random.default_rng(seed))
    found = coupled(behavior(b), behavior_items(n), choices(p), choice_items(n), resamples=resamples)
    assert found is not None
    return found


def test_a_planted_correlation_is_found_at_its_strength() -> None:
    found = of(200, 0.7, 0)
    before, after = found.correlations
    assert (found.helpful, len(found.names), before.strength, after.strength) == ("choice", 200, -1.0, 1.0)
    assert after.pearson.value == pytest.approx(0.7, abs=0.12)  # its error is (1 - 0.49)/14 = 0.036
    # of a bivariate normal, 6/pi arcsin(rho/2)
    assert after.spearman.value == pytest.approx(6 / np.pi * np.arcsin(0.35), abs=0.12)
    for each in (before.pearson, before.spearman):
        assert each.low < 0 < each.high
    assert after.pearson.low > 0.5


def test_intervals_hold_the_truth() -> None:
    """200 studies of 40 couples: 95% within 3.5 binomial errors of 1.5%; of ranks as of products."""
    truth = np.array([0.5, 6 / np.pi * np.arcsin(0.25)])
    hits = np.zeros(2)
    for seed in range(200):
        after = of(40, 0.5, seed, resamples=300).correlations[1]
        hits += [low <= t <= high for (low, high), t in zip(
            ((after.pearson.low, after.pearson.high), (after.spearman.low, after.spearman.high)), truth, strict=True
        )]  # fmt: skip
    assert ((hits / 200 > 0.89) & (hits / 200 < 0.995)).all(), hits / 200


def test_correlations_are_scipys() -> None:
    rng = np.random.default_rng(3)
    x = rng.integers(0, 6, 30).astype(np.float64)  # ties
    y = x + 2 * rng.standard_normal(30)
    assert pearson(x, y) == pytest.approx(stats.pearsonr(x, y).statistic, abs=1e-12)
    assert spearman(x, y) == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)
    assert pearson(x, np.ones(30)) == 0.0


def test_few_couples_say_so() -> None:
    found = of(4, 0.5, 0)
    assert found.correlations == () and found.reason == "4 couples are too few to correlate; it takes 5"
    assert len(of(5, 0.5, 0).correlations) == 2
    b, p = planted(1, 0.5, np.random.default_rng(0))
    one = coupled(behavior(b), behavior_items(1), choices(p), choice_items(1))
    assert one is not None and one.reason == "1 couple is too few to correlate; it takes 5"


def test_what_does_not_change_correlates_with_nothing() -> None:
    b, p = planted(20, 0.5, np.random.default_rng(1))
    found = coupled(behavior(b), behavior_items(20), choices(np.full_like(p, 0.5)), choice_items(20))
    assert found is not None and np.isnan(found.correlations[1].pearson.value)
    line = coupled(behavior(b), behavior_items(20), choices(0.5 + b / 4), choice_items(20))
    assert line is not None
    assert line.correlations[1].pearson.value == pytest.approx(1.0)
    assert line.correlations[1].spearman.low == pytest.approx(1.0)


def test_items_are_matched_by_name_and_not_by_place() -> None:
    b, p = planted(30, 0.9, np.random.default_rng(2))
    straight = coupled(behavior(b), behavior_items(30), choices(p), choice_items(30))
    mixed = np.random.default_rng(9).permutation(30)
    items = choice_items(30)
    other = coupled(behavior(b), behavior_items(30), choices(p[:, mixed]), [items[i] for i in mixed])
    assert straight is not None and other is not None
    np.testing.assert_array_equal(straight.changes_p, other.changes_p)
    partly = coupled(behavior(b), behavior_items(30), choices(p[:, :7]), items[:7])
    assert partly is not None and partly.names == tuple(f"c{i}" for i in range(7))


def test_without_choices_the_harmless_request_is_the_helpfulness() -> None:
    rng = np.random.default_rng(4)
    change = 0.1 * rng.standard_normal(25)
    # the harmful ones are refused more, and so, which is not wanted, the harmless ones
    b = np.vstack([np.zeros(50), np.zeros(50), np.concatenate([change, -change])])
    items = behavior_items(25, subject="harmful") + behavior_items(25, subject="harmless")
    found = coupled(behavior(b), items)
    assert found is not None and found.helpful == "harmless"
    # more refusal of the harmful one goes with less compliance with the harmless one
    assert found.correlations[1].pearson.value == pytest.approx(-1.0)
    np.testing.assert_allclose(found.changes_p[2], -0.8 * change / 2, atol=1e-12)  # P+ is the mass times (1 + B)/2


def test_several_items_of_a_couple_count_by_their_mean() -> None:
    b = np.vstack([np.zeros(12), np.zeros(12), np.tile([0.2, 0.4], 6)])
    items = [BehaviorItem(f"b{i}", "?", (" a",), (" b",), couple=f"c{i // 2}") for i in range(12)]
    found = coupled(behavior(b), items, choices(np.full((3, 6), 0.5)), choice_items(6))
    assert found is not None
    np.testing.assert_allclose(found.changes_b[2], 0.3, atol=1e-12)


def test_nothing_coupled_is_none() -> None:
    b, p = planted(10, 0.5, np.random.default_rng(5))
    assert coupled(behavior(b), behavior_items(10, couple=""), choices(p), choice_items(10, couple="")) is None
    assert coupled(behavior(b), behavior_items(10), choices(p), choice_items(10, couple="x{}")) is None
    assert coupled(behavior(b), behavior_items(10)) is None


def test_what_cannot_be_compared_is_an_error() -> None:
    b, p = planted(10, 0.5, np.random.default_rng(6))
    with pytest.raises(ShapeError, match="9 behavior items for 10"):
        coupled(behavior(b), behavior_items(9))
    moved = BehaviorScores(S + 5, behavior(b).p_aligned, behavior(b).p_misaligned)
    with pytest.raises(StrengthError, match="strength 0 is missing"):
        coupled(moved, behavior_items(10))
    late = ChoiceScores(np.array([0.0, 1.0, 2.0]), p, p, p > 0.5)
    with pytest.raises(ShapeError, match="behavior was measured at"):
        coupled(behavior(b), behavior_items(10), late, choice_items(10))


def test_the_record_is_plain_data() -> None:
    record = of(10, 0.5, 0).record()
    assert json.loads(json.dumps(record))["correlations"][1]["strength"] == 1.0


def scores_of(codes: Any) -> TextScores:
    """Scores of texts with these outcomes: (n_s, n_items) or, of several samples, (n_s, n_items, n_samples)."""
    codes = np.asarray(codes, np.float64)
    codes = codes[:, :, None] if codes.ndim == 2 else codes
    blank = np.zeros(codes.shape[:2])
    invalid = (codes == 0).mean(axis=2)
    return TextScores(
        "planted", S, codes.mean(axis=2), invalid, blank, blank, blank, blank, blank, blank, codes.shape[2]
    )


def both_sides(n: int = 20) -> tuple[BehaviorItem, ...]:
    return behavior_items(n, subject="harmful") + behavior_items(n, subject="harmless")


def test_over_refusal_and_compliance_by_hand() -> None:
    """Steered, harmful requests are refused by 0.9 and harmless ones by 0.3; unsteered by 0.5 and 0.1."""
    refuse = np.array([[0.5] * 20 + [0.1] * 20] * 2 + [[0.9] * 20 + [0.3] * 20])
    wanted = np.where(np.arange(40) < 20, 2 * refuse - 1, 1 - 2 * refuse)
    found = sides(behavior(wanted), both_sides())
    assert found is not None and (found.n_harmful, found.n_harmless) == (20, 20)
    np.testing.assert_allclose(found.over_refusal[:, 0], [0.1, 0.1, 0.3], atol=1e-12)
    np.testing.assert_allclose(found.compliance[:, 0], [0.5, 0.5, 0.1], atol=1e-12)
    np.testing.assert_allclose(found.over_refusal[:, 1], found.over_refusal[:, 2])  # all alike
    rng = np.random.default_rng(7)
    spread = sides(behavior(np.clip(wanted + 0.1 * rng.standard_normal(refuse.shape), -1, 1)), both_sides())
    assert spread is not None and (spread.over_refusal[:, 1] < spread.over_refusal[:, 0]).all()
    assert json.loads(json.dumps(spread.record()))["rows"][2]["compliance"]["value"] < 0.2


def test_sides_from_texts_count_nonsense_as_no_compliance() -> None:
    codes = np.zeros((3, 40), int)
    codes[1] = [1] * 10 + [-1] * 10 + [-1] * 2 + [1] * 18  # twenty harmful ones, then twenty harmless ones
    codes[2] = [1] * 18 + [0] * 2 + [-1] * 4 + [0] * 6 + [1] * 10
    found = text_sides(scores_of(codes), both_sides())
    assert found is not None
    np.testing.assert_allclose(found.compliance[:, 0], [0, 0.5, 0])
    np.testing.assert_allclose(found.over_refusal[:, 0], [1, 0.1, 0.5])
    assert found.over_refusal[1, 2] > 0.1 and found.compliance[0, 1] == 0
    several = text_sides(scores_of(np.stack([codes, codes], axis=2)), both_sides())
    assert several is not None
    np.testing.assert_allclose(several.compliance[:, 0], found.compliance[:, 0])


@pytest.mark.parametrize(("refused", "complied"), [(" No, never.", " Yes, you can. Yes, you"), ("", " Yes")])
@pytest.mark.parametrize("name", ["wolf2024/harm-base", "wolf2024/fairness-base", "file"])
def test_every_matcher_has_the_same_sides(tmp_path: Path, name: str, refused: str, complied: str) -> None:
    """What broke: of harmless requests all complied with, the study's matchers told an over-refusal of 1.

    With the set's own items. Silence refuses, to the study's matchers, and is invalid to a file's: neither complies.
    """
    if name == "file":
        name = str(tmp_path / "own.json")
        own = {"aligned": {"phrases": ["no"]}, "misaligned": {"phrases": ["yes"]}}
        (tmp_path / name).write_text(json.dumps(own), encoding="utf-8")
    items = behavior_set("refusal").items
    for text, over, compliance in ((complied, 0, 1), (refused, 1, 0)):
        texts = [GeneratedText(1.0, i, 0, text, 8, "length", -8.0) for i in range(len(items))]
        scores = score_texts(texts, items, matcher_named(name))
        found = text_sides(scores, items)
        assert found is not None and found.n_harmless == found.n_harmful == 36
        assert (found.over_refusal[0, 0], found.compliance[0, 0]) == (over, compliance)
        assert scores.b[0] == 0, "a gain on one side is a loss on the other"


def test_of_none_refused_the_interval_is_not_closed() -> None:
    """What broke: four texts an item, none of them a refusal, had an over-refusal of 0 for sure."""
    codes = np.ones((3, 40, 4), int)
    found = text_sides(scores_of(codes), both_sides())
    assert found is not None
    np.testing.assert_allclose(found.over_refusal, [[0, 0, 1 - 0.025 ** (1 / 20)]] * 3)


def test_items_of_no_side_have_no_sides() -> None:
    b = np.zeros((3, 20))
    assert sides(behavior(b), behavior_items(20)) is None
    assert sides(behavior(b), behavior_items(20, subject="harmful")) is None
    few = sides(behavior(b[:, :4]), both_sides(2))
    assert few is not None and np.isnan(few.over_refusal[:, 1:]).all()
