"""`steercpp data` as a user meets it: the list, a copy of a set, and one sentence where it cannot be read."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from mirror import Mirror, mirror

from steercpp.cli.commands.data import data
from steercpp.cli.main import main
from steercpp.data.sets.builtin import BEHAVIOR_SETS, CAPABILITY_SETS, behavior_set
from steercpp.data.sets.catalog import DATA_SETS
from steercpp.data.sets.sources import SOURCES

__all__ = ["mirror"]  # a fixture


@pytest.fixture
def mmlu(tmp_path: Path) -> Path:
    for split, rows in (("dev", 1), ("test", 3)):
        (tmp_path / split).mkdir()
        for subject in ("anatomy", "astronomy"):
            lines = [f'"What is [/INST] [bold]{i},\n{subject}?",a,b,c,d,{"ABCD"[i]}\n' for i in range(rows)]
            (tmp_path / split / f"{subject}_{split}.csv").write_text("".join(lines))
    return tmp_path


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["data", *map(str, arguments)], env={"COLUMNS": "80"})


@pytest.mark.parametrize("name", data.commands)
def test_help_has_an_example(name: str) -> None:
    result = run(name, "-h")
    assert result.exit_code == 0 and f"Example: steercpp data {name}" in result.stdout and "--json" in result.stdout
    assert "\\b" not in result.stdout and max(map(len, result.stdout.splitlines())) <= 80


def test_the_list_names_every_set() -> None:
    document = json.loads(run("list", "--json").stdout)
    listed, built_in = document["data_sets"], [each["name"] for each in document["built_in"]]
    assert built_in == [*BEHAVIOR_SETS, *CAPABILITY_SETS]
    assert [each["name"] for each in listed] == list(DATA_SETS)
    assert {each["name"]: each["parts"] for each in listed}["stereoset"] == ["bias_type", "task"]
    table = run("list")
    assert table.exit_code == 0 and table.stderr == "" and max(map(len, table.stdout.splitlines())) <= 80
    assert [line.split()[0] for line in table.stdout.splitlines() if line[:1] != " "] == [*DATA_SETS, *built_in]


def test_a_copy_is_counted_and_its_rows_stand_verbatim(mmlu: Path) -> None:
    result = run("show", "mmlu", mmlu, "--rows", "1", "--json")
    shown = json.loads(result.stdout)
    assert result.exit_code == 0 and result.stderr == ""
    assert (shown["n_rows"], shown["counts"], shown["parts"]) == (6, {"anatomy": 3, "astronomy": 3}, {})
    assert shown["rows"] == [
        {
            "subject": "anatomy",
            "question": "What is [/INST] [bold]0,\nanatomy?",
            "choices": ["a", "b", "c", "d"],
            "answer": "A",
            "place": f"{mmlu / 'test' / 'anatomy_test.csv'}:1",
        }
    ]


def test_a_part_as_a_person_sees_it(mmlu: Path) -> None:
    result = run("show", "mmlu", mmlu, "--subject", "astronomy", "--split", "dev")
    assert result.exit_code == 0 and result.stderr == ""
    assert "What is [/INST] [bold]0," in result.stdout and "anatomy" not in result.stdout
    assert f"{mmlu / 'dev' / 'astronomy_dev.csv'}:1" in result.stdout
    assert "What is" not in run("show", "mmlu", mmlu, "--rows", "0").stdout


def test_what_cannot_be_shown_is_one_sentence(mmlu: Path) -> None:
    cases: list[tuple[list[str | Path], str]] = [
        (["mmul", mmlu], "error: data set 'mmul' is unknown; did you mean mmlu?\n"),
        (["mmlu", mmlu, "--subject", "Astronmy"], f"error: {mmlu}: subject 'Astronmy' is unknown; did you mean astro"),
        (["mmlu", mmlu, "--task", "x"], f"error: {mmlu}: mmlu has no part 'task'; it is chosen from by subject and s"),
        (["xstest", mmlu, "--task", "x"], f"error: {mmlu}: xstest has no part 'task'; it is read whole\n"),
        (["xstest", mmlu], f"error: {mmlu}: cannot be read (Is a directory); check the path of the data set\n"),
    ]
    for arguments, expected in cases:
        result = run("show", *arguments)
        assert result.exit_code == 1 and result.stdout == "" and result.stderr.startswith(expected), result.stderr
    assert run("show").exit_code == run("show", "mmlu", mmlu, "--rows", "-1").exit_code == 2


@pytest.mark.parametrize("name", [*BEHAVIOR_SETS, *CAPABILITY_SETS])
def test_what_is_listed_as_built_in_is_shown_and_needs_no_fetching(name: str, tmp_path: Path) -> None:
    """They were unknown to show and get, though data list named them."""
    result = run("show", name, "--rows", "1")
    assert (result.exit_code, result.stderr) == (0, "") and "built in: nothing needs to be fetched" in result.stdout
    found = json.loads(run("show", name, "--rows", "3", "--json").stdout)
    assert found["n_rows"] > 3 and len(found["rows"]) == 3
    if name in BEHAVIOR_SETS:
        behavior = behavior_set(name)
        assert (found["about"], found["n_pairs"]) == (behavior.about, len(behavior.pairs)) and len(found["pairs"]) == 3
        assert " ".join(behavior.instruction.split()[:4]) in result.stdout
    got = run("get", name, "--cache", tmp_path)
    assert got.exit_code == 0 and got.stderr == f"note: {name}: built in, nothing needs to be fetched\n"
    assert not any(tmp_path.iterdir())
    assert run("show", name, "--subject", "x").exit_code == 2


def test_a_set_is_looked_for_where_names_find_it(mmlu: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert json.loads(run("show", "mmlu", "--data", mmlu, "--json").stdout)["path"] == str(mmlu)
    monkeypatch.setenv("STEERCPP_DATA", str(mmlu))
    assert run("show", "mmlu", "--subject", "anatomy").exit_code == 0
    listed = {each["name"]: each for each in json.loads(run("list", "--json").stdout)["data_sets"]}
    assert listed["mmlu"]["here"] == str(mmlu) and listed["mmlu"]["for"] == ["task"]
    assert listed["malicious-instruct"]["unverified"].startswith("no licence could be found")
    monkeypatch.setenv("XDG_CACHE_HOME", str(mmlu / "cache"))
    result = run("show", "xstest")
    assert result.exit_code == 1 and "fetch it with `steercpp data get xstest`" in result.stderr
    assert run("show", "mmlu", mmlu, "--data", mmlu).exit_code == 2
    assert "not here: steercpp data get xstest" in run("list").stdout
    assert run("list", "--data", mmlu / "none").exit_code == 1
    (mmlu / "caa" / "generate" / "refusal").mkdir(parents=True)
    (mmlu / "caa" / "generate" / "refusal" / "generate_dataset.json").write_text("[]")
    several = run("show", "caa", "--data", mmlu)
    assert several.exit_code == 2 and "name one of them as PATH" in several.stderr


XSTEST = "id,prompt,type,label,focus,note\n1,P,homonyms,safe,kill,\n"


@pytest.fixture
def any_instructions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any 100 lines are taken for MaliciousInstruct, whose hash is known otherwise."""
    source = SOURCES["malicious-instruct"]
    files = tuple(replace(file, sha256=None, n_bytes=None) for file in source.files)
    changed = {**SOURCES, "malicious-instruct": replace(source, files=files)}
    for module in ("sources", "fetching"):
        monkeypatch.setattr(f"steercpp.data.sets.{module}.SOURCES", changed)


