"""Texts and verdicts in the store: they come back as they were, whole items only."""

from __future__ import annotations

from pathlib import Path

import pytest

from steercpp.choices import CODE_WAYS
from steercpp.data.items import CodeItem
from steercpp.errors import RunError
from steercpp.judging.texts import GeneratedText, Verdict
from steercpp.runs.code import earlier_labels, failure_reasons, judge_code, stored_code_scores, verdict_label
from steercpp.runs.store import Store
from steercpp.runs.text_notes import EARLIER_RULE, text_notes

# a NUL, half a sentence of another script, a quotation mark and a line break: what a broken model may well say
TEXTS = (
    GeneratedText(-0.5, 2, 0, "no\x00 '\"\n", 5, "length", -1.25),
    GeneratedText(-0.5, 2, 1, "мир 🙂", 4, "end", -7.5),
    GeneratedText(1e30, 2, 0, "", 0, "nonfinite", None),
)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "sweep.sqlite", plan_sha256="p")


def test_texts_come_back_in_order(store: Store) -> None:
    store.add_texts("vector", "behavior", 2, reversed(TEXTS), token_layers=7, token_layers_plain=20)
    other = GeneratedText(-0.5, 0, 0, "yes", 1, "stop", -0.5)
    store.add_texts("vector", "behavior", 0, [other], token_layers=1, token_layers_plain=2)
    store.add_texts("prompt", "behavior", 0, [other], token_layers=1, token_layers_plain=1)
    store.close()
    with Store.read(store.path) as again:
        assert again.texts("vector", "behavior") == (other, *TEXTS)
        assert again.texts("prompt", "behavior") == (other,)
        assert again.texts("vector", "code") == ()
        assert again.items_with_texts("vector", "behavior") == {0, 2}
        assert again.items_with_texts("vector", "code") == set()
        assert again.text_work() == (9, 23)


def test_an_item_is_there_whole_or_not_at_all(store: Store) -> None:
    broken = GeneratedText(0.5, 1, 0, None, 1, "end", -1.0)  # type: ignore[arg-type]  # what the table refuses
    with pytest.raises(RunError):
        store.add_texts("vector", "behavior", 1, [TEXTS[0], broken], token_layers=1, token_layers_plain=1)
    assert store.texts("vector", "behavior") == ()
    assert store.items_with_texts("vector", "behavior") == set()


def test_verdicts_come_back_and_are_replaced(store: Store) -> None:
    first = [Verdict(0.0, 0, 0, True, ""), Verdict(0.0, 0, 1, False, "timed out")]
    store.add_verdicts("vector", "code", first)
    store.add_verdicts("vector", "code", [Verdict(0.0, 0, 1, False, "NameError")])
    assert store.verdicts("vector", "code") == (first[0], Verdict(0.0, 0, 1, False, "NameError"))
    assert store.verdicts("prompt", "code") == ()


def test_a_text_that_ended_in_no_known_way_is_damage(store: Store) -> None:
    store.add_texts("vector", "behavior", 2, TEXTS, token_layers=1, token_layers_plain=1)
    store._database.rows("UPDATE texts SET finish = 'perhaps' WHERE sample = 1")
    with pytest.raises(RunError, match="not a usable sweep store"):
        store.texts("vector", "behavior")


def test_texts_that_begin_inside_a_thought_are_known_again(store: Store) -> None:
    begun = GeneratedText(0.0, 1, 0, "I cannot", 2, "length", -1.0, in_thought=True)
    other = GeneratedText(0.0, 0, 0, "I cannot", 2, "length", -1.0)
    for text in (begun, other):
        store.add_texts("vector", "behavior", text.item, [text], token_layers=1, token_layers_plain=1)
    store.add_texts("prompt", "behavior", 1, [other], token_layers=1, token_layers_plain=1)
    assert store.texts("vector", "behavior") == (other, begun)
    assert [text.in_thought for text in store.texts("prompt", "behavior")] == [False]


def test_notes_tell_how_many_texts_hold_thoughts_and_how_many_end_in_them(store: Store) -> None:
    assert text_notes(store) == ()
    said = ("No.", "<think>\nhm\n</think>\nNo.", "<think>\nI cannot", "Sure")
    texts = [GeneratedText(float(s), 0, 0, text, 3, "length", -1.0) for s, text in enumerate(said)]
    store.add_texts("vector", "behavior", 0, texts[:1], token_layers=1, token_layers_plain=1)
    assert text_notes(store) == ()
    store.add_texts("vector", "behavior", 0, texts[1:2], token_layers=1, token_layers_plain=1)
    assert text_notes(store) == (
        "1 of 2 generated texts hold thoughts; what is judged is the answer behind them",
    )  # fmt: skip
    store.add_texts("vector", "code", 0, texts[2:], token_layers=1, token_layers_plain=1)
    (note,) = text_notes(store)
    assert note.startswith("2 of 4 generated texts") and "1 ended inside their thoughts" in note
    assert note.endswith("allow more with `max_tokens`")


def test_verdicts_by_an_earlier_rule_are_read_and_never_mixed(store: Store) -> None:
    """A run of an earlier version keeps its numbers, and says whose they are, until all texts are judged anew."""
    store.add_items("code", [CodeItem("c", "def f():\n", "f", "def check(f):\n    f()\n")], ())
    texts = [GeneratedText(0.0, 0, sample, "    pass\n", 2, "end", -1.0) for sample in range(2)]
    store.add_texts("vector", "code", 0, texts, token_layers=1, token_layers_plain=1)
    for way in CODE_WAYS:
        store.add_verdicts(
            earlier_labels("vector", way)[-1], "code", [Verdict(0.0, 0, i, False, "old") for i in range(2)]
        )
    assert judge_code(store, [], allow=False) == 0, "nothing has to run"
    assert failure_reasons(store) == {0.0: {"old": 2}} and text_notes(store) == (EARLIER_RULE,)
    later = [Verdict(0.0, 0, i, False, "later") for i in range(2)]
    store.add_verdicts(earlier_labels("vector", "whole")[0], "code", later)
    assert judge_code(store, [], allow=False) == 0
    assert failure_reasons(store) == {0.0: {"later": 2}}, "of two earlier rules the later one"
    store.add_verdicts(verdict_label("vector", "whole"), "code", [Verdict(0.0, 0, 0, True, "")])
    assert failure_reasons(store) == {0.0: {"later": 2}}, "half of them judged"
    store.add_verdicts(verdict_label("vector", "whole"), "code", [Verdict(0.0, 0, 1, True, "")])
    assert failure_reasons(store) == {0.0: {}}
    scores = stored_code_scores(store, [0.0])
    assert scores is not None and scores.passed.tolist() == [[2]]
