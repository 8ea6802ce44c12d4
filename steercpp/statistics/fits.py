"""Fits of the theory's curves to measured points; read this to turn a sweep into Delta*lambda or lambda*sigma*beta.

    fit = fit_alignment(strengths, scores.normalized)          # (n_s,) a curve, or (n_s, n_items)
    fit.valid, fit.reason, fit.params["delta_lambda"].value

`forms` has the curves and what their parameters mean. Values of single items give intervals by resampling items; a
curve has none, so its intervals come from its residuals, which says how well the form describes those points, not how
other items would come out: neighbouring points share their items, so they are narrower than the truth. `FitResult
.intervals` tells which. A fit that means nothing is not an exception but `valid=False` with the reason.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import stats

from steercpp.errors import DegenerateError, InputError, ShapeError, StrengthError
from steercpp.statistics.forms import FREE_FORMS, RESTRICTED_FORMS, TANH, Form, helpfulness_form, inner, natural
from steercpp.statistics.intervals import FEWEST_ITEMS, RESAMPLES, resample
from steercpp.statistics.refit import fit_one, least_squares
from steercpp.statistics.scores import ROUNDING, Floats
from steercpp.statistics.validity import after_fit, aicc, before_fit, of_intervals

Window: TypeAlias = tuple[float, float]
Kind: TypeAlias = Literal["items", "residuals"]
EDGE = 1e-9  # strengths this near a window's end lie inside: 0.1 * 3 is not 0.3


@dataclass(frozen=True, slots=True)
class Estimate:
    """One fitted parameter: value, standard error, and interval; all NaN where the fit is not valid."""

    value: float
    se: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class FitResult:
    """One form fitted to one measure.

    Attributes:
        form: its name; `shape.formula` writes it out.
        params: by name, see `forms`.
        r2: 1 - SSE/SST on the mean curve.
        aicc: see `validity.aicc`.
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
        params = {name: {"value": p.value, "se": p.se, "low": p.low, "high": p.high} for name, p in self.params.items()}
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
    confidence: float = 0.95,
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
    return _fit(TANH, s, items, _Sampling(rng or np.random.default_rng(0), resamples, confidence))


def fit_helpfulness(
    strengths: npt.ArrayLike,
    values: npt.ArrayLike,
    *,
    form: str = "quadratic",
    n_choices: int = 4,
    window: Window | None = None,
    rng: np.random.Generator | None = None,
    resamples: int = RESAMPLES,
    confidence: float = 0.95,
) -> FitResult:
    """Fit one form of P(correct), Theorem 2 and Corollary 1.

    Args:
        strengths: (n_s,), each once, in any order.
        values: (n_s,) or (n_s, n_items), P(correct) in [0, 1].
        form: see `forms.helpfulness_form`.
        n_choices: choices of each question; chance, for the restricted forms, is 1/n_choices.
        window: lowest and highest strength to use, both included; None: all.
        rng: draws the items; None: seeded with 0.
        resamples: samples of items to draw.
        confidence: of the intervals.

    Returns:
        params a, b (lambda*sigma*beta, per unit of strength, never negative) and, where it is free, centre.

    Raises:
        ShapeError, StrengthError, DegenerateError: as `fit_alignment`.
        InputError: an unknown form, or a value outside [0, 1].
    """
    s, items = _points(strengths, values, window, 0.0)
    sampling = _Sampling(rng or np.random.default_rng(0), resamples, confidence)
    return _fit(helpfulness_form(form, n_choices=n_choices), s, items, sampling)


def fit_helpfulness_forms(
    strengths: npt.ArrayLike,
    values: npt.ArrayLike,
    *,
    restricted: bool = False,
    n_choices: int = 4,
    window: Window | None = None,
    rng: np.random.Generator | None = None,
    resamples: int = RESAMPLES,
    confidence: float = 0.95,
) -> tuple[FitResult, ...]:
    """Fit every form that suits the measure, as `fit_helpfulness`, best first.

    With `restricted`, P is over the choices only and tends to chance; without, over the vocabulary, to 0.
    """
    rng = rng or np.random.default_rng(0)
    return rank(
        fit_helpfulness(
            strengths, values, form=form, n_choices=n_choices, window=window,
            rng=rng, resamples=resamples, confidence=confidence,
        )
        for form in (RESTRICTED_FORMS if restricted else FREE_FORMS)
    )  # fmt: skip


