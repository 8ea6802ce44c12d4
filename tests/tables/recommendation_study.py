"""Studies whose truth is known: how often a recommendation breaks its budget, or rises where P+ truly falls.

`python tests/tables/recommendation_study.py [RUN ...]`, with tests/helpers on the path, prints the tables of
docs/statistics.md: 1,000 studies a cell, 7 minutes. Runs are populations whose items are drawn with replacement.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import joblib
import numpy as np

from steercpp.aliases import Bools, Floats
from steercpp.runs.result import open_run
from steercpp.statistics.curves import Curves, changes
from steercpp.statistics.intervals import resample
from steercpp.statistics.losses import loss_of
from steercpp.statistics.recommend import Recommendation, recommend
from steercpp.statistics.scores import BehaviorScores, ChoiceScores

STUDIES = 1000
BUDGET = 0.05
SIZES = (12, 24, 60, 164, 400)
GRID = np.array([0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0])
MILLION = 1_000_000
TRUE_FALL = 0.01  # of P+: above what so many items that do not change tell by chance


@dataclass(frozen=True)
class Losing:
    """Helpfulness of a study's items (n_s, n_items), and the true loss at each strength (n_s,)."""

    p: Floats
    truth: Floats


LossPlanter = Callable[[int, np.random.Generator], Losing]
GainPlanter = Callable[[int, np.random.Generator], tuple[Floats, Floats]]


def _levels(n: int, rng: np.random.Generator) -> Floats:
    return np.asarray(rng.beta(6, 3, n))


def _smooth(n: int, rng: np.random.Generator) -> Floats:
    """Every item loses a little, each at its own rate: 3% at strength 1 on average, with noise of 2%."""
    falls = 0.03 * rng.gamma(4, 0.25, n)
    noise = np.exp(0.02 * rng.standard_normal((len(GRID), n)))
    return np.asarray(np.clip(_levels(n, rng) * np.exp(-falls * GRID[:, None] ** 2) * noise, 0, 1))


def _confident(n: int, rng: np.random.Generator) -> Floats:
    """P is near 1 at first; a few items lose most."""
    return np.asarray((1 - rng.beta(1, 30, n)) * np.exp(-0.02 * rng.gamma(1, 1, n) * GRID[:, None] ** 2))


def _right_or_wrong(n: int, rng: np.random.Generator) -> Floats:
    """Answers that count as 0 or 1; an item that is lost stays lost."""
    p = rng.beta(2, 1, n) * np.exp(-0.05 * GRID[:, None] ** 2)
    return np.asarray(rng.random(n) < p, np.float64)


def _drawn(items: Callable[[int, np.random.Generator], Floats]) -> LossPlanter:
    """A planter of items that are all drawn alike, whose truth is what a million of them lose."""
    means = items(MILLION, np.random.default_rng(99)).mean(axis=1)
    truth = loss_of(means, means[0])
    return lambda n, rng: Losing(items(n, rng), truth)


def _collapsing(share: float) -> LossPlanter:
    """A share of the items loses everything from strength 0.5 on, the others lose nothing."""

    def plant(n: int, rng: np.random.Generator) -> Losing:
        gone = (rng.random(n) < share) & (GRID[:, None] >= 0.5)
        return Losing(np.where(gone, 0.0, _levels(n, rng)), np.where(GRID >= 0.5, share, 0.0))

    return plant


def _collapsing_at_random(n: int, rng: np.random.Generator) -> Losing:
    """The share, how much it loses, and from where are another's in every study."""
    share, size, start = rng.uniform(0.02, 0.35), rng.uniform(0.3, 1.0), rng.choice(GRID[1:])
    gone = (rng.random(n) < share) & (GRID[:, None] >= start)
    return Losing(_levels(n, rng) * np.where(gone, 1 - size, 1.0), np.where(start <= GRID, share * size, 0.0))


LOSSES: dict[str, Callable[[], LossPlanter]] = {
    "smooth": lambda: _drawn(_smooth),
    "confident": lambda: _drawn(_confident),
    "right or wrong": lambda: _drawn(_right_or_wrong),
    "5% collapse": lambda: _collapsing(0.05),
    "15% collapse": lambda: _collapsing(0.15),
    "30% collapse": lambda: _collapsing(0.3),
    "some collapse": lambda: _collapsing_at_random,
}


