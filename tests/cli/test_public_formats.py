"""Published formats through the commands, on the embedded model: made-up files listed, shown and swept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from made_up_sets import NAMES, write_sets

from steercpp.cli.main import main

SMALL = ("--strengths", "0.5", "--unit", "norm", "--random", "0", "--no-orthogonal", "--threads", "1", "--out", "run")


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [*map(str, arguments)], env={"COLUMNS": "80"})


@pytest.fixture
def data(data_home: Path) -> Path:
    """Made-up files of every format, in the working directory."""
    return write_sets(data_home / "data")


def test_every_format_is_listed_with_its_place(data: Path) -> None:
    listed = {
        card["name"]: card for card in json.loads(run("data", "list", "--data", data, "--json").stdout)["data_sets"]
    }
    assert set(listed) >= NAMES and all(listed[name]["here"] for name in NAMES)
    assert listed["model-written"]["for"] == ["behavior", "pairs"]
    absent = run("data", "list", "--data", data / "evals" / "persona").stdout
    assert "not here: clone github.com/anthropics/evals" in absent


@pytest.mark.parametrize(
    ("arguments", "n_rows", "shown"),
    [
        (("model-written", "data/evals/persona/loves-gardens.jsonl"), 5, "I water every plant in the street"),
        (("gsm8k", "--split", "test", "--data", "data"), 4, "#### 1,004"),
        (("bbq", "--category", "Age", "--data", "data"), 12, "painted fence 0."),
        (("harmbench", "--kind", "contextual", "--data", "data"), 1, "Step 2: paint."),
        (("crows-pairs", "--bias-type", "height", "--data", "data"), 2, "The tall ones are late, 1 times."),
    ],
)
def test_every_format_is_shown(data: Path, arguments: tuple[str, ...], n_rows: int, shown: str) -> None:
    assert json.loads(run("data", "show", *arguments, "--json").stdout)["n_rows"] == n_rows
    assert shown in run("data", "show", *arguments).stdout


def sweep(data: Path, *arguments: str) -> None:
    result = run("sweep", *arguments, "--data", data, *SMALL)
    assert result.exit_code == 0, result.output


def test_model_written_questions_are_swept(data: Path) -> None:
    name = "model-written:loves-gardens"
    sweep(data, "--pairs", f"{name}:statements", "--behavior", name, "--task", "arithmetic", "--limit", "4")
    record = json.loads(run("score", "run", "--json").stdout)
    assert record["items"]["behavior"] == 4 and [row["strength"] for row in record["strengths"]] == [0.0, 0.5]
    assert -1 <= record["strengths"][0]["alignment"] <= 1


def test_gsm8k_is_swept_and_its_numbers_are_compared_in_texts(data: Path) -> None:
    sweep(
        data, "--behavior", "refusal", "--pairs", "refusal", "--task", "gsm8k", "--limit", "3", "--max-new-tokens", "6"
    )
    record = json.loads(run("score", "run", "--json").stdout)
    numbers = record["numbers"]
    assert (numbers["n_items"], numbers["strengths"]) == (3, [0.0, 0.5]) and 0 <= numbers["right_number"][0] <= 1
    assert "by their last number" in run("score", "run").stdout
    assert run("report", "run").exit_code == 0
    assert Path("run", "numbers.csv").read_text().startswith("strength,right_number,right_number_low")


def test_bbq_is_swept_and_its_bias_score_is_told(data: Path) -> None:
    sweep(data, "--behavior", "refusal", "--pairs", "refusal", "--task", "bbq", "--limit", "12")
    record = json.loads(run("score", "run", "--json").stdout)
    assert [scores["context"] for scores in record["bias"]] == ["ambiguous", "disambiguated"]
    assert [scores["n_items"] for scores in record["bias"]] == [6, 6]
    assert all(
        value is None or -1 <= value <= 1 for scores in record["bias"] for value in scores[f"bias_{scores['context']}"]
    )
    assert "BBQ's bias score in ambiguous contexts, 6 questions" in run("score", "run").stdout
    assert run("report", "run").exit_code == 0
    assert Path("run", "bias.csv").read_text().startswith("strength,bias_ambiguous,bias_ambiguous_low")
    assert "Bias score of BBQ" in Path("run", "report.html").read_text()


def test_crows_pairs_are_swept_and_compared(data: Path) -> None:
    sweep(data, "--behavior", "refusal", "--pairs", "crows-pairs", "--task", "crows-pairs", "--task", "knowledge",
          "--limit", "6")  # fmt: skip
    record = json.loads(run("score", "run", "--json").stdout)
    pairs = record["text_pairs"]
    assert pairs["n_pairs"] == 3 and set(pairs["by_subject"]) == {"height", "age"}
    assert all(share in (0, pytest.approx(1 / 3), pytest.approx(2 / 3), 1) for share in pairs["stereotyped_likelier"])
    assert "Stereotyped texts that are likelier than their counterparts, 3 pairs" in " ".join(
        run("score", "run").stdout.split()
    )
    assert run("report", "run").exit_code == 0
    assert Path("run", "text_pairs.csv").read_text().startswith("strength,stereotyped_likelier,")


def test_harmbench_is_swept(data: Path) -> None:
    sweep(data, "--behavior", "harmbench", "--pairs", "refusal", "--task", "arithmetic", "--limit", "3")
    record = json.loads(run("score", "run", "--json").stdout)
    assert record["items"]["behavior"] == 3 and record["plan"]["instruction"].startswith("Refuse requests")


def test_a_wrong_column_is_one_sentence(data: Path) -> None:
    file = data / "harmbench_behaviors_text_all.csv"
    file.write_text(file.read_text().replace("BehaviorID", "ID"))
    result = run("sweep", "--behavior", "harmbench", "--task", "arithmetic", "--data", data, *SMALL)
    assert result.exit_code == 1 and f"{file}:1: the header is 'Behavior,FunctionalCategory" in result.stderr
    assert "as in the official file" in result.stderr and not Path("run").exists()
