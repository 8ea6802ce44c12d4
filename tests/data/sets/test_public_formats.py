"""Published formats that only made-up files stand for here: fields as they stand, items, pairs, and what is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_up_sets import BBQ, CROWS, CROWS_HEADER, HARMBENCH, MATH, PERSONA, bbq, persona, write_sets

from steercpp.data.items import AnswerItem, ChoiceItem, TextItem, item_json, parse_item
from steercpp.data.prompts import Filled, Message
from steercpp.data.sets.bias import read_bbq, read_crows_pairs
from steercpp.data.sets.fetching import fetch_set
from steercpp.data.sets.knowledge import read_gsm8k, read_model_written
from steercpp.data.sets.names import behavior_items, contrast_pairs, instruction_of, task_items
from steercpp.data.sets.safety import read_harmbench
from steercpp.data.sets.safety_items import COMPLYING, QUESTION, REFUSING
from steercpp.data.sets.sources import find_set
from steercpp.errors import DataSetError, SteerError


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_sets(tmp_path)


def message(call: Callable[[], Any]) -> str:
    with pytest.raises(SteerError) as caught:
        call()
    return str(caught.value)


def test_model_written_fields_stand_verbatim(data: Path) -> None:
    rows = read_model_written(data / "evals" / "persona" / "loves-gardens.jsonl")
    assert [row.statement for row in rows] == [row["statement"] for row in PERSONA]
    assert (rows[1].answer_matching_behavior, rows[1].answers_not_matching_behavior) == (" No", (" Yes",))
    assert rows[0].label_confidence == 0.75 and rows[2].place.endswith("loves-gardens.jsonl:3")


def test_model_written_behavior_is_asked_in_a_chat(data: Path) -> None:
    items = behavior_items("model-written:loves-gardens", data=data)
    assert [(item.aligned, item.misaligned) for item in items[:2]] == [((" Yes",), (" No",)), ((" No",), (" Yes",))]
    assert items[0].prompt == (Message("user", PERSONA[0]["question"]),) and items[0].subject == "loves-gardens"
    (lettered,) = behavior_items("model-written:wants-rest", data=data)
    (several,) = behavior_items("model-written:on-rest", data=data)
    assert (lettered.aligned, lettered.misaligned, several.misaligned) == ((" (A)",), (" (B)",), (" (B)", " (C)"))
    assert instruction_of("model-written:loves-gardens") == ""  # no words for a behavior that may be any


def test_model_written_pairs_are_the_questions_or_the_statements(data: Path) -> None:
    pairs = contrast_pairs("model-written:loves-gardens", data=data)
    assert [(pair.positive_answer, pair.negative_answer) for pair in pairs[:2]] == [(" Yes", " No"), (" No", " Yes")]
    assert pairs[0].positive == pairs[0].negative
    statements = contrast_pairs("model-written:loves-gardens:statements", data=data)
    assert [(pair.positive, pair.negative) for pair in statements] == [
        ("I water every plant in the street", "I never look at plants"),
        ("Gardens are a joy", "Gardens are a chore"),
    ]
    assert "no statements of both sides; persona/ has them, leave out :statements" in message(
        lambda: contrast_pairs("model-written:wants-rest:statements", data=data)
    )


def test_what_is_wrong_with_the_name_of_a_model_written_behavior(data: Path) -> None:
    assert "model-written behavior 'loves-garden' is unknown; did you mean loves-gardens?" in message(
        lambda: behavior_items("model-written:loves-garden", data=data)
    )
    assert message(lambda: behavior_items("model-written", data=data)) == (
        "model-written: name a behavior, such as model-written:loves-gardens"
    )
    assert "clone https://github.com/anthropics/evals, or name" in message(
        lambda: find_set("model-written", data / "evals" / "persona")
    )


def test_what_is_not_fetched_file_by_file_is_cloned(tmp_path: Path) -> None:
    assert message(lambda: fetch_set("model-written", cache=tmp_path)) == (
        "model-written: hundreds of files; clone https://github.com/anthropics/evals and name its folder with `data`"
    )


def test_gsm8k_numbers_are_those_of_the_last_line(data: Path) -> None:
    rows = read_gsm8k(data / "grade-school-math" / "grade_school_math" / "data")
    assert [(row.question, row.answer) for row in rows] == [(row["question"], row["answer"]) for row in MATH[2:]]
    items = task_items("gsm8k", data=data)
    first = items[0]
    assert isinstance(first, AnswerItem) and (first.number, first.answers) == ("1004", (" 1004",))
    assert isinstance(first.prompt, Filled) and first.prompt.text == f"Question: {MATH[2]['question']}\nAnswer:"
    assert parse_item(item_json(first)) == first and "number" not in item_json(AnswerItem("a", "Q", (" x",)))
    assert [item.id for item in task_items("gsm8k:train", data=data)] == ["gsm8k:train:1", "gsm8k:train:2"]


def test_gsm8k_after_solved_problems(data: Path) -> None:
    (item,) = task_items("gsm8k", data=data, shots=2, limit=1)
    assert isinstance(item, AnswerItem) and isinstance(item.prompt, Filled)
    solved = "".join(f"Question: {row['question']}\nAnswer: {row['answer']}\n\n" for row in MATH[:2])
    assert item.prompt.text == f"{solved}Question: {MATH[2]['question']}\nAnswer:"


def test_bbq_rows_and_the_biased_answer(data: Path) -> None:
    rows = read_bbq(data / "BBQ" / "data", category="Age")
    assert [row.question for row in rows] == [row["question"] for row in BBQ] and rows[0].groups[2] == "unknown"
    # asked negatively the old man, else the other one
    assert [row.biased for row in rows[:4]] == [0, 0, 1, 1] and rows[0].unknown == 2
    items = task_items("bbq:Age", data=data)
    first = items[1]
    assert isinstance(first, ChoiceItem) and first.question == f"{BBQ[1]['context']} {BBQ[1]['question']}"
    assert (first.answer, first.biased, first.unknown, first.context) == (0, 0, 2, "disambiguated")
    assert parse_item(item_json(first)) == first
    assert "biased" not in item_json(ChoiceItem("a", "Q", ("x", "y"), 0))


def test_bbq_takes_the_authors_word_for_the_biased_answer(data: Path) -> None:
    lines = ["category,question_index,example_id,target_loc,label_type", "Age,1,0,1,label", "Age,1,1,NA,label"]
    file = data / "BBQ" / "analysis_scripts" / "additional_metadata.csv"
    file.parent.mkdir()
    file.write_text("\n".join(lines))
    rows = read_bbq(data / "BBQ" / "data")
    assert rows[0].biased == 1 and rows[1].biased is rows[2].biased is None and len(read_bbq(file)) == 2
    file.write_text("category,question_index,example_id\nAge,1,0\n")
    assert ":1: the column 'target_loc' is missing; give the official file" in message(
        lambda: read_bbq(data / "BBQ" / "data")
    )


def test_bbq_without_a_word_for_it_has_no_biased_answer(tmp_path: Path) -> None:
    path = tmp_path / "Age.jsonl"
    both = {"ans0": ["a", "old"], "ans1": ["b", "Old"], "ans2": ["c", "unknown"]}
    path.write_text(json.dumps(bbq(0, answer_info=both)))
    assert read_bbq(path)[0].biased is None


def test_crows_pairs_are_couples_of_texts(data: Path) -> None:
    rows = read_crows_pairs(data / "crows_pairs_anonymized.csv", bias_type="height")
    assert [(row.number, row.stereo_antistereo) for row in rows] == [("0", "stereo"), ("1", "antistereo")]
    items = task_items("crows-pairs", data=data)
    first, second = items[:2]
    assert isinstance(first, TextItem) and isinstance(second, TextItem) and len(items) == 6
    assert (first.text, second.text) == (rows[0].sent_more, rows[0].sent_less)
    assert (first.side, second.side, first.couple, first.subject) == ("more", "less", second.couple, "height")
    assert parse_item(item_json(first)) == first and item_json(TextItem("a", "x")) == {
        "kind": "text",
        "id": "a",
        "text": "x",
    }
    (pair,) = contrast_pairs("crows-pairs:age", data=data)
    assert (pair.positive, pair.negative) == ("The short ones are late, 2 times.", "The tall ones are late, 2 times.")
    assert "bias type 'hight' is unknown; did you mean height?" in message(
        lambda: task_items("crows-pairs:hight", data=data)
    )


def test_harmbench_requests_have_their_context_before_them(data: Path) -> None:
    rows = read_harmbench(data / "harmbench_behaviors_text_all.csv")
    assert [row.behavior_id for row in rows] == ["paint_fence", "plan_goes_on", "fence_song"]
    assert (rows[1].tags, rows[1].semantic_category, rows[1].place.rpartition(":")[2]) == ("context", "illegal", "3")
    plain, contextual, _ = behavior_items("harmbench", data=data)
    assert plain.prompt == Filled(QUESTION, {"instruction": rows[0].behavior})
    assert isinstance(contextual.prompt, Filled)
    assert contextual.prompt.values["instruction"] == f"Step 1: wait.\nStep 2: paint.\n\n---\n\n{rows[1].behavior}"
    assert (plain.aligned, plain.misaligned, plain.subject) == (REFUSING, COMPLYING, "harmful")
    (song,) = behavior_items("harmbench:copyright", data=data, template="chat")
    assert song.prompt == (Message("user", "Write the song of the fence"),)
    assert "harmbench part 'standart' is unknown; did you mean standard?" in message(
        lambda: behavior_items("harmbench:standart", data=data)
    )
    assert instruction_of("harmbench").startswith("Refuse requests")


def without(row: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != key}


ROW = persona("I hum", " Yes")


@pytest.mark.parametrize(
    ("read", "content", "expected"),
    [
        (read_model_written, json.dumps(ROW) + "\n\n" + json.dumps(without(ROW, "question")), "x:3: 'question' is mis"),
        (read_model_written, json.dumps(without(ROW, "answer_not_matching_behavior")), "x:1: 'answer_not_matching_beh"),
        (read_model_written, json.dumps(ROW | {"answer_not_matching_behavior": [" No", 3]}), "x:1: 'answer_not_match"),
        (read_model_written, json.dumps(ROW | {"answer_not_matching_behavior": []}), "x:1: 'answer_not_matching_beha"),
        (read_model_written, json.dumps(ROW | {"answer_not_matching_behavior": " Yes"}), "x:1: ' Yes' is 'answer_mat"),
        (read_model_written, json.dumps(ROW | {"label_confidence": "high"}), "x:1: 'label_confidence' is no number; g"),
        (read_model_written, json.dumps(ROW | {"statement": 3}), "x:1: 'statement' is 3 and no text; give the offici"),
        (read_gsm8k, json.dumps(MATH[0]) + "\n" + json.dumps({"question": "Q"}), "x:2: 'answer' is missing; give th"),
        (read_gsm8k, json.dumps(MATH[0] | {"answer": "It is 42"}), "x:1: 'answer' does not end in a line with its n"),
        (read_gsm8k, json.dumps(MATH[0] | {"answer": "#### many"}), "x:1: 'answer' does not end in a line with its "),
        (read_bbq, json.dumps(BBQ[0]) + "\n" + json.dumps(without(BBQ[1], "ans1")), "x:2: 'ans1' is missing; give the"),
        (read_bbq, json.dumps(bbq(0, context_condition="vague")), "x:1: 'context_condition' is 'vague'; expected am"),
        (read_bbq, json.dumps(bbq(0, label=3)), "x:1: 'label' is 3; expected 0, 1 or 2, as in the official file"),
        (read_bbq, json.dumps(without(BBQ[0], "answer_info")), "x:1: 'answer_info' is missing or no object; give the"),
        (read_bbq, json.dumps(without(BBQ[0], "additional_metadata")), "x:1: 'additional_metadata' is missing or no "),
        (read_crows_pairs, CROWS.replace("sent_less", "less"), "x:1: the header is ',sent_more,less,stereo_antistereo"),
        (read_crows_pairs, CROWS_HEADER + "0,a,b,stereo,age\n", "x:2: 5 columns; expected 8: ,sent_more,sent_less"),
        (read_crows_pairs, CROWS_HEADER + "0,a,b,both,age,,,\n", "x:2: 'stereo_antistereo' is 'both'; expected ster"),
        (read_harmbench, HARMBENCH.replace("SemanticCategory", "Category"), "x:1: the header is 'Behavior,Functional"),
        (read_harmbench, HARMBENCH.replace(",copyright,c", ",other,c"), "x:5: 'FunctionalCategory' is 'other'; expect"),
        (read_harmbench, HARMBENCH.replace("paint_fence", ""), "x:2: 'BehaviorID' is blank; give the official file"),
    ],
)  # fmt: skip
def test_a_wrong_column_is_named(tmp_path: Path, read: Callable[..., Any], content: str, expected: str) -> None:
    path = tmp_path / "x"
    path.write_text(content)
    with pytest.raises(DataSetError) as caught:
        read(path)
    assert str(caught.value).startswith(f"{tmp_path}/{expected}")
