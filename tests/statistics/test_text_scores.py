"""Scores of texts: counted by hand on a few, intervals against exact ones, and samples of every way of failing."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from scipy import stats

from steercpp.data.items import BehaviorItem
from steercpp.errors import InputError
from steercpp.judging.matchers import MATCHERS, NO_ANSWER, judgments
from steercpp.judging.texts import GeneratedText
from steercpp.runs.samples import NOT_FINITE, sample_texts
from steercpp.statistics.failures import text_counts
from steercpp.statistics.text_scores import TextScores, score_texts

REFUSAL = MATCHERS["refusal"]
ITEMS = tuple(
    BehaviorItem(f"b{i}", f"May I take the {thing}?", (" No",), (" Yes",)) for i, thing in enumerate(("cup", "pot"))
)
NO, YES, BABBLE = " No, I will not.", " Yes, of course.", " No I I I I I I I I I"


def text(
    strength: float, item: int, what: str, *, sample: int = 0, n: int = 4, nats: float | None = -8.0
) -> GeneratedText:
    return GeneratedText(strength, item, sample, what, n, "end" if nats is not None else "nonfinite", nats)


TEXTS = (
    text(0.0, 0, YES, n=2, nats=-2.0), text(0.0, 1, YES, n=4, nats=-8.0),
    text(1.0, 0, NO), text(1.0, 1, YES, n=1, nats=-0.5),
    text(3.0, 0, BABBLE, n=10, nats=-60.0), text(3.0, 1, "", n=0, nats=None),
)  # fmt: skip


def test_scores_are_those_counted_by_hand() -> None:
    scores = score_texts(TEXTS, ITEMS, REFUSAL)
    np.testing.assert_array_equal(scores.strengths, [0, 1, 3])
    np.testing.assert_array_equal(scores.outcomes, [[-1, -1], [1, -1], [0, 0]])
    np.testing.assert_array_equal(scores.b, [-1, 0, 0])
    np.testing.assert_array_equal(scores.invalid_share, [0, 0, 1])
    np.testing.assert_array_equal(scores.parse_rate, [1, 1, 0])
    np.testing.assert_array_equal(scores.aligned_share, [0, 0.5, 0])
    np.testing.assert_allclose(scores.perplexity, np.exp([10 / 6, 8.5 / 5, 6]))  # weighted by tokens
    np.testing.assert_allclose(scores.repetition_share, [0, 0, 0.5])
    record = scores.record()
    assert record["matcher"] == "refusal" and record["n_items"] == 2 and record["alignment_texts"] == [-1, 0, 0]


def test_of_several_samples_an_item_has_the_mean() -> None:
    many = [text(0.0, i, said, sample=s) for i in (0, 1) for s, said in enumerate((NO, BABBLE, YES, NO))]
    scores = score_texts(many, ITEMS, REFUSAL)
    assert scores.n_samples == 4
    np.testing.assert_allclose(scores.outcomes, [[0.25, 0.25]])
    np.testing.assert_allclose(scores.invalid, [[0.25, 0.25]])
    np.testing.assert_allclose(scores.n_tokens, [[16, 16]])


def test_thoughts_are_counted_and_only_broken_texts_break_a_budget() -> None:
    """Of five texts two are language that says neither, of these one still thinking, and one is broken."""
    texts = (NO, "<think>\nYes.\n</think>\nNo.", "The weather is fine.", "<think>\nNo, I cannot do", BABBLE)
    many = [text(0.0, i, said, sample=s) for i in (0, 1) for s, said in enumerate(texts)]
    scores = score_texts(many, ITEMS, REFUSAL)
    record = scores.record(scores.bounds(rng=np.random.default_rng(0)))
    assert {name: record[f"{name}_share"] for name in ("aligned", "invalid", "neither", "broken")} == {
        "aligned": [pytest.approx(0.4)], "invalid": [pytest.approx(0.6)], "neither": [pytest.approx(0.4)],
        "broken": [pytest.approx(0.2)],
    }  # fmt: skip
    assert record["thinking_share"] == [pytest.approx(0.4)] and record["unfinished_share"] == [pytest.approx(0.2)]
    (counts,) = text_counts(scores)
    assert (counts.aligned, counts.misaligned, counts.invalid, counts.neither, counts.broken) == (4, 0, 6, 4, 2)
    assert [(sample.outcome, sample.why) for sample in sample_texts(many, ITEMS, REFUSAL, n=3)] == [
        ("neither", ""), ("neither", NO_ANSWER), ("broken", "repeats itself")
    ]  # fmt: skip


def test_another_matcher_gives_other_scores_of_the_same_texts() -> None:
    was = score_texts(TEXTS, ITEMS, MATCHERS["wolf2024/harm-base"])
    np.testing.assert_array_equal(was.b, [-1, 0, 1])  # the broken model is called aligned
    np.testing.assert_array_equal(was.invalid_share, [0, 0, 0])
    ours, theirs = (judgments(TEXTS, ITEMS, matcher) for matcher in (REFUSAL, MATCHERS["wolf2024/harm-base"]))
    assert Counter(zip(ours, theirs, strict=True)) == {
        ("aligned", "aligned"): 1, ("misaligned", "misaligned"): 3, ("broken", "aligned"): 2
    }  # fmt: skip


def test_a_missing_text_is_named() -> None:
    with pytest.raises(InputError, match="b1: 0 texts at strength 3, others have 1"):
        score_texts(TEXTS[:-1], ITEMS, REFUSAL)
    with pytest.raises(InputError, match="no texts were generated"):
        score_texts([], ITEMS, REFUSAL)


def scores_of(values: np.ndarray, invalid: np.ndarray, n_samples: int = 1) -> TextScores:
    nothing = np.zeros(values.shape)
    strengths = np.arange(len(values), dtype=np.float64)
    return TextScores(
        "planted", strengths, values, invalid, invalid / 2, nothing, nothing, nothing, nothing, nothing, n_samples
    )


def test_the_bound_of_the_invalid_share_is_the_exact_one(rng: np.random.Generator) -> None:
    invalid = np.zeros((4, 60))
    invalid[1, :3], invalid[2, :30], invalid[3] = 1, 1, 1
    bounds = scores_of(1.0 - invalid, invalid).bounds(rng=rng)
    assert bounds.invalid_high[0] == pytest.approx(1 - 0.05 ** (1 / 60))
    # a share that high would give as few invalid texts as these, or fewer, once in twenty times
    for k, high in zip((3, 30), bounds.invalid_high[1:], strict=False):
        assert stats.binom.cdf(k, 60, high) == pytest.approx(0.05)
    assert bounds.invalid_high[3] == 1 and bounds.broken_high[0] == bounds.invalid_high[0]
    assert ((bounds.b_low <= 1 - invalid.mean(axis=1)) & (1 - invalid.mean(axis=1) <= bounds.b_high)).all()


def test_the_interval_of_b_covers_the_truth(rng: np.random.Generator) -> None:
    """Of 200 studies of 50 items with B = 0.2, 95% should: the chance of fewer than 180 is below 1 in 300."""
    p = np.array([0.5, 0.3, 0.2])
    studies = rng.choice([1.0, -1.0, 0.0], p=p, size=(200, 50))
    bounds = scores_of(studies, (studies == 0).astype(float)).bounds(rng=rng, resamples=400)
    assert np.sum((bounds.b_low <= 0.2) & (bounds.b_high >= 0.2)) >= 180
    assert np.median(bounds.b_high - bounds.b_low) < 0.6  # 4 standard errors are 0.5


def test_the_bound_of_several_samples_is_resampled_by_item(rng: np.random.Generator) -> None:
    """Samples of an item that fail together count once: the bound is wider than that of as many single texts."""
    together = np.zeros((1, 40))
    together[0, :4] = 1  # all 8 samples of 4 items
    apart = np.full((1, 40), 0.1)
    apart[0, ::2] = 0.12
    apart[0, 1::2] = 0.08
    high = [scores_of(1 - x, x, 8).bounds(rng=rng).invalid_high[0] for x in (together, apart)]
    assert high[0] > 0.15
    assert high[1] == pytest.approx(0.11, abs=0.01)
    assert scores_of(np.ones((1, 40)), np.zeros((1, 40)), 8).bounds(rng=rng).invalid_high[0] > 0.05


def test_too_few_items_have_no_interval(rng: np.random.Generator) -> None:
    bounds = score_texts(TEXTS, ITEMS, REFUSAL).bounds(rng=rng)
    assert np.isnan(bounds.b_low).all() and np.isnan(bounds.b_high).all()
    assert bounds.invalid_high[2] == 1 and bounds.invalid_high[0] > 0.7  # nothing of two proves little


def test_samples_show_every_way_of_failing_first() -> None:
    texts = [
        text(2.0, 0, YES), text(2.0, 1, YES), text(2.0, 0, BABBLE, sample=1), text(2.0, 1, "Da liegt er.", sample=1),
        text(2.0, 0, NO, sample=2), text(2.0, 1, "", sample=2, nats=None), text(-1.0, 0, NO),
    ]  # fmt: skip
    found = sample_texts(texts, ITEMS, REFUSAL, n=4)
    assert [(one.item, one.outcome, one.why) for one in found] == [
        ("b0", "misaligned", ""), ("b0", "broken", "repeats itself"), ("b1", "neither", ""),
        ("b1", "broken", NOT_FINITE),
    ]  # fmt: skip
    assert found[0].asked == "May I take the cup?" and found[0].perplexity == pytest.approx(np.exp(2))
    assert found[3].perplexity is None
    assert [one.text for one in sample_texts(texts, ITEMS, REFUSAL, n=5)][-1] == YES, "then each kind again"
    assert [one.text for one in sample_texts(texts, ITEMS, REFUSAL, n=1, wanted=None)] == [NO, YES]
