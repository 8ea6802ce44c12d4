"""Reasons why a fit means nothing; read this when a result says valid=False.

Least squares returns numbers for any points. Each function here returns "" or the reason, told with its figures and a
next step, why those numbers would not be what their names say.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from scipy import stats

from steercpp.statistics.forms import Form, Tanh
from steercpp.statistics.scores import Floats

FLAT = 1e-9  # a range of B or P that is rounding
WIDEST = 100.0  # high / low of a positive parameter's interval that still says something
MEASURE = "measure more where it changes"


def aicc(cost: float, n_points: int, n_parameters: int) -> float:
    """Akaike's criterion with the correction for few points, less is better.

    n ln(SSE/n) + 2k + 2k(k+1)/(n-k-1) with k = parameters + 1: the residuals' variance counts as one (Burnham and
    Anderson 2002). Comparable between forms fitted to the same points only.
    """
    k = n_parameters + 1
    # an exact fit leaves rounding errors, whose size says nothing
    mean_square = max(cost / n_points, np.finfo(np.float64).eps ** 2)
    return float(n_points * math.log(mean_square) + 2 * k + 2 * k * (k + 1) / (n_points - k - 1))


def fewest_points(form: Form) -> int:
    """The fewest points for which AICc is defined."""
    return len(form.parameters) + 3


def before_fit(form: Form, s: Floats, y: Floats) -> str:
    """What the points (s, y) alone rule out."""
    if len(s) < fewest_points(form):
        return f"too few points: {len(s)} strengths, this form needs {fewest_points(form)}"
    if np.ptp(y) <= FLAT:
        return f"flat: every point is {y[0]:.3g}"
    if isinstance(form, Tanh):
        return _turns_back(s, y)
    if _is_hollow(s, y):
        return f"U-shaped: P is lowest, {y.min():.3g}, at {s[y.argmin()]:.3g} and higher on both sides of it"
    low, high = form.limits
    if y.max() <= low:
        return f"never above chance ({low:.3g}): the highest point is {y.max():.3g}"
    if high < 1.0 <= y.max() / high:
        return f"this form cannot exceed {high:.3g}, the points reach {y.max():.3g}"
    return ""


def _turns_back(s: Floats, y: Floats) -> str:
    """A tanh only rises or only falls; y is in order of strength.

    How far the points go against their main way is compared with their range, and with the noise that second
    differences show (a smooth curve has almost none): noise alone turns back by about 4.5 of its deviations.
    """
    falls = float((np.maximum.accumulate(y) - y).max())
    rises = float((y - np.minimum.accumulate(y)).max())
    back, whole = min(falls, rises), float(np.ptp(y))
    noise = math.sqrt(float((np.diff(y, 2) ** 2).mean()) / 6.0)
    if back <= 0.5 * whole and back <= max(0.25 * whole, 4.5 * noise):
        return ""
    bend = y - np.polynomial.Polynomial.fit(s, y, 2)(s)
    if whole <= 6.0 * noise and float(bend @ bend) > 0.5 * float(((y - y.mean()) ** 2).sum()):
        return f"flat: the points scatter within {whole:.2g}, without a trend"
    return f"not monotone: B rises by {rises:.2f} and falls by {falls:.2f}; choose a window in which it does one"


def _is_hollow(s: Floats, y: Floats) -> bool:
    """Whether P falls and rises again: both ends in its upper half, as no curve with one peak has them.

    Noise has them at times, so a parabola must describe the points, too, better than a constant (F test, 95 %).
    """
    half = y.min() + 0.5 * np.ptp(y)
    parabola = np.polynomial.Polynomial.fit(s, y, 2)
    return bool(min(y[0], y[-1]) > half and parabola.deriv(2)(0) > 0 and _beats_constant(s, y, 2))


def _beats_constant(s: Floats, y: Floats, degree: int) -> bool:
    """Whether a polynomial describes points (s, y) better than their mean does, by the F test at 95 %."""
    n_left = len(s) - degree - 1
    cost = float(((y - np.polynomial.Polynomial.fit(s, y, degree)(s)) ** 2).sum())
    gained = float(((y - y.mean()) ** 2).sum()) - cost
    return gained * n_left > float(stats.f.ppf(0.95, degree, n_left)) * degree * cost


def after_fit(form: Form, s: Floats, y: Floats, u: Floats) -> str:
    """What the best fit u (n_parameters,) rules out."""
    n, k = len(s), len(form.parameters)
    cost = float(((y - form.value(u[None], s)[0]) ** 2).sum())
    constant = float(((y - y.mean()) ** 2).sum())
    if aicc(constant, n, 1) <= aicc(cost, n, k):
        return _no_better(form, s, y, cost, constant)
    reason = _too_narrow(form, s, u)
    if reason:
        return reason
    squeezed = float(((y - form.value(form.steeper(u[None]), s)[0]) ** 2).sum())
    # the 95 % region of one parameter, from the F distribution
    if squeezed <= cost * (1.0 + stats.f.ppf(0.95, 1, n - k) / (n - k)):
        return f"too steep for these strengths: twice as steep fits as well; {MEASURE}"
    if "centre" in form.parameters and not s.min() < u[2] < s.max():
        return f"the peak, at {u[2]:.3g}, lies outside the strengths {s.min():.3g} to {s.max():.3g}"
    return ""


def _no_better(form: Form, s: Floats, y: Floats, cost: float, constant: float) -> str:
    """Why a form is no better than a constant, from the squared residuals that each leaves."""
    n, k = len(s), len(form.parameters)
    if n * math.log(constant / max(cost, np.finfo(np.float64).tiny)) > 2 * (
        k - 1
    ):  # by AIC, which lacks the correction
        return f"too few points to tell a curve from a constant ({n}; AICc): measure at more strengths"
    if not isinstance(form, Tanh) and _beats_constant(s, y, 1):
        told = "rises" if y[-1] > y[0] else "falls"
        return f"no fall on both sides of a peak: P {told} from {y[0]:.3g} to {y[-1]:.3g}"
    return "flat: a constant describes the points as well (AICc)"


def _too_narrow(form: Form, s: Floats, u: Floats) -> str:
    """Whether so few strengths lie where the curve changes that only their noise sets its width."""
    low, high = form.limits
    height = (form.value(u[None], s)[0] - low) / (high - low)
    if isinstance(form, Tanh):
        count = int(((height > 0.025) & (height < 0.975)).sum())
        if count < 2:
            return f"too steep or too far: B is within 0.05 of -1 or 1 at all but {count} of the strengths; {MEASURE}"
        return ""
    count = int((height > 0.05 * height.max()).sum())
    if count < 3:
        return f"too narrow: P is above a twentieth of its peak at only {count} of the strengths; {MEASURE}"
    return ""


def of_intervals(form: Form, s: Floats, bounds: Mapping[str, tuple[float, float]]) -> str:
    """What the parameters' intervals (low, high) rule out."""
    for name, positive in zip(form.parameters, form.positive, strict=True):
        low, high = bounds[name]
        if not (math.isfinite(low) and math.isfinite(high)):
            return f"{name} is not determined by these points"
        if positive and high > WIDEST * low:
            return f"{name} is not determined: its interval is {low:.2g} to {high:.2g}"
        if name == "delta_lambda" and low <= 0.0 <= high:
            return f"flat: the interval of the slope, {low:.3g} to {high:.3g}, holds 0"
        if name == "centre" and low < s.min() and high > s.max():
            return f"the peak can lie anywhere: its interval is {low:.3g} to {high:.3g}"
    return ""
