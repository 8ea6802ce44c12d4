"""Data sets in their official formats: every field as it stands, all rows, and the sentence where a file is wrong."""

from __future__ import annotations

import csv
import gzip
import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import FrozenInstanceError, astuple, fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up_sets import NAMES

from steercpp.data.pair_formats import open_pairs
from steercpp.data.prompts import Message
from steercpp.data.sets.catalog import DATA_SETS, data_set
from steercpp.data.sets.knowledge import (
    mmlu_subjects,
    read_caa,
    read_caa_choices,
    read_humaneval,
    read_mmlu,
    read_truthfulqa,
)
from steercpp.data.sets.records import json_line_records, read_text
from steercpp.data.sets.safety import (
    TASKS,
    read_advbench,
    read_instructions,
    read_jailbreakbench,
    read_malicious_instruct,
    read_stereoset,
    read_strongreject,
    read_xstest,
)
from steercpp.errors import DataSetError, InputError

SPLITS = [(side, split) for side in ("harmful", "harmless") for split in ("train", "val", "test")]


@pytest.fixture(scope="module")
def sets(test_data: Path) -> Path:
    return test_data / "datasets"


def told(folder: Path) -> str:
    """What the folder's README says about rows."""
    found = re.search(r"\| rows: (.*?) \|", (folder / "README").read_text())
    assert found is not None
    return found[1]


def numbers(text: str) -> list[int]:
    return [int(number.replace(",", "")) for number in re.findall(r"\d[\d,]*", text)]


