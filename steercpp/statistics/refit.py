"""Least squares: one curve with its covariance, by lmfit, or thousands at once; read this to see how a fit is made.

An interval by resampling refits one form a thousand times, each fit having two or three parameters. One call of a
general optimizer for each would take longer than the sweep, so here all of them step at the same time. The method is
Levenberg-Marquardt with Marquardt's scaling (Moré 1978), that of MINPACK, which lmfit uses for the main fit; the
tests hold both to the same answers.
"""

from __future__ import annotations

import lmfit
import numpy as np

from steercpp.statistics.forms import Form
from steercpp.statistics.scores import Floats

ROUNDS = 100
CLOSE = 1e-9  # a step this small, beside the parameter or 1, ends a fit
LONGEST = 3.0  # of one step, in inner coordinates: a factor of 20 for a positive parameter


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
        here = u[running]
        step = _step(form.jacobian(here, s), residual[running], damping[running])
        next_residual = curves[running] - form.value(here + step, s)
        next_cost = (next_residual**2).sum(axis=1)
        better = next_cost <= cost[running]
        won = running[better]
        u[won], residual[won], cost[won] = (here + step)[better], next_residual[better], next_cost[better]
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
    tried, cost = least_squares(form, s, np.tile(y, (len(starts), 1)), starts)
    parameters = lmfit.Parameters()
    for name, start in zip(form.parameters, tried[np.argmin(cost)], strict=True):
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
