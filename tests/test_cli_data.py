"""`steercpp data` as a user meets it: the list, a copy of a set, and one sentence where it cannot be read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from steercpp.cli.data import data
from steercpp.cli.main import main
from steercpp.datasets import DATA_SETS


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
    assert "\\b" not in result.stdout and max(map(len, result.stdout.splitlines())) <= 100


def test_the_list_names_every_set() -> None:
    listed = json.loads(run("list", "--json").stdout)["data_sets"]
    assert [each["name"] for each in listed] == list(DATA_SETS)
    assert {each["name"]: each["parts"] for each in listed}["stereoset"] == ["bias_type", "task"]
    table = run("list")
    assert table.exit_code == 0 and table.stderr == "" and max(map(len, table.stdout.splitlines())) <= 80
    assert [line.split()[0] for line in table.stdout.splitlines() if line[:1] != " "] == list(DATA_SETS)


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
    assert run("show", "mmlu").exit_code == run("show", "mmlu", mmlu, "--rows", "-1").exit_code == 2