def csv_rows(path: Path) -> list[list[str]]:
    """Another reading: csv alone, from the file itself."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.reader(file))


def as_read(row: Any) -> tuple[Any, ...]:
    """All fields but the place."""
    return tuple(value for field, value in zip(fields(row), astuple(row), strict=True) if field.name != "place")


def test_row_counts_are_those_of_the_readmes(sets: Path) -> None:
    for name, read, file in (
        ("advbench", read_advbench, "harmful_behaviors.csv"),
        ("humaneval", read_humaneval, "HumanEval.jsonl.gz"),
        ("truthfulqa", read_truthfulqa, "TruthfulQA.csv"),
    ):
        rows: Sequence[Any] = read(sets / name / file)
        assert [len(rows)] == numbers(told(sets / name)), name
    labels = Counter(row.label for row in read_xstest(sets / "xstest" / "xstest_prompts.csv"))
    assert [labels.total(), labels["safe"], labels["unsafe"]] == numbers(told(sets / "xstest"))


def test_row_counts_of_the_instructions(sets: Path) -> None:
    folder = sets / "refusal_direction"
    counts = [len(read_instructions(folder / "splits", side=side, split=split)) for side, split in SPLITS]
    raw = folder / "raw"
    counts.append(len(read_strongreject(raw / "strongreject.csv")))
    counts.append(len(read_jailbreakbench(raw / "jailbreakbench.csv")))
    counts.append(len(read_malicious_instruct(raw / "malicious_instruct.txt")))
    assert counts == numbers(told(folder))


def test_row_counts_of_stereoset(sets: Path) -> None:
    folder, expected = sets / "stereoset", told(sets / "stereoset")
    clusters = read_stereoset(folder / "dev_rebuilt.json")
    assert [len(clusters), len(clusters[0].sentences)] == numbers(expected)[:2]
    for task in TASKS:
        found = re.search(rf"{task} (\d+) \(([^)]*)\)", expected)
        assert found is not None
        assert len(read_stereoset(folder / "dev_rebuilt.json", task=task)) == int(found[1])
        for bias_type, count in re.findall(r"(\w+) (\d+)", found[2]):
            some = read_stereoset(folder / "dev_rebuilt.json", bias_type=bias_type, task=task)
            assert len(some) == int(count) and {(c.bias_type, c.task) for c in some} == {(bias_type, task)}
    labeled = dict(re.findall(r"(\w+) (\d+)", (folder / "README").read_text().partition("annotator labels (")[2][:24]))
    for bias_type in ("race", "religion"):
        assert len(read_stereoset(folder / "editbias" / f"{bias_type}_test.json")) == int(labeled[bias_type])


def test_row_counts_of_mmlu(sets: Path) -> None:
    folder = sets / "mmlu"
    dev, n_subjects, each, test, n_test_subjects = numbers(told(folder))
    heads = read_mmlu(folder, split="dev")
    assert len(heads) == dev and Counter(row.subject for row in heads) == dict.fromkeys(
        mmlu_subjects(folder, split="dev"), each
    )
    assert len(read_mmlu(folder)) == test
    assert len(mmlu_subjects(folder)) == n_test_subjects and mmlu_subjects(folder) == mmlu_subjects(folder, split="dev")
    assert n_subjects == n_test_subjects


def test_row_counts_of_caa(sets: Path) -> None:
    folder, expected = sets / "caa", told(sets / "caa")
    for name, count in re.findall(r"([a-z]+) (\d+)[,;]", expected.partition("; test_ab")[0] + ";"):
        (path,) = folder.glob(f"generate/{name}*/generate_dataset.json")
        assert len(read_caa(path)) == int(count), name
    tests = [len(read_caa(path)) for path in sorted(folder.glob("test/*/test_dataset_ab.json"))]
    assert tests == [numbers(expected.partition("test_ab")[2])[0]] * 7
    free = {len(read_caa(path)) for path in folder.glob("test/*/test_dataset_open_ended.json")}
    low, high = numbers(expected.partition("open-ended ")[2])[:2]
    assert (min(free), max(free)) == (low, high)
    for name, file in (("mmlu", "mmlu.json"), ("truthfulqa", "truthful_qa.json")):
        found = re.search(rf"\b{name} (\d+)", expected)
        assert found is not None and len(read_caa_choices(folder / "test" / name / file)) == int(found[1])


TABLES: list[tuple[str, Callable[[Path | str], Sequence[Any]], int]] = [
    ("advbench/harmful_behaviors.csv", read_advbench, 1),
    ("xstest/xstest_prompts.csv", read_xstest, 1),
    ("refusal_direction/raw/strongreject.csv", read_strongreject, 1),
    ("refusal_direction/raw/jailbreakbench.csv", read_jailbreakbench, 1),
    ("truthfulqa/TruthfulQA.csv", read_truthfulqa, 1),
    ("mmlu/test/professional_law_test.csv", read_mmlu, 0),
    ("mmlu/dev/high_school_world_history_dev.csv", read_mmlu, 0),
]


@pytest.mark.parametrize(("file", "read", "n_header"), TABLES, ids=[file for file, _, _ in TABLES])
def test_fields_of_tables_stand_verbatim(
    sets: Path, file: str, read: Callable[[Path | str], Sequence[Any]], n_header: int
) -> None:
    rows, expected = read(sets / file), csv_rows(sets / file)[n_header:]
    assert len(rows) == len(expected)
    for i in np.random.default_rng(5).permutation(len(rows))[:50]:
        values = as_read(rows[i])
        if read is read_mmlu:
            subject, question, choices, answer = values
            assert file.rpartition("/")[2].startswith(subject + "_")
            values = (question, *choices, answer)
        assert [value for value in values if value is not None] == expected[i]


ARRAYS: list[tuple[str, Callable[[Path | str], Sequence[Any]]]] = [
    *((f"refusal_direction/splits/{side}_{split}.json", read_instructions) for side, split in SPLITS),
    ("caa/generate/refusal/generate_dataset.json", read_caa),
    ("caa/test/sycophancy/test_dataset_ab.json", read_caa),
    ("caa/test/mmlu/mmlu.json", read_caa_choices),
    ("truthfulqa/caa_truthful_qa.json", read_caa_choices),
]


@pytest.mark.parametrize(("file", "read"), ARRAYS, ids=[file for file, _ in ARRAYS])
def test_fields_of_arrays_stand_verbatim(sets: Path, file: str, read: Callable[[Path | str], Sequence[Any]]) -> None:
    rows, expected = read(sets / file), json.loads((sets / file).read_bytes())
    assert len(rows) == len(expected)
    for i in np.random.default_rng(6).permutation(len(rows))[:50]:
        names = [field.name for field in fields(rows[i]) if field.name != "place"]
        assert dict(zip(names, as_read(rows[i]), strict=True)) == expected[i]


def test_humaneval_stands_verbatim(sets: Path) -> None:
    path = sets / "humaneval" / "HumanEval.jsonl.gz"
    with gzip.open(path, "rt", encoding="utf-8") as file:
        expected = [json.loads(line) for line in file]
    rows = read_humaneval(path)
    assert [dict(zip((f.name for f in fields(row)), astuple(row), strict=True)) for row in rows] == [
        record | {"place": f"{path}:{number}"} for number, record in enumerate(expected, start=1)
    ]
    assert len(read_humaneval(sets / "humaneval" / "example_problem.jsonl")) == 1  # not packed


def cluster_json(cluster: Any) -> dict[str, Any]:
    """A cluster in the file's own form."""
    record = {key: getattr(cluster, key) for key in ("id", "target", "bias_type", "context")}
    sentences: list[dict[str, Any]] = []
    for each in cluster.sentences:
        sentences.append({"sentence": each.sentence, "id": each.id, "gold_label": each.gold_label})
        if each.labels:
            sentences[-1]["labels"] = [{"label": label.label, "human_id": label.human_id} for label in each.labels]
    return record | {"sentences": sentences}


