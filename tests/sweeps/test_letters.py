"""The token that is scored for a letter is the one that it adds to its question, whatever the vocabulary."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from odd_vocabularies import ODD, RWKV, SPM
from small_sweep import CHOICE, small_sweep, small_vector

from steercpp.data.items import BehaviorItem, ChoiceItem, TextItem, choice_form_of, choice_prompt
from steercpp.data.pairs import ContrastPair
from steercpp.engine.engine import Engine
from steercpp.engine.prompt_view import item_views
from steercpp.errors import RunError, VocabularyError
from steercpp.experiments.synthesis import request_tokens
from steercpp.extraction.extract import extract
from steercpp.runs.folder import STORE
from steercpp.runs.store import Store
from steercpp.sweeps import work as work_module
from steercpp.sweeps.calibration_texts import item_texts, pair_texts
from steercpp.sweeps.sweep import sweep
from steercpp.sweeps.work import behavior_work, choice_work, prompted_work, text_work

ITEM = ChoiceItem("q", "Which?", ("oak", "fir"), 0)


def scored(engine: Engine, item: ChoiceItem = ITEM) -> list[list[tuple[str, ...]]]:
    """For each choice the pieces of what is scored."""
    rows = choice_work(engine, [item]).continuations
    return [
        [tuple(engine.pieces[token] for token in row.tokens) for row in rows if row.side == str(i)]
        for i in range(len(item.choices))
    ]


@pytest.mark.parametrize(
    ("name", "first", "second"),
    [
        ("spm", [("▁A",), ("A",)], [("▁B",), ("B",)]),  # the paper counts the likeliest of both spellings
        ("bpe", [("A",), ("ĠA",)], [("B",), ("ĠB",)]),
        ("rwkv", [(" A",)], [(" B",)]),  # bare ones were scored
        ("wordpiece", [("▁a",)], [("▁b",)]),  # into which the tokenizer changes capitals
        ("unigram", [("▁A",), ("A",)], [("▁B",), ("B",)]),
    ],
)
def test_letters_are_asked_of_the_vocabulary(
    tmp_path: Path, name: str, first: list[tuple[str]], second: list[tuple[str]]
) -> None:
    with Engine(ODD[name].write(tmp_path / "odd.gguf"), n_ctx=256, threads=1) as engine:
        assert scored(engine) == [first, second]
        for i, letter in enumerate("AB"):
            prompt = choice_prompt(ITEM, choice_form_of([ITEM], engine.vocabulary.writes))
            tokens = engine.continue_tokens(prompt, f" {letter}")
            assert tuple(engine.pieces[token] for token in tokens) in (first, second)[i]


def test_a_letter_that_takes_a_space_of_its_own_is_scored_with_it(tmp_path: Path) -> None:
    """The vocabulary has "A" and not "▁A": the bare letter was scored, as if it stood right behind "is"."""
    normal = tuple(piece for piece in SPM.normal if piece != "▁A")
    with Engine(replace(SPM, normal=normal).write(tmp_path / "odd.gguf"), n_ctx=256, threads=1) as engine:
        assert scored(engine) == [[("▁", "A")], [("▁B",), ("B",)]]
        assert "no single token for A, scored as a whole continuation" in choice_work(engine, [ITEM]).notes[-1]


def test_in_a_chat_a_letter_stands_where_the_template_puts_an_answer(tmp_path: Path) -> None:
    turns = "{% for turn in messages %}[{{ turn['role'] }}]\n{{ turn['content'] }}\n{% endfor %}"
    turns += "{% if add_generation_prompt %}[assistant]\n{% endif %}"
    item = ChoiceItem("q", "Which?", ("oak", "fir"), 0, template="chat")
    with Engine(replace(RWKV, template=turns).write(tmp_path / "odd.gguf"), n_ctx=256, threads=1) as engine:
        assert scored(engine, item) == [[("A",)], [("B",)]]
        assert scored(engine) == [[(" A",)], [(" B",)]]


def test_the_products_own_signs_are_not_what_fails(tmp_path: Path) -> None:
    with Engine(ODD["spm"].write(tmp_path / "spm.gguf"), n_ctx=256, threads=1) as engine:
        work = choice_work(engine, [ITEM])
        asked = "Which? A) oak. B) fir. The answer is"
        assert work.queries[0].tokens == engine.encode(asked) == item_texts(engine, [ITEM])[0]
        assert work.notes == (
            "the vocabulary lacks signs of the usual form, so choices are asked as '… A) …. B) …. The answer is'",
        )
        assert item_views(engine, [ITEM], instruction="I am happy")[1].text == f"I am happy {asked}"
        instructed = prompted_work(engine, work, "I am happy")  # the usual blank line would be lacking
        assert not isinstance(instructed, str)
        assert instructed.queries[0].tokens == engine.encode(f"I am happy {asked}")
        lost = prompted_work(engine, work, "Be happy!")
        assert isinstance(lost, str) and lost.startswith(
            "with the instruction before it, q: the model's vocabulary lacks '!'"
        )


def test_every_route_names_the_item_and_the_character(tmp_path: Path) -> None:
    pair = ContrastPair("p1", "I am happy", "I am 5", place="p.jsonl:1")
    turns = "{% for turn in messages %}{{ turn['content'] }}{% endfor %}"
    with Engine(replace(SPM, template=turns).write(tmp_path / "spm.gguf"), n_ctx=256, threads=1) as engine:
        routes: dict[str, Callable[[], object]] = {
            "b7": lambda: behavior_work(engine, [BehaviorItem("b7", "I am", (" happy 5",), (" sad",))]),
            "q8": lambda: choice_work(engine, [ChoiceItem("q8", "Which 5?", ("oak", "fir"), 0)]),
            "q9": lambda: choice_work(engine, [ChoiceItem("q9", "Which?", ("oak", "5"), 0, by="text")]),
            "t1": lambda: text_work(engine, [TextItem("t1", "oak 5")]),
            "p.jsonl:1: negative prompt": lambda: pair_texts(engine, [pair]),
            "p.jsonl:1: negative prompt: ": lambda: extract(engine, [pair, pair]),
            "c2": lambda: item_texts(engine, [ChoiceItem("c2", "Which 5?", ("oak", "fir"), 0)]),
            "request 2": lambda: request_tokens(engine, ["Which oak", "Which 5"], chat=True),
            "v3": lambda: item_views(engine, [BehaviorItem("v3", "I am 5", (" happy",), (" sad",))]),
        }
        for name, route in routes.items():
            with pytest.raises(VocabularyError, match=rf"^{name}.*lacks '5' of "):
                route()


def test_an_instruction_costs_the_baseline_alone(tmp_path: Path) -> None:
    item = BehaviorItem("b1", "I am", (" happy",), (" sad",))
    with Engine(ODD["spm"].write(tmp_path / "spm.gguf"), n_ctx=256, threads=1) as engine:
        result = sweep(
            engine, small_vector(engine), behavior=(item,), strengths=(-1.0, 0.0, 1.0), random_directions=0,
            instruction="Be happy!", out=tmp_path / "run",
        )  # fmt: skip
    assert result.finished and "lacks '!'" in result.manifest.controls_off["prompt"]


def test_a_run_of_other_tokens_is_not_gone_on_with(
    tiny_engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An earlier version scored other tokens of the letters in some vocabularies: numbers of both would be mixed."""

    def interrupt(done: int, total: int, label: str) -> None:
        if "+1" in label:
            raise KeyboardInterrupt

    asked = {"choice": CHOICE[:3], "behavior": (), "strengths": (0.5, 1.0), "random_directions": 0}
    with monkeypatch.context() as earlier:
        earlier.setattr(work_module, "letter_variants", lambda index: ())
        with pytest.raises(KeyboardInterrupt):
            small_sweep(tiny_engine, tmp_path / "run", progress=interrupt, **asked)
    with pytest.raises(RunError, match="its choice items fall into other tokens now; sweep again with `force=True`"):
        small_sweep(tiny_engine, tmp_path / "run", **asked)
    with Store.read(tmp_path / "run" / STORE) as store:
        assert all(len(of_item) == 4 for of_item in store.continuations("choice"))
    assert small_sweep(tiny_engine, tmp_path / "run", force=True, **asked).finished
