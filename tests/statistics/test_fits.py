"""Fits against the paper's own curves, against planted truth, and against points that mean nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from planted_items import GRID, alike, unlike_alignment, unlike_helpfulness

from steercpp.aliases import Floats
from steercpp.errors import DegenerateError, InputError, ShapeError, StrengthError
from steercpp.statistics.curve_files import Curve, read_curve
from steercpp.statistics.fits import FitResult, aicc, fit_alignment, fit_helpfulness, fit_helpfulness_forms, rank
from steercpp.statistics.forms import FREE_FORMS, OWN_FORMS, RESTRICTED_FORMS, Fall, Kept, helpfulness_form

ROUNDED = 5e-4  # the figures to meet are given to three decimals


def authors_curve(folder: Path, name: str) -> Curve:
    path = folder / "curves" / f"{name}.csv"
    if not path.exists():
        pytest.skip(f"the authors' curve {path} is not there")
    return read_curve(path)


def values(fit: FitResult) -> list[float]:
    return [estimate.value for estimate in fit.params.values()]


def fall(a: float, b: float, s: Floats = GRID) -> Floats:
    return np.asarray(1 / (1 + a * (1 + (b * s) ** 2 / 2)))


def test_the_authors_alignment_curve(test_data: Path) -> None:
    """Paper 2.3, harmful behavior of the base model in the authors' window."""
    curve = authors_curve(test_data, "behavior_harmful_llama2-13b_harmfulness")
    fit = fit_alignment(curve.strengths, curve.measures["alignment"], window=(-3, 5))
    assert fit.valid and fit.intervals == "residuals" and fit.n_points == 41
    assert values(fit) == pytest.approx([0.504, -0.562], abs=ROUNDED)
    assert fit.params["delta_lambda"].se == pytest.approx(0.030, abs=ROUNDED)
    assert fit.r2 == pytest.approx(0.974, abs=ROUNDED)


def test_the_authors_whole_curve_turns_back(test_data: Path) -> None:
    """Outside the window that the paper plots, broken text counts as refusal: a tanh through it means nothing."""
    curve = authors_curve(test_data, "behavior_harmful_llama2-13b_harmfulness")
    fit = fit_alignment(curve.strengths, curve.measures["alignment"])
    assert not fit.valid and fit.reason.startswith("not monotone: B rises by 1.86 and falls by 1.66")


@pytest.mark.parametrize(
    ("digits", "quadratic", "r2"), [(15, [2.057, 0.704], 0.845), (2, [2.058, 0.705], 0.842)], ids=["raw", "rounded"]
)
def test_the_authors_helpfulness_curve(test_data: Path, digits: int, quadratic: list[float], r2: float) -> None:
    """Paper 2.4, international law; rounding to two decimals is the authors' recipe."""
    curve = authors_curve(test_data, "international_law_llama2-13b_harmfulness")
    p = curve.measures["p_correct"].round(digits)
    fits = fit_helpfulness_forms(curve.strengths, p, window=(-5, 5))
    assert [fit.form for fit in fits] == ["gaussian-free-centre", "gaussian", "quadratic"]
    assert [fit.aicc for fit in fits] == sorted(fit.aicc for fit in fits)
    assert values(fits[2]) == pytest.approx(quadratic, abs=ROUNDED)
    assert fits[2].r2 == pytest.approx(r2, abs=ROUNDED)
    if digits > 2:
        assert [fit.r2 for fit in fits[:2]] == pytest.approx([0.953, 0.930], abs=ROUNDED)
        assert fits[0].params["centre"].value == pytest.approx(-0.27, abs=5e-3)  # given to two decimals


def test_the_authors_restricted_curve(test_data: Path) -> None:
    curve = authors_curve(test_data, "international_law_llama2-13b_harmfulness")
    p = curve.measures["p_correct_restricted"]
    fits = fit_helpfulness_forms(curve.strengths, p, restricted=True, window=(-5, 5))
    assert all(fit.valid for fit in fits) and {fit.form for fit in fits} == set(RESTRICTED_FORMS)
    by_name = {fit.form: fit for fit in fits}
    # 0.25 + 0.75/(1+a g) and 0.25 + 0.5/(1+a g) are one family of curves where g is quadratic: the same best curve
    assert by_name["restricted"].r2 == pytest.approx(by_name["wolf2024-restricted"].r2, abs=1e-9)


