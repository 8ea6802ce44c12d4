"""Fits of the theory's curves to measured points; read this to turn a sweep into Delta*lambda or lambda*sigma*beta.

    fit = fit_alignment(strengths, scores.normalized)          # (n_s,) a curve, or (n_s, n_items)
    fit.valid, fit.reason, fit.params["delta_lambda"].value

forms.py has the curves and what their parameters mean. Values of single items give intervals by resampling items; a
curve has none, so its intervals come from its residuals, which says how well the form describes those points, not how
other items would come out: neighboring points share their items, so they are narrower than the truth.
`FitResult.intervals` says which.

A fit that means nothing is not an exception but `valid=False` with the reason. Least squares returns numbers for any
points, so three checks stand around it: `before_fit` (what the points alone rule out), `after_fit` (what the best fit
rules out) and `of_intervals` (what the parameters' intervals rule out).

The fit itself is `fit_one`, one curve with its covariance, by lmfit; `least_squares` fits thousands of resampled curves
at once, from one start, and agrees with it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

import lmfit
import numpy as np
import numpy.typing as npt
from scipy import stats

from steercpp.aliases import Floats
from steercpp.errors import DegenerateError, InputError, ShapeError, StrengthError
from steercpp.statistics.forms import (
    FREE_FORMS,
    OWN_FORMS,
    RESTRICTED_FORMS,
    TANH,
    Form,
    Tanh,
    helpfulness_form,
    inner,
    natural,
)
from steercpp.statistics.intervals import CONFIDENCE, FEWEST_ITEMS, RESAMPLES, Interval, resample
from steercpp.statistics.rounded import significant
from steercpp.statistics.scores import ROUNDING

Window: TypeAlias = tuple[float, float]
Kind: TypeAlias = Literal["items", "residuals"]
EDGE = 1e-9  # strengths this near a window's end lie inside: 0.1 * 3 is not 0.3
EXACT = 1e-12  # residuals that are rounding
FLAT = 1e-9  # a range of B or P that is rounding
WIDEST = 100.0  # high / low of a positive parameter's interval that still says something
MEASURE = "measure more where it changes"
ROUNDS = 100
ALIKE = 1e-6  # AICc that differ by less do by rounding alone
CLOSE = 1e-9  # a step this small, beside the parameter or 1, ends a fit
LONGEST = 3.0  # of one step, in inner coordinates: a factor of 20 for a positive parameter


@dataclass(frozen=True, slots=True)
class Estimate(Interval):
    """One fitted parameter with its standard error; all NaN where the fit is not valid."""

    se: float = field(kw_only=True)

    def named(self) -> dict[str, Any]:
        """By name, for JSON."""
        return {"value": self.value, "se": self.se, "low": self.low, "high": self.high}


@dataclass(frozen=True, slots=True)
class FitResult:
    """One form fitted to one measure.

    Attributes:
        form: its name; `shape.formula` writes it out.
        params: by name, see forms.py.
        r2: 1 - SSE/SST on the mean curve.
        aicc: see `aicc`.
        valid: whether the numbers mean what their names say; if not they are NaN and `reason` says why.
        intervals: "items" resampled, or "residuals" where there are none (or fewer than 5).
        n_points: strengths used.
        draws: (n, n_parameters) inner coordinates of resampled fits, or drawn from the residuals' covariance.
    """

    form: str
    params: dict[str, Estimate]
    r2: float
    aicc: float
    valid: bool
    reason: str
    intervals: Kind
    n_points: int
    confidence: float
    shape: Form = field(repr=False)
    draws: Floats = field(repr=False, compare=False)

    def predict(self, s: npt.ArrayLike) -> Floats:
        """(n,) the fitted curve at strengths s (n,); NaN where the fit is not valid."""
        s = np.asarray(s, np.float64)
        values = np.array([self.params[name].value for name in self.shape.parameters])
        return self.shape.value(inner(self.shape, values)[None], s)[0] if self.valid else np.full(s.shape, np.nan)

    def band(self, s: npt.ArrayLike) -> tuple[Floats, Floats]:
        """(n,), (n,) between which the curve lies at each strength with `confidence`; NaN where not valid."""
        s = np.asarray(s, np.float64)
        if not self.valid:
            return np.full(s.shape, np.nan), np.full(s.shape, np.nan)
        tail = (1.0 - self.confidence) / 2
        low, high = np.quantile(self.shape.value(self.draws, s), [tail, 1.0 - tail], axis=0)
        return low, high

    def record(self) -> dict[str, Any]:
        """The result as plain data for JSON; NaN stands where a number would mean nothing."""
        params = {name: estimate.named() for name, estimate in self.params.items()}
        return {
            "form": self.form, "formula": self.shape.formula, "valid": self.valid, "reason": self.reason,
            "params": params, "r2": self.r2, "aicc": self.aicc, "n_points": self.n_points,
            "intervals": self.intervals, "confidence": self.confidence,
        }  # fmt: skip


def fit_alignment(
    strengths: npt.ArrayLike,
    values: npt.ArrayLike,
    *,
    window: Window | None = None,
    rng: np.random.Generator | None = None,
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
) -> FitResult:
    """Fit B(s) = tanh(delta_lambda s + b0), Theorem 1.

    Args:
        strengths: (n_s,), each once, in any order.
        values: (n_s,) or (n_s, n_items), B = (P+ - P-)/(P+ + P-) in [-1, 1], aligned minus misaligned.
        window: lowest and highest strength to use, both included; None: all.
        rng: draws the items; None: seeded with 0, so that the same input gives the same intervals.
        resamples: samples of items to draw.
        confidence: of the intervals.

    Returns:
        params delta_lambda (half the slope of ln(P+/P-), per unit of strength) and b0 (arctanh B(0)).

    Raises:
        ShapeError, StrengthError: arrays that do not fit together, strengths that are not distinct numbers.
        DegenerateError: a value that is not a number.
        InputError: a value outside [-1, 1].
    """
    s, items = _points(strengths, values, window, -1.0)
    return _fit(TANH, s, items, _Resampling(rng or np.random.default_rng(0), resamples, confidence))


def fit_helpfulness(
    strengths: npt.ArrayLike,
    values: npt.ArrayLike,
    *,
    form: str = "quadratic",
    n_choices: float = 4,
    window: Window | None = None,
    rng: np.random.Generator | None = None,
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
) -> FitResult:
    """Fit one form of P(correct), Theorem 2 and Corollary 1.

    Args:
        strengths: (n_s,), each once, in any order.
        values: (n_s,) or (n_s, n_items), P(correct) in [0, 1].
        form: see `forms.helpfulness_form`.
        n_choices: choices of each question; chance, for the restricted forms, is 1/n_choices, so where questions differ
            it is one over their mean chance level.
        window: lowest and highest strength to use, both included; None: all.
        rng: draws the items; None: seeded with 0.
        resamples: samples of items to draw.
        confidence: of the intervals.

    Returns:
        params a (not of own answers), b (lambda*sigma*beta, per unit of strength, never negative) and, where it is
        free, centre.

    Raises:
        ShapeError, StrengthError, DegenerateError: as `fit_alignment`.
        InputError: an unknown form, or a value outside [0, 1].
    """
    s, items = _points(strengths, values, window, 0.0)
    resampling = _Resampling(rng or np.random.default_rng(0), resamples, confidence)
    return _fit(helpfulness_form(form, n_choices=n_choices), s, items, resampling)


def fit_helpfulness_forms(
    strengths: npt.ArrayLike,
    values: npt.ArrayLike,
    *,
    restricted: bool = False,
    own: bool = False,
    n_choices: float = 4,
    window: Window | None = None,
    rng: np.random.Generator | None = None,
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
) -> tuple[FitResult, ...]:
    """Fit every form that suits the measure, as `fit_helpfulness`, best first.

    With `restricted`, P is over the choices only and tends to chance; without, over the vocabulary, to 0. With `own` it
    is that of own answers, 1 at strength 0 by construction.
    """
    names = OWN_FORMS if own else RESTRICTED_FORMS if restricted else FREE_FORMS
    rng = rng or np.random.default_rng(0)
    return rank(
        fit_helpfulness(
            strengths, values, form=form, n_choices=n_choices, window=window,
            rng=rng, resamples=resamples, confidence=confidence,
        )
        for form in names
    )  # fmt: skip


def rank(fits: Iterable[FitResult]) -> tuple[FitResult, ...]:
    """Fits of the same points, lowest AICc first and the invalid ones last; as they come where they fit alike."""
    as_given = list(fits)
    by_aicc = sorted((fit for fit in as_given if fit.valid), key=lambda fit: fit.aicc)
    ranked: list[FitResult] = []
    while by_aicc:
        alike = {id(fit) for fit in by_aicc if fit.aicc - by_aicc[0].aicc < ALIKE}  # two ways to write one curve
        ranked += [fit for fit in as_given if id(fit) in alike]
        by_aicc = by_aicc[len(alike) :]
    return (*ranked, *(fit for fit in as_given if not fit.valid))


@dataclass(frozen=True, slots=True)
class _Resampling:
    """How intervals are drawn."""

    rng: np.random.Generator
    resamples: int
    confidence: float


def refused(fit: FitResult, reason: str) -> FitResult:
    """The same fit without numbers, since what was measured means nothing for the `reason`."""
    nan = float("nan")
    params = {name: Estimate(nan, nan, nan, fit.confidence, se=nan) for name in fit.params}
    none = np.empty((0, len(params)))
    return replace(fit, params=params, r2=nan, aicc=nan, valid=False, reason=reason, draws=none)


def _points(
    strengths: npt.ArrayLike, values: npt.ArrayLike, window: Window | None, lowest: float
) -> tuple[Floats, Floats]:
    """Strengths in order (n,) and values (n, n_items) inside the window."""
    s, items = np.asarray(strengths, np.float64), np.asarray(values, np.float64)
    items = items[:, None] if items.ndim == 1 else items
    if s.ndim != 1 or items.ndim != 2 or len(items) != len(s) or not items.shape[1]:
        raise ShapeError(f"expected strengths (n_s,) and values (n_s[, n_items]), got {s.shape} and {items.shape}")
    if not np.isfinite(s).all() or len(np.unique(s)) < len(s):
        raise StrengthError(f"strengths must be finite and each given once, got {s.tolist()}")
    if window is not None and not window[0] < window[1]:
        raise StrengthError(f"window {window[0]:g}:{window[1]:g} is empty; give the lower end first")
    order = np.argsort(s)
    if window is not None:
        order = order[(s[order] >= window[0] - EDGE) & (s[order] <= window[1] + EDGE)]
    s, items = s[order], items[order]
    if not np.isfinite(items).all():
        raise DegenerateError(f"a value at strength {s[~np.isfinite(items).all(axis=1)][0]:g} is not a number")
    outside = (items < lowest - ROUNDING) | (items > 1.0 + ROUNDING)
    if outside.any():
        at = s[outside.any(axis=1)][0]
        raise InputError(f"value {items[outside][0]:g} at strength {at:g} is outside {lowest:g} to 1")
    return s, items


def _fit(form: Form, s: Floats, items: Floats, resampling: _Resampling) -> FitResult:
    """Fit the mean of items (n_s, n_items) at strengths s, ascending."""
    y = items.mean(axis=1)
    kind: Kind = "items" if items.shape[1] >= FEWEST_ITEMS else "residuals"
    if reason := before_fit(form, s, y, error=_error(items)):
        return _invalid(form, reason, kind, len(s), resampling)
    u, covariance = fit_one(form, s, y)
    if reason := after_fit(form, s, y, u):
        return _invalid(form, reason, kind, len(s), resampling)
    if kind == "items":
        params, draws = _from_items(form, s, items, u, resampling)
    else:
        params, draws = _from_residuals(form, u, covariance, len(s), resampling)
    if reason := of_intervals(form, s, {name: (estimate.low, estimate.high) for name, estimate in params.items()}):
        return _invalid(form, reason, kind, len(s), resampling)
    cost = float(((y - form.value(u[None], s)[0]) ** 2).sum())
    r2 = 1.0 - cost / float(((y - y.mean()) ** 2).sum())
    score = aicc(cost, len(s), len(u))
    return FitResult(form.name, params, r2, score, True, "", kind, len(s), resampling.confidence, form, draws)


def _invalid(form: Form, reason: str, kind: Kind, n_points: int, resampling: _Resampling) -> FitResult:
    nan = float("nan")
    params = {name: Estimate(nan, nan, nan, resampling.confidence, se=nan) for name in form.parameters}
    none = np.empty((0, len(params)))
    return FitResult(form.name, params, nan, nan, False, reason, kind, n_points, resampling.confidence, form, none)


def _from_items(
    form: Form, s: Floats, items: Floats, u: Floats, resampling: _Resampling
) -> tuple[dict[str, Estimate], Floats]:
    """Estimates and (resamples, n_parameters) inner coordinates: fits of the means of resampled items."""

    def refit(curves: Floats) -> Floats:
        return least_squares(form, s, curves, np.tile(u, (len(curves), 1)))[0]

    drawn = resample(items, refit, rng=resampling.rng, resamples=resampling.resamples, confidence=resampling.confidence)
    draws = drawn.draws.T
    se = natural(form, draws).std(axis=0, ddof=1)
    return _estimates(form, u, se, (drawn.low, drawn.high), resampling.confidence), draws


def _from_residuals(
    form: Form, u: Floats, covariance: Floats, n_points: int, resampling: _Resampling
) -> tuple[dict[str, Estimate], Floats]:
    """Estimates and (resamples, n_parameters) inner coordinates: Student's t by the residuals' covariance."""
    infinite = np.full(len(u), np.inf)
    if not np.isfinite(covariance).all():
        return _estimates(form, u, infinite, (-infinite, infinite), resampling.confidence), np.empty((0, len(u)))
    freedom, deviation = n_points - len(u), np.sqrt(np.diag(covariance))
    reach = stats.t.isf((1.0 - resampling.confidence) / 2, freedom) * deviation
    spread = stats.multivariate_t(u, covariance, df=freedom, allow_singular=True, seed=resampling.rng)
    se = deviation * np.where(form.positive, natural(form, u), 1.0)  # d exp(u) = exp(u) du
    estimates = _estimates(form, u, se, (u - reach, u + reach), resampling.confidence)
    return estimates, np.asarray(spread.rvs(resampling.resamples), np.float64)


def _estimates(
    form: Form, u: Floats, se: Floats, bounds: tuple[Floats, Floats], confidence: float
) -> dict[str, Estimate]:
    """Estimates from inner coordinates and their bounds, and natural standard errors, each (n_parameters,)."""
    values, low, high = (natural(form, coordinates).tolist() for coordinates in (u, *bounds))
    return {
        name: Estimate(values[i], low[i], high[i], confidence, se=float(se[i]))
        for i, name in enumerate(form.parameters)
    }


def aicc(cost: float, n_points: int, n_parameters: int) -> float:
    """Akaike's criterion with the correction for few points, less is better.

    n ln(SSE/n) + 2k + 2k(k+1)/(n-k-1) with k = parameters + 1: the residuals' variance counts as one (Burnham and
    Anderson 2002). Comparable between forms fitted to the same points only.
    """
    k = n_parameters + 1
    # an exact fit leaves rounding errors, whose size says nothing
    mean_square = max(cost / n_points, EXACT**2)
    return float(n_points * math.log(mean_square) + 2 * k + 2 * k * (k + 1) / (n_points - k - 1))


def fewest_points(form: Form) -> int:
    """The fewest points for which AICc is defined."""
    return len(form.parameters) + 3


def before_fit(form: Form, s: Floats, y: Floats, *, error: float = 0.0) -> str:
    """What the points (s, y) alone rule out, of which each has this standard error; 0 where it is not known."""
    if len(s) < fewest_points(form):
        return f"too few points: {len(s)} strength{'s' if len(s) > 1 else ''}, this form needs {fewest_points(form)}"
    if np.ptp(y) <= FLAT:
        return f"flat: every point is {significant(float(y[0]))}"
    if isinstance(form, Tanh):
        return _turns_back(s, y)
    if _is_hollow(s, y, error):
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
    back, height = min(falls, rises), float(np.ptp(y))
    noise = _noise(y)
    if back <= 0.5 * height and back <= max(0.25 * height, 4.5 * noise):
        return ""
    bend = y - np.polynomial.Polynomial.fit(s, y, 2)(s)
    if height <= 6.0 * noise and float(bend @ bend) > 0.5 * float(((y - y.mean()) ** 2).sum()):
        return f"flat: the points scatter within {height:.2g}, without a trend"
    return f"not monotone: B rises by {rises:.2f} and falls by {falls:.2f}; choose a window in which it does one"


def _error(items: Floats) -> float:
    """Standard error of the means of items (n_s, n_items), apart from what moves all strengths alike."""
    n_s, n_items = items.shape
    if not n_s or n_items < 2:
        return 0.0
    return float(np.sqrt((items - items.mean(axis=0)).var(axis=1, ddof=1).mean() / n_items))


def _noise(y: Floats) -> float:
    """Standard deviation of the points' noise by their second differences, of which a smooth curve has almost none."""
    return math.sqrt(float((np.diff(y, 2) ** 2).mean()) / 6.0)


