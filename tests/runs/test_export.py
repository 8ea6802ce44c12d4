"""A run as one table: every number that the store has, in each form, and back."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from planted_run import write_planted_run
from small_sweep import numbers, small_sweep

from steercpp.cli.main import main
from steercpp.engine.engine import Engine
from steercpp.errors import InputError
from steercpp.runs.export import export_run
from steercpp.runs.result import SweepResult, open_run
from steercpp.sweeps.texts import TextPlan


@pytest.fixture(scope="module")
def run(tiny_engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> SweepResult:
    return small_sweep(tiny_engine, tmp_path_factory.mktemp("export") / "run", text_plan=TextPlan(4))


def test_json_lines_have_every_log_probability(run: SweepResult, tmp_path: Path) -> None:
    n = export_run(run, "items", tmp_path / "items.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "items.jsonl").read_text().splitlines()]
    stored = numbers(run.folder)
    assert len(rows) == n == len(stored)
    told = sorted(
        (row["label"], row["kind"], row["strength"], row["item"], row["continuation"], row["nats"]) for row in rows
    )
    assert told == sorted(stored)  # all digits
    behavior = [row for row in rows if row["kind"] == "behavior"]
    assert {row["side"] for row in behavior} == {"aligned", "misaligned"}
    assert {row["id"] for row in behavior} == {item.id for item in run.items("behavior")}


def test_csv_and_parquet_have_the_same_rows(run: SweepResult, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    for table in ("items", "texts", "strengths"):
        n = export_run(run, table, tmp_path / f"{table}.parquet")
        export_run(run, table, tmp_path / f"{table}.csv")
        columns = parquet.read_table(tmp_path / f"{table}.parquet").to_pydict()
        with open(tmp_path / f"{table}.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == n == len(columns["strength"])
        assert list(rows[0]) == list(columns)
        assert [float(row["strength"]) for row in rows] == pytest.approx(columns["strength"])
    assert sorted(columns["strength"]) == run.strengths.tolist()


def test_texts_are_the_runs(run: SweepResult, tmp_path: Path) -> None:
    export_run(run, "texts", tmp_path / "texts.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "texts.jsonl").read_text().splitlines()]
    ours = [row for row in rows if (row["label"], row["kind"]) == ("vector", "behavior")]
    assert [(row["strength"], row["item"], row["text"], row["nats"]) for row in ours] == [
        (text.strength, text.item, text.text, text.nats) for text in run.all_texts()
    ]


def test_what_cannot_be_written_is_told(run: SweepResult, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"use \.csv, \.jsonl, \.parquet"):
        export_run(run, "items", tmp_path / "items.xlsx")
    with pytest.raises(InputError, match="use one of items, strengths, texts"):
        export_run(run, "rows", tmp_path / "items.csv")  # type: ignore[arg-type]
    write_planted_run(tmp_path / "planted")
    with pytest.raises(InputError, match="holds no generated texts"):
        export_run(open_run(tmp_path / "planted"), "texts", tmp_path / "texts.csv")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["planted"]  # nothing half written


def test_the_command_writes_once_and_again_with_force(run: SweepResult, tmp_path: Path) -> None:
    command = ["export", str(run.folder), "-o", str(tmp_path / "x.csv")]
    first = CliRunner().invoke(main, command)
    assert first.exit_code == 0 and "rows of items" in first.output
    assert CliRunner().invoke(main, command).exit_code == 1
    again = json.loads(CliRunner().invoke(main, [*command, "--force", "--json"]).output)
    assert again["n_rows"] == len(numbers(run.folder))