@pytest.mark.parametrize(("slope", "offset"), [(0.5, -0.3), (-1.3, 3.4), (3.1, -8.4), (1e-3, 0.2)])
def test_a_planted_tanh_is_recovered_exactly(slope: float, offset: float) -> None:
    s = np.linspace(-4, 5, 19)
    fit = fit_alignment(s[::-1], np.tanh(slope * s + offset)[::-1])
    assert fit.valid
    assert values(fit) == pytest.approx([slope, offset], rel=1e-6)  # MINPACK's 1.5e-8 of the curve, where it is flat
    assert fit.r2 == pytest.approx(1.0)
    np.testing.assert_allclose(fit.predict(s), np.tanh(slope * s + offset), atol=1e-8)


def test_of_own_answers_b_is_the_curvature_at_0() -> None:
    """They begin at 1: the free forms would put a at 0 and b at infinity, with narrow intervals around both."""
    rates = np.random.default_rng(5).lognormal(np.log(0.3), 0.2, 60)
    best, _ = fit_helpfulness_forms(GRID, np.exp(-(rates**2) * GRID[:, None] ** 2 / 2), own=True)
    b = best.params["b"]
    assert b.low < np.sqrt((rates**2).mean()) < b.high < 1.2 * b.low
    for form, u in ((best.shape, np.log([[b.value]])), (helpfulness_form("quadratic"), np.log([[1.5, 0.8]]))):
        assert isinstance(form, Fall | Kept)
        bend = np.diff(form.value(u, np.array([-1e-3, 0.0, 1e-3])), 2)[0, 0] / 1e-6
        assert form.curvature(u)[0] == pytest.approx(-bend, rel=1e-4)


@pytest.mark.parametrize("name", [*FREE_FORMS, *RESTRICTED_FORMS, *OWN_FORMS])
def test_a_planted_fall_is_recovered_exactly_and_its_form_ranks_first(name: str) -> None:
    form = helpfulness_form(name, n_choices=5)
    truth = np.array([[{"a": 1.4, "b": 0.8, "centre": 0.9}[name] for name in form.parameters]])
    y = form.value(np.where(form.positive, np.log(truth), truth), GRID)[0]
    fit = fit_helpfulness(GRID, y, form=name, n_choices=5)
    assert fit.valid and values(fit) == pytest.approx(truth[0].tolist(), rel=1e-6)
    # y is exact, so its own form leaves rounding errors only; an equivalent family may tie
    best = fit_helpfulness_forms(GRID, y, restricted=name in RESTRICTED_FORMS, own=name in OWN_FORMS, n_choices=5)[0]
    assert best.r2 == pytest.approx(1.0, abs=1e-12)


def test_rank_puts_invalid_fits_last() -> None:
    fits = [fit_helpfulness(GRID, y) for y in (np.full(17, 0.4), fall(1, 0.5) + 0.01 * np.cos(9 * GRID), fall(1, 0.5))]
    assert [each.valid for each in fits] == [False, True, True]
    assert rank(fits) == (fits[2], fits[1], fits[0])


def test_aicc_by_hand() -> None:
    """10 ln(2/10) + 2*3 + 2*3*4/(10-3-1): two parameters and the residuals' variance."""
    assert aicc(2.0, 10, 2) == pytest.approx(-16.0943791 + 6 + 4)
    fit = fit_helpfulness(GRID, fall(1, 0.5) + 0.01 * np.cos(9 * GRID))
    cost = ((fit.predict(GRID) - fall(1, 0.5) - 0.01 * np.cos(9 * GRID)) ** 2).sum()
    assert fit.aicc == pytest.approx(aicc(float(cost), 17, 2))


