"""Where a measured curve first reaches a target; read this for how a strength is looked for.

The curve starts near 0 at 0 and need not grow steadily, and each measurement costs a pass over all texts. So it is
followed upwards from a small x in steps, fine ones where the target is near; the first step that reaches the target is
then halved, in its logarithm, until the value there is as close to the target as asked.
"""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt

from steercpp.errors import CalibrationError

TOLERANCE, JUMP = 0.01, 0.05  # of the target: within which a value is taken, and at a jump
FAR, NEAR = 2.0, 2.0**0.25  # steps upwards: while the value is at most 1/16 of the target, and then
_FAR_BELOW = 1 / 16
_LEAST = 2.0**-20  # of the first x, to which it is halved where it reaches the target already
_SAME = 1 + 2.0**-20  # a bracket as narrow as float32 can tell: the curve jumps over the target


def first_crossing(measure: Callable[[float], float], target: float, *, first: float, last: float) -> float:
    """The smallest x at which a curve reaches a target, as far as steps of `NEAR` can tell.

    Args:
        measure: the curve's value at an x above 0.
        target: above 0.
        first: where to begin; halved as long as the value there is the target or more.
        last: where to give up.

    Returns:
        x with a value within `TOLERANCE` of the target; where the curve jumps, just above the jump, within `JUMP`.

    Raises:
        CalibrationError: the target is not reached up to `last`, is exceeded however small x is, or is jumped over. It
            tells where the value is largest, smallest, or just above the jump.
    """
    low, value = first, measure(first)
    while value > target * (1 + TOLERANCE):
        if low < first * _LEAST:
            raise CalibrationError(f"even a strength of {low:g} has {value:.3g}", strength=low, kl=value)
        low /= 2
        value = measure(low)
    high, best = low, (value, low)
    while value < target * (1 - TOLERANCE):
        low, high = high, high * (FAR if value <= target * _FAR_BELOW else NEAR)
        if high > last:
            raise CalibrationError(
                f"up to a strength of {low:g} it reaches {best[0]:.3g}", strength=best[1], kl=best[0]
            )
        value = measure(high)
        best = max(best, (value, high))
    while abs(value / target - 1) > TOLERANCE and high / low > _SAME:
        middle = sqrt(low * high)
        at_middle = measure(middle)
        if at_middle < target * (1 - TOLERANCE):
            low = middle
        else:
            high, value = middle, at_middle
    if value > target * (1 + JUMP):
        raise CalibrationError(f"rounding takes it past that, to {value:.3g} at {high:g}", strength=high, kl=value)
    return high
