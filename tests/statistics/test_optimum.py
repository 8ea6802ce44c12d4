"""The best strength for a weight: measured against brute force, predicted against calculus."""

from __future__ import annotations

import json

import numpy as np
import pytest
from planted_items import alike
from scipy import optimize

from steercpp.aliases import Floats
from steercpp.errors import InputError
from steercpp.statistics.curves import Curves
from steercpp.statistics.fits import FitResult, fit_alignment, fit_helpfulness, fit_helpfulness_forms
from steercpp.statistics.optimum import Optimum, optimum
from steercpp.statistics.scores import BehaviorScores, ChoiceScores

S = np.linspace(-3.0, 3.0, 25)
SLOPE, B0, A, FALL = 0.08, -0.2, 0.6, 0.9
UTILITY = np.tanh(SLOPE * S + B0) + 1 / (1 + A * (1 + (FALL * S) ** 2 / 2))


def curves(b: Floats, p: Floats, *, n: int = 50, noise: float = 0.0, seed: int = 0) -> Curves:
    """Items alike, all mass on the listed answers, so that raw and normalized B agree."""
    rng = np.random.default_rng(seed)
    b, p = (np.clip(alike(curve, n, noise, rng), low, 1) for curve, low in ((b, -1), (p, 0)))
    behavior = BehaviorScores(S, (1 + b) / 2, (1 - b) / 2)
    return Curves.of(behavior, ChoiceScores(S, p, p, p > 0.5))


def planted(noise: float = 0.0, seed: int = 0) -> Curves:
    return curves(np.tanh(SLOPE * S + B0), 1 / (1 + A * (1 + (FALL * S) ** 2 / 2)), noise=noise, seed=seed)


def fits(of: Curves) -> tuple[FitResult, tuple[FitResult, ...]]:
    return fit_alignment(S, of.normalized), (fit_helpfulness(S, of.p),)


def best(of: Curves, *, weight: float = 1.0, direction: int = 1) -> Optimum:
    alignment, helpful = fits(of)
    return optimum(of, weight=weight, direction=direction, alignment=alignment, helpfulness=helpful)


def test_prediction_is_what_calculus_gives() -> None:
    found = best(planted()).predicted
    p_0 = 1 / (1 + A)
    r = (1 - np.tanh(B0) ** 2) * SLOPE / (p_0 * (1 - p_0) * FALL**2)
    assert found.second_order.value == pytest.approx(r, rel=1e-4)  # fits of exact points, see test_refit
    assert found.second_order_break_even == pytest.approx(2 * r, rel=1e-4)

    def loss(s: float) -> float:
        return float(-np.tanh(SLOPE * s + B0) - 1 / (1 + A * (1 + (FALL * s) ** 2 / 2)))

    exact = optimize.minimize_scalar(loss, bounds=(0, 3), method="bounded").x
    assert found.curves.value == pytest.approx(exact, abs=3 / 400)  # the fine grid's step
    assert abs(found.second_order.value - exact) < 0.15  # near 0 the formula is good, and not exact
    assert found.reason == "" and found.holds
    zero = optimize.brentq(lambda s: loss(s) - loss(0.0), exact + 0.01, 3)
    assert found.curves_break_even == pytest.approx(zero, abs=3 / 400)


def test_the_measured_maximum_is_that_of_the_grid() -> None:
    found = best(planted())
    ahead = UTILITY[S >= 0]
    assert found.measured.strength.value == S[S >= 0][ahead.argmax()]
    assert found.measured.gain.value == pytest.approx(ahead.max() - ahead[0])
    assert (
        abs(found.measured.strength.value - found.predicted.curves.value) <= 0.125 + 3 / 400
    )  # half a step of the grid
    worth = np.interp(found.measured.break_even, S, UTILITY) - ahead[0]
    assert worth == pytest.approx(0, abs=1e-9)


def test_a_heavier_weight_asks_for_less() -> None:
    strengths = [best(planted(), weight=w).measured.strength.value for w in (0.3, 1.0, 10.0)]
    assert strengths[0] > strengths[1] > strengths[2]
    predicted = [best(planted(), weight=w).predicted.second_order.value for w in (0.5, 1.0, 2.0)]
    assert predicted[0] == pytest.approx(2 * predicted[1], rel=1e-9)
    assert predicted[1] == pytest.approx(2 * predicted[2], rel=1e-9)