def test_conventions_of_the_paper() -> None:
    """Delta*lambda is half the slope of ln(P+/P-); b0 is arctanh B(0); P(0) = 1/(1+a)."""
    log_odds = 1.2 * GRID - 0.8
    p = 1 / (1 + np.exp(-log_odds))
    fit = fit_alignment(GRID, 2 * p - 1)
    assert values(fit) == pytest.approx([0.6, -0.4], rel=1e-6)
    assert np.tanh(fit.params["b0"].value) == pytest.approx(2 * p[8] - 1)
    help_fit = fit_helpfulness(GRID, fall(1.5, 0.6))
    assert help_fit.predict([0.0])[0] == pytest.approx(1 / 2.5)


def test_items_give_intervals_that_hold_the_truth_of_alike_items() -> None:
    rng = np.random.default_rng(1)
    b = fit_alignment(GRID, np.clip(alike(0.9 * np.tanh(0.5 * GRID - 0.3), 80, 0.03, rng), -1, 1))
    p = fit_helpfulness(GRID, np.clip(alike(fall(1.2, 0.6), 80, 0.05, rng), 0, 1))
    assert b.intervals == p.intervals == "items"
    for name, truth in (("a", 1.2), ("b", 0.6)):
        estimate = p.params[name]
        assert estimate.low < truth < estimate.high  # seeded; the coverage study in test_intervals says how often
        assert estimate.se == pytest.approx((estimate.high - estimate.low) / 3.92, rel=0.15)  # near normal at 80 items
    assert b.params["delta_lambda"].low > 0


def test_curves_without_items_say_so() -> None:
    y = np.tanh(0.5 * GRID) + 0.02 * np.random.default_rng(2).standard_normal(17)
    assert fit_alignment(GRID, y.clip(-1, 1)).intervals == "residuals"
    assert fit_alignment(GRID, y.clip(-1, 1)[:, None] * np.ones(4)).intervals == "residuals"  # 4 items bound nothing
    assert fit_alignment(GRID, y.clip(-1, 1)[:, None] * np.ones(5)).intervals == "items"


def test_residual_intervals_cover_when_residuals_are_noise() -> None:
    """400 studies: 95% within three binomial standard errors of 1.1%."""
    rng = np.random.default_rng(3)
    hits = np.zeros(2)
    for _ in range(400):
        fit = fit_helpfulness(GRID, fall(1.0, 0.6) + 0.02 * rng.standard_normal(17), resamples=2)
        hits += [p.low <= truth <= p.high for p, truth in zip(fit.params.values(), (1.0, 0.6), strict=True)]
    assert ((hits / 400 > 0.917) & (hits / 400 < 0.983)).all(), hits / 400


def test_the_same_input_gives_the_same_intervals() -> None:
    items = unlike_alignment(30, np.random.default_rng(4))
    assert fit_alignment(GRID, items) == fit_alignment(GRID, items)
    assert fit_alignment(GRID, items) != fit_alignment(GRID, items, rng=np.random.default_rng(9))


@pytest.mark.parametrize("with_items", [True, False])
def test_the_band_holds_the_curve_and_narrows_with_the_data(with_items: bool) -> None:
    rng = np.random.default_rng(5)
    widths = []
    for n in (40, 640):
        items = unlike_helpfulness(n, rng)
        noise = 0.5 / np.sqrt(n) * rng.standard_normal(17)
        fit = fit_helpfulness(GRID, items if with_items else np.clip(fall(1, 0.5) + noise / 5, 0, 1))
        low, high = fit.band(GRID)
        assert ((low < fit.predict(GRID)) & (fit.predict(GRID) < high)).all()
        widths.append((high - low).mean())
    assert widths[1] == pytest.approx(widths[0] / 4, rel=0.6)  # 1/sqrt(16), each from one random sample


def test_window_ends_are_included_in_spite_of_rounding() -> None:
    s = np.arange(-10, 11) * 0.1  # 0.1 * 3 is 0.30000000000000004
    fit = fit_alignment(s, np.tanh(s), window=(-0.3, 0.3))
    assert fit.n_points == 7