def _is_hollow(s: Floats, y: Floats, error: float) -> bool:
    """Whether P falls and rises again: both ends in its upper half, as no curve with one peak has them.

    Noise has them at times, so a parabola must describe the points, too, better than a constant (F test, 99%; of few
    points, which have to lie on it, 95%), and the hollow be deeper than what noise of that size reaches.
    """
    half = y.min() + 0.5 * np.ptp(y)
    parabola = np.polynomial.Polynomial.fit(s, y, 2)
    level = 0.99 if len(s) > 6 else 0.95
    is_deep = np.ptp(y) > 5.0 * max(_noise(y), error)
    return bool(min(y[0], y[-1]) > half and parabola.deriv(2)(0) > 0 and is_deep and _beats_constant(s, y, 2, level))


def _beats_constant(s: Floats, y: Floats, degree: int, level: float = 0.95) -> bool:
    """Whether a polynomial describes points (s, y) better than their mean does, by the F test."""
    n_left = len(s) - degree - 1
    cost = float(((y - np.polynomial.Polynomial.fit(s, y, degree)(s)) ** 2).sum())
    gained = float(((y - y.mean()) ** 2).sum()) - cost
    return gained * n_left > float(stats.f.ppf(level, degree, n_left)) * degree * cost


def after_fit(form: Form, s: Floats, y: Floats, u: Floats) -> str:
    """What the best fit u (n_parameters,) rules out."""
    n, k = len(s), len(form.parameters)
    cost = float(((y - form.value(u[None], s)[0]) ** 2).sum())
    constant = float(((y - y.mean()) ** 2).sum())
    if aicc(constant, n, 1) <= aicc(cost, n, k):
        return _no_better(form, s, y, cost, constant)
    if reason := _too_narrow(form, s, u):
        return reason
    squeezed = float(((y - form.value(form.steeper(u[None]), s)[0]) ** 2).sum())
    # the 95% region of one parameter, from the F distribution
    if squeezed <= cost * (1.0 + stats.f.ppf(0.95, 1, n - k) / (n - k)):
        return f"too steep for these strengths: twice as steep fits as well; {MEASURE}"
    if "centre" in form.parameters and not s.min() < u[2] < s.max():
        return f"the peak, at {u[2]:.3g}, lies outside the strengths {s.min():.3g} to {s.max():.3g}"
    return ""


