"""What a page is made of: marked changes, tables for people, the exact steering, Markdown that nothing breaks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from planted_run import write_planted_run

from steercpp.reports.definition import define
from steercpp.reports.differences import Piece, changes
from steercpp.reports.grids import grid
from steercpp.reports.style import CSS_COLORS, STYLE, new_figure, rendered
from steercpp.reports.svg import inline, title_points
from steercpp.reports.templates import rendered_page
from steercpp.runs.manifest import read_manifest
from steercpp.spreadsheets import csv_bytes


def test_what_changed_is_marked_and_what_did_not_is_not() -> None:
    base = "It is a calm, quiet house near the sea."
    pieces = changes(base, "It is a calm, joyful house near the sea.")
    assert pieces == [Piece("It is a calm, ", False), Piece("joyful", True), Piece(" house near the sea.", False)]
    assert changes(base, base) == [Piece(base, False)]
    assert changes(base, "") == []


def test_a_word_in_common_by_chance_is_a_change() -> None:
    pieces = changes("We went to the river and swam.", "Nobody liked the weather or the food.")
    assert [piece.changed for piece in pieces] == [True, False] and pieces[1].text == "."


def test_scripts_without_spaces_are_compared_by_characters() -> None:
    pieces = changes("今天天气很好我们去公园", "今天天气很坏我们去公园")
    assert [piece.text for piece in pieces if piece.changed] == ["坏"]


@given(st.text(max_size=60), st.text(max_size=60))
def test_pieces_are_the_whole_text(base: str, text: str) -> None:
    assert "".join(piece.text for piece in changes(base, text)) == text


def test_numbers_have_the_digits_that_their_intervals_earn() -> None:
    shown = grid({
        "strength": [-0.5, 0.0, 0.25],
        "alignment": [0.123456, 0.0, np.nan], "alignment_se": [0.0456, 0.0, np.nan],
        "accuracy": [0.51234, 0.5, None], "accuracy_low": [0.4, np.nan, None], "accuracy_high": [0.6, np.nan, None],
        "loss": [0.02, 0.0, 0.1], "loss_high": [0.05, 0.03, np.nan],
        "label": ["a", "b", "c"],
    })  # fmt: skip
    assert shown.headings == (
        "strength",
        "B ± s.e.",
        "accuracy (share right) (95%)",
        "loss (share of helpfulness)",
        "label",
    )
    assert shown.rows[0] == ("-0.5", "0.123 ± 0.046", "0.512 (0.400 to 0.600)", "0.020 (at most 0.050)", "a")
    assert [row[0] for row in shown.rows] == ["-0.5", "0", "+0.25"]
    assert shown.rows[2][1:4] == ("–", "–", "0.1") and shown.is_word == (False, False, False, False, True)


def test_the_steering_is_defined_exactly(tmp_path: Path) -> None:
    manifest = read_manifest(write_planted_run(tmp_path / "run", strengths="-0.4:0.4:0.1"))
    plan = replace(manifest.plan, unit="norm")
    vector = replace(manifest.vector, layers=(3, 4), norms=(2.0, 8.0), residual_norms=(2.0, 8.0))
    definition = define(replace(manifest, plan=plan, vector=vector), -0.5)
    assert definition.formula == "x ← x + s·t"
    assert [(push.layer, push.push) for push in definition.pushes] == [(3, 1.0), (4, 4.0)]
    assert "every token" in " ".join(definition.where) and "median length" in definition.where[1]
    gated = replace(plan, gate="12:below:3.5:0123456789abcdef", operator="ablate", positions="last", side="positive")
    definition = define(replace(manifest, plan=gated, vector=vector), 1.0)
    assert "c = x·t / |t|²" in definition.formula and definition.pushes[0].push is None
    assert "the last token of the prompt alone, where c > 0." in definition.where[2]
    assert "below 3.5" in definition.where[3] and "layer 12" in definition.where[3]


def test_points_that_are_not_finite_take_no_title() -> None:
    with matplotlib.rc_context(STYLE):
        figure, axes = new_figure("A", "x", "y")
        title_points(axes.plot([0, 1, 2], [0.0, np.nan, 1.0], "o")[0], ["first", "second", "<third> & more"])
    svg = rendered(figure, "svg")
    assert svg == rendered(figure, "svg")
    assert b"<title>first</title>" in svg and b"second" not in svg and b"&lt;third&gt; &amp; more" in svg
    drawing = inline(svg, "one", 'a "label" <b>', CSS_COLORS)
    assert "var(--ink)" in drawing and "#30363d" not in drawing and 'href="#one-' in drawing
    assert "&lt;b&gt;" in drawing and "font-family" not in drawing


def test_names_in_figures_hold_what_they_hold() -> None:
    """A control character in a subject made an SVG that nothing could read; two signs of money were mathematics."""
    with matplotlib.rc_context(STYLE):
        figure, axes = new_figure("a\x1b[31mb", "$x$ and $y$", "\u202ey")
        title_points(axes.plot([0.0], [0.0], "o", label="c\x00d")[0], ["e\x1bf"])
    svg = rendered(figure, "svg").decode()
    for shown in ("a\\x1b[31mb", "$x$ and $y$", "\\u202ey", "e\\x1bf"):
        assert shown in svg, shown
    assert rendered(figure, "png").startswith(b"\x89PNG") and rendered(figure, "pdf").startswith(b"%PDF")


def test_a_name_that_is_no_utf8_is_spelled_out_in_a_table() -> None:
    assert csv_bytes({"run": ["out\udcff"], "loss": [0.5]}) == b"run,loss\nout\\udcff,0.5\n"


def test_markdown_shows_text_as_text() -> None:
    hostile = "*a* [b](c) <i> `d` | e\n# f $g$ ~h~ \\"
    page = rendered_page(
        "report.md",
        {
            "title": hostile, "subtitle": "", "verdict": {"headline": hostile},
            "facts_of_verdict": [(hostile, hostile)],
            "use": {"line": "a ``` b", "note": ""}, "definition": {"formula": "x", "where": []}, "fits": {},
            "pushes": grid({"strength": [1.0]}), "pushes_caption": "",
        },
    )  # fmt: skip
    plain = r"\*a\* \[b\](c) \<i\> \`d\` \| e \# f \$g\$ \~h\~ " + "\\\\"
    assert page.startswith(f"# {plain}\n") and f"- **{plain}**: {plain}\n" in page
    assert "````text\na ``` b\n````" in page


@pytest.mark.slow
def test_a_page_as_a_pdf(tmp_path: Path) -> None:
    pytest.importorskip("weasyprint", reason="needs WeasyPrint; pip install -e '.[pdf]'")
    from steercpp.reports.report import write_report
    from steercpp.runs.judgement import judge
    from steercpp.runs.result import open_run

    folder = write_planted_run(tmp_path / "run", strengths="-0.4:0.4:0.1")
    files = write_report(judge(open_run(folder)), out=tmp_path / "out", form="pdf", pictures=("pdf",))
    names = {path.name for path in files}
    assert {"report.pdf", "alignment.pdf", "alignment.svg", "fits.csv"} <= names and "alignment.png" not in names
    assert files[-1].read_bytes().startswith(b"%PDF") and files[-1].stat().st_size > 20_000
    assert b"/Type /Font" in (tmp_path / "out" / "alignment.pdf").read_bytes()  # text as text
