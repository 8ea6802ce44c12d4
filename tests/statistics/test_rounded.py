"""Numbers for people: rounded to their error, 0 where they are noise, never with a sign before nothing."""

from __future__ import annotations

import math

import pytest

from steercpp.statistics.intervals import Interval
from steercpp.statistics.rounded import fixed, interval, percent, plus, rounded, significant, within


@pytest.mark.parametrize(
    ("value", "error", "shown", "shown_with_3"),
    [
        (-8.38e-15, 0.065, "0.000", "0.000"),  # a centre at 0, on one CPU; once "-8.38e-15"
        (2.057, 0.222, "2.06", "2.057"),
        (1.49981, 8.49e-4, "1.4998", "1.4998"),
        (-0.0004, 0.2, "0.00", "0.000"),
        (123.4, 30.0, "123", "123.400"),
        (1.23e-5, 2e-6, "1.23e-05", "1.23e-05"),
        (1e-9, 2e-6, "0.000", "0.000"),
        (12345.678, 120.0, "12346", "12346"),
        (0.5, math.nan, "0.500", "0.500"),
        (0.5, 1e-17, "0.500", "0.500"),  # the error of an exact fit is that of floats
        (1e-17, 1e-17, "0.000", "0.000"),
        (math.nan, 0.1, "–", "–"),
    ],
)
def test_as_many_digits_as_the_error_leaves(value: float, error: float, shown: str, shown_with_3: str) -> None:
    assert rounded(value, error) == shown
    assert rounded(value, error, least=3) == shown_with_3


def test_a_number_with_its_interval() -> None:
    assert within(Interval(2.1402, 1.9, 2.4)) == "2.14 (1.90 to 2.40)"
    assert within(Interval(-3e-16, -0.2, 0.2), sign="+") == "0.00 (-0.20 to +0.20)"
    assert within(Interval(0.3, math.nan, math.nan)) == within(Interval(0.3, 0.3, 0.3)) == "0.300"
    assert interval(-1e-17, 0.4) == "0.00 to 0.40"


def test_nothing_has_no_minus() -> None:
    assert fixed(-1e-17, 3) == "0.000" and plus(-0.0004) == plus(1e-17) == "0.000" and plus(-0.0006) == "-0.001"
    assert significant(-1e-15) == "0" and significant(1e-4, error=0.5, sign="+") == "+0"
    assert significant(0.000123456) == "0.000123" and significant(-2.5, sign="+") == "-2.5"
    assert fixed(math.nan, 2) == significant(math.nan) == "–"


@pytest.mark.parametrize("value", [-8.38e-15, 0.0, 4.4e-16, -2.2e-16])
def test_the_last_bits_of_nothing_are_not_shown(value: float) -> None:
    assert {rounded(value, 0.03), plus(value), significant(value)} == {"0.000", "0"}


def test_shares_in_percent_have_no_sign_at_nothing() -> None:
    assert [percent(value) for value in (-0.0004, 0.0004, -0.012, 1.0)] == ["0.0%", "0.0%", "-1.2%", "100.0%"]
    assert percent(-0.004, 0) == "0%" and percent(float("nan")) == "–"
