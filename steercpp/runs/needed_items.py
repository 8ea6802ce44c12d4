"""How many more items a verdict that is not proved takes: what bounds of the gain and of the loss fall with.

A bound lies beyond its figure by what n items can hide, which falls about as 1/sqrt(n).
"""

from __future__ import annotations

import math

from steercpp.statistics.curves import LEAST_MASS, Curves
from steercpp.statistics.losses import items_to_prove
from steercpp.statistics.recommend import Evidence
from steercpp.statistics.rounded import plus

MOST_MORE = 100_000  # items: beyond, a number tells nothing


def needed_for_gain(told: Evidence) -> tuple[str, float] | None:
    """What of the gain is not certain, and about how many testing items make it so; None if all of it is certain."""
    figures = {
        f"B rises by {plus(told.gain)}": (told.gain, told.gain_low, 0.0),
        f"B rises by {plus(told.over_random)} more than under random directions":
            (told.over_random, told.over_random_low, 0.0),
        f"P+ is typically {told.aligned_ratio:.2f} times what it is without steering":
            (told.aligned_ratio, told.aligned_ratio_low, 1.0),
        f"{told.mass_ratio:.0%} of the mass is left": (told.mass_ratio, told.mass_ratio_low, LEAST_MASS),
    }  # fmt: skip
    needed = {
        words: told.n_behavior * ((value - low) / (value - least)) ** 2 if value > least else math.inf
        for words, (value, low, least) in figures.items()
        if not low > least and value == value  # NaN is not measured
    }
    if not needed:
        return None
    words = max(needed, key=needed.__getitem__)
    return f"{words}, but on {told.n_behavior} items that is not certain.", needed[words]


def needed_for_loss(curves: Curves, loss: float, high: float, n_items: int, budget: float, confidence: float) -> float:
    """About how many items prove a loss that seems to be within the budget.

    Its bound never lies below what unseen items could lose.
    """
    p_0, chance = float(curves.p[curves.at_0].mean()), float(curves.chance.mean())
    least = items_to_prove(budget, p_0, chance=chance, confidence=confidence)
    if loss >= budget:
        return math.inf
    return max(n_items * ((min(high, 1.0) - loss) / (budget - loss)) ** 2, least)


def whole_items(n: float) -> int:
    """Whole items, one for either half at least; what is beyond all reason stays just that."""
    return MOST_MORE + 1 if not n < MOST_MORE else max(math.ceil(n), 2)


def about(n: int) -> int:
    """A number of items, rounded up to one or two digits."""
    step = int(10 ** max(len(str(n)) - 2, 0))
    return -(-n // step) * step
