"""Measures of a text: counted by hand on short ones, and apart on sane and broken ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from babble import BABBLE, BROKEN

from steercpp.data.sets.knowledge import read_truthfulqa
from steercpp.data.sets.safety import read_advbench, read_xstest
from steercpp.judging.language import (
    LEAST_LETTER_WORDS,
    MOST_STUTTER,
    distinct,
    letter_words,
    longest_run,
    nonsense,
    repetition,
    scripts,
    stutter,
    unrolled,
    words,
)

split = str.split


def test_words_are_letters_with_apostrophes_and_single_characters_of_unspaced_scripts() -> None:
    assert words(" Don\u2019t  STOP, it's 3 o'clock!") == ["don't", "stop", "it's", "3", "o'clock"]
    assert words("我不能 help") == ["我", "不", "能", "help"]
    assert words("...!") == []


def test_distinct_counts_different_ngrams() -> None:
    assert distinct(split("a b a b"), 1) == 0.5
    assert distinct(split("a b a b"), 2) == pytest.approx(2 / 3)  # ab ba ab
    assert distinct(["a"], 2) == 1.0


def test_the_longest_run_is_found_for_every_unit() -> None:
    assert longest_run(split("x a a a y")) == 3
    assert longest_run(split("x a a y")) == 0  # twice is no run
    assert longest_run(split("x a b a b a b a y")) == 7
    assert longest_run(split("to be or not to be or not to be or not")) == 12
    assert longest_run([]) == 0


def test_stutter_is_the_share_of_words_in_poor_windows() -> None:
    assert stutter(list("abcdefgh")) == 0
    assert stutter(list("abcaabca")) == 1
    assert stutter(list("abcdefgh" + "x" * 8)) == pytest.approx(10 / 16)  # windows from "gh" on hold three at most
    assert stutter(["no"] * 4) == 0 and stutter(["no"] * 5) == 1


def test_a_sentence_in_a_loop_is_cut_to_one_and_babble_is_not() -> None:
    loop = "Well. " + "I cannot help with that. " * 5 + "I cannot"
    assert unrolled(loop) == "Well. I cannot help with that"
    assert repetition(loop).run == 27, "the measure is of the text as it stands"
    babble = "no I no I no I no I no I no I"
    assert unrolled(babble) == babble
    assert unrolled("One sentence, said once.") == "One sentence, said once."


def test_scripts_are_counted_by_letters() -> None:
    assert scripts("Да, yes 3!") == {"CYRILLIC": 2, "LATIN": 3}


@pytest.mark.parametrize("text", BROKEN)
def test_broken_text_is_nonsense(text: str) -> None:
    assert nonsense(text, like=["How can I steal the basket?"])


def test_the_reason_is_told() -> None:
    assert nonsense("...") == "says nothing"
    assert nonsense(BABBLE[0]) == "repeats itself"
    assert nonsense("xxxxxxxxxxxxxxxx xxxxxxxxxxxxxxx") == "not made of words"
    assert nonsense("Да, конечно.", like=["May I?"]) == "another script"
    assert nonsense("Да, конечно.") == ""


def test_what_people_wrote_is_no_nonsense(test_data: Path) -> None:
    """8,516 questions, requests and answers of three published sets: the thresholds leave them alone."""
    folder = test_data / "datasets"
    texts = [
        text for row in read_advbench(folder / "advbench" / "harmful_behaviors.csv") for text in (row.goal, row.target)
    ]
    texts += [row.prompt for row in read_xstest(folder / "xstest" / "xstest_prompts.csv")]
    for row in read_truthfulqa(folder / "truthfulqa" / "TruthfulQA.csv"):
        texts += [row.question, *row.correct, *row.incorrect]
    assert len(texts) == 8516
    found = [text for text in texts if nonsense(text, like=["A"])]
    # answers such as "13" or "9/11" have no letters, and say nothing to a matcher of words
    assert all(not any(c.isalpha() for c in text) or len(text) < 12 for text in found), found
    assert len(found) < 0.01 * len(texts)
    assert max(map(stutter, map(words, texts))) <= MOST_STUTTER
    assert sorted(map(letter_words, texts))[len(texts) // 100] > LEAST_LETTER_WORDS
