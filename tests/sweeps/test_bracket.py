"""Brackets of strengths on planted falls of helpfulness: the cliff is inside, wherever it lies."""

from __future__ import annotations

import math

import pytest

from steercpp.errors import InputError
from steercpp.sweeps.bracket import FINE, SIXTEENTHS, auto_grid, cliff


@pytest.mark.parametrize("half", [0.0003, 0.02, 0.15, 1.0, 40.0])
@pytest.mark.parametrize("sign", [1, -1])
def test_the_cliff_is_found_wherever_it_lies(half: float, sign: int) -> None:
    tried: list[float] = []

    def left(s: float) -> float:
        tried.append(s)
        return math.exp(-math.log(2) * (s / half) ** 2)

    found = cliff(left, first=0.02, sign=sign)
    assert found.is_reached and half * (1 - 1e-9) <= sign * found.end <= half * FINE * (1 + 1e-9)
    assert len(tried) == len(set(tried)) == len(found.tried) <= 16  # nothing is measured twice
    assert [s for s, _ in found.tried] == tried and all(s * sign > 0 for s in tried)


def test_a_push_that_costs_nothing_ends_where_the_search_ends() -> None:
    found = cliff(lambda _: 1.0, first=0.1, sign=1, farthest=5.0)
    assert (found.end, found.is_reached) == (3.2, False)


def test_what_is_not_finite_is_lost() -> None:
    found = cliff(lambda s: math.nan if s > 0.3 else 1.0, first=0.1, sign=1)
    assert found.is_reached and 0.3 < found.end <= 0.3 * FINE * 1.001
    assert {share for s, share in found.tried if s > 0.3} == {0.0}


def test_a_model_that_loses_half_at_once_is_told() -> None:
    with pytest.raises(InputError, match="half of the helpfulness is lost at every strength down to"):
        cliff(lambda _: 0.0, first=0.1, sign=1)


@pytest.mark.parametrize(("first", "sign"), [(0.0, 1), (-1.0, 1), (math.inf, 1), (1.0, 0)])
def test_options_that_do_not_exist(first: float, sign: int) -> None:
    with pytest.raises(InputError):
        cliff(lambda _: 1.0, first=first, sign=sign)


@pytest.mark.parametrize("end", [1e-5, 0.09, 0.11, 0.16, 0.9, 1.0, 37.0])
def test_a_grid_reaches_its_ends_in_steps_that_are_easy_to_read(end: float) -> None:
    grid = auto_grid(-end, 2 * end)
    assert list(grid) == sorted(grid) and len(grid) == 1 + 2 * len(SIXTEENTHS) and 0.0 in grid
    assert end * (1 - 1e-9) <= -grid[0] <= 1.34 * end and 2 * end * (1 - 1e-9) <= grid[-1] <= 1.34 * 2 * end
    assert all(len(f"{s:.10g}".lstrip("-0.").replace(".", "").split("e")[0].rstrip("0")) <= 3 for s in grid)
