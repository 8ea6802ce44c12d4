"""The theory's curves fitted to a run's measurements; read this for which items a fit is of.

Where the behaviour items are harmful and harmless requests, a vector moves the two sides oppositely, see sides.py: the
fit of alignment is then of the harmful items, for which the vector is, and the harmless have one of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from steercpp.data.tasks import HARMFUL
from steercpp.statistics.fits import FitResult, fit_alignment, fit_helpfulness_forms

if TYPE_CHECKING:
    from steercpp.runs.result import SweepResult

OF_HARMFUL = (
    "the items have two sides, which a vector may move oppositely: the fit of alignment is of the harmful items"
)


def fitted(result: SweepResult) -> Mapping[str, tuple[FitResult, ...]]:
    """The fits of each measure, best first; see `SweepResult.fit`."""
    fits: dict[str, tuple[FitResult, ...]] = {}
    strengths, n_choices = result.strengths, result.n_choices
    if result.behavior is not None:
        sides = result.side_fits
        whole = result.behavior.normalized
        fits["alignment"] = (sides[HARMFUL] if sides else fit_alignment(strengths, whole, rng=result.rng()),)
    if result.choice is not None and n_choices is not None:
        fits["helpfulness_restricted"] = fit_helpfulness_forms(
            strengths, result.choice.p_restricted, restricted=True, n_choices=n_choices, rng=result.rng()
        )
    if result.measure == "p_restricted" and n_choices is not None:
        fits["helpfulness"] = fits["helpfulness_restricted"]
    elif result.helpful_values is not None:
        fits["helpfulness"] = fit_helpfulness_forms(strengths, result.helpful_values, rng=result.rng())
    return fits


def fitted_by_side(result: SweepResult) -> Mapping[str, FitResult]:
    """The tanh over the B of the harmful and of the harmless items; empty where there are no such sides."""
    if result.behavior is None or result.side_items is None:
        return {}
    b, rows = result.behavior.normalized, result.side_items.items()
    return {name: fit_alignment(result.strengths, b[:, places], rng=result.rng()) for name, places in rows}
