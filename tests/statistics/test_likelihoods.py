"""Likelihoods of texts: against arithmetic by hand and scikit-learn, and on planted requests."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score, roc_auc_score

from steercpp.errors import InputError
from steercpp.judging.texts import GeneratedText, Reading
from steercpp.statistics.likelihoods import (
    Readings,
    agreement,
    likelihood_scores,
    posterior_difference,
    separation,
    text_loss,
)


def read(strength: float, item: int, llr: float, n_tokens: int, nats: float, sample: int = 0) -> GeneratedText:
    reading = Reading(llr, nats) if n_tokens else None
    return GeneratedText(strength, item, sample, "text", n_tokens, "length", None, reading=reading)


def test_b_is_the_difference_of_the_posteriors() -> None:
    for p_plus, p_minus in itertools.product((1e-9, 0.003, 0.2, 0.9), repeat=2):
        posterior = p_plus / (p_plus + p_minus)
        b = float(posterior_difference(np.array(math.log(p_plus) - math.log(p_minus))))
        assert b == pytest.approx(posterior - (1 - posterior), abs=1e-12)
    assert float(posterior_difference(np.array(math.log(3)))) == pytest.approx(0.5)
    assert posterior_difference(np.array([-1e6, 0.0, 1e6])).tolist() == [-1, 0, 1]


def test_scores_are_those_by_hand() -> None:
    """Two strengths, five requests of two samples, one of them without a text."""
    rng = np.random.default_rng(3)
    texts, llrs, counts, rates = [], {}, {}, {}
    for s, item, sample in itertools.product((0.0, 0.5), range(5), range(2)):
        n = 0 if (s, item, sample) == (0.5, 4, 1) else int(rng.integers(3, 20))
        llr, nats = float(rng.normal(3 * s, 2)), float(-rng.uniform(1, 3) * n)
        texts.append(read(s, item, llr, n, nats, sample))
        if n:
            llrs[s, item, sample], counts[s, item, sample], rates[s, item, sample] = llr, n, nats / n
    in_words = [read(0.0, item, 5.0, 10, -10.0 * (1 + item), sample) for item in range(5) for sample in range(2)]
    steered = Readings.of(texts, 5)
    language = np.ones((2, 5, 2), bool)
    language[1, 0, 0] = False
    scores = likelihood_scores(steered, Readings.of(in_words, 5), language, rng=rng)

    unsteered = [llr for (s, *_), llr in llrs.items() if s == 0]
    assert scores.unsteered == pytest.approx(sum(unsteered) / 10) and steered.unsteered == scores.unsteered
    relative = {key: llr - scores.unsteered for key, llr in llrs.items()}
    for row, s in enumerate((0.0, 0.5)):
        of = [key for key in relative if key[0] == s]
        b = [math.tanh(relative[key] / 2) for key in of]
        assert scores.b[row] == pytest.approx(
            sum(value for key, value in zip(of, b, strict=True) if key != (0.5, 0, 0)) / 10
        )
        assert scores.saturated[row] == pytest.approx(sum(abs(value) > 0.99 for value in b) / len(of))
        assert scores.per_token[row] == pytest.approx(
            sum(relative[key] for key in of) / sum(counts[key] for key in of), abs=1e-12
        )
        words = -(1 + 2 + 3 + 4 + 5) / 5
        assert scores.loss[row] == pytest.approx(1 - math.exp(sum(rates[key] for key in of) / len(of) - words))
    assert (scores.per_token_low <= scores.per_token).all() and (scores.per_token <= scores.per_token_high).all()
    assert (scores.loss_low < scores.loss).all() and (scores.loss < scores.loss_high).all()
    assert scores.per_token_low[0] == scores.per_token_high[0] == 0, "at 0 LLR' is 0 whatever requests are drawn"
    assert set(scores.record()) > {"unsteered", "llr_per_token", "text_loss"}


def test_texts_that_were_not_read_are_refused() -> None:
    unread = GeneratedText(0.0, 0, 0, "text", 3, "length", -4.0)
    with pytest.raises(InputError, match="`opposite`"):
        Readings.of([unread], 1)
    empty = Readings.of([read(0.0, 0, 0.0, 0, 0.0)], 1)
    assert math.isnan(empty.unsteered) and math.isnan(empty.llr[0, 0, 0])


def test_a_loss_of_each_token_is_that_loss(rng: np.random.Generator) -> None:
    words = -rng.uniform(1, 3, (30, 1))
    value, low, high = text_loss(np.stack([words, words + math.log(0.95), words + 0.1]), words, rng=rng)
    assert value == pytest.approx([0, 0.05, 1 - math.exp(0.1)]) and low == pytest.approx(value)
    assert high == pytest.approx(value), "paired: the requests' own likelihoods drop out"


@pytest.mark.slow
def test_the_bounds_of_the_loss_hold_what_was_planted() -> None:
    """Of 200 studies of 24 requests at least 90% have the truth between their bounds, which are meant for 95%."""
    rng = np.random.default_rng(8)
    truth, held = 1 - math.exp(-0.3), 0
    for _ in range(200):
        words, steered = -2 + 0.6 * rng.standard_normal((24, 1)), -2.3 + 0.8 * rng.standard_normal((1, 24, 1))
        _, low, high = text_loss(steered, words, rng=rng)
        held += low[0] <= truth <= high[0]
    assert held >= 180


def test_separation_is_the_area_under_the_curve(rng: np.random.Generator) -> None:
    plus, minus = rng.normal(1.5, 1, (30, 2)), rng.normal(0, 1, (30, 2))
    plus[3, 1] = np.nan
    bound = separation(plus, minus, rng=rng)
    a, b = plus[np.isfinite(plus)], minus.ravel()
    assert bound.value == pytest.approx(roc_auc_score([1] * len(a) + [0] * len(b), [*a, *b]))
    assert bound.value == pytest.approx(np.mean([(x > y) + (x == y) / 2 for x in a for y in b]))
    assert bound.value - 0.15 < bound.low < bound.value
    assert separation(minus, plus, rng=rng).value == pytest.approx(1 - bound.value)


def test_separation_of_few_requests_is_never_certain(rng: np.random.Generator) -> None:
    for n, least in ((8, 0.05 ** (1 / 8)), (24, 0.05 ** (1 / 24))):
        bound = separation(np.full((n, 1), 9.0) + rng.random((n, 1)), rng.random((n, 1)), rng=rng)
        assert bound.value == 1 and bound.low == pytest.approx(least)
    few = separation(np.ones((4, 1)), np.zeros((4, 1)), rng=rng)
    assert few.value == 1 and math.isnan(few.low)
    assert math.isnan(separation(np.full((6, 1), np.nan), np.zeros((6, 1)), rng=rng).value)


def test_separation_by_chance_is_not_believed() -> None:
    """Of 100 studies where both sides are alike hardly one has a bound above the half, and none above 0.75."""
    rng = np.random.default_rng(4)
    lows = [separation(*rng.standard_normal((2, 24, 1)), rng=rng).low for _ in range(100)]
    assert sum(low > 0.5 for low in lows) <= 10 and max(lows) < 0.75


def test_agreement_is_cohens_kappa(rng: np.random.Generator) -> None:
    ours = rng.integers(0, 3, 120)
    theirs = np.where(rng.random(120) < 0.7, ours, rng.integers(0, 3, 120))
    items = np.repeat(np.arange(24), 5)
    bound = agreement(ours, theirs, items, rng=rng)
    assert bound.value == pytest.approx(cohen_kappa_score(ours, theirs))
    same = np.mean(ours == theirs)
    chance = sum(np.mean(ours == k) * np.mean(theirs == k) for k in range(3))
    assert bound.value == pytest.approx((same - chance) / (1 - chance))
    assert bound.value - 0.2 < bound.low < bound.value
    assert agreement(ours, ours, items, rng=rng).value == 1
    assert agreement(ours, rng.permutation(ours), items, rng=rng).low < 0.4
    nothing = agreement(np.zeros(9, int), np.zeros(9, int), np.arange(9), rng=rng)
    assert math.isnan(nothing.value), "both call all texts the same: chance does so, too"


def test_agreement_resamples_requests_not_texts() -> None:
    """Ten texts of a request that are all alike tell as much as one of them: the bound is that of the requests."""
    ours = np.array([0, 1] * 12)
    theirs = np.where(np.arange(24) % 6 == 0, 1 - ours, ours)
    once = agreement(ours, theirs, np.arange(24), rng=np.random.default_rng(1))
    many = agreement(
        np.repeat(ours, 10), np.repeat(theirs, 10), np.repeat(np.arange(24), 10), rng=np.random.default_rng(1)
    )
    assert many.value == pytest.approx(once.value) and many.low == pytest.approx(once.low)
