"""How often the intervals of shares hold a known truth, near the ends and in the middle: B of texts, sides, pass@k.

`pytest -s tests/statistics/test_shares.py` runs it, prints the table and compares docs/statistics.md with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from scipy.stats import multinomial

from steercpp.aliases import Floats
from steercpp.data.items import BehaviorItem
from steercpp.statistics.code_scores import CodeScores
from steercpp.statistics.intervals import resample
from steercpp.statistics.over_refusal import text_sides
from steercpp.statistics.scores import Integers
from steercpp.statistics.text_scores import TextScores

SHARES = (0.005, 0.01, 0.02, 0.03, 0.1, 0.3)
N_SAMPLES = 4
STUDIES = 1500
BLOCK = 250  # studies resampled at once: the jackknife holds studies x items x items numbers
RESAMPLES = 300


@dataclass(frozen=True)
class Held:
    """What studies found: the share of intervals that hold the truth, and their mean width."""

    held: float
    width: float


def planted_scores(outcomes: Floats, invalid: Floats, n_samples: int) -> TextScores:
    """Scores of studies, one in each row."""
    blank = np.zeros(outcomes.shape)
    return TextScores(
        "planted",
        np.arange(len(outcomes), dtype=float),
        outcomes,
        invalid,
        blank,
        blank,
        blank,
        blank,
        blank,
        blank,
        n_samples,
    )


def one_text(n_items: int, invalid: float, shares: Sequence[float] = SHARES) -> list[Held]:
    """B of one text an item, exactly: every outcome there is, with its chance."""
    plus, minus = (part.ravel() for part in np.mgrid[: n_items + 1, : n_items + 1])
    there = plus + minus <= n_items
    plus, minus = plus[there], minus[there]
    place = np.arange(n_items)
    outcomes = np.where(place < plus[:, None], 1.0, np.where(place < (plus + minus)[:, None], -1.0, 0.0))
    bounds = planted_scores(outcomes, (outcomes == 0).astype(float), 1).bounds(rng=np.random.default_rng(0))
    counts = np.column_stack([plus, minus, n_items - plus - minus])
    found = []
    for share in shares:
        chance = multinomial.pmf(counts, n_items, [1 - share - invalid, share, invalid])
        truth = 1 - invalid - 2 * share
        held = (bounds.b_low <= truth + 1e-12) & (truth - 1e-12 <= bounds.b_high)
        found.append(Held(float(chance @ held), float(chance @ (bounds.b_high - bounds.b_low))))
    return found


def rates(n_items: int, share: float, rng: np.random.Generator) -> Floats:
    """(STUDIES, n_items) of items that differ: mean `share`, a standard deviation of 0.7 of what 0 and 1 alone have."""
    return rng.beta(share, 1 - share, (STUDIES, n_items))


Kind = Literal["b", "side", "pass", "resampled"]


def several(kind: Kind, n_items: int, shares: Sequence[float] = SHARES) -> list[Held]:
    """B of four texts an item, over-refusal, pass@1, or that by resampling alone; of B a twentieth is invalid."""
    seed = get_args(Kind).index(kind), n_items
    return [_several(kind, n_items, share, np.random.default_rng([*seed, i])) for i, share in enumerate(shares)]


def _several(kind: Kind, n_items: int, share: float, rng: np.random.Generator) -> Held:
    met = rng.binomial(N_SAMPLES, rates(n_items, share, rng))
    invalid_share = 0.05 if kind == "b" else 0.0
    invalid = rng.binomial(N_SAMPLES - met, invalid_share) / N_SAMPLES
    truth = (1 - share) * (1 - invalid_share) - share if kind == "b" else share
    parts = np.array_split(np.arange(STUDIES), STUDIES // BLOCK)
    ends = [_ends(kind, met[rows], invalid[rows], rng) for rows in parts]
    low, high = np.concatenate(ends, axis=1)
    return Held(float(((low <= truth) & (truth <= high)).mean()), float((high - low).mean()))


def _ends(kind: Kind, met: Integers, invalid: Floats, rng: np.random.Generator) -> Floats:
    """(2, n) low and high ends of studies; of an item's texts `met` are misaligned, or pass."""
    outcomes = 1 - invalid - 2 * met / N_SAMPLES
    if kind == "b":
        bounds = planted_scores(outcomes, invalid, N_SAMPLES).bounds(rng=rng, resamples=RESAMPLES)
        return np.array([bounds.b_low, bounds.b_high])
    if kind == "resampled":
        drawn = resample(met / N_SAMPLES, lambda means: means, rng=rng, resamples=RESAMPLES)
        return np.array([drawn.low, drawn.high])
    if kind == "pass":
        found = CodeScores(np.arange(len(met), dtype=float), met, N_SAMPLES).interval(1, rng=rng, resamples=RESAMPLES)
        assert found is not None
        return np.array([found.low, found.high])
    items = [BehaviorItem("i", "Why?", ("Yes",), ("No",), subject="harmless")] * met.shape[1]
    items.append(BehaviorItem("j", "How?", ("No",), ("Yes",), subject="harmful"))
    b, nonsense = (np.pad(part, ((0, 0), (0, 1))) for part in (outcomes, invalid))
    sides = text_sides(planted_scores(b, nonsense, N_SAMPLES), items, rng=rng, resamples=RESAMPLES)
    assert sides is not None
    return np.array([sides.over_refusal[:, 1], sides.over_refusal[:, 2]])


N_ITEMS = (60, 100)
CASES: dict[str, Callable[[int], list[Held]]] = {
    "B, one text": lambda n: one_text(n, 0.0),
    "B, one text, 10% invalid": lambda n: one_text(n, 0.1),
    "B, four texts": lambda n: several("b", n),
    "over-refusal, four texts": lambda n: several("side", n),
    "pass@1, four answers": lambda n: several("pass", n),
    "pass@1, four answers, resampling alone": lambda n: several("resampled", n),
}


def table(found: Mapping[tuple[str, int], Sequence[Held]]) -> list[str]:
    """Lines of Markdown for docs/statistics.md."""
    lines = ["| what | items | " + " | ".join(f"{100 * s:g}%" for s in SHARES) + " |", "|---" * 8 + "|"]
    for (name, n), each in found.items():
        lines.append(f"| {name} | {n} | " + " | ".join(f"{one.held:.1%}" for one in each) + " |")
    return lines