A_FLAT, B_FLAT = np.full(17, 0.3), np.random.default_rng(6).normal(0.3, 0.02, 17)


@pytest.mark.parametrize(
    ("s", "y", "reason"),
    [
        (GRID, A_FLAT, "flat: every point is 0.3"),
        (GRID, B_FLAT, "flat"),
        (GRID, GRID**2 / 8 - 1, "not monotone: B rises by 2.00 and falls by 2.00"),
        (GRID, 1 - GRID**2 / 8, "not monotone"),
        (GRID, np.sin(GRID), "not monotone"),
        (GRID, np.sign(GRID - 0.1), "too steep or too far"),
        (GRID, np.tanh(9 * (GRID - 0.25)), "too steep or too far"),
        (GRID, 0.8 * np.sign(GRID - 0.25) + 0.02 * np.cos(9 * GRID), "too steep for these strengths: twice as steep"),
        (GRID, np.tanh(0.3 * GRID + 4), "too steep or too far"),
        (GRID[:4], np.tanh(GRID[:4]), "too few points: 4 strengths, this form needs 5"),
        (GRID[:0], GRID[:0], "too few points: 0"),
    ],
)
def test_alignment_that_means_nothing_is_not_a_number(s: Floats, y: Floats, reason: str) -> None:
    refused(fit_alignment(s, y), reason)


@pytest.mark.parametrize(
    ("form", "y", "reason"),
    [
        ("quadratic", A_FLAT, "flat"),
        ("quadratic", 0 * A_FLAT, "flat: every point is 0"),
        ("gaussian", B_FLAT, "flat: a constant describes the points as well"),
        ("quadratic", 0.3 + GRID**2 / 40, "U-shaped: P is lowest, 0.3, at 0 and higher on both sides"),
        ("quadratic", 0.5 - 0.05 * GRID, "no fall on both sides of a peak: P falls from 0.7 to 0.3"),
        ("quadratic", 0.5 + 0.05 * GRID, "no fall on both sides of a peak: P rises from 0.3 to 0.7"),
        ("gaussian-free-centre", 0.5 - 0.05 * GRID, "the peak, at "),
        ("quadratic", np.where(GRID == 0, 0.5, 0.0), "too narrow: P is above a twentieth of its peak at only 1"),
        ("restricted", 0.2 - GRID**2 / 200, "never above chance (0.25)"),
        ("wolf2024-restricted", 0.25 + 0.75 * fall(0.2, 0.7), "this form cannot exceed 0.75, the points reach 0.875"),
        ("quadratic", 1 / (1 + 1e-7 * np.exp(GRID**2)), "a is not determined"),
    ],
)
def test_helpfulness_that_means_nothing_is_not_a_number(form: str, y: Floats, reason: str) -> None:
    refused(fit_helpfulness(GRID, y, form=form), reason)


@pytest.mark.parametrize("form", ["restricted", "quadratic"])
def test_few_points_are_not_called_flat_or_without_a_peak(form: str) -> None:
    """They fall on both sides of one, by 0.06: with so few points AICc asks for a closer fit than that."""
    refused(fit_helpfulness([-1, -0.5, 0, 0.25, 1], [0.638, 0.685, 0.696, 0.692, 0.627], form=form),
            "too few points to tell a curve from a constant (5; AICc)")  # fmt: skip


@pytest.mark.parametrize("form", FREE_FORMS[:2])
def test_a_hollow_of_five_points_is_u_shaped(form: str) -> None:
    refused(fit_helpfulness([-2, -1, 0, 1, 2], [0.9, 0.5, 0.3, 0.5, 0.9], form=form), "U-shaped")
    refused(fit_helpfulness([-2, -1, 0, 1, 2], [0.9, 0.5, 0.3, 0.5, 0.4], form=form), "flat")  # one side only


def test_noise_is_rarely_called_u_shaped() -> None:
    """Its ends must be high, too, so that fewer are than the F test's 5 in 100; a peak is none however noisy."""
    rng = np.random.default_rng(9)
    flat, peak = (
        [
            fit_helpfulness(GRID, y + 0.02 * rng.standard_normal(17), form="gaussian", resamples=2).reason
            for _ in range(200)
        ]
        for y in (np.full(17, 0.3), fall(1, 0.7))
    )
    assert sum("U-shaped" in reason for reason in flat) <= 10 and not any("U-shaped" in reason for reason in peak)