def _gaining(start: float, slope: float, mass: float, mass_fall: float) -> GainPlanter:
    """Items whose half log odds start at atanh(start) and rise by slope, each by its own, while their mass falls."""

    def plant(n: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
        s, noise = GRID[:, None], 0.15 * rng.standard_normal((2, len(GRID), n))
        half = np.arctanh(start) + slope * s * (1 + 0.4 * rng.standard_normal(n)) + 0.3 * rng.standard_normal(n)
        level = mass * np.exp(0.5 * rng.standard_normal(n) - 0.125)
        held = np.clip(level * np.exp(-mass_fall * s + noise[0]), 0, 0.98)
        p = (1 + np.tanh(half + noise[1] / 2)) / 2
        return held * p, held * (1 - p)

    return plant


def _few_hold_it(n: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """One item of 20 holds a mass of 0.8 and loses its P+, all others hold 0.01 and move neither way."""
    p_aligned, p_misaligned = _gaining(0.0, 0.0, 0.01, 0.0)(n, rng)
    holds = rng.random(n) < 0.05
    p = np.where(GRID[:, None] > 0, 0.1, 0.5)
    return np.where(holds, 0.8 * p, p_aligned), np.where(holds, 0.8 * (1 - p), p_misaligned)


MOVES: dict[str, tuple[float, float]] = {  # slope, fall of the mass
    "nothing": (0.0, 0.0), "rises": (0.35, 0.05), "drifts off": (0.1, 0.45), "collapses": (0.0, 3.0),
    "falls": (-0.3, 0.0),
}  # fmt: skip
GAINS: dict[str, GainPlanter] = {
    f"{words} mass, B {start:+g}, {move}": _gaining(start, slope, mass, fall)
    for words, mass in (("high", 0.86), ("low", 0.03))
    for start in (-0.89, 0.0, 0.5)
    for move, (slope, fall) in MOVES.items()
} | {"one item of 20 holds most of P+ and loses it": _few_hold_it}


def gaining_items(n: int, rng: np.random.Generator) -> BehaviorScores:
    """Behavior items that surely gain at every strength."""
    b = np.tanh(0.8 * GRID[:, None] - 0.3 + 0.4 * rng.standard_normal(n))
    return BehaviorScores(GRID, 0.45 * (1 + b), 0.45 * (1 - b))


def loss_study(plant: LossPlanter, n_items: int, seed: int) -> tuple[Recommendation, Losing]:
    """One study: what is recommended, and what is true."""
    rng = np.random.default_rng([n_items, seed])
    losing = plant(n_items, rng)
    scores = ChoiceScores(GRID[: len(losing.p)], losing.p, losing.p, losing.p > 0.5)
    behavior = gaining_items(60, rng)
    return recommend(Curves.of(behavior, scores), max_loss=BUDGET, resamples=200, rng=rng), losing


def gain_study(plant: GainPlanter, n_items: int, seed: int) -> Recommendation:
    """One study of items whose helpfulness is beyond doubt, without random directions, the harder case."""
    rng = np.random.default_rng([n_items, seed])
    p = np.full((len(GRID), 300), 0.98)
    curves = Curves.of(BehaviorScores(GRID, *plant(n_items, rng)), ChoiceScores(GRID, p, p, p > 0.5))
    return recommend(curves, max_loss=BUDGET, resamples=200, rng=rng)


@dataclass(frozen=True)
class LossCell:
    """What the studies of one kind and size found.

    candidates, recommended: shares of studies with one. broken: share whose recommended strength truly loses more than
    the budget. held: share of the candidates' bounds that hold the truth. margin: median of bound - estimate, over that
    by resampling plus what an unseen collapse can hide.
    """

    candidates: float
    recommended: float
    broken: float
    held: float
    margin: float


def loss_cell(plant: LossPlanter, n_items: int, studies: int) -> LossCell:
    """Studies of one kind and size."""
    rows = []
    for seed in range(studies):
        told, losing = loss_study(plant, n_items, seed)
        if told.candidate is None or told.reported_on is None:
            rows.append((0.0, 0.0, 0.0, np.nan, np.nan))
            continue
        place = int(np.flatnonzero(told.candidate == GRID)[0])
        true, evidence = losing.truth[place], told.reported_on
        margin = evidence.loss_high - evidence.loss
        over = told.strength is not None and true > BUDGET
        allowed = _allowed(losing.p, place, evidence.n_choice, seed) if seed % 10 == 0 else np.nan
        rows.append((1.0, float(told.strength is not None), float(over), float(evidence.loss_high >= true),
                     margin / allowed))  # fmt: skip
    table = np.array(rows)
    some = not np.isnan(table[:, 3]).all()
    held, margin = (np.nanmean(table[:, 3]), np.nanmedian(table[:, 4])) if some else (np.nan, np.nan)
    candidates, recommended, broken = (float(value) for value in table[:, :3].mean(axis=0))
    return LossCell(candidates, recommended, broken, float(held), float(margin))


def _allowed(p: Floats, place: int, n_half: int, seed: int) -> float:
    """By resampling as many items, bound - estimate, and the largest loss that so few items can hide."""
    half = p[:, :n_half]
    rows = np.stack([half[place], half[0]])

    def lost(means: Floats) -> Floats:
        return 1.0 - means[:, :1] / means[:, 1:]

    high = resample(rows, lost, rng=np.random.default_rng(seed), alternative="less").high[0]
    drawn = float(high - lost(rows.mean(axis=1)[None])[0, 0])
    p_0 = float(half[0].mean())
    return drawn + float(1 - 0.05 ** (1 / n_half)) / p_0 if p_0 else float("nan")


@dataclass(frozen=True)
class GainCell:
    """Shares of studies that recommend something, and something at which P+ is truly lower than at 0.

    Lower is the sum over items, or what is typical of them.
    """

    recommended: float
    fallen: float


def gain_cell(plant: GainPlanter, n_items: int, studies: int) -> GainCell:
    """Studies of one kind and size."""
    p_aligned, p_misaligned = plant(MILLION // 4, np.random.default_rng(99))
    typical = changes(p_aligned, p_aligned + p_misaligned, at_0=0)[0].mean(axis=1)
    means = p_aligned.mean(axis=1)
    falls = (typical < -TRUE_FALL) | (means < (1 - TRUE_FALL) * means[0])
    strengths = [gain_study(plant, n_items, seed).strength for seed in range(studies)]
    fallen: Bools = np.array([s is not None and bool(falls[s == GRID][0]) for s in strengths])
    return GainCell(float(np.mean([s is not None for s in strengths])), float(fallen.mean()))


def population(folder: Path) -> LossPlanter:
    """Choice items of a finished run, drawn with replacement, at the strengths from 0 outwards that fit the grid."""
    curves = open_run(folder).curves()
    assert curves is not None
    rows = [curves.at_0, *curves.outwards(1)][: len(GRID)]
    items = curves.p[rows + [rows[-1]] * (len(GRID) - len(rows))]
    truth = loss_of(items.mean(axis=1), items[0].mean())
    return lambda n, rng: Losing(items[:, rng.integers(0, items.shape[1], n)], truth)


def loss_table(planters: Mapping[str, LossPlanter], *, studies: int = STUDIES, jobs: int = 2) -> list[str]:
    """The lines of the first table."""
    cells = [(name, n) for name in planters for n in SIZES]
    done: Sequence[LossCell] = joblib.Parallel(jobs)(
        joblib.delayed(loss_cell)(planters[name], n, studies) for name, n in cells
    )
    lines = [
        "| loss | items | candidate | recommended | broken | bound held | margin |",
        "|---|---|---|---|---|---|---|",
    ]
    for (name, n), cell in zip(cells, done, strict=True):
        shares = " | ".join(f"{value:.1%}" for value in (cell.candidates, cell.recommended, cell.broken, cell.held))
        lines.append(f"| {name} | {n} | {shares} | {cell.margin:.2f} |")
    return lines


def gain_table(n_items: int = 60, *, studies: int = STUDIES, jobs: int = 2) -> list[str]:
    """The lines of the second table."""
    done: Sequence[GainCell] = joblib.Parallel(jobs)(
        joblib.delayed(gain_cell)(plant, n_items, studies) for plant in GAINS.values()
    )
    lines = ["| behavior | recommended | where P₊ truly fell |", "|---|---|---|"]
    return lines + [
        f"| {name} | {cell.recommended:.1%} | {cell.fallen:.1%} |" for name, cell in zip(GAINS, done, strict=True)
    ]


if __name__ == "__main__":
    known = {name: make() for name, make in LOSSES.items()}
    known |= {f"items of {Path(run).name}": population(Path(run)) for run in sys.argv[1:]}
    print(*loss_table(known), "", *gain_table(), sep="\n")
