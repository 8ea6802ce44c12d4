"""A thousand studies whose truth is known: how often the intervals of a fit hold it, and how wide they are.

`pytest -s tests/statistics/test_coverage.py` runs them, prints the table and compares docs/statistics.md with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import joblib
import numpy as np
from planted_items import GRID, unlike_alignment, unlike_helpfulness
from scipy.special import expit

from steercpp.aliases import Floats
from steercpp.statistics.fits import FitResult, fit_alignment, fit_helpfulness, fit_one
from steercpp.statistics.forms import TANH, Form, helpfulness_form, inner, natural

Planter = Callable[[int, np.random.Generator], Floats]
STUDIES = 1000
MILLION = 1_000_000
BLOCK = 50_000  # items drawn at once for the truth: 7 MB
ROW = ("parameters", "truth", "held", "below", "above", "width", "sandwich")
NORMAL = 1.959964  # the two-sided 95% quantile


def alike_alignment(n_items: int, rng: np.random.Generator) -> Floats:
    """B (n_s, n_items) of items that all follow one tanh; ln(P+/P-) is measured with noise of 1.2."""
    return np.asarray(np.tanh(0.7 * GRID[:, None] - 0.5 + 0.6 * rng.standard_normal((len(GRID), n_items))))


def alike_helpfulness(n_items: int, rng: np.random.Generator) -> Floats:
    """P (n_s, n_items) of items that all follow one quadratic fall; the odds are measured with noise."""
    against = np.log(1.6 * (1 + (0.6 * GRID[:, None]) ** 2 / 2))
    return np.asarray(expit(-against + 0.8 * rng.standard_normal((len(GRID), n_items))))


def weak_helpfulness(n_items: int, rng: np.random.Generator) -> Floats:
    """P of items that differ in level and hardly fall: from 0.41 to 0.36, measured with noise."""
    against = np.log(1.6 * (1 + (0.2 * GRID[:, None]) ** 2 / 2)) + rng.standard_normal(n_items)
    return np.asarray(expit(-against + 0.8 * rng.standard_normal((len(GRID), n_items))))


def unlike_answers(n_items: int, rng: np.random.Generator) -> Floats:
    """Answers right or wrong, 0 or 1, of items that differ."""
    p = unlike_helpfulness(n_items, rng)
    return np.asarray(rng.random(p.shape) < p, np.float64)


@dataclass(frozen=True)
class Case:
    """One form fitted to studies of n_items each, planted in one way."""

    name: str
    plant: Planter
    n_items: int

    @property
    def form(self) -> Form:
        return TANH if "alignment" in self.plant.__name__ else helpfulness_form("quadratic")


CASES = {
    case.name: case
    for case in (
        Case("alike, B", alike_alignment, 100),
        Case("alike, P", alike_helpfulness, 100),
        Case("differ, B", unlike_alignment, 100),
        Case("differ, P", unlike_helpfulness, 100),
        Case("differ, weak fall", weak_helpfulness, 100),
        Case("differ, B, 20 items", unlike_alignment, 20),
        Case("differ, P, 20 items", unlike_helpfulness, 20),
        Case("differ, 0/1", unlike_answers, 100),
    )
}


@dataclass(frozen=True)
class Coverage:
    """What the studies of one case found, each (n_parameters,).

    held: share of studies whose interval holds the truth; an invalid fit holds nothing. below, above: shares whose
    interval lies wholly below or above it. width, sandwich: median widths of our interval and of the sandwich's.
    """

    parameters: tuple[str, ...]
    truth: Floats
    held: Floats
    below: Floats
    above: Floats
    width: Floats
    sandwich: Floats
    n_invalid: int


def truth_of(case: Case) -> Floats:
    """(n_parameters,) what the same fit gives on a million items."""
    rng = np.random.default_rng([1, case.n_items])
    total = sum(case.plant(BLOCK, rng).sum(axis=1) for _ in range(MILLION // BLOCK))
    u, _ = fit_one(case.form, GRID, np.asarray(total) / MILLION)
    return natural(case.form, u)


def sandwich(form: Form, items: Floats, u: Floats) -> Floats:
    """(n_parameters,) standard errors of the reported parameters by the M-estimator's sandwich, Hessian and all."""
    y = items.mean(axis=1)

    def gradient(v: Floats) -> Floats:
        return np.asarray((y - form.value(v[None], GRID)[0]) @ form.jacobian(v[None], GRID)[0])

    steps = 1e-5 * np.eye(len(u))
    hessian = -np.array([(gradient(u + h) - gradient(u - h)) / 2e-5 for h in steps])
    influence = np.linalg.solve(hessian, form.jacobian(u[None], GRID)[0].T @ (items - y[:, None]))
    errors = influence.std(axis=1, ddof=1) / np.sqrt(items.shape[1])
    return np.asarray(errors * np.where(form.positive, natural(form, u), 1.0))


def study(case: Case, seed: int, confidence: float) -> Floats:
    """(3, n_parameters): low and high ends, and the sandwich's standard error, of one study; NaN if it is invalid."""
    rng = np.random.default_rng([2, case.n_items, seed])
    items = case.plant(case.n_items, rng)
    found = _fit(case, items, confidence)
    ends = np.array([[p.low, p.high] for p in found.params.values()]).T
    u = inner(case.form, np.array([p.value for p in found.params.values()]))
    return np.vstack([ends, sandwich(case.form, items, u) if found.valid else np.full(len(u), np.nan)])


def _fit(case: Case, items: Floats, confidence: float) -> FitResult:
    """As a user's fit, with its own seed and number of resamples."""
    fit = fit_alignment if case.form is TANH else fit_helpfulness
    return fit(GRID, items, confidence=confidence)


def cover(case: Case, *, studies: int = STUDIES, jobs: int = 2, confidence: float = 0.95) -> Coverage:
    """All studies of a case."""
    parts = np.array_split(np.arange(studies), 20)
    rows = joblib.Parallel(n_jobs=jobs)(joblib.delayed(_some)(case, part.tolist(), confidence) for part in parts)
    low, high, error = np.concatenate(rows).transpose(1, 0, 2)
    truth = truth_of(case)
    return Coverage(
        case.form.parameters, truth, ((low <= truth) & (truth <= high)).mean(axis=0), (high < truth).mean(axis=0),
        (low > truth).mean(axis=0), np.nanmedian(high - low, axis=0), 2 * NORMAL * np.nanmedian(error, axis=0),
        int(np.isnan(low).any(axis=1).sum()),
    )  # fmt: skip


def table(found: Mapping[str, Coverage]) -> list[str]:
    """Lines of Markdown, one for each parameter of each case."""
    lines = [
        "| items | parameter | truth | held | too low | too high | median width | of the sandwich's |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, each in found.items():
        rows = zip(*(getattr(each, key) for key in ROW), strict=True)
        for parameter, truth, held, below, above, width, sandwiched in rows:
            shares = f"{held:.1%} | {below:.1%} | {above:.1%}"
            ratio = f"{width / sandwiched:.2f}"
            lines.append(f"| {name} | {parameter} | {truth:.3f} | {shares} | {width:.4f} | {ratio} |")
    return lines


def _some(case: Case, seeds: Sequence[int], confidence: float) -> Floats:
    return np.array([study(case, seed, confidence) for seed in seeds])
