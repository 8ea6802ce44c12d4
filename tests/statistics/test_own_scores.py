"""Own answers as numbers: what they say of helpfulness, and a recommendation that other answers tell."""

from __future__ import annotations

import numpy as np
import pytest
from planted_items import alike

from steercpp.aliases import Floats
from steercpp.errors import InputError, ShapeError, StrengthError
from steercpp.statistics.curves import Curves, Telling
from steercpp.statistics.losses import guessing
from steercpp.statistics.recommend import Recommendation, recommend
from steercpp.statistics.scores import BehaviorScores, OwnScores, chance_level, measured

S = np.array([-1.0, 0.0, 0.5, 1.0, 1.5, 2.0])
KL = 0.012 * S**2  # losses of 0.3, 1.2, 2.7 and 4.7%


def own(n: int = 100, *, kl: Floats = KL, strengths: Floats = S, seed: int = 0) -> OwnScores:
    spread = np.random.default_rng(seed).uniform(0.5, 1.5, n)
    return OwnScores(strengths, kl[:, None] * spread, np.full(n, 48))


def behavior() -> BehaviorScores:
    b = np.clip(alike(0.3 * S, 200, 0.05, np.random.default_rng(0)), -0.9, 0.9)
    return BehaviorScores(S, (0.9 + b) / 2, (0.9 - b) / 2)


def told(telling: OwnScores | None, *, scores: OwnScores | None = None, max_loss: float = 0.05) -> Recommendation:
    tells = None if telling is None else Telling(telling.strengths, telling.p_own)
    return recommend(Curves.of(behavior(), scores or own(), "p_own", telling=tells), max_loss=max_loss)


def telling_at(strength: float, *, loss: float, n: int = 130) -> OwnScores:
    kl = np.array([0.0, -np.log1p(-loss)])
    return OwnScores(np.array([0.0, strength]), np.repeat(kl[:, None], n, axis=1), np.full(n, 40))


def test_helpfulness_is_1_without_steering_and_nothing_is_had_by_chance() -> None:
    scores = own(5)
    np.testing.assert_array_equal(measured(scores, "p_own")[1], 1.0)
    np.testing.assert_allclose(scores.p_own, np.exp(-scores.kl))
    np.testing.assert_allclose(scores.mean_kl, scores.kl.mean(axis=1))
    assert chance_level(scores, "p_own").tolist() == [0.0] * 5 and guessing(scores) == ""
    some = np.array([3, 1])
    np.testing.assert_array_equal(scores.take(some).kl, scores.kl[:, some])


def test_what_words_change_too_is_no_harm() -> None:
    """Words move every answer by 0.03 nats: only what steering moves beyond that counts."""
    plain = own(200)
    scores = OwnScores(S, plain.kl, plain.n_tokens, words=0.03)
    np.testing.assert_allclose(scores.p_beyond, np.exp(-np.clip(plain.kl - 0.03, 0, None)))
    np.testing.assert_array_equal(plain.p_beyond, plain.p_own)  # where nobody says what words do
    assert (scores.p_beyond >= scores.p_own).all() and scores.p_beyond.max() == 1
    assert scores.take(np.array([3, 1])).words == 0.03
    # the same telling answers, at a loss of 6%: beyond words it is 3%
    telling = telling_at(2.0, loss=0.06, n=300)
    beyond = OwnScores(telling.strengths, telling.kl, telling.n_tokens, words=0.03)
    curves = Curves.of(behavior(), scores, "p_beyond", telling=Telling(beyond.strengths, beyond.p_beyond))
    best = recommend(curves, max_loss=0.05)
    assert best.strength == 2.0 and best.kind == "own" and best.loss == pytest.approx(1 - 0.94 * np.exp(0.03))
    assert told(telling, scores=own(100, kl=np.zeros(6))).strength is None
    with pytest.raises(InputError, match="words: expected nats of at least 0, got -1"):
        OwnScores(S, plain.kl, plain.n_tokens, words=-1.0)


def test_scores_that_cannot_be() -> None:
    with pytest.raises(InputError, match=r"at least 0, found -0\.1"):
        OwnScores(np.array([0.0]), np.array([[-0.1]]), np.array([4]))
    with pytest.raises(InputError, match="at least 0, found nan"):
        OwnScores(np.array([0.0]), np.array([[np.nan]]), np.array([4]))
    with pytest.raises(InputError, match="own answer 1 has no tokens"):
        OwnScores(np.array([0.0]), np.array([[0.0, 0.0]]), np.array([4, 0]))
    with pytest.raises(ShapeError, match=r"kl: expected \(1, 2 >= 1\)"):
        OwnScores(np.array([0.0]), np.array([[0.0]]), np.array([4, 4]))
    with pytest.raises(ShapeError, match="twin: expected"):
        OwnScores(np.array([0.0]), np.array([[0.0]]), np.array([4]), np.zeros((1, 2)))
    with pytest.raises(StrengthError):
        OwnScores(np.array([0.0, 0.0]), np.zeros((2, 1)), np.array([4]))
    with pytest.raises(InputError, match="not one of OwnScores"):
        measured(own(3), "p_free")


def test_all_of_them_choose_and_others_tell() -> None:
    """100 choosing answers bound a loss of 1.2% below 5%, and one of 2.7% not."""
    found = told(telling_at(1.0, loss=0.02))
    assert found.candidate == found.strength == 1.0 and found.confirmed and found.kind == "own"
    assert found.chosen_on is not None and found.reported_on is not None
    assert (found.chosen_on.n_choice, found.reported_on.n_choice) == (100, 130)
    assert (found.chosen_on.n_behavior, found.reported_on.n_behavior) == (67, 133)  # a third of 200 chooses
    assert found.reported_on.loss == pytest.approx(0.02)
    assert found.chosen_on.loss == pytest.approx(1 - own().p_own[3].mean())


def test_a_loss_that_the_others_tell_is_not_recommended() -> None:
    found = told(telling_at(1.0, loss=0.08))
    assert (found.candidate, found.strength) == (1.0, None)
    assert "130 own items that had no part in the choice: the loss may be" in found.reason


def test_few_that_tell_prove_nothing() -> None:
    found = told(telling_at(1.0, loss=0.0, n=20))
    assert found.strength is None and "59 testing items that lose nothing prove that budget" in found.reason


@pytest.mark.parametrize(
    ("telling", "expected"),
    [
        (None, "the testing own answers are not measured; run the same sweep again"),
        (telling_at(1.5, loss=0.0), r"the testing own answers were measured at \+1.5, not there"),
        (OwnScores(np.array([0.0]), np.zeros((1, 130)), np.full(130, 9)), "the testing own answers are not measured"),
    ],
)
def test_a_candidate_where_nobody_told_is_not_confirmed(telling: OwnScores | None, expected: str) -> None:
    found = told(telling)
    assert (found.candidate, found.strength) == (1.0, None)
    assert found.reported_on is not None and np.isnan(found.reported_on.loss)
    assert any(part in found.reason for part in expected.replace("\\", "").split("|"))


def test_too_few_to_bound_anything() -> None:
    found = told(None, scores=own(3))
    assert found.candidate is None and "too few own answers: 3 of every third request" in found.reason


def test_strengths_may_come_in_any_order() -> None:
    order = np.array([3, 0, 5, 1, 2, 4])
    shuffled = own(kl=KL[order], strengths=S[order])
    assert repr(told(telling_at(1.0, loss=0.02), scores=shuffled)) == repr(told(telling_at(1.0, loss=0.02)))