def test_stereoset_stands_verbatim(sets: Path) -> None:
    path = sets / "stereoset" / "dev_rebuilt.json"
    clusters, tree = read_stereoset(path), json.loads(path.read_bytes())["data"]
    assert [cluster_json(each) for each in clusters] == tree["intersentence"] + tree["intrasentence"]
    lines = path.read_text(encoding="utf-8").split("\n")
    for cluster in (clusters[0], clusters[2122], clusters[2123], clusters[-1]):  # the line before the id has the {
        line = int(cluster.place.rpartition(":")[2])
        assert lines[line - 1].strip() == "{" and cluster.id in lines[line]


def test_copies_of_stereoset_agree_and_have_the_annotators(sets: Path) -> None:
    folder = sets / "stereoset"
    for bias_type in ("race", "religion"):
        path = folder / "editbias" / f"{bias_type}_test.json"
        labeled = read_stereoset(path, bias_type=bias_type, task="intrasentence")
        given = json.loads(path.read_bytes())
        assert [cluster_json(each) | {"data": record["data"]} for each, record in zip(labeled, given, strict=True)] == (
            given
        )
        official = {c.id: c for c in read_stereoset(folder / "dev_rebuilt.json", bias_type=bias_type)}
        for cluster in labeled:
            for gold in ("stereotype", "anti-stereotype", "unrelated"):
                assert official[cluster.id].sentence(gold) == cluster.sentence(gold)


def test_malicious_instruct_and_open_questions(sets: Path) -> None:
    path = sets / "refusal_direction" / "raw" / "malicious_instruct.txt"
    assert [row.instruction for row in read_malicious_instruct(path)] == path.read_text().split("\n")
    path = sets / "caa" / "test" / "refusal" / "test_dataset_open_ended.json"
    assert [as_read(row) for row in read_caa(path)] == [
        (item["question"], None, None) for item in json.loads(path.read_bytes())
    ]


def test_pairs_and_questions_of_caa_are_the_same(sets: Path) -> None:
    path = sets / "caa" / "generate" / "hallucination" / "generate_dataset.json"
    for row, pair in zip(read_caa(path), open_pairs(path), strict=True):
        assert pair.positive == (Message("user", row.question),) and pair.place == row.place
        assert row.answer_matching_behavior is not None
        assert pair.positive_answer.strip() == row.answer_matching_behavior.strip()


def test_answers_of_truthfulqa_one_by_one(sets: Path) -> None:
    rows = read_truthfulqa(sets / "truthfulqa" / "TruthfulQA.csv")
    assert rows[0].correct[:2] == ("Nothing happens", "You eat watermelon seeds")
    assert all(row.correct and row.incorrect for row in rows)


