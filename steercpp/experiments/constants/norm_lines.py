"""How far steering moves the representation at each strength, and whether in a straight line: the paper's lambda.

Assumption 1 says |delta(q; s)| = lambda |s| for moderate strengths s. The paper looks at |U delta|, the length of the
change of the logits, and lays a line through the mean over queries on each side of 0 (arXiv:2401.16332, appendix). The
window of the line is found here: from 0 outwards, as long as the mean stays on a line with R2 >= 0.99.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from steercpp.aliases import Bools, Floats
from steercpp.statistics.intervals import NOTHING, Interval, mean

MEAN_R2 = 0.99  # of the line through the mean: where it falls below, the window ends
QUERY_R2 = 0.95  # of a query's own line, whose noise no other query averages out
WOLF2024 = 5.0  # the authors' window reaches from 0 to +-5, in lengths


@dataclass(frozen=True, slots=True)
class Line:
    """The line through the mean over queries of |delta|, on one side of 0.

    Attributes:
        slope: lambda, per unit of strength; not negative on a side where |delta| grows outwards.
        intercept: at strength 0, where |delta| itself is 0.
        r2: of the mean.
        reach: the strength at which the window ends.
        left_at: the first strength beyond it, where the mean leaves the line; None where the grid ends first.
        n_points: strengths of the window, 0 among them.
        share: of queries whose own line in the window has R2 >= QUERY_R2.
        n_queries: how many there are.
    """

    slope: Interval
    intercept: float
    r2: float
    reach: float
    left_at: float | None
    n_points: int
    share: float
    n_queries: int

    def record(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "slope": self.slope.record(), "intercept": self.intercept, "r2": self.r2, "reach": self.reach,
            "left_at": self.left_at, "n_points": self.n_points, "share_linear": self.share,
        }  # fmt: skip


def straight(x: Floats, y: Floats) -> tuple[Floats, Floats, Floats]:
    """Least-squares lines through columns: slope, intercept and R2.

    Args:
        x: (n >= 2,) not all alike.
        y: (n, m).

    Returns:
        three of (m,); R2 is 1 for a column that does not vary, which its line gives exactly.
    """
    centred = x - x.mean()
    slope = centred @ y / (centred @ centred)
    intercept = y.mean(axis=0) - slope * x.mean()
    residual = np.square(y - intercept - np.outer(x, slope)).sum(axis=0)
    spread = np.square(y - y.mean(axis=0)).sum(axis=0)
    r2 = 1 - np.divide(residual, spread, out=np.zeros_like(residual), where=spread > 0)
    return slope, intercept, r2


def side(strengths: Floats, sign: int) -> npt.NDArray[np.intp]:
    """Places of strength 0 and of those of one sign, from 0 outwards.

    Args:
        strengths: (n_s,) ascending, 0 among them.
        sign: +1 or -1.
    """
    places = np.flatnonzero(strengths * sign >= 0)
    return places if sign > 0 else places[::-1]


def line(strengths: Floats, norms: Floats, *, sign: int, reach: float | None = None) -> Line | None:
    """The line of one side of 0; None with fewer than two strengths there, through which any line goes.

    Args:
        strengths: (n_s,) ascending, 0 among them.
        norms: (n_s, n_queries) |delta|, 0 at strength 0.
        sign: +1 or -1: which side.
        reach: up to which |strength|; by default as far as the mean is linear.
    """
    places = side(strengths, sign)
    x, average = np.abs(strengths[places]), norms[places].mean(axis=1)
    n = _n_linear(x, average) if reach is None else int((x <= reach + 1e-9).sum())
    if n < 3:
        return None
    window = places[:n]
    slopes, _, r2 = straight(x[:n], norms[window])
    _, intercept, mean_r2 = straight(x[:n], average[:n, None])
    return Line(
        slope=mean(slopes) if len(slopes) else NOTHING, intercept=float(intercept[0]), r2=float(mean_r2[0]),
        reach=float(strengths[window[-1]]), left_at=float(strengths[places[n]]) if n < len(places) else None,
        n_points=n, share=float((r2 >= QUERY_R2).mean()), n_queries=norms.shape[1],
    )  # fmt: skip


def _n_linear(x: Floats, y: Floats) -> int:
    """How many points from the first on lie on a line with R2 >= MEAN_R2; the first three are taken as they are."""
    n = min(3, len(x))
    while n < len(x) and straight(x[: n + 1], y[: n + 1, None])[2][0] >= MEAN_R2:
        n += 1
    return n


def window(strengths: Floats, lines: tuple[Line | None, Line | None]) -> Bools:
    """(n_s,) the strengths inside both sides' windows, 0 among them; a side without a line gives its innermost ones.

    Args:
        strengths: (n_s,) ascending, 0 among them.
        lines: of the negative and of the positive side.
    """
    inside: Bools = strengths == 0
    for sign, fitted in zip((-1, 1), lines, strict=True):
        reach = np.abs(strengths[side(strengths, sign)][:3]).max() if fitted is None else abs(fitted.reach)
        inside |= (strengths * sign >= 0) & (np.abs(strengths) <= reach + 1e-9)
    return inside


def own_lines(strengths: Floats, norms: Floats, inside: Bools) -> tuple[Floats, Bools]:
    """Each query's own lines in a window: lambda below and above 0, and whether R2 >= QUERY_R2 on both sides.

    Args:
        strengths: (n_s,) ascending, 0 among them.
        norms: (n_s, n_queries).
        inside: (n_s,) the window.

    Returns:
        (n_queries, 2), NaN on a side without a strength; (n_queries,).
    """
    slopes, held = np.full((norms.shape[1], 2), np.nan), np.ones(norms.shape[1], bool)
    for column, sign in enumerate((-1, 1)):
        places = [place for place in side(strengths, sign) if inside[place]]
        if len(places) > 1:
            slopes[:, column], _, r2 = straight(np.abs(strengths[places]), norms[places])
            held &= r2 >= QUERY_R2
    return slopes, held


def growth(strengths: Floats, norms: Floats, *, reach: float | None = None) -> dict[str, Any]:
    """Mean and spread of |delta| at each strength with both lines, as plain data for JSON."""
    lines = {name: line(strengths, norms, sign=sign, reach=reach) for name, sign in (("positive", 1), ("negative", -1))}
    return {
        "mean": norms.mean(axis=1).tolist(),
        "std": norms.std(axis=1, ddof=1).tolist() if norms.shape[1] > 1 else np.zeros(len(norms)).tolist(),
        **{name: None if fitted is None else fitted.record() for name, fitted in lines.items()},
    }
