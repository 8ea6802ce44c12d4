"""Planted items for the statistics tests: curves whose truth is known."""

from __future__ import annotations

import numpy as np

from steercpp.aliases import Floats

GRID = np.linspace(-4.0, 4.0, 17)


def unlike_alignment(n_items: int, rng: np.random.Generator, s: Floats = GRID) -> Floats:
    """B (n_s, n_items) of items that each follow their own tanh."""
    slopes = 0.7 * np.exp(0.5 * rng.standard_normal(n_items))
    return np.asarray(np.tanh(slopes * s[:, None] - 0.5 + rng.standard_normal(n_items)))


def unlike_helpfulness(n_items: int, rng: np.random.Generator, s: Floats = GRID) -> Floats:
    """P (n_s, n_items) of items that each follow their own quadratic fall."""
    a = np.exp(0.5 + 1.5 * rng.standard_normal(n_items))
    b = 0.6 * np.exp(0.4 * rng.standard_normal(n_items))
    return np.asarray(1.0 / (1.0 + a * (1.0 + (b * s[:, None]) ** 2 / 2.0)))


def alike(curve: Floats, n_items: int, noise: float, rng: np.random.Generator) -> Floats:
    """(n_s, n_items) one curve, measured with independent noise at every item and strength."""
    return np.asarray(curve[:, None] + noise * rng.standard_normal((len(curve), n_items)))