def _no_better(form: Form, s: Floats, y: Floats, cost: float, constant: float) -> str:
    """Why a form is no better than a constant, from the squared residuals that each leaves."""
    n, k, height = len(s), len(form.parameters), float(np.ptp(y))
    if not isinstance(form, Tanh) and _beats_constant(s, y, 1):
        trend = "rises" if y[-1] > y[0] else "falls"
        return f"no fall on both sides of a peak: P {trend} from {y[0]:.3g} to {y[-1]:.3g}"
    if not isinstance(form, Tanh) and height > 6.0 * _noise(y):
        return f"not one peak: the points rise and fall by {height:.2g} in another way; choose a window that holds one"
    gain = n * math.log(constant / max(cost, np.finfo(np.float64).tiny))
    if gain > 2 * (k - 1):  # by AIC, which lacks the correction
        return f"too few points to tell a curve from a constant ({n}; AICc): measure at more strengths"
    return f"flat: a constant describes the points as well (AICc), which scatter within {height:.2g}"


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


def fit_one(form: Form, s: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Fit one curve, from the best of the form's own starts.

    Args:
        form: what to fit.
        s: (n_s,) strengths.
        y: (n_s,) heights.

    Returns:
        (n_parameters,) inner coordinates and their (n_parameters, n_parameters) covariance, by the residuals' size;
        infinite where the points do not determine a parameter.
    """
    starts = form.starts(s, y)
    fitted, cost = least_squares(form, s, np.tile(y, (len(starts), 1)), starts)
    parameters = lmfit.Parameters()
    for name, start in zip(form.parameters, fitted[np.argmin(cost)], strict=True):
        parameters.add(name, value=start)

    def u_of(p: lmfit.Parameters) -> Floats:
        return np.array([[p[name].value for name in form.parameters]], np.float64)

    result = lmfit.minimize(
        lambda p: y - form.value(u_of(p), s)[0], parameters, method="leastsq",
        Dfun=lambda p: -form.jacobian(u_of(p), s)[0],
    )  # fmt: skip
    u = u_of(result.params)[0]
    covariance = getattr(result, "covar", None)
    return u, np.full((len(u), len(u)), np.inf) if covariance is None else np.asarray(covariance, np.float64)


def least_squares(form: Form, s: Floats, curves: Floats, start: Floats) -> tuple[Floats, Floats]:
    """Fit one form to many curves.

    Args:
        form: what to fit.
        s: (n_s,) strengths.
        curves: (m, n_s).
        start: (m, n_parameters) inner coordinates to begin at.

    Returns:
        (m, n_parameters) inner coordinates, (m,) sums of squared residuals. No fit is worse than its start; one
        whose best parameters are infinite ends on the way there.
    """
    u = np.array(start, np.float64)
    residual = curves - form.value(u, s)
    cost = (residual**2).sum(axis=1)
    damping = np.full(len(u), 1e-3)
    running = np.arange(len(u))
    for _ in range(ROUNDS):
        # a step for each curve that still moves, kept where it lowers the cost
        here = u[running]
        step = _step(form.jacobian(here, s), residual[running], damping[running])
        next_residual = curves[running] - form.value(here + step, s)
        next_cost = (next_residual**2).sum(axis=1)
        better = next_cost <= cost[running]
        improved = running[better]
        u[improved] += step[better]
        residual[improved], cost[improved] = next_residual[better], next_cost[better]
        # bolder after success, more careful after failure
        damping[running] = np.clip(damping[running] * np.where(better, 0.1, 10.0), 1e-12, 1e12)
        running = running[(np.abs(step) > CLOSE * (1.0 + np.abs(here))).any(axis=1)]
        if not len(running):
            break
    return u, cost


def _step(jacobian: Floats, residual: Floats, damping: Floats) -> Floats:
    """(m, n_parameters) damped Gauss-Newton steps."""
    normal = np.einsum("mni,mnj->mij", jacobian, jacobian)
    pull = np.einsum("mni,mn->mi", jacobian, residual)
    diagonal = np.einsum("mii->mi", normal)  # a view
    diagonal += damping[:, None] * diagonal + 1e-14  # where nothing depends on a parameter, it stays
    return np.clip(np.linalg.solve(normal, pull[..., None])[..., 0], -LONGEST, LONGEST)