def refused(fit: FitResult, reason: str) -> None:
    assert not fit.valid and fit.reason.startswith(reason), fit.reason
    figures = [fit.r2, fit.aicc, *(x for p in fit.params.values() for x in (p.value, p.se, p.low, p.high))]
    assert np.isnan(figures).all() and len(fit.params) >= 2
    assert np.isnan(fit.predict(GRID)).all() and np.isnan(fit.band(GRID)).all()
    assert fit.record()["valid"] is False


def test_a_slope_that_items_do_not_settle_is_flat() -> None:
    """The mean rises steadily, by little, while half of the items fall: other items could have made it fall."""
    rng = np.random.default_rng(7)
    slopes = np.abs(rng.normal(0, 0.6, 20))
    items = np.tanh(np.append(slopes, -0.9 * slopes) * GRID[:, None])
    refused(fit_alignment(GRID, items), "flat: the interval of the slope")


def test_noise_does_not_make_a_good_curve_invalid() -> None:
    """A quarter of its range as noise: a window over noise is not a curve that turns back (nor 1 in 100 that does)."""
    rng = np.random.default_rng(8)
    fits = [fit_alignment(GRID, np.clip(0.6 * np.tanh(0.5 * GRID) + 0.15 * rng.standard_normal(17), -1, 1), resamples=2)
            for _ in range(200)]  # fmt: skip
    assert np.mean([fit.valid for fit in fits]) >= 0.99


@pytest.mark.parametrize(
    ("s", "y", "error", "words"),
    [
        ([0, 1], [0.1], ShapeError, "expected strengths"),
        ([[0, 1]], [[0.1, 0.2]], ShapeError, "expected strengths"),
        ([0, 0, 1], [0.1, 0.1, 0.1], StrengthError, "each given once"),
        ([0, np.nan], [0.1, 0.1], StrengthError, "finite"),
        ([0, 1], [0.1, np.nan], DegenerateError, "value at strength 1 is not a number"),
        ([0, 1], [0.1, -66], InputError, "value -66 at strength 1 is outside -1 to 1"),
    ],
)
def test_points_that_cannot_be_used(s: list[float], y: list[float], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        fit_alignment(s, y)


def test_options_that_do_not_exist() -> None:
    with pytest.raises(InputError, match="form 'cubic' is unknown; use one of quadratic, gaussian"):
        fit_helpfulness(GRID, fall(1, 1), form="cubic")
    with pytest.raises(InputError, match="1 choices"):
        fit_helpfulness(GRID, fall(1, 1), form="restricted", n_choices=1)
    with pytest.raises(StrengthError, match="window 2:-2 is empty"):
        fit_alignment(GRID, np.tanh(GRID), window=(2, -2))
    with pytest.raises(InputError, match="outside 0 to 1"):
        fit_helpfulness(GRID, fall(1, 1) - 0.5)


def test_noise_is_not_called_a_hollow() -> None:
    """White noise of 300 curves of 9 points; by the F test alone 2% were U-shaped."""
    s = np.linspace(-1, 1, 9)
    rng = np.random.default_rng(0)
    reasons = [fit_helpfulness(s, 0.5 + 0.02 * rng.standard_normal(9), resamples=20).reason for _ in range(300)]
    assert sum(reason.startswith("U-shaped") for reason in reasons) <= 3
    assert sum(reason.startswith("flat") for reason in reasons) > 200


def test_two_humps_are_not_flat() -> None:
    s = np.linspace(-2, 2, 17)
    humps = 0.3 + 0.4 * np.exp(-((s - 1) ** 2) / 0.3) + 0.4 * np.exp(-((s + 1) ** 2) / 0.3)
    assert fit_helpfulness(s, humps).reason.startswith("not one peak: the points rise and fall by 0.39")