def rank(fits: Iterable[FitResult]) -> tuple[FitResult, ...]:
    """Fits of the same points, lowest AICc first and the invalid ones last."""
    return tuple(sorted(fits, key=lambda fit: (not fit.valid, fit.aicc if fit.valid else 0.0)))


@dataclass(frozen=True, slots=True)
class _Sampling:
    rng: np.random.Generator
    resamples: int
    confidence: float


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


def _fit(form: Form, s: Floats, items: Floats, sampling: _Sampling) -> FitResult:
    """Fit the mean of items (n_s, n_items) at strengths s, ascending."""
    y = items.mean(axis=1)
    kind: Kind = "items" if items.shape[1] >= FEWEST_ITEMS else "residuals"
    reason = before_fit(form, s, y)
    if reason:
        return _invalid(form, reason, kind, len(s), sampling)
    u, covariance = fit_one(form, s, y)
    reason = after_fit(form, s, y, u)
    if reason:
        return _invalid(form, reason, kind, len(s), sampling)
    if kind == "items":
        params, draws = _from_items(form, s, items, u, sampling)
    else:
        params, draws = _from_residuals(form, u, covariance, len(s), sampling)
    reason = of_intervals(form, s, {name: (each.low, each.high) for name, each in params.items()})
    if reason:
        return _invalid(form, reason, kind, len(s), sampling)
    cost = float(((y - form.value(u[None], s)[0]) ** 2).sum())
    r2 = 1.0 - cost / float(((y - y.mean()) ** 2).sum())
    score = aicc(cost, len(s), len(u))
    return FitResult(form.name, params, r2, score, True, "", kind, len(s), sampling.confidence, form, draws)


def _invalid(form: Form, reason: str, kind: Kind, n_points: int, sampling: _Sampling) -> FitResult:
    nan = float("nan")
    params = {name: Estimate(nan, nan, nan, nan) for name in form.parameters}
    none = np.empty((0, len(params)))
    return FitResult(form.name, params, nan, nan, False, reason, kind, n_points, sampling.confidence, form, none)


def _from_items(
    form: Form, s: Floats, items: Floats, u: Floats, sampling: _Sampling
) -> tuple[dict[str, Estimate], Floats]:
    """Estimates and (resamples, n_parameters) inner coordinates: fits of the means of resampled items."""

    def refit(curves: Floats) -> Floats:
        return least_squares(form, s, curves, np.tile(u, (len(curves), 1)))[0]

    found = resample(items, refit, rng=sampling.rng, resamples=sampling.resamples, confidence=sampling.confidence)
    draws = found.draws.T
    se = natural(form, draws).std(axis=0, ddof=1)
    return _estimates(form, u, se, found.low, found.high), draws


def _from_residuals(
    form: Form, u: Floats, covariance: Floats, n_points: int, sampling: _Sampling
) -> tuple[dict[str, Estimate], Floats]:
    """Estimates and (resamples, n_parameters) inner coordinates: Student's t by the residuals' covariance."""
    infinite = np.full(len(u), np.inf)
    if not np.isfinite(covariance).all():
        return _estimates(form, u, infinite, -infinite, infinite), np.empty((0, len(u)))
    freedom, deviation = n_points - len(u), np.sqrt(np.diag(covariance))
    reach = stats.t.isf((1.0 - sampling.confidence) / 2, freedom) * deviation
    spread = stats.multivariate_t(u, covariance, df=freedom, allow_singular=True, seed=sampling.rng)
    se = deviation * np.where(form.positive, natural(form, u), 1.0)  # d exp(u) = exp(u) du
    return _estimates(form, u, se, u - reach, u + reach), np.asarray(spread.rvs(sampling.resamples), np.float64)


def _estimates(form: Form, u: Floats, se: Floats, low: Floats, high: Floats) -> dict[str, Estimate]:
    """Estimates from inner coordinates and natural standard errors, each (n_parameters,)."""
    columns = np.column_stack([natural(form, u), se, natural(form, low), natural(form, high)])
    return {name: Estimate(*map(float, row)) for name, row in zip(form.parameters, columns, strict=True)}
