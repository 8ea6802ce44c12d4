"""Reading curves: what is accepted, and the place that each error names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from steercpp.errors import CurveError
from steercpp.statistics.curve_files import read_curve


def write(folder: Path, content: str | bytes) -> Path:
    path = folder / "curve.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_both_kinds_of_file(tmp_path: Path) -> None:
    curve = read_curve(write(tmp_path, "strength,alignment\n-1,-0.5\n0.5,1e-1\n"))
    np.testing.assert_array_equal(curve.strengths, [-1, 0.5])
    assert list(curve.measures) == ["alignment"]
    np.testing.assert_array_equal(curve.measures["alignment"], [-0.5, 0.1])
    curve = read_curve(write(tmp_path, "strength,p_correct,p_correct_restricted\n1,0,0.25\n0,1,1\n"))
    np.testing.assert_array_equal(curve.measures["p_correct"], [0, 1])
    np.testing.assert_array_equal(curve.measures["p_correct_restricted"], [0.25, 1])
    assert curve.ignored == ()


def test_files_as_spreadsheets_write_them(tmp_path: Path) -> None:
    """Byte-order mark, Windows line ends, quotes, spaces, blank lines, no line end at the end, more columns."""
    text = '\ufeff"strength", alignment,low,p_correct\r\n\r\n"-1", 0.5 ,x,0.1\r\n,,,\r\n2,0.25,,0.2'
    curve = read_curve(write(tmp_path, text))
    np.testing.assert_array_equal(curve.strengths, [-1, 2])
    np.testing.assert_array_equal(curve.measures["alignment"], [0.5, 0.25])
    np.testing.assert_array_equal(curve.measures["p_correct"], [0.1, 0.2])
    assert curve.ignored == ("low",)


@pytest.mark.parametrize(
    ("content", "line", "words"),
    [
        ("", 1, "empty; the first line is strength,alignment"),
        ("\n \n", 1, "empty"),
        ("strength,alignment\n", 1, "no points below the heading"),
        ("alignment,strength\n0,0\n", 1, "the heading is 'alignment,strength'; write strength,alignment or"),
        ("strength,p_corect\n0,0\n", 1, "the heading is 'strength,p_corect'"),
        ("0,0\n1,1\n", 1, "the heading is '0,0'"),
        ("strength,alignment,alignment\n0,0,0\n", 1, "names a column twice"),
        ("strength,alignment\n0,0\n\n1\n", 4, "1 column, the heading has 2"),
        ("strength,alignment\n0,0,0\n", 2, "3 columns, the heading has 2"),
        ("strength,alignment\n0,0\n1,high\n", 3, "alignment is 'high', which is not a finite number"),
        ("strength,alignment\n0,\n", 2, "alignment is '', which is not"),
        ("strength,alignment\n0,nan\n", 2, "alignment is 'nan'"),
        ("strength,alignment\ninf,0\n", 2, "strength is 'inf'"),
        ("strength,alignment\n0,-66\n", 2, "alignment is -66, outside -1 to 1; correct it, or divide"),
        ("strength,p_correct\n0,-0.1\n", 2, "p_correct is -0.1, outside 0 to 1"),
        ("strength,alignment\n0,0\n1,0.5\n0.0,0.1\n", 4, "strength 0 stands on line 2 already"),
        (b"strength,alignment\n0,0\n1,\xff\n", 3, "not UTF-8"),
        ('strength,alignment\n0,"0"x\n', 2, "not CSV"),
        ("strength;alignment\n0;0\n", 1, "the heading is 'strength;alignment'"),
    ],
)
def test_errors_name_the_place(tmp_path: Path, content: str | bytes, line: int, words: str) -> None:
    path = write(tmp_path, content)
    with pytest.raises(CurveError) as caught:
        read_curve(path)
    assert str(caught.value).startswith(f"{path}:{line}: ")
    assert words in str(caught.value)


def test_a_row_over_several_lines_is_named_by_its_first(tmp_path: Path) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text('strength,alignment,note\n1,0.1,"two\nlines"\n2,"x\ny",z\n')
    with pytest.raises(CurveError, match="rows.csv:4: alignment is"):
        read_curve(rows)


def test_files_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(CurveError, match="No such file"):
        read_curve(tmp_path / "none.csv")
    with pytest.raises(CurveError, match="directory"):
        read_curve(tmp_path)


def test_names_of_earlier_versions_are_read(tmp_path: Path) -> None:
    path = tmp_path / "controls.csv"
    path.write_text("strength,b,b_raw,p_free\n0,0.5,0.1,0.6\n")
    curve = read_curve(path)
    assert {name: values.tolist() for name, values in curve.measures.items()} == {
        "alignment": [0.5],
        "p_correct": [0.6],
    }
    assert curve.ignored == ("alignment_raw",)
    path.write_text("strength,b,alignment\n0,0.5,0.1\n")
    with pytest.raises(CurveError, match="names a column twice"):
        read_curve(path)