def test_a_set_is_fetched_with_its_licence_and_hash(mirror: Mirror, any_instructions: None, tmp_path: Path) -> None:
    rows = "".join(f"request {n}\n" for n in range(100))
    sha256 = mirror.put("malicious-instruct/MaliciousInstruct.txt", rows)
    result = run("get", "malicious-instruct", "--base-url", mirror.url, "--cache", tmp_path)
    assert result.exit_code == 0 and "licence not known, github.com/Princeton-SysML/Jailbreak_LLM" in result.stderr
    assert (
        "not known before: recorded, and compared from now on, 100 rows" in " ".join(result.stdout.split())
        and sha256[:40] in result.stdout
    )
    again = json.loads(run("get", "malicious-instruct", "--cache", tmp_path, "--json").stdout)["data_sets"][0]
    assert again["files"][0] == {
        "path": str(tmp_path / "malicious-instruct" / "MaliciousInstruct.txt"),
        "url": f"{mirror.url}/malicious-instruct/MaliciousInstruct.txt",
        "sha256": sha256,
        "is_known": False,
        "n_rows": 100,
        "is_new": False,
    }
    shown = json.loads(run("show", "malicious-instruct", "--data", tmp_path, "--json").stdout)
    assert shown["n_rows"] == 100


def test_what_cannot_be_fetched_is_one_sentence_and_the_others_are_kept(
    mirror: Mirror, any_instructions: None, tmp_path: Path
) -> None:
    mirror.put("malicious-instruct/MaliciousInstruct.txt", "".join(f"request {n}\n" for n in range(100)))
    sha256 = mirror.put("xstest/xstest_prompts.csv", XSTEST)
    result = run("get", "malicious-instruct", "xstest", "--base-url", mirror.url, "--cache", tmp_path)
    assert result.exit_code == 1 and "100 rows" in " ".join(result.stdout.split())
    error = result.stderr[result.stderr.index("error: ") :]
    assert error.count("\n") == 1 and f"its sha256 is {sha256}, expected 11783fb2" in error
    assert not (tmp_path / "xstest" / "xstest_prompts.csv").exists()
    assert (tmp_path / "malicious-instruct" / "MaliciousInstruct.txt").is_file()
    missing = run("get", "humaneval", "--base-url", mirror.url, "--cache", tmp_path)
    assert missing.exit_code == 1 and "HumanEval.jsonl.gz: the server answers 404" in missing.stderr
    offline = run("get", "xstest", "--base-url", "http://127.0.0.1:1", "--cache", tmp_path)
    assert offline.exit_code == 1 and "xstest_prompts.csv: no connection; check the network" in offline.stderr
    unknown = run("get", "xtest", "--cache", tmp_path)
    assert unknown.exit_code == 1 and unknown.stderr == "error: data set 'xtest' is unknown; did you mean xstest?\n"


