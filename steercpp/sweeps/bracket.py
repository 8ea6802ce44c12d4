"""How far a grid of strengths has to reach on a model that nobody has measured yet: outwards by doubling.

    left = lambda strength: ...                   # the share of helpfulness that is left, of a few items
    end = cliff(left, first=0.02, sign=1)         # where half of it is lost
    auto_grid(cliff(left, first=0.02, sign=-1).end, end.end)

The grid has 8 strengths a side, denser near 0, where the budget lies; the last is where half is lost, so that the cliff
is in the picture and nothing is measured behind it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from steercpp.errors import InputError

SIXTEENTHS = (1, 2, 3, 4, 6, 8, 12, 16)  # of the end, on each side
FIRST = 0.02  # residual norms, the first push to try
HALF = 0.5  # of the helpfulness that is left where a side ends
FARTHEST, NEAREST = 2.0**7, 2.0**-20  # the strengths between which a cliff is looked for
FINE = 2.0**0.25  # how near to the cliff the last two strengths lie
STEPS = (1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)  # first digits of a grid's step


@dataclass(frozen=True, slots=True)
class Cliff:
    """Where one side of a grid ends.

    Attributes:
        end: the weakest strength tried at which half of the helpfulness is lost, or the strongest that was tried.
        is_reached: whether half is lost there.
        tried: (strength, share of helpfulness left), in the order in which they were tried.
    """

    end: float
    is_reached: bool
    tried: tuple[tuple[float, float], ...]

    def record(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {"end": self.end, "is_reached": self.is_reached, "tried": [list(pair) for pair in self.tried]}


def cliff(left: Callable[[float], float], *, first: float, sign: int, farthest: float = FARTHEST) -> Cliff:
    """Where half of the helpfulness is lost, going outwards from 0.

    Args:
        left: the share of the unsteered helpfulness that is left at a strength; 0 where texts are broken or nothing is
            finite.
        first: size of the first strength to try, above 0. It is halved until half is left, then doubled until it is
            not; the bracket is halved until its ends are within 2^(1/4) of each other.
        sign: 1 or -1, the side.
        farthest: where to give up.

    Raises:
        InputError: a first strength or a sign that does not exist; or half is lost however weak the strength is.
    """
    if not (first > 0 and math.isfinite(first)) or sign not in (1, -1):
        raise InputError(f"first strength {first}, sign {sign}: give a number above 0, and 1 or -1")
    tried: dict[float, float] = {}

    def is_left(size: float) -> bool:
        strength = sign * size
        if strength not in tried:
            share = left(strength)
            tried[strength] = share if math.isfinite(share) else 0.0
        return tried[strength] >= HALF

    low = min(first, farthest)
    while not is_left(low):
        low /= 2
        if low < NEAREST:
            raise InputError(f"half of the helpfulness is lost at every strength down to {sign * low * 2:g}")
    high = low
    while high * 2 <= farthest:
        high *= 2
        if not is_left(high):
            break
        low = high
    else:
        return Cliff(sign * low, False, tuple(tried.items()))
    while high / low > FINE:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if is_left(middle) else (low, middle)
    return Cliff(sign * high, True, tuple(tried.items()))


def auto_grid(*ends: float, sixteenths: Sequence[int] = SIXTEENTHS) -> tuple[float, ...]:
    """Strengths up to each of these ends, ascending, 0 among them; multiples of a step that is easy to read.

    Args:
        ends: of the sides, one or two of different signs; at most a third is added to each.
        sixteenths: of an end, at which the strengths lie.

    >>> auto_grid(0.15)
    (0.0, 0.01, 0.02, 0.03, 0.04, 0.06, 0.08, 0.12, 0.16)
    """
    strengths = {0.0}
    for end in ends:
        step = _step(abs(end) / SIXTEENTHS[-1])
        strengths |= {math.copysign(float(f"{k * step:.10g}"), end) for k in sixteenths}
    return tuple(sorted(strengths))


def _step(size: float) -> float:
    """The smallest number of `STEPS`, times a power of ten, that is not below this one."""
    exponent = math.floor(math.log10(size))
    digit = size / 10.0**exponent
    return next(step for step in STEPS if step >= digit * (1 - 1e-12)) * 10.0**exponent
