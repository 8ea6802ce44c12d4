"""Texts and verdicts in the store: they come back as they were, whole items only."""

from __future__ import annotations

from pathlib import Path

import pytest

from steercpp.errors import RunError
from steercpp.judging.texts import GeneratedText, Verdict
from steercpp.runs.store import Store

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
