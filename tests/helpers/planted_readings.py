"""Readings whose truth is known: a model with planted lambda, sigma and Delta, query by query."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from steercpp.experiments.constants.derive import BehaviorReadings, ChoiceReadings, Readings
from steercpp.experiments.constants.noise import moments

Floats: TypeAlias = npt.NDArray[np.float64]
STRENGTHS = np.arange(-10.0, 10.5, 0.5)
LAMBDA, LAMBDA_SIGMA, DELTA = 40.0, 0.6, 0.03
LINEAR_TO = 5.0
N_QUERIES, N_WRONG = 100, 10
LAYERS = (2, 3)


def saturating(s: Floats) -> Floats:
    """|s| up to LINEAR_TO, and nearly nothing more beyond, as a normalizing layer gives it."""
    beyond = np.maximum(np.abs(s) - LINEAR_TO, 0.0)
    reach: Floats = np.minimum(np.abs(s), LINEAR_TO) + 0.15 * beyond
    return reach


def norms(rng: np.random.Generator, n: int = N_QUERIES) -> Floats:
    """(n_s, n) |delta|: lambda differs by a tenth from query to query."""
    own = LAMBDA * (1 + 0.1 * rng.standard_normal(n))
    return np.outer(saturating(STRENGTHS), own)


def noise(draw: Callable[[tuple[int, int]], Floats]) -> Floats:
    """(n_s, n_queries, N_WRONG): what one draw gives times LAMBDA_SIGMA s."""
    return LAMBDA_SIGMA * STRENGTHS[:, None, None] * draw((N_QUERIES, N_WRONG))


def readings(rng: np.random.Generator) -> Readings:
    """All of it: both kinds of items, two layers."""
    x = noise(rng.standard_normal)
    p_0 = np.full(N_QUERIES, 0.3)
    p_free = 1 / (1 + (1 - p_0) / p_0 * np.exp(np.outer(LAMBDA_SIGMA * STRENGTHS, np.ones(N_QUERIES)) ** 2 / 2))
    length = norms(rng)
    gap = DELTA * np.sign(STRENGTHS)[:, None] * length
    log_odds = gap + 0.5 * rng.standard_normal(N_QUERIES) - 1.0
    per_layer = np.repeat(length[:, None], len(LAYERS), axis=1)
    base = rng.standard_normal((len(LAYERS), N_QUERIES))
    apart = np.where(STRENGTHS == 0, np.nan, 1.0)[:, None, None]
    return Readings(
        STRENGTHS,
        LAYERS,
        ChoiceReadings({"logits": length, "hidden": length / 10}, {"top10": moments(x)}, {"top10": x}, p_free),
        BehaviorReadings(
            {"logits": length, "hidden": length / 10}, log_odds, gap, gap - 0.1 * np.abs(gap), per_layer,
            (base + 2.0) * apart, base * apart, np.full((len(LAYERS), N_QUERIES), 4.0), per_layer * 0 + gap[:, None],
        ),
    )  # fmt: skip