@pytest.mark.slow
def test_intervals_hold_the_truth() -> None:
    """150 noisy studies: the true best of the grid, and r*, in at least 90% (95%, less 3 errors of 1.8%)."""
    truth = S[S >= 0][UTILITY[S >= 0].argmax()]
    r = best(planted()).predicted.second_order.value
    hits = np.zeros(2)
    reach = 0.0
    for seed in range(150):
        found = best(planted(noise=0.15, seed=seed))
        where, second = found.measured.strength, found.predicted.second_order
        hits += [where.low <= truth <= where.high, second.low <= r <= second.high]
        reach += (where.high - where.low) / 150
    assert (hits / 150 >= 0.90).all(), hits / 150
    assert reach < 2.5  # of 3: at least the far end is excluded


def test_the_other_direction() -> None:
    found = best(curves(np.tanh(-SLOPE * S + B0), 1 / (1 + A * (1 + (FALL * S) ** 2 / 2))), direction=-1)
    mirrored = best(planted())
    assert found.measured.strength.value == -mirrored.measured.strength.value
    assert found.predicted.second_order.value == pytest.approx(-mirrored.predicted.second_order.value, rel=1e-6)
    assert found.predicted.curves.value == pytest.approx(-mirrored.predicted.curves.value)
    wrong = best(planted(), direction=-1)
    assert wrong.measured.strength.value == 0.0 and wrong.measured.break_even == 0.0
    assert "for the other sign" in wrong.predicted.reason and wrong.predicted.curves.value == 0.0


def test_curves_that_mean_nothing_predict_nothing_and_say_why() -> None:
    u_shaped = curves(S**2 / 4.5 - 1, 1 / (1 + A * (1 + (FALL * S) ** 2 / 2)))
    found = best(u_shaped)
    assert "no valid fit of B: not monotone" in found.predicted.reason
    assert np.isnan([found.predicted.second_order.value, found.predicted.curves.value]).all()
    assert found.measured.strength.value > 0  # it is measured all the same
    flat = curves(np.tanh(SLOPE * S + B0), np.full(25, 0.4))
    assert "no valid fit of P(correct): flat" in best(flat).predicted.reason
    assert "without a weight" in best(planted(), weight=0.0).predicted.reason
    bare = optimum(planted(), weight=1.0)
    assert "it was not fitted" in bare.predicted.reason


def test_a_formula_outside_its_reach_says_so() -> None:
    """B is at its end at 1, P hardly falls: to second order one would steer on for ever."""
    found = best(curves(np.tanh(3 * S), 1 / (1 + A * (1 + (0.1 * S) ** 2 / 2)))).predicted
    assert found.second_order.value > 100 and not found.holds and found.curves.value < 2


def test_a_peak_beside_0_has_a_maximum_on_its_curve_and_no_formula() -> None:
    of = curves(np.tanh(SLOPE * S + B0), 1 / (1 + 0.5 * np.exp((S - 1.0) ** 2 / 2)))
    ranked = tuple(fit for fit in fit_helpfulness_forms(S, of.p) if fit.form == "gaussian-free-centre")
    found = optimum(of, weight=1.0, alignment=fits(of)[0], helpfulness=ranked).predicted
    assert "no form that falls from strength 0" in found.reason and np.isnan(found.second_order.value)
    assert 1.0 < found.curves.value < 2.0  # beyond the peak, where B still rises


def test_a_form_that_describes_the_points_badly_gives_no_prediction() -> None:
    """P falls from 0.6 to a floor of 0.3, which no form that ends at 0 has: valid fits, and R² of 0.8."""
    p = 0.3 + 0.3 * np.exp(-((3 * S) ** 2))
    of = curves(np.tanh(SLOPE * S + B0), p)
    poor = fit_helpfulness(S, of.p, form="quadratic")
    assert poor.valid and poor.r2 < 0.9
    found = optimum(of, weight=1.0, alignment=fits(of)[0], helpfulness=(poor,)).predicted
    assert np.isnan(found.second_order.value) and "no form that falls from strength 0 describes" in found.reason


def test_nonsense_earns_nothing() -> None:
    """Beyond 2 the listed answers have lost their mass; normalized B of what is left is the highest there."""
    b, p = np.tanh(2 * S - 0.5)[:, None] + np.zeros(20), np.full((25, 20), 0.5)
    mass = np.where(S > 2, 0.01, 1.0)[:, None]
    behavior = BehaviorScores(S, mass * (1 + b) / 2, mass * (1 - b) / 2)
    found = optimum(Curves.of(behavior, ChoiceScores(S, p, p, p > 0.6)), weight=1.0)
    assert found.measured.strength.value == 2.0 and behavior.mean_normalized.argmax() == 24


def test_wrong_options() -> None:
    with pytest.raises(InputError, match="weight -1"):
        optimum(planted(), weight=-1.0)
    with pytest.raises(InputError, match="direction 2"):
        optimum(planted(), weight=1.0, direction=2)


def test_the_record_is_plain_data() -> None:
    assert json.loads(json.dumps(best(planted()).record()))["measured"]["strength"]["value"] > 0
