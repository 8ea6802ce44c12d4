"""Grids of strengths: written like "-4:4:0.5", "-1,0,1" or both mixed, always with 0 among them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from steercpp.errors import StrengthError

MAX_STRENGTHS = 1001


def grid(text: str) -> tuple[float, ...]:
    """Strengths ascending, 0 always among them.

    Args:
        text: numbers and ranges with commas between; a range is first:last:step, both ends included: "-4:4:0.5",
            "-2,-1,0,1", "-10:-6:1,-5:5:0.2,6:10:1".

    Raises:
        StrengthError: not of that form, not finite, a step that leads nowhere, or more than 1,001 strengths.
    """
    numbers: list[float] = []
    for piece in text.split(","):
        try:
            bounds = [float(number) for number in piece.split(":")]
        except ValueError as error:
            raise StrengthError(f"strengths {text!r}: write a range like -4:4:0.5 or a list like -1,0,1") from error
        if not all(map(math.isfinite, bounds)):
            raise StrengthError(f"strengths {text!r}: a strength must be a finite number")
        numbers += _steps(text, bounds) if ":" in piece else bounds
    return normal_strengths(numbers)


def _steps(text: str, numbers: list[float]) -> list[float]:
    if len(numbers) != 3:
        raise StrengthError(f"strengths {text!r}: write first:last:step like -4:4:0.5")
    first, last, step = numbers
    if step <= 0 or last < first:
        raise StrengthError(f"strengths {text!r}: the step must be above 0 and the last not below the first")
    count = (last - first) / step
    if count > MAX_STRENGTHS:
        raise StrengthError(f"strengths {text!r}: that is {count:.0f} strengths; take a longer step")
    # Rounded to 10 decimals, so that -4 + 8 * 0.5 is 0 and 3 * 0.1 is 0.3.
    return [round(first + i * step, 10) for i in range(math.floor(count + 1e-9) + 1)]


def normal_strengths(strengths: Sequence[float]) -> tuple[float, ...]:
    """Strengths ascending, each once, with 0 among them.

    Raises:
        StrengthError: one is not finite, or there are more than 1,001.
    """
    if not all(math.isfinite(s) for s in strengths):
        raise StrengthError("a strength must be a finite number")
    ascending = sorted({float(s) + 0.0 for s in strengths} | {0.0})  # + 0.0 turns -0.0 into 0.0
    if len(ascending) > MAX_STRENGTHS:
        raise StrengthError(f"{len(ascending)} strengths; take at most {MAX_STRENGTHS}")
    return tuple(ascending)
