"""How choices are listed: the paper's form, or the nearest one that a vocabulary can write."""

from __future__ import annotations

import string

import pytest

from steercpp.data.choice_form import CHOICE_FORM, ChoiceForm, choice_form
from steercpp.data.items import BehaviorItem, ChoiceItem, choice_form_of, choice_prompt, prompt_of

ITEM = ChoiceItem("q", "Which?", ("oak", "fir"), 0)
ALL = string.printable


@pytest.mark.parametrize(
    ("lacking", "asked"),
    [
        ("", "Which?\nA) oak.\nB) fir.\nThe answer is"),
        ("\n", "Which? A) oak. B) fir. The answer is"),
        (")", "Which?\nA: oak.\nB: fir.\nThe answer is"),
        (")\n.:", "Which? A oak; B fir; The answer is"),
        ("T", "Which?\nA) oak.\nB) fir.\nthe answer is"),
        (string.ascii_uppercase, "Which?\na) oak.\nb) fir.\nthe answer is"),
        ("ths\n", "Which? A) oak. B) fir."),
    ],
)
def test_signs_that_a_vocabulary_lacks_are_replaced(lacking: str, asked: str) -> None:
    form = choice_form(lambda text: not set(text) & set(lacking), n_choices=2)
    assert form.asked("Which?", ("oak", "fir")) == asked
    assert (form == CHOICE_FORM) == (not lacking)


def test_only_the_letters_that_are_needed_count() -> None:
    assert choice_form(lambda text: "F" not in text, n_choices=4) == CHOICE_FORM
    assert choice_form(lambda text: "F" not in text, n_choices=6).letters == string.ascii_lowercase
    assert choice_form(lambda text: False, n_choices=4) == CHOICE_FORM  # nothing helps: the error names what is lacking


def test_the_form_is_that_of_the_items_asked_by_letter() -> None:
    by_text = ChoiceItem("t", "Which?", ("oak", "fir", "yew"), 0, by="text")
    behavior = BehaviorItem("b", "I am", (" happy",), (" sad",))
    assert choice_form_of([by_text, behavior], lambda text: False) is CHOICE_FORM
    form = choice_form_of([behavior, ITEM], lambda text: "\n" not in text)
    assert form == ChoiceForm(line=" ")
    assert choice_prompt(ITEM, form) == prompt_of(ITEM, form)[0] == "Which? A) oak. B) fir. The answer is"
    assert choice_prompt(by_text, form) == "Which?" and prompt_of(ITEM, form)[2] == {"choices": ("A", "B")}
