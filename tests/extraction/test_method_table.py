"""docs/methods.md tells what is measured, and what it concludes from it is so."""

from __future__ import annotations

import re

import pytest
from method_table import DOCUMENT, SCENARIOS, Found, document, measure

from steercpp.extraction.methods import METHODS, PENALTY, SHRINKAGE
from steercpp.extraction.quality import MOST_PAIRS, N_FOLDS, N_RESAMPLES, NAMES

pytestmark = pytest.mark.slow

Measured = dict[tuple[str, str], Found]
ALIKE, SOMEWHAT, MUCH, FEW, SHARED, WITHIN, STRONG, _, STRONG_FEW, STRONG_MANY, LEANING, FLIPPED, _ = (
    one.words for one in SCENARIOS
)


@pytest.fixture(scope="module")
def measured() -> Measured:
    return measure()


def test_the_document_says_what_is_measured(measured: Measured) -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert text == document(text, measured), "run: make table NAME=method"


def test_what_the_document_concludes(measured: Measured) -> None:
    """Bounds are half-way between what is claimed and what would contradict it."""

    def cosine(words: str, method: str) -> float:
        return measured[words, method].cosine

    for words in (ALIKE, SOMEWHAT, MUCH, SHARED):  # none of these is hard, but for centred PCA
        assert all(cosine(words, method) > 0.85 for method in METHODS if method not in ("random", "pca-centered"))
    assert cosine(ALIKE, "pca-centered") < 0.3 and cosine(MUCH, "pca-centered") > 0.9
    for words in (WITHIN, STRONG, STRONG_FEW, STRONG_MANY):  # a stronger nuisance within the pairs takes every PCA
        assert all(cosine(words, method) < 0.5 for method in ("pca", "pca-centered", "pca-pairs"))
    for words in (STRONG, STRONG_FEW):
        assert min(cosine(words, "logistic"), cosine(words, "lda")) > cosine(words, "mean")
    assert cosine(STRONG, "mean") > 0.7
    assert all(cosine(LEANING, method) < 0.85 for method in METHODS)  # nobody can tell them apart
    assert all(cosine(words, "random") < 0.15 for words in measured_words(measured))
    misled = measured[STRONG, "pca"].quality  # explaining much, yet wrong: the others tell
    assert misled.explained > 0.6
    assert misled.auc is not None and misled.auc < 0.7
    assert misled.agreement is not None and misled.agreement < 0.3
    fooled = measured[LEANING, "mean"].quality  # nothing tells
    assert fooled.auc is not None and fooled.auc > 0.9 and fooled.agreement is not None and fooled.agreement > 0.7
    flipped = measured[FLIPPED, "mean"]  # pairs the wrong way round show, and do little harm
    assert flipped.cosine > 0.9 and flipped.quality.agreement is not None and flipped.quality.agreement < 0.3


def measured_words(measured: Measured) -> set[str]:
    return {words for words, _ in measured}


def test_the_document_names_what_there_is() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    for name in (*METHODS, *NAMES):
        assert f"`{name}`" in text, name
    numbers = {"PENALTY": PENALTY, "SHRINKAGE": SHRINKAGE}
    for name, value in numbers.items():
        assert re.search(rf"{name} = {value:g}\b", text), name
    for words in (f"{N_FOLDS} parts", f"{N_RESAMPLES} times", f"{MOST_PAIRS} pairs"):
        assert words in text, words
