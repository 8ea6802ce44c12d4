"""Taking turns: every side runs as often, in an order that turns; and the numbers made of it."""

from __future__ import annotations

import gc
from collections import Counter

import pytest

from steercpp.bench.result import Timed, take_turns, turn
from steercpp.errors import InputError


def test_median_minimum_ratio() -> None:
    odd, even = Timed((3.0, 1.0, 8.0)), Timed((4.0, 1.0, 2.0, 9.0))
    assert (odd.median, odd.minimum) == (3.0, 1.0)
    assert (even.median, even.minimum) == (3.0, 1.0)
    assert Timed((1.0, 2.0)).over(even) == 0.5


@pytest.mark.slow
def test_every_side_runs_in_every_round() -> None:
    calls: list[str] = []
    sides = {name: lambda name=name: calls.append(name) for name in "abc"}
    shares: list[float] = []
    timed = take_turns(sides, 4, warm_ups=2, tick=shares.append)
    assert list(timed) == ["a", "b", "c"] and all(len(one.seconds) == 4 for one in timed.values())
    rounds = [calls[i : i + 3] for i in range(0, len(calls), 3)]
    assert len(rounds) == 6 and all(sorted(one) == ["a", "b", "c"] for one in rounds)
    assert shares == [(i + 1) / 18 for i in range(18)]


@pytest.mark.parametrize("n_sides", [2, 3, 4])
def test_no_side_has_a_place_of_its_own(n_sides: int) -> None:
    names = [f"side {i}" for i in range(n_sides)]
    orders = [turn(names, number) for number in range(2 * n_sides)]
    for place in range(n_sides):
        assert set(Counter(order[place] for order in orders).values()) == {2}
    followers = {(one, other) for order in orders for one, other in zip(order, order[1:], strict=False)}
    assert all((other, one) in followers for one, other in followers)


def test_a_side_is_taken_at_its_word() -> None:
    numbers = iter((9.0, 5.0, 7.0))
    timed = take_turns({"own": lambda: next(numbers), "clock": lambda: None}, 2, warm_ups=1)
    assert timed["own"].seconds == (5.0, 7.0)
    assert all(0 <= seconds < 5 for seconds in timed["clock"].seconds)


def test_garbage_is_not_collected_meanwhile() -> None:
    states: list[bool] = []
    take_turns({"one": lambda: states.append(gc.isenabled())}, 2)
    assert states == [False, False] and gc.isenabled()
    with pytest.raises(ZeroDivisionError):
        take_turns({"one": lambda: float(1 // len([]))}, 1)
    assert gc.isenabled()


def test_no_rounds_are_refused() -> None:
    with pytest.raises(InputError, match="repeats is 0; give at least 1"):
        take_turns({"one": lambda: None}, 0)