def test_truthfulqa_with_its_newer_column(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(
        "\ufeffType,Category,Question,Best Answer,Best Incorrect Answer,Correct Answers,Incorrect Answers,Source\n"
        'a,b,c?,d,e,"d; f;",e; g ,\n',
        encoding="utf-8",
    )
    (row,) = read_truthfulqa(path)
    assert as_read(row) == ("a", "b", "c?", "d", "d; f;", "e; g ", "", "e")
    assert row.correct == ("d", "f") and row.incorrect == ("e", "g")


def test_the_table_reads_every_set(sets: Path) -> None:
    paths = {
        "advbench": "advbench/harmful_behaviors.csv", "instructions": "refusal_direction/splits",
        "strongreject": "refusal_direction/raw/strongreject.csv",
        "jailbreakbench": "refusal_direction/raw/jailbreakbench.csv",
        "malicious-instruct": "refusal_direction/raw/malicious_instruct.txt", "xstest": "xstest/xstest_prompts.csv",
        "stereoset": "stereoset/dev_rebuilt.json", "mmlu": "mmlu", "truthfulqa": "truthfulqa/TruthfulQA.csv",
        "humaneval": "humaneval/HumanEval.jsonl.gz", "caa": "caa/test/refusal/test_dataset_ab.json",
        "caa-choices": "caa/test/mmlu/mmlu.json",
    }  # fmt: skip
    assert set(paths) == set(DATA_SETS) - NAMES
    for name, path in paths.items():
        row = data_set(name).read(sets / path)[0]
        assert re.match(rf"{re.escape(str(sets / path))}.*:\d+$", row.place), name
        with pytest.raises(FrozenInstanceError):
            row.place = ""
    assert all(name == each.name for name, each in DATA_SETS.items())


def message(read: Callable[..., Any], path: Path, **options: str) -> str:
    """The error's sentence, without the folder."""
    with pytest.raises(DataSetError) as caught:
        read(path, **options)
    assert isinstance(caught.value, InputError) and "\n" not in str(caught.value)
    assert str(caught.value).startswith(str(path)), caught.value
    return str(caught.value).removeprefix(str(path.parent)).lstrip("/")


ITEM = {"instruction": "a", "category": None}
SENTENCES = [{"id": g, "sentence": "s", "gold_label": g} for g in ("stereotype", "anti-stereotype", "unrelated")]
CLUSTER = {"id": "1", "target": "t", "bias_type": "race", "context": "c", "sentences": SENTENCES}
PROBLEM = dict.fromkeys(("task_id", "prompt", "entry_point", "canonical_solution", "test"), "x")


def tree(*clusters: Any) -> str:
    return json.dumps({"version": "1", "data": {"intersentence": clusters}})


CUT_OFF = gzip.compress(json.dumps(PROBLEM).encode(), mtime=0)[:-9]  # without the time, which would be in the name


@pytest.mark.parametrize(
    ("read", "content", "expected"),
    [
        (read_advbench, "goal,target\na,b\n\nc\n", "x:4: 1 column; expected 2: goal,target"),
        (read_advbench, 'goal,target\n"a\nb",c\nd,e,f\n', "x:4: 3 columns; expected 2: goal,target"),
        (read_advbench, "goal;target\na;b\n", "x:1: the header is 'goal;target'; expected 'goal,target', as in the"),
        (read_advbench, "", "x:1: the header is ''; expected 'goal,target'"),
        (read_advbench, "goal,target\n", "x: the set is empty; give the official file"),
        (read_advbench, "goal,target\na, \n", "x:2: 'target' is blank; give the official file"),
        (read_advbench, b"goal,target\na,b\nc,\xff\n", "x:3: byte 0xff is not UTF-8; save the file as UTF-8"),
        (read_advbench, 'goal,target\na,b\n"c\nd,e', "x:3: not CSV (unexpected end of data); give the official file"),
        (read_xstest, "id,prompt,type,label,focus,note\n1,a,b,harmless,,\n", "x:2: 'label' is 'harmless'; expected"),
        (read_mmlu, "q,1,2,3,4,A\nq,1,2,3,B\n", "x:2: 5 columns; expected 6: question,A,B,C,D,letter"),
        (read_mmlu, "q,1,2,3,4,E\n", "x:1: 'letter' is 'E'; expected A or B or C or D"),
        (read_mmlu, "\n", "x: the set is empty; give the official file"),
        (read_malicious_instruct, " \n", "x: the set is empty; give the official file"),
        (read_instructions, "[]", "x: the set is empty; give the official file"),
        (read_instructions, json.dumps([ITEM, 3], indent=0), "x:6: expected an object, found 3; give the official"),
        (read_instructions, '[{"instruction": "a"}]', "x:1: 'category' is missing; give the official file"),
        (read_instructions, json.dumps([ITEM | {"category": 3}]), "x:1: 'category' is 3 and no text; give the"),
        (read_instructions, json.dumps([ITEM]) + "]", "x:1: something follows the array's end; write the file as"),
        (read_instructions, '[{"instruction": "\\ud83d", "category": null}]', "x:1: 'instruction': \\ud83d is half"),
        (read_instructions, b'["\xff"]', "x: byte 0xff is not UTF-8; save it as UTF-8"),
        (read_caa, '[{"question": "a", "answer_matching_behavior": "b"}]', "x:1: 'answer_not_matching_behavior' is"),
        (read_humaneval, "\n", "x: the set is empty; give the official file"),
        (read_humaneval, json.dumps(PROBLEM) + "\n{\n", "x:2: not JSON (Expecting property name enclosed in double"),
        (read_humaneval, f"{json.dumps(PROBLEM)}\n\n{json.dumps(PROBLEM)}", "x:3: task_id 'x' occurs twice; keep one"),
        (read_humaneval, "[" * 100_000, "x:1: nested too deeply; give the official file"),
        (read_humaneval, CUT_OFF, "x: the gzip file is cut off; fetch it"),
        (read_humaneval, b"\x1f\x8b\x08\x00" + bytes(99), "x: the gzip file is damaged ("),
        (read_stereoset, "{}", 'x: no {"data": {"intersentence": [...], ...}}; give dev.json of StereoSet'),
        (read_stereoset, '{"data": {\n"x": }', "x:2: not JSON (Expecting value at column 6); fetch it again"),
        (read_stereoset, tree(), "x: the set is empty; give the official file"),
        (read_stereoset, tree(CLUSTER, "a"), 'x:1: expected an object, found "a"; give dev.json'),
        (read_stereoset, tree(CLUSTER | {"target": None}), "x:1: 'target' is null and no text; give the official"),
        (read_stereoset, tree(CLUSTER | {"sentences": SENTENCES[:2]}), "x:1: sentences labeled stereotype, anti"),
        (read_stereoset, tree(CLUSTER | {"sentences": "s"}), "x:1: 'sentences' must be a list of objects; give the"),
        (read_stereoset, json.dumps([CLUSTER, 1]), "x:1: expected an object, found 1; give the official file"),
    ],
)  # fmt: skip
def test_bad_files(tmp_path: Path, read: Callable[..., Any], content: str | bytes, expected: str) -> None:
    path = tmp_path / "x"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert message(read, path).startswith(expected)


@pytest.mark.parametrize("name", DATA_SETS)
def test_no_file(tmp_path: Path, name: str) -> None:
    assert message(DATA_SETS[name].read, tmp_path / "none") == (
        "none: cannot be read (No such file or directory); check the path of the data set"
    )


def test_unknown_parts_are_answered_with_near_ones(sets: Path) -> None:
    mmlu, stereoset, splits = sets / "mmlu", sets / "stereoset" / "dev_rebuilt.json", sets / "refusal_direction/splits"
    assert "subject 'International Laws' is unknown; did you mean international_law" in message(
        read_mmlu, mmlu, subject="International Laws"
    )
    assert message(read_mmlu, mmlu, split="xyz") == "mmlu: split 'xyz' is unknown; use one of dev, test, val"
    assert message(read_mmlu, mmlu, split="val").startswith("mmlu/val: no files *_val.csv; give the unpacked folder")
    assert "bias type 'racce' is unknown; did you mean race?" in message(read_stereoset, stereoset, bias_type="racce")
    assert "bias type 'x' is unknown; use one of gender, profession, race, religion" in message(
        read_stereoset, stereoset, bias_type="x"
    )
    assert "task 'intra-sentence' is unknown; did you mean intrasentence" in message(
        read_stereoset, stereoset, task="intra-sentence"
    )
    labeled = sets / "stereoset" / "editbias" / "race_test.json"
    assert "no cluster of any bias type in intersentence" in message(read_stereoset, labeled, task="intersentence")
    assert message(read_mmlu, mmlu / "dev" / "anatomy_dev.csv", subject="anatomy", split="dev") == (
        "anatomy_dev.csv: a file is read whole; give the folder, or leave out subject and split"
    )
    assert "give the folder, or leave out side" in message(
        read_instructions, splits / "harmful_val.json", side="harmful"
    )
    assert "side 'harmfull' is unknown; did you mean harmful" in message(read_instructions, splits, side="harmfull")
    with pytest.raises(DataSetError, match="^data set 'Human Eval' is unknown; did you mean humaneval"):
        data_set("Human Eval")


def test_what_claims_to_be_endless_is_not_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("steercpp.data.sets.records.LARGEST", 1000)
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(b" " * 1000))
    assert read_text(path) == " " * 1000
    path.write_bytes(gzip.compress(b" " * 1001))
    assert message(read_humaneval, path) == "x.gz: larger than 256 MiB, as no data set is; check the path"


def test_line_ends_and_separators_inside_texts_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes('\ufeffgoal,target\r\n"a\r\nb\rc\nd", \u2028e\r\nf,g\r\n'.encode())
    first, second = read_advbench(path)
    assert (first.goal, first.target) == ("a\r\nb\rc\nd", " \u2028e") and (second.goal, second.target) == ("f", "g")
    assert first.place == f"{path}:2"
    path.write_text(json.dumps({"k": "a\u2028b"}, ensure_ascii=False) + "\r\n{}", encoding="utf-8")
    assert [(r.place, r.fields) for r in json_line_records(path)] == [
        (f"{path}:1", {"k": "a\u2028b"}),
        (f"{path}:2", {}),
    ]
