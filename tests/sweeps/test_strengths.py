"""Grids of strengths."""

from __future__ import annotations

import math

import pytest

from steercpp.errors import StrengthError
from steercpp.sweeps.strengths import grid, normal_strengths


def test_a_range_holds_both_ends_and_round_numbers() -> None:
    assert grid("-4:4:0.5") == tuple(i / 2 for i in range(-8, 9))
    assert grid("-0.3:0.3:0.1") == (-0.3, -0.2, -0.1, 0.0, 0.1, 0.2, 0.3)  # not 0.30000000000000004
    assert grid("1:2:0.4") == (0.0, 1.0, 1.4, 1.8)  # 0 is always there, 2.2 is beyond the end
    assert grid("0:0:1") == (0.0,)


def test_a_list_is_sorted_without_repeats() -> None:
    assert grid("2,-1,2, 0.5") == (-1.0, 0.0, 0.5, 2.0)
    assert grid("1e-1") == (0.0, 0.1)
    assert math.copysign(1, normal_strengths([-0.0])[0]) == 1


def test_ranges_and_numbers_mix() -> None:
    assert grid("-10:-6:2, -1:1:0.5, 3, 6:10:2") == (-10, -8, -6, -1, -0.5, 0, 0.5, 1, 3, 6, 8, 10)
    assert len(grid("-10:-5.5:0.5,-5:5:0.2,5.5:10:0.5")) == 71  # fine where the fits look, coarse beyond
    for text in ("0:1:0.5,", "1,0:1", "0:1:0.5;2"):
        with pytest.raises(StrengthError):
            grid(text)


@pytest.mark.parametrize("text", ["", "a", "1:2", "1:2:3:4", "2:1:1", "0:1:0", "0:1:-1", "nan", "0:inf:1", "0:1:1e-9"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(StrengthError):
        grid(text)


def test_too_many_or_not_finite() -> None:
    with pytest.raises(StrengthError, match="at most 1001"):
        normal_strengths([float(i) for i in range(1002)])
    with pytest.raises(StrengthError, match="finite"):
        normal_strengths([math.nan])