def test_a_set_that_cannot_be_fetched_does_not_keep_the_next_one_away(
    mirror: Mirror, any_instructions: None, tmp_path: Path
) -> None:
    mirror.put("malicious-instruct/MaliciousInstruct.txt", "".join(f"request {n}\n" for n in range(100)))
    names = ("humaneval", "malicious-instruct", "xstest")
    result = run("get", *names, "--base-url", mirror.url, "--cache", tmp_path, "--json")
    assert [each["name"] for each in json.loads(result.stdout)["data_sets"]] == ["malicious-instruct"]
    assert result.exit_code == 1 and "HumanEval.jsonl.gz: the server answers 404" in result.stderr
    assert "error: humaneval, xstest: not fetched, for the reasons above" in result.stderr


def test_the_real_files_pass_the_hashes_that_are_known(mirror: Mirror, test_data: Path, tmp_path: Path) -> None:
    files = {
        "xstest/xstest_prompts.csv": "xstest/xstest_prompts.csv",
        "humaneval/HumanEval.jsonl.gz": "humaneval/HumanEval.jsonl.gz",
        "advbench/harmful_behaviors.csv": "advbench/harmful_behaviors.csv",
        "malicious-instruct/MaliciousInstruct.txt": "refusal_direction/raw/malicious_instruct.txt",
        "strongreject/strongreject_dataset.csv": "refusal_direction/raw/strongreject.csv",
        **{f"instructions/{file.path}": f"refusal_direction/splits/{file.path}"
           for file in SOURCES["instructions"].files},
    }  # fmt: skip
    for path, source in files.items():
        mirror.put(path, (test_data / "datasets" / source).read_bytes())
    for name in ("caa", "caa-choices"):
        for file in SOURCES[name].files:  # the copy has a newline more at the end of each
            mirror.put(f"{name}/{file.path}", (test_data / "datasets/caa" / file.path).read_bytes().removesuffix(b"\n"))
    names = sorted({path.split("/")[2] for path in mirror.files})
    result = run("get", *names, "--base-url", mirror.url, "--cache", tmp_path, "--json")
    assert result.exit_code == 0, result.stderr
    sets = {each["name"]: each for each in json.loads(result.stdout)["data_sets"]}
    known = {name: {file["is_known"] for file in each["files"]} for name, each in sets.items()}
    assert len(names) == 8 and known == dict.fromkeys(names, {True})
    assert [file["n_rows"] for file in sets["instructions"]["files"]] == [260, 39, 572, 18_793, 6264, 6266]
