"""Activations of contrast pairs whose direction is known."""

from __future__ import annotations

import numpy as np

from steercpp.aliases import FloatArray
from steercpp.extraction.methods import METHODS

N_PAIRS, N_EMBD = 64, 256
OF_PAIRS = tuple(name for name in METHODS if name != "random")  # found in the pairs, and not drawn


def planted(
    *, spread: float = 0.0, noise: float = 0.05, n_pairs: int = N_PAIRS, n_embd: int = N_EMBD, seed: int = 0
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Positive and negative activations whose differences are strength_i * direction + noise, and the direction.

    Strengths have mean 1 and standard deviation `spread`; what a pair has in common is far larger than the difference.
    """
    rng = np.random.default_rng(seed)
    direction = rng.standard_normal(n_embd)
    direction /= np.linalg.norm(direction)
    common = 20 * rng.standard_normal((n_pairs, n_embd))
    strengths = 1 + spread * rng.standard_normal((n_pairs, 1))
    push = 2 * strengths * direction + noise * rng.standard_normal((n_pairs, n_embd))
    return (common + push / 2).astype(np.float32), (common - push / 2).astype(np.float32), direction.astype(np.float32)
