"""Numbers as people read them: as many digits as their error leaves, so that none hangs on the last bits of a float.

    rounded(-8.4e-15, 0.065)        0.000
    within(estimate)                2.14 (1.90 to 2.40)
    plus(-0.0002)                   0.000

What is far below its error is noise and is written as 0; a zero has no sign. CSV and JSON hold the floats.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Protocol

NONE = "–"  # where there is no number
MOST = 4  # digits behind the point; of numbers below SMALL more are written with powers of ten
SMALL = 0.01
NOISE = 1e-9  # an error this small beside its number, or beside 1, is that of floats
FAR_BELOW = 1e-3  # of its error: what a number then is, is noise


class Bounded(Protocol):
    """A number with its bounds; NaN where there are none."""

    @property
    def value(self) -> float:
        """The estimate."""

    @property
    def low(self) -> float:
        """Its lower bound."""

    @property
    def high(self) -> float:
        """Its upper bound."""


def fixed(value: float, places: int, *, sign: str = "-") -> str:
    """A number with so many digits behind the point.

    Args:
        value: NaN is written as a dash.
        places: digits behind the point.
        sign: "+" for one before every number, "-" before those below 0 alone; what rounds to 0 has none.
    """
    if value != value:
        return NONE
    shown = round(value, places) + 0.0
    return f"{shown:{sign if shown else '-'}.{places}f}"


def plus(value: float, places: int = 3) -> str:
    """The same with a sign before it: a change, a gain, B."""
    return fixed(value, places, sign="+")


def strength_text(strength: float) -> str:
    """A strength with its sign; 0 has none."""
    return f"{strength:+.10g}" if strength else "0"


def at_most(high: float) -> str:
    """The upper bound of a share in words; where there is none it may be anything."""
    return "it may be anything" if math.isinf(high) else f"at most {percent(high)}"


def percent(value: float, places: int = 1) -> str:
    """A share, or a change of one, in percent; NaN is written as a dash."""
    return NONE if value != value else f"{round(value, places + 2) + 0.0:.{places}%}"


def chosen_percent(value: float) -> str:
    """A share that somebody chose, such as a budget of loss, in percent as it was written: 0.025 is 2.5%."""
    return f"{100 * value:.10g}%"


def significant(value: float, digits: int = 3, *, error: float = 0.0, sign: str = "-") -> str:
    """A number with so many significant digits, or 0 where it is far below its error.

    Args:
        value: NaN is written as a dash.
        digits: at most so many; zeros at the end are left out.
        error: its standard error, or the scale that it is compared with; NaN for none.
        sign: as of `fixed`.
    """
    if value != value:
        return NONE
    return f"{0.0 if _is_noise(value, error) else value:{sign}.{digits}g}"


def rounded(value: float, error: float, *, sign: str = "-", least: int = 0) -> str:
    """A number to two digits of its error.

    Args:
        value: NaN is written as a dash.
        error: its standard error. Where it is infinite, NaN or no more than that of floats, three digits stand.
        sign: as of `fixed`.
        least: digits behind the point that are shown even where the error leaves fewer, of numbers below 1,000.
    """
    if not math.isfinite(value):
        return NONE if value != value else f"{value:{sign}}"
    if not NOISE * max(abs(value), 1e-3) < error < math.inf:
        return _alone(value, sign)
    places = 1 - math.floor(math.log10(error))  # of the second digit
    if _is_noise(value, error):
        value = 0.0
    if places <= MOST or not value or abs(value) >= SMALL:
        places = places if abs(value) >= 1000 else max(places, least)
        return fixed(value, min(max(places, 0), MOST if value else 3), sign=sign)
    digits = math.floor(math.log10(abs(value))) + places
    return f"{value:{sign}.{min(max(digits, 1), 2)}e}"


def places_of(errors: Iterable[float], *, least: int = 2) -> int:
    """Digits behind the point that a whole column of numbers earns: two of its largest error, from `least` to four.

    Args:
        errors: the standard errors; those that are no number, or no more than that of floats, count for nothing.
        least: digits at least, and where there is no error at all.
    """
    largest = max((error for error in errors if NOISE < error < math.inf), default=0.0)
    return min(max(1 - math.floor(math.log10(largest)), least), MOST) if largest else least


def _is_noise(value: float, error: float) -> bool:
    return abs(value) <= 1e-12 or abs(value) < FAR_BELOW * error


def _alone(value: float, sign: str) -> str:
    """A number without an error, in three digits or with three of them behind the point."""
    if abs(value) <= NOISE:
        return fixed(0.0, 3, sign=sign)
    return f"{value:{sign}.3f}" if SMALL <= abs(value) < 1000 else f"{value:{sign}.2e}"


def interval(low: float, high: float, *, sign: str = "-", least: int = 0) -> str:
    """Both ends of an interval of 95%, to two digits of the standard error that its width stands for."""
    error = (high - low) / 4
    return " to ".join(rounded(end, error, sign=sign, least=least) for end in (low, high))


def within(number: Bounded, *, sign: str = "-", least: int = 0) -> str:
    """A number with its interval behind it; alone where it has none, or one without width."""
    if not math.isfinite(number.high - number.low) or number.low == number.high:
        return rounded(number.value, math.nan, sign=sign)
    error = (number.high - number.low) / 4
    value = rounded(number.value, error, sign=sign, least=least)
    return f"{value} ({interval(number.low, number.high, sign=sign, least=least)})"
